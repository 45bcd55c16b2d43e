//! The line of a screen that the cursor is on, and where on it typing began.

use avt::{Anchor, Position, ScreenKind, Terminal};

/// Where typing began.
pub(in super::super) struct Prompt {
    /// The first row of the line, wherever it scrolls to.
    pub(super) row: Anchor,
    /// The line's text before the cursor.
    pub(super) text: String,
}

impl Prompt {
    pub(in super::super) fn at_cursor(terminal: &mut Terminal) -> Option<Self> {
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
    pub(in super::super) fn text_after(
        &self,
        line: &CursorLine,
        terminal: &Terminal,
    ) -> Option<String> {
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
    pub(super) fn is_blank(&self) -> bool {
        self.text.trim().is_empty()
    }
}

/// The line that the cursor is on, soft-wrapped rows joined.
pub(in super::super) struct CursorLine {
    /// Its rows as avt counts them: 0 is the top of the screen, negative is scrolled off.
    pub(super) first_row: isize,
    pub(super) last_row: isize,
    before_cursor: String,
    pub(in super::super) text: String,
}

/// A pasted command of more lines than this is read without its beginning.
const MAX_BLOCK_ROWS: usize = 100;

impl CursorLine {
    /// `None` on the alternate screen.
    pub(in super::super) fn read(terminal: &Terminal) -> Option<Self> {
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
