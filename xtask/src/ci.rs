//! `cargo xtask ci`: everything that must hold before a change lands, in the order in which a
//! mistake shows soonest.
//!
//! INVARIANT: no step is left out after another one passed; the first that fails ends the run. The
//! times are printed either way, and after a full run the count of tests is the last line.

use crate::{Command, check, demo, prepare, process, test, tidy};
use anyhow::Context as _;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// See the module.
pub const COMMAND: Command = Command {
    name: "ci",
    about: "everything: lints, tidy, build and all tests, with times",
    run,
};

/// What one step may leave for the closing lines.
type Outcome = anyhow::Result<Option<test::Count>>;

type Step = (&'static str, fn() -> Outcome);

const STEPS: &[Step] = &[
    ("prepare", || prepare::prepare().map(|_| None)),
    ("format", || check::format().map(|()| None)),
    ("lint", || check::lint(&["--locked"]).map(|()| None)),
    ("tidy", || tidy::check().map(|()| None)),
    ("build", || build().map(|()| None)),
    ("test", || {
        test::run_tests(&prepare::prepare()?, &["--locked"]).map(Some)
    }),
    ("demo", || demo::play().map(|()| None)),
];

fn run(_: &[String]) -> anyhow::Result<()> {
    let mut times: Vec<(&str, Duration)> = Vec::new();
    let mut count = None;
    for (name, step) in STEPS {
        println!("\n== {name}");
        let start = Instant::now();
        let outcome = step();
        times.push((name, start.elapsed()));
        match outcome {
            Ok(left) => count = count.or(left),
            Err(error) => {
                print!("{}", table(&times));
                return Err(error).with_context(|| format!("step `{name}`"));
            }
        }
    }
    print!("{}", table(&times));
    if let Some(count) = count {
        println!("{count}");
    }
    Ok(())
}

fn build() -> anyhow::Result<()> {
    process::run(&mut process::cargo(["build", "--workspace", "--locked"]))
}

/// One line a step, and the sum.
fn table(times: &[(&str, Duration)]) -> String {
    let mut text = String::from("\nstep        seconds\n");
    let sum = times.iter().map(|(_, took)| *took).sum();
    for (name, took) in times.iter().chain([&("all", sum)]) {
        let _ = writeln!(text, "{name:10} {:8.1}", took.as_secs_f64());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_for_each_step_and_their_sum() {
        let text = table(&[
            ("lint", Duration::from_millis(1500)),
            ("test", Duration::from_secs(2)),
        ]);
        assert_eq!(
            text,
            "\nstep        seconds\nlint            1.5\ntest            2.0\nall             3.5\n"
        );
    }
}
