//! A live session as somebody who joined sees it: the terminal that is open as a cast, anything else as
//! text, one channel or one after the other.
//!
//! A line that begins with `#` says what follows: `# channel 3` a cast of that channel from its
//! beginning, `# text` lines of a transcript.
//!
//! INVARIANT: text holds no control characters (`TranscriptWriter`); what a cast holds is JSON.

use std::io::Write as _;

use sallyport_evidence::recording::{
    CastInput, CastVersion, CastWriter, Frame, FrameKind, Header, SESSION_CHANNEL, TranscriptWriter,
};

use super::export::{ExportError, Outbox};

/// A live view in the making.
pub(super) struct LiveView {
    out: Outbox,
    header: Header,
    /// The only channel to show, if there is one.
    only: Option<u32>,
    shown: Shown,
}

enum Shown {
    Nothing,
    Terminal(u32, Box<CastWriter<Outbox>>),
    Text(Box<TranscriptWriter<Outbox>>),
}

impl LiveView {
    pub(super) fn new(out: Outbox, header: Header, only: Option<u32>) -> Self {
        Self {
            out,
            header,
            only,
            shown: Shown::Nothing,
        }
    }

    pub(super) fn frame(&mut self, frame: &Frame<'_>) -> Result<(), ExportError> {
        if self
            .only
            .is_some_and(|only| ![only, SESSION_CHANNEL].contains(&frame.channel))
        {
            return Ok(());
        }
        if let FrameKind::ChannelOpened { pty, .. } = frame.kind {
            self.turn_to(frame.channel, pty.is_some())?;
        }
        match &mut self.shown {
            Shown::Nothing => Ok(()),
            Shown::Text(text) => text.frame(frame).map_err(ExportError::Transcript),
            Shown::Terminal(channel, cast) => {
                let is_over =
                    frame.channel == *channel && matches!(frame.kind, FrameKind::ChannelClosed);
                cast.frame(frame).map_err(ExportError::Cast)?;
                if is_over {
                    self.shown = Shown::Nothing;
                }
                Ok(())
            }
        }
    }

    /// A terminal that is shown stays until it closes; text gives way to a terminal.
    fn turn_to(&mut self, channel: u32, has_terminal: bool) -> Result<(), ExportError> {
        match (&self.shown, has_terminal) {
            (Shown::Terminal(..), _) | (Shown::Text(_), false) => Ok(()),
            (Shown::Nothing, false) => {
                self.say("# text");
                self.shown = Shown::Text(Box::new(TranscriptWriter::new(self.out.clone())));
                Ok(())
            }
            (Shown::Nothing | Shown::Text(_), true) => {
                self.end_text()?;
                self.say(&format!("# channel {channel}"));
                self.shown = Shown::Terminal(
                    channel,
                    Box::new(CastWriter::new(
                        self.out.clone(),
                        &self.header,
                        channel,
                        CastVersion::V3,
                        CastInput::Omitted,
                    )),
                );
                Ok(())
            }
        }
    }

    pub(super) fn finish(mut self) -> Result<(), ExportError> {
        self.end_text()
    }

    fn end_text(&mut self) -> Result<(), ExportError> {
        match std::mem::replace(&mut self.shown, Shown::Nothing) {
            Shown::Text(text) => text.finish().map(drop).map_err(ExportError::Transcript),
            Shown::Nothing | Shown::Terminal(..) => Ok(()),
        }
    }

    fn say(&mut self, line: &str) {
        // Writing to memory does not fail.
        let _ = writeln!(self.out, "{line}");
    }
}
