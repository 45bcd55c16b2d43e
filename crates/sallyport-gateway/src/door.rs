//! What a protocol is given before authorization: it can prove who the client is, ask for access and
//! ask for a session. It cannot dial.
//!
//! INVARIANT: only this file makes a [`Session`], and only from a permit whose signature verified
//! and a recording that is open.
//!
//! Not here: deciding (`sallyport-control`), what a session can do (`session`).

use std::{net::IpAddr, sync::Arc};

use sallyport_api::{gateway as api, sensitive::Sensitive};
use sallyport_core::{
    id::{AuthenticationId, RequestId},
    inventory::{AccountName, TargetName},
    principal::PersonName,
};

use crate::{config::Limits, control::ControlError, session::Session};

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
    connection: u64,
    source: IpAddr,
    limits: Limits,
}

impl Door {
    /// The gateway's number of this connection, for logs.
    #[must_use]
    pub const fn connection(&self) -> u64 {
        self.connection
    }

    /// The client's address as the listener saw it.
    #[must_use]
    pub const fn source(&self) -> IpAddr {
        self.source
    }

    /// The gateway's limits.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// OpenSSH public keys of the authorities whose user certificates prove a person. Empty before
    /// control was ever reached.
    #[must_use]
    pub fn user_authorities(&self) -> Vec<String> {
        Vec::new()
    }

    /// Proves possession of a key. Call it only after the client's signature verified.
    ///
    /// # Errors
    /// [`ControlError`]; nothing is proven then.
    pub async fn prove_ssh_key(
        &self,
        _claim: Claim,
        _public_key: String,
    ) -> Result<api::AuthenticationAnswer, ControlError> {
        Err(ControlError::Unavailable)
    }

    /// Proves possession of a certificate's key. Call it only after the client's signature verified.
    ///
    /// # Errors
    /// [`ControlError`]; nothing is proven then.
    pub async fn prove_ssh_certificate(
        &self,
        _claim: Claim,
        _certificate: String,
    ) -> Result<api::AuthenticationAnswer, ControlError> {
        Err(ControlError::Unavailable)
    }

    /// Proves a password, a one-time code, or both.
    ///
    /// # Errors
    /// [`ControlError`]; nothing is proven then.
    pub async fn prove_password(
        &self,
        _claim: Claim,
        _password: Option<Sensitive>,
        _code: Option<Sensitive>,
    ) -> Result<api::AuthenticationAnswer, ControlError> {
        Err(ControlError::Unavailable)
    }

    /// Asks for access.
    ///
    /// # Errors
    /// [`ControlError`]; whether a request exists is unknown then.
    pub async fn submit_request(&self, _wish: Wish) -> Result<api::RequestAnswer, ControlError> {
        Err(ControlError::Unavailable)
    }

    /// Waits, at most 20 seconds, until a request stands otherwise than `seen`. The login grace does
    /// not run meanwhile.
    ///
    /// # Errors
    /// [`ControlError`]; the request stands as it did.
    pub async fn await_request(
        &self,
        _authentication_id: AuthenticationId,
        _request_id: RequestId,
        _seen: api::RequestProgress,
    ) -> Result<api::RequestAnswer, ControlError> {
        Err(ControlError::Unavailable)
    }

    /// Takes a waiting request back, as when the person leaves.
    ///
    /// # Errors
    /// [`ControlError`]; the request may still be waiting then.
    pub async fn cancel_request(
        &self,
        _authentication_id: AuthenticationId,
        _request_id: RequestId,
    ) -> Result<(), ControlError> {
        Err(ControlError::Unavailable)
    }

    /// Asks for a session; a connection has at most one. Everything that fails on the way is a
    /// refusal with its reason.
    pub async fn open_session(
        &self,
        _authentication_id: AuthenticationId,
        protocol: &str,
        _account: AccountName,
        _target: TargetName,
    ) -> OpenOutcome {
        OpenOutcome::Refused(api::Refused {
            reasons: Vec::new(),
            reference: protocol.to_owned(),
        })
    }
}
