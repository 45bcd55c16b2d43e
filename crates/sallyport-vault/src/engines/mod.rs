//! Secrets engines: each makes and revokes one kind of credential. A seam; a new kind is a folder here
//! and two lines below.
//!
//! Called by control's broker, through [`lease`](crate::lease), after the intent of a lease is durable.
//!
//! INVARIANT: an engine is asked with a [`Permit`], and takes from it alone whom the credential is for,
//! on which account, and when it ends at the latest.
//!
//! Not here: storing leases and secrets (control), using the credential (the gateway).

mod database;
mod mysql;
mod postgres;
mod settings;
mod ssh_ca;
mod static_secret;

use std::fmt;

use async_trait::async_trait;
use sallyport_core::{
    authz::Permit,
    descriptor::Descriptor,
    id::{AccountId, LeaseId},
    inventory::AccountName,
    lease::Lease,
    secret::{SecretBytes, SecretString},
    time::Timestamp,
};
use serde_json::Value;

use crate::{
    barrier::{Vault, VaultError},
    certificate::CertificateError,
    database::DatabaseError,
    secret_store::{SealedSecret, SecretPath},
};

pub use static_secret::{
    Rotation, SecretKind, check_secret, new_password, password_of, rotation_of,
};

/// Every engine, in alphabetical order of kinds.
#[must_use]
pub fn all() -> &'static [&'static dyn Engine] {
    &[
        &mysql::Mysql, //
        &postgres::Postgres,
        &ssh_ca::SshCa,
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

/// The engine that acts at targets of a protocol, if there is one: it also changes passwords there.
#[must_use]
pub fn of_protocol(protocol: &str) -> Option<&'static dyn Engine> {
    all()
        .iter()
        .copied()
        .find(|engine| engine.protocol() == Some(protocol))
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

    /// The account on the same target whose credential makes and ends this one's. Nothing for engines that
    /// act at no target.
    ///
    /// # Errors
    /// [`EngineError::Settings`].
    fn root_account(&self, _settings: &Value) -> Result<Option<AccountName>, EngineError> {
        Ok(None)
    }

    /// The protocol of the targets whose accounts it serves; nothing when it does not matter.
    fn protocol(&self) -> Option<&'static str> {
        None
    }

    /// What [`Self::revoke`] needs to know of a credential that is yet to be made: stored with the intent,
    /// so that a crash loses nothing.
    fn handle(&self, _vault: &Vault, _lease_id: &LeaseId) -> Option<String> {
        None
    }

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
    async fn revoke(&self, lease: &Lease, context: RevokeContext<'_>) -> Result<(), EngineError>;

    /// Removes one of [`Self::made`] that no lease knows of.
    ///
    /// # Errors
    /// [`EngineError`].
    async fn remove(&self, _handle: &str, _context: RevokeContext<'_>) -> Result<(), EngineError> {
        Ok(())
    }

    /// Changes the password of the site's root account to this one, logged in as it. Harmless when it is
    /// this one already.
    ///
    /// # Errors
    /// [`EngineError`]; whether the target has taken it is not known then.
    async fn set_password(
        &self,
        _site: &Site,
        _vault: &Vault,
        _password: &SecretString,
    ) -> Result<(), EngineError> {
        Err(NO_PASSWORDS)
    }

    /// Whether the target lets the site's root account in with this password.
    ///
    /// # Errors
    /// [`EngineError`].
    async fn accepts(
        &self,
        _site: &Site,
        _vault: &Vault,
        _password: &SecretString,
    ) -> Result<bool, EngineError> {
        Err(NO_PASSWORDS)
    }

    /// The handles of everything at a target that this installation made there, whoever remembers it.
    ///
    /// # Errors
    /// [`EngineError`].
    async fn made(&self, _context: RevokeContext<'_>) -> Result<Vec<String>, EngineError> {
        Ok(Vec::new())
    }
}

const NO_PASSWORDS: EngineError = EngineError::NoSite {
    engine: "",
    problem: "it changes no passwords",
};

/// Where an engine acts, and as whom.
#[derive(Clone, Debug)]
pub struct Site {
    /// `host:port` of the target.
    pub address: String,
    /// By what the target is recognised, as the inventory stores it.
    pub identities: Vec<String>,
    /// Name of the root account.
    pub root: AccountName,
    /// What opens the root account, to be tried in this order: while it is being rotated there are two.
    pub root_secrets: Vec<SealedSecret>,
}

/// What an engine gets to revoke with.
#[derive(Clone, Copy, Debug)]
pub struct RevokeContext<'a> {
    /// Opens the root account's secrets, and has the randomness.
    pub vault: &'a Vault,
    /// The account's settings.
    pub settings: &'a Value,
    /// Where, for engines that act at a target.
    pub site: Option<&'a Site>,
    /// Now.
    pub now: Timestamp,
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
    /// Where, for engines that act at a target.
    pub site: Option<&'a Site>,
    /// What was stored with the lease's intent ([`Engine::handle`]).
    pub handle: Option<&'a str>,
    /// Now.
    pub now: Timestamp,
}

impl Site {
    /// The passwords of the root account, in the order in which they are tried.
    fn root_passwords(&self, vault: &Vault) -> Result<Vec<SecretString>, EngineError> {
        let open = |sealed: &SealedSecret| {
            let secret = vault.open_secret(sealed).map_err(EngineError::Vault)?;
            match static_secret::decode(&secret) {
                Some(CredentialMaterial::Password { password, .. }) => Ok(password),
                _ => Err(EngineError::SecretForm {
                    path: sealed.path().clone(),
                }),
            }
        };
        self.root_secrets.iter().map(open).collect()
    }
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
    Password {
        /// The name it is for, where that is not the account's.
        user: Option<String>,
        /// The password.
        password: SecretString,
    },
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
            Self::Password { .. } => "Password(..)",
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
    /// It is not known where to act.
    #[error("act at the target of engine `{engine}`: {problem}")]
    NoSite {
        /// Kind of the engine.
        engine: &'static str,
        /// What is missing.
        problem: &'static str,
    },
    /// What was made could do more than the account's settings allow; it was undone.
    #[error("make a user: {problem}")]
    Excess {
        /// What it could do.
        problem: String,
    },
    /// A user owns objects, and the account's settings say that they are not to be touched. It cannot log
    /// in any more.
    #[error(
        "drop user `{user}`: it owns {objects} objects and `owned_objects` is `refuse`; it cannot log in any more"
    )]
    OwnsObjects {
        /// The user.
        user: String,
        /// How many.
        objects: String,
    },
    /// A user still has connections after they were ended.
    #[error("end the connections of user `{user}`: some are still there")]
    StillConnected {
        /// The user.
        user: String,
    },
    /// A user that is gone logged in.
    #[error("make sure that user `{user}` is gone: it logged in")]
    StillThere {
        /// The user.
        user: String,
    },
    /// The server did not do it.
    #[error("use the database")]
    Database(#[from] DatabaseError),
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
