//! The `static` engine: injects a stored password or private key. The gateway logs in with it; the person
//! never sees it.
//!
//! INVARIANT: a stored secret was checked when it was written ([`check_secret`]), so a session does not
//! find out that it could never have worked.
//!
//! Not here: ending the secret's life. The target accepts it until somebody changes it there; what ends
//! with the lease is only our use of it.

mod check;
mod rotation;

use async_trait::async_trait;
use sallyport_core::{
    authz::Permit,
    descriptor::Descriptor,
    id::AccountId,
    lease::Lease,
    secret::{Secret, SecretBytes, SecretString},
};
use serde_json::Value;

pub use self::{
    check::{SecretKind, check_secret},
    rotation::{Rotation, new_password, password_of, rotation_of},
};
use super::{CredentialMaterial, Engine, EngineError, IssueContext, Issued, RevokeContext};
use crate::secret_store::SecretPath;

const KIND: &str = "static";

/// See the module.
#[derive(Debug)]
pub(super) struct Static;

#[async_trait]
impl Engine for Static {
    fn describe(&self) -> Descriptor {
        Descriptor {
            kind: KIND.to_owned(),
            title: "Stored password or private key".to_owned(),
            settings: rotation::settings(),
            operations: Vec::new(),
            secrets_needed: vec!["credential".to_owned()],
        }
    }

    fn check_settings(&self, settings: &Value) -> Result<(), EngineError> {
        rotation::read(settings).map(|_| ())
    }

    fn secret_paths(&self, account_id: &AccountId) -> Vec<SecretPath> {
        vec![SecretPath::account_credential(account_id)]
    }

    fn accept_secret(
        &self,
        account_id: &AccountId,
        kind: &str,
        value: &SecretString,
    ) -> Result<(SecretPath, SecretBytes), EngineError> {
        let kind = SecretKind::from_name(kind)?;
        check_secret(kind, value)?;
        Ok((
            SecretPath::account_credential(account_id),
            encode(kind, value),
        ))
    }

    async fn issue(
        &self,
        permit: &Permit,
        context: IssueContext<'_>,
    ) -> Result<Issued, EngineError> {
        self.check_settings(context.settings)?;
        let terms = permit.terms();
        if terms.expires_at <= context.now {
            return Err(EngineError::PermitEnded {
                ended: terms.expires_at,
            });
        }
        let path = SecretPath::account_credential(&terms.question.account.id);
        let content = decode(&context.open(&path)?).ok_or(EngineError::SecretForm { path })?;
        Ok(Issued {
            content,
            expires_at: terms.expires_at,
            handle: None,
        })
    }

    async fn revoke(&self, _lease: &Lease, _context: RevokeContext<'_>) -> Result<(), EngineError> {
        // Nothing was made for the lease, so nothing is left of it; see the module.
        Ok(())
    }
}

/// One byte for the kind, then the text.
pub(crate) fn encode(kind: SecretKind, value: &SecretString) -> SecretBytes {
    let text = value.expose_secret().as_bytes();
    let mut bytes = Vec::with_capacity(text.len() + 1);
    bytes.push(kind.tag());
    bytes.extend_from_slice(text);
    Secret::new(bytes)
}

/// Reads [`encode`].
pub(crate) fn decode(bytes: &SecretBytes) -> Option<CredentialMaterial> {
    let (tag, text) = bytes.expose_secret().split_first()?;
    let text = Secret::new(std::str::from_utf8(text).ok()?.to_owned());
    Some(match SecretKind::from_tag(*tag)? {
        SecretKind::Password => CredentialMaterial::Password {
            user: None,
            password: text,
        },
        SecretKind::PrivateKey => CredentialMaterial::PrivateKey {
            pem: text,
            certificate: None,
        },
    })
}
