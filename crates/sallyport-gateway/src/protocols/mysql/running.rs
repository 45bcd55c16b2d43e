//! A statement that the target has and has not finished, and what its evidence will say.

use sallyport_core::{
    authz::Reason,
    session::{OperationOutcome, StatementRecord},
    time::Timestamp,
};

use super::{
    codec::{ServerError, Success},
    mask::Shape,
};
use crate::session::{OperationResult, RunningOperation};

/// Words about one message that the evidence keeps.
const TAGS_MAX: usize = 64;
/// Longest of them.
const TAG_CHARS_MAX: usize = 128;

/// A statement that runs.
#[derive(Debug)]
pub(super) struct Running {
    operation: RunningOperation,
    record: StatementRecord,
    rows: u64,
    bytes: u64,
    tags: Vec<String>,
    /// Rows that came back, without those that were changed.
    taken: u64,
    since: Timestamp,
    /// Why no more of it is passed on.
    cut: Option<Reason>,
    /// How its rows are shown, where it touches masked columns.
    shape: Option<Shape>,
}

impl Running {
    pub(super) fn new(
        operation: RunningOperation,
        record: StatementRecord,
        since: Timestamp,
        shape: Option<Shape>,
    ) -> Self {
        Self {
            shape,
            operation,
            record,
            rows: 0,
            bytes: 0,
            tags: Vec::new(),
            taken: 0,
            since,
            cut: None,
        }
    }

    /// How its rows are shown, where it touches masked columns and is not cut off.
    pub(super) fn shape(&self) -> Option<&Shape> {
        self.shape.as_ref().filter(|_| self.cut.is_none())
    }

    /// The same, to note what is known of its fields.
    pub(super) fn shape_mut(&mut self) -> Option<&mut Shape> {
        self.shape.as_mut().filter(|_| self.cut.is_none())
    }

    /// It goes on: its client asks for more rows of its cursor.
    pub(super) fn resumed(&mut self, since: Timestamp) {
        self.since = since;
    }

    /// Since when it runs, unless it is cut off.
    pub(super) fn since(&self) -> Option<Timestamp> {
        self.cut.is_none().then_some(self.since)
    }

    /// What it has taken with one more row; nothing when that does not count.
    pub(super) fn with_row(&mut self, bytes: u64) -> Option<(u64, u64)> {
        if self.cut.is_some() {
            return None;
        }
        self.taken = self.taken.saturating_add(1);
        Some((self.taken, self.bytes.saturating_add(bytes)))
    }

    /// No more of it is passed on.
    pub(super) fn cut(&mut self, reason: Reason) {
        self.cut = Some(reason);
    }

    /// A row came back.
    pub(super) fn row(&mut self, bytes: usize) {
        if self.cut.is_some() {
            return;
        }
        self.rows = self.rows.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// One of its statements, or its only one, is done.
    pub(super) fn succeeded(&mut self, success: &Success<'_>) {
        self.rows = self.rows.saturating_add(success.affected);
        let words = String::from_utf8_lossy(success.words);
        let words: String = words
            .chars()
            .filter(|c| !c.is_control())
            .take(TAG_CHARS_MAX)
            .collect();
        if !words.is_empty() && self.tags.len() < TAGS_MAX {
            self.tags.push(words);
        }
    }

    /// It, or one of its statements, failed.
    pub(super) fn failed(&mut self, error: &ServerError) {
        self.record.sqlstate = Some(error.state.clone());
    }

    /// Puts its end on record.
    pub(super) fn finish(mut self) {
        let has_failed = self.record.sqlstate.is_some();
        self.record.rows = (self.rows > 0 || !has_failed).then_some(self.rows);
        if !self.tags.is_empty() {
            self.record.tag = Some(self.tags.join("; "));
        }
        let outcome = match (self.cut, has_failed) {
            (Some(_), _) => OperationOutcome::Interrupted,
            (None, true) => OperationOutcome::FailedAtTarget,
            (None, false) => OperationOutcome::Completed,
        };
        let result = OperationResult {
            size_bytes: (self.bytes > 0).then_some(self.bytes),
            statement: Some(self.record),
            reason: self.cut,
            ..OperationResult::default()
        };
        self.operation.finish(outcome, result);
    }
}
