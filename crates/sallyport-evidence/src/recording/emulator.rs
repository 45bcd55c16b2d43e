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
use avt::{Parser, Terminal};

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
        })
    }

    pub(super) fn resize(&mut self, columns: u32, rows: u32) {
        self.new_size = Some(bounded(columns, rows));
    }

    /// Shows `bytes`; returns what `observer` made of each step, a pending resize first.
    pub(super) fn feed<O: Observer>(&mut self, bytes: &[u8], observer: &mut O) -> Vec<O::Output> {
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

    pub(super) fn terminal(&self) -> &Terminal {
        &self.terminal
    }

    pub(super) fn terminal_mut(&mut self) -> &mut Terminal {
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
