//! The audit log of the running node: takes new entries into the Merkle tree and signs checkpoints.
//!
//! Entries are written by `kernel::writer` in the transaction of what they record; from there on they
//! are durable and have their number. This slice follows behind, at most a second.
//!
//! INVARIANT: a checkpoint is signed only over a tree that contains the last signed one unchanged; a
//! store whose leaves disagree with its last checkpoint does not start.
//!
//! Not here: what an event is (`sallyport-core`), proofs and verification (`sallyport-evidence`).

pub mod api;
mod integrate;
mod store;

pub use integrate::{IntegrateError, Log, lag, start};
pub use store::entries_about;
