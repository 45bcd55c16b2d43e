//! Rotation of stored passwords at their targets, in two phases: the next password is stored before the
//! target learns it, and becomes the password only after a login with it.
//!
//! INVARIANT: at every moment, whatever is killed, one of the two that are stored opens the account; the old
//! one is given up last. One account is rotated by one task at a time.
//!
//! Not here: how a target is told (the engines of `sallyport-vault`).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::StreamExt as _;
use sallyport_core::{
    event::{Actor, Event, EventName, Events},
    id::{AccountId, PersonId, TargetId},
    inventory::{Account, Target},
    secret::SecretBytes,
    time::Timestamp,
};
use sallyport_vault::{
    SealedSecret, SecretPath, VaultError,
    engines::{self, Engine, EngineError, Site},
};
use tokio::sync::OwnedMutexGuard;

use super::store::{
    self,
    rotation::{self as rotation_store, RotationRow},
};
use crate::{
    inventory,
    kernel::{control::Control, database::StoreError, statement::Sql, transaction::Transaction},
};

const TICK: Duration = Duration::from_secs(1);
/// Rotations under way at any time.
const AT_ONCE: usize = 6;
/// Longest wait before a rotation that failed is tried again.
const RETRY_MAX: Duration = Duration::from_secs(300);
/// Most characters kept of why one failed.
const FAILURE_CHARS_MAX: usize = 500;

/// Why a password was not rotated. The stored ones still are what they were.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The account's engine stores nothing, or its target is of a protocol whose passwords are not rotated.
    #[error(
        "rotate the password of an account with engine `{engine}` on a target of protocol `{protocol}`"
    )]
    NotRotatable {
        /// Engine of the account.
        engine: String,
        /// Protocol of the target.
        protocol: String,
    },
    /// Nothing is stored yet.
    #[error("rotate a password where none is stored")]
    Missing,
    /// The target did not take it.
    #[error("change the password at the target")]
    Engine(#[source] EngineError),
    /// The target took the next password and does not accept it.
    #[error("log in with the next password: the target refuses it")]
    NotAccepted,
    /// The vault is sealed, or does not seal.
    #[error("use the vault")]
    Vault(#[source] VaultError),
    /// The store failed.
    #[error("reach the store")]
    Store(#[from] StoreError),
}

impl RotationError {
    /// The error with its causes, in one line.
    pub(super) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        text
    }
}

/// Accounts that are being rotated right now.
#[derive(Debug, Default)]
pub struct Rotating(Mutex<HashMap<AccountId, Arc<tokio::sync::Mutex<()>>>>);

impl Rotating {
    /// Waits until nobody rotates this account.
    async fn turn(&self, account_id: &AccountId) -> OwnedMutexGuard<()> {
        let turns = {
            let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Only those somebody holds or waits for are worth keeping.
            accounts.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(accounts.entry(account_id.clone()).or_default())
        };
        turns.lock_owned().await
    }
}

/// What a rotation led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The version of the stored password now.
    pub version: u64,
    /// When.
    pub at: Timestamp,
}

/// Rotates the password of an account now; `cause` is what the record says why.
///
/// # Errors
/// [`RotationError`].
pub async fn rotate(
    control: &Control,
    actor: Actor,
    account: &Account,
    target: &Target,
    cause: &str,
) -> Result<Rotated, RotationError> {
    let engine = rotator(account, target)?;
    let _turn = control.rotating().turn(&account.id).await;
    carry_out(control, actor, account, target, engine, cause).await
}

/// Finishes a rotation that was cut off, so that what is handed out is what the target accepts. Nothing
/// happens when there is none.
///
/// # Errors
/// [`RotationError`].
pub async fn settle(
    control: &Control,
    account: &Account,
    target: &Target,
) -> Result<(), RotationError> {
    if account.engine != super::STATIC || !has_candidate(control, account).await? {
        return Ok(());
    }
    let engine = rotator(account, target)?;
    let _turn = control.rotating().turn(&account.id).await;
    if has_candidate(control, account).await? {
        carry_out(control, Actor::System, account, target, engine, "cut off").await?;
    }
    Ok(())
}

async fn has_candidate(control: &Control, account: &Account) -> Result<bool, StoreError> {
    let mut reader = control.db().read().await?;
    let path = SecretPath::account_candidate(&account.id);
    Ok(store::latest(&mut reader, &path).await?.is_some())
}

fn rotator(account: &Account, target: &Target) -> Result<&'static dyn Engine, RotationError> {
    engines::of_protocol(&target.protocol)
        .filter(|_| account.engine == super::STATIC)
        .ok_or_else(|| RotationError::NotRotatable {
            engine: account.engine.clone(),
            protocol: target.protocol.clone(),
        })
}

