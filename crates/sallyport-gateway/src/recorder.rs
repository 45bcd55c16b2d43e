//! Writes what passes in a session to its recording: a bounded buffer, sealed and made durable a
//! chunk at a time.
//!
//! Whatever passes is encoded into the buffer first and forwarded afterwards. A writer, part of the
//! session's own task, takes the buffer at 256 KiB or half a second after its first frame, seals it and
//! appends it. A chunk that waited is synced at once; while much passes, several share a sync. When the
//! disk is slow the buffer fills and the session waits; nothing is dropped.
//!
//! INVARIANT: after the first failure nothing is accepted any more and [`Writer::run`] returns, which
//! ends the session. The buffer is bounded; a chunk that takes too long to become durable is a
//! failure.
//!
//! Not here: the container's bytes (`sallyport-evidence`), what to record (`session`), moving finished
//! recordings to storage.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sallyport_api::gateway as api;
use sallyport_core::id::{RecordingId, SessionId};
use sallyport_evidence::recording::{
    ChainValue, Frame, Header, RecordingKey, SealError, SealedChunk, Sealer, TypedCommand,
    decode_frames,
};
use sallyport_policy::RuleSet;
use tokio::{
    sync::Notify,
    time::{Sleep, timeout},
};

mod echo;
mod patterns;
mod redactor;

pub(crate) use patterns::redact_text;
use redactor::Redactor;

/// A chunk is sealed at this many bytes of frames.
const CHUNK_BYTES: usize = 256 * 1024;
/// A chunk is sealed this long after its first frame.
const CHUNK_AGE: Duration = Duration::from_millis(500);
/// The same while somebody is joined to the session, who sees it through its recording.
const HURRIED_CHUNK_AGE: Duration = Duration::from_millis(50);
/// Appended chunks are synced after this many bytes,
const SYNC_BYTES: usize = 4 * 1024 * 1024;
/// or this long after the first of them was appended. With [`CHUNK_AGE`] a frame is durable within a
/// second.
const SYNC_AGE: Duration = Duration::from_millis(400);
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

/// Where a recording's bytes go. A file; in tests something that fails on demand.
pub trait RecordingFile: Send {
    /// Appends all of `bytes`.
    ///
    /// # Errors
    /// The system's; the recording is over then.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes what was appended durable.
    ///
    /// # Errors
    /// The system's; the recording is over then.
    fn sync(&mut self) -> io::Result<()>;
}

impl RecordingFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
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

/// What one durable chunk tells the session.
#[derive(Debug)]
pub struct Durable {
    /// How far the recording is durable now.
    pub anchor: api::Anchor,
    /// Commands whose typing the chunk completes.
    pub typed: Vec<TypedCommand>,
}

/// How a recording ended.
#[derive(Debug)]
pub struct RecordingEnd {
    /// How far it is durable; nothing when not even one chunk is.
    pub anchor: Option<api::Anchor>,
    /// Why it ended early; nothing when it has its last chunk.
    pub failure: Option<RecorderError>,
}

/// The far end of a recording: seals and writes. Run it as part of the session's task.
pub struct Writer {
    shared: Arc<Shared>,
    /// Absent while a chunk is being written.
    sink: Option<Sink>,
    stall: Duration,
    anchor: Option<api::Anchor>,
    unsynced: Unsynced,
    /// Something waits in the sink to be settled, in another round.
    holds: bool,
}

/// What was appended since the last sync.
#[derive(Default)]
struct Unsynced {
    bytes: usize,
    /// When it must be synced at the latest.
    due: Option<Pin<Box<Sleep>>>,
}

