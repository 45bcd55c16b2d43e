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

use std::collections::{HashMap, VecDeque};

use avt::observer::{Observation, Observer};
use avt::parser::Function;
use avt::{Anchor, Operation, Position, ScreenKind, Terminal};

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

/// Where typing began.
pub(super) struct Prompt {
    /// The first row of the line, wherever it scrolls to.
    row: Anchor,
    /// The line's text before the cursor.
    text: String,
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

impl Prompt {
    pub(super) fn at_cursor(terminal: &mut Terminal) -> Option<Self> {
        let line = CursorLine::read(terminal)?;
        let row = terminal.anchor_at(Position {
            screen: ScreenKind::Primary,
            col: 0,
            row: line.first_row,
        })?;
        Some(Self {
            row,
            text: line.before_cursor,
        })
    }

    /// What the rows show behind it, down to the end of `line`; rows that do not run on end with a line
    /// feed.
    pub(super) fn text_after(&self, line: &CursorLine, terminal: &Terminal) -> Option<String> {
        let begins = terminal.resolve(&self.row)?.row;
        let rows_above = usize::try_from(line.last_row.checked_sub(begins)?).ok()?;
        if rows_above > MAX_BLOCK_ROWS {
            return None;
        }
        let rows: Vec<&avt::Line> = terminal.primary_screen().all_lines().collect();
        let top = rows.len().checked_sub(terminal.size().1)?;
        let first = top.checked_add_signed(begins)?;
        let last = top.checked_add_signed(line.last_row)?;
        let mut text = String::new();
        for row in rows.get(first..=last)? {
            if row.is_wrapped() {
                text.push_str(&row.text());
            } else {
                text.push_str(row.text().trim_end());
                text.push('\n');
            }
        }
        let text = text.trim_end();
        match text.strip_prefix(self.text.as_str()) {
            Some(after) => Some(after.to_owned()),
            // Nothing stands behind it, and the blank that ends it went with the row's.
            None => (text == self.text.trim_end()).then(String::new),
        }
    }

    /// Whether nothing stood before the cursor: typing ran ahead of the prompt.
    fn is_blank(&self) -> bool {
        self.text.trim().is_empty()
    }
}

/// The line that the cursor is on, soft-wrapped rows joined.
pub(super) struct CursorLine {
    /// Its rows as avt counts them: 0 is the top of the screen, negative is scrolled off.
    first_row: isize,
    last_row: isize,
    before_cursor: String,
    pub(super) text: String,
}

/// A pasted command of more lines than this is read without its beginning.
const MAX_BLOCK_ROWS: usize = 100;

impl CursorLine {
    /// `None` on the alternate screen.
    pub(super) fn read(terminal: &Terminal) -> Option<Self> {
        if terminal.active_screen_kind() == ScreenKind::Alternate {
            return None;
        }
        let cursor = terminal.cursor();
        let rows: Vec<&avt::Line> = terminal.primary_screen().all_lines().collect();
        let top = rows.len().checked_sub(terminal.size().1)?;
        let at = top.checked_add(cursor.row)?;
        let is_wrapped = |row: usize| rows.get(row).is_some_and(|line| line.is_wrapped());

        let first = (0..=at)
            .rev()
            .find(|row| *row == 0 || !is_wrapped(row - 1))?;
        let last = (at..rows.len()).find(|row| !is_wrapped(*row)).unwrap_or(at);
        let text_of = |range: std::ops::Range<usize>| -> String {
            rows.get(range)
                .unwrap_or_default()
                .iter()
                .map(|line| line.text())
                .collect()
        };
        let mut before_cursor = text_of(first..at);
        before_cursor.extend(
            rows.get(at)?
                .cells()
                .iter()
                .take(cursor.col)
                .filter(|cell| cell.width() > 0)
                .map(avt::Cell::char),
        );
        Some(Self {
            first_row: isize::try_from(first).ok()?.checked_sub_unsigned(top)?,
            last_row: isize::try_from(last).ok()?.checked_sub_unsigned(top)?,
            before_cursor,
            text: text_of(first..last.checked_add(1)?),
        })
    }
}

/// Reads the cursor's line each time output is about to leave it, while entered lines wait.
struct LineFeeds<'a> {
    waiting: &'a mut VecDeque<Entered>,
    line_feeds_left: &'a mut u32,
    shown: &'a mut Vec<EnteredLine>,
}

impl Observer for LineFeeds<'_> {
    type Output = ();

    fn before(&mut self, context: &mut Observation<'_>, operation: &Operation) {
        let leaves_line = matches!(operation, Operation::Function(Function::Lf | Function::Nel));
        if leaves_line && !self.waiting.is_empty() {
            self.read_line(context.terminal());
            *self.line_feeds_left = self.line_feeds_left.saturating_sub(1);
            if *self.line_feeds_left == 0 {
                self.waiting.clear();
            }
        }
    }

    fn end(&mut self, _: &mut Observation<'_>) -> Self::Output {}
}

/// What a line on the screen means for the entered line that waits.
enum Verdict {
    /// It is that line.
    Is(String, Confidence),
    /// It is where that line would be, and shows nothing of it.
    ShowsNothing,
    /// It is some other line.
    IsAnother,
}

