//! A recording on its way to a reader: opened with its key, exported chunk by chunk, and followed while
//! its session lives.
//!
//! Decoding runs on a blocking thread for one chunk at a time; between chunks no thread is held, so a
//! reader that does not read costs memory for one chunk and nothing else.
//!
//! INVARIANT: a stream that ends early ends with an error, so that nobody takes a part for the whole;
//! and it ends when its reader's right does.

use std::{
    error::Error,
    fs::File,
    io::{self, BufReader},
    os::unix::fs::FileExt as _,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use sallyport_core::{authz::AdminAction, id::RecordingId, time::Timestamp};
use sallyport_evidence::recording::{Header, Opener, RecordingKey};

use super::{
    export::{Export, ExportError, Format},
    file::{Container, FileError, RecordingFile},
    store,
};
use crate::{
    authn::{self, BearerError},
    kernel::{caller::Caller, control::Control, database::StoreError, task},
};

/// How often a live recording is looked at for another chunk; the gateway flushes twice a second.
const POLL: Duration = Duration::from_millis(250);
/// The same for somebody who joined; the gateway flushes more often then.
const JOINED_POLL: Duration = Duration::from_millis(40);
/// How often a reader's right is looked at again.
const RIGHT_CHECKED_EVERY: Duration = Duration::from_secs(1);

/// Why a playback ended early.
#[derive(Debug, thiserror::Error)]
pub enum PlaybackError {
    /// The file cannot be read on.
    #[error("read the recording")]
    File(#[source] FileError),
    /// It cannot be exported like this.
    #[error("export the recording")]
    Export(#[source] ExportError),
    /// The reader may not read on: the token ended, or the person or their role is gone.
    #[error("the right to read this recording has ended")]
    RightEnded,
    /// Decoding panicked.
    #[error("decode a recording without panicking")]
    Panicked,
    /// The store failed.
    #[error("reach the store")]
    Store(#[from] StoreError),
}

/// What one step brought.
enum Step {
    /// A chunk was exported; the text may be empty.
    Text(Bytes),
    /// The next chunk is not there yet.
    Waiting,
    /// The recording ends here; this is the rest.
    Ended(Bytes),
}

/// Decodes and exports, on a blocking thread.
struct Decoder {
    recording: RecordingFile,
    opener: Opener<BufReader<File>>,
    export: Export,
}

impl Decoder {
    /// Exports the next chunk. `is_live` says whether an unfinished chunk may still become whole.
    fn step(mut self, is_live: bool) -> (Option<Self>, Result<Step, PlaybackError>) {
        match self.next(is_live) {
            Ok(Some(step)) => (Some(self), Ok(step)),
            Ok(None) => {
                let rest = self.export.finish().map_err(PlaybackError::Export);
                (None, rest.map(Step::Ended))
            }
            Err(error) => (None, Err(error)),
        }
    }

    fn next(&mut self, is_live: bool) -> Result<Option<Step>, PlaybackError> {
        if is_live && !self.is_chunk_ahead()? {
            return Ok(Some(Step::Waiting));
        }
        let chunk = self.opener.next_chunk().map_err(|error| {
            let path = self.recording.path.clone();
            PlaybackError::File(FileError::from_open(&self.recording.id, path, error))
        })?;
        match chunk {
            None => Ok(None),
            Some(chunk) => {
                let text = self.export.chunk(&chunk).map_err(PlaybackError::Export)?;
                Ok(Some(Step::Text(text)))
            }
        }
    }

    /// Whether the file holds all of the next chunk. The container would take less for the end, and an
    /// end is final.
    fn is_chunk_ahead(&self) -> Result<bool, PlaybackError> {
        let failed = |source| {
            PlaybackError::File(FileError::Io {
                path: self.recording.path.clone(),
                source,
            })
        };
        let offset = self.opener.container().offset();
        let mut length = [0_u8; 4];
        match self.recording.file.read_exact_at(&mut length, offset) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(failed(error)),
        }
        let end = offset
            .saturating_add(4)
            .saturating_add(u64::from(u32::from_be_bytes(length)));
        Ok(self.recording.file.metadata().map_err(failed)?.len() >= end)
    }
}

/// Whether a reader still may.
struct Right {
    caller: Caller,
    checked_at: Timestamp,
}

impl Right {
    async fn check(&mut self, control: &Control) -> Result<(), PlaybackError> {
        let now = control.now();
        if now.since(self.checked_at) < RIGHT_CHECKED_EVERY {
            return Ok(());
        }
        self.caller = match authn::caller_again(control, &self.caller).await {
            Ok(caller) => caller,
            Err(BearerError::Unknown) => return Err(PlaybackError::RightEnded),
            Err(BearerError::Store(error)) => return Err(PlaybackError::Store(error)),
        };
        self.checked_at = now;
        if self.caller.is_permitted(AdminAction::RecordingPlay) {
            Ok(())
        } else {
            Err(PlaybackError::RightEnded)
        }
    }
}

/// What is played, for whom, and how.
pub(super) struct Playback {
    control: Control,
    id: RecordingId,
    right: Right,
    /// Absent at the end, and while a chunk is decoded.
    decoder: Option<Decoder>,
    /// Whether what is recorded from now on is waited for.
    is_followed: bool,
    poll: Duration,
}

/// How a recording is to be played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Play {
    pub(super) format: Format,
    /// Channel, for casts.
    pub(super) channel: Option<u32>,
    /// Whether what is recorded from now on is waited for.
    pub(super) is_followed: bool,
}

impl Playback {
    /// Opens a recording with its key. Reads no chunk yet.
    pub(super) fn new(
        control: &Control,
        caller: Caller,
        recording: RecordingFile,
        container: Container,
        key: RecordingKey,
        play: Play,
    ) -> Result<Self, PlaybackError> {
        let header: Header = container.header().clone();
        let opener = Opener::new(container, key).map_err(|error| {
            let path = recording.path.clone();
            PlaybackError::File(FileError::from_open(&recording.id, path, error))
        })?;
        let right = Right {
            caller,
            checked_at: control.now(),
        };
        Ok(Self {
            control: control.clone(),
            id: recording.id.clone(),
            right,
            decoder: Some(Decoder {
                recording,
                opener,
                export: Export::new(play.format, &header, play.channel),
            }),
            is_followed: play.is_followed,
            poll: match play.format {
                Format::LiveView => JOINED_POLL,
                Format::Cast(_) | Format::Transcript | Format::Commands => POLL,
            },
        })
    }

    /// The export as a stream. What shows with the first text (damage, a channel that is not there) is
    /// this function's error, so that it can be answered with a problem instead of half a body.
    pub(super) async fn into_stream(
        mut self,
    ) -> Result<impl Stream<Item = Result<Bytes, PlaybackError>> + Send + 'static, PlaybackError>
    {
        let first = self.first().await?;
        let rest = stream::try_unfold(self, |mut playback| async move {
            match playback.next().await {
                Ok(text) => Ok(text.map(|text| (text, playback))),
                Err(error) => {
                    let recording_id = &playback.id;
                    tracing::warn!(%recording_id, error = &error as &dyn Error, "a playback ended early");
                    Err(error)
                }
            }
        });
        Ok(stream::iter(first.map(Ok)).chain(rest))
    }

    /// The first text; nothing when it is yet to be recorded, or when there is none.
    async fn first(&mut self) -> Result<Option<Bytes>, PlaybackError> {
        loop {
            match self.step().await? {
                None | Some(Step::Waiting) => return Ok(None),
                Some(Step::Text(text) | Step::Ended(text)) if text.is_empty() => {}
                Some(Step::Text(text) | Step::Ended(text)) => return Ok(Some(text)),
            }
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, PlaybackError> {
        loop {
            match self.step().await? {
                None => return Ok(None),
                Some(Step::Waiting) => tokio::time::sleep(self.poll).await,
                Some(Step::Text(text) | Step::Ended(text)) if text.is_empty() => {}
                Some(Step::Text(text) | Step::Ended(text)) => return Ok(Some(text)),
            }
        }
    }

    async fn step(&mut self) -> Result<Option<Step>, PlaybackError> {
        let Some(decoder) = self.decoder.take() else {
            return Ok(None);
        };
        self.right.check(&self.control).await?;
        // Asked before the file is looked at, so that what was flushed before the end is still seen.
        let is_live = self.is_followed && {
            let mut reader = self.control.db().read().await?;
            store::is_live(&mut reader, &self.id).await?
        };
        let (decoder, step) = task::blocking("recording playback", move || decoder.step(is_live))
            .await
            .ok_or(PlaybackError::Panicked)?;
        self.decoder = decoder;
        step.map(Some)
    }
}
