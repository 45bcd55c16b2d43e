//! The terminal a person looked at, rebuilt from what was sent to it.
//!
//! Transcripts and command capture feed a channel's output in here and read the screen. It
//! answers no query and acts on no request of the stream: it has no way to write anywhere.
//!
//! INVARIANT: work and memory are proportional to the bytes fed, within the size limits below. A
//! hostile stream can garble its own screen and nothing else.
//!
//! Not here: what is made of the screen (`transcript`, `command`).

use avt::observer::Observer;
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
}

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
        })
    }

    /// Puts the screen away until it is needed again, in a few bytes for what is drawn on it. What had
    /// scrolled off is forgotten, and anchors with it. A screen of a full-screen program stays: it is
    /// drawn on all the time.
    pub(super) fn rest(&mut self, scrollback_rows: usize) {
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
        self.new_size = Some(bounded(columns, rows));
    }

    /// Shows `bytes`; returns what `observer` made of each step, a pending resize first.
    pub(super) fn feed<O: Observer>(&mut self, bytes: &[u8], observer: &mut O) -> Vec<O::Output> {
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

    /// The screen as it is: while it rests, an empty stand-in.
    pub(super) fn terminal(&self) -> &Terminal {
        &self.terminal
    }

    pub(super) fn terminal_mut(&mut self) -> &mut Terminal {
        self.wake();
        &mut self.terminal
    }
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

    struct Ignore;

    impl Observer for Ignore {
        type Output = ();
        fn end(&mut self, _: &mut avt::observer::Observation<'_>) {}
    }

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
        emulator.feed(b"Welcome\r\nroot@web-1:~# ", &mut Ignore);
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
                resting.feed(piece.as_bytes(), &mut Ignore);
                resting.rest(SCROLLBACK_ROWS);
                awake.feed(piece.as_bytes(), &mut Ignore);
            }
            prop_assert_eq!(shown(&mut resting), shown(&mut awake));
        }
    }
}
