//! Credentials to their end: revocation begins with whatever ended access and is tried for ever.
//!
//! INVARIANT: every lease that is not revoked is either under a live session or on its way to revoked;
//! what a crash left between intent and issue is revoked at the next start.

use std::time::Duration;

use futures_util::StreamExt as _;
use sallyport_core::{
    event::{Actor, Event, EventName, Events},
    id::{GrantId, LeaseId, SessionId},
    lease::{Lease, LeaseState},
    time::Timestamp,
};
use sallyport_vault::{
    engines::RevokeContext,
    lease::{LeaseStep, next_step},
};
use serde_json::Value;

use super::store::{self, lease as lease_store};
use crate::{
    kernel::{control::Control, database::StoreError, task, transaction::Transaction},
    secret,
};

const TICK: Duration = Duration::from_secs(1);
/// Revocations that are begun at one address before the store is asked again.
const AT_ONCE_MAX: u32 = 200;
/// Revocations that are under way at one address at any time: a server has other clients.
const PER_ADDRESS_MAX: usize = 6;
/// How long after its end a credential may still be there before it counts as overdue.
const LATE: Duration = Duration::from_secs(5);

/// Begins revoking every lease of a grant; joins the caller's transaction.
///
/// # Errors
/// [`StoreError`].
pub async fn revoke_leases_of_grant(
    tx: &mut Transaction,
    grant_id: &GrantId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let leases = store::open_leases_of_grant(tx, grant_id).await?;
    begin_revocation(tx, leases, now).await
}

/// Begins revoking every lease of a session; joins the caller's transaction.
pub(super) async fn begin_revocation_of_session(
    tx: &mut Transaction,
    session_id: &SessionId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let leases = store::open_leases_of_session(tx, session_id).await?;
    begin_revocation(tx, leases, now).await
}

async fn begin_revocation(
    tx: &mut Transaction,
    leases: Vec<Lease>,
    now: Timestamp,
) -> Result<(), StoreError> {
    for mut lease in leases {
        lease.begin_revocation(now);
        store::put_lease(tx, &lease).await?;
    }
    Ok(())
}

/// Begins revoking what a crash left between intent and issue. Called once, before gateways connect.
///
/// # Errors
/// [`StoreError`].
pub async fn sweep(control: &Control) -> Result<(), StoreError> {
    let now = control.now();
    let mut tx = control.db().begin(Actor::System).await?;
    let leases = store::intended_leases(&mut tx).await?;
    let mut events = leases
        .iter()
        .map(|lease| {
            Event::new(EventName::LeaseFailed, &lease.id)
                .with("session_id", &lease.session_id)
                .with("engine", &lease.engine)
                .with(
                    "cause",
                    "control stopped before the credential was recorded",
                )
        })
        .collect::<Vec<_>>()
        .into_iter();
    let Some(first) = events.next() else {
        return Ok(());
    };
    begin_revocation(&mut tx, leases, now).await?;
    tx.commit(Events::one(first).and_all(events))
        .await
        .map(drop)
}

/// Revokes what is to be revoked until the process ends.
pub async fn run(control: Control) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        match addresses_due(&control).await {
            Ok(addresses) => {
                for address in addresses {
                    // Each on its own: one that does not answer holds up nobody else.
                    let control = control.clone();
                    task::spawn("revocations", async move {
                        if let Err(error) = revoke_at(&control, &address).await {
                            log_store_error(&error);
                        }
                    });
                }
            }
            Err(error) => log_store_error(&error),
        }
    }
}

fn log_store_error(error: &StoreError) {
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "could not look after leases; trying again"
    );
}

/// Tries every revocation that is due.
///
/// # Errors
/// [`StoreError`].
pub async fn revoke_due(control: &Control) -> Result<(), StoreError> {
    for address in addresses_due(control).await? {
        revoke_at(control, &address).await?;
    }
    Ok(())
}

async fn addresses_due(control: &Control) -> Result<Vec<String>, StoreError> {
    let now = control.now();
    let mut reader = control.db().read().await?;
    let addresses = lease_store::addresses_due(&mut reader, now).await?;
    let counts = lease_store::counts(&mut reader, now, now.minus(LATE)).await?;
    for (name, count) in [
        ("sallyport_leases_open", counts.open),
        ("sallyport_leases_due", counts.due),
        ("sallyport_leases_overdue", counts.overdue),
        ("sallyport_leases_stuck", counts.stuck),
    ] {
        metrics::gauge!(name).set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
    }
    Ok(addresses)
}

