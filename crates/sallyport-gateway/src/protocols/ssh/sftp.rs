//! Follows one SFTP conversation: which request opens, moves, changes or closes which file.
//!
//! The relay asks [`Conversation::inspect`] before a request goes to the target and tells
//! [`Conversation::observe`] about every answer. Opening a file and changing the file system are
//! operations that policy decides; content is counted and hashed in passing.
//!
//! INVARIANT: nothing that opens or changes a file is forwarded before its operations were
//! admitted, and content moves only in a direction that was admitted for that file. What is not
//! understood ends the channel.
//!
//! Not here: bytes (`codec`), deciding (`session`), forwarding (`relay`).

use std::collections::HashMap;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use sallyport_core::{
    authz::Reason,
    session::{Operation, OperationKind, OperationOutcome},
};

use super::codec::{
    Act, CodecError, Packet, Paths, Request, Response, VERSION, encode_init, encode_status,
    open_flags, status,
};
use crate::session::OperationResult;

/// Most requests a client may leave unanswered.
const PENDING_MAX: usize = 4_096;
/// Most files and directories open at one time.
const HANDLES_MAX: usize = 1_024;

/// Why the channel cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SftpError {
    /// The bytes are not SFTP version 3.
    #[error("read an SFTP packet")]
    Codec(#[source] CodecError),
    /// A packet came before or after its time.
    #[error("follow SFTP: unexpected {what}")]
    Unexpected {
        /// What came.
        what: &'static str,
    },
    /// The target insists on another version.
    #[error("follow SFTP: the target speaks version {version}, not {VERSION}")]
    Version {
        /// The target's version.
        version: u32,
    },
    /// The client asks faster than the target answers, without bound.
    #[error("follow SFTP: more than {PENDING_MAX} requests unanswered")]
    TooManyPending,
}

/// What to do with a request.
#[derive(Debug)]
pub(super) enum Demand {
    /// Forward it as it is.
    Forward,
    /// Forward this in its place.
    ForwardInstead(Bytes),
    /// Do not forward it; this is the answer to the client.
    Answer(Bytes),
    /// Have its operations decided, then [`Conversation::admit`] or [`Conversation::refuse`] it.
    Decide(Question),
}

/// A request whose operations are to be decided.
#[derive(Debug)]
pub(super) struct Question {
    /// The operations, in order; all must be admitted.
    pub(super) operations: Vec<Operation>,
    id: u32,
    subject: Subject,
}

#[derive(Debug)]
enum Subject {
    File {
        path: String,
        reads: bool,
        writes: bool,
        appends: bool,
    },
    Change,
}

/// An operation whose end is known.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finished<T> {
    /// What was given to [`Conversation::admit`].
    pub(super) ticket: T,
    /// What became of it.
    pub(super) outcome: OperationOutcome,
    /// Size and hash.
    pub(super) result: OperationResult,
}

/// Content moving one way through one open file.
pub(super) struct Transfer<T> {
    ticket: T,
    next_offset: u64,
    moved_bytes: u64,
    digest: Option<Context>,
    has_failed: bool,
}

impl<T: std::fmt::Debug> std::fmt::Debug for Transfer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transfer")
            .field("ticket", &self.ticket)
            .field("moved_bytes", &self.moved_bytes)
            .finish_non_exhaustive()
    }
}

impl<T> Transfer<T> {
    pub(super) fn new(ticket: T) -> Self {
        Self {
            ticket,
            next_offset: 0,
            moved_bytes: 0,
            digest: Some(Context::new(&SHA256)),
            has_failed: false,
        }
    }

    /// Counts `content` at `offset`. A gap, an overlap or a jump ends the hash, not the count.
    pub(super) fn take(&mut self, offset: u64, content: &[u8]) {
        let size_bytes = u64::try_from(content.len()).unwrap_or(u64::MAX);
        if offset == self.next_offset {
            if let Some(digest) = &mut self.digest {
                digest.update(content);
            }
        } else {
            self.digest = None;
        }
        self.next_offset = offset.saturating_add(size_bytes);
        self.moved_bytes = self.moved_bytes.saturating_add(size_bytes);
    }

    /// Bytes counted so far.
    pub(super) const fn moved_bytes(&self) -> u64 {
        self.moved_bytes
    }

