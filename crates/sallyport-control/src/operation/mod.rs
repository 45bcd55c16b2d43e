//! Held operations: those that wait in a live session until other people agree.
//!
//! Gateways hold, wait for and give up operations (over the RPC); approvers vote (over the API);
//! `broker` gives up what still waits in a session that ends.
//!
//! INVARIANT: an operation is released to one call of the gateway that holds it, at most once, in the
//! transaction that records it; every right that it rests on is asked again in that transaction.
//!
//! Not here: which operations wait (the gateway decides that from the bundle), the evidence of
//! operations that ran (`broker`).

pub mod api;
pub mod jobs;
mod store;
pub mod workflow;

pub use workflow::withdraw_all_of_session;
