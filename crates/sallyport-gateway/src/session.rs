//! What a protocol is given after authorization: the permit, the way to the target, the decision on
//! each operation, the recording, and the signal that it is over.
//!
//! INVARIANT: a session is closed exactly once, with the reason that came first; after its end no
//! byte is recorded, no operation begins and its target's stream is cut.
//!
//! Not here: making one ([`crate::door`]), deciding ([`crate::enforce`]), writing
//! ([`crate::recorder`]).

mod budget;
mod channel;
pub(crate) mod closing;
mod held;
mod mask;
mod operation;
mod oversight;
mod state;

pub use channel::{ChannelOpening, ChannelRecord, Content};
pub use held::{HeldOperation, HeldStep};
pub use operation::{OperationResult, OperationStart, RunningOperation};
pub use oversight::{Typed, Words};

pub(crate) use budget::Ledger;
pub(crate) use mask::TokenKey;
pub(crate) use state::{SessionStart, SessionState};

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sallyport_api::gateway::CredentialContent;
use sallyport_core::{
    authz::{Permit, Reason, TerminalRules},
    id::{OperationId, SessionId},
    policy::Masks,
    session::{EndReason, Operation, OperationRecord},
    time::Timestamp,
};
use sallyport_evidence::recording::{FrameKind, SESSION_CHANNEL};
use tokio::task::JoinHandle;

use crate::{
    control::ControlError,
    dial::{self, DialError, WayToStop},
    enforce::{self, OperationDecision},
    node::Node,
    stream::{CutStream, TargetStream},
};

/// Longest note in a recording, in bytes.
const NOTE_BYTES_MAX: usize = 64 * 1024;

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The reason.
    pub reason: EndReason,
    /// Words of whoever ended it; may be empty. Escape it before it reaches a terminal.
    pub comment: String,
}

impl End {
    /// An end that nobody commented.
    #[must_use]
    pub const fn because(reason: EndReason) -> Self {
        Self {
            reason,
            comment: String::new(),
        }
    }
}

/// The session is over; stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("go on with a session that is over: {}", .0.reason.as_str())]
pub struct SessionOver(pub End);

/// What control sent along with the permit, the credential excepted.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) address: String,
    pub(crate) host_keys: Vec<String>,
    pub(crate) pins_first_host_key: bool,
    pub(crate) notice: String,
}

/// One proxied connection, permitted and recorded.
#[derive(Debug)]
pub struct Session {
    state: Arc<SessionState>,
    node: Arc<Node>,
    upstream: Upstream,
    credential: Mutex<Option<CredentialContent>>,
}

impl Session {
    /// Called by the door alone.
    pub(crate) fn new(
        state: Arc<SessionState>,
        node: Arc<Node>,
        upstream: Upstream,
        credential: CredentialContent,
    ) -> Self {
        Self {
            state,
            node,
            upstream,
            credential: Mutex::new(Some(credential)),
        }
    }

    /// The session's id.
    #[must_use]
    pub fn id(&self) -> &SessionId {
        self.state.id()
    }

    /// The permit it runs under.
    #[must_use]
    pub fn permit(&self) -> &Permit {
        self.state.permit()
    }

    /// Lines for the person to read when the session opens.
    #[must_use]
    pub fn notice(&self) -> &str {
        &self.upstream.notice
    }

    /// Host keys accepted, OpenSSH one-line form.
    #[must_use]
    pub fn host_keys(&self) -> &[String] {
        &self.upstream.host_keys
    }

    /// Whether the first host key seen may be pinned: only when none is known.
    #[must_use]
    pub fn pins_first_host_key(&self) -> bool {
        self.upstream.pins_first_host_key && self.upstream.host_keys.is_empty()
    }

    /// The credential to log in with, once; nothing afterwards.
    #[must_use]
    pub fn take_credential(&self) -> Option<CredentialContent> {
        self.credential
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Whether policy wants the content of transferred files in the recording.
    #[must_use]
    pub fn records_file_content(&self) -> bool {
        self.state.records_file_content()
    }

    /// Whether statements only read. Its target's session is to be told so.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.state.allowance.is_read_only()
    }

    /// Whether what statements take is limited.
    #[must_use]
    pub fn has_budgets(&self) -> bool {
        self.state.allowance.is_limited()
    }

