//! Writes what passes in a session to its recording: a bounded buffer, sealed and made durable a
//! chunk at a time.
//!
//! Whatever passes is encoded into the buffer first and forwarded afterwards; a [`Writer`] empties it.
//! When the disk is slow the buffer fills and the session waits; nothing is dropped.
//!
//! INVARIANT: after the first failure nothing is accepted any more and [`Writer::run`] returns, which
//! ends the session. The buffer is bounded; a chunk that takes too long to become durable is a
//! failure.
//!
//! Not here: when what is appended and synced (`writer`), what is kept out (`redactor`), the
//! container's bytes (`sallyport-evidence`), what to record (`session`), moving finished
//! recordings to storage.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sallyport_core::id::{RecordingId, SessionId};
use sallyport_evidence::recording::{Frame, RecordingKey, SealError};
use sallyport_policy::RuleSet;
use tokio::sync::Notify;

mod echo;
mod patterns;
mod redactor;
mod sink;
mod writer;

pub(crate) use patterns::redact_text;
pub use sink::Durable;
use sink::Sink;
pub use writer::{RecordingEnd, Writer};

/// A chunk is sealed at this many bytes of frames.
const CHUNK_BYTES: usize = 256 * 1024;
/// The session waits while this many bytes wait to be sealed.
const BUFFER_BYTES_MAX: usize = 1024 * 1024;
/// Name of the key that wraps recordings' keys, as the header wants one; the wrapped key, made by the
/// vault, says itself which version of it.
const WRAPPING_KEY: &str = "vault";

