//! The control plane as a gateway sees it: the only door out.
//!
//! Everything a gateway decides with, or keeps as evidence, goes through [`ControlPlane`]. In
//! production that is the client of the gateway RPC; tests put a fake in its place.
//!
//! INVARIANT: the gateway asks and control decides; a call that was not answered counts as refused.
//!
//! Not here: what calls mean and in which state they are allowed (`docs/formats/gateway-rpc.md`),
//! keeping evidence while control is away (`outbox`).

use async_trait::async_trait;
use sallyport_api::gateway as api;
use sallyport_core::{
    authz::Reason,
    id::{AuthenticationId, OperationId, RequestId, SessionId, TargetId},
};

/// Why a call to control has no answer. A refusal is an answer, never an error.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// There is no connection, or it broke before the answer came: whether control acted is unknown.
    #[error("reach the control plane")]
    Unavailable,
    /// The answer took too long.
    #[error("wait for the control plane to answer `{call}`")]
    TimedOut {
        /// The call.
        call: &'static str,
    },
    /// Control says that the call failed.
    #[error("call `{call}` of the control plane: {}", fault.message)]
    Failed {
        /// The call.
        call: &'static str,
        /// What control says.
        fault: api::Fault,
    },
    /// The answer belongs to another call: a fault of control or of this crate.
    #[error("read the control plane's answer to `{call}`")]
    WrongReply {
        /// The call.
        call: &'static str,
    },
    /// Evidence cannot be kept, neither at control nor on disk.
    #[error("keep evidence of `{call}`")]
    NotKept {
        /// The call.
        call: &'static str,
    },
}

impl ControlError {
    /// What to tell the person.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Failed { fault, .. } => fault.reason,
            Self::NotKept { .. } => Reason::AuditFailed,
            Self::Unavailable | Self::TimedOut { .. } | Self::WrongReply { .. } => {
                Reason::ControlUnavailable
            }
        }
    }
}

/// What control answered to [`ControlPlane::open_session`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenAnswer {
    /// Yes.
    Opened(Box<api::Opened>),
    /// Not yet.
    Challenge(api::ChallengeAnswer),
    /// No.
    Refused(api::Refused),
}

/// The control plane: one method for each call of the gateway RPC.
///
/// # Errors
/// Every method: a [`ControlError`], after which whether control acted is unknown.
#[async_trait]
pub trait ControlPlane: Send + Sync {
    /// Checks possession of a registered key, as the client proved it on this connection.
    async fn prove_ssh_key(
        &self,
        proof: api::SshKeyProof,
    ) -> Result<api::AuthenticationAnswer, ControlError>;

    /// Checks a user certificate, whose key the client proved on this connection.
    async fn prove_ssh_certificate(
        &self,
        proof: api::SshCertificateProof,
    ) -> Result<api::AuthenticationAnswer, ControlError>;

    /// Checks a password, a one-time code, or both.
    async fn prove_password(
        &self,
        proof: api::PasswordProof,
    ) -> Result<api::AuthenticationAnswer, ControlError>;

    /// Checks a pass shown for an account.
    async fn prove_pass(
        &self,
        proof: api::PassProof,
    ) -> Result<api::AuthenticationAnswer, ControlError>;

    /// Asks to open a session.
    async fn open_session(&self, open: api::OpenSession) -> Result<OpenAnswer, ControlError>;

    /// Asks for access.
    async fn submit_request(
        &self,
        submission: api::Submission,
    ) -> Result<api::RequestAnswer, ControlError>;

    /// Waits, at most 20 seconds, until a request stands otherwise than `seen`.
    async fn await_request(
        &self,
        authentication_id: AuthenticationId,
        connection: u64,
        request_id: RequestId,
        seen: api::RequestProgress,
    ) -> Result<api::RequestAnswer, ControlError>;

    /// Takes a waiting request back.
    async fn cancel_request(
        &self,
        authentication_id: AuthenticationId,
        connection: u64,
        request_id: RequestId,
    ) -> Result<(), ControlError>;

    /// Pins the first host key seen of a target. `Ok` means it is pinned durably.
    async fn pin_host_key(
        &self,
        session_id: SessionId,
        target_id: TargetId,
        host_key: String,
    ) -> Result<(), ControlError>;

    /// Reports a host key that is not the pinned one.
    async fn report_host_key(
        &self,
        session_id: SessionId,
        target_id: TargetId,
        host_key: String,
    ) -> Result<(), ControlError>;

    /// Holds an operation until other people agree.
    async fn hold_operation(
        &self,
        hold: api::HoldOperation,
    ) -> Result<api::HeldProgress, ControlError>;

    /// Waits, at most 20 seconds, until a held operation stands otherwise than `seen`; takes its release
    /// when nothing is missing. An answer that is lost is a release that is lost.
    async fn await_operation(
        &self,
        session_id: SessionId,
        operation_id: OperationId,
        seen: api::HeldProgress,
    ) -> Result<api::HeldProgress, ControlError>;

    /// Gives a held operation up. Repeats are harmless.
    async fn withdraw_operation(
        &self,
        session_id: SessionId,
        operation_id: OperationId,
    ) -> Result<(), ControlError>;

    /// Keeps evidence of operations. `Ok` means it is durable; repeats are harmless.
    async fn record_operations(&self, batch: api::OperationBatch) -> Result<(), ControlError>;

    /// Notes how far a recording is durable. Repeats are harmless.
    async fn anchor_recording(&self, anchor: api::Anchor) -> Result<(), ControlError>;

    /// Says that a session is over. Repeats are harmless.
    async fn close_session(&self, closed: api::SessionClosed) -> Result<(), ControlError>;
}
