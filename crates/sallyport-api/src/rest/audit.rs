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

/// `GET /v1/audit/proofs/inclusion`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct InclusionQuery {
    /// Sequence number of the entry.
    pub index: u64,
    /// Entries of the log to prove it in; the newest signed state when absent.
    pub size: Option<u64>,
}

/// Proof that an entry is in the log (RFC 9162 section 2.1.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InclusionProofView {
    /// Sequence number of the entry.
    pub index: u64,
    /// Entries of the log.
    pub size: u64,
    /// Siblings from the leaf to the root, lower-case hex.
    pub path: Vec<String>,
}

/// `GET /v1/audit/proofs/consistency`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ConsistencyQuery {
    /// Entries of the earlier state.
    pub from: u64,
    /// Entries of the later state; the newest signed one when absent.
    pub size: Option<u64>,
}

/// Proof that a state of the log continues an earlier one (RFC 9162 section 2.1.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConsistencyProofView {
    /// Entries of the earlier state.
    pub from: u64,
    /// Entries of the later state.
    pub size: u64,
    /// Nodes that both roots are computed from, lower-case hex.
    pub path: Vec<String>,
}
