//! The control plane: loads facts, asks core, commits the outcome with its record, tells who must
//! know. Vertical slices over a small kernel; each slice owns its tables, routes and jobs.
//!
//! INVARIANT: a state change commits in one transaction with at least one audit event
//! ([`kernel::transaction`]), and nothing takes effect before that commit is durable.
//!
//! Not here: rules (`sallyport-core`), Cedar (`sallyport-policy`), key material at rest
//! (`sallyport-vault`), anything that parses bytes of a target (`sallyport-gateway`).

#![warn(missing_docs)]

pub mod access;
pub mod apply;
pub mod audit;
pub mod authn;
pub mod broker;
pub mod config;
pub mod directory;
pub mod inventory;
pub mod kernel;
pub mod lock;
pub mod notify;
pub mod operation;
pub mod policy;
pub mod recording;
pub mod routes;
mod run;
pub mod secret;

pub use run::{Announcement, RunError, run};
