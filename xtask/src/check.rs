//! `cargo xtask check`: what to run before a commit.
//!
//! Format, lints, tidy and the fast tests: those inside the crates. What starts the whole product
//! is left to `cargo xtask test`.

use crate::{Command, prepare, process, test, tidy};

/// See the module.
pub const COMMAND: Command = Command {
    name: "check",
    about: "format, lints, tidy and the fast tests; run it before a commit",
    run,
};

fn run(_: &[String]) -> anyhow::Result<()> {
    format()?;
    lint(&[])?;
    tidy::check()?;
    let count = test::run_tests(&prepare::prepare()?, &["--lib", "--bins"])?;
    println!("{count}");
    Ok(())
}

/// Fails when a file is not formatted as `rustfmt.toml` says.
pub fn format() -> anyhow::Result<()> {
    process::run(&mut process::cargo(["fmt", "--all", "--check"]))
}

/// Fails on any warning of the compiler or of clippy. `options` are cargo's.
pub fn lint(options: &[&str]) -> anyhow::Result<()> {
    // The same selection of packages as every other call: another one would build the
    // dependencies again, with other features.
    let words = ["clippy", "--workspace", "--all-targets"];
    process::run(
        process::cargo(words)
            .args(options)
            .args(["--", "-D", "warnings"]),
    )
}
