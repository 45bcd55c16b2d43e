//! Locks.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use sallyport_core::time::Timestamp;

/// `POST /v1/locks`. Exactly one of `person`, `target` (with or without `account`), `everything`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddLock {
    /// Person to stop.
    pub person: Option<String>,
    /// Target to stop.
    pub target: Option<String>,
    /// One account on the target only.
    pub account: Option<String>,
    /// Stop everything.
    #[serde(default)]
    pub everything: bool,
    /// Why, shown to the people it stops.
    pub reason: String,
    /// End in seconds from now; absent means until removed.
    pub ttl_s: Option<u64>,
}

/// A lock in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LockView {
    /// Id.
    pub id: String,
    /// What it stops, in words.
    pub scope: String,
    /// Why.
    pub reason: String,
    /// When it ends by itself.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
}
