//! What a protocol is given after authorization: the permit, the way to the target, the decision on
//! each operation, the recording, and the signal that it is over.
//!
//! INVARIANT: a session is closed exactly once, with the reason that came first; after its end
//! nothing is recorded, no operation begins and its target's stream is cut.
//!
//! Not here: making one (`door`), deciding (`enforce`), writing (`recorder`).

use std::sync::Arc;

use sallyport_api::gateway::CredentialContent;
use sallyport_core::{
    authz::{Permit, Reason},
    id::SessionId,
    session::{EndReason, Operation, OperationOutcome},
    time::Timestamp,
};
use sallyport_evidence::recording::{FrameKind, Pty};

use crate::{
    control::ControlError, dial::DialError, enforce::OperationDecision, stream::TargetStream,
};

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The reason.
    pub reason: EndReason,
    /// Words of whoever ended it; may be empty. Escape it before it reaches a terminal.
    pub comment: String,
}

/// The session is over; stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session is over: {}", .0.reason.as_str())]
pub struct SessionOver(pub End);

/// How much of a channel's bytes the recording keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Everything: terminals.
    Full,
    /// Up to the permit's content limit, the rest by size and hash: commands without a terminal,
    /// forwarded bytes.
    Limited,
    /// By size and hash only: file transfers, whose files are operations of their own.
    Digest,
}

/// What a channel is, as the recording's first frame of it says.
#[derive(Clone, Copy, Debug)]
pub struct ChannelOpening<'a> {
    /// The protocol's own word, such as `shell`, `exec`, `sftp`; at most 128 bytes.
    pub kind: &'a str,
    /// The terminal, if there is one. Commands typed there become operations by themselves.
    pub pty: Option<Pty<'a>>,
    /// The command of a channel without a prompt; at most 64 KiB.
    pub command: Option<&'a str>,
    /// How much is kept.
    pub content: Content,
}

/// What became of asking to begin an operation.
#[derive(Debug)]
pub enum OperationStart {
    /// It may run. Finish it; dropped unfinished, it is on record as interrupted.
    Begun(RunningOperation),
    /// It must not reach the target. The refusal is on record already.
    Refused(Reason),
    /// The session is over.
    Over(SessionOver),
}

/// What is known of an operation at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperationResult {
    /// Exit status, for commands that ended with one.
    pub exit_status: Option<u32>,
    /// Bytes of a file moved.
    pub size_bytes: Option<u64>,
    /// SHA-256 of a file moved whole and in order.
    pub sha256: Option<[u8; 32]>,
}

/// An operation that was let through and has not ended.
#[derive(Debug)]
pub struct RunningOperation {}

impl RunningOperation {
    /// Puts the end of the operation on record.
    pub fn finish(self, _outcome: OperationOutcome, _result: OperationResult) {}
}

/// One proxied connection, permitted and recorded.
#[derive(Debug)]
pub struct Session {
    permit: Permit,
}

impl Session {
    /// The session's id.
    #[must_use]
    pub const fn id(&self) -> &SessionId {
        &self.permit.terms().session_id
    }

    /// The permit it runs under.
    #[must_use]
    pub const fn permit(&self) -> &Permit {
        &self.permit
    }

    /// Lines for the person to read when the session opens.
    #[must_use]
    pub fn notice(&self) -> &str {
        ""
    }

    /// Host keys accepted, OpenSSH one-line form.
    #[must_use]
    pub fn host_keys(&self) -> &[String] {
        &[]
    }

    /// Whether the first host key seen may be pinned: only when none is known.
    #[must_use]
    pub fn pins_first_host_key(&self) -> bool {
        false
    }

    /// The credential to log in with, once; nothing afterwards.
    #[must_use]
    pub fn take_credential(&self) -> Option<CredentialContent> {
        None
    }

