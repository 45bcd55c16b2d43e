//! Many rows into one table with few statements: what a statement costs beside its rows is most of its price.
//!
//! INVARIANT: the number of different texts is small and fixed, so that each is prepared once per connection.

use std::sync::OnceLock;

/// Rows of the statements there are, most first.
const SIZES: [usize; 6] = [32, 16, 8, 4, 2, 1];

/// The texts that insert rows of `columns` values each.
#[derive(Debug)]
pub struct RowsInsert {
    /// `INSERT INTO table (column, …)`.
    head: &'static str,
    columns: usize,
    texts: OnceLock<[&'static str; SIZES.len()]>,
}

impl RowsInsert {
    /// `head` is the statement up to its columns, of which there are so many.
    #[must_use]
    pub const fn new(head: &'static str, columns: usize) -> Self {
        Self {
            head,
            columns,
            texts: OnceLock::new(),
        }
    }

    /// The rows in their order, each piece with the statement that takes its values one row after the other.
    pub fn pieces<'a, T>(&'a self, rows: &'a [T]) -> impl Iterator<Item = (&'static str, &'a [T])> {
        let mut rest = rows;
        std::iter::from_fn(move || {
            let (size, text) = SIZES
                .iter()
                .zip(self.texts())
                .find(|(size, _)| **size <= rest.len())?;
            let (piece, after) = rest.split_at_checked(*size)?;
            rest = after;
            Some((*text, piece))
        })
    }

    fn texts(&self) -> &[&'static str; SIZES.len()] {
        // Leaked once each: a few short texts for the life of the process.
        self.texts
            .get_or_init(|| SIZES.map(|rows| &*Box::leak(self.text(rows).into_boxed_str())))
    }

    fn text(&self, rows: usize) -> String {
        let row = |row: usize| {
            let first = row.saturating_mul(self.columns);
            let values: Vec<String> = (1..=self.columns)
                .map(|column| format!("${}", first.saturating_add(column)))
                .collect();
            format!("({})", values.join(", "))
        };
        let rows: Vec<String> = (0..rows).map(row).collect();
        format!("{} VALUES {}", self.head, rows.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// AU-6
    #[test]
    fn given_any_number_of_rows_then_each_is_in_one_piece_and_in_order() {
        let insert = RowsInsert::new("INSERT INTO t (a, b)", 2);
        for count in [0_usize, 1, 3, 31, 32, 33, 100] {
            let rows: Vec<usize> = (0..count).collect();
            let mut taken = Vec::new();
            for (text, piece) in insert.pieces(&rows) {
                assert_eq!(text.matches('(').count(), piece.len() + 1, "{text}");
                taken.extend_from_slice(piece);
            }
            assert_eq!(taken, rows);
        }
        let (text, _) = insert.pieces(&[7, 8]).next().unwrap();
        assert_eq!(text, "INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4)");
    }
}
