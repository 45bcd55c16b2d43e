//! Make, unseal, seal the vault; store secrets.

use std::path::Path;

use sallyport_core::{
    event::{Actor, Event, EventName, Events},
    inventory::Account,
    secret::{SecretBytes, SecretString},
};
use sallyport_vault::{
    KeyringChange, SecretPath, Share, SigningKey, SshAuthority, VaultError,
    engines::{self, EngineError},
};

use super::{issue, store};
use crate::{
    authn,
    kernel::{control::Control, database::StoreError},
};

/// Name of the permit key's public half: hex of 32 bytes.
pub(crate) const PERMIT_KEY: &str = "permit";
/// Name of the public half of the authority that targets trust: OpenSSH one line.
pub(super) const SSH_AUTHORITY: &str = "ssh-authority";
/// Name of the public half of the authority that gateways trust for people: OpenSSH one line.
const SSH_USER_AUTHORITY: &str = "ssh-user-authority";

/// Why the vault did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    /// The vault says no.
    #[error("{0}")]
    Vault(VaultError),
    /// The secret is not one the engine takes.
    #[error("{0}")]
    Engine(EngineError),
    /// A key could not be made.
    #[error("make the keys of a new vault: {problem}")]
    MakeKeys {
        /// What went wrong.
        problem: String,
    },
    /// The store failed.
    #[error("reach the store")]
    Store(#[from] StoreError),
}

/// Makes the vault with a key file, as `dev` does; unseals it when it exists already.
///
/// # Errors
/// [`OperateError`].
pub async fn open_with_key_file(control: &Control, path: &Path) -> Result<(), OperateError> {
    match control.vault().initialise_key_file(path) {
        Ok(change) => initialise(control, Actor::System, change).await.map(drop),
        Err(VaultError::AlreadyInitialised { .. }) => {
            control
                .vault()
                .unseal_key_file(path)
                .map_err(OperateError::Vault)?;
            unsealed(control, Actor::System).await
        }
        Err(error) => Err(OperateError::Vault(error)),
    }
}

/// Makes the vault with shares and returns them, once.
///
/// # Errors
/// [`OperateError`].
pub async fn initialise_with_shares(
    control: &Control,
    actor: Actor,
    shares: u8,
    threshold: u8,
) -> Result<Vec<Share>, OperateError> {
    let change = control
        .vault()
        .initialise_shamir(shares, threshold)
        .map_err(OperateError::Vault)?;
    initialise(control, actor, change).await
}

/// Stores a new vault with the keys that everything else needs, then puts it into force.
async fn initialise(
    control: &Control,
    actor: Actor,
    mut change: KeyringChange,
) -> Result<Vec<Share>, OperateError> {
    let mut tx = control.db().begin(actor).await?;
    store::insert_keyring(&mut tx, &change.record).await?;
    let entropy = control.vault().entropy();
    for (path, name) in [
        (SecretPath::permit_key(), PERMIT_KEY),
        (SecretPath::ssh_authority(), SSH_AUTHORITY),
        (SecretPath::ssh_user_authority(), SSH_USER_AUTHORITY),
    ] {
        // Targets verify with OpenSSH, gateways with our own code (ADR 0027).
        let key = if name == SSH_AUTHORITY {
            SshAuthority::new_secret(entropy)
        } else {
            SigningKey::new_seed(entropy)
        };
        let public = public_half(name, &key)?;
        let sealed = change
            .keyring
            .seal_secret(&path, 1, &key, entropy)
            .map_err(|error| OperateError::MakeKeys {
                problem: error.to_string(),
            })?;
        store::insert(&mut tx, &sealed).await?;
        store::put_public_key(&mut tx, name, &public).await?;
    }
    let seal = change.record.seal().kind.clone();
    let shares = std::mem::take(&mut change.shares);
    let event = Event::new(EventName::VaultInitialised, change.record.id())
        .with("seal", seal)
        .with("shares", shares.len());
    tx.commit(Events::one(event)).await?;
    control.vault().adopt(change).map_err(OperateError::Vault)?;
    // The shares exist nowhere else: whatever fails from here on must not keep them from people.
    if let Err(error) = lend_user_authority(control).await {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "sign-ins cannot issue certificates until the vault is unsealed again"
        );
    }
    // Gateways that connected before know no permit key; they come back and learn it.
    control.live().disconnect_all();
    Ok(shares)
}