    /// Whether results hold columns that are not shown as they are.
    #[must_use]
    pub fn has_masks(&self) -> bool {
        self.state.allowance.is_masked()
    }

    /// Columns that are not shown as they are.
    #[must_use]
    pub fn masks(&self) -> Arc<Masks> {
        self.state.allowance.masks()
    }

    /// What stands for a value of this column; nothing when no token can be made.
    #[must_use]
    pub fn token(&self, column: &str, value: &[u8]) -> Option<String> {
        self.node.live.token_key.token(column, value)
    }

    /// The time by this node's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.node.clock.now()
    }

    /// How much longer a statement may run that began then; nothing when its time is not limited.
    #[must_use]
    pub fn time_left(&self, since: Timestamp) -> Option<Duration> {
        let seconds = self.state.allowance.budgets().statement_seconds?;
        let passed_ms = self.now().unix_ms().saturating_sub(since.unix_ms());
        let passed = Duration::from_millis(u64::try_from(passed_ms).unwrap_or_default());
        Some(Duration::from_secs(seconds).saturating_sub(passed))
    }

    /// Takes one more row of a result, of `row_bytes`, for a statement that has these rows and bytes with it.
    /// The reason when it is too much: then it must not pass.
    #[must_use]
    pub fn take_row(&self, rows: u64, bytes: u64, row_bytes: u64) -> Option<Reason> {
        self.state.allowance.take(rows, bytes, row_bytes)
    }

    /// Connects to the target. The stream is cut the moment the session is over.
    ///
    /// # Errors
    /// [`DialError`]; the session goes on, its caller says what it means.
    pub async fn dial(&self) -> Result<TargetStream, DialError> {
        self.state.check_live().map_err(DialError::SessionOver)?;
        let timeout = self.node.limits.dial_timeout();
        tokio::select! {
            dialled = dial::dial(&self.upstream.address, timeout) => {
                Ok(CutStream::new(dialled?, self.state.target_cut()))
            }
            end = self.state.ended() => Err(DialError::SessionOver(SessionOver(end))),
        }
    }

    /// Where the target is: `host:port`, for comparing with what a certificate names.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.upstream.address
    }

    /// How to ask the target to stop what this session began there, also once it is over.
    #[must_use]
    pub fn way_to_stop(&self) -> WayToStop {
        WayToStop::new(
            self.upstream.address.clone(),
            self.node.limits.dial_timeout(),
        )
    }

    /// Pins the host key the target showed. Log in only after `Ok`.
    ///
    /// # Errors
    /// [`ControlError`]; the key is not pinned.
    pub async fn pin_host_key(&self, host_key: String) -> Result<(), ControlError> {
        let target_id = self.permit().terms().question.target.id.clone();
        self.node
            .control
            .pin_host_key(self.id().clone(), target_id, host_key)
            .await
    }

    /// Reports that the target showed a host key that is not accepted.
    ///
    /// # Errors
    /// [`ControlError`]; the session must end all the same.
    pub async fn report_host_key(&self, host_key: String) -> Result<(), ControlError> {
        let target_id = self.permit().terms().question.target.id.clone();
        self.node
            .control
            .report_host_key(self.id().clone(), target_id, host_key)
            .await
    }

    /// Whether `operation` may run now. Leaves no trace: to run it, use
    /// [`Session::begin_operation`].
    #[must_use]
    pub fn check(&self, operation: &Operation) -> OperationDecision {
        if self.state.allowance.is_read_only() && operation.may_write() {
            return OperationDecision::Refused(Reason::ReadOnly);
        }
        let engine = self.node.directives.engine();
        let now = self.node.clock.now();
        let (terms, asked) = (self.permit().terms(), self.state.question());
        enforce::check(engine.as_ref(), terms, asked, operation, now)
    }

    /// Decides an operation and begins its evidence. Waits while too much evidence is on its way.
    pub async fn begin_operation(
        self: &Arc<Self>,
        channel: u32,
        operation: Operation,
    ) -> OperationStart {
        self.begin_shown(channel, operation, |operation| Some(operation.clone()))
            .await
    }

    /// As [`Session::begin_operation`], where other people who have to agree are `shown` more than what policies
    /// look at, such as the values of a statement. Nothing: not all of it can be shown, and it is refused.
    pub async fn begin_shown(
        self: &Arc<Self>,
        channel: u32,
        operation: Operation,
        shown: impl FnOnce(&Operation) -> Option<Operation>,
    ) -> OperationStart {
        self.state.room_for_operation().await;
        if let Err(over) = self.state.pass().await {
            return OperationStart::Over(over);
        }
        match self.check(&operation) {
            OperationDecision::Permitted => OperationStart::Begun(RunningOperation::new(
                Arc::clone(self),
                self.operation_id(),
                channel,
                operation,
                self.node.clock.now(),
            )),
            OperationDecision::Held(hold) => match shown(&operation) {
                Some(shown) => held::hold(self, channel, operation, shown, *hold).await,
                None => self.refused(channel, operation, Reason::OperationTooLong),
            },
            OperationDecision::Refused(reason) => self.refused(channel, operation, reason),
        }
    }

    /// Puts a refusal on record.
    fn refused(&self, channel: u32, operation: Operation, reason: Reason) -> OperationStart {
        let (id, now) = (self.operation_id(), self.node.clock.now());
        self.put(operation::instant_record(
            id,
            channel,
            operation,
            now,
            Some(reason),
        ));
        OperationStart::Refused(reason)
    }

    /// What holds for commands typed in terminals of this session.
    ///
    /// # Errors
    /// [`Reason::PolicyError`]: no terminal may open.
    pub fn typed_rules(&self) -> Result<TerminalRules, Reason> {
        let engine = self.node.directives.engine();
        let now = self.node.clock.now();
        enforce::typed_rules(engine.as_ref(), self.permit().terms(), now)
    }

    /// Puts on record that something was refused that is never offered, whatever policy says.
    pub async fn refuse_operation(&self, channel: u32, operation: Operation, reason: Reason) {
        self.state.room_for_operation().await;
        let _ = self.refused(channel, operation, reason);
    }

    /// Opens a channel of the recording.
    ///
    /// # Errors
    /// [`SessionOver`].
    pub async fn open_channel(
        self: &Arc<Self>,
        opening: ChannelOpening<'_>,
    ) -> Result<ChannelRecord, SessionOver> {
        let ChannelOpening {
            kind,
            pty,
            command,
            content,
        } = opening;
        let number = self.state.next_channel();
        self.state
            .record(number, FrameKind::ChannelOpened { kind, pty, command })
            .await?;
        let has_terminal = pty.is_some();
        Ok(ChannelRecord::new(
            Arc::clone(self),
            number,
            content,
            has_terminal,
        ))
    }

    /// Notes something the gateway told the person; cut at 64 KiB.
    ///
    /// # Errors
    /// [`SessionOver`].
    pub async fn note(&self, text: &str) -> Result<(), SessionOver> {
        let end = text.floor_char_boundary(NOTE_BYTES_MAX);
        let text = text.get(..end).unwrap_or_default();
        self.state
            .record(SESSION_CHANNEL, FrameKind::Note(text))
            .await
    }

    /// What is said to the person from now on: show it on every channel that can show something.
    #[must_use]
    pub fn words(&self) -> Words {
        self.state.words()
    }

    /// What was said before and still holds: who is joined, and why nothing passes.
    #[must_use]
    pub fn standing_words(&self) -> Vec<String> {
        self.state.standing_words()
    }

    /// Resolves when the session is over, with why. Race every wait against it.
    pub async fn ended(&self) -> End {
        self.state.ended().await
    }

    /// Why the session is over, if it is.
    #[must_use]
    pub fn end_if_over(&self) -> Option<End> {
        self.state.check_live().err().map(|over| over.0)
    }

    /// Ends the session. The first reason stands.
    pub fn end(&self, reason: EndReason) {
        self.state.end_with(reason);
    }

    /// Starts a task of this session: tracked, and its panic contained.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.node.tasks.spawn(name, future)
    }

    fn operation_id(&self) -> OperationId {
        OperationId::new(self.node.clock.now(), self.node.entropy.draw())
    }

    fn put(&self, record: OperationRecord) {
        self.state.put(record);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let reason = if std::thread::panicking() {
            EndReason::Panicked
        } else {
            EndReason::ClientClosed
        };
        self.state.end_with(reason);
        self.state.release();
    }
}

#[cfg(test)]
mod tests;
