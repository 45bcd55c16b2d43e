//! What happens later: an operation that was not approved in time waits no more.
//!
//! INVARIANT: nothing is released after its time even before this job ran, because releasing reads the
//! time; the job writes the end down and wakes those who wait.

use std::time::Duration;

use sallyport_core::event::{Actor, Event, EventName, Events};

use super::store;
use crate::kernel::{control::Control, database::StoreError};

/// How often the clock is looked at.
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
                "could not expire held operations; trying again"
            );
        }
    }
}

/// Ends the wait of every operation whose time is over.
///
/// # Errors
/// [`StoreError`].
pub async fn expire(control: &Control) -> Result<(), StoreError> {
    let now = control.now();
    let mut reader = control.db().read().await?;
    let is_due = !store::overdue(&mut reader, now).await?.is_empty();
    drop(reader);
    if !is_due {
        return Ok(());
    }
    let mut tx = control.db().begin(Actor::System).await?;
    let mut events = Vec::new();
    for mut held in store::overdue(&mut tx, now).await? {
        if held.expire(now) && store::update(&mut tx, &held).await? {
            events.push(
                Event::new(EventName::OperationExpired, &held.id)
                    .with("session_id", &held.content.session_id),
            );
        }
    }
    let mut events = events.into_iter();
    if let Some(first) = events.next() {
        tx.commit(Events::one(first).and_all(events)).await?;
        control.changes().touch();
    }
    Ok(())
}