/// Why nothing can be recorded. The session must end, or must not begin.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    /// The file system refused.
    #[error("{attempt} `{path}`")]
    Io {
        /// What was being done.
        attempt: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The container refused.
    #[error("seal a chunk of a recording")]
    Seal(#[source] SealError),
    /// Encoded frames did not decode: a defect of ours.
    #[error("read back frames of a recording")]
    Frames(#[source] sallyport_evidence::recording::FrameError),
    /// The disk did not answer in time.
    #[error("make a chunk of a recording durable within {timeout_s} s")]
    Stalled {
        /// How long was waited.
        timeout_s: u64,
    },
    /// The system gave no randomness.
    #[error("draw the key of a recording's fingerprints")]
    DigestKey,
    /// Sealing or writing panicked.
    #[error("seal and write a chunk of a recording without panicking")]
    Panicked,
}

/// The recorder takes nothing any more: it failed, or the recording is finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record in a recording that is closed")]
pub struct RecordingClosed;

/// Where a recording's bytes go. A file; in tests something that fails on demand. Appended to by one
/// at a time; a sync may be under way meanwhile.
pub trait RecordingFile: Send + Sync {
    /// Appends all of `bytes`.
    ///
    /// # Errors
    /// The system's; the recording is over then.
    fn append(&self, bytes: &[u8]) -> io::Result<()>;

    /// Makes durable what was appended before the call.
    ///
    /// # Errors
    /// The system's; the recording is over then.
    fn sync(&self) -> io::Result<()>;
}

impl RecordingFile for File {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        (&*self).write_all(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Makes the file of a new recording.
pub trait RecordingStore: Send + Sync {
    /// Makes the file of `recording_id`, which must not exist yet. Once this returns, its name is
    /// durable.
    ///
    /// # Errors
    /// [`RecorderError::Io`].
    fn create(&self, recording_id: &RecordingId) -> Result<Box<dyn RecordingFile>, RecorderError>;
}

/// New recordings as files of one directory.
#[derive(Clone, Debug)]
pub struct RecordingDirectory(PathBuf);

impl RecordingDirectory {
    /// Recordings in `directory`, which is made if needed.
    ///
    /// # Errors
    /// [`RecorderError::Io`].
    pub fn open(directory: PathBuf) -> Result<Self, RecorderError> {
        fs::create_dir_all(&directory).map_err(at("make directory", &directory))?;
        Ok(Self(directory))
    }
}

impl RecordingStore for RecordingDirectory {
    fn create(&self, recording_id: &RecordingId) -> Result<Box<dyn RecordingFile>, RecorderError> {
        let path = self.0.join(format!("{recording_id}.spr"));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(at("make recording", &path))?;
        File::open(&self.0)
            .and_then(|directory| directory.sync_all())
            .map_err(at("make durable", &self.0))?;
        Ok(Box::new(file))
    }
}

fn at(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RecorderError {
    let path = path.to_owned();
    move |source| RecorderError::Io {
        attempt,
        path,
        source,
    }
}

/// What a recording is begun with.
#[derive(Debug)]
pub struct RecordingStart {
    /// The recording.
    pub recording_id: RecordingId,
    /// Its session.
    pub session_id: SessionId,
    /// When the session started, in milliseconds since the Unix epoch.
    pub started_at_ms: u64,
    /// The recording's own key.
    pub key: RecordingKey,
    /// The same key, wrapped by the vault: opaque here.
    pub wrapped_key: String,
    /// What is kept out of it.
    pub rules: Arc<RuleSet>,
}

#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    is_closed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    buffer: Mutex<Buffer>,
    /// The buffer is no longer empty, or closed.
    work: Notify,
    /// The buffer has a chunk's worth, or is closed.
    chunk: Notify,
    /// The buffer has room again, or is closed.
    room: Notify,
    is_hurried: AtomicBool,
}

impl Shared {
    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.buffer().is_closed = true;
        self.work.notify_one();
        self.chunk.notify_one();
        self.room.notify_waiters();
    }
}

/// The near end of a recording: takes frames.
#[derive(Clone, Debug)]
pub struct Recorder {
    shared: Arc<Shared>,
}

impl Recorder {
    /// Waits until there is room for a frame, or the recording is closed.
    pub async fn room(&self) {
        loop {
            // Listening begins before looking, so that room made in between is not missed.
            let room = self.shared.room.notified();
            if self.has_room() {
                return;
            }
            room.await;
        }
    }

    /// Whether a frame can be recorded without waiting.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let buffer = self.shared.buffer();
        buffer.is_closed || buffer.bytes.len() < BUFFER_BYTES_MAX
    }

    /// Records a frame without waiting. Wait for [`Recorder::room`] before, except with what is small
    /// and must be said at an end: the bound on what waits to be sealed rests on it.
    ///
    /// # Errors
    /// [`RecordingClosed`]; what the frame holds must not be forwarded.
    pub fn record(&self, frame: &Frame<'_>) -> Result<(), RecordingClosed> {
        let (was_empty, is_chunk) = {
            let mut buffer = self.shared.buffer();
            if buffer.is_closed {
                return Err(RecordingClosed);
            }
            let was_empty = buffer.bytes.is_empty();
            // Callers keep to the limits of a frame; one that does not is not recorded, so what it
            // holds must not be forwarded either.
            frame
                .encode(&mut buffer.bytes)
                .map_err(|_| RecordingClosed)?;
            (was_empty, buffer.bytes.len() >= CHUNK_BYTES)
        };
        if was_empty {
            self.shared.work.notify_one();
        }
        if is_chunk {
            self.shared.chunk.notify_one();
        }
        Ok(())
    }

    /// Whether somebody waits to see what is recorded.
    pub fn hurry(&self, is_hurried: bool) {
        self.shared.is_hurried.store(is_hurried, Ordering::Relaxed);
    }

    /// Takes nothing any more; the writer finishes the recording.
    pub fn close(&self) {
        self.shared.close();
    }
}

/// Begins a recording; its header is durable when this returns. Blocks on the disk.
///
/// # Errors
/// [`RecorderError`]; there must be no session then.
pub fn begin(
    store: &dyn RecordingStore,
    start: RecordingStart,
    stall: Duration,
) -> Result<(Recorder, Writer), RecorderError> {
    let sink = Sink::begin(store, start)?;
    let shared = Arc::new(Shared::default());
    let recorder = Recorder {
        shared: Arc::clone(&shared),
    };
    Ok((recorder, Writer::new(shared, sink, stall)))
}

#[cfg(test)]
mod tests;
