//! Follows one legacy scp conversation, the one `scp -O` speaks over an exec channel: lines that
//! announce files and directories, their content, and the answers of whoever receives.
//!
//! It has no specification; OpenSSH's `scp.c` (functions `source` and `sink`) is followed. One side
//! is the source, the other the sink: in an upload the client is the source, in a download the
//! target is.
//!
//! INVARIANT: a line that announces a file is forwarded only after its operation was admitted, and
//! only as much content follows it as it announced. What is not understood ends the channel.
//!
//! Not here: recognising scp commands (`operations`), deciding (`session`), forwarding (`relay`).

use bytes::{Buf, Bytes, BytesMut};
use sallyport_core::session::{Operation, OperationKind, OperationOutcome};

use super::sftp::{Finished, Transfer};
use crate::session::OperationResult;

/// Longest line, in bytes, its newline counted.
const LINE_BYTES_MAX: usize = 16 * 1024;
/// Deepest nesting of directories.
const DEPTH_MAX: usize = 256;

/// Which way files move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// `scp -t`: to the target.
    Upload,
    /// `scp -f`: from the target.
    Download,
}

/// What an scp command line at the target says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ScpCommand {
    /// Which way.
    pub(super) way: Way,
    /// The client says that the path is a directory (`-d`).
    pub(super) is_directory: bool,
    /// The path, as the shell of the target will read it.
    pub(super) path: String,
}

/// Why the channel cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScpError {
    /// A line is longer than any legitimate one.
    #[error("follow scp: a line is longer than {LINE_BYTES_MAX} bytes")]
    LineTooLong,
    /// A line is none of those that scp sends.
    #[error("follow scp: a line is malformed")]
    Malformed,
    /// A name would leave the directory it is announced in.
    #[error("follow scp: a file name is empty, `.`, `..` or holds `/` or NUL")]
    Name,
    /// Directories within directories without end.
    #[error("follow scp: directories are nested deeper than {DEPTH_MAX}")]
    TooDeep,
    /// The receiver answered something that nobody had said.
    #[error("follow scp: an answer to nothing that was sent")]
    UnexpectedAnswer,
}

/// What to do with what the source sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Forward these bytes to the sink.
    Forward(Bytes),
    /// Have this decided, then [`Conversation::admit`] or [`Conversation::refuse`].
    Decide(Operation),
    /// The sink must answer before anything more of the source can be understood.
    AwaitAnswer,
    /// Everything was taken.
    Done,
}

/// What a refusal is told to both sides, so that each goes on with the next file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// For the source.
    pub(super) to_source: Bytes,
    /// For the sink, when it is the person's side.
    pub(super) to_sink: Option<Bytes>,
}

#[derive(Debug)]
enum State<T> {
    /// The sink has not said that it is ready.
    AwaitReady,
    /// A line is being read.
    Line,
    /// A line waits for its decision.
    Undecided(Announcement),
    /// A line was forwarded; the sink must answer.
    AwaitLine(Option<Announced<T>>),
    /// Content of a file.
    Content {
        remaining_bytes: u64,
        transfer: Transfer<T>,
    },
    /// The source's own word on whether the content is whole.
    Verdict { transfer: Transfer<T> },
    /// The sink's word on the file.
    AwaitFile { transfer: Transfer<T> },
    /// One side gave up; nothing more is followed or forwarded.
    Over,
}

#[derive(Debug)]
struct Announcement {
    what: What,
    line: Bytes,
    path: String,
}

#[derive(Debug)]
struct Announced<T> {
    what: What,
    path: String,
    ticket: Option<T>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    File { size_bytes: u64 },
    Directory,
}

/// One scp conversation. `T` stands for an operation that was let through.
#[derive(Debug)]
pub(super) struct Conversation<T> {
    command: ScpCommand,
    state: State<T>,
    directories: Vec<String>,
    line: BytesMut,
    answer: BytesMut,
    finished: Vec<Finished<T>>,
}

impl<T> Conversation<T> {
    pub(super) fn new(command: ScpCommand) -> Self {
        Self {
            command,
            state: State::AwaitReady,
            directories: Vec::new(),
            line: BytesMut::new(),
            answer: BytesMut::new(),
            finished: Vec::new(),
        }
    }

