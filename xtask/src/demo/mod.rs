//! `cargo xtask demo`: the main job on this machine, with stock clients, from nothing to `verified`.
//!
//! A person with nothing but an SSH key asks for `root@web-1`; another approves; the first works without
//! ever holding a credential of the target, is recorded and cut off. Then the same with a database, where one
//! statement waits for a second person. An auditor verifies the log offline.
//!
//! INVARIANT: every line of output is what happened, not what should have; a step whose effect cannot be
//! seen ends the demo with an error.
//!
//! Not here: the steps ([`story`], [`database`]), the processes they need ([`stage`]), the people ([`actor`]).

pub mod actor;
mod database;
pub mod postgres;
pub mod stage;
mod story;
pub mod target_program;

use std::path::PathBuf;

use anyhow::{Context as _, bail};

use crate::{Command, prepare, process};

/// See the module.
pub const COMMAND: Command = Command {
    name: "demo",
    about: "the main job on this machine: ask, approve, work recorded, be cut off, verify",
    run,
};

fn run(words: &[String]) -> anyhow::Result<()> {
    if let Some(word) = words.first() {
        bail!("`demo` takes no words, and `{word}` is one");
    }
    prepare::prepare()?;
    process::run(&mut process::cargo(["build", "--workspace", "--locked"]))?;
    play()
}

/// Plays the story with what is built.
pub fn play() -> anyhow::Result<()> {
    let stage = stage::Stage::set(&binary()?, "demo")?;
    let cast = story::tell(&stage)?;
    if std::env::var_os("CI").is_some() {
        println!("\nCI is set: everything is stopped and removed.");
        return Ok(());
    }
    story::leave_running(&stage, &cast);
    stage.wait()
}

/// The binary that `cargo build` made.
fn binary() -> anyhow::Result<PathBuf> {
    let metadata = process::output(&mut process::cargo([
        "metadata",
        "--format-version=1",
        "--no-deps",
    ]))?;
    let metadata: serde_json::Value =
        serde_json::from_str(&metadata).context("read the metadata")?;
    let target = metadata
        .get("target_directory")
        .and_then(serde_json::Value::as_str)
        .context("find the target folder in the metadata")?;
    Ok(PathBuf::from(target).join("debug/sallyport"))
}
