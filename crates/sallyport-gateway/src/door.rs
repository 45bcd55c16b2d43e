//! What a protocol is given before authorization: it can prove who the client is, ask for access and
//! ask for a session. It cannot dial.
//!
//! INVARIANT: only this file and its `admission` make a [`Session`], and only from a permit whose signature verified
//! and a recording that is open.
//!
//! Not here: deciding (`sallyport-control`), what a session can do (`session`).

mod admission;
mod inner;

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use sallyport_api::{
    gateway::{self as api, AuthenticationAnswer},
    sensitive::Sensitive,
};
use sallyport_core::{
    authz::Reason,
    id::{AuthenticationId, RequestId},
    inventory::{AccountName, TargetName},
    policy::Restraints,
    principal::PersonName,
    time::Clock,
};
use tokio::task::JoinHandle;

use self::admission::Admission;
pub use self::inner::InnerDoor;
use crate::{
    config::Limits, connection::Connection, control::ControlError, node::Node, session::Session,
};

/// Who the client says it is, with every proof.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// The person the selector names, if it names one.
    pub person: Option<PersonName>,
    /// A proof made before on this connection that the new one adds to.
    pub adds_to: Option<AuthenticationId>,
}

/// What is asked for, in [`Door::submit_request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Proof of who asks, made through this door.
    pub authentication_id: AuthenticationId,
    /// Account.
    pub account: AccountName,
    /// Target.
    pub target: TargetName,
    /// Reason typed.
    pub reason: String,
    /// Ticket typed.
    pub ticket: Option<String>,
    /// Duration in seconds; absent means the default.
    pub duration_s: Option<u64>,
}

/// What became of [`Door::open_session`].
#[derive(Debug)]
pub enum OpenOutcome {
    /// It is open. Everything that serves it shares this one value; when the last share is dropped
    /// the session is closed.
    Opened(Arc<Session>),
    /// Something is missing.
    Challenge(api::ChallengeAnswer),
    /// No.
    Refused(api::Refused),
}

/// The way in for one connection.
#[derive(Debug)]
pub struct Door {
    node: Arc<Node>,
    connection: Arc<Connection>,
    failed_proofs: AtomicU32,
    has_session: AtomicBool,
    /// What the connection's protocol enforces.
    enforced: Restraints,
    /// Its connection runs within another one of this gateway.
    is_inner: bool,
}

impl Door {
    /// Called by the listener alone. `enforced` is what the connection's protocol enforces.
    pub(crate) fn new(node: Arc<Node>, connection: Arc<Connection>, enforced: Restraints) -> Self {
        Self {
            node,
            connection,
            enforced,
            failed_proofs: AtomicU32::new(0),
            has_session: AtomicBool::new(false),
            is_inner: false,
        }
    }

    /// The gateway's number of this connection, for logs.
    #[must_use]
    pub fn connection(&self) -> u64 {
        self.connection.number
    }

    /// The client's address as the listener saw it.
    #[must_use]
    pub fn source(&self) -> IpAddr {
        self.connection.source
    }

