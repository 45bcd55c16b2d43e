//! The terminal a person looked at, rebuilt from what was sent to it.
//!
//! Transcripts and command capture feed a channel's output in here and read the screen. It
//! answers no query and acts on no request of the stream: it has no way to write anywhere.
//!
//! INVARIANT: work and memory are proportional to the bytes fed, within the size limits below. A
//! hostile stream can garble its own screen and nothing else.
//!
//! Not here: what is made of the screen (`transcript`, `command`).

use avt::observer::{Observation, Observer};
use avt::parser::Function;
use avt::{Parser, ScreenKind, Terminal};

use super::utf8::Utf8Decoder;

/// Larger terminals are emulated at this size. Sizes come from the client, and four bytes of output
/// can clear a whole screen, so that each cell costs time as well as memory.
const MAX_COLUMNS: usize = 640;
const MAX_ROWS: usize = 200;

/// Used when a client asks for a terminal without saying how large.
const DEFAULT_COLUMNS: u32 = 80;
const DEFAULT_ROWS: u32 = 24;

/// Terminals emulated at once; channels beyond are treated as plain streams.
pub(super) const MAX_TERMINALS: usize = 32;

/// A terminal emulator that takes bytes.
pub(super) struct Emulator {
    decoder: Utf8Decoder,
    parser: Parser,
    terminal: Terminal,
    /// Applied with the next output: resizing reflows the whole screen, and only the last size
    /// before output was ever drawn on.
    new_size: Option<(usize, usize)>,
    /// The screen, while `terminal` is a stand-in without extent.
    resting: Option<RestingScreen>,
    /// Output that is not yet drawn.
    later: Vec<u8>,
}

/// Most output that waits to be drawn.
const LATER_BYTES_MAX: usize = 64 * 1024;
/// Of plain output that nobody looked at, this much of the end is drawn: more than a large screen.
const RECENT_BYTES: usize = 16 * 1024;
/// Enough to end whatever was begun before.
const FIRST_BYTES: usize = 256;

/// A screen put away: what draws it again on an empty one. Cells take two dozen bytes each, drawn or
/// not, and most screens are nearly empty.
struct RestingScreen {
    drawing: String,
    size: (usize, usize),
    scrollback_rows: usize,
}

impl Emulator {
    /// `None` only if the emulator refuses the size, which the limits here exclude.
    pub(super) fn new(columns: u32, rows: u32, scrollback_rows: usize) -> Option<Self> {
        let (columns, rows) = bounded(columns, rows);
        let terminal = Terminal::with_scrollback(columns, rows, Some(scrollback_rows)).ok()?;
        Some(Self {
            decoder: Utf8Decoder::default(),
            parser: Parser::new(),
            terminal,
            new_size: None,
            resting: None,
            later: Vec::new(),
        })
    }

    /// Takes in output that nobody looks at now. Plain text that would only scroll by is never drawn: a
    /// grid of cells costs twenty times what recording the same bytes does.
    pub(super) fn feed_later(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(LATER_BYTES_MAX) {
            self.later.extend_from_slice(piece);
            if self.later.len() > LATER_BYTES_MAX {
                self.skip_what_scrolled_by();
            }
        }
    }

    /// Draws what was taken in for later.
    pub(super) fn catch_up(&mut self) {
        if !self.later.is_empty() {
            let bytes = std::mem::take(&mut self.later);
            self.feed(&bytes, &mut Unseen);
        }
    }

    fn skip_what_scrolled_by(&mut self) {
        let old_bytes = self.later.len().saturating_sub(RECENT_BYTES);
        let (first, rest) = self.later.split_at_checked(FIRST_BYTES).unwrap_or_default();
        let old = rest
            .get(..old_bytes.saturating_sub(first.len()))
            .unwrap_or_default();
        let line_end = old.windows(2).rposition(|pair| pair == b"\r\n");
        let skipped = line_end.and_then(|at| old.get(..at.saturating_add(2)));
        match skipped {
            Some(skipped) if is_plain(skipped) => {
                let recent = rest.get(skipped.len()..).unwrap_or_default().to_vec();
                let first = first.to_vec();
                self.later = Vec::new();
                self.feed(&first, &mut Unseen);
                self.later = recent;
            }
            Some(_) | None => self.catch_up(),
        }
    }

