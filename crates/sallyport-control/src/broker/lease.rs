//! Credentials to their end: revocation begins with whatever ended access and is tried for ever.
//!
//! INVARIANT: every lease that is not revoked is either under a live session or on its way to revoked;
//! what a crash left between intent and issue is revoked at the next start.

use std::time::Duration;

use sallyport_core::{
    event::{Actor, Event, EventName, Events},
    id::{GrantId, SessionId},
    lease::Lease,
    time::Timestamp,
};
use sallyport_vault::lease::{LeaseStep, next_step};

use super::store;
use crate::kernel::{control::Control, database::StoreError, transaction::Transaction};

const TICK: Duration = Duration::from_secs(1);

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
        if let Err(error) = revoke_due(&control).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "could not look after leases; trying again"
            );
        }
    }
}

/// Tries every revocation that is due.
///
/// # Errors
/// [`StoreError`].
pub async fn revoke_due(control: &Control) -> Result<(), StoreError> {
    let now = control.now();
    let mut reader = control.db().read().await?;
    let due = store::leases_to_revoke(&mut reader, now).await?;
    let open = store::open_lease_count(&mut reader).await?;
    drop(reader);
    metrics::gauge!("sallyport_leases_open")
        .set(f64::from(u32::try_from(open).unwrap_or(u32::MAX)));
    for lease in due {
        match next_step(&lease, false, now) {
            LeaseStep::BeginRevocation | LeaseStep::Revoke => revoke(control, lease, now).await?,
            LeaseStep::Wait(_) | LeaseStep::Done => {}
        }
    }
    Ok(())
}

async fn revoke(control: &Control, mut lease: Lease, now: Timestamp) -> Result<(), StoreError> {
    let handle = lease.handle.clone();
    lease.begin_revocation(now);
    let result = sallyport_vault::lease::revoke(&mut lease, now).await;
    let mut tx = control.db().begin(Actor::System).await?;
    let stored = store::lease_by_id(&mut tx, &lease.id).await?;
    if stored.is_none_or(|stored| stored.handle != handle) {
        // A credential was recorded meanwhile; the next look revokes that one.
        return Ok(());
    }
    let event = match result {
        Ok(()) => Event::new(EventName::LeaseRevoked, &lease.id),
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
    tx.commit(Events::one(event)).await.map(drop)
}