    /// Some of it did not arrive: its hash would be a lie.
    pub(super) const fn fail(&mut self) {
        self.has_failed = true;
    }

    pub(super) fn finish(self, outcome: OperationOutcome) -> Finished<T> {
        let outcome = match outcome {
            OperationOutcome::Completed if self.has_failed => OperationOutcome::FailedAtTarget,
            outcome => outcome,
        };
        let is_whole = outcome == OperationOutcome::Completed;
        let sha256 = self
            .digest
            .filter(|_| is_whole)
            .and_then(|digest| digest.finish().as_ref().first_chunk::<32>().copied());
        Finished {
            ticket: self.ticket,
            outcome,
            result: OperationResult {
                exit_status: None,
                size_bytes: Some(self.moved_bytes),
                sha256,
                statement: None,
                reason: None,
            },
        }
    }
}

#[derive(Debug)]
struct Open<T> {
    path: String,
    read: Option<Transfer<T>>,
    write: Option<Transfer<T>>,
    is_closing: bool,
}

impl<T> Open<T> {
    fn finish(self, outcome: OperationOutcome) -> impl Iterator<Item = Finished<T>> {
        [self.read, self.write]
            .into_iter()
            .flatten()
            .map(move |transfer| transfer.finish(outcome))
    }
}

#[derive(Debug)]
enum Pending<T> {
    Open(Open<T>),
    Close(Bytes),
    Read { handle: Bytes, offset: u64 },
    Write(Bytes),
    Change(T),
    Other,
}

/// One SFTP conversation. `T` stands for an operation that was let through.
#[derive(Debug)]
pub(super) struct Conversation<T> {
    has_begun: bool,
    has_version: bool,
    pending: HashMap<u32, Pending<T>>,
    handles: HashMap<Bytes, Open<T>>,
}

impl<T> Default for Conversation<T> {
    fn default() -> Self {
        Self {
            has_begun: false,
            has_version: false,
            pending: HashMap::new(),
            handles: HashMap::new(),
        }
    }
}

impl<T> Conversation<T> {
    /// Says what to do with a packet from the client.
    ///
    /// # Errors
    /// [`SftpError`]; nothing of the packet may be forwarded.
    pub(super) fn inspect(&mut self, packet: &Packet) -> Result<Demand, SftpError> {
        match packet.request().map_err(SftpError::Codec)? {
            Request::Init { .. } if self.has_begun => Err(SftpError::Unexpected {
                what: "second INIT",
            }),
            Request::Init { version } => {
                self.has_begun = true;
                Ok(match version {
                    VERSION => Demand::Forward,
                    // A later version would be spoken from here on, and its requests differ.
                    _ => Demand::ForwardInstead(encode_init()),
                })
            }
            Request::Act { .. } if !self.has_begun => Err(SftpError::Unexpected {
                what: "request before INIT",
            }),
            Request::Act { id, .. } if self.pending.contains_key(&id) => {
                Err(SftpError::Unexpected {
                    what: "request number that is still unanswered",
                })
            }
            Request::Act { .. } if self.pending.len() >= PENDING_MAX => {
                Err(SftpError::TooManyPending)
            }
            Request::Act { id, act } => Ok(self.inspect_act(id, act)),
        }
    }

