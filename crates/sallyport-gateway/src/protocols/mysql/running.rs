//! A statement that the target has and has not finished, and what its evidence will say.

use sallyport_core::session::{OperationOutcome, StatementRecord};

use super::codec::{ServerError, Success};
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
}

impl Running {
    pub(super) fn new(operation: RunningOperation, record: StatementRecord) -> Self {
        Self {
            operation,
            record,
            rows: 0,
            bytes: 0,
            tags: Vec::new(),
        }
    }

    /// A row came back.
    pub(super) fn row(&mut self, bytes: usize) {
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
        let outcome = match has_failed {
            true => OperationOutcome::FailedAtTarget,
            false => OperationOutcome::Completed,
        };
        let result = OperationResult {
            size_bytes: (self.bytes > 0).then_some(self.bytes),
            statement: Some(self.record),
            ..OperationResult::default()
        };
        self.operation.finish(outcome, result);
    }
}
