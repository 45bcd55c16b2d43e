//! `cargo xtask bench [ARGS]`: the crates' benchmarks; the arguments go to `cargo bench`.

use crate::{Command, process};

/// See the module.
pub const COMMAND: Command = Command {
    name: "bench",
    about: "the crates' benchmarks; arguments go to `cargo bench`",
    run,
};

fn run(args: &[String]) -> anyhow::Result<()> {
    process::run(process::cargo(["bench", "--workspace", "--bench", "*"]).args(args))
}
