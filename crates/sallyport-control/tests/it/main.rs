//! The control plane through its routes and sockets, on a real store.
#![allow(
    clippy::disallowed_methods,
    reason = "tests spawn what they serve and stop with it"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test stops at the first surprise, in what it shares with others too"
)]

mod apply;
mod attack_foreign_ids;
mod attack_guessing;
mod attack_single_use;
mod attack_timing;
mod audit;
mod authz_matrix;
mod database_user;
mod directory;
mod fault_clock;
mod fault_lease;
mod fault_restored_store;
mod http;
mod listener;
mod main_job;
mod notify;
mod operation;
mod oversight;
mod proof;
mod recording;
mod sign_in;
mod statements;
mod store;
mod support;