    /// Which way files move.
    pub(super) const fn way(&self) -> Way {
        self.command.way
    }

    /// Takes from the front of what the source sent. Call it again until it says
    /// [`Step::Done`] or [`Step::AwaitAnswer`].
    ///
    /// # Errors
    /// [`ScpError`]; nothing more may be forwarded.
    pub(super) fn source(&mut self, bytes: &mut Bytes) -> Result<Step, ScpError> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Over => {
                bytes.clear();
                Ok(Step::Done)
            }
            state if bytes.is_empty() => {
                self.state = state;
                Ok(Step::Done)
            }
            State::Line => {
                self.state = State::Line;
                self.source_line(bytes)
            }
            State::Content {
                remaining_bytes,
                transfer,
            } => Ok(self.source_content(bytes, remaining_bytes, transfer)),
            State::Verdict { transfer } => self.source_verdict(bytes, transfer),
            state @ (State::AwaitReady
            | State::Undecided(_)
            | State::AwaitLine(_)
            | State::AwaitFile { .. }) => {
                self.state = state;
                Ok(Step::AwaitAnswer)
            }
        }
    }

    fn source_line(&mut self, bytes: &mut Bytes) -> Result<Step, ScpError> {
        let Some(line) = take_line(&mut self.line, bytes)? else {
            return Ok(Step::Done);
        };
        let (kind, rest) = line.split_first().ok_or(ScpError::Malformed)?;
        match kind {
            b'C' | b'D' => {
                let (size_bytes, name) = announcement(rest)?;
                let what = match kind {
                    b'C' => What::File { size_bytes },
                    _ => What::Directory,
                };
                if self.directories.len() >= DEPTH_MAX {
                    return Err(ScpError::TooDeep);
                }
                let path = self.resolve(name, what);
                let operation = match (what, self.command.way) {
                    (What::File { .. }, Way::Upload) => {
                        operation(OperationKind::FileUpload, path.clone())
                    }
                    (What::File { .. }, Way::Download) => {
                        operation(OperationKind::FileDownload, path.clone())
                    }
                    (What::Directory, Way::Upload) => {
                        operation(OperationKind::FileChange, format!("mkdir {path}"))
                    }
                    // A directory's name on its way out is no operation; its files are.
                    (What::Directory, Way::Download) => {
                        self.state = State::AwaitLine(Some(Announced {
                            what,
                            path,
                            ticket: None,
                        }));
                        return Ok(Step::Forward(line));
                    }
                };
                self.state = State::Undecided(Announcement { what, line, path });
                Ok(Step::Decide(operation))
            }
            b'T' if rest
                .iter()
                .all(|b| b.is_ascii_digit() || b" -\n".contains(b)) =>
            {
                self.state = State::AwaitLine(None);
                Ok(Step::Forward(line))
            }
            b'E' if rest == b"\n" => {
                self.directories.pop();
                self.state = State::AwaitLine(None);
                Ok(Step::Forward(line))
            }
            // The source could not read something and says so; the sink does not answer.
            1 => Ok(Step::Forward(line)),
            2 => {
                self.state = State::Over;
                Ok(Step::Forward(line))
            }
            _ => Err(ScpError::Malformed),
        }
    }

    fn source_content(
        &mut self,
        bytes: &mut Bytes,
        remaining_bytes: u64,
        mut transfer: Transfer<T>,
    ) -> Step {
        let count =
            usize::try_from(remaining_bytes).map_or(bytes.len(), |all| all.min(bytes.len()));
        let content = bytes.split_to(count);
        transfer.take(transfer.moved_bytes(), &content);
        let remaining_bytes =
            remaining_bytes.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
        self.state = match remaining_bytes {
            0 => State::Verdict { transfer },
            remaining_bytes => State::Content {
                remaining_bytes,
                transfer,
            },
        };
        Step::Forward(content)
    }

    fn source_verdict(
        &mut self,
        bytes: &mut Bytes,
        mut transfer: Transfer<T>,
    ) -> Result<Step, ScpError> {
        let is_line = !self.line.is_empty() || bytes.first() != Some(&0);
        if !is_line {
            self.state = State::AwaitFile { transfer };
            return Ok(Step::Forward(bytes.split_to(1)));
        }
        let Some(line) = take_line(&mut self.line, bytes)? else {
            self.state = State::Verdict { transfer };
            return Ok(Step::Done);
        };
        if !matches!(line.first(), Some(1 | 2)) {
            return Err(ScpError::Malformed);
        }
        // The source padded what it could not read: the content is not the file's.
        transfer.fail();
        self.state = State::AwaitFile { transfer };
        Ok(Step::Forward(line))
    }

    /// Lets the announced file through. Returns the line to forward to the sink.
    pub(super) fn admit(&mut self, ticket: T) -> Bytes {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Undecided(Announcement { what, line, path }) => {
                self.state = State::AwaitLine(Some(Announced {
                    what,
                    path,
                    ticket: Some(ticket),
                }));
                line
            }
            other => {
                self.state = other;
                Bytes::new()
            }
        }
    }

    /// Refuses the announced file, in the protocol's own words. `why` must be one line without
    /// control characters.
    pub(super) fn refuse(&mut self, why: &str) -> Refusal {
        if matches!(self.state, State::Undecided(_)) {
            self.state = State::Line;
        }
        let line = Bytes::from(format!("\u{1}scp: {why}\n"));
        Refusal {
            to_sink: (self.command.way == Way::Download).then(|| line.clone()),
            to_source: line,
        }
    }

    /// Takes what the sink answered. Returns what to forward to the source: whole answers only.
    ///
    /// # Errors
    /// [`ScpError`]; nothing more may be forwarded.
    pub(super) fn sink(&mut self, mut bytes: Bytes) -> Result<Bytes, ScpError> {
        let mut forward = BytesMut::new();
        while !bytes.is_empty() {
            if self.answer.is_empty() && bytes.first() == Some(&0) {
                bytes.advance(1);
                self.answered(true)?;
                forward.extend_from_slice(&[0]);
            } else if let Some(line) = take_line(&mut self.answer, &mut bytes)? {
                let is_fatal = line.first() == Some(&2);
                self.answered(false)?;
                if is_fatal {
                    self.state = State::Over;
                }
                forward.extend_from_slice(&line);
            }
        }
        Ok(forward.freeze())
    }

    fn answered(&mut self, is_yes: bool) -> Result<(), ScpError> {
        let state = std::mem::replace(&mut self.state, State::Over);
        self.state = match state {
            State::AwaitReady if is_yes => State::Line,
            State::AwaitReady => State::Over,
            State::AwaitLine(None) => State::Line,
            State::AwaitLine(Some(announced)) => self.announced(announced, is_yes),
            State::AwaitFile { mut transfer } => {
                if !is_yes {
                    transfer.fail();
                }
                self.finished
                    .push(transfer.finish(OperationOutcome::Completed));
                State::Line
            }
            State::Over => State::Over,
            // The sink may give up on a file while its content is still coming.
            State::Content {
                remaining_bytes,
                mut transfer,
            } if !is_yes => {
                transfer.fail();
                State::Content {
                    remaining_bytes,
                    transfer,
                }
            }
            State::Verdict { mut transfer } if !is_yes => {
                transfer.fail();
                State::Verdict { transfer }
            }
            State::Line | State::Undecided(_) | State::Content { .. } | State::Verdict { .. } => {
                return Err(ScpError::UnexpectedAnswer);
            }
        };
        Ok(())
    }

    fn announced(&mut self, announced: Announced<T>, is_yes: bool) -> State<T> {
        let Announced { what, path, ticket } = announced;
        match (what, ticket, is_yes) {
            (What::File { size_bytes: 0 }, Some(ticket), true) => State::Verdict {
                transfer: Transfer::new(ticket),
            },
            (What::File { size_bytes }, Some(ticket), true) => State::Content {
                remaining_bytes: size_bytes,
                transfer: Transfer::new(ticket),
            },
            (What::Directory, ticket, true) => {
                self.directories.push(path);
                self.finish_plain(ticket, OperationOutcome::Completed);
                State::Line
            }
            (_, ticket, _) => {
                self.finish_plain(ticket, OperationOutcome::FailedAtTarget);
                State::Line
            }
        }
    }

    fn finish_plain(&mut self, ticket: Option<T>, outcome: OperationOutcome) {
        self.finished.extend(ticket.map(|ticket| Finished {
            ticket,
            outcome,
            result: OperationResult::default(),
        }));
    }

    /// Operations that ended since this was last asked.
    pub(super) fn take_finished(&mut self) -> Vec<Finished<T>> {
        std::mem::take(&mut self.finished)
    }

    /// Ends the conversation: what had not ended is interrupted, with what had moved.
    pub(super) fn interrupt(&mut self) -> Vec<Finished<T>> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Content { transfer, .. }
            | State::Verdict { transfer }
            | State::AwaitFile { transfer } => self
                .finished
                .push(transfer.finish(OperationOutcome::Interrupted)),
            State::AwaitLine(Some(announced)) => {
                self.finish_plain(announced.ticket, OperationOutcome::Interrupted);
            }
            State::AwaitReady
            | State::Line
            | State::Undecided(_)
            | State::AwaitLine(None)
            | State::Over => {}
        }
        self.take_finished()
    }

    /// The path a name stands for. At the top it depends on what is at the target already: a path
    /// that is a directory there takes the name in. Only what the command line says is known here.
    fn resolve(&self, name: &str, what: What) -> String {
        let join = |directory: &str| match directory {
            "" => name.to_owned(),
            directory => format!("{}/{name}", directory.trim_end_matches('/')),
        };
        let path = self.command.path.as_str();
        match (self.directories.last(), self.command.way, what) {
            (Some(directory), ..) => join(directory),
            (None, Way::Upload, _) => {
                let is_directory = self.command.is_directory
                    || path.ends_with('/')
                    || matches!(path, "" | "." | ".." | "~");
                match is_directory {
                    true if path == "/" => format!("/{name}"),
                    true => join(path),
                    false => path.to_owned(),
                }
            }
            (None, Way::Download, _) => match path.trim_end_matches('/').rsplit_once('/') {
                Some(("", _)) => format!("/{name}"),
                Some((directory, _)) => join(directory),
                None => name.to_owned(),
            },
        }
    }
}

