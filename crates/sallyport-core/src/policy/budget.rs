//! What statements may take before they are cut off.
//!
//! INVARIANT: the smaller of two limits holds; the absence of one is no limit.

use serde::{Deserialize, Serialize};

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// Rows that one statement's result has.
    StatementRows,
    /// Bytes that one statement's result takes on the wire.
    StatementBytes,
    /// Seconds that one statement runs.
    StatementSeconds,
    /// Rows of all results under one grant.
    GrantRows,
    /// Bytes of all results under one grant.
    GrantBytes,
}

/// Limits of a session's statements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budgets {
    /// Rows of one result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statement_rows: Option<u64>,
    /// Bytes of one result on the wire.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statement_bytes: Option<u64>,
    /// Seconds of one statement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statement_seconds: Option<u64>,
    /// Rows of all results under the grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant_rows: Option<u64>,
    /// Bytes of all results under the grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant_bytes: Option<u64>,
}

impl Budgets {
    /// Whether there is no limit.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// These limits and one more.
    #[must_use]
    pub fn with(mut self, of: Budget, most: u64) -> Self {
        let limit = match of {
            Budget::StatementRows => &mut self.statement_rows,
            Budget::StatementBytes => &mut self.statement_bytes,
            Budget::StatementSeconds => &mut self.statement_seconds,
            Budget::GrantRows => &mut self.grant_rows,
            Budget::GrantBytes => &mut self.grant_bytes,
        };
        *limit = Some(limit.map_or(most, |known| known.min(most)));
        self
    }

    /// These limits and those, the smaller of each.
    #[must_use]
    pub fn strictest(self, other: &Self) -> Self {
        let all = [
            (Budget::StatementRows, other.statement_rows),
            (Budget::StatementBytes, other.statement_bytes),
            (Budget::StatementSeconds, other.statement_seconds),
            (Budget::GrantRows, other.grant_rows),
            (Budget::GrantBytes, other.grant_bytes),
        ];
        all.into_iter()
            .filter_map(|(of, most)| Some((of, most?)))
            .fold(self, |budgets, (of, most)| budgets.with(of, most))
    }
}
