//! Make, change, remove targets and accounts; pin host keys.

use std::collections::BTreeMap;

use sallyport_api::rest::inventory::{AccountSpec, TargetSpec};
use sallyport_core::{
    event::{Actor, Event, EventName, Events},
    id::{AccountId, GatewayId, SessionId, TargetId},
    inventory::{Account, AccountName, Sensitivity, Target, TargetName},
};

use super::{identity, store};
use crate::{
    broker,
    kernel::{
        control::Control, database::StoreError, ids, statement::Sql, transaction::Transaction,
    },
    secret,
};

/// Why a target or account was not changed.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// There is none of this name.
    #[error("there is no such {noun}")]
    NotFound {
        /// `target` or `account`.
        noun: &'static str,
    },
    /// There is one of this name already.
    #[error("there is a {noun} of this name already")]
    Exists {
        /// `target` or `account`.
        noun: &'static str,
    },
    /// A field is not acceptable.
    #[error("`{field}`: {problem}")]
    BadField {
        /// Which.
        field: &'static str,
        /// What is wrong and what is accepted.
        problem: String,
    },
    /// The store failed.
    #[error("reach the store")]
    Store(#[from] StoreError),
}

fn bad(field: &'static str, problem: impl ToString) -> InventoryError {
    InventoryError::BadField {
        field,
        problem: problem.to_string(),
    }
}

/// Reads a target's specification.
///
/// # Errors
/// [`InventoryError::BadField`].
pub fn parse_target(spec: &TargetSpec, id: TargetId) -> Result<Target, InventoryError> {
    let name: TargetName = spec.name.parse().map_err(|error| bad("name", error))?;
    let read_identity = identity::reader(&spec.protocol).ok_or_else(|| {
        bad(
            "protocol",
            "is not a protocol this version speaks; use `ssh`, `postgres` or `mysql`",
        )
    })?;
    check_address(&spec.address)?;
    if spec.labels.len() > 32
        || spec
            .labels
            .iter()
            .any(|(key, value)| !is_label(key) || !is_label(value))
    {
        return Err(bad(
            "labels",
            "at most 32, keys and values 1 to 63 characters of a-z, A-Z, 0-9, `.`, `_`, `-`",
        ));
    }
    let sensitivity: Sensitivity =
        serde_json::from_value(serde_json::Value::String(spec.sensitivity.clone()))
            .map_err(|_| bad("sensitivity", "is one of low, medium, high, critical"))?;
    let mut host_keys = Vec::with_capacity(spec.host_keys.len());
    for text in &spec.host_keys {
        host_keys.push(
            read_identity(text).ok_or_else(|| bad("host_keys", identity::form(&spec.protocol)))?,
        );
    }
    if host_keys.len() > 8 {
        return Err(bad("host_keys", "at most 8"));
    }
    Ok(Target {
        id,
        name,
        protocol: spec.protocol.clone(),
        address: spec.address.clone(),
        labels: spec.labels.clone(),
        sensitivity,
        host_keys,
        pins_first_host_key: spec.pins_first_host_key,
    })
}

fn check_address(address: &str) -> Result<(), InventoryError> {
    let refuse = || {
        bad(
            "address",
            "is host:port, for example 10.0.0.7:22 or web-1.internal:22",
        )
    };
    let (host, port) = address.rsplit_once(':').ok_or_else(refuse)?;
    let is_port = port.parse::<u16>().is_ok_and(|port| port != 0);
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let is_host = (1..=253).contains(&bare.len())
        && bare
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-:_".contains(&b))
        && !bare.starts_with('-')
        && (bare == host) != bare.contains(':');
    if is_port && is_host {
        Ok(())
    } else {
        Err(refuse())
    }
}

fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// Makes a target.
///
/// # Errors
/// [`InventoryError`].
pub async fn create_target(
    control: &Control,
    actor: Actor,
    spec: &TargetSpec,
) -> Result<Target, InventoryError> {
    let mut tx = control.db().begin(actor).await?;
    let target = parse_target(spec, TargetId::new(control.now(), ids::entropy()))?;
    if store::target_by_name(&mut tx, &target.name)
        .await?
        .is_some()
    {
        return Err(InventoryError::Exists { noun: "target" });
    }
    let event = put_target(&mut tx, None, &target).await?;
    tx.commit(Events::one(event)).await?;
    Ok(target)
}

