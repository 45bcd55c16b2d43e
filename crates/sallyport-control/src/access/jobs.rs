//! What happens later: requests and grants end when their time is over.
//!
//! INVARIANT: a grant that is over opens nothing even before this job ran, because the decision reads
//! the time; the job ends what is live and writes it down.

use std::time::Duration;

use sallyport_core::{
    event::{Actor, Event, EventName, Events},
    session::EndReason,
};

use super::{store, workflow};
use crate::{
    broker,
    kernel::{control::Control, database::StoreError},
};

/// How often the clock is looked at. The gateway ends sessions by its own timer at the exact moment;
/// this only writes it down and covers what a gateway missed.
const TICK: Duration = Duration::from_millis(500);

/// Runs until the process ends.
pub async fn run(control: Control) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Err(error) = expire(&control).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "could not expire requests and grants; trying again"
            );
        }
    }
}

/// Ends every request and grant whose time is over.
///
/// # Errors
/// [`StoreError`].
pub async fn expire(control: &Control) -> Result<(), StoreError> {
    let now = control.now();
    let mut reader = control.db().read().await?;
    let has_requests = !store::overdue_requests(&mut reader, now).await?.is_empty();
    let has_grants = !store::overdue_grants(&mut reader, now).await?.is_empty();
    drop(reader);
    if has_requests {
        expire_requests(control).await?;
    }
    if has_grants {
        expire_grants(control).await?;
    }
    Ok(())
}

async fn expire_requests(control: &Control) -> Result<(), StoreError> {
    let now = control.now();
    let mut tx = control.db().begin(Actor::System).await?;
    let mut events = Vec::new();
    for mut request in store::overdue_requests(&mut tx, now).await? {
        if request.expire(now) {
            store::put_request(&mut tx, &request).await?;
            events.push(Event::new(EventName::RequestExpired, &request.id));
        }
    }
    let mut events = events.into_iter();
    if let Some(first) = events.next() {
        tx.commit(Events::one(first).and_all(events)).await?;
        control.changes().touch();
    }
    Ok(())
}

async fn expire_grants(control: &Control) -> Result<(), StoreError> {
    let now = control.now();
    let mut tx = control.db().begin(Actor::System).await?;
    let mut events = Vec::new();
    let mut ended = Vec::new();
    for mut grant in store::overdue_grants(&mut tx, now).await? {
        if grant.end(now, EndReason::GrantExpired) {
            store::put_grant(&mut tx, &grant).await?;
            broker::revoke_leases_of_grant(&mut tx, &grant.id, now).await?;
            events.push(workflow::ended_event(&grant, EndReason::GrantExpired));
            ended.push(grant.id);
        }
    }
    let mut events = events.into_iter();
    if let Some(first) = events.next() {
        tx.commit(Events::one(first).and_all(events)).await?;
        for grant_id in ended {
            broker::end_for_grant(control, &grant_id, EndReason::GrantExpired, "").await?;
        }
        control.changes().touch();
    }
    Ok(())
}