impl LineFeeds<'_> {
    fn read_line(&mut self, terminal: &Terminal) {
        let Some(line) = CursorLine::read(terminal) else {
            return;
        };
        let mut shows_nothing = false;
        let mut is_next = true;
        let mut found = None;
        for (place, entered) in self.waiting.iter().enumerate() {
            match entered.compare(&line, terminal) {
                // Lines are shown in the order they were entered: if a later one is certainly
                // here, those before it were never shown. Uncertain, it has to wait its turn.
                Verdict::Is(text, confidence) if is_next || confidence == Confidence::Seen => {
                    found = Some((
                        place,
                        EnteredLine {
                            at_us: entered.at_us,
                            text,
                            confidence,
                        },
                    ));
                    break;
                }
                Verdict::ShowsNothing if place == 0 => shows_nothing = true,
                Verdict::Is(..) | Verdict::ShowsNothing | Verdict::IsAnother => {}
            }
            is_next &= entered.is_passed;
        }
        if let Some((place, shown)) = found {
            self.waiting.drain(..=place);
            self.shown.push(shown);
        } else if shows_nothing {
            self.waiting.pop_front();
        }
    }
}

impl Entered {
    fn compare(&self, line: &CursorLine, terminal: &Terminal) -> Verdict {
        if let Some(shown) = self.shown_on(line, terminal) {
            return self.compare_after_prompt(shown.trim());
        }
        let block = self.shown_above(line, terminal);
        match &self.typed {
            Typed::Exactly(typed) => {
                let typed = typed.trim();
                let is_shown = block.as_deref() == Some(typed)
                    || (!typed.is_empty() && line.text.trim_end().ends_with(typed));
                if is_shown {
                    Verdict::Is(typed.to_owned(), Confidence::Seen)
                } else if let Some(block) = block.filter(|block| is_as_long(block, typed)) {
                    Verdict::Is(block, Confidence::Partial)
                } else if self.is_on(line, terminal) && !self.is_ahead_of_prompt() {
                    // The prompt was overwritten, and with it what was typed, if it was shown.
                    Verdict::ShowsNothing
                } else {
                    Verdict::IsAnother
                }
            }
            Typed::Unknown => {
                let shown = block.unwrap_or_else(|| line.text.trim().to_owned());
                if shown.is_empty() {
                    Verdict::IsAnother
                } else {
                    Verdict::Is(shown, Confidence::Partial)
                }
            }
        }
    }

    fn is_ahead_of_prompt(&self) -> bool {
        self.prompt.as_ref().is_none_or(Prompt::is_blank)
    }

    fn is_on(&self, line: &CursorLine, terminal: &Terminal) -> bool {
        self.prompt
            .as_ref()
            .and_then(|prompt| terminal.resolve(&prompt.row))
            .is_some_and(|at| (line.first_row..=line.last_row).contains(&at.row))
    }

    /// What the line shows after the prompt, if it is the line that typing began on, or one that
    /// begins with the same prompt because the screen was cleared or typing ran ahead.
    fn shown_on<'a>(&self, line: &'a CursorLine, terminal: &Terminal) -> Option<&'a str> {
        let prompt = self.prompt.as_ref()?;
        let shown = line.text.strip_prefix(prompt.text.as_str())?;
        (!self.is_ahead_of_prompt() || self.is_on(line, terminal)).then_some(shown)
    }

    fn compare_after_prompt(&self, shown: &str) -> Verdict {
        if shown.is_empty() || shown.chars().all(|mark| matches!(mark, '*' | '•' | '●')) {
            return Verdict::ShowsNothing;
        }
        let Typed::Exactly(typed) = &self.typed else {
            return Verdict::Is(shown.to_owned(), Confidence::Seen);
        };
        let typed = typed.trim();
        match shown.strip_prefix(typed) {
            Some("") => Verdict::Is(shown.to_owned(), Confidence::Seen),
            // The first of several pasted lines: the others follow.
            None if typed.contains('\n') && typed.starts_with(shown) => Verdict::IsAnother,
            // A right-hand prompt stands apart from what was typed.
            Some(rest) if rest.starts_with("  ") && !typed.is_empty() => {
                Verdict::Is(typed.to_owned(), Confidence::Seen)
            }
            Some(_) | None if self.is_ahead_of_prompt() => {
                if !typed.is_empty() && shown.ends_with(typed) {
                    Verdict::Is(typed.to_owned(), Confidence::Seen)
                } else {
                    Verdict::IsAnother
                }
            }
            Some(_) | None => Verdict::Is(shown.to_owned(), Confidence::Partial),
        }
    }

    /// What the rows show from the prompt, if that is above, down to the end of `line`: a command
    /// of several lines, or one that other output ran into.
    fn shown_above(&self, line: &CursorLine, terminal: &Terminal) -> Option<String> {
        let prompt = self.prompt.as_ref()?;
        if terminal.resolve(&prompt.row)?.row >= line.first_row {
            return None;
        }
        Some(prompt.text_after(line, terminal)?.trim().to_owned())
    }
}

/// Whether `shown` has room for all lines of a pasted command.
fn is_as_long(shown: &str, typed: &str) -> bool {
    typed.contains('\n') && shown.lines().count() >= typed.lines().count()
}

#[cfg(test)]
mod tests;