impl Unsynced {
    fn appended(&mut self, bytes: usize) {
        if bytes > 0 {
            self.bytes = self.bytes.saturating_add(bytes);
            self.due
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(SYNC_AGE)));
        }
    }

    const fn is_any(&self) -> bool {
        self.bytes > 0
    }

    fn is_due(&self) -> bool {
        self.bytes >= SYNC_BYTES || self.due.as_ref().is_some_and(|due| due.is_elapsed())
    }

    /// Resolves when a sync is due by its age; never while nothing was appended.
    async fn due(&mut self) {
        match &mut self.due {
            Some(due) => due.await,
            None => std::future::pending().await,
        }
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("anchor", &self.anchor)
            .finish_non_exhaustive()
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
    let header = Header {
        recording_id: start.recording_id.to_string(),
        session_id: start.session_id.to_string(),
        started_at_ms: start.started_at_ms,
        key_id: WRAPPING_KEY.to_owned(),
        wrapped_key: start.wrapped_key.into_bytes(),
    };
    let (sealer, head) = Sealer::new(&header, start.key).map_err(RecorderError::Seal)?;
    let mut sink = Sink {
        chunks: 0,
        chain: sealer.chain(),
        sealer: Some(sealer),
        file: store.create(&start.recording_id)?,
        redactor: Some(Redactor::new(start.rules)?),
        recording_id: start.recording_id,
        session_id: start.session_id,
        size_bytes: 0,
        is_unsynced: false,
        typed: Vec::new(),
    };
    sink.append(&head)?;
    sink.sync()?;
    let shared = Arc::new(Shared::default());
    let recorder = Recorder {
        shared: Arc::clone(&shared),
    };
    Ok((
        recorder,
        Writer {
            shared,
            sink: Some(sink),
            stall,
            anchor: None,
            unsynced: Unsynced::default(),
            holds: false,
        },
    ))
}

impl Writer {
    /// How far the recording is durable: its header, before [`Writer::run`].
    #[must_use]
    pub fn anchor(&self) -> Option<api::Anchor> {
        self.sink.as_ref().map(Sink::anchor)
    }

    /// Seals and writes until the recorder is closed or something fails. `on_durable` hears of every
    /// chunk.
    pub async fn run(mut self, mut on_durable: impl FnMut(Durable)) -> RecordingEnd {
        loop {
            let step = self.gather().await;
            let (is_last, syncs) = (step.is_last, step.syncs);
            match self.write(step).await {
                Ok(durable) => {
                    // Nothing appended is left unsynced, though some of it may wait to be appended.
                    if syncs || durable.is_some() {
                        self.unsynced = Unsynced::default();
                    }
                    if let Some(durable) = durable {
                        self.anchor = Some(durable.anchor.clone());
                        on_durable(durable);
                    }
                }
                Err(failure) => {
                    self.shared.close();
                    return RecordingEnd {
                        anchor: self.anchor.take(),
                        failure: Some(failure),
                    };
                }
            }
            if is_last {
                return RecordingEnd {
                    anchor: self.anchor.take(),
                    failure: None,
                };
            }
        }
    }

    /// Waits for the next thing to do.
    async fn gather(&mut self) -> Step {
        if !self.holds {
            tokio::select! {
                () = self.shared.work.notified() => {}
                () = self.unsynced.due() => return Step {
                    bytes: Vec::new(),
                    waited: Duration::ZERO,
                    is_last: false,
                    syncs: true,
                },
            }
        }
        // Until there is a chunk's worth, the recorder is closed, or time is up.
        let age = match self.shared.is_hurried.load(Ordering::Relaxed) {
            true => HURRIED_CHUNK_AGE,
            false => CHUNK_AGE,
        };
        let is_full = timeout(age, self.shared.chunk.notified()).await.is_ok();
        let (bytes, is_last) = {
            let mut buffer = self.shared.buffer();
            (std::mem::take(&mut buffer.bytes), buffer.is_closed)
        };
        self.shared.room.notify_waiters();
        self.unsynced.appended(bytes.len());
        Step {
            bytes,
            // No time need have passed for a full chunk.
            waited: if is_full { Duration::ZERO } else { age },
            is_last,
            syncs: is_last || self.unsynced.is_any() && (!is_full || self.unsynced.is_due()),
        }
    }

    /// Returns what is durable now, if that is more than before.
    async fn write(&mut self, step: Step) -> Result<Option<Durable>, RecorderError> {
        if step.bytes.is_empty() && !step.is_last && !step.syncs && !self.holds {
            return Ok(None);
        }
        let mut sink = self.sink.take().ok_or(RecorderError::Panicked)?;
        let write = tokio::task::spawn_blocking(move || {
            let result = sink.take(&step);
            (sink, result)
        });
        match timeout(self.stall, write).await {
            Ok(Ok((sink, result))) => {
                self.holds = sink.holds();
                self.sink = Some(sink);
                result
            }
            Ok(Err(_)) => Err(RecorderError::Panicked),
            Err(_) => Err(RecorderError::Stalled {
                timeout_s: self.stall.as_secs(),
            }),
        }
    }
}

/// What the writer does next.
struct Step {
    /// Frames to seal and append.
    bytes: Vec<u8>,
    /// How long they were gathered, at least.
    waited: Duration,
    /// The recording ends with them.
    is_last: bool,
    /// Everything appended is made durable.
    syncs: bool,
}

