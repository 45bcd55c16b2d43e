//! Export of a terminal channel as asciicast, version 2 or 3, for stock players.
//!
//! Control serves it to the console's player and to `sallyport recording export`. A caller pushes
//! every frame of the recording, in order; only the chosen channel and notes to the whole session
//! are written. Sources: asciinema's `asciicast-v2.md` and `asciicast-v3.md`.
//!
//! INVARIANT: each line is one JSON value in UTF-8, whatever the target sent. What the terminal
//! showed is passed on unaltered but for invalid UTF-8, which becomes U+FFFD; a player must run it
//! in an emulator that answers nothing.
//!
//! Not here: reading containers (`container`), readable text (`transcript`).

use std::io::{self, Write};

use serde_json::json;

use super::emulator::shown_size;
use super::escape::escape_controls;
use super::frame::{Direction, Frame, FrameKind, Pty, SESSION_CHANNEL, redaction_mark};
use super::header::Header;
use super::utf8::Utf8Decoder;

/// Which version of asciicast to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CastVersion {
    /// For asciinema 2; times since the start, no exit event.
    V2,
    /// For asciinema 3; times since the previous event.
    V3,
}

/// Whether keystrokes are exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CastInput {
    /// They are left out. What was typed without echo, such as a password, is not in the export.
    Omitted,
    /// They are written as `i` events, passwords included.
    Included,
}

/// Why a cast cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum CastError {
    /// The destination failed.
    #[error("write asciicast")]
    Write(#[source] io::Error),
    /// The channel has no terminal.
    #[error("channel {channel} has no terminal to export")]
    NotATerminal {
        /// The channel asked for.
        channel: u32,
    },
    /// The recording has no such channel.
    #[error("recording has no channel {channel}")]
    NoSuchChannel {
        /// The channel asked for.
        channel: u32,
    },
}

/// Writes one terminal channel as newline-delimited JSON.
#[derive(Debug)]
pub struct CastWriter<W> {
    writer: W,
    version: CastVersion,
    input: CastInput,
    channel: u32,
    started_at_ms: u64,
    title: String,
    /// When the channel was opened; `None` before.
    opened_at_us: Option<u64>,
    last_event_us: u64,
    typed: Utf8Decoder,
    shown: Utf8Decoder,
    shown_error: Utf8Decoder,
}

impl<W: Write> CastWriter<W> {
    /// Prepares the export of `channel` from the recording with this header.
    pub fn new(
        writer: W,
        header: &Header,
        channel: u32,
        version: CastVersion,
        input: CastInput,
    ) -> Self {
        Self {
            writer,
            version,
            input,
            channel,
            started_at_ms: header.started_at_ms,
            title: header.session_id.clone(),
            opened_at_us: None,
            last_event_us: 0,
            typed: Utf8Decoder::default(),
            shown: Utf8Decoder::default(),
            shown_error: Utf8Decoder::default(),
        }
    }

    /// Writes what the frame adds to the cast, if anything.
    ///
    /// # Errors
    ///
    /// [`CastError::NotATerminal`] when the channel turns out to have none; [`CastError::Write`].
    pub fn frame(&mut self, frame: &Frame<'_>) -> Result<(), CastError> {
        if frame.channel != self.channel && frame.channel != SESSION_CHANNEL {
            return Ok(());
        }
        match (self.opened_at_us, frame.kind) {
            (None, FrameKind::ChannelOpened { pty, command, .. }) => {
                let pty = pty.ok_or(CastError::NotATerminal {
                    channel: self.channel,
                })?;
                self.opened_at_us = Some(frame.at_us);
                self.last_event_us = frame.at_us;
                self.write_header(pty, command)
            }
            (None, _) => Ok(()),
            (Some(_), kind) => self.write_kind(frame.at_us, kind),
        }
    }

    /// Ends the cast and returns the destination, flushed.
    ///
    /// # Errors
    ///
    /// [`CastError::NoSuchChannel`] when the channel never appeared; [`CastError::Write`].
    pub fn finish(mut self) -> Result<W, CastError> {
        if self.opened_at_us.is_none() {
            return Err(CastError::NoSuchChannel {
                channel: self.channel,
            });
        }
        let rest = [self.shown.finish(), self.shown_error.finish()].concat();
        self.write_event(self.last_event_us, "o", &rest)?;
        if self.input == CastInput::Included {
            let rest = self.typed.finish();
            self.write_event(self.last_event_us, "i", rest)?;
        }
        self.writer.flush().map_err(CastError::Write)?;
        Ok(self.writer)
    }

