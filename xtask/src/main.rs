//! `cargo xtask COMMAND`: every check of this repository, the same way for people and for CI.
//!
//! One file per command. A new one is a module and a line in [`COMMANDS`].
//!
//! INVARIANT: a command that reports success did everything its description says; what it cannot
//! do here (a missing tool, no rights to install it) is an error, never a skip.
//!
//! Not here: anything the product needs when it runs.

#![allow(
    clippy::disallowed_methods,
    reason = "a build tool reads its environment and the clock, and ends its process itself"
)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "its output is what it is run for"
)]

mod bench;
mod check;
mod ci;
mod demo;
mod fuzz;
mod prepare;
mod process;
mod test;
mod tidy;

use std::process::ExitCode;

/// Something `cargo xtask` can be asked to do.
#[derive(Debug)]
pub struct Command {
    /// The word it is called by.
    pub name: &'static str,
    /// One line for the list that `cargo xtask help` prints.
    pub about: &'static str,
    /// Does it, with the words that followed its name.
    pub run: fn(&[String]) -> anyhow::Result<()>,
}

const COMMANDS: &[Command] = &[
    bench::COMMAND,
    check::COMMAND,
    ci::COMMAND,
    demo::COMMAND,
    fuzz::COMMAND,
    test::COMMAND,
    tidy::COMMAND,
];

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let name = words.next().unwrap_or_else(|| "help".to_owned());
    let rest: Vec<String> = words.collect();

    if matches!(name.as_str(), "help" | "--help" | "-h") {
        print!("{}", help());
        return ExitCode::SUCCESS;
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        eprint!("error: no command `{name}`\n\n{}", help());
        return ExitCode::from(2);
    };
    match (command.run)(&rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn help() -> String {
    let width = COMMANDS
        .iter()
        .map(|command| command.name.len())
        .max()
        .unwrap_or(0);
    let lines: String = COMMANDS
        .iter()
        .map(|command| format!("  {:width$}  {}\n", command.name, command.about))
        .collect();
    format!("cargo xtask COMMAND\n\n{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_in_alphabetical_order_and_each_has_its_line_of_help() {
        let names: Vec<&str> = COMMANDS.iter().map(|command| command.name).collect();
        assert!(names.is_sorted(), "{names:?}");
        for command in COMMANDS {
            assert!(help().contains(command.about), "{}", command.name);
        }
    }
}