/// Changes a target; its name stays.
///
/// # Errors
/// [`InventoryError`].
pub async fn replace_target(
    control: &Control,
    actor: Actor,
    spec: &TargetSpec,
) -> Result<Target, InventoryError> {
    let mut tx = control.db().begin(actor).await?;
    let name: TargetName = spec.name.parse().map_err(|error| bad("name", error))?;
    let old = store::target_by_name(&mut tx, &name)
        .await?
        .ok_or(InventoryError::NotFound { noun: "target" })?;
    let target = parse_target(spec, old.id.clone())?;
    let event = put_target(&mut tx, Some(&old), &target).await?;
    tx.commit(Events::one(event)).await?;
    Ok(target)
}

/// Stores a target and says what to record; joins the caller's transaction.
pub(crate) async fn put_target(
    tx: &mut Transaction,
    old: Option<&Target>,
    target: &Target,
) -> Result<Event, StoreError> {
    store::put_target(tx, target).await?;
    Ok(match old {
        None => Event::new(EventName::TargetCreated, &target.id)
            .with("name", &target.name)
            .with("address", &target.address)
            .with("protocol", &target.protocol)
            .with("sensitivity", target.sensitivity)
            .with("labels", &target.labels)
            .with("host_keys", &target.host_keys),
        Some(old) => Event::new(EventName::TargetChanged, &target.id)
            .with("name", &target.name)
            .with("changed", target_differences(old, target)),
    })
}

/// Differences between two versions of a target, `field: old -> new`.
#[must_use]
pub fn target_differences(old: &Target, new: &Target) -> Vec<String> {
    let labels = |labels: &BTreeMap<String, String>| {
        labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect::<Vec<_>>()
            .join(",")
    };
    [
        ("address", old.address.clone(), new.address.clone()),
        ("labels", labels(&old.labels), labels(&new.labels)),
        (
            "sensitivity",
            old.sensitivity.as_str().to_owned(),
            new.sensitivity.as_str().to_owned(),
        ),
        (
            "host_keys",
            old.host_keys.join(","),
            new.host_keys.join(","),
        ),
        (
            "pins_first_host_key",
            old.pins_first_host_key.to_string(),
            new.pins_first_host_key.to_string(),
        ),
    ]
    .into_iter()
    .filter(|(_, old, new)| old != new)
    .map(|(field, old, new)| format!("{field}: {old} -> {new}"))
    .collect()
}

/// Removes a target with its accounts; live sessions on it end.
///
/// # Errors
/// [`InventoryError`].
pub async fn remove_target(
    control: &Control,
    actor: Actor,
    name: &TargetName,
) -> Result<(), InventoryError> {
    let mut tx = control.db().begin(actor).await?;
    let target = store::target_by_name(&mut tx, name)
        .await?
        .ok_or(InventoryError::NotFound { noun: "target" })?;
    store::remove_target(&mut tx, &target.id).await?;
    tx.commit(Events::one(
        Event::new(EventName::TargetRemoved, &target.id).with("name", name),
    ))
    .await?;
    broker::end_for_lock(
        control,
        &sallyport_core::lock::LockScope::Target(target.id),
        "the target was removed",
    )
    .await?;
    Ok(())
}

/// Reads an account's specification.
///
/// # Errors
/// [`InventoryError::BadField`].
pub fn parse_account(
    spec: &AccountSpec,
    id: AccountId,
    target_id: TargetId,
) -> Result<Account, InventoryError> {
    let name: AccountName = spec.name.parse().map_err(|error| bad("name", error))?;
    let settings = serde_json::to_value(&spec.settings).map_err(|error| bad("settings", error))?;
    secret::check_engine(&spec.engine, &settings).map_err(|problem| bad("engine", problem))?;
    Ok(Account {
        id,
        target_id,
        name,
        engine: spec.engine.clone(),
        settings,
    })
}