fn operation(kind: OperationKind, detail: String) -> Operation {
    Operation {
        kind,
        detail,
        facts: None,
    }
}

/// Moves bytes up to and with the next newline from `bytes` behind `partial`; a whole line empties
/// `partial`.
fn take_line(partial: &mut BytesMut, bytes: &mut Bytes) -> Result<Option<Bytes>, ScpError> {
    let newline = bytes.iter().position(|byte| *byte == b'\n');
    let count = newline.map_or(bytes.len(), |at| at.saturating_add(1));
    if partial.len().saturating_add(count) > LINE_BYTES_MAX {
        return Err(ScpError::LineTooLong);
    }
    partial.extend_from_slice(&bytes.split_to(count));
    Ok(newline.map(|_| partial.split().freeze()))
}

/// Reads `<mode> <size> <name>\n`.
fn announcement(rest: &[u8]) -> Result<(u64, &str), ScpError> {
    let rest = std::str::from_utf8(rest).map_err(|_| ScpError::Malformed)?;
    let rest = rest.strip_suffix('\n').ok_or(ScpError::Malformed)?;
    let mut parts = rest.splitn(3, ' ');
    let (mode, size, name) = match (parts.next(), parts.next(), parts.next()) {
        (Some(mode), Some(size), Some(name)) => (mode, size, name),
        _ => return Err(ScpError::Malformed),
    };
    let is_mode = mode.len() == 4 && mode.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let is_size = !size.is_empty() && size.bytes().all(|b| b.is_ascii_digit());
    if !is_mode || !is_size {
        return Err(ScpError::Malformed);
    }
    if matches!(name, "" | "." | "..") || name.contains(['/', '\0']) {
        return Err(ScpError::Name);
    }
    Ok((size.parse().map_err(|_| ScpError::Malformed)?, name))
}

#[cfg(test)]
#[path = "scp_tests.rs"]
mod tests;
