//! The end of a recording that touches its file: redacts, seals and appends a chunk at a time.
//!
//! Used by the writer, on threads that may block.
//!
//! INVARIANT: chunks are appended in order, and what [`Sink::unsynced`] hands out covers exactly what
//! was appended before it was called.
//!
//! Not here: when to do so (`writer`).

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use sallyport_api::gateway as api;
use sallyport_core::id::{RecordingId, SessionId};
use sallyport_evidence::recording::{
    ChainValue, Frame, Header, SealError, SealedChunk, Sealer, TypedCommand, decode_frames,
};

use super::{
    RecorderError, RecordingFile, RecordingStart, RecordingStore, WRAPPING_KEY, redactor::Redactor,
};

/// What a recording tells its session once it is durable up to a point.
#[derive(Debug)]
pub struct Durable {
    /// How far the recording is durable now.
    pub anchor: api::Anchor,
    /// Commands whose typing is complete by then.
    pub typed: Vec<TypedCommand>,
}

/// What the writer gathered to be appended.
pub(super) struct Step {
    /// Frames to seal and append.
    pub(super) bytes: Vec<u8>,
    /// How long they were gathered, at least.
    pub(super) waited: Duration,
    /// The recording ends with them.
    pub(super) is_last: bool,
}

/// What was appended and is not durable yet.
pub(super) struct Unsynced {
    file: Arc<dyn RecordingFile>,
    durable: Durable,
}

impl Unsynced {
    /// Makes it durable. Blocks on the disk.
    pub(super) fn sync(self) -> Result<Durable, RecorderError> {
        self.file.sync().map_err(at(
            "make recording durable",
            &self.durable.anchor.recording_id,
        ))?;
        Ok(self.durable)
    }
}

/// A recording's file, and what turns frames into its bytes.
pub(super) struct Sink {
    /// Absent after the last chunk.
    sealer: Option<Sealer>,
    file: Arc<dyn RecordingFile>,
    /// Absent while it hands out what is stored.
    redactor: Option<Redactor>,
    recording_id: RecordingId,
    session_id: SessionId,
    chunks: u64,
    chain: ChainValue,
    size_bytes: u64,
    /// Commands whose typing is complete and not yet durable.
    typed: Vec<TypedCommand>,
}

impl Sink {
    /// Makes the file; its header is durable when this returns.
    pub(super) fn begin(
        store: &dyn RecordingStore,
        start: RecordingStart,
    ) -> Result<Self, RecorderError> {
        let header = Header {
            recording_id: start.recording_id.to_string(),
            session_id: start.session_id.to_string(),
            started_at_ms: start.started_at_ms,
            key_id: WRAPPING_KEY.to_owned(),
            wrapped_key: start.wrapped_key.into_bytes(),
        };
        let (sealer, head) = Sealer::new(&header, start.key).map_err(RecorderError::Seal)?;
        let mut sink = Self {
            chunks: 0,
            chain: sealer.chain(),
            sealer: Some(sealer),
            file: Arc::from(store.create(&start.recording_id)?),
            redactor: Some(Redactor::new(start.rules)?),
            recording_id: start.recording_id,
            session_id: start.session_id,
            size_bytes: 0,
            typed: Vec::new(),
        };
        sink.append(&head)?;
        sink.unsynced().sync()?;
        Ok(sink)
    }

    /// How far the recording was written.
    pub(super) fn anchor(&self) -> api::Anchor {
        api::Anchor {
            session_id: self.session_id.clone(),
            recording_id: self.recording_id.clone(),
            chunks: self.chunks,
            chain: self.chain.to_string(),
            size_bytes: self.size_bytes,
        }
    }

    /// Whether something waits to be settled.
    pub(super) fn holds(&self) -> bool {
        self.redactor.as_ref().is_some_and(Redactor::holds)
    }

    /// Everything appended so far, to be made durable.
    pub(super) fn unsynced(&mut self) -> Unsynced {
        Unsynced {
            file: Arc::clone(&self.file),
            durable: Durable {
                anchor: self.anchor(),
                typed: std::mem::take(&mut self.typed),
            },
        }
    }

    /// Appends what can be stored by now; whether there was any.
    pub(super) fn write(&mut self, step: &Step) -> Result<bool, RecorderError> {
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
            .map_err(at("write recording", &self.recording_id))?;
        self.size_bytes = self.size_bytes.saturating_add(bytes.len() as u64);
        Ok(())
    }
}

fn at(
    attempt: &'static str,
    recording_id: &RecordingId,
) -> impl FnOnce(io::Error) -> RecorderError + use<> {
    let path = PathBuf::from(format!("{recording_id}.spr"));
    move |source| RecorderError::Io {
        attempt,
        path,
        source,
    }
}
