//! Commands typed at an interactive prompt, read off the screen.
//!
//! Control and the command line push every frame of a recording, or of a live session, in order.
//! Keystrokes alone do not say what was run: completion, history and editing happen on the far
//! side. So output goes through an emulator, and when the Enter that was typed is answered by a
//! line feed, the cursor's line after the prompt is the command. The prompt's end is where the
//! cursor stood when typing began.
//!
//! This is evidence, not prevention. What a person runs from a script, an editor, a here-document,
//! an alias or a program that draws its own screen is not seen here as a command, and a target can
//! print whatever it likes over its own prompt. Policy must not rely on it.
//!
//! INVARIANT: a command's text was on the screen. What a terminal did not show, such as a password
//! typed without echo, is never captured; neither is a line of mask characters.
//!
//! Not here: commands of channels without a terminal, which the protocol states outright
//! ([`FrameKind::ChannelOpened`]); decoding keys (`keystroke`).

mod prompt;
mod shown;

use std::collections::{HashMap, VecDeque};

use avt::ScreenKind;

pub(super) use self::prompt::{CursorLine, Prompt};
use self::shown::LineFeeds;
use super::emulator::{Emulator, MAX_TERMINALS};
use super::escape::escape_controls;
use super::frame::{Direction, Frame, FrameKind, NOT_ECHOED, Pty, redaction_mark};
use super::keystroke::{Key, KeyDecoder};

/// How far back a long command's first row may have scrolled.
const SCROLLBACK_ROWS: usize = 500;

/// Commands typed ahead that wait to be shown; older ones are given up.
const MAX_WAITING: usize = 16;

/// Lines of output looked at after an Enter; what was not shown by then was not shown at all.
const MAX_LINE_FEEDS: u32 = 2000;

/// A command that is not shown this long after its Enter was not shown at all.
const WAIT_US: u64 = 10_000_000;

/// Longer typing is followed on the screen only.
const MAX_TYPED_BYTES: usize = 4096;

/// A command line that a person entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypedCommand {
    /// The channel it was typed on.
    pub channel: u32,
    /// When Enter was pressed, in microseconds since the session started.
    pub at_us: u64,
    /// What the screen showed of it, without the prompt; free of control characters.
    pub text: String,
    /// How sure the text is.
    pub confidence: Confidence,
}

/// How sure the text of a [`TypedCommand`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confidence {
    /// The screen showed exactly this after the prompt, or exactly what was typed.
    Seen,
    /// The prompt moved or other output ran into the line; the text may hold more or less than
    /// the command.
    Partial,
}

/// Follows all terminal channels of one session.
#[derive(Default)]
pub struct CommandTracker {
    channels: HashMap<u32, ChannelTracker>,
}

impl std::fmt::Debug for CommandTracker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("CommandTracker")
            .field("channels", &self.channels.len())
            .finish_non_exhaustive()
    }
}

impl CommandTracker {
    /// Begins a session.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in one frame; returns the commands it completes, in order.
    pub fn frame(&mut self, frame: &Frame<'_>) -> Vec<TypedCommand> {
        let Frame {
            at_us,
            channel,
            kind,
        } = *frame;
        if let FrameKind::ChannelOpened { pty: Some(pty), .. } = kind {
            self.open(channel, pty);
            return Vec::new();
        }
        let Some(tracker) = self.channels.get_mut(&channel) else {
            return Vec::new();
        };
        let lines = match kind {
            FrameKind::Input(bytes) => {
                tracker.input(at_us, bytes);
                Vec::new()
            }
            FrameKind::Output(bytes) | FrameKind::ErrorOutput(bytes) => {
                tracker.output(at_us, bytes)
            }
            // The screen shows what it says was there; what was typed unseen is no command.
            FrameKind::Redacted {
                direction,
                rule,
                bytes,
                ..
            } => match direction {
                Direction::Input => {
                    tracker.typed_unknown(rule == NOT_ECHOED);
                    Vec::new()
                }
                Direction::Output | Direction::ErrorOutput => {
                    tracker.output(at_us, redaction_mark(rule, bytes).as_bytes())
                }
            },
            FrameKind::Resized { columns, rows } => {
                tracker.emulator.resize(columns, rows);
                Vec::new()
            }
            FrameKind::ChannelClosed => {
                let lines = tracker.finish();
                self.channels.remove(&channel);
                lines
            }
            FrameKind::ChannelOpened { .. }
            | FrameKind::Signal(_)
            | FrameKind::ExitStatus(_)
            | FrameKind::ExitSignal { .. }
            | FrameKind::Operation(_)
            | FrameKind::Note(_)
            | FrameKind::Omitted { .. } => Vec::new(),
        };
        lines
            .into_iter()
            .map(|line| line.on_channel(channel))
            .collect()
    }

    /// Ends the session; returns commands that were entered and shown but not yet answered, such
    /// as the one during which the session was cut.
    #[must_use]
    pub fn finish(mut self) -> Vec<TypedCommand> {
        let mut commands: Vec<TypedCommand> = self
            .channels
            .iter_mut()
            .flat_map(|(channel, tracker)| {
                tracker
                    .finish()
                    .into_iter()
                    .map(|line| line.on_channel(*channel))
            })
            .collect();
        commands.sort_by_key(|command| (command.at_us, command.channel));
        commands
    }

    /// Puts away the screens on which nothing is being typed, until they are drawn on again. Call it now
    /// and then, as after each chunk of a recording: a screen at rest takes a twentieth of the memory.
    pub fn rest(&mut self) {
        for tracker in self.channels.values_mut() {
            tracker.rest();
        }
    }

