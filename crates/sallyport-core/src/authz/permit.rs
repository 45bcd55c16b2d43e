//! A permit: signed proof that one session was decided and permitted. Dialling and issuing demand it.
//!
//! INVARIANT: there are two ways to a [`Permit`]: from an [`Authorisation`], which only `decide`
//! makes, and from bytes whose signature the caller's verifier accepted.

use serde::{Deserialize, Serialize};

use super::{Authorisation, Question};
use crate::{
    id::{GatewayId, GrantId, PermitId, RecordingId, SessionId},
    policy::{BundleHash, Constraints},
    time::Timestamp,
};

/// What a permit says. Plain values: holding terms proves nothing, holding a [`Permit`] does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PermitTerms {
    /// Format version; 1.
    pub version: u32,
    /// Id.
    pub id: PermitId,
    /// The one session it opens.
    pub session_id: SessionId,
    /// The recording that session writes.
    pub recording_id: RecordingId,
    /// The one gateway that may use it.
    pub gateway_id: GatewayId,
    /// The grant behind it.
    pub grant_id: GrantId,
    /// When it was made. It opens a session for one minute after.
    pub issued_at: Timestamp,
    /// When everything it opened ends: the grant's end.
    pub expires_at: Timestamp,
    /// Bundle that decided.
    pub bundle: BundleHash,
    /// Limits.
    pub constraints: Constraints,
    /// The facts decided on; operations of the session are decided on the same ones.
    pub question: Question,
}

/// Proof of one decision for one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit(PermitTerms);

/// Why there is no permit.
#[derive(Debug, thiserror::Error)]
pub enum PermitError {
    /// The authorisation is for something else than opening a session under a grant.
    #[error("make a permit from an authorisation that opens no session")]
    NotASession,
    /// Encoding failed.
    #[error("encode permit")]
    Encode(#[source] serde_json::Error),
    /// The signature is not control's.
    #[error("verify the signature of a permit")]
    Signature,
    /// The content is not a permit of version 1.
    #[error("read permit")]
    Decode(#[source] serde_json::Error),
    /// It was made for another gateway, or too long ago.
    #[error("permit `{id}` is for another gateway or no longer opens a session")]
    NotUsable {
        /// The permit.
        id: PermitId,
    },
}

/// Ids that a permit binds together.
#[derive(Clone, Debug)]
pub struct PermitIds {
    /// Permit.
    pub id: PermitId,
    /// Session.
    pub session_id: SessionId,
    /// Recording.
    pub recording_id: RecordingId,
    /// Gateway.
    pub gateway_id: GatewayId,
}

impl Permit {
    /// Makes the permit of an authorised session.
    ///
    /// # Errors
    /// [`PermitError::NotASession`] when the authorisation has no grant or no bundle behind it.
    pub fn mint(authorisation: &Authorisation, ids: PermitIds) -> Result<Self, PermitError> {
        let question = &authorisation.question;
        let grant = question.grant.as_ref().ok_or(PermitError::NotASession)?;
        let bundle = authorisation
            .trace
            .bundle
            .clone()
            .ok_or(PermitError::NotASession)?;
        if question.action != super::Action::SessionOpen {
            return Err(PermitError::NotASession);
        }
        Ok(Self(PermitTerms {
            version: 1,
            id: ids.id,
            session_id: ids.session_id,
            recording_id: ids.recording_id,
            gateway_id: ids.gateway_id,
            grant_id: grant.id.clone(),
            issued_at: question.now,
            expires_at: grant.until,
            bundle,
            constraints: authorisation.constraints.clone(),
            question: question.clone(),
        }))
    }

    /// This permit within the limits that were approved with the grant: a bundle that has become laxer
    /// since does not widen what was approved.
    #[must_use]
    pub fn within(mut self, granted: &Constraints) -> Self {
        self.0.constraints = self.0.constraints.strictest(granted);
        self
    }

    /// What it says.
    #[must_use]
    pub const fn terms(&self) -> &PermitTerms {
        &self.0
    }

    /// Signs the permit for its way to the gateway. `sign` makes an Ed25519 signature.
    ///
    /// # Errors
    /// [`PermitError::Encode`].
    pub fn sign(&self, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> Result<SignedPermit, PermitError> {
        let terms = serde_json::to_string(&self.0).map_err(PermitError::Encode)?;
        let signature = sign(&signed_bytes(&terms));
        Ok(SignedPermit { terms, signature })
    }
}

/// How long after its making a permit opens a session, in seconds.
const OPENS_FOR_S: u64 = 60;

fn signed_bytes(terms: &str) -> Vec<u8> {
    // Domain separation: control signs other things with other prefixes.
    [b"sallyport permit v1\n".as_slice(), terms.as_bytes()].concat()
}

/// A permit on its way: the exact signed text and the signature over it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedPermit {
    terms: String,
    signature: Vec<u8>,
}

impl SignedPermit {
    /// Opens a permit that arrived. `verify` gets the signed bytes and the signature.
    ///
    /// # Errors
    /// [`PermitError::Signature`], [`PermitError::Decode`], or [`PermitError::NotUsable`] when it is for
    /// another gateway, made more than a minute ago, or its grant has ended.
    pub fn open(
        &self,
        verify: impl FnOnce(&[u8], &[u8]) -> bool,
        gateway_id: &GatewayId,
        now: Timestamp,
    ) -> Result<Permit, PermitError> {
        if !verify(&signed_bytes(&self.terms), &self.signature) {
            return Err(PermitError::Signature);
        }
        let terms: PermitTerms = serde_json::from_str(&self.terms).map_err(PermitError::Decode)?;
        let is_fresh = now.since(terms.issued_at).as_secs() <= OPENS_FOR_S;
        if &terms.gateway_id != gateway_id
            || !is_fresh
            || terms.expires_at <= now
            || terms.version != 1
        {
            return Err(PermitError::NotUsable { id: terms.id });
        }
        Ok(Permit(terms))
    }
}

#[cfg(test)]
#[path = "permit_tests.rs"]
mod tests;
