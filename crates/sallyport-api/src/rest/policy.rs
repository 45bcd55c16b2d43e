//! Policy bundles.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use sallyport_core::time::Timestamp;

/// A bundle as files: path within the bundle to content. Paths: `authorise/*.cedar`,
/// `require/*.cedar`, `tests/*.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BundleFiles {
    /// Files.
    pub files: BTreeMap<String, String>,
}

/// A version of the policies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BundleView {
    /// Number, dense from 1.
    pub version: u64,
    /// Hash of its content.
    pub bundle: String,
    /// Who put it into force.
    pub applied_by: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub applied_at: Timestamp,
    /// Whether it is in force.
    pub is_current: bool,
}

/// `POST /v1/policies/rollback`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// Version to bring back; the one before the current when absent.
    pub version: Option<u64>,
}

/// `POST /v1/policies/explain`: what would be decided now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Explain {
    /// Person.
    pub person: String,
    /// Account.
    pub account: String,
    /// Target.
    pub target: String,
    /// `request.create` (default) or `session.open`.
    pub action: Option<String>,
    /// Reason that would be given.
    #[serde(default)]
    pub reason: String,
    /// Ticket that would be given.
    pub ticket: Option<String>,
}

/// Answer to [`Explain`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// `permit`, `challenge` or `deny`.
    pub outcome: String,
    /// Reason codes, when denied.
    pub reasons: Vec<String>,
    /// What is missing, in words.
    pub unmet: Vec<String>,
    /// What would change the answer, in words.
    pub remedies: Vec<String>,
    /// Policies that decided.
    pub determining: Vec<String>,
    /// Policies that demanded something.
    pub demanding: Vec<String>,
    /// Bundle asked.
    pub bundle: Option<String>,
    /// Hash of the facts.
    pub facts_hash: String,
}
