//! Locks: stop a person, an account, a target or everything, at once and for live sessions too.
//!
//! INVARIANT: adding a lock ends what it stops before the call returns to the caller's next breath:
//! the end is pushed to the gateways in the same call that committed the lock.

pub mod api;
mod store;
pub mod workflow;

pub use store::in_force;