    fn open(&mut self, channel: u32, pty: Pty<'_>) {
        if self.channels.len() < MAX_TERMINALS
            && let Some(emulator) = Emulator::new(pty.columns, pty.rows, SCROLLBACK_ROWS)
        {
            self.channels.insert(
                channel,
                ChannelTracker {
                    emulator,
                    keys: KeyDecoder::default(),
                    typing: None,
                    waiting: VecDeque::new(),
                    has_output_since_enter: false,
                    line_feeds_left: 0,
                },
            );
        }
    }
}

/// One terminal: its screen, the line being typed, and the lines entered but not yet shown.
struct ChannelTracker {
    emulator: Emulator,
    keys: KeyDecoder,
    typing: Option<Typing>,
    waiting: VecDeque<Entered>,
    has_output_since_enter: bool,
    line_feeds_left: u32,
}

/// The line being typed.
struct Typing {
    prompt: Option<Prompt>,
    typed: Typed,
}

/// What the keys pressed spell, as long as they are plain enough to tell.
#[derive(Default)]
pub(super) enum Typed {
    Exactly(String),
    /// A key was pressed whose effect only the screen shows.
    #[default]
    Unknown,
}

/// A line that was entered and not yet shown.
struct Entered {
    at_us: u64,
    prompt: Option<Prompt>,
    typed: Typed,
    /// The next line was begun at a prompt, so this one was answered, perhaps without being shown.
    is_passed: bool,
}

struct EnteredLine {
    at_us: u64,
    text: String,
    confidence: Confidence,
}

impl EnteredLine {
    fn on_channel(self, channel: u32) -> TypedCommand {
        TypedCommand {
            channel,
            at_us: self.at_us,
            text: escape_controls(&self.text).into_owned(),
            confidence: self.confidence,
        }
    }
}

impl ChannelTracker {
    fn input(&mut self, at_us: u64, bytes: &[u8]) {
        self.emulator.catch_up();
        for key in self.keys.decode(bytes) {
            if self.emulator.terminal().active_screen_kind() == ScreenKind::Alternate {
                self.typing = None;
                continue;
            }
            match key {
                Key::Enter => self.enter(at_us),
                Key::Interrupt => self.typing = None,
                key => self.type_key(&key),
            }
        }
    }

    /// Takes in that something was typed of which nothing is known but whether it was shown.
    fn typed_unknown(&mut self, is_hidden: bool) {
        if !is_hidden && self.emulator.terminal().active_screen_kind() != ScreenKind::Alternate {
            self.type_key(&Key::Other);
        }
    }

    fn enter(&mut self, at_us: u64) {
        // Enter alone enters nothing; its line feed must not be taken for another's.
        if let Some(Typing { prompt, typed }) = self.typing.take() {
            if self.waiting.len() >= MAX_WAITING {
                self.waiting.pop_front();
            }
            self.waiting.push_back(Entered {
                at_us,
                prompt,
                typed,
                is_passed: false,
            });
            self.has_output_since_enter = false;
            self.line_feeds_left = MAX_LINE_FEEDS;
        }
    }

    fn type_key(&mut self, key: &Key) {
        if self.typing.is_none() {
            if matches!(key, Key::EndOfInput) {
                return;
            }
            let prompt = Prompt::at_cursor(self.emulator.terminal_mut());
            let is_at_prompt = prompt.as_ref().is_some_and(|prompt| !prompt.is_blank());
            if is_at_prompt && self.has_output_since_enter {
                self.waiting
                    .iter_mut()
                    .for_each(|line| line.is_passed = true);
            }
            self.typing = Some(Typing {
                prompt,
                typed: Typed::Exactly(String::new()),
            });
        }
        if let Some(typing) = &mut self.typing {
            typing.typed.press(key);
        }
    }

    fn output(&mut self, at_us: u64, bytes: &[u8]) -> Vec<EnteredLine> {
        while self
            .waiting
            .front()
            .is_some_and(|line| at_us.saturating_sub(line.at_us) > WAIT_US)
        {
            self.waiting.pop_front();
        }
        self.has_output_since_enter |= !bytes.is_empty();
        if self.typing.is_none() && self.waiting.is_empty() {
            self.emulator.feed_later(bytes);
            return Vec::new();
        }
        let mut shown = Vec::new();
        let mut watch = LineFeeds {
            waiting: &mut self.waiting,
            line_feeds_left: &mut self.line_feeds_left,
            shown: &mut shown,
        };
        self.emulator.feed(bytes, &mut watch);
        shown
    }

    fn rest(&mut self) {
        // Their anchors would be lost.
        if self.typing.is_none() && self.waiting.is_empty() {
            self.emulator.rest(SCROLLBACK_ROWS);
        }
    }

    fn finish(&mut self) -> Vec<EnteredLine> {
        let mut shown = Vec::new();
        let mut watch = LineFeeds {
            waiting: &mut self.waiting,
            line_feeds_left: &mut self.line_feeds_left,
            shown: &mut shown,
        };
        watch.read_line(self.emulator.terminal());
        shown
    }
}

impl Typed {
    pub(super) fn press(&mut self, key: &Key) {
        let Self::Exactly(text) = self else {
            return;
        };
        match key {
            Key::Character(character) if text.len() < MAX_TYPED_BYTES => text.push(*character),
            Key::Backspace => {
                text.pop();
            }
            Key::EraseLine => text.clear(),
            Key::Character(_) | Key::EndOfInput | Key::Enter | Key::Interrupt | Key::Other => {
                *self = Self::Unknown
            }
        }
    }
}

#[cfg(test)]
mod tests;
