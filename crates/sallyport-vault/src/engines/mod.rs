//! Secrets engines: each makes and revokes one kind of credential. A seam; a new kind is a folder here
//! and two lines below.
//!
//! Called by control's broker, through [`lease`](crate::lease), after the intent of a lease is durable.
//!
//! INVARIANT: an engine is asked with a [`Permit`], and takes from it alone whom the credential is for,
//! on which account, and when it ends at the latest.
//!
//! Not here: storing leases and secrets (control), using the credential (the gateway).

mod settings;
mod ssh_ca;
mod static_secret;

use std::fmt;

use async_trait::async_trait;
use sallyport_core::{
    authz::Permit,
    descriptor::Descriptor,
    id::AccountId,
    lease::Lease,
    secret::{SecretBytes, SecretString},
    time::Timestamp,
};
use serde_json::Value;

use crate::{
    barrier::{Vault, VaultError},
    certificate::CertificateError,
    secret_store::{SealedSecret, SecretPath},
};

pub use static_secret::{SecretKind, check_secret};

/// Every engine, in alphabetical order of kinds.
#[must_use]
pub fn all() -> &'static [&'static dyn Engine] {
    &[
        &ssh_ca::SshCa, //
        &static_secret::Static,
    ]
}

/// The engine of a kind.
#[must_use]
pub fn by_kind(kind: &str) -> Option<&'static dyn Engine> {
    all()
        .iter()
        .copied()
        .find(|engine| engine.describe().kind == kind)
}

/// Makes and revokes one kind of credential. Holds no state.
#[async_trait]
pub trait Engine: Send + Sync + fmt::Debug {
    /// Its kind, settings, and what it needs stored for each account.
    fn describe(&self) -> Descriptor;

    /// Checks an account's settings when they are written.
    ///
    /// # Errors
    /// [`EngineError::Settings`].
    fn check_settings(&self, settings: &Value) -> Result<(), EngineError>;

    /// The secrets that [`Self::issue`] must be given, in their latest versions.
    fn secret_paths(&self, account_id: &AccountId) -> Vec<SecretPath>;

    /// Checks a secret somebody stores for an account, and returns where and as what to seal it.
    /// `kind` is what the API was told: `password`, `private_key`.
    ///
    /// # Errors
    /// [`EngineError::Secret`]; [`EngineError::TakesNoSecret`].
    fn accept_secret(
        &self,
        account_id: &AccountId,
        kind: &str,
        value: &SecretString,
    ) -> Result<(SecretPath, SecretBytes), EngineError>;

    /// Makes the credential of one session. It ends no later than the permit.
    ///
    /// # Errors
    /// [`EngineError`]; nothing has been made then, or what has been made ends by itself.
    async fn issue(
        &self,
        permit: &Permit,
        context: IssueContext<'_>,
    ) -> Result<Issued, EngineError>;

    /// Revokes what [`Self::issue`] made, or may have made before a crash. Succeeds when it is gone
    /// already.
    ///
    /// # Errors
    /// [`EngineError`]: it is tried again, for ever.
    async fn revoke(&self, lease: &Lease, now: Timestamp) -> Result<(), EngineError>;
}

/// What an engine gets to issue with.
#[derive(Debug)]
pub struct IssueContext<'a> {
    /// Opens the secrets, and has the randomness.
    pub vault: &'a Vault,
    /// The account's settings.
    pub settings: &'a Value,
    /// The stored secrets at [`Engine::secret_paths`].
    pub secrets: &'a [SealedSecret],
    /// Now.
    pub now: Timestamp,
}

impl IssueContext<'_> {
    fn open(&self, path: &SecretPath) -> Result<SecretBytes, EngineError> {
        let sealed = self
            .secrets
            .iter()
            .find(|sealed| sealed.path() == path)
            .ok_or_else(|| EngineError::NoSecret { path: path.clone() })?;
        self.vault.open_secret(sealed).map_err(EngineError::Vault)
    }
}

/// A credential for one session.
#[derive(Debug)]
pub struct Issued {
    /// What to log in with.
    pub content: CredentialMaterial,
    /// Its end; never after the permit's.
    pub expires_at: Timestamp,
    /// What revoking needs; never a secret. At most 4 KiB.
    pub handle: Option<String>,
}

/// What a gateway logs in with at a target.
pub enum CredentialMaterial {
    /// A password.
    Password(SecretString),
    /// A private key, and the certificate that makes it good where the target trusts an authority.
    PrivateKey {
        /// OpenSSH private key, PEM, not encrypted.
        pem: SecretString,
        /// OpenSSH certificate, one line.
        certificate: Option<String>,
    },
}

impl fmt::Debug for CredentialMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password(_) => "Password(..)",
            Self::PrivateKey { .. } => "PrivateKey(..)",
        })
    }
}

/// Why an engine does not do what it was asked. Never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The account's settings are not what the engine describes.
    #[error("read the settings of engine `{engine}`: {problem}")]
    Settings {
        /// Kind of the engine.
        engine: &'static str,
        /// What is wrong with them.
        problem: String,
    },
    /// A secret that somebody stores is refused.
    #[error("store a secret of kind `{kind}`: {problem}")]
    Secret {
        /// As what it was given.
        kind: String,
        /// What is wrong with it; says nothing of its content.
        problem: &'static str,
    },
    /// This engine makes its credentials itself.
    #[error("store a secret: engine `{engine}` makes its credentials itself")]
    TakesNoSecret {
        /// Kind of the engine.
        engine: &'static str,
    },
    /// Nothing is stored where the engine looks.
    #[error("open secret `{path}`: none is stored")]
    NoSecret {
        /// Where.
        path: SecretPath,
    },
    /// The stored secret is not of the engine's form.
    #[error("read secret `{path}`: it is not what this engine stored")]
    SecretForm {
        /// Where.
        path: SecretPath,
    },
    /// The permit has run out.
    #[error("issue a credential under a permit that ended at {ended}")]
    PermitEnded {
        /// When.
        ended: Timestamp,
    },
    /// The vault is sealed, or the secret does not open.
    #[error("open a secret")]
    Vault(#[source] VaultError),
    /// No certificate could be made.
    #[error("issue a certificate")]
    Certificate(#[source] CertificateError),
    /// The key of the session could not be made.
    #[error("make the key of a session")]
    SessionKey(#[source] russh::keys::ssh_key::Error),
}
