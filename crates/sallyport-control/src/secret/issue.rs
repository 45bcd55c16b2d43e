//! Keys and credentials in use: issued for a permit, sealed for a gateway, or signing.

use sallyport_api::{gateway::CredentialContent, sensitive::Sensitive};
use sallyport_core::{
    authz::{Permit, Reason, SignedPermit},
    id::RecordingId,
    inventory::Account,
    lease::Lease,
    secret::{SecretBytes, SecretString},
    time::Timestamp,
};
use sallyport_vault::{
    SealedSecret, SecretPath, SigningKey, SshAuthority, VaultError,
    engines::{self, CredentialMaterial, EngineError, IssueContext},
};

use super::store;
use crate::kernel::{control::Control, database::StoreError, ids, statement::Sql};

/// Why a credential, key or signature is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The vault is sealed or not made.
    #[error("use the vault")]
    Vault(#[source] VaultError),
    /// The engine refused or failed.
    #[error("use the secrets engine")]
    Engine(#[source] EngineError),
    /// The account names an engine this version does not have.
    #[error("this version has no engine `{engine}`")]
    UnknownEngine {
        /// The engine.
        engine: String,
    },
    /// Nothing is stored at a path.
    #[error("nothing is stored at `{path}`")]
    Missing {
        /// The path.
        path: String,
    },
    /// A stored key is not one.
    #[error("the key stored at `{path}` is damaged")]
    Key {
        /// The path.
        path: String,
    },
    /// The credential could not be encoded.
    #[error("encode the credential")]
    Encode(#[source] serde_json::Error),
    /// The permit could not be signed.
    #[error("sign the permit")]
    Permit(#[source] sallyport_core::authz::PermitError),
    /// Access ended while the credential was being made.
    #[error("access ended while the credential was being made")]
    Revoked,
    /// The gateway left while the credential was being made.
    #[error("the gateway left while the credential was being made")]
    GatewayGone,
    /// The store failed.
    #[error("reach the store")]
    Store(#[from] StoreError),
}

impl SecretError {
    /// What the person is told.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Vault(VaultError::Sealed | VaultError::Uninitialised) => Reason::VaultSealed,
            Self::Engine(EngineError::Vault(VaultError::Sealed | VaultError::Uninitialised)) => {
                Reason::VaultSealed
            }
            Self::Revoked => Reason::GrantNotLive,
            Self::Store(_) => Reason::AuditFailed,
            _ => Reason::CredentialUnavailable,
        }
    }
}

/// A credential on its way to a gateway.
#[allow(missing_debug_implementations, reason = "it holds a secret")]
pub struct IssuedCredential {
    /// JSON of a [`CredentialContent`].
    pub content: SecretBytes,
    /// Its end.
    pub expires_at: Timestamp,
    /// What revoking needs.
    pub handle: Option<String>,
}

/// Makes the credential of one session.
///
/// # Errors
/// [`SecretError`].
pub async fn issue(
    control: &Control,
    permit: &Permit,
    account: &Account,
) -> Result<IssuedCredential, SecretError> {
    let engine = engine(&account.engine)?;
    let mut secrets = Vec::new();
    let mut reader = control.db().read().await?;
    for path in engine.secret_paths(&account.id) {
        if let Some(sealed) = store::latest(&mut reader, &path).await? {
            secrets.push(sealed);
        }
    }
    drop(reader);
    let context = IssueContext {
        vault: control.vault(),
        settings: &account.settings,
        secrets: &secrets,
        now: control.now(),
    };
    let issued = engine
        .issue(permit, context)
        .await
        .map_err(SecretError::Engine)?;
    let content = match &issued.content {
        CredentialMaterial::Password(password) => CredentialContent::Password {
            password: sensitive(password),
        },
        CredentialMaterial::PrivateKey { pem, certificate } => CredentialContent::PrivateKey {
            private_key: sensitive(pem),
            certificate: certificate.clone(),
        },
    };
    let content = serde_json::to_vec(&content).map_err(SecretError::Encode)?;
    Ok(IssuedCredential {
        content: content.into(),
        expires_at: issued.expires_at,
        handle: issued.handle,
    })
}

fn sensitive(text: &SecretString) -> Sensitive {
    Sensitive::new(text.expose_secret().clone())
}

fn engine(kind: &str) -> Result<&'static dyn engines::Engine, SecretError> {
    engines::by_kind(kind).ok_or_else(|| SecretError::UnknownEngine {
        engine: kind.to_owned(),
    })
}

/// Revokes what a lease stands for.
///
/// # Errors
/// [`SecretError`]; the caller tries again.
pub async fn revoke(control: &Control, lease: &Lease) -> Result<(), SecretError> {
    engine(&lease.engine)?
        .revoke(lease, control.now())
        .await
        .map_err(SecretError::Engine)
}

/// Checks an account's engine and settings; says in words what is wrong.
///
/// # Errors
/// The problem.
pub fn check_engine(kind: &str, settings: &serde_json::Value) -> Result<(), String> {
    let Some(engine) = engines::by_kind(kind) else {
        let kinds: Vec<String> = engines::all()
            .iter()
            .map(|engine| engine.describe().kind)
            .collect();
        return Err(format!(
            "`{kind}` is not an engine of this version; there are {}",
            kinds.join(", ")
        ));
    };
    engine
        .check_settings(settings)
        .map_err(|error| error.to_string())
}

/// Whether everything an account's engine needs has been stored.
///
/// # Errors
/// [`StoreError`].
pub async fn has_secret(sql: &mut dyn Sql, account: &Account) -> Result<bool, StoreError> {
    let Some(engine) = engines::by_kind(&account.engine) else {
        return Ok(false);
    };
    for path in engine.secret_paths(&account.id) {
        if store::latest(sql, &path).await?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A recording's own key.
#[allow(missing_debug_implementations, reason = "it holds a secret")]
pub struct RecordingKey {
    /// 32 bytes.
    pub key: SecretBytes,
    /// The same, wrapped by the vault.
    pub wrapped: String,
}

/// Makes the key of a recording.
///
/// # Errors
/// [`SecretError::Vault`].
pub fn recording_key(
    control: &Control,
    recording_id: &RecordingId,
) -> Result<RecordingKey, SecretError> {
    let mut key = vec![0_u8; 32];
    ids::fill(&mut key);
    let key = SecretBytes::new(key);
    let wrapped = control
        .vault()
        .wrap_recording_key(recording_id, &key)
        .map_err(SecretError::Vault)?;
    Ok(RecordingKey { key, wrapped })
}

/// Opens the key of a recording for playback.
///
/// # Errors
/// [`SecretError::Vault`].
pub fn unwrap_recording_key(
    control: &Control,
    recording_id: &RecordingId,
    wrapped: &str,
) -> Result<SecretBytes, SecretError> {
    control
        .vault()
        .unwrap_recording_key(recording_id, wrapped)
        .map_err(SecretError::Vault)
}

/// Signs a permit with the vault's permit key.
///
/// # Errors
/// [`SecretError`].
pub async fn sign_permit(control: &Control, permit: &Permit) -> Result<SignedPermit, SecretError> {
    let path = SecretPath::permit_key();
    let seed = open(control, &path).await?;
    let key = SigningKey::from_seed(&seed).map_err(|_| SecretError::Key {
        path: path.as_str().to_owned(),
    })?;
    permit
        .sign(|bytes| key.sign(bytes))
        .map_err(SecretError::Permit)
}

/// The authority that certifies people's keys for our own gateways.
///
/// # Errors
/// [`SecretError`].
pub async fn user_authority(control: &Control) -> Result<SshAuthority, SecretError> {
    let path = SecretPath::ssh_user_authority();
    let seed = open(control, &path).await?;
    SshAuthority::from_seed(&seed).map_err(|_| SecretError::Key {
        path: path.as_str().to_owned(),
    })
}

async fn open(control: &Control, path: &SecretPath) -> Result<SecretBytes, SecretError> {
    let mut reader = control.db().read().await?;
    let sealed: SealedSecret =
        store::latest(&mut reader, path)
            .await?
            .ok_or_else(|| SecretError::Missing {
                path: path.as_str().to_owned(),
            })?;
    control
        .vault()
        .open_secret(&sealed)
        .map_err(SecretError::Vault)
}
