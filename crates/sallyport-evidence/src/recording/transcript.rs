//! A recording as plain text, for reading and searching.
//!
//! `sallyport recording export --format text`, the demo and the search index push every frame in
//! order. A terminal channel goes through an emulator, so what is read is what was shown, not the
//! keystrokes' escape sequences; a line appears when it scrolls off the screen, a full-screen
//! program's last screen when it leaves. Other channels appear byte for byte, controls escaped.
//!
//! INVARIANT: each line of output begins with a time that this module wrote, and holds no control
//! character: recorded content cannot forge a line, move a cursor or speak to a reader's terminal.
//!
//! Not here: exact replay (`cast`), which commands were typed (`command`).

use std::collections::HashMap;
use std::io::{self, Write};

use avt::observer::{Observation, Observer, Transcript};
use avt::parser::{DecMode, Function};
use avt::{Line, Operation, ScreenKind};

use super::emulator::{Emulator, MAX_TERMINALS};
use super::escape::escape_controls;
use super::frame::{Direction, Frame, FrameKind, Pty, SESSION_CHANNEL, redaction_mark};
use super::utf8::Utf8Decoder;

/// A stream's line that does not end is written in pieces of this many bytes.
const MAX_LINE_BYTES: usize = 4096;

/// Channels remembered at once; data of channels beyond is written without joining lines.
const MAX_CHANNELS: usize = 1024;

/// Blank terminal lines in a row that are kept: a few bytes can scroll a whole blank screen.
const MAX_BLANK_LINES: u32 = 2;

/// Why a transcript cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum TranscriptError {
    /// The destination failed.
    #[error("write transcript")]
    Write(#[source] io::Error),
}

/// Writes a transcript line by line as frames are pushed.
pub struct TranscriptWriter<W> {
    writer: W,
    channels: HashMap<u32, Channel>,
    last_at_us: u64,
}

impl<W> std::fmt::Debug for TranscriptWriter<W> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("TranscriptWriter")
            .field("channels", &self.channels.len())
            .finish_non_exhaustive()
    }
}

enum Channel {
    Terminal(Box<Screen>),
    Streams(Box<[Stream; 3]>),
}

struct Screen {
    emulator: Emulator,
    shown: Shown,
    blank_lines: u32,
}

/// One direction of a channel without a terminal.
#[derive(Default)]
struct Stream {
    decoder: Utf8Decoder,
    line: String,
}

impl<W: Write> TranscriptWriter<W> {
    /// Begins a transcript.
    pub fn new(writer: W) -> Self {
        Self {
            writer,
            channels: HashMap::new(),
            last_at_us: 0,
        }
    }

    /// Writes what the frame completes.
    ///
    /// # Errors
    ///
    /// [`TranscriptError::Write`] when the destination fails.
    pub fn frame(&mut self, frame: &Frame<'_>) -> Result<(), TranscriptError> {
        let Frame {
            at_us,
            channel,
            kind,
        } = *frame;
        self.last_at_us = at_us;
        match kind {
            FrameKind::ChannelOpened { kind, pty, command } => {
                self.open(channel, kind, pty, command)
            }
            FrameKind::Input(bytes) => self.content(channel, Direction::Input, bytes),
            FrameKind::Output(bytes) => self.content(channel, Direction::Output, bytes),
            FrameKind::ErrorOutput(bytes) => self.content(channel, Direction::ErrorOutput, bytes),
            FrameKind::Resized { columns, rows } => {
                if let Some(Channel::Terminal(screen)) = self.channels.get_mut(&channel) {
                    screen.emulator.resize(columns, rows);
                }
                Ok(())
            }
            FrameKind::ChannelClosed => {
                self.flush_channel(channel)?;
                self.event(channel, "closed")
            }
            FrameKind::Signal(name) => self.event(channel, &format!("signal {name} sent")),
            FrameKind::ExitStatus(status) => {
                self.event(channel, &format!("ended with status {status}"))
            }
            FrameKind::ExitSignal { name, message, .. } => {
                self.event(channel, &format!("ended by signal {name} {message}"))
            }
            FrameKind::Operation(json) => self.event(
                channel,
                &format!("operation {}", String::from_utf8_lossy(json)),
            ),
            FrameKind::Note(text) => self.event(channel, &format!("note: {text}")),
            FrameKind::Redacted {
                direction,
                rule,
                bytes,
                ..
            } => {
                let mark = redaction_mark(&escape_controls(rule), bytes);
                self.content(channel, direction, mark.as_bytes())
            }
            FrameKind::Omitted {
                direction,
                bytes,
                sha256,
            } => self.event(
                channel,
                &format!(
                    "{bytes} bytes of {} not kept, sha256 {}",
                    name(direction),
                    hex::encode(sha256)
                ),
            ),
        }
    }