    /// The gateway's limits.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.node.limits
    }

    /// The gateway's clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.node.clock
    }

    /// OpenSSH public keys of the authorities whose user certificates prove a person. Empty before
    /// control was ever reached.
    #[must_use]
    pub fn user_authorities(&self) -> Vec<String> {
        self.node.directives.user_authorities()
    }

    /// Proves possession of a key. Call it only after the client's signature verified.
    ///
    /// # Errors
    /// [`ControlError`]; nothing is proven then.
    pub async fn prove_ssh_key(
        &self,
        claim: Claim,
        public_key: String,
    ) -> Result<AuthenticationAnswer, ControlError> {
        let proof = api::SshKeyProof {
            facts: self.facts(claim),
            public_key,
        };
        self.prove(self.node.control.prove_ssh_key(proof)).await
    }

    /// Proves possession of a certificate's key. Call it only after the client's signature verified.
    ///
    /// # Errors
    /// [`ControlError`]; nothing is proven then.
    pub async fn prove_ssh_certificate(
        &self,
        claim: Claim,
        certificate: String,
    ) -> Result<AuthenticationAnswer, ControlError> {
        let proof = api::SshCertificateProof {
            facts: self.facts(claim),
            certificate,
        };
        self.prove(self.node.control.prove_ssh_certificate(proof))
            .await
    }

    /// Proves a password, a one-time code, or both.
    ///
    /// # Errors
    /// [`ControlError`]; nothing is proven then.
    pub async fn prove_password(
        &self,
        claim: Claim,
        password: Option<Sensitive>,
        code: Option<Sensitive>,
    ) -> Result<AuthenticationAnswer, ControlError> {
        let proof = api::PasswordProof {
            facts: self.facts(claim),
            password,
            code,
        };
        self.prove(self.node.control.prove_password(proof)).await
    }

    /// Proves a person by a pass that was made for this account.
    ///
    /// # Errors
    /// [`ControlError`]; nothing is proven then.
    pub async fn prove_pass(
        &self,
        claim: Claim,
        pass: Sensitive,
        account: AccountName,
        target: TargetName,
    ) -> Result<AuthenticationAnswer, ControlError> {
        let proof = api::PassProof {
            facts: self.facts(claim),
            pass,
            account,
            target,
        };
        self.prove(self.node.control.prove_pass(proof)).await
    }

    /// Asks for access.
    ///
    /// # Errors
    /// [`ControlError`]; whether a request exists is unknown then.
    pub async fn submit_request(&self, wish: Wish) -> Result<api::RequestAnswer, ControlError> {
        let submission = api::Submission {
            authentication_id: wish.authentication_id,
            connection: self.connection.number,
            ip: self.connection.source,
            account: wish.account,
            target: wish.target,
            reason: wish.reason,
            ticket: wish.ticket,
            duration_s: wish.duration_s,
        };
        self.node.control.submit_request(submission).await
    }

    /// Waits, at most 20 seconds, until a request stands otherwise than `seen`. The login grace does
    /// not run meanwhile.
    ///
    /// # Errors
    /// [`ControlError`]; the request stands as it did.
    pub async fn await_request(
        &self,
        authentication_id: AuthenticationId,
        request_id: RequestId,
        seen: api::RequestProgress,
    ) -> Result<api::RequestAnswer, ControlError> {
        let _pause = self.connection.grace.pause();
        let number = self.connection.number;
        self.node
            .control
            .await_request(authentication_id, number, request_id, seen)
            .await
    }

    /// Takes a waiting request back, as when the person leaves.
    ///
    /// # Errors
    /// [`ControlError`]; the request may still be waiting then.
    pub async fn cancel_request(
        &self,
        authentication_id: AuthenticationId,
        request_id: RequestId,
    ) -> Result<(), ControlError> {
        let number = self.connection.number;
        self.node
            .control
            .cancel_request(authentication_id, number, request_id)
            .await
    }

    /// Asks for a session; a connection has at most one. Everything that fails on the way is a
    /// refusal with its reason.
    pub async fn open_session(
        &self,
        authentication_id: AuthenticationId,
        protocol: &str,
        account: AccountName,
        target: TargetName,
    ) -> OpenOutcome {
        let admission = Admission {
            node: Arc::clone(&self.node),
            connection: Arc::clone(&self.connection),
            enforced: self.enforced,
        };
        if self.has_session.swap(true, Ordering::AcqRel) {
            return admission.refuse(Reason::FeatureRefused);
        }
        let open = api::OpenSession {
            authentication_id,
            connection: self.connection.number,
            ip: self.connection.source,
            protocol: protocol.to_owned(),
            account,
            target,
        };
        // A task of its own: if the client leaves while control decides, somebody must still take
        // the answer, and close what it opened.
        let opening = self
            .node
            .tasks
            .spawn("open session", admission.clone().open(open));
        let outcome = match opening.await {
            Ok(Some(outcome)) => outcome,
            Ok(None) | Err(_) => admission.refuse(Reason::ControlUnavailable),
        };
        if !matches!(outcome, OpenOutcome::Opened(_)) {
            self.has_session.store(false, Ordering::Release);
        }
        outcome
    }

    /// Starts a task of this connection: tracked, and its panic contained.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.node.tasks.spawn(name, future)
    }

    fn facts(&self, claim: Claim) -> api::AuthenticationFacts {
        api::AuthenticationFacts {
            ip: self.connection.source,
            claimed: claim.person,
            connection: self.connection.number,
            adds_to: claim.adds_to,
        }
    }

    async fn prove(
        &self,
        answer: impl Future<Output = Result<AuthenticationAnswer, ControlError>>,
    ) -> Result<AuthenticationAnswer, ControlError> {
        // Counted before asking, so that attempts made at the same time do not share one.
        let failed = self.failed_proofs.fetch_add(1, Ordering::AcqRel);
        if failed >= self.node.limits.authentication_attempts_max {
            return Ok(AuthenticationAnswer::Refused {
                reason: Some(Reason::TooManyAttempts),
            });
        }
        let answer = answer.await;
        if !matches!(answer, Ok(AuthenticationAnswer::Refused { .. })) {
            self.failed_proofs.fetch_sub(1, Ordering::AcqRel);
        }
        if matches!(answer, Ok(AuthenticationAnswer::Proven { .. })) {
            self.connection.proven();
        }
        answer
    }
}

#[cfg(test)]
mod tests;
