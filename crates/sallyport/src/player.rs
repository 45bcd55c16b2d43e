//! Plays recordings and live sessions in the person's terminal.
//!
//! What a target once sent is not sent on: it would set titles, write the clipboard, and ask the
//! terminal questions whose answers arrive as keystrokes. It is drawn on an emulated screen, and only
//! what that screen shows is painted, with sequences made here.
//!
//! INVARIANT: the only control sequences written are those of this file: cursor position, erase line,
//! colours, wrap and cursor visibility (security class K5).
//!
//! Not here: reading casts (`cast`), making them (`sallyport-evidence`).

use std::{fmt::Write as _, io::IsTerminal as _, time::Duration};

use avt::{Color, Parser, Pen, Terminal, observer::DirtyRows, parser::Function};
use sallyport_api::rest::recording::ContentQuery;
use sallyport_evidence::recording::escape_controls;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cast::{CastReader, What},
    client::Client,
    context::Context,
    failure::Failure,
    output::write_out,
};

/// Larger terminals are emulated at this size: each cell costs time and memory.
const COLUMNS_MAX: usize = 640;
const ROWS_MAX: usize = 200;

/// How fast to play.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    speed: f64,
    pause_max: Option<Duration>,
}

impl Pace {
    /// So many times as fast, pauses cut to so many seconds.
    pub fn new(speed: f64, pause_max_s: Option<u32>) -> Self {
        Self {
            speed,
            pause_max: pause_max_s.map(|seconds| Duration::from_secs(u64::from(seconds))),
        }
    }

    fn pause(self, after: Duration) -> Duration {
        let kept = self.pause_max.map_or(after, |most| after.min(most));
        Duration::try_from_secs_f64(kept.as_secs_f64() / self.speed).unwrap_or(kept)
    }
}

/// Plays a recording from its beginning.
pub async fn play(
    context: &Context,
    client: &Client,
    recording_id: &str,
    channel: Option<u32>,
    pace: Pace,
) -> Result<(), Failure> {
    show(context, client, recording_id, channel, Some(pace)).await
}

/// Shows a live session: what was recorded at once, what is recorded from now on as it comes.
pub async fn watch(
    context: &Context,
    client: &Client,
    recording_id: &str,
    channel: Option<u32>,
) -> Result<(), Failure> {
    show(context, client, recording_id, channel, None).await
}

async fn show(
    context: &Context,
    client: &Client,
    recording_id: &str,
    channel: Option<u32>,
    pace: Option<Pace>,
) -> Result<(), Failure> {
    if !std::io::stdout().is_terminal() {
        return Err(Failure::usage(
            "standard output is no terminal to play in",
            "write it as text: `sallyport recording export --format transcript`",
        ));
    }
    let query = ContentQuery {
        format: Some("asciicast-v3".to_owned()),
        channel,
        follow: pace.is_none(),
    };
    let path = ["recordings", recording_id, "content"];
    let mut content = client.stream(&path, &query).await?;
    let mut reader = CastReader::default();
    let mut screen = Painter::new(window());
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(|error| Failure::of_stream(&error))?;
    write_out(screen.begin())?;
    let playing = async {
        while let Some(piece) = content.next().await? {
            for step in reader.push(&piece)? {
                if let Some(pace) = pace {
                    tokio::time::sleep(pace.pause(step.after)).await;
                }
                write_out(&screen.step(step.what))?;
            }
        }
        Ok(())
    };
    let outcome = tokio::select! {
        outcome = playing => outcome,
        // Whoever plays may leave at any time; the terminal is put right before.
        _ = interrupt.recv() => Ok(()),
    };
    write_out(&screen.end())?;
    context.output.note("")?;
    outcome
}

/// Columns and rows of the person's terminal.
pub fn window() -> (usize, usize) {
    terminal_size::terminal_size().map_or((80, 24), |(columns, rows)| {
        (usize::from(columns.0), usize::from(rows.0))
    })
}

