//! Annotations about statements of SQL: what they may take, that they write nothing, how columns are shown.

use sallyport_core::policy::{Budget, Constraint, Masks};

use super::{
    PATTERNS_MAX, Parsed,
    measure::{duration_s, number, size},
};

/// Most rows that a limit names.
const ROWS_MAX: u64 = 1_000_000_000_000;

pub(super) fn read_only(argument: &str) -> Option<Parsed> {
    (argument == "enforced").then_some(Parsed::Constraint(Constraint::ReadOnly))
}

pub(super) fn rows(argument: &str, of: Budget) -> Option<Parsed> {
    let rows = number(argument).filter(|rows| *rows <= ROWS_MAX)?;
    Some(budget(of, rows))
}

pub(super) fn bytes(argument: &str, of: Budget) -> Option<Parsed> {
    Some(budget(of, size(argument)?))
}

pub(super) fn statement_time(argument: &str) -> Option<Parsed> {
    Some(budget(Budget::StatementSeconds, duration_s(argument)?))
}

const fn budget(of: Budget, most: u64) -> Parsed {
    Parsed::Constraint(Constraint::Budget { of, most })
}

/// One to 64 columns with how each is shown, with a bar between blanks in between.
pub(super) fn mask(argument: &str) -> Option<Parsed> {
    let mut columns = Masks::new();
    for rule in argument.split(" | ") {
        let (column, mask) = rule.split_once(" = ")?;
        let is_new = columns
            .insert(column.trim().parse().ok()?, mask.trim().parse().ok()?)
            .is_none();
        if !is_new || columns.len() > PATTERNS_MAX {
            return None;
        }
    }
    Some(Parsed::Constraint(Constraint::Mask { columns }))
}
