//! The words of the command line, and how a run of it ends.

use std::{io, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{
    commands::{
        account, apply, audit, break_glass, completion, config, db, enrol, grant, key, lease, lock,
        login, logout, operation, operator, person, policy, recording, request, review, session,
        ssh_authority, status, target, token, whoami,
    },
    context::{Context, Flags},
    failure::Failure,
    output::{Format, Output},
    roles::{control, dev, gateway, server},
};

/// What stands below the long help.
const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused, or failed
  2  the words on the command line make no sense
  3  the server cannot be reached, or is not the one that was pinned
  4  nobody is signed in, or no longer
  5  evidence was verified and does not hold";

/// Privileged access without standing privilege: ask, be approved, work recorded, be verifiable.
#[derive(Debug, Parser)]
#[command(name = "sallyport", version, after_long_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Offline(Offline),
    #[command(flatten)]
    Online(Online),
}

/// Roles of a node, and commands that need neither profile nor server.
#[derive(Debug, Subcommand)]
enum Offline {
    Dev(dev::Dev),
    Server(server::Server),
    Control(control::Control),
    Gateway(gateway::Gateway),
    Config(config::Config),
    Completion(completion::Completion),
}

/// Commands that work with a profile, and mostly with its server.
#[derive(Debug, Subcommand)]
enum Online {
    Enrol(enrol::Enrol),
    Login(login::Login),
    Logout(logout::Logout),
    Whoami(whoami::Whoami),
    Status(status::Status),
    Request(request::Request),
    Operation(operation::Operation),
    BreakGlass(break_glass::BreakGlass),
    Grant(grant::Grant),
    Session(session::Session),
    Recording(recording::Recording),
    Lock(lock::Lock),
    Review(review::Review),
    Lease(lease::Lease),
    Audit(audit::Audit),
    Policy(policy::Policy),
    Target(target::Target),
    Account(account::Account),
    Person(person::Person),
    Key(key::Key),
    Token(token::Token),
    Db(db::Db),
    SshAuthority(ssh_authority::SshAuthority),
    Apply(apply::Apply),
    Operator(operator::Operator),
}

impl Cli {
    /// Does what was asked, prints a failure, and says how it ended.
    pub fn run(self) -> ExitCode {
        let format = self.flags.output;
        let outcome = match self.command {
            Command::Offline(command) => command.run(format),
            Command::Online(command) => Context::new(&self.flags)
                .and_then(|context| runtime()?.block_on(command.run(&context))),
        };
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                // Nobody is left to tell when standard error is gone.
                let _ = failure.print(format, &mut io::stderr());
                failure.exit().into()
            }
        }
    }
}

impl Offline {
    fn run(self, format: Format) -> Result<(), Failure> {
        match self {
            Self::Control(role) => role.run(),
            Self::Gateway(role) => role.run(),
            Self::Server(role) => role.run(),
            Self::Dev(role) => role.run(),
            Self::Completion(command) => command.run(),
            Self::Config(command) => command.run(Output::new(format)),
        }
    }
}

impl Online {
    async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Account(command) => command.run(context).await,
            Self::Apply(command) => command.run(context).await,
            Self::Audit(command) => command.run(context).await,
            Self::BreakGlass(command) => command.run(context).await,
            Self::Db(command) => command.run(context).await,
            Self::Enrol(command) => command.run(context).await,
            Self::Grant(command) => command.run(context).await,
            Self::Key(command) => command.run(context).await,
            Self::Lease(command) => command.run(context).await,
            Self::Lock(command) => command.run(context).await,
            Self::Login(command) => command.run(context).await,
            Self::Logout(command) => command.run(context).await,
            Self::Operation(command) => command.run(context).await,
            Self::Operator(command) => command.run(context).await,
            Self::Person(command) => command.run(context).await,
            Self::Policy(command) => command.run(context).await,
            Self::Recording(command) => command.run(context).await,
            Self::Request(command) => command.run(context).await,
            Self::Review(command) => command.run(context).await,
            Self::Session(command) => command.run(context).await,
            Self::SshAuthority(command) => command.run(context).await,
            Self::Status(command) => command.run(context).await,
            Self::Target(command) => command.run(context).await,
            Self::Token(command) => command.run(context).await,
            Self::Whoami(command) => command.run(context).await,
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::of(&error, "check the limits of this process"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_command_line_parses_and_every_command_says_what_it_is_for() {
        let command = Cli::command();
        command.clone().debug_assert();
        let mut rest = vec![command];
        while let Some(command) = rest.pop() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{} {}",
                    command.get_name(),
                    argument.get_id()
                );
            }
            rest.extend(command.get_subcommands().cloned());
        }
    }

    #[test]
    fn the_reference_names_every_command() {
        let reference = include_str!("../../../docs/cli.md");
        for noun in Cli::command().get_subcommands() {
            let name = noun.get_name();
            assert!(reference.contains(&format!("`{name}")), "no `{name}`");
            for verb in noun.get_subcommands() {
                let verb = verb.get_name();
                let is_named = reference
                    .lines()
                    .any(|line| line.contains(&format!("`{name} ")) && line.contains(verb));
                assert!(is_named, "no `{name} {verb}`");
            }
        }
    }

    /// Secrets on a command line can be read by every process of the machine.
    #[test]
    fn no_argument_takes_a_secret() {
        let mut rest = vec![Cli::command()];
        while let Some(command) = rest.pop() {
            for argument in command.get_arguments() {
                let name = argument.get_id().as_str();
                let takes_value = argument.get_action().takes_values();
                for word in ["password", "share", "code", "secret"] {
                    let is_count = name == "shares";
                    assert!(!takes_value || is_count || !name.contains(word), "{name}");
                }
            }
            rest.extend(command.get_subcommands().cloned());
        }
    }
}
