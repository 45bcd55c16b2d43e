//! The prepared statements of one session, by the target's numbers.
//!
//! INVARIANT: a number stands for the text that the target has under it, or for nothing; what nobody knows
//! the text of is not executed.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    limits::{PREPARED_BYTES_MAX, PREPARED_MAX},
    operations::Text,
    running::Running,
    values::{Ahead, Type},
};

/// A prepared statement.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) text: Arc<Text>,
    /// How many parameters it takes.
    pub(super) parameters: u16,
    /// Their types, as the client said last.
    pub(super) types: Vec<Type>,
    /// Values sent ahead of the next execution, by position.
    pub(super) ahead: BTreeMap<u16, Ahead>,
    /// Its execution, while its rows are fetched by further commands.
    pub(super) cursor: Option<Box<Running>>,
}

/// All of a session's.
#[derive(Debug, Default)]
pub(super) struct Statements {
    by_number: HashMap<u32, Statement>,
    /// Bytes of their texts.
    bytes: usize,
}

impl Statements {
    /// Whether one more may be prepared.
    pub(super) fn has_room_for(&self, text: &Text) -> bool {
        self.by_number.len() < PREPARED_MAX
            && self.bytes.saturating_add(text.len()) < PREPARED_BYTES_MAX
    }

    pub(super) fn add(&mut self, number: u32, text: Arc<Text>, parameters: u16) {
        self.close(number);
        self.bytes = self.bytes.saturating_add(text.len());
        self.by_number.insert(
            number,
            Statement {
                text,
                parameters,
                types: Vec::new(),
                ahead: BTreeMap::new(),
                cursor: None,
            },
        );
    }

    pub(super) fn get(&mut self, number: u32) -> Option<&mut Statement> {
        self.by_number.get_mut(&number)
    }

    /// Forgets one; the rows that it had not given yet are given up.
    pub(super) fn close(&mut self, number: u32) {
        if let Some(mut statement) = self.by_number.remove(&number) {
            self.bytes = self.bytes.saturating_sub(statement.text.len());
            statement.end_cursor();
        }
    }

    /// Forgets all, as when the session begins anew at the target.
    pub(super) fn close_all(&mut self) {
        for statement in self.by_number.values_mut() {
            statement.end_cursor();
        }
        *self = Self::default();
    }
}

impl Statement {
    /// The client wants no more of its rows.
    pub(super) fn end_cursor(&mut self) {
        if let Some(running) = self.cursor.take() {
            running.finish();
        }
    }
}