    /// Writes what is still on screens and in unfinished lines; returns the destination, flushed.
    ///
    /// # Errors
    ///
    /// [`TranscriptError::Write`] when the destination fails.
    pub fn finish(mut self) -> Result<W, TranscriptError> {
        let mut open: Vec<u32> = self.channels.keys().copied().collect();
        open.sort_unstable();
        for channel in open {
            self.flush_channel(channel)?;
        }
        self.writer.flush().map_err(TranscriptError::Write)?;
        Ok(self.writer)
    }

    fn open(
        &mut self,
        channel: u32,
        kind: &str,
        pty: Option<Pty<'_>>,
        command: Option<&str>,
    ) -> Result<(), TranscriptError> {
        self.flush_channel(channel)?;
        let terminals = self
            .channels
            .values()
            .filter(|channel| matches!(channel, Channel::Terminal(_)))
            .count();
        let screen = pty
            .filter(|_| terminals < MAX_TERMINALS)
            .and_then(|pty| Emulator::new(pty.columns, pty.rows, 0));
        if self.channels.len() < MAX_CHANNELS {
            let state = match screen {
                Some(emulator) => Channel::Terminal(Box::new(Screen {
                    emulator,
                    shown: Shown::default(),
                    blank_lines: 0,
                })),
                None => Channel::Streams(Box::default()),
            };
            self.channels.insert(channel, state);
        }
        let mut text = format!("opened: {kind}");
        if let Some(pty) = pty {
            text.push_str(&format!(
                ", terminal {} {}x{}",
                pty.term, pty.columns, pty.rows
            ));
        }
        if let Some(command) = command {
            text.push_str(&format!(", command {command}"));
        }
        self.event(channel, &text)
    }

    fn content(
        &mut self,
        channel: u32,
        direction: Direction,
        bytes: &[u8],
    ) -> Result<(), TranscriptError> {
        match self.channels.get_mut(&channel) {
            // Keystrokes are on the screen if they were echoed; if not, they may be a password.
            Some(Channel::Terminal(_)) if direction == Direction::Input => Ok(()),
            Some(Channel::Terminal(screen)) => {
                let lines = screen.show(bytes);
                self.write_screen_lines(channel, &lines)
            }
            Some(Channel::Streams(streams)) => {
                let lines = streams
                    .iter_mut()
                    .zip(DIRECTIONS)
                    .find(|(_, of)| *of == direction)
                    .map(|(stream, _)| stream.take_lines(bytes))
                    .unwrap_or_default();
                self.write_lines(channel, mark(direction), &lines)
            }
            None => {
                let mut stream = Stream::default();
                let mut lines = stream.take_lines(bytes);
                lines.extend(stream.take_rest());
                self.write_lines(channel, mark(direction), &lines)
            }
        }
    }

    fn flush_channel(&mut self, channel: u32) -> Result<(), TranscriptError> {
        match self.channels.remove(&channel) {
            None => Ok(()),
            Some(Channel::Terminal(screen)) => self.write_screen_lines(channel, &screen.finish()),
            Some(Channel::Streams(mut streams)) => {
                for (stream, direction) in streams.iter_mut().zip(DIRECTIONS) {
                    let rest: Vec<String> = stream.take_rest().into_iter().collect();
                    self.write_lines(channel, mark(direction), &rest)?;
                }
                Ok(())
            }
        }
    }

    fn write_screen_lines(
        &mut self,
        channel: u32,
        lines: &[ShownLine],
    ) -> Result<(), TranscriptError> {
        lines.iter().try_for_each(|line| match line {
            ShownLine::Scrolled(text) => self.write_line(channel, '|', text),
            ShownLine::FullScreen(text) => self.write_line(channel, '#', text),
        })
    }

    fn write_lines(
        &mut self,
        channel: u32,
        mark: char,
        lines: &[String],
    ) -> Result<(), TranscriptError> {
        lines
            .iter()
            .try_for_each(|line| self.write_line(channel, mark, line))
    }

    fn event(&mut self, channel: u32, text: &str) -> Result<(), TranscriptError> {
        self.write_line(channel, '-', text)
    }

    fn write_line(&mut self, channel: u32, mark: char, text: &str) -> Result<(), TranscriptError> {
        let millis = self.last_at_us / 1000;
        let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
        let (seconds, millis) = (millis / 1000 % 60, millis % 1000);
        let text = escape_controls(text);
        write!(
            self.writer,
            "{hours:02}:{minutes:02}:{seconds:02}.{millis:03} "
        )
        .and_then(|()| match channel {
            SESSION_CHANNEL => write!(self.writer, "session"),
            channel => write!(self.writer, "{channel}"),
        })
        .and_then(|()| writeln!(self.writer, " {mark} {text}"))
        .map_err(TranscriptError::Write)
    }
}