    fn inspect_act(&mut self, id: u32, act: Act<'_>) -> Demand {
        let failure = || Demand::Answer(encode_status(id, status::FAILURE, "no such handle"));
        match act {
            Act::Open { .. } | Act::OpenDirectory { .. } if self.handles.len() >= HANDLES_MAX => {
                Demand::Answer(encode_status(id, status::FAILURE, "too many open files"))
            }
            Act::Open { path, flags } => Demand::Decide(question_of_open(id, path, flags)),
            Act::OpenDirectory { path } => {
                let directory = Open {
                    path: text(path),
                    read: None,
                    write: None,
                    is_closing: false,
                };
                self.await_answer(id, Pending::Open(directory))
            }
            Act::Close { handle } => match self.live(handle) {
                Some(open) => {
                    open.is_closing = true;
                    self.await_answer(id, Pending::Close(Bytes::copy_from_slice(handle)))
                }
                None => failure(),
            },
            Act::Read { handle, offset } => {
                match self.live(handle).map(|open| open.read.is_some()) {
                    Some(true) => {
                        let handle = Bytes::copy_from_slice(handle);
                        self.await_answer(id, Pending::Read { handle, offset })
                    }
                    _ => failure(),
                }
            }
            Act::Write {
                handle,
                offset,
                content,
            } => match self.live(handle).and_then(|open| open.write.as_mut()) {
                Some(transfer) => {
                    transfer.take(offset, content);
                    self.await_answer(id, Pending::Write(Bytes::copy_from_slice(handle)))
                }
                None => failure(),
            },
            Act::InspectHandle { handle } | Act::ReadDirectory { handle } => {
                match self.live(handle) {
                    Some(_) => self.await_answer(id, Pending::Other),
                    None => failure(),
                }
            }
            Act::SetHandleAttributes { handle } => match self.live(handle) {
                Some(open) => Demand::Decide(question_of_change(id, "setstat", &open.path)),
                None => failure(),
            },
            Act::Change { verb, paths } => {
                let subject = match paths {
                    Paths::One(path) => text(path),
                    Paths::Two(first, second) => format!("{} -> {}", text(first), text(second)),
                };
                Demand::Decide(question_of_change(id, verb, &subject))
            }
            Act::InspectPath | Act::InspectServer => self.await_answer(id, Pending::Other),
            Act::UnknownExtension { .. } => Demand::Answer(encode_status(
                id,
                status::UNSUPPORTED,
                Reason::FeatureRefused.message(),
            )),
        }
    }

    fn live(&mut self, handle: &[u8]) -> Option<&mut Open<T>> {
        self.handles.get_mut(handle).filter(|open| !open.is_closing)
    }

    fn await_answer(&mut self, id: u32, pending: Pending<T>) -> Demand {
        self.pending.insert(id, pending);
        Demand::Forward
    }

    /// Lets a decided request through: forward its packet now. `tickets` are its operations, in order.
    pub(super) fn admit(&mut self, question: Question, tickets: Vec<T>) {
        let mut tickets = tickets.into_iter();
        let pending = match question.subject {
            Subject::File {
                path,
                reads,
                writes,
                appends,
            } => {
                let read = reads.then(|| tickets.next()).flatten().map(Transfer::new);
                let mut write = writes.then(|| tickets.next()).flatten().map(Transfer::new);
                if let (Some(write), true) = (&mut write, appends) {
                    // The target puts it behind what is there already; offsets mean nothing.
                    write.digest = None;
                }
                Pending::Open(Open {
                    path,
                    read,
                    write,
                    is_closing: false,
                })
            }
            Subject::Change => match tickets.next() {
                Some(ticket) => Pending::Change(ticket),
                None => Pending::Other,
            },
        };
        self.pending.insert(question.id, pending);
    }

    /// The answer to a client whose request is refused; nothing of it goes to the target.
    pub(super) fn refuse(question: &Question, reason: Reason) -> Bytes {
        encode_status(question.id, status::PERMISSION_DENIED, reason.message())
    }

    /// Follows a packet from the target; forward it afterwards. Returns operations that ended.
    ///
    /// # Errors
    /// [`SftpError`]; nothing of the packet may be forwarded.
    pub(super) fn observe(&mut self, packet: &Packet) -> Result<Vec<Finished<T>>, SftpError> {
        match packet.response().map_err(SftpError::Codec)? {
            Response::Version { version } => self.observe_version(version),
            Response::Status { id, code } => self.observe_status(id, code),
            Response::Handle { id, handle } => self.observe_handle(id, handle),
            Response::Content { id, content } => self.observe_content(id, content),
            Response::Other { id } => match self.answered(id)? {
                Pending::Other => Ok(Vec::new()),
                _ => Err(unexpected_answer()),
            },
        }
    }

    fn observe_version(&mut self, version: u32) -> Result<Vec<Finished<T>>, SftpError> {
        if !self.has_begun || self.has_version {
            return Err(SftpError::Unexpected { what: "VERSION" });
        }
        if version != VERSION {
            return Err(SftpError::Version { version });
        }
        self.has_version = true;
        Ok(Vec::new())
    }

