//! A control plane in memory: says what a test prepared, remembers what it was told.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use async_trait::async_trait;
use sallyport_api::gateway::{
    self as api, Anchor, AuthenticationAnswer, CallError, Fault, OperationBatch, SessionClosed,
};
use sallyport_core::{
    authz::Reason,
    id::{AuthenticationId, OperationId, RequestId, SessionId, TargetId},
    principal::AuthenticationStrength,
};
use tokio::sync::{Notify, watch};

use super::{PATIENCE, START};
use crate::control::{ControlError, ControlPlane, OpenAnswer};

/// What a control plane was told, in order.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) operations: Vec<OperationBatch>,
    pub(crate) anchors: Vec<Anchor>,
    pub(crate) closed: Vec<SessionClosed>,
    pub(crate) pinned: Vec<(SessionId, String)>,
    pub(crate) reported: Vec<(SessionId, String)>,
    pub(crate) cancelled: Vec<RequestId>,
    pub(crate) held: Vec<api::HoldOperation>,
    pub(crate) withdrawn: Vec<OperationId>,
    /// Evidence calls, also those that were refused or lost.
    pub(crate) attempts: usize,
}

type Answers = Mutex<Vec<Box<dyn FnOnce(&api::OpenSession) -> OpenAnswer + Send>>>;

/// A control plane in memory.
pub(crate) struct FakeControl {
    pub(crate) held: watch::Sender<api::HeldProgress>,
    pub(crate) told: Mutex<Told>,
    changed: Notify,
    unreachable: AtomicBool,
    refuses_evidence: AtomicBool,
    refuses_proofs: AtomicBool,
    answers: Answers,
    proofs: AtomicU64,
}

impl Default for FakeControl {
    fn default() -> Self {
        Self {
            held: watch::Sender::new(api::HeldProgress::Waiting {
                approvals_missing: 1,
                approved_by: Vec::new(),
                expires_at: START.plus(std::time::Duration::from_secs(600)),
            }),
            told: Mutex::default(),
            changed: Notify::default(),
            unreachable: AtomicBool::default(),
            refuses_evidence: AtomicBool::default(),
            refuses_proofs: AtomicBool::default(),
            answers: Answers::default(),
            proofs: AtomicU64::default(),
        }
    }
}

impl FakeControl {
    /// While unreachable every call fails, as without a connection.
    pub(crate) fn set_reachable(&self, is_reachable: bool) {
        self.unreachable.store(!is_reachable, Ordering::SeqCst);
    }

    pub(crate) fn refuse_evidence(&self) {
        self.refuses_evidence.store(true, Ordering::SeqCst);
    }

    pub(crate) fn refuse_proofs(&self) {
        self.refuses_proofs.store(true, Ordering::SeqCst);
    }

    /// The answer to the next request for a session.
    pub(crate) fn answer_open(
        &self,
        answer: impl FnOnce(&api::OpenSession) -> OpenAnswer + Send + 'static,
    ) {
        self.answers.lock().unwrap().push(Box::new(answer));
    }

    /// How many proofs were asked about.
    pub(crate) fn proofs(&self) -> u64 {
        self.proofs.load(Ordering::SeqCst)
    }

    /// Waits until what was told meets `condition`.
    pub(crate) async fn until(&self, condition: impl Fn(&Told) -> bool) {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                if condition(&self.told.lock().unwrap()) {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            panic!(
                "control was never told; it knows {:?}",
                self.told.lock().unwrap()
            );
        }
    }

    fn reach(&self) -> Result<(), ControlError> {
        if self.unreachable.load(Ordering::SeqCst) {
            return Err(ControlError::Unavailable);
        }
        Ok(())
    }

    fn tell(&self, tell: impl FnOnce(&mut Told)) -> Result<(), ControlError> {
        self.told.lock().unwrap().attempts += 1;
        let result = self.reach().and_then(|()| {
            if self.refuses_evidence.load(Ordering::SeqCst) {
                return Err(ControlError::Failed {
                    call: "record_operations",
                    fault: Fault {
                        error: CallError::Caller,
                        reason: Reason::AuditFailed,
                        message: "refused by the test".to_owned(),
                    },
                });
            }
            tell(&mut self.told.lock().unwrap());
            Ok(())
        });
        self.changed.notify_waiters();
        result
    }