const DIRECTIONS: [Direction; 3] = [Direction::Input, Direction::Output, Direction::ErrorOutput];

fn mark(direction: Direction) -> char {
    match direction {
        Direction::Input => '<',
        Direction::Output => '>',
        Direction::ErrorOutput => '!',
    }
}

fn name(direction: Direction) -> &'static str {
    match direction {
        Direction::Input => "input",
        Direction::Output => "output",
        Direction::ErrorOutput => "error output",
    }
}

impl Screen {
    /// Shows `bytes`; returns the lines that left the screen.
    fn show(&mut self, bytes: &[u8]) -> Vec<ShownLine> {
        let lines = self.emulator.feed(bytes, &mut self.shown).concat();
        self.without_blank_runs(lines)
    }

    /// Returns what is still on the screen.
    fn finish(mut self) -> Vec<ShownLine> {
        self.shown.keep_alternate(self.emulator.terminal());
        let mut lines = std::mem::take(&mut self.shown.ready);
        let primary = std::mem::take(&mut self.shown.primary);
        lines.extend(
            primary
                .finish(self.emulator.terminal())
                .into_iter()
                .map(ShownLine::Scrolled),
        );
        self.without_blank_runs(lines)
    }

    fn without_blank_runs(&mut self, mut lines: Vec<ShownLine>) -> Vec<ShownLine> {
        lines.retain(|line| {
            let (ShownLine::Scrolled(text) | ShownLine::FullScreen(text)) = line;
            self.blank_lines = if text.is_empty() {
                self.blank_lines.saturating_add(1)
            } else {
                0
            };
            self.blank_lines <= MAX_BLANK_LINES
        });
        lines
    }
}

impl Stream {
    /// Takes in `bytes`; returns the lines they complete, without their line ends.
    fn take_lines(&mut self, bytes: &[u8]) -> Vec<String> {
        let text = self.decoder.decode(bytes);
        let mut lines = Vec::new();
        for piece in text.split_inclusive('\n') {
            let (piece, is_ended) = match piece.strip_suffix('\n') {
                Some(piece) => (piece, true),
                None => (piece, false),
            };
            for character in piece.chars() {
                self.line.push(character);
                if self.line.len() >= MAX_LINE_BYTES {
                    lines.push(std::mem::take(&mut self.line));
                }
            }
            if is_ended {
                if self.line.ends_with('\r') {
                    self.line.pop();
                }
                lines.push(std::mem::take(&mut self.line));
            }
        }
        lines
    }

    fn take_rest(&mut self) -> Option<String> {
        self.line.push_str(self.decoder.finish());
        Some(std::mem::take(&mut self.line)).filter(|line| !line.is_empty())
    }
}

#[derive(Debug, Clone)]
enum ShownLine {
    /// Left the primary screen, or was on it at the end.
    Scrolled(String),
    /// Was on a full-screen program's screen when that screen was left.
    FullScreen(String),
}

/// Collects what a terminal showed: the primary screen through avt's own transcript, and the
/// alternate screen as it was when left, which avt's leaves out.
#[derive(Default)]
struct Shown {
    primary: Transcript,
    ready: Vec<ShownLine>,
}

impl Shown {
    fn keep_alternate(&mut self, terminal: &avt::Terminal) {
        if terminal.active_screen_kind() == ScreenKind::Alternate {
            let lines = terminal.screen().text();
            let used = lines
                .iter()
                .rposition(|line| !line.is_empty())
                .map_or(0, |last| last + 1);
            self.ready
                .extend(lines.into_iter().take(used).map(ShownLine::FullScreen));
        }
    }
}

impl Observer for Shown {
    type Output = Vec<ShownLine>;

    fn before(&mut self, context: &mut Observation<'_>, operation: &Operation) {
        self.primary.before(context, operation);
        let leaves_alternate = match operation {
            Operation::Function(Function::Ris) => true,
            Operation::Function(Function::Decrst(modes)) => modes.as_slice().iter().any(|mode| {
                matches!(
                    mode,
                    DecMode::AltScreenBuffer | DecMode::SaveCursorAltScreenBuffer
                )
            }),
            Operation::Function(_) | Operation::Resize { .. } => false,
        };
        if leaves_alternate {
            self.keep_alternate(context.terminal());
        }
    }

    fn evicted(&mut self, context: &mut Observation<'_>, line: &Line) {
        self.primary.evicted(context, line);
    }

    fn end(&mut self, context: &mut Observation<'_>) -> Self::Output {
        let mut lines: Vec<ShownLine> = self
            .primary
            .end(context)
            .into_iter()
            .map(ShownLine::Scrolled)
            .collect();
        lines.append(&mut self.ready);
        lines
    }
}

#[cfg(test)]
mod tests;
