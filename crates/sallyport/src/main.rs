//! The one binary: the roles of a node (`control`, `gateway`, and `server` or `dev` that run both) and
//! the command line that talks to a node over its public API.
//!
//! INVARIANT: the command line knows nothing that the API does not offer to everybody; only the roles
//! name the control plane and the gateway, and each in its own process.
//!
//! Not here: rules, storage, protocols; those are the crates this one wires together.

mod cast;
mod cli;
mod client;
mod commands;
mod configuration;
mod context;
mod export;
mod failure;
mod files;
mod joined;
mod logging;
mod offline;
mod output;
mod player;
mod profile;
mod prompt;
mod roles;

use std::process::ExitCode;

use clap::Parser as _;

/// Gives memory back: after a busy hour the system's allocator keeps what hundreds of ended sessions
/// had taken (`docs/performance.md`).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // TLS needs its one provider before anything else runs; there is no second to fall back to.
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        return ExitCode::FAILURE;
    }
    match cli::Cli::try_parse() {
        Ok(cli) => cli.run(),
        Err(error) => {
            // Help and version go to standard output with exit code 0, usage errors to standard error
            // with 2. Nobody is left to tell when even that cannot be written.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
    }
}