    /// Puts the screen away until it is needed again, in a few bytes for what is drawn on it. What had
    /// scrolled off is forgotten, and anchors with it. A screen of a full-screen program stays: it is
    /// drawn on all the time.
    pub(super) fn rest(&mut self, scrollback_rows: usize) {
        if self.later.len() > RECENT_BYTES {
            self.skip_what_scrolled_by();
        }
        self.catch_up();
        if self.resting.is_some() || self.terminal.active_screen_kind() == ScreenKind::Alternate {
            return;
        }
        let Ok(stand_in) = Terminal::with_scrollback(1, 1, Some(0)) else {
            return;
        };
        let terminal = std::mem::replace(&mut self.terminal, stand_in);
        self.resting = Some(RestingScreen {
            drawing: terminal.dump(),
            size: terminal.size(),
            scrollback_rows,
        });
    }

    /// Whether the screen is put away.
    #[cfg(test)]
    pub(super) fn is_resting(&self) -> bool {
        self.resting.is_some()
    }

    fn wake(&mut self) {
        let Some(resting) = self.resting.take() else {
            return;
        };
        let (columns, rows) = resting.size;
        let scrollback = Some(resting.scrollback_rows);
        match Terminal::with_scrollback(columns, rows, scrollback) {
            Ok(terminal) => self.terminal = terminal,
            // The size was accepted before.
            Err(_) => self.terminal.resize(columns, rows),
        }
        let mut parser = Parser::new();
        let functions = resting.drawing.chars().filter_map(|c| parser.feed(c));
        self.terminal.execute(functions);
    }

    pub(super) fn resize(&mut self, columns: u32, rows: u32) {
        self.catch_up();
        self.new_size = Some(bounded(columns, rows));
    }

    /// Shows `bytes`; returns what `observer` made of each step, a pending resize first.
    pub(super) fn feed<O: Observer>(&mut self, bytes: &[u8], observer: &mut O) -> Vec<O::Output> {
        self.catch_up();
        self.wake();
        let mut outputs = Vec::with_capacity(2);
        if let Some((columns, rows)) = self.new_size.take() {
            outputs.push(self.terminal.resize_with(columns, rows, &mut *observer));
        }
        let text = self.decoder.decode(bytes);
        let (columns, _) = self.terminal.size();
        let parser = &mut self.parser;
        let functions = text
            .chars()
            .filter_map(|character| parser.feed(character))
            .map(|function| bounded_repeat(function, columns));
        outputs.push(self.terminal.execute_with(functions, observer));
        outputs
    }

    /// The screen as it was last drawn: while it rests, an empty stand-in.
    pub(super) fn terminal(&self) -> &Terminal {
        &self.terminal
    }

    pub(super) fn terminal_mut(&mut self) -> &mut Terminal {
        self.catch_up();
        self.wake();
        &mut self.terminal
    }
}

/// Whether bytes do nothing but write lines: no escape sequence, no shift, no control beyond ASCII's.
fn is_plain(bytes: &[u8]) -> bool {
    let has_control = bytes.iter().any(|byte| matches!(byte, 0x0E | 0x0F | 0x1B));
    let has_c1 = || {
        bytes
            .windows(2)
            .any(|pair| matches!(pair, [0xC2, 0x80..=0x9F]))
    };
    !has_control && !has_c1()
}

/// Nobody watches what is drawn.
struct Unseen;

impl Observer for Unseen {
    type Output = ();

