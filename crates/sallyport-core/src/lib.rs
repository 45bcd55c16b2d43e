//! The rules of Sallyport: given facts and the time, says what is true, allowed, and next.
//!
//! Everything here is a pure function over plain values. The control plane loads facts and commits
//! outcomes; the gateway asks the same functions about single operations. Because nothing in this
//! crate reads a clock, a socket or a random number, every answer can be replayed years later from
//! its audit record.
//!
//! INVARIANT: no IO, no async, no ambient time or randomness, no dependency that compiles C.
//!
//! Not here: Cedar (`sallyport-policy`), storage and workflows (`sallyport-control`), enforcement
//! (`sallyport-gateway`), the bytes of the audit log (`sallyport-evidence`).

#![warn(missing_docs)]

pub mod access;
pub mod authz;
pub mod descriptor;
pub mod entropy;
pub mod event;
#[cfg(test)]
mod fixture;
pub mod id;
pub mod inventory;
pub mod lease;
pub mod lock;
pub mod policy;
pub mod principal;
pub mod secret;
pub mod session;
pub mod time;
