//! The audit log.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// `GET /v1/audit/entries`: oldest first from `from`, or the newest when absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct EntriesQuery {
    /// First sequence number.
    pub from: Option<u64>,
    /// Entries, 1 to 1,000; 100 when absent.
    pub limit: Option<u32>,
    /// Only this event name, such as `session.opened`.
    pub event: Option<String>,
    /// Only entries whose actor or subject is this id.
    pub about: Option<String>,
}

/// A stretch of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Entries {
    /// Canonical entries, as their exact text.
    pub entries: Vec<String>,
    /// First sequence number after these.
    pub next: u64,
}

/// `GET /v1/audit/checkpoint`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckpointView {
    /// The newest signed checkpoint, as its exact text.
    pub checkpoint: String,
    /// The log's verifier key.
    pub verifier_key: String,
}
