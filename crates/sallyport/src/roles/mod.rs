//! The roles of a node, one file each: what they read, start, announce, and when they stop.
//!
//! `control` and `gateway` are processes of their own, whoever starts them; `server` and `dev` start both
//! as children of the same binary and keep them running ([`supervisor`]).
//!
//! INVARIANT: no process is both control and gateway.

pub mod control;
pub mod dev;
pub mod gateway;
pub mod server;
mod stop;
mod supervisor;

use std::path::PathBuf;

use crate::{configuration::Configuration, failure::Failure, logging::LogFlags};

/// Flags of every role.
#[derive(Clone, Debug, clap::Args)]
pub struct RoleFlags {
    /// Configuration file, TOML
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/sallyport/sallyport.toml"
    )]
    config: PathBuf,
    #[command(flatten)]
    log: LogFlags,
    /// Started by `server` or `dev`: stop when standard input ends, announce on standard output
    #[arg(long, hide = true)]
    supervised: bool,
    /// Started by `dev`: accept what is for trying out only
    #[arg(long, hide = true)]
    trying_out: bool,
}

impl RoleFlags {
    fn begin(&self) -> Result<Configuration, Failure> {
        self.log.install()?;
        let configuration = Configuration::read(&self.config)?;
        if !self.trying_out {
            configuration.check_for_production()?;
        }
        Ok(configuration)
    }
}

/// Runs a role to its end on a runtime with all threads.
fn block_on<T>(role: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::of(&error, "check the limits of this process"))?;
    let outcome = runtime.block_on(role);
    // What still runs has had its time: each role waits for what must not be cut off.
    runtime.shutdown_background();
    outcome
}
