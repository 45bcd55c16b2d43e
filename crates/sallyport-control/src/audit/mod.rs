//! The audit log of the running node: takes new entries into the Merkle tree, signs checkpoints, makes
//! proofs, answers auditors.
//!
//! Entries are written by `kernel::writer` in the transaction of what they record; from there on they
//! are durable and have their number. This slice follows behind, at most a second.
//!
//! INVARIANT: a checkpoint is signed only over a tree that contains the last signed one unchanged; a
//! store whose entries or tiles disagree with its last checkpoint does not start, nor does one that is
//! older than the checkpoint kept beside the key.
//!
//! Not here: what an event is (`sallyport-core`), the tree and verification (`sallyport-evidence`).

pub mod api;
mod check;
mod integrate;
mod kept;
mod proof;
mod store;
mod tiles;

pub use check::LogFault;
pub use integrate::{Following, IntegrateError, Log, lag, start};
pub(crate) use kept::refuse_lost_store;
pub use kept::{AcceptError, AcceptedRestore, accept_restore};
pub use proof::{ProofError, consistency, inclusion};
pub use store::entries_about;
