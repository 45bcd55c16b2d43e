//! The gateway as its neighbours meet it: a whole gateway, a control plane that speaks the real RPC,
//! stock clients and real servers.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise, and spawns what it serves"
)]

mod control;
mod ssh;