    fn write_header(&mut self, pty: Pty<'_>, command: Option<&str>) -> Result<(), CastError> {
        let (columns, rows) = shown_size(pty.columns, pty.rows);
        let opened_at_ms = self
            .started_at_ms
            .saturating_add(self.opened_at_us.unwrap_or_default() / 1000);
        let timestamp = opened_at_ms / 1000;
        let mut header = match self.version {
            CastVersion::V2 => json!({
                "version": 2, "width": columns, "height": rows, "timestamp": timestamp,
                "title": self.title, "env": { "TERM": pty.term },
            }),
            CastVersion::V3 => json!({
                "version": 3, "term": { "cols": columns, "rows": rows, "type": pty.term },
                "timestamp": timestamp, "title": self.title,
            }),
        };
        if let (Some(command), Some(fields)) = (command, header.as_object_mut()) {
            fields.insert("command".to_owned(), command.into());
        }
        writeln!(self.writer, "{header}").map_err(CastError::Write)
    }

    fn write_kind(&mut self, at_us: u64, kind: FrameKind<'_>) -> Result<(), CastError> {
        match kind {
            FrameKind::Output(bytes) => {
                let text = self.shown.decode(bytes);
                self.write_event(at_us, "o", &text)
            }
            FrameKind::ErrorOutput(bytes) => {
                let text = self.shown_error.decode(bytes);
                self.write_event(at_us, "o", &text)
            }
            FrameKind::Input(bytes) if self.input == CastInput::Included => {
                let text = self.typed.decode(bytes);
                self.write_event(at_us, "i", &text)
            }
            FrameKind::Resized { columns, rows } => {
                let (columns, rows) = shown_size(columns, rows);
                self.write_event(at_us, "r", &format!("{columns}x{rows}"))
            }
            FrameKind::ExitStatus(status) if self.version == CastVersion::V3 => {
                self.write_event(at_us, "x", &status.to_string())
            }
            FrameKind::ExitSignal { name, .. } => {
                self.write_marker(at_us, &format!("ended by signal {name}"))
            }
            FrameKind::Signal(name) => self.write_marker(at_us, &format!("signal {name}")),
            FrameKind::Note(text) => self.write_marker(at_us, text),
            FrameKind::Operation(json) => self.write_marker(at_us, &String::from_utf8_lossy(json)),
            FrameKind::Omitted {
                direction, bytes, ..
            } => {
                let stream = match direction {
                    Direction::Input => "input",
                    Direction::Output => "output",
                    Direction::ErrorOutput => "error output",
                };
                self.write_marker(at_us, &format!("{bytes} bytes of {stream} not kept"))
            }
            FrameKind::Redacted {
                direction,
                rule,
                bytes,
                ..
            } => {
                let mark = redaction_mark(rule, bytes);
                match (direction, self.input) {
                    (Direction::Input, CastInput::Omitted) => Ok(()),
                    (Direction::Input, CastInput::Included) => self.write_marker(at_us, &mark),
                    (Direction::Output | Direction::ErrorOutput, _) => {
                        self.write_event(at_us, "o", &escape_controls(&mark))
                    }
                }
            }
            FrameKind::Input(_)
            | FrameKind::ExitStatus(_)
            | FrameKind::ChannelOpened { .. }
            | FrameKind::ChannelClosed => Ok(()),
        }
    }

    /// Marker labels are shown outside the emulator, so they carry no controls.
    fn write_marker(&mut self, at_us: u64, label: &str) -> Result<(), CastError> {
        self.write_event(at_us, "m", &escape_controls(label))
    }

    fn write_event(&mut self, at_us: u64, code: &str, text: &str) -> Result<(), CastError> {
        if text.is_empty() {
            return Ok(());
        }
        let since_us = match self.version {
            CastVersion::V2 => self.opened_at_us.unwrap_or_default(),
            CastVersion::V3 => self.last_event_us,
        };
        let time_us = at_us.saturating_sub(since_us);
        self.last_event_us = at_us;
        let (seconds, micros) = (time_us / 1_000_000, time_us % 1_000_000);
        let text = serde_json::Value::from(text);
        writeln!(self.writer, "[{seconds}.{micros:06}, \"{code}\", {text}]")
            .map_err(CastError::Write)
    }
}

#[cfg(test)]
mod tests;
