//! Every shape that crosses a socket: the REST API that people and programs use, and the RPC between
//! a gateway and the control plane.
//!
//! Gateway, CLI and control agree through this crate without depending on each other.
//!
//! INVARIANT: shapes only; no IO, no SQL, no HTTP framework. Unknown fields are refused.
//!
//! Not here: what the values mean (`sallyport-core`), routes and workflows (`sallyport-control`).

#![warn(missing_docs)]

pub mod gateway;
pub mod rest;
pub mod sensitive;
