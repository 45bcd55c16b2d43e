//! `sallyport completion SHELL`.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{cli::Cli, failure::Failure, output::write_bytes};

/// Print the completion script of a shell
#[derive(Debug, clap::Args)]
pub struct Completion {
    /// Shell; for bash: `source <(sallyport completion bash)`
    #[arg(value_enum)]
    shell: Shell,
}

impl Completion {
    /// Prints it.
    pub fn run(self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "sallyport", &mut script);
        write_bytes(&script)
    }
}
