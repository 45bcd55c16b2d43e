//! What commands print: tables for people, JSON for programs.
//!
//! INVARIANT: a table is at most 80 columns wide, and nothing is printed with a control or
//! direction-changing character in it, whoever it came from (security class K5).
//!
//! Not here: failures (`failure`), terminal sessions (`player`).

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use clap::ValueEnum;
use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets};
use sallyport_core::time::Timestamp;
use sallyport_evidence::recording::escape_controls;
use serde::Serialize;

use crate::failure::Failure;

/// Widest table, in columns.
const WIDTH: u16 = 80;

/// Who reads the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// People.
    #[default]
    Table,
    /// Programs.
    Json,
}

/// Where commands print.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    format: Format,
}

/// One column of a table.
pub struct Column<T> {
    heading: &'static str,
    is_whole: bool,
    cell: fn(&T) -> String,
}

impl<T> Column<T> {
    /// A column that may wrap.
    pub const fn new(heading: &'static str, cell: fn(&T) -> String) -> Self {
        Self {
            heading,
            is_whole: false,
            cell,
        }
    }

    /// A column that never wraps, such as an id, which people copy.
    pub const fn whole(heading: &'static str, cell: fn(&T) -> String) -> Self {
        Self {
            heading,
            is_whole: true,
            cell,
        }
    }
}

impl Output {
    /// Output in this format.
    pub const fn new(format: Format) -> Self {
        Self { format }
    }

    /// Who reads it.
    pub const fn format(self) -> Format {
        self.format
    }

    /// Prints a list: a table, or a JSON array.
    pub fn list<T: Serialize>(self, items: &[T], columns: &[Column<T>]) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.json(&items),
            Format::Table if items.is_empty() => self.note("none"),
            Format::Table => write_out(&format!("{}\n", table(items, columns))),
        }
    }

    /// Prints one thing: a line for each of its fields, or a JSON object.
    pub fn record<T: Serialize>(self, item: &T, fields: &[(&str, String)]) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.json(item),
            Format::Table => write_out(&record_text(fields)),
        }
    }

    /// Prints one line that says what was done, or the thing as a JSON object.
    pub fn done<T: Serialize>(self, item: &T, line: &str) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.json(item),
            Format::Table => self.line(line),
        }
    }

    /// Prints one line, in every format.
    pub fn line(self, line: &str) -> Result<(), Failure> {
        write_out(&format!("{}\n", escape_controls(line)))
    }

    /// Prints text as it is, tabs and line ends included, other control characters escaped.
    pub fn text(self, text: &str) -> Result<(), Failure> {
        let mut clean = String::with_capacity(text.len());
        for line in text.lines() {
            // Tabs move the cursor and nothing else.
            let cells: Vec<_> = line.split('\t').map(escape_controls).collect();
            // Writing to a string cannot fail.
            let _ = writeln!(clean, "{}", cells.join("\t"));
        }
        write_out(&clean)
    }

    /// A remark for people, on standard error, so that it never mixes with what programs read.
    pub fn note(self, line: &str) -> Result<(), Failure> {
        if self.format == Format::Json {
            return Ok(());
        }
        writeln!(io::stderr(), "{}", escape_controls(line))
            .map_err(|error| Failure::of_stream(&error))
    }

    fn json<T: Serialize>(self, value: &T) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| Failure::of(&error, "report this: the value cannot be printed"))?;
        write_out(&format!("{}\n", json_text(&text)))
    }
}

/// Writes to standard output. A reader that left, such as `head`, is no failure.
pub fn write_out(text: &str) -> Result<(), Failure> {
    write_bytes(text.as_bytes())
}

/// As [`write_out`], for bytes that are no text.
pub fn write_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::of_stream(&error)),
        _ => Ok(()),
    }
}

