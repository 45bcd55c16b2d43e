//! `sallyport config …`: a node's configuration file.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use crate::{configuration::Configuration, failure::Failure, output::Output};

/// A node's configuration file
#[derive(Debug, clap::Args)]
pub struct Config {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Check a configuration file: syntax, unknown keys, bounds
    Check {
        /// Configuration file, TOML
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

impl Config {
    /// Reads the file as a role would.
    pub fn run(self, output: Output) -> Result<(), Failure> {
        let Verb::Check { file } = self.verb;
        let read = Configuration::read(&file)?;
        let control = read.control();
        let gateway = read.gateway();
        output.done(
            &json!({ "file": file, "is_valid": true }),
            &format!(
                "`{}` is valid: API on {}, SSH on {}, data in {}",
                file.display(),
                control.listen.api,
                gateway.ssh_listen,
                control.store.data_directory.display()
            ),
        )
    }
}
