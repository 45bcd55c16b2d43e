//! From frames to what a reader asked for: a cast, a transcript, or commands and files, a chunk at a time.
//!
//! INVARIANT: what is written out is taken by the caller after every chunk; nothing gathers here.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use sallyport_core::{
    session::{OperationKind, OperationRecord},
    time::Timestamp,
};
use sallyport_evidence::recording::{
    CastError, CastInput, CastVersion, CastWriter, CommandTracker, Confidence, Frame, FrameKind,
    Header, OpenedChunk, TranscriptError, TranscriptWriter, TypedCommand, escape_controls,
};
use serde_json::{Value, json};

use super::view::LiveView;

/// What a recording is exported as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Terminal output for stock players.
    Cast(CastVersion),
    /// Readable text.
    Transcript,
    /// Commands and files, one JSON object a line.
    Commands,
    /// What is shown to somebody who joined the session.
    LiveView,
}

/// Why something cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The recording has no channel with a terminal.
    #[error("no channel of this recording has a terminal")]
    NoTerminal,
    /// The channel asked for cannot be shown as a cast.
    #[error("{0}")]
    Cast(CastError),
    /// The transcript cannot be written: a defect of ours, because it is written to memory.
    #[error("write the transcript")]
    Transcript(#[source] TranscriptError),
}

/// What was written and not taken yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Outbox(Arc<Mutex<Vec<u8>>>);

impl Outbox {
    fn take(&self) -> Bytes {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).into()
    }
}

impl Write for Outbox {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Form {
    /// The channel is not known yet: the first with a terminal is taken.
    WaitingForTerminal(CastVersion, Box<Header>),
    Cast(Box<CastWriter<Outbox>>),
    Transcript(Box<TranscriptWriter<Outbox>>),
    Commands(CommandLines),
    LiveView(Box<LiveView>),
}

/// An export in the making.
pub(super) struct Export {
    form: Form,
    out: Outbox,
}

impl std::fmt::Debug for Export {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Export").finish_non_exhaustive()
    }
}

impl Export {
    /// Begins an export. `channel` matters to casts and live views only.
    pub(super) fn new(format: Format, header: &Header, channel: Option<u32>) -> Self {
        let out = Outbox::default();
        let form = match (format, channel) {
            (Format::Cast(version), None) => {
                Form::WaitingForTerminal(version, Box::new(header.clone()))
            }
            (Format::Cast(version), Some(channel)) => Form::cast(&out, header, channel, version),
            (Format::LiveView, only) => {
                Form::LiveView(Box::new(LiveView::new(out.clone(), header.clone(), only)))
            }
            (Format::Transcript, _) => {
                Form::Transcript(Box::new(TranscriptWriter::new(out.clone())))
            }
            (Format::Commands, _) => Form::Commands(CommandLines {
                tracker: CommandTracker::new(),
                started_at_ms: header.started_at_ms,
                out: out.clone(),
            }),
        };
        Self { form, out }
    }

    /// Takes in one chunk; returns what it adds, possibly nothing.
    pub(super) fn chunk(&mut self, chunk: &OpenedChunk) -> Result<Bytes, ExportError> {
        for frame in chunk.frames() {
            self.frame(&frame)?;
        }
        Ok(self.out.take())
    }

    fn frame(&mut self, frame: &Frame<'_>) -> Result<(), ExportError> {
        if let Form::WaitingForTerminal(version, header) = &self.form {
            let FrameKind::ChannelOpened { pty: Some(_), .. } = frame.kind else {
                return Ok(());
            };
            self.form = Form::cast(&self.out, header, frame.channel, *version);
        }
        match &mut self.form {
            Form::WaitingForTerminal(..) => Ok(()),
            Form::Cast(cast) => cast.frame(frame).map_err(ExportError::Cast),
            Form::LiveView(view) => view.frame(frame),
            Form::Transcript(text) => text.frame(frame).map_err(ExportError::Transcript),
            Form::Commands(lines) => {
                lines.frame(frame);
                Ok(())
            }
        }
    }

    /// Ends the export; returns the rest.
    pub(super) fn finish(self) -> Result<Bytes, ExportError> {
        match self.form {
            Form::WaitingForTerminal(..) => return Err(ExportError::NoTerminal),
            Form::Cast(cast) => cast.finish().map(drop).map_err(ExportError::Cast)?,
            Form::LiveView(view) => view.finish()?,
            Form::Transcript(text) => text.finish().map(drop).map_err(ExportError::Transcript)?,
            Form::Commands(lines) => lines.finish(),
        }
        Ok(self.out.take())
    }
}

impl Form {
    fn cast(out: &Outbox, header: &Header, channel: u32, version: CastVersion) -> Self {
        let cast = CastWriter::new(out.clone(), header, channel, version, CastInput::Omitted);
        Self::Cast(Box::new(cast))
    }
}

/// Commands and files as JSON lines: commands that the protocol states and those typed at a prompt, when
/// they began; files when it was known what became of them.
struct CommandLines {
    tracker: CommandTracker,
    started_at_ms: u64,
    out: Outbox,
}

impl CommandLines {
    fn frame(&mut self, frame: &Frame<'_>) {
        if let FrameKind::ChannelOpened {
            command: Some(command),
            ..
        } = frame.kind
        {
            self.line(
                frame.at_us,
                frame.channel,
                &escape_controls(command),
                "stated",
            );
        }
        if let FrameKind::Operation(json) = frame.kind
            && let Ok(record) = serde_json::from_slice(json)
        {
            self.file(&record);
        }
        for command in self.tracker.frame(frame) {
            self.typed(&command);
        }
    }

    fn finish(mut self) {
        let tracker = std::mem::take(&mut self.tracker);
        for command in tracker.finish() {
            self.typed(&command);
        }
    }

    fn typed(&mut self, command: &TypedCommand) {
        let confidence = match command.confidence {
            Confidence::Seen => "seen",
            Confidence::Partial => "partial",
        };
        self.line(command.at_us, command.channel, &command.text, confidence);
    }

    fn file(&mut self, record: &OperationRecord) {
        let kind = record.operation.kind;
        let is_file = matches!(
            kind,
            OperationKind::FileUpload | OperationKind::FileDownload | OperationKind::FileChange
        );
        if !is_file {
            return;
        }
        let line = json!({
            "time": record.started_at,
            "channel": record.channel,
            "kind": kind.as_str(),
            "text": escape_controls(&record.operation.detail),
            "outcome": record.outcome,
            "reason": record.reason,
            "size_bytes": record.size_bytes,
            "sha256": record.sha256,
        });
        self.put(&line);
    }

    fn line(&mut self, at_us: u64, channel: u32, text: &str, confidence: &str) {
        let at_ms = self.started_at_ms.saturating_add(at_us / 1_000);
        let at = Timestamp::from_unix_ms(i64::try_from(at_ms).unwrap_or(i64::MAX));
        let line = json!({
            "time": at,
            "channel": channel,
            "kind": "command",
            "text": text,
            "confidence": confidence,
        });
        self.put(&line);
    }

    fn put(&mut self, line: &Value) {
        // Writing to memory does not fail.
        let _ = writeln!(self.out, "{line}");
    }
}
