//! What a person is asked for: at the keyboard without echo, or line by line from standard input.
//!
//! INVARIANT: no secret is taken from the command line or the environment, where other processes of the
//! machine could read it.

use std::io::{self, BufRead, IsTerminal as _, Read as _, Write as _};

use sallyport_api::sensitive::Sensitive;

use crate::failure::Failure;

/// Longest line of an answer, in bytes.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// Where answers come from.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Answers {
    /// Read what would be asked for from standard input, one line each, in the order of the prompts
    #[arg(long = "stdin", visible_alias = "password-stdin")]
    from_stdin: bool,
}

impl Answers {
    /// A secret, such as a password.
    pub fn secret(self, label: &str) -> Result<Sensitive, Failure> {
        if self.from_stdin {
            return stdin_line(label).map(Sensitive::new);
        }
        needs_terminal(label)?;
        rpassword::prompt_password(format!("{label}: "))
            .map(Sensitive::new)
            .map_err(|error| Failure::of_stream(&error))
    }

    /// A new secret: asked for twice at the keyboard, once otherwise.
    pub fn new_secret(self, label: &str) -> Result<Sensitive, Failure> {
        let first = self.secret(label)?;
        if self.from_stdin || self.secret("The same again")? == first {
            return Ok(first);
        }
        Err(Failure::failed(
            "the two are not the same",
            "start again and type the same both times",
        ))
    }

    /// Something that is no secret, such as a name.
    pub fn plain(self, label: &str) -> Result<String, Failure> {
        if !self.from_stdin {
            needs_terminal(label)?;
            write!(io::stderr(), "{label}: ").map_err(|error| Failure::of_stream(&error))?;
        }
        stdin_line(label)
    }
}

/// Asks for yes or no; no when nobody is there to be asked.
pub fn confirm(question: &str) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Ok(false);
    }
    write!(io::stderr(), "{question} [y/N] ").map_err(|error| Failure::of_stream(&error))?;
    let answer = stdin_line("an answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// All of standard input as one secret, without the line end that `echo` adds.
pub fn secret_from_stdin() -> Result<Sensitive, Failure> {
    let mut text = String::new();
    let read = io::stdin()
        .lock()
        .take(LINE_BYTES_MAX.saturating_add(1))
        .read_to_string(&mut text)
        .map_err(|error| Failure::of_stream(&error))?;
    if read as u64 > LINE_BYTES_MAX {
        return Err(Failure::failed(
            "standard input is longer than 64 KiB",
            "give one password or private key",
        ));
    }
    Ok(Sensitive::new(text))
}

fn needs_terminal(label: &str) -> Result<(), Failure> {
    if io::stdin().is_terminal() {
        return Ok(());
    }
    Err(Failure::usage(
        format!("`{label}` is needed, and standard input is no terminal to ask at"),
        "pass `--stdin` and write the answers to standard input, one line each",
    ))
}

fn stdin_line(label: &str) -> Result<String, Failure> {
    line_of(&mut io::stdin().lock(), label)
}

fn line_of(reader: &mut impl BufRead, label: &str) -> Result<String, Failure> {
    let mut line = String::new();
    let read = reader
        .take(LINE_BYTES_MAX)
        .read_line(&mut line)
        .map_err(|error| Failure::of_stream(&error))?;
    if read == 0 || read as u64 == LINE_BYTES_MAX {
        return Err(Failure::usage(
            format!("`{label}` is needed, and standard input has no line for it"),
            "write one line for each thing asked for, in the order of the prompts",
        ));
    }
    let end = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(end);
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_lines_then_each_answer_is_one_of_them_without_its_end() {
        let mut input = "a password \r\n123456\n".as_bytes();
        assert_eq!(line_of(&mut input, "x").unwrap(), "a password ");
        assert_eq!(line_of(&mut input, "x").unwrap(), "123456");
        assert!(line_of(&mut input, "x").is_err());
    }
}