/// The emulated screen, and what of it is painted.
pub struct Painter {
    parser: Parser,
    terminal: Option<Terminal>,
    dirty: DirtyRows,
    window: (usize, usize),
}

impl Painter {
    /// Nothing is painted yet; `window` is columns and rows to paint in.
    pub fn new(window: (usize, usize)) -> Self {
        Self {
            parser: Parser::new(),
            terminal: None,
            dirty: DirtyRows::new(),
            window,
        }
    }

    /// An empty screen that does not wrap.
    pub const fn begin(&self) -> &'static str {
        "\x1b[0m\x1b[2J\x1b[H\x1b[?7l"
    }

    /// The terminal as it was, the cursor below what was shown.
    pub fn end(&self) -> String {
        let (_, rows) = self.window;
        format!("\x1b[0m\x1b[?7h\x1b[?25h\x1b[{rows};1H")
    }

    /// What to write so that the person sees the step.
    pub fn step(&mut self, what: What) -> String {
        match what {
            What::Sized { columns, rows } => self.size(columns, rows),
            What::Shown(text) => self.show(&text),
            What::Other => String::new(),
        }
    }

    fn size(&mut self, columns: usize, rows: usize) -> String {
        let (columns, rows) = (columns.clamp(1, COLUMNS_MAX), rows.clamp(1, ROWS_MAX));
        match &mut self.terminal {
            Some(terminal) => {
                terminal.resize_with(columns, rows, &mut self.dirty);
            }
            None => self.terminal = Terminal::new(columns, rows).ok(),
        }
        let all: Vec<usize> = (0..rows).collect();
        self.paint(&all)
    }

    fn show(&mut self, text: &str) -> String {
        let Some(terminal) = &mut self.terminal else {
            return String::new();
        };
        let (columns, _) = terminal.size();
        let parser = &mut self.parser;
        let functions = text
            .chars()
            .filter_map(|character| parser.feed(character))
            .map(|function| bounded(function, columns));
        let rows = terminal.execute_with(functions, &mut self.dirty);
        self.paint(&rows)
    }

    fn paint(&self, rows: &[usize]) -> String {
        let Some(terminal) = &self.terminal else {
            return String::new();
        };
        let (window_columns, window_rows) = self.window;
        let screen = terminal.screen();
        let mut painted = String::new();
        for row in rows.iter().copied().filter(|row| *row < window_rows) {
            let Some(line) = screen.line(row) else {
                continue;
            };
            // Writing to a string cannot fail.
            let _ = write!(painted, "\x1b[{};1H\x1b[0m\x1b[2K", row.saturating_add(1));
            let mut pen = Pen::default();
            for cell in line.cells().iter().take(window_columns) {
                if cell.width() == 0 {
                    continue;
                }
                if *cell.pen() != pen {
                    pen = *cell.pen();
                    paint_pen(&mut painted, &pen);
                }
                painted.push(visible(cell.char()));
            }
        }
        let cursor = terminal.cursor();
        let shown = if cursor.visible { 'h' } else { 'l' };
        let row = cursor.row.saturating_add(1).min(window_rows);
        let column = cursor.col.saturating_add(1).min(window_columns);
        let _ = write!(painted, "\x1b[0m\x1b[{row};{column}H\x1b[?25{shown}");
        painted
    }
}

/// Eight bytes can ask for 65,535 repetitions; a row of them is all that a screen can show.
fn bounded(function: Function, columns: usize) -> Function {
    match function {
        Function::Rep(count) => {
            Function::Rep(count.min(u16::try_from(columns).unwrap_or(u16::MAX)))
        }
        other => other,
    }
}

/// A character that shows as itself and does nothing else.
fn visible(character: char) -> char {
    let mut buffer = [0_u8; 4];
    match escape_controls(character.encode_utf8(&mut buffer)) {
        std::borrow::Cow::Borrowed(_) => character,
        std::borrow::Cow::Owned(_) => char::REPLACEMENT_CHARACTER,
    }
}