async fn carry_out(
    control: &Control,
    actor: Actor,
    account: &Account,
    target: &Target,
    engine: &dyn Engine,
    cause: &str,
) -> Result<Rotated, RotationError> {
    let vault = control.vault();
    let (current, candidate) = set_next(control, actor.clone(), account, cause).await?;
    let secret = vault
        .open_secret(&candidate)
        .map_err(RotationError::Vault)?;
    let version = current.version().saturating_add(1);
    let site = Site {
        address: target.address.clone(),
        identities: target.host_keys.clone(),
        root: account.name.clone(),
        // After a crash the target may know either.
        root_secrets: vec![current, candidate],
    };
    let next = engines::password_of(&secret).map_err(RotationError::Engine)?;
    engine
        .set_password(&site, vault, &next)
        .await
        .map_err(RotationError::Engine)?;
    let is_accepted = engine
        .accepts(&site, vault, &next)
        .await
        .map_err(RotationError::Engine)?;
    if !is_accepted {
        return Err(RotationError::NotAccepted);
    }
    retire(control, actor, account, version, &secret).await
}

/// Phase one: the next password is stored beside the one in use, unless a rotation that was cut off left
/// one. Returns both.
async fn set_next(
    control: &Control,
    actor: Actor,
    account: &Account,
    cause: &str,
) -> Result<(SealedSecret, SealedSecret), RotationError> {
    let path = SecretPath::account_candidate(&account.id);
    let mut tx = control.db().begin(actor).await?;
    let current = store::latest(&mut tx, &SecretPath::account_credential(&account.id))
        .await?
        .ok_or(RotationError::Missing)?;
    if let Some(candidate) = store::latest(&mut tx, &path).await? {
        return Ok((current, candidate));
    }
    let secret = engines::new_password(control.vault().entropy());
    let candidate = control
        .vault()
        .seal_secret(&path, current.version().saturating_add(1), &secret)
        .map_err(RotationError::Vault)?;
    store::insert(&mut tx, &candidate).await?;
    let event = Event::new(EventName::RotationBegan, &account.id)
        .with("version", candidate.version())
        .with("cause", cause);
    tx.commit(Events::one(event)).await?;
    Ok((current, candidate))
}

/// The last phase: the next password becomes the password, and the old one is history.
async fn retire(
    control: &Control,
    actor: Actor,
    account: &Account,
    version: u64,
    secret: &SecretBytes,
) -> Result<Rotated, RotationError> {
    let path = SecretPath::account_credential(&account.id);
    let sealed = control
        .vault()
        .seal_secret(&path, version, secret)
        .map_err(RotationError::Vault)?;
    let now = control.now();
    let mut tx = control.db().begin(actor).await?;
    store::insert(&mut tx, &sealed).await?;
    store::remove(&mut tx, &SecretPath::account_candidate(&account.id)).await?;
    let row = RotationRow {
        rotated_at: Some(now),
        attempts: 0,
        last_failure: None,
    };
    let every = engines::rotation_of(&account.settings).every;
    let next_at = every.map(|every| now.plus(every));
    rotation_store::put(&mut tx, &account.id, next_at, &row).await?;
    let event = Event::new(EventName::SecretRotated, &account.id).with("version", version);
    tx.commit(Events::one(event)).await?;
    metrics::counter!("sallyport_rotations_total", "outcome" => "rotated").increment(1);
    Ok(Rotated { version, at: now })
}

/// Has the password of an account rotated soon if it is one that is rotated after each use; joins the
/// caller's transaction.
///
/// # Errors
/// [`StoreError`].
pub async fn after_use(
    tx: &mut Transaction,
    account_id: &AccountId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let account = inventory::account_by_id(tx, account_id).await?;
    if account.is_some_and(|account| engines::rotation_of(&account.settings).is_after_use) {
        let row = rotation_store::row(tx, account_id)
            .await?
            .unwrap_or_default();
        rotation_store::put(tx, account_id, Some(now), &row).await?;
    }
    Ok(())
}

/// Whose passwords are to be rotated at once, in an emergency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Emergency {
    /// Those of the accounts on a target.
    Target(TargetId),
    /// Those of every account that a person had a session on.
    Person(PersonId),
    /// All.
    Everything,
}

/// Has many passwords rotated as soon as the job gets to them; returns how many.
///
/// # Errors
/// [`StoreError`].
pub async fn rotate_many(
    control: &Control,
    actor: Actor,
    emergency: &Emergency,
) -> Result<usize, StoreError> {
    let now = control.now();
    let mut tx = control.db().begin(actor).await?;
    let accounts = rotation_store::accounts_of(&mut tx, emergency).await?;
    let mut events = Vec::new();
    for account_id in &accounts {
        let row = rotation_store::row(&mut tx, account_id)
            .await?
            .unwrap_or_default();
        rotation_store::put(&mut tx, account_id, Some(now), &row).await?;
        events.push(Event::new(EventName::RotationDemanded, account_id));
    }
    let mut events = events.into_iter();
    if let Some(first) = events.next() {
        tx.commit(Events::one(first).and_all(events)).await?;
    }
    Ok(accounts.len())
}