fn public_half(name: &str, key: &SecretBytes) -> Result<String, OperateError> {
    let failed = |problem: String| OperateError::MakeKeys { problem };
    if name == PERMIT_KEY {
        let key = SigningKey::from_seed(key).map_err(|error| failed(error.to_string()))?;
        return Ok(hex::encode(key.public_key()));
    }
    let authority = SshAuthority::from_secret(key).map_err(|error| failed(error.to_string()))?;
    authority
        .public_key()
        .map_err(|error| failed(error.to_string()))
}

/// Takes one share; says whether the vault is open now.
///
/// # Errors
/// [`OperateError`]; a wrong share is recorded.
pub async fn offer_share(control: &Control, share: &str) -> Result<bool, OperateError> {
    match control.vault().offer_share(share) {
        Ok(taken) if taken.has_opened => {
            unsealed(control, Actor::Anonymous).await?;
            Ok(true)
        }
        Ok(_) => Ok(is_open(control)),
        Err(error) => {
            let tx = control.db().begin(Actor::Anonymous).await?;
            let event =
                Event::new(EventName::VaultUnsealFailed, "vault").with("reason", error.to_string());
            tx.commit(Events::one(event)).await?;
            Err(OperateError::Vault(error))
        }
    }
}

fn is_open(control: &Control) -> bool {
    control.vault().status().state == sallyport_vault::BarrierState::Unsealed
}

async fn unsealed(control: &Control, actor: Actor) -> Result<(), OperateError> {
    let seal = control.vault().status().seal;
    let tx = control.db().begin(actor).await?;
    let committed = tx
        .commit(Events::one(
            Event::new(EventName::VaultUnsealed, "vault").with("seal", seal),
        ))
        .await;
    if let Err(error) = committed {
        // An unseal that is not on record must not be in force.
        control.vault().seal();
        return Err(OperateError::Store(error));
    }
    lend_user_authority(control).await
}

/// Lets sign-ins issue certificates while the vault is open.
async fn lend_user_authority(control: &Control) -> Result<(), OperateError> {
    let failed = |problem: String| OperateError::MakeKeys { problem };
    let authority = issue::user_authority(control)
        .await
        .map_err(|error| failed(error.to_string()))?;
    authn::adopt_user_authority(control, authority).map_err(|error| failed(error.to_string()))
}

/// Makes what is public known at start, before the vault is open: who certified people's keys.
///
/// # Errors
/// [`StoreError`].
pub async fn publish_authorities(control: &Control) -> Result<(), StoreError> {
    let mut reader = control.db().read().await?;
    if let Some(public_key) = store::public_key(&mut reader, SSH_USER_AUTHORITY).await? {
        authn::trust_user_authority(control, public_key);
    }
    Ok(())
}

/// Seals the vault.
///
/// # Errors
/// [`OperateError`]; the vault is sealed even when that could not be recorded.
pub async fn seal(control: &Control, actor: Actor) -> Result<(), OperateError> {
    control.vault().seal();
    authn::release_user_authority(control);
    let tx = control.db().begin(actor).await?;
    tx.commit(Events::one(Event::new(EventName::VaultSealed, "vault")))
        .await?;
    Ok(())
}

/// Stores a secret for an account; returns its path and version.
///
/// # Errors
/// [`OperateError`].
pub async fn write_secret(
    control: &Control,
    actor: Actor,
    account: &Account,
    kind: &str,
    value: &SecretString,
) -> Result<(SecretPath, u64), OperateError> {
    let engine = engines::by_kind(&account.engine).ok_or_else(|| OperateError::MakeKeys {
        problem: format!("this version has no engine `{}`", account.engine),
    })?;
    let (path, secret) = engine
        .accept_secret(&account.id, kind, value)
        .map_err(OperateError::Engine)?;
    let mut tx = control.db().begin(actor).await?;
    let version = store::latest(&mut tx, &path)
        .await?
        .map_or(1, |sealed| sealed.version().saturating_add(1));
    let sealed = control
        .vault()
        .seal_secret(&path, version, &secret)
        .map_err(OperateError::Vault)?;
    store::insert(&mut tx, &sealed).await?;
    let event = Event::new(EventName::SecretWritten, &account.id)
        .with("path", path.as_str())
        .with("version", version)
        .with("kind", kind);
    tx.commit(Events::one(event)).await?;
    Ok((path, version))
}
