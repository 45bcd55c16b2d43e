//! Turning control's yes into a session, or into a refusal that control hears of.
//!
//! INVARIANT: a session that control opened is either begun, with its recording open, or closed at
//! control; also when the client leaves meanwhile.

use std::sync::Arc;

use sallyport_api::gateway as api;
use sallyport_core::{
    authz::{Permit, PermitError, Reason},
    policy::Restraints,
    session::EndReason,
};
use sallyport_policy::RedactionError;

use super::OpenOutcome;
use crate::{
    connection::Connection,
    control::OpenAnswer,
    enforce::{self, Verdict},
    live::{InsertError, RollCall},
    node::Node,
    outbox::NotKept,
    recorder::{self, Recorder, RecorderError, RecordingStart, Writer},
    sealing::UnsealError,
    session::{End, Session, SessionStart, SessionState, Upstream, closing},
    spool::Evidence,
};

/// Why a session that control opened does not take place here.
#[derive(Debug, thiserror::Error)]
enum AdmitError {
    #[error("open the permit that control sent")]
    Permit(#[source] PermitError),
    #[error("use a permit for something else than was asked")]
    OtherPermit,
    #[error("unseal what control sent")]
    Unseal(#[source] UnsealError),
    #[error("prepare what the recording must not hold")]
    Redact(#[source] RedactionError),
    #[error("begin the recording")]
    Record(#[source] RecorderError),
    #[error("keep the beginning of the recording as evidence")]
    Keep(#[source] NotKept),
    #[error("take the session in")]
    Insert(#[source] InsertError),
}

impl AdmitError {
    /// What control is told, once the permit proved which session it is about.
    const fn end_reason(&self) -> EndReason {
        match self {
            Self::Redact(_) | Self::Record(_) | Self::Keep(_) => EndReason::RecorderFailed,
            Self::Unseal(_) => EndReason::TargetUnreachable,
            Self::Permit(_) | Self::OtherPermit | Self::Insert(_) => EndReason::GatewayStopped,
        }
    }

    /// What the person is told.
    const fn reason(&self) -> Reason {
        match self {
            Self::Redact(_) | Self::Record(_) => Reason::RecorderFailed,
            Self::Keep(_) => Reason::AuditFailed,
            Self::Unseal(_) => Reason::TargetUnreachable,
            Self::Permit(_) | Self::OtherPermit | Self::Insert(_) => Reason::ControlUnavailable,
        }
    }
}

/// Why somebody is not let in: policy demands what the session's protocol does not enforce, so that it is over.
fn not_enforced(session: &Session) -> Option<Reason> {
    session.end_if_over().and_then(|end| end.reason.refusal())
}

/// Opening one session.
#[derive(Clone, Debug)]
pub(super) struct Admission {
    pub(super) node: Arc<Node>,
    pub(super) connection: Arc<Connection>,
    /// What the connection's protocol enforces.
    pub(super) enforced: Restraints,
}

impl Admission {
    /// Asks control, and begins the session it opens.
    pub(super) async fn open(self, asked: api::OpenSession) -> OpenOutcome {
        let roll_call = self.node.live.last_roll_call();
        match self.node.control.open_session(asked.clone()).await {
            Ok(OpenAnswer::Opened(opened)) => self.admit(*opened, &asked, roll_call).await,
            Ok(OpenAnswer::Challenge(challenge)) => OpenOutcome::Challenge(challenge),
            Ok(OpenAnswer::Refused(refused)) => OpenOutcome::Refused(refused),
            Err(error) => {
                let reason = error.reason();
                let error: &dyn std::error::Error = &error;
                tracing::warn!(connection = self.connection.number, error, "no session");
                self.refuse(reason)
            }
        }
    }

    pub(super) fn refuse(&self, reason: Reason) -> OpenOutcome {
        let reference = format!("connection {}", self.connection.number);
        OpenOutcome::Refused(api::Refused {
            reasons: vec![reason],
            reference,
        })
    }

    /// Control said yes: verify the permit, and from then on either have a session or tell control
    /// that there is none.
    async fn admit(
        &self,
        opened: api::Opened,
        asked: &api::OpenSession,
        roll_call: RollCall,
    ) -> OpenOutcome {
        let permit = match self.open_permit(&opened, asked) {
            Ok(permit) => permit,
            Err(error) => return self.refuse_admission(&error),
        };
        match self.begin(permit.clone(), opened, roll_call).await {
            Ok(session) => match not_enforced(&session) {
                None => {
                    self.connection.grace.finish();
                    OpenOutcome::Opened(session)
                }
                // Let go of here, it is closed, and its recording says why.
                Some(reason) => OpenOutcome::Refused(api::Refused {
                    reasons: vec![reason],
                    reference: format!("{} over {}", session.id(), asked.protocol),
                }),
            },
            Err(error) => {
                let closed = api::SessionClosed {
                    session_id: permit.terms().session_id.clone(),
                    reason: error.end_reason(),
                    bytes_up: 0,
                    bytes_down: 0,
                    recording: None,
                    is_recording_complete: false,
                };
                closing::keep_end(closed, &self.node).await;
                self.refuse_admission(&error)
            }
        }
    }

    fn refuse_admission(&self, error: &AdmitError) -> OpenOutcome {
        let reason = error.reason();
        let connection = self.connection.number;
        let error: &dyn std::error::Error = error;
        tracing::error!(
            connection,
            error,
            "a session that control opened does not take place"
        );
        self.refuse(reason)
    }

    fn open_permit(
        &self,
        opened: &api::Opened,
        asked: &api::OpenSession,
    ) -> Result<Permit, AdmitError> {
        let now = self.node.clock.now();
        let permit = self
            .node
            .directives
            .open_permit(&opened.permit, &self.node.gateway_id, now)
            .map_err(AdmitError::Permit)?;
        let question = &permit.terms().question;
        let is_what_was_asked = question.account.name == asked.account
            && question.target.name == asked.target
            && question.target.protocol == asked.protocol
            && question.network.ip == asked.ip;
        if is_what_was_asked {
            Ok(permit)
        } else {
            Err(AdmitError::OtherPermit)
        }
    }

    async fn begin(
        &self,
        permit: Permit,
        opened: api::Opened,
        roll_call: RollCall,
    ) -> Result<Arc<Session>, AdmitError> {
        let session_id = &permit.terms().session_id;
        let sealing_key = &self.node.sealing_key;
        let credential = sealing_key
            .open_credential(&opened.credential, session_id)
            .map_err(AdmitError::Unseal)?;
        let key = sealing_key
            .open_recording_key(&opened.recording_key, session_id)
            .map_err(AdmitError::Unseal)?;

        let rules = self
            .node
            .redaction
            .rules(&permit.terms().constraints.redact)
            .map_err(AdmitError::Redact)?;
        let started_at = self.node.clock.now();
        let recording = RecordingStart {
            recording_id: permit.terms().recording_id.clone(),
            session_id: session_id.clone(),
            started_at_ms: started_at.unix_ms().unsigned_abs(),
            key,
            wrapped_key: opened.wrapped_recording_key,
            rules: Arc::clone(&rules),
        };
        let (recorder, writer) = self.begin_recording(recording).await?;

        let clock = Arc::clone(&self.node.clock);
        let taken = self.node.live.ledger.of(permit.terms(), started_at);
        let start = SessionStart {
            enforced: self.enforced,
            taken,
            permit,
            clock,
            started_at,
            recorder,
            rules,
        };
        let state = self.take_in(start, writer, roll_call)?;
        let upstream = Upstream {
            address: opened.address,
            host_keys: opened.host_keys,
            pins_first_host_key: opened.pins_first_host_key,
            notice: opened.notice,
        };
        Ok(Arc::new(Session::new(
            state,
            Arc::clone(&self.node),
            upstream,
            credential,
        )))
    }

    async fn begin_recording(
        &self,
        start: RecordingStart,
    ) -> Result<(Recorder, Writer), AdmitError> {
        let recordings = Arc::clone(&self.node.recordings);
        let stall = self.node.limits.recorder_stall();
        let begun =
            tokio::task::spawn_blocking(move || recorder::begin(recordings.as_ref(), start, stall));
        let begun = match tokio::time::timeout(stall, begun).await {
            Ok(Ok(begun)) => begun,
            Ok(Err(_)) => Err(RecorderError::Panicked),
            Err(_) => Err(RecorderError::Stalled {
                timeout_s: stall.as_secs(),
            }),
        };
        let (recorder, writer) = begun.map_err(AdmitError::Record)?;
        // Before the first byte: a gateway that cannot keep evidence opens nothing.
        if let Some(anchor) = writer.anchor() {
            let kept = self.node.outbox.keep(Evidence::Anchor(anchor)).await;
            kept.map_err(AdmitError::Keep)?;
        }
        Ok((recorder, writer))
    }

    /// Adds the session to those that live and starts its task, which closes it whatever happens.
    fn take_in(
        &self,
        start: SessionStart,
        writer: Writer,
        roll_call: RollCall,
    ) -> Result<Arc<SessionState>, AdmitError> {
        let node = &self.node;
        let state = Arc::new(SessionState::new(start));
        node.live
            .insert(&state, roll_call, node.clock.now())
            .map_err(AdmitError::Insert)?;
        let cut = self.connection.cut.clone();
        let serving = closing::serve(Arc::clone(&state), writer, Arc::clone(node), cut);
        node.tasks.spawn("session", serving);
        // Policies may have changed while control's answer was on its way.
        let now = node.clock.now();
        match enforce::decide_again(
            node.directives.engine().as_ref(),
            state.permit().terms(),
            now,
        ) {
            Verdict::GoesOn(constraints) => state.tighten(&constraints),
            Verdict::Ends(reason) => state.end(End::because(reason), now),
        }
        Ok(state)
    }
}
