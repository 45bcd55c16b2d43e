//! Asking for access and having it: requests, votes, grants, break-glass and its reviews.
//!
//! INVARIANT: every rule is core's; this slice loads facts, asks, and commits the answer with its
//! record. What a grant's end must end (sessions, leases) is done by `broker` in the same call.

pub mod api;
pub mod facts;
pub mod jobs;
mod store;
pub mod workflow;

pub use store::{grant_by_id, live_grant, pending_request, request_by_id};