/// Makes an account.
///
/// # Errors
/// [`InventoryError`].
pub async fn create_account(
    control: &Control,
    actor: Actor,
    spec: &AccountSpec,
) -> Result<Account, InventoryError> {
    let mut tx = control.db().begin(actor).await?;
    let target = target_of(&mut tx, spec).await?;
    let account = parse_account(
        spec,
        AccountId::new(control.now(), ids::entropy()),
        target.id.clone(),
    )?;
    if store::account_by_name(&mut tx, &target.id, &account.name)
        .await?
        .is_some()
    {
        return Err(InventoryError::Exists { noun: "account" });
    }
    check_on_target(&mut tx, &account, &target).await?;
    let event = put_account(&mut tx, None, &account, &target).await?;
    tx.commit(Events::one(event)).await?;
    Ok(account)
}

/// Changes an account; its name stays.
///
/// # Errors
/// [`InventoryError`].
pub async fn replace_account(
    control: &Control,
    actor: Actor,
    spec: &AccountSpec,
) -> Result<Account, InventoryError> {
    let mut tx = control.db().begin(actor).await?;
    let target = target_of(&mut tx, spec).await?;
    let name: AccountName = spec.name.parse().map_err(|error| bad("name", error))?;
    let old = store::account_by_name(&mut tx, &target.id, &name)
        .await?
        .ok_or(InventoryError::NotFound { noun: "account" })?;
    let account = parse_account(spec, old.id.clone(), target.id.clone())?;
    check_on_target(&mut tx, &account, &target).await?;
    let event = put_account(&mut tx, Some(&old), &account, &target).await?;
    tx.commit(Events::one(event)).await?;
    Ok(account)
}

/// Checks what an account's engine needs on its target: the protocol, and the account that does the work.
///
/// # Errors
/// [`InventoryError::BadField`].
pub(crate) async fn check_on_target(
    sql: &mut dyn Sql,
    account: &Account,
    target: &Target,
) -> Result<(), InventoryError> {
    let needs = secret::engine_needs(&account.engine, &account.settings);
    if let Some(protocol) = needs.protocol
        && protocol != target.protocol
    {
        return Err(bad(
            "engine",
            format!(
                "`{}` makes users on targets of protocol `{protocol}`; `{}` is `{}`",
                account.engine, target.name, target.protocol
            ),
        ));
    }
    if needs.is_rotated && !needs.can_rotate_on(&target.protocol) {
        return Err(bad(
            "settings",
            format!(
                "passwords on targets of protocol `{}` are not rotated",
                target.protocol
            ),
        ));
    }
    let Some(root) = needs.root else {
        return Ok(());
    };
    let found = store::account_by_name(sql, &target.id, &root).await?;
    if found.is_none_or(|found| found.engine != secret::STATIC || found.id == account.id) {
        return Err(bad(
            "settings",
            format!(
                "`root` names `{root}@{}`, which must be another account with engine `{}`: make that first",
                target.name,
                secret::STATIC
            ),
        ));
    }
    Ok(())
}

async fn target_of(sql: &mut dyn Sql, spec: &AccountSpec) -> Result<Target, InventoryError> {
    let name: TargetName = spec.target.parse().map_err(|error| bad("target", error))?;
    store::target_by_name(sql, &name)
        .await?
        .ok_or(InventoryError::NotFound { noun: "target" })
}

/// Stores an account and says what to record; joins the caller's transaction.
pub(crate) async fn put_account(
    tx: &mut Transaction,
    old: Option<&Account>,
    account: &Account,
    target: &Target,
) -> Result<Event, StoreError> {
    store::put_account(tx, account).await?;
    Ok(match old {
        None => Event::new(EventName::AccountCreated, &account.id)
            .with("name", &account.name)
            .with("target", &target.name)
            .with("engine", &account.engine)
            .with("settings", &account.settings),
        Some(old) => Event::new(EventName::AccountChanged, &account.id)
            .with("name", &account.name)
            .with("target", &target.name)
            .with("changed", account_differences(old, account)),
    })
}