fn paint_pen(painted: &mut String, pen: &Pen) {
    painted.push_str("\x1b[0");
    for (is_set, code) in [
        (pen.is_bold(), ";1"),
        (pen.is_faint(), ";2"),
        (pen.is_italic(), ";3"),
        (pen.is_underline(), ";4"),
        (pen.is_inverse(), ";7"),
        (pen.is_strikethrough(), ";9"),
    ] {
        if is_set {
            painted.push_str(code);
        }
    }
    for (color, code) in [(pen.foreground(), 38), (pen.background(), 48)] {
        // Writing to a string cannot fail.
        let _ = match color {
            Some(Color::Indexed(index)) => write!(painted, ";{code};5;{index}"),
            Some(Color::RGB(rgb)) => write!(painted, ";{code};2;{};{};{}", rgb.r, rgb.g, rgb.b),
            None => Ok(()),
        };
    }
    painted.push('m');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn painter() -> Painter {
        let mut painter = Painter::new((80, 24));
        painter.step(What::Sized {
            columns: 80,
            rows: 24,
        });
        painter
    }

    /// What is left of a painting once our own sequences are taken out.
    fn without_ours(painted: &str) -> String {
        let mut left = String::new();
        let mut rest = painted;
        while let Some((before, after)) = rest.split_once("\x1b[") {
            left.push_str(before);
            let final_and_rest =
                after.trim_start_matches(|c: char| matches!(c, '0'..='9' | ';' | '?'));
            assert!(
                final_and_rest.starts_with(['H', 'K', 'J', 'm', 'h', 'l']),
                "{after:?}"
            );
            rest = final_and_rest.get(1..).unwrap();
        }
        left.push_str(rest);
        left
    }

    /// Security K5: titles, clipboard, queries, and text that turns around.
    #[test]
    fn given_hostile_output_then_no_sequence_of_it_reaches_the_terminal() {
        for hostile in [
            "\x1b]0;title\x07",
            "\x1b]52;c;ZXZpbA==\x07",
            "\x1b[6n\x1b[c\x1b[>c\x1b[0x\x1bZ",
            "\x1bP$q\"p\x1b\\",
            "\x1b[?1049h\x1b[?2004h\x1b[21t",
            "\u{9b}6n\u{9d}0;x\u{9c}",
            "abc\u{202e}def\u{200b}",
            "\x05\x07\x0e\x0f\x7f",
        ] {
            let painted = painter().step(What::Shown(hostile.to_owned()));
            let left = without_ours(&painted);
            assert!(
                left.chars().all(|c| visible(c) == c),
                "{hostile:?} left {left:?}"
            );
        }
    }

    /// RE-1
    #[test]
    fn given_text_and_colour_then_they_are_painted_where_the_target_put_them() {
        let painted = painter().step(What::Shown("\x1b[3;5H\x1b[1;31mred\x1b[0m ä".to_owned()));
        assert!(painted.contains("\x1b[3;1H\x1b[0m\x1b[2K"), "{painted:?}");
        assert!(
            painted.contains("\x1b[0;1;38;5;1mred\x1b[0m ä"),
            "{painted:?}"
        );
    }

    #[test]
    fn given_a_smaller_window_then_nothing_is_painted_outside_it() {
        let mut painter = Painter::new((10, 2));
        painter.step(What::Sized {
            columns: 80,
            rows: 24,
        });
        let painted = painter.step(What::Shown(format!("{}\x1b[20;1Hbelow", "x".repeat(80))));
        assert!(!painted.contains("below") && !painted.contains("\x1b[20;"));
        assert_eq!(without_ours(&painted).matches('x').count(), 10);
    }

    #[test]
    fn pauses_are_cut_and_then_shortened() {
        let pace = Pace::new(2.0, Some(3));
        assert_eq!(
            pace.pause(Duration::from_secs(60)),
            Duration::from_millis(1_500)
        );
        assert_eq!(pace.pause(Duration::from_secs(2)), Duration::from_secs(1));
    }
}