    fn observe_status(&mut self, id: u32, code: u32) -> Result<Vec<Finished<T>>, SftpError> {
        let outcome = match code {
            status::OK => OperationOutcome::Completed,
            _ => OperationOutcome::FailedAtTarget,
        };
        match self.answered(id)? {
            Pending::Open(_) if code == status::OK => Err(unexpected_answer()),
            Pending::Open(open) => Ok(open.finish(outcome).collect()),
            Pending::Close(handle) => Ok(self
                .handles
                .remove(&handle)
                .map(|open| open.finish(outcome).collect())
                .unwrap_or_default()),
            Pending::Read { handle, .. } => {
                if let (Some(open), false) = (self.handles.get_mut(&handle), code == status::EOF) {
                    open.read.as_mut().map(Transfer::fail);
                }
                Ok(Vec::new())
            }
            Pending::Write(handle) => {
                if let (Some(open), false) = (self.handles.get_mut(&handle), code == status::OK) {
                    open.write.as_mut().map(Transfer::fail);
                }
                Ok(Vec::new())
            }
            Pending::Change(ticket) => Ok(vec![Finished {
                ticket,
                outcome,
                result: OperationResult::default(),
            }]),
            Pending::Other => Ok(Vec::new()),
        }
    }

    fn observe_handle(&mut self, id: u32, handle: &[u8]) -> Result<Vec<Finished<T>>, SftpError> {
        let Pending::Open(open) = self.answered(id)? else {
            return Err(unexpected_answer());
        };
        if self.handles.contains_key(handle) {
            return Err(SftpError::Unexpected {
                what: "handle that is open already",
            });
        }
        self.handles.insert(Bytes::copy_from_slice(handle), open);
        Ok(Vec::new())
    }

    fn observe_content(&mut self, id: u32, content: &[u8]) -> Result<Vec<Finished<T>>, SftpError> {
        let Pending::Read { handle, offset } = self.answered(id)? else {
            return Err(unexpected_answer());
        };
        if let Some(transfer) = self
            .handles
            .get_mut(&handle)
            .and_then(|open| open.read.as_mut())
        {
            transfer.take(offset, content);
        }
        Ok(Vec::new())
    }

    fn answered(&mut self, id: u32) -> Result<Pending<T>, SftpError> {
        self.pending.remove(&id).ok_or_else(unexpected_answer)
    }

    /// Ends the conversation: every operation whose end was not seen, with what had moved.
    pub(super) fn interrupt(&mut self) -> Vec<Finished<T>> {
        let outcome = OperationOutcome::Interrupted;
        let mut finished: Vec<Finished<T>> = Vec::new();
        for (_, open) in self.handles.drain() {
            finished.extend(open.finish(outcome));
        }
        for (_, pending) in self.pending.drain() {
            match pending {
                Pending::Open(open) => finished.extend(open.finish(outcome)),
                Pending::Change(ticket) => finished.push(Finished {
                    ticket,
                    outcome,
                    result: OperationResult::default(),
                }),
                Pending::Close(_) | Pending::Read { .. } | Pending::Write(_) | Pending::Other => {}
            }
        }
        finished
    }
}

fn unexpected_answer() -> SftpError {
    SftpError::Unexpected {
        what: "answer to nothing that was asked",
    }
}

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn question_of_open(id: u32, path: &[u8], flags: u32) -> Question {
    let path = text(path);
    // What OpenSSH's server does with the flags: without WRITE the file can be read, whatever else
    // is set; and any flag but READ can create, truncate or write.
    let reads = flags & open_flags::READ != 0 || flags & open_flags::WRITE == 0;
    let writes = flags & !open_flags::READ != 0;
    let kinds = [
        reads.then_some(OperationKind::FileDownload),
        writes.then_some(OperationKind::FileUpload),
    ];
    Question {
        operations: kinds
            .into_iter()
            .flatten()
            .map(|kind| Operation {
                kind,
                detail: path.clone(),
                facts: None,
            })
            .collect(),
        id,
        subject: Subject::File {
            path,
            reads,
            writes,
            appends: flags & open_flags::APPEND != 0,
        },
    }
}

fn question_of_change(id: u32, verb: &str, subject: &str) -> Question {
    Question {
        operations: vec![Operation {
            kind: OperationKind::FileChange,
            detail: format!("{verb} {subject}"),
            facts: None,
        }],
        id,
        subject: Subject::Change,
    }
}

#[cfg(test)]
#[path = "sftp_tests.rs"]
mod tests;
