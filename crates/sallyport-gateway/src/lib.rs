//! The enforcement point: lets a client reach a target only through a permit, and records what
//! passed.
//!
//! A gateway faces clients and targets, both hostile. It asks the control plane ([`control`]) for
//! every decision, hands protocols a [`door::Door`] before authorization and a
//! [`session::Session`] after it, and ends a session whose grant, recorder or control plane is
//! gone.
//!
//! INVARIANT: no path leads from a client's bytes to a target except through a [`session::Session`],
//! and no session exists without a verified permit and an open recording.
//!
//! Not here: secrets at rest, SQL and policy text (the crate cannot name them), who may do what
//! (`sallyport-core`, asked through control and again for each operation).

pub mod config;
pub mod control;
pub mod dial;
pub mod directives;
pub mod door;
pub mod enforce;
pub mod live;
pub mod outbox;
pub mod protocols;
pub mod recorder;
mod redaction;
pub mod rpc;
pub mod sealing;
pub mod session;
pub mod spool;
pub mod statement;
pub mod stream;
pub mod tasks;
pub mod tls;

mod connection;
mod listener;
mod node;
mod run;
#[cfg(test)]
mod testing;

pub use run::{Gateway, GatewayError, run};
