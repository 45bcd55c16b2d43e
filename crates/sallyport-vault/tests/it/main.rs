//! Integration tests of the vault, through its public door only.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise, in what it shares with others too"
)]

mod database;
mod engine_conformance;
mod fixture;
mod leaks;
mod lease;
mod mysql;
mod postgres;
mod seal_conformance;
mod ssh_ca;
mod sshd;
mod static_secret;
mod stored_form;
mod user_authority;
mod vault;
