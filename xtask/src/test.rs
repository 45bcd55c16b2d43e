//! `cargo xtask test [FILTER…]`: installs what the tests need, then runs them.
//!
//! INVARIANT: the closing line counts what really ran, read from the runner's own report of this
//! run; a run without a report is an error.

use crate::prepare::{self, Prepared};
use crate::{Command, process};
use anyhow::{Context as _, bail};
use std::fmt;

/// See the module.
pub const COMMAND: Command = Command {
    name: "test",
    about: "installs what the tests need, then runs all of them, or those that match a filter",
    run,
};

fn run(args: &[String]) -> anyhow::Result<()> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let count = run_tests(&prepare::prepare()?, &words)?;
    println!("{count}");
    Ok(())
}

/// Where nextest reports, as `.config/nextest.toml` asks; in the workspace even when cargo's target
/// folder is elsewhere.
const REPORT: &str = "target/nextest/default/junit.xml";

/// How many tests ran. Printed, it is the line that people and CI look for at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Tests that ran and held.
    pub passed: u64,
    /// Tests that ran and did not.
    pub failed: u64,
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// Runs the workspace's tests under nextest; `args` are nextest's (a filter, `--lib`, `-E …`).
///
/// There are no doctests: nextest runs none, so an example that must hold is a test.
///
/// # Errors
///
/// A test fails, none matches, the build fails, or the runner leaves no report.
pub fn run_tests(prepared: &Prepared, args: &[&str]) -> anyhow::Result<Count> {
    let report = process::root().join(REPORT);
    if report.exists() {
        std::fs::remove_file(&report)
            .with_context(|| format!("remove the last run's `{}`", report.display()))?;
    }
    let mut command = process::cargo(["nextest", "run", "--workspace", "--profile", "default"]);
    prepared.tell(command.args(args));
    let outcome = process::run(&mut command);

    let count = match std::fs::read_to_string(&report) {
        Ok(text) => parse_report(&text)
            .with_context(|| format!("read the count of tests in `{}`", report.display()))?,
        // Nothing was built, or nothing matched: the runner has said which.
        Err(_) if outcome.is_err() => {
            return outcome.map(|()| Count {
                passed: 0,
                failed: 0,
            });
        }
        Err(error) => {
            return Err(error)
                .with_context(|| format!("read the tests' report `{}`", report.display()));
        }
    };
    if outcome.is_err() {
        println!("{count}");
    }
    outcome.map(|()| count)
}

/// The counts in the root element of a JUnit report.
fn parse_report(text: &str) -> anyhow::Result<Count> {
    let (_, root) = text
        .split_once("<testsuites")
        .context("find `<testsuites`")?;
    let root = root.split('>').next().unwrap_or(root);
    let ran = attribute(root, "tests")?;
    let failed = attribute(root, "failures")? + attribute(root, "errors")?;
    let Some(passed) = ran.checked_sub(failed) else {
        bail!("{failed} of {ran} tests failed, which cannot be");
    };
    Ok(Count { passed, failed })
}

fn attribute(element: &str, name: &str) -> anyhow::Result<u64> {
    let (_, value) = element
        .split_once(&format!(" {name}=\""))
        .with_context(|| format!("find `{name}`"))?;
    let value = value.split('"').next().unwrap_or(value);
    value
        .parse()
        .with_context(|| format!("read `{name}`: `{value}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_read_from_the_root_element() {
        let report = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="12" failures="2" errors="1" uuid="a" time="1.2">
    <testsuite name="sallyport-core" tests="5" disabled="0" errors="0" failures="0">"#;
        assert_eq!(
            parse_report(report).unwrap(),
            Count {
                passed: 9,
                failed: 3
            }
        );
    }

    #[test]
    fn a_report_without_counts_is_an_error_and_not_zero_tests() {
        assert!(parse_report("<testsuites name=\"x\">").is_err());
        assert!(parse_report("").is_err());
        assert!(parse_report(r#"<testsuites tests="1" failures="2" errors="0">"#).is_err());
    }

    #[test]
    fn the_closing_line_is_the_plain_one_that_ci_counts() {
        assert_eq!(
            Count {
                passed: 7,
                failed: 0
            }
            .to_string(),
            "7 passed, 0 failed"
        );
    }
}