    fn end(&mut self, _: &mut Observation<'_>) {}
}

/// The size a terminal is shown at: a client without a terminal of its own asks for one without extent
/// (`ssh -tt` from a script), and the program at the other end then assumes the usual one.
pub(super) fn shown_size(columns: u32, rows: u32) -> (u32, u32) {
    let or = |size, default| if size == 0 { default } else { size };
    (or(columns, DEFAULT_COLUMNS), or(rows, DEFAULT_ROWS))
}

fn bounded(columns: u32, rows: u32) -> (usize, usize) {
    let (columns, rows) = shown_size(columns, rows);
    (
        usize::try_from(columns)
            .unwrap_or(MAX_COLUMNS)
            .min(MAX_COLUMNS),
        usize::try_from(rows).unwrap_or(MAX_ROWS).min(MAX_ROWS),
    )
}

/// Eight bytes can ask for 65,535 repetitions (ECMA-48 REP). Programs use it to fill the rest of a
/// row, so one row is what they get.
fn bounded_repeat(function: Function, columns: usize) -> Function {
    match function {
        Function::Rep(count) => {
            Function::Rep(count.min(u16::try_from(columns).unwrap_or(u16::MAX)))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SCROLLBACK_ROWS: usize = 50;

    fn shown(emulator: &mut Emulator) -> (Vec<String>, (usize, usize)) {
        let terminal = emulator.terminal_mut();
        let cursor = terminal.cursor();
        let rows = terminal
            .screen()
            .visible_lines()
            .map(avt::Line::text)
            .collect();
        (rows, (cursor.col, cursor.row))
    }

    #[test]
    fn given_a_prompt_when_the_screen_rests_then_it_takes_a_fraction_of_the_memory() {
        let mut emulator = Emulator::new(80, 24, SCROLLBACK_ROWS).unwrap();
        emulator.feed(b"Welcome\r\nroot@web-1:~# ", &mut Unseen);
        emulator.rest(SCROLLBACK_ROWS);
        assert!(emulator.is_resting());
        let drawing = &emulator.resting.as_ref().unwrap().drawing;
        assert!(
            drawing.len() < 1_000,
            "{} bytes: {drawing:?}",
            drawing.len()
        );
        let (rows, cursor) = shown(&mut emulator);
        assert_eq!((rows[1].trim_end(), cursor), ("root@web-1:~#", (14, 1)));
    }

    #[test]
    fn given_much_plain_output_when_it_was_not_looked_at_then_the_end_of_it_is_shown() {
        let mut later = Emulator::new(80, 24, SCROLLBACK_ROWS).unwrap();
        let mut drawn = Emulator::new(80, 24, SCROLLBACK_ROWS).unwrap();
        for number in 0..40_000 {
            let line = format!("line {number}\r\n");
            later.feed_later(line.as_bytes());
            drawn.feed(line.as_bytes(), &mut Unseen);
            assert!(later.later.len() <= LATER_BYTES_MAX + line.len());
        }
        later.feed_later(b"$ ");
        drawn.feed(b"$ ", &mut Unseen);
        assert_eq!(shown(&mut later), shown(&mut drawn));
    }

    #[test]
    fn given_output_that_changes_the_screen_when_it_was_not_looked_at_then_nothing_is_skipped() {
        for change in ["\x1b[?1049h", "\u{9b}?1049h", "\x1b[3;10r"] {
            let mut later = Emulator::new(80, 24, SCROLLBACK_ROWS).unwrap();
            let mut drawn = Emulator::new(80, 24, SCROLLBACK_ROWS).unwrap();
            let plain = "plain text\r\n".repeat(3_000);
            for piece in [plain.as_str(), change, &plain, &plain, &plain] {
                later.feed_later(piece.as_bytes());
                drawn.feed(piece.as_bytes(), &mut Unseen);
            }
            later.catch_up();
            assert_eq!(
                later.terminal().active_screen_kind(),
                drawn.terminal().active_screen_kind()
            );
            assert_eq!(shown(&mut later), shown(&mut drawn), "{change:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn given_any_output_when_the_screen_rests_in_between_then_it_shows_the_same(
            pieces in prop::collection::vec("([ -~éλ漢]|\r|\n|\t|\x08|\x1b\\[[0-9]{0,2}[A-HJKLMPX@m]){0,60}", 1..6),
            columns in 2_u32..90, rows in 2_u32..30,
        ) {
            let mut resting = Emulator::new(columns, rows, SCROLLBACK_ROWS).unwrap();
            let mut awake = Emulator::new(columns, rows, SCROLLBACK_ROWS).unwrap();
            for piece in &pieces {
                resting.feed_later(piece.as_bytes());
                resting.rest(SCROLLBACK_ROWS);
                awake.feed(piece.as_bytes(), &mut Unseen);
            }
            prop_assert_eq!(shown(&mut resting), shown(&mut awake));
        }
    }
}
