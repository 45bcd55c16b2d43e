//! Integration tests of the evidence formats, in one binary: linking is what costs.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise"
)]

mod damage;
mod golden;
mod log_vectors;
mod log_verify;
mod sample;
mod second_verifier;