    fn prove(&self) -> Result<AuthenticationAnswer, ControlError> {
        self.reach()?;
        self.proofs.fetch_add(1, Ordering::SeqCst);
        if self.refuses_proofs.load(Ordering::SeqCst) {
            return Ok(AuthenticationAnswer::Refused { reason: None });
        }
        Ok(AuthenticationAnswer::Proven {
            authentication_id: AuthenticationId::new(START, [1; 10]),
            person: "alice".parse().unwrap(),
            strength: AuthenticationStrength::SingleFactor,
        })
    }
}

#[async_trait]
impl ControlPlane for FakeControl {
    async fn prove_ssh_key(
        &self,
        _proof: api::SshKeyProof,
    ) -> Result<AuthenticationAnswer, ControlError> {
        self.prove()
    }

    async fn prove_ssh_certificate(
        &self,
        _proof: api::SshCertificateProof,
    ) -> Result<AuthenticationAnswer, ControlError> {
        self.prove()
    }

    async fn prove_password(
        &self,
        _proof: api::PasswordProof,
    ) -> Result<AuthenticationAnswer, ControlError> {
        self.prove()
    }

    async fn prove_pass(
        &self,
        _proof: api::PassProof,
    ) -> Result<AuthenticationAnswer, ControlError> {
        self.prove()
    }

    async fn open_session(&self, open: api::OpenSession) -> Result<OpenAnswer, ControlError> {
        self.reach()?;
        let answer = self
            .answers
            .lock()
            .unwrap()
            .pop()
            .expect("no answer was prepared");
        Ok(answer(&open))
    }

    async fn submit_request(
        &self,
        _submission: api::Submission,
    ) -> Result<api::RequestAnswer, ControlError> {
        self.reach()?;
        Ok(api::RequestAnswer::Refused(api::Refused {
            reasons: vec![Reason::NotPermitted],
            reference: "test".to_owned(),
        }))
    }

    async fn await_request(
        &self,
        _authentication_id: AuthenticationId,
        _connection: u64,
        request_id: RequestId,
        seen: api::RequestProgress,
    ) -> Result<api::RequestAnswer, ControlError> {
        self.reach()?;
        Ok(api::RequestAnswer::Progress {
            request_id,
            progress: seen,
        })
    }

    async fn cancel_request(
        &self,
        _authentication_id: AuthenticationId,
        _connection: u64,
        request_id: RequestId,
    ) -> Result<(), ControlError> {
        self.tell(|told| told.cancelled.push(request_id))
    }

    async fn pin_host_key(
        &self,
        session_id: SessionId,
        _target_id: TargetId,
        host_key: String,
    ) -> Result<(), ControlError> {
        self.tell(|told| told.pinned.push((session_id, host_key)))
    }

    async fn report_host_key(
        &self,
        session_id: SessionId,
        _target_id: TargetId,
        host_key: String,
    ) -> Result<(), ControlError> {
        self.tell(|told| told.reported.push((session_id, host_key)))
    }

    async fn hold_operation(
        &self,
        hold: api::HoldOperation,
    ) -> Result<api::HeldProgress, ControlError> {
        self.reach()?;
        self.told.lock().unwrap().held.push(hold);
        self.changed.notify_waiters();
        Ok(self.held.borrow().clone())
    }

    async fn await_operation(
        &self,
        _session_id: SessionId,
        _operation_id: OperationId,
        seen: api::HeldProgress,
    ) -> Result<api::HeldProgress, ControlError> {
        let mut held = self.held.subscribe();
        let progress = held.wait_for(|progress| *progress != seen).await;
        let progress = progress.expect("the control plane is there").clone();
        self.reach()?;
        Ok(progress)
    }

    async fn withdraw_operation(
        &self,
        _session_id: SessionId,
        operation_id: OperationId,
    ) -> Result<(), ControlError> {
        self.tell(|told| told.withdrawn.push(operation_id))
    }

    async fn record_operations(&self, batch: OperationBatch) -> Result<(), ControlError> {
        self.tell(|told| told.operations.push(batch))
    }

    async fn anchor_recording(&self, anchor: Anchor) -> Result<(), ControlError> {
        self.tell(|told| told.anchors.push(anchor))
    }

    async fn close_session(&self, closed: SessionClosed) -> Result<(), ControlError> {
        self.tell(|told| told.closed.push(closed))
    }
}
