//! What a command ends with when it does not succeed: what happened, what to do next, and an exit code
//! that scripts can rely on.
//!
//! Every command returns one; [`crate::cli`] prints it once and ends the process with its code.
//!
//! INVARIANT: nothing that came from somebody else is printed with control characters in it.

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

use sallyport_api::rest::problem::Problem;
use sallyport_evidence::recording::escape_controls;
use serde_json::json;

use crate::output::{Format, json_text};

/// Exit codes. Listed in `--help` and `docs/cli.md`; they do not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Refused, or failed.
    Failed = 1,
    /// The words on the command line make no sense together.
    Usage = 2,
    /// The server cannot be reached, or is not the one that was pinned.
    Unreachable = 3,
    /// Nobody is signed in, or no longer.
    NotSignedIn = 4,
    /// Evidence was checked and does not hold.
    Unverified = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        // The discriminants are the codes.
        Self::from(exit as u8)
    }
}

/// Why a command did not succeed.
#[derive(Debug)]
pub struct Failure(Box<Told>);

#[derive(Debug)]
struct Told {
    exit: Exit,
    code: String,
    /// Whether the server said it; its codes are stable and documented, so people are shown them.
    is_the_servers: bool,
    what: String,
    missing: Vec<String>,
    reference: Option<String>,
    next: String,
}

impl Failure {
    /// A failure in words: what happened, and what to do next.
    pub fn new(exit: Exit, what: impl Into<String>, next: impl Into<String>) -> Self {
        let code = match exit {
            Exit::Failed => "failed",
            Exit::Usage => "usage",
            Exit::Unreachable => "unreachable",
            Exit::NotSignedIn => "not-signed-in",
            Exit::Unverified => "unverified",
        };
        Self(Box::new(Told {
            exit,
            code: code.to_owned(),
            is_the_servers: false,
            what: what.into(),
            missing: Vec::new(),
            reference: None,
            next: next.into(),
        }))
    }

    /// The ordinary kind, exit code 1.
    pub fn failed(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(Exit::Failed, what, next)
    }

    /// Words on the command line that do not go together, exit code 2.
    pub fn usage(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what, next)
    }

    /// An error of ours or the system's with all its causes, exit code 1.
    pub fn of(error: &dyn Error, next: impl Into<String>) -> Self {
        Self::failed(chain(error), next)
    }

    /// Reading or writing standard input or output.
    pub fn of_stream(error: &io::Error) -> Self {
        Self::failed(
            format!("read standard input or write standard output: {error}"),
            "check what it is connected to",
        )
    }

    /// What the server refused or could not do, in its own words.
    pub fn of_problem(problem: Problem) -> Self {
        let exit = if problem.status == 401 {
            Exit::NotSignedIn
        } else {
            Exit::Failed
        };
        Self(Box::new(Told {
            exit,
            what: match problem.field {
                Some(field) if !problem.title.contains(&field) => {
                    format!("`{field}`: {}", problem.title)
                }
                _ => problem.title,
            },
            code: problem.code,
            is_the_servers: true,
            missing: problem.unmet,
            reference: problem.reference,
            next: problem.remedy,
        }))
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        self.0.exit
    }

    /// Prints it: for people a line for what happened and one for what to do, with what is missing
    /// between them; for programs one JSON object on one line.
    pub fn print(&self, format: Format, to: &mut dyn Write) -> io::Result<()> {
        let told = &self.0;
        if format == Format::Json {
            let value = json!({
                "code": told.code,
                "exit": told.exit as u8,
                "title": told.what,
                "unmet": told.missing,
                "reference": told.reference,
                "remedy": told.next,
            });
            return writeln!(to, "{}", json_text(&value.to_string()));
        }
        write!(to, "error: {}", lines(&told.what))?;
        if told.is_the_servers {
            write!(to, " ({}", escape_controls(&told.code))?;
            if let Some(reference) = &told.reference {
                write!(to, ", {}", escape_controls(reference))?;
            }
            write!(to, ")")?;
        }
        writeln!(to)?;
        for missing in &told.missing {
            writeln!(to, "  missing: {}", escape_controls(missing))?;
        }
        writeln!(to, "  next: {}", lines(&told.next))
    }
}

/// Text without control characters except its line ends, which are kept and indented.
fn lines(text: &str) -> String {
    text.lines()
        .map(escape_controls)
        .collect::<Vec<_>>()
        .join("\n    ")
}

/// An error with all its causes, one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        // Some libraries print their source already.
        if !text.ends_with(&part) {
            text = format!("{text}: {part}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(failure: &Failure, format: Format) -> String {
        let mut out = Vec::new();
        failure.print(format, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn challenge() -> Problem {
        Problem {
            status: 403,
            code: "authentication-too-weak".to_owned(),
            title: "a stronger sign-in\u{1b}[2J is needed".to_owned(),
            remedy: "sign in again".to_owned(),
            field: None,
            reference: Some("req_1".to_owned()),
            unmet: vec!["a multi_factor sign-in".to_owned()],
        }
    }

    /// PO-9, security K5
    #[test]
    fn given_a_problem_then_what_is_missing_and_what_to_do_stand_below_it_without_control_characters()
     {
        assert_eq!(
            printed(&Failure::of_problem(challenge()), Format::Table),
            "error: a stronger sign-in\\u{1b}[2J is needed (authentication-too-weak, req_1)\n  \
             missing: a multi_factor sign-in\n  next: sign in again\n"
        );
    }

    #[test]
    fn given_json_output_then_a_failure_is_one_object_on_one_line() {
        let text = printed(&Failure::of_problem(challenge()), Format::Json);
        assert_eq!(text.lines().count(), 1);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["code"], "authentication-too-weak");
        assert_eq!(value["exit"], 1);
    }

    #[test]
    fn given_no_proof_then_the_exit_code_says_so() {
        let problem = Problem {
            status: 401,
            ..challenge()
        };
        assert_eq!(Failure::of_problem(problem).exit(), Exit::NotSignedIn);
    }
}
