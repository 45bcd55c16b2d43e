//! Users that were made on targets and that no lease knows of: a store was put back from before they were
//! made, or control was killed between the server's commit and its own.
//!
//! INVARIANT: what is looked for on a target is listed before the leases are, and every user has its lease
//! before it is made; so what no open lease names is nobody's.
//!
//! Not here: revoking what a lease knows of (`lease`).

use std::{collections::BTreeSet, time::Duration};

use sallyport_core::{
    event::{Actor, Event, EventName, Events},
    id::TargetId,
    inventory::{Account, Target},
};
use sallyport_vault::{
    BarrierState,
    engines::{self, Engine, EngineError, RevokeContext},
};

use super::store::lease as lease_store;
use crate::{
    inventory,
    kernel::{control::Control, database::StoreError},
    secret,
};

/// Between two looks, at one target each.
const TICK: Duration = Duration::from_secs(60);
/// Targets at one page of the inventory.
const PAGE: u32 = 100;

/// Why a target was not looked through.
#[derive(Debug, thiserror::Error)]
pub enum OrphanError {
    /// The store failed.
    #[error("reach the store")]
    Store(#[from] StoreError),
    /// The target's engine failed.
    #[error("look for users that nobody knows of")]
    Engine(#[source] EngineError),
}

/// Looks through one target after another until the process ends.
pub async fn run(control: Control) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut waiting: Vec<(Account, Target)> = Vec::new();
    loop {
        tick.tick().await;
        if control.vault().status().state != BarrierState::Unsealed {
            continue;
        }
        if waiting.is_empty() {
            waiting = match makers(&control).await {
                Ok(makers) => makers,
                Err(error) => {
                    log_failure(&error.into());
                    continue;
                }
            };
        }
        if let Some((account, target)) = waiting.pop()
            && let Err(error) = remove_at(&control, &account, &target).await
        {
            log_failure(&error);
        }
    }
}

fn log_failure(error: &OrphanError) {
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "could not look for users that no lease knows of; looking again later"
    );
}

/// Looks through every target once.
///
/// # Errors
/// [`OrphanError`].
pub async fn remove_all(control: &Control) -> Result<(), OrphanError> {
    for (account, target) in makers(control).await? {
        remove_at(control, &account, &target).await?;
    }
    Ok(())
}

/// One account for each target and engine that makes users there.
async fn makers(control: &Control) -> Result<Vec<(Account, Target)>, StoreError> {
    let mut reader = control.db().read().await?;
    let mut makers = Vec::new();
    let mut seen: BTreeSet<(TargetId, String)> = BTreeSet::new();
    let mut cursor = String::new();
    loop {
        let targets = inventory::page(&mut reader, &cursor, PAGE).await?;
        let Some(last) = targets.last() else {
            return Ok(makers);
        };
        cursor = last.name.to_string();
        for target in targets {
            for account in inventory::accounts_of(&mut reader, &target.id).await? {
                let makes_users = engines::by_kind(&account.engine)
                    .is_some_and(|engine| engine.protocol().is_some());
                if makes_users && seen.insert((target.id.clone(), account.engine.clone())) {
                    makers.push((account, target.clone()));
                }
            }
        }
    }
}

async fn remove_at(
    control: &Control,
    account: &Account,
    target: &Target,
) -> Result<(), OrphanError> {
    let Some(engine) = engines::by_kind(&account.engine) else {
        return Ok(());
    };
    let mut reader = control.db().read().await?;
    let Some(place) = secret::place(&mut reader, account, target).await? else {
        return Ok(());
    };
    let site = secret::site(&mut reader, &place).await?;
    drop(reader);
    let context = RevokeContext {
        vault: control.vault(),
        settings: &account.settings,
        site: Some(&site),
        now: control.now(),
    };
    let made = engine.made(context).await.map_err(OrphanError::Engine)?;
    if made.is_empty() {
        return Ok(());
    }
    let mut reader = control.db().read().await?;
    let known = lease_store::open_handles(&mut reader).await?;
    drop(reader);
    for user in made.iter().filter(|user| !known.contains(user)) {
        remove(control, engine, context, target, user).await?;
    }
    Ok(())
}

async fn remove(
    control: &Control,
    engine: &dyn Engine,
    context: RevokeContext<'_>,
    target: &Target,
    user: &str,
) -> Result<(), OrphanError> {
    tracing::warn!(target_name = %target.name, user, "a user that no lease knows of is removed");
    metrics::counter!("sallyport_lease_orphans_total").increment(1);
    engine
        .remove(user, context)
        .await
        .map_err(OrphanError::Engine)?;
    let tx = control.db().begin(Actor::System).await?;
    let event = Event::new(EventName::LeaseOrphanRemoved, &target.id)
        .with("target", &target.name)
        .with("user", user);
    tx.commit(Events::one(event)).await?;
    Ok(())
}