/// Tries the revocations that are due at one address, some at a time.
async fn revoke_at(control: &Control, address: &str) -> Result<(), StoreError> {
    let now = control.now();
    let Some(turn) = control.revoking().begin(address, now) else {
        return Ok(());
    };
    let limit = if turn.was_away() { 1 } else { AT_ONCE_MAX };
    let mut reader = control.db().read().await?;
    let mut due = lease_store::due_at(&mut reader, address, now, limit).await?;
    drop(reader);
    due.retain(|lease| {
        matches!(
            next_step(lease, false, now),
            LeaseStep::BeginRevocation | LeaseStep::Revoke
        )
    });
    let mut outcomes = futures_util::stream::iter(due)
        .map(|lease| revoke(control, lease, now))
        .buffer_unordered(PER_ADDRESS_MAX);
    while let Some(outcome) = outcomes.next().await {
        if outcome?.is_away {
            // What has not been tried yet waits until one has got through.
            turn.is_away(control.now());
            return Ok(());
        }
        turn.is_there();
    }
    Ok(())
}

struct Outcome {
    /// Nobody answered.
    is_away: bool,
}

async fn revoke(
    control: &Control,
    mut lease: Lease,
    now: Timestamp,
) -> Result<Outcome, StoreError> {
    let was_issued = lease.state;
    let mut reader = control.db().read().await?;
    let place = match lease_store::place_of(&mut reader, &lease.id).await? {
        Some(place) => Some(secret::place_now(&mut reader, place, &lease.account_id).await?),
        None => None,
    };
    let site = match &place {
        Some(place) => Some(secret::site(&mut reader, place).await?),
        None => None,
    };
    drop(reader);
    lease.begin_revocation(now);
    let context = RevokeContext {
        vault: control.vault(),
        settings: place.as_ref().map_or(&Value::Null, |place| &place.settings),
        site: site.as_ref(),
        now,
    };
    let result = sallyport_vault::lease::revoke(&mut lease, context).await;
    let mut tx = control.db().begin(Actor::System).await?;
    let stored = store::lease_by_id(&mut tx, &lease.id).await?;
    let is_as_it_was = stored.is_some_and(|stored| {
        stored.handle == lease.handle
            && (stored.state == was_issued || stored.state == LeaseState::Revoking)
    });
    if !is_as_it_was {
        // A credential was recorded meanwhile; the next look revokes that one.
        return Ok(Outcome { is_away: false });
    }
    let outcome = if result.is_ok() { "revoked" } else { "failed" };
    metrics::counter!("sallyport_lease_revocations_total", "engine" => lease.engine.clone(), "outcome" => outcome)
        .increment(1);
    let is_away = matches!(&result, Err(error) if error.is_unreachable());
    let event = match result {
        Ok(()) => {
            lease_store::forget_place(&mut tx, &lease.id).await?;
            if lease.engine == secret::STATIC {
                secret::after_use(&mut tx, &lease.account_id, now).await?;
            }
            Event::new(EventName::LeaseRevoked, &lease.id)
        }
        Err(error) => {
            tracing::warn!(
                lease_id = %lease.id,
                attempts = lease.revoke_attempts,
                error = &error as &dyn std::error::Error,
                "could not revoke a lease; trying again"
            );
            metrics::counter!("sallyport_lease_revocation_failures_total").increment(1);
            Event::new(EventName::LeaseRevocationFailed, &lease.id)
        }
    };
    store::put_lease(&mut tx, &lease).await?;
    let event = event
        .with("session_id", &lease.session_id)
        .with("engine", &lease.engine)
        .with("attempts", lease.revoke_attempts);
    tx.commit(Events::one(event)).await?;
    Ok(Outcome { is_away })
}

/// Has the revocation of a lease tried at once. Nothing when there is no such lease, or nothing to retry.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn retry(
    control: &Control,
    actor: Actor,
    id: &LeaseId,
) -> Result<Option<Lease>, StoreError> {
    let mut tx = control.db().begin(actor).await?;
    let Some(mut lease) = store::lease_by_id(&mut tx, id).await? else {
        return Ok(None);
    };
    if lease.state != LeaseState::Revoking {
        return Ok(Some(lease));
    }
    lease.retry(control.now());
    store::put_lease(&mut tx, &lease).await?;
    let event = Event::new(EventName::LeaseRetried, &lease.id)
        .with("engine", &lease.engine)
        .with("attempts", lease.revoke_attempts);
    tx.commit(Events::one(event)).await?;
    Ok(Some(lease))
}