struct Sink {
    /// Absent after the last chunk.
    sealer: Option<Sealer>,
    file: Box<dyn RecordingFile>,
    /// Absent while it hands out what is stored.
    redactor: Option<Redactor>,
    recording_id: RecordingId,
    session_id: SessionId,
    chunks: u64,
    chain: ChainValue,
    size_bytes: u64,
    /// Something was appended since the last sync.
    is_unsynced: bool,
    /// Commands whose typing is complete and not yet durable.
    typed: Vec<TypedCommand>,
}

impl Sink {
    fn take(&mut self, step: &Step) -> Result<Option<Durable>, RecorderError> {
        let is_round = step.is_last || !step.bytes.is_empty() || self.holds();
        let has_stored = is_round && self.write(step)?;
        // What had to wait is made durable as soon as it is let out.
        let is_late = has_stored && step.bytes.is_empty();
        if !self.is_unsynced || (!step.syncs && !is_late) {
            return Ok(None);
        }
        self.sync()?;
        Ok(Some(Durable {
            anchor: self.anchor(),
            typed: std::mem::take(&mut self.typed),
        }))
    }

    /// Whether something waits to be settled.
    fn holds(&self) -> bool {
        self.redactor.as_ref().is_some_and(Redactor::holds)
    }

    /// Stores what can be stored by now; whether there was any.
    fn write(&mut self, step: &Step) -> Result<bool, RecorderError> {
        let is_last = step.is_last;
        let mut redactor = self.redactor.take().ok_or(RecorderError::Panicked)?;
        let mut has_frames = false;
        let mut store = |frame: &Frame<'_>| {
            has_frames = true;
            self.store(frame)
        };
        for frame in decode_frames(&step.bytes) {
            redactor.push(&frame.map_err(RecorderError::Frames)?, &mut store)?;
        }
        let typed = redactor.settle(step.waited, is_last, &mut store)?;
        self.typed.extend(typed);
        self.redactor = Some(redactor);
        // What came waits until it is settled.
        if !has_frames && !is_last {
            return Ok(false);
        }
        let chunk = self.seal(is_last)?;
        self.chunks = chunk.index.saturating_add(1);
        self.chain = chunk.chain;
        self.append(&chunk.bytes)?;
        Ok(true)
    }

    fn store(&mut self, frame: &Frame<'_>) -> Result<(), RecorderError> {
        let sealer = self.sealer.as_mut().ok_or(RecorderError::Panicked)?;
        match sealer.push(frame) {
            Ok(()) => Ok(()),
            // Much was said at an end, past the buffer's bound.
            Err(SealError::ChunkFull { .. }) => {
                let full = sealer.seal().map_err(RecorderError::Seal)?;
                let full = full.ok_or(RecorderError::Panicked)?;
                sealer.push(frame).map_err(RecorderError::Seal)?;
                self.append(&full.bytes)
            }
            Err(error) => Err(RecorderError::Seal(error)),
        }
    }

    fn anchor(&self) -> api::Anchor {
        api::Anchor {
            session_id: self.session_id.clone(),
            recording_id: self.recording_id.clone(),
            chunks: self.chunks,
            chain: self.chain.to_string(),
            size_bytes: self.size_bytes,
        }
    }

    fn seal(&mut self, is_last: bool) -> Result<SealedChunk, RecorderError> {
        let mut sealer = self.sealer.take().ok_or(RecorderError::Panicked)?;
        if is_last {
            return sealer.finish().map_err(RecorderError::Seal);
        }
        let chunk = sealer.seal().map_err(RecorderError::Seal)?;
        self.sealer = Some(sealer);
        // Only called with frames pushed.
        chunk.ok_or(RecorderError::Panicked)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), RecorderError> {
        self.file
            .append(bytes)
            .map_err(self.at("write recording"))?;
        self.size_bytes = self.size_bytes.saturating_add(bytes.len() as u64);
        self.is_unsynced = true;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), RecorderError> {
        self.file
            .sync()
            .map_err(self.at("make recording durable"))?;
        self.is_unsynced = false;
        Ok(())
    }

    fn at(&self, attempt: &'static str) -> impl FnOnce(io::Error) -> RecorderError + use<> {
        let path = PathBuf::from(format!("{}.spr", self.recording_id));
        move |source| RecorderError::Io {
            attempt,
            path,
            source,
        }
    }
}

#[cfg(test)]
mod tests;