    /// Connects to the target. The stream is cut the moment the session is over.
    ///
    /// # Errors
    /// [`DialError`]; the session goes on, its caller says what it means.
    pub async fn dial(&self) -> Result<TargetStream, DialError> {
        Err(DialError::TimedOut {
            address: String::new(),
            timeout_s: 0,
        })
    }

    /// Pins the host key the target showed. Log in only after `Ok`.
    ///
    /// # Errors
    /// [`ControlError`]; the key is not pinned.
    pub async fn pin_host_key(&self, _host_key: String) -> Result<(), ControlError> {
        Err(ControlError::Unavailable)
    }

    /// Reports that the target showed a host key that is not accepted.
    ///
    /// # Errors
    /// [`ControlError`]; the session must end all the same.
    pub async fn report_host_key(&self, _host_key: String) -> Result<(), ControlError> {
        Err(ControlError::Unavailable)
    }

    /// Whether `operation` may run now. Leaves no trace: to run it, use
    /// [`Session::begin_operation`].
    #[must_use]
    pub fn check(&self, _operation: &Operation) -> OperationDecision {
        OperationDecision::Refused(Reason::NotPermitted)
    }

    /// Decides an operation and begins its evidence. Waits while too much evidence is on its way.
    pub async fn begin_operation(&self, _channel: u32, _operation: Operation) -> OperationStart {
        OperationStart::Refused(Reason::NotPermitted)
    }

    /// Puts something that was seen and cannot be refused on record, such as a typed command.
    pub fn observe_operation(&self, _channel: u32, _operation: Operation, _at: Timestamp) {}

    /// Opens a channel of the recording.
    ///
    /// # Errors
    /// [`SessionOver`].
    pub async fn open_channel(
        self: &Arc<Self>,
        _opening: ChannelOpening<'_>,
    ) -> Result<ChannelRecord, SessionOver> {
        Err(SessionOver(End {
            reason: EndReason::RecorderFailed,
            comment: String::new(),
        }))
    }

    /// Notes something the gateway told the person.
    ///
    /// # Errors
    /// [`SessionOver`].
    pub async fn note(&self, _text: &str) -> Result<(), SessionOver> {
        Err(SessionOver(End {
            reason: EndReason::RecorderFailed,
            comment: String::new(),
        }))
    }

    /// Resolves when the session is over, with why. Race every wait against it.
    pub async fn ended(&self) -> End {
        std::future::pending().await
    }

    /// Why the session is over, if it is.
    #[must_use]
    pub fn end_if_over(&self) -> Option<End> {
        None
    }

    /// Ends the session. The first reason stands.
    pub fn end(&self, _reason: EndReason) {}
}

/// One channel of a session's recording. Record first, forward after `Ok`. Dropping it closes the
/// channel in the recording.
#[derive(Debug)]
pub struct ChannelRecord {
    number: u32,
}

impl ChannelRecord {
    /// The channel's number in the recording: the `channel` of its operations.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// Records bytes from the client. Waits while the recorder is behind.
    ///
    /// # Errors
    /// [`SessionOver`]; the bytes must not be forwarded.
    pub async fn input(&self, _bytes: &[u8]) -> Result<(), SessionOver> {
        Ok(())
    }

    /// Records bytes from the target. Waits while the recorder is behind.
    ///
    /// # Errors
    /// [`SessionOver`]; the bytes must not be forwarded.
    pub async fn output(&self, _bytes: &[u8]) -> Result<(), SessionOver> {
        Ok(())
    }

    /// Records bytes from the target's standard error. Waits while the recorder is behind.
    ///
    /// # Errors
    /// [`SessionOver`]; the bytes must not be forwarded.
    pub async fn error_output(&self, _bytes: &[u8]) -> Result<(), SessionOver> {
        Ok(())
    }

    /// Records anything else that happens on the channel: a new size, a signal, an exit status.
    ///
    /// # Errors
    /// [`SessionOver`].
    pub async fn event(&self, _kind: FrameKind<'_>) -> Result<(), SessionOver> {
        Ok(())
    }
}