/// Rotates what is due until the process ends.
pub async fn run(control: Control) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Err(error) = rotate_due(&control).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "could not look after rotations; trying again"
            );
        }
    }
}

/// Rotates every password that is due.
///
/// # Errors
/// [`StoreError`].
pub async fn rotate_due(control: &Control) -> Result<(), StoreError> {
    let now = control.now();
    plan_new(control, now).await?;
    let mut reader = control.db().read().await?;
    let due = rotation_store::due(&mut reader, now).await?;
    let oldest = rotation_store::oldest(&mut reader).await?;
    drop(reader);
    let age = oldest.map_or(Duration::ZERO, |oldest| now.since(oldest));
    metrics::gauge!("sallyport_rotation_age_seconds").set(age.as_secs_f64());
    metrics::gauge!("sallyport_rotations_due")
        .set(f64::from(u32::try_from(due.len()).unwrap_or(u32::MAX)));
    let mut outcomes = futures_util::stream::iter(due)
        .map(|account_id| rotate_one(control, account_id))
        .buffer_unordered(AT_ONCE);
    while let Some(outcome) = outcomes.next().await {
        outcome?;
    }
    Ok(())
}

/// Plans the first rotation of accounts that are to be rotated from time to time and were not yet.
async fn plan_new(control: &Control, now: Timestamp) -> Result<(), StoreError> {
    let mut reader = control.db().read().await?;
    let new = rotation_store::unplanned(&mut reader).await?;
    drop(reader);
    for account in new {
        let Some(every) = engines::rotation_of(&account.settings).every else {
            continue;
        };
        let mut tx = control.db().begin(Actor::System).await?;
        let next_at = now.plus(every);
        rotation_store::put(&mut tx, &account.id, Some(next_at), &RotationRow::default()).await?;
        let event = Event::new(EventName::RotationPlanned, &account.id).with("next_at", next_at);
        tx.commit(Events::one(event)).await?;
    }
    Ok(())
}

async fn rotate_one(control: &Control, account_id: AccountId) -> Result<(), StoreError> {
    let mut reader = control.db().read().await?;
    let account = inventory::account_by_id(&mut reader, &account_id).await?;
    let target = match &account {
        Some(account) => inventory::target_by_id(&mut reader, &account.target_id).await?,
        None => None,
    };
    drop(reader);
    let (Some(account), Some(target)) = (account, target) else {
        return forget(control, &account_id).await;
    };
    match rotate(control, Actor::System, &account, &target, "due").await {
        Ok(_) => Ok(()),
        Err(RotationError::Store(error)) => Err(error),
        Err(error) => fail(control, &account, &error).await,
    }
}

async fn forget(control: &Control, account_id: &AccountId) -> Result<(), StoreError> {
    let mut tx = control.db().begin(Actor::System).await?;
    rotation_store::remove(&mut tx, account_id).await?;
    let event = Event::new(EventName::RotationPlanned, account_id).with("next_at", "never");
    tx.commit(Events::one(event)).await.map(drop)
}

async fn fail(
    control: &Control,
    account: &Account,
    error: &RotationError,
) -> Result<(), StoreError> {
    tracing::warn!(
        account_id = %account.id,
        error = error as &dyn std::error::Error,
        "could not rotate a password; trying again"
    );
    metrics::counter!("sallyport_rotations_total", "outcome" => "failed").increment(1);
    let text: String = error.chain().chars().take(FAILURE_CHARS_MAX).collect();
    let now = control.now();
    let mut tx = control.db().begin(Actor::System).await?;
    let mut row = rotation_store::row(&mut tx, &account.id)
        .await?
        .unwrap_or_default();
    row.attempts = row.attempts.saturating_add(1);
    row.last_failure = Some(text.clone());
    let wait = match error {
        // Trying soon is of no use: there is nothing to rotate.
        RotationError::Missing | RotationError::NotRotatable { .. } => {
            engines::rotation_of(&account.settings).every
        }
        _ => Some(Duration::from_secs(1 << row.attempts.min(10)).min(RETRY_MAX)),
    };
    let next_at = wait.map(|wait| now.plus(wait));
    rotation_store::put(&mut tx, &account.id, next_at, &row).await?;
    let event = Event::new(EventName::RotationFailed, &account.id)
        .with("attempts", row.attempts)
        .with("cause", text);
    tx.commit(Events::one(event)).await.map(drop)
}

/// How the rotation of an account stands.
///
/// # Errors
/// [`StoreError`].
pub async fn standing(
    sql: &mut dyn Sql,
    account_id: &AccountId,
) -> Result<Option<(RotationRow, Option<Timestamp>)>, StoreError> {
    rotation_store::standing(sql, account_id).await
}