fn table<T>(items: &[T], columns: &[Column<T>]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH)
        .set_header(columns.iter().map(|column| column.heading));
    for item in items {
        table.add_row(
            columns
                .iter()
                .map(|column| escape_controls(&(column.cell)(item)).into_owned()),
        );
    }
    for (column, shown) in columns.iter().zip(table.column_iter_mut()) {
        shown.set_padding((0, 2));
        if column.is_whole {
            shown.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table
}

fn record_text(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in fields {
        let mut name = *name;
        for line in value.lines() {
            let _ = writeln!(text, "{name:width$}  {}", escape_controls(line));
            name = "";
        }
    }
    text
}

/// JSON that is safe to print: what is not plain text inside its strings becomes `\u…`, which means
/// the same.
pub fn json_text(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        let mut buffer = [0_u8; 4];
        // Line ends and blanks between values are the only controls JSON has outside its strings, and
        // inside them it has none that are not escaped already.
        let is_plain = character == '\n'
            || matches!(
                escape_controls(character.encode_utf8(&mut buffer)),
                std::borrow::Cow::Borrowed(_)
            );
        if is_plain {
            text.push(character);
        } else {
            let mut units = [0_u16; 2];
            for unit in character.encode_utf16(&mut units) {
                let _ = write!(text, "\\u{unit:04x}");
            }
        }
    }
    text
}

/// A time as tables show it: to the minute, in UTC.
pub fn minute(at: Timestamp) -> String {
    let text = at.to_string();
    match (text.get(..10), text.get(11..16)) {
        (Some(day), Some(minute)) => format!("{day} {minute}"),
        _ => text,
    }
}

/// A number of bytes for people.
pub fn size(bytes: u64) -> String {
    const STEPS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    for (unit, step) in STEPS {
        if bytes >= step {
            let tenths = bytes.saturating_mul(10) / step;
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} B")
}

/// Names, or a dash when there is none.
pub fn joined(names: &[String]) -> String {
    if names.is_empty() {
        "-".to_owned()
    } else {
        names.join(", ")
    }
}

/// Text, or a dash when there is none.
pub fn or_dash(text: Option<&str>) -> String {
    match text {
        None | Some("") => "-".to_owned(),
        Some(text) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Row {
        id: String,
        reason: String,
    }

    fn row(reason: &str) -> Row {
        Row {
            id: "ses_01kb2v0000000000000000000a".to_owned(),
            reason: reason.to_owned(),
        }
    }

    const COLUMNS: [Column<Row>; 2] = [
        Column::whole("ID", |row| row.id.clone()),
        Column::new("REASON", |row| row.reason.clone()),
    ];

    #[test]
    fn given_long_text_then_a_table_stays_within_80_columns_and_ids_stay_whole() {
        let table = table(&[row(&"very long words ".repeat(20))], &COLUMNS).to_string();
        assert!(
            table
                .lines()
                .all(|line| line.trim_end().chars().count() <= 80),
            "{table}"
        );
        assert!(table.contains("ses_01kb2v0000000000000000000a"), "{table}");
    }

    /// Security K5
    #[test]
    fn given_a_terminal_sequence_in_a_field_then_no_table_or_record_lets_it_through() {
        let hostile = "\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}";
        let table = table(&[row(hostile)], &COLUMNS).to_string();
        let record = record_text(&[("reason", format!("one\n{hostile}"))]);
        for text in [table, record] {
            assert!(
                text.chars()
                    .all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'),
                "{text:?}"
            );
        }
    }

    /// Security K5
    #[test]
    fn given_a_terminal_sequence_in_json_then_it_is_escaped_and_means_the_same() {
        let value = serde_json::json!({"reason": "\u{1b}[2J\u{9b}\u{7f}\u{202e}\u{e0001} ä"});
        let text = json_text(&serde_json::to_string_pretty(&value).unwrap());
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text}");
        assert!(!text.contains('\u{202e}') && text.contains('ä'), "{text}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap(),
            value
        );
    }

    #[test]
    fn sizes_and_times_are_short_enough_to_read() {
        assert_eq!(size(1_023), "1023 B");
        assert_eq!(size(1_536), "1.5 KiB");
        assert_eq!(
            minute(Timestamp::from_unix_ms(1_795_355_040_123)),
            "2026-11-22 13:44"
        );
    }
}