/// Differences between two versions of an account, `field: old -> new`.
#[must_use]
pub fn account_differences(old: &Account, new: &Account) -> Vec<String> {
    [
        ("engine", old.engine.clone(), new.engine.clone()),
        (
            "settings",
            old.settings.to_string(),
            new.settings.to_string(),
        ),
    ]
    .into_iter()
    .filter(|(_, old, new)| old != new)
    .map(|(field, old, new)| format!("{field}: {old} -> {new}"))
    .collect()
}

/// Removes an account; live sessions on it end.
///
/// # Errors
/// [`InventoryError`].
pub async fn remove_account(
    control: &Control,
    actor: Actor,
    target: &TargetName,
    name: &AccountName,
) -> Result<(), InventoryError> {
    let mut tx = control.db().begin(actor).await?;
    let target = store::target_by_name(&mut tx, target)
        .await?
        .ok_or(InventoryError::NotFound { noun: "target" })?;
    let account = store::account_by_name(&mut tx, &target.id, name)
        .await?
        .ok_or(InventoryError::NotFound { noun: "account" })?;
    store::remove_account(&mut tx, &account.id).await?;
    let event = Event::new(EventName::AccountRemoved, &account.id)
        .with("name", name)
        .with("target", &target.name);
    tx.commit(Events::one(event)).await?;
    let scope = sallyport_core::lock::LockScope::Account(account.id);
    broker::end_for_lock(control, &scope, "the account was removed").await?;
    Ok(())
}

/// Pins the first host key seen of a target; says whether it did.
///
/// # Errors
/// [`StoreError`].
pub async fn pin_host_key(
    control: &Control,
    gateway_id: &GatewayId,
    session_id: &SessionId,
    target_id: &TargetId,
    host_key: &str,
) -> Result<bool, StoreError> {
    let mut tx = control
        .db()
        .begin(Actor::Gateway(gateway_id.clone()))
        .await?;
    if !is_session_on(&mut tx, gateway_id, session_id, target_id).await? {
        return Ok(false);
    }
    let Some(mut target) = store::target_by_id(&mut tx, target_id).await? else {
        return Ok(false);
    };
    let Some(host_key) = identity::pinned(&target.protocol, host_key) else {
        return Ok(false);
    };
    if target.host_keys == [host_key.clone()] {
        return Ok(true);
    }
    if !target.host_keys.is_empty() || !target.pins_first_host_key {
        return Ok(false);
    }
    target.host_keys = vec![host_key.clone()];
    store::put_target(&mut tx, &target).await?;
    let event = Event::new(EventName::HostKeyPinned, target_id)
        .with("session_id", session_id)
        .with("host_key", host_key);
    tx.commit(Events::one(event)).await?;
    Ok(true)
}

/// Writes down that a target showed another host key than the pinned one.
///
/// # Errors
/// [`StoreError`].
pub async fn report_host_key(
    control: &Control,
    gateway_id: &GatewayId,
    session_id: &SessionId,
    target_id: &TargetId,
    host_key: &str,
) -> Result<(), StoreError> {
    let mut tx = control
        .db()
        .begin(Actor::Gateway(gateway_id.clone()))
        .await?;
    if !is_session_on(&mut tx, gateway_id, session_id, target_id).await? {
        return Ok(());
    }
    let event = Event::new(EventName::HostKeyMismatched, target_id)
        .with("session_id", session_id)
        .with("host_key", host_key.chars().take(2_000).collect::<String>());
    tx.commit(Events::one(event)).await.map(drop)
}

async fn is_session_on(
    sql: &mut dyn Sql,
    gateway_id: &GatewayId,
    session_id: &SessionId,
    target_id: &TargetId,
) -> Result<bool, StoreError> {
    Ok(broker::session_by_id(sql, session_id)
        .await?
        .is_some_and(|session| {
            session.gateway_id == *gateway_id
                && session.target_id == target_id.as_str()
                && session.is_live
        }))
}
