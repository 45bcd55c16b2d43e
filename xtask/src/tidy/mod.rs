//! `cargo xtask tidy [--write]`: the rules about the shape of this repository that a compiler
//! cannot see.
//!
//! Each rule is a file here: a pure function from the [`Tree`] to what it found, and a line in
//! [`CHECKS`]. `--write` also brings `docs/requirements-coverage.md` up to date.
//!
//! INVARIANT: each finding names a place, what is there, why that matters, and what to do.

mod coverage;
mod dependencies;
mod edges;
mod links;
mod mentions;
mod module_docs;
mod names;
mod roadmap;
mod rust_text;
mod shapes;
mod slices;
mod tree;

use crate::Command;
use anyhow::bail;
use std::fmt;
use tree::Tree;

/// See the module.
pub const COMMAND: Command = Command {
    name: "tidy",
    about: "the repository's own rules; --write brings generated documents up to date",
    run,
};

/// Something a check objects to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// From the root of the repository, with `/`.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// What stands there.
    pub what: String,
    /// What it would lead to.
    pub why: &'static str,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:{}: {}", self.file, self.line, self.what)?;
        writeln!(f, "    why: {}", self.why)?;
        write!(f, "    remedy: {}", self.remedy)
    }
}

type Check = (&'static str, fn(&Tree) -> Vec<Finding>);

const CHECKS: &[Check] = &[
    ("coverage", coverage::check),
    ("dependencies", dependencies::check),
    ("edges", edges::check),
    ("links", links::check),
    ("mentions", mentions::check),
    ("module_docs", module_docs::check),
    ("names", names::check),
    ("roadmap", roadmap::check),
    ("slices", slices::check),
];

fn run(args: &[String]) -> anyhow::Result<()> {
    match args {
        [] => {}
        [word] if word == "--write" => coverage::write(&Tree::load()?)?,
        [word, ..] => bail!("tidy takes `--write` or nothing, not `{word}`"),
    }
    check()
}

/// Prints the table of outliers and every finding.
///
/// # Errors
///
/// There is a finding, or the tree cannot be read.
pub fn check() -> anyhow::Result<()> {
    let tree = Tree::load()?;
    print!("{}", shapes::report(&tree));
    let mut found = 0;
    for (name, check) in CHECKS {
        let mut findings = check(&tree);
        findings.sort();
        for finding in &findings {
            println!("{name}: {finding}");
        }
        found += findings.len();
    }
    if found > 0 {
        bail!("tidy found {found} things");
    }
    println!("tidy: {} checks, nothing found", CHECKS.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_reads_as_place_what_why_remedy() {
        let finding = Finding {
            file: "a.rs".into(),
            line: 3,
            what: "no module doc".into(),
            why: "nobody knows what it owns",
            remedy: "write one".into(),
        };
        assert_eq!(
            finding.to_string(),
            "a.rs:3: no module doc\n    why: nobody knows what it owns\n    remedy: write one"
        );
    }
}
