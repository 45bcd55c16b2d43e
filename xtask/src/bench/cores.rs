//! Which cores the parties of a path run on: this process takes them, and what it starts inherits them.

use std::{fmt, process::Command};

use anyhow::Context as _;

use crate::process;

/// Where everything runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cores {
    /// On this one: ratios are ratios of CPU spent, because nothing runs beside anything.
    One(usize),
    /// On all that this process was given.
    All,
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(cpu) => write!(f, "all parties on core {cpu}"),
            Self::All => write!(f, "all parties on all cores"),
        }
    }
}

impl Cores {
    /// The last word of a key.
    pub const fn word(self) -> &'static str {
        match self {
            Self::One(_) => "one-core",
            Self::All => "all-cores",
        }
    }

    /// Takes the cores until what is returned goes out of scope.
    pub fn hold(self) -> anyhow::Result<Held> {
        let before = affinity()?;
        if let Self::One(cpu) = self {
            set(&cpu.to_string())?;
        }
        Ok(Held { before })
    }
}

/// The cores are given back when it is dropped.
#[derive(Debug)]
pub struct Held {
    before: String,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Err(error) = set(&self.before) {
            eprintln!("the cores were not given back: {error:#}");
        }
    }
}

/// The cores of this process as `taskset` lists them.
fn affinity() -> anyhow::Result<String> {
    let said = process::output(Command::new("taskset").args(["-p", "-c", &own_pid()]))?;
    said.rsplit(": ")
        .next()
        .map(|list| list.trim().to_owned())
        .context("read what `taskset` says")
}

/// For every thread: one that is left behind would start children elsewhere.
fn set(list: &str) -> anyhow::Result<()> {
    process::output(Command::new("taskset").args(["-a", "-p", "-c", list, &own_pid()])).map(drop)
}

fn own_pid() -> String {
    std::process::id().to_string()
}
