//! Keys and credentials in use: issued for a permit, sealed for a gateway, or signing.

use sallyport_api::{gateway::CredentialContent, sensitive::Sensitive};
use sallyport_core::{
    authz::{Permit, Reason, SignedPermit},
    id::RecordingId,
    inventory::{Account, AccountName},
    lease::Lease,
    secret::{SecretBytes, SecretString},
};
use sallyport_vault::{
    SealedSecret, SecretPath, SigningKey, SshAuthority, VaultError,
    engines::{self, CredentialMaterial, EngineError, IssueContext, Issued},
    lease::{self, LeaseError},
};

use super::{
    site::{Place, site},
    store,
};
use crate::kernel::{control::Control, database::StoreError, ids, statement::Sql};

/// Why a credential, key or signature is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The vault is sealed or not made.
    #[error("use the vault")]
    Vault(#[source] VaultError),
    /// The engine refused, failed, or broke its contract.
    #[error("use the secrets engine")]
    Lease(#[source] LeaseError),
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
    /// Too many are being made at the target.
    #[error("make a credential at `{address}`: others were made there all the time")]
    Busy {
        /// Where.
        address: String,
    },
    /// A rotation that was cut off could not be finished.
    #[error("finish the rotation of the password")]
    Rotation(#[source] super::rotation::RotationError),
    /// The store failed.
    #[error("reach the store")]
    Store(#[from] StoreError),
}

impl SecretError {
    /// What the person is told.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Vault(VaultError::Sealed | VaultError::Uninitialised) => Reason::VaultSealed,
            Self::Lease(LeaseError::Engine { source, .. }) => match **source {
                EngineError::Vault(VaultError::Sealed | VaultError::Uninitialised) => {
                    Reason::VaultSealed
                }
                _ => Reason::CredentialUnavailable,
            },
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
    /// What the engine made, to be recorded in the lease.
    pub issued: Issued,
}

/// Makes the credential of a stored intent.
///
/// # Errors
/// [`SecretError`].
pub async fn issue(
    control: &Control,
    lease: &Lease,
    permit: &Permit,
    account: &Account,
    place: Option<&Place>,
) -> Result<IssuedCredential, SecretError> {
    let _turn =
        match place {
            Some(place) => Some(control.making().turn(&place.address).await.ok_or_else(|| {
                SecretError::Busy {
                    address: place.address.clone(),
                }
            })?),
            None => None,
        };
    let mut secrets = Vec::new();
    let mut reader = control.db().read().await?;
    let engine = engines::by_kind(&lease.engine);
    for path in engine
        .map(|engine| engine.secret_paths(&account.id))
        .unwrap_or_default()
    {
        if let Some(sealed) = store::latest(&mut reader, &path).await? {
            secrets.push(sealed);
        }
    }
    let site = match place {
        Some(place) => Some(site(&mut reader, place).await?),
        None => None,
    };
    drop(reader);
    let context = IssueContext {
        vault: control.vault(),
        settings: &account.settings,
        secrets: &secrets,
        site: site.as_ref(),
        handle: lease.handle.as_deref(),
        now: control.now(),
    };
    let issued = lease::issue(lease, permit, context)
        .await
        .map_err(SecretError::Lease)?;
    let content = match &issued.content {
        CredentialMaterial::Password { user, password } => CredentialContent::Password {
            user: user.clone(),
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
        issued,
    })
}

fn sensitive(text: &SecretString) -> Sensitive {
    Sensitive::new(text.expose_secret().clone())
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

/// The engine of stored secrets.
pub const STATIC: &str = "static";

/// What an account's engine needs on its target.
#[derive(Debug, Default)]
pub struct EngineNeeds {
    /// The target's protocol.
    pub protocol: Option<&'static str>,
    /// The account that makes and unmakes its credentials.
    pub root: Option<AccountName>,
    /// Its password is to be rotated.
    pub is_rotated: bool,
}

impl EngineNeeds {
    /// Whether passwords on targets of this protocol can be rotated.
    #[must_use]
    pub fn can_rotate_on(&self, protocol: &str) -> bool {
        engines::of_protocol(protocol).is_some()
    }
}

/// What an engine with these settings needs on its target; nothing for settings that do not read.
#[must_use]
pub fn engine_needs(kind: &str, settings: &serde_json::Value) -> EngineNeeds {
    engines::by_kind(kind).map_or_else(EngineNeeds::default, |engine| EngineNeeds {
        protocol: engine.protocol(),
        root: engine.root_account(settings).ok().flatten(),
        is_rotated: kind == STATIC
            && engines::rotation_of(settings) != engines::Rotation::default(),
    })
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
    SshAuthority::from_secret(&seed).map_err(|_| SecretError::Key {
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
