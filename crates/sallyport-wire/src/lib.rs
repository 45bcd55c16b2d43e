//! Recognises a target over TLS and proves a password to it: what a gateway does before it injects a
//! credential, and what a secrets engine does before it makes one.
//!
//! INVARIANT: both ask the same code whom they believe, so a target that a session would refuse is never
//! trusted with the credential that makes credentials.
//!
//! Not here: connections and messages. Nothing in this crate reads or writes a stream.

#![warn(missing_docs)]

pub mod scram;
pub mod scramble;
pub mod trust;
