//! What happens later: notices are delivered, again and again until the far side took them.
//!
//! INVARIANT: only what is committed is delivered, because notices are read outside any transaction; and
//! a notice is delivered at least once, because it is marked only after the far side took it.

use std::{error::Error, time::Duration};

use futures_util::{StreamExt as _, stream};
use sallyport_core::{
    event::{Actor, Event, EventName, Events},
    time::Timestamp,
};

use super::{
    store::{self, Notice},
    webhook::{Endpoint, WebhookError},
};
use crate::kernel::{control::Control, database::StoreError, problem::Chain};

/// How often due notices are looked for.
const TICK: Duration = Duration::from_millis(500);
/// Calls at a time, so that one slow answer does not hold the others up.
const CALLS_MAX: usize = 8;
/// Wait after the first failure; it doubles with each further one.
const BACK_OFF_FIRST: Duration = Duration::from_secs(1);
/// Longest wait between two attempts.
const BACK_OFF_MAX: Duration = Duration::from_secs(600);

/// Runs until the process ends.
pub async fn run(control: Control) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told_until = Timestamp::EPOCH;
    loop {
        tick.tick().await;
        let result = match &control.config().webhook {
            Some(_) => deliver_due(&control).await,
            None => tell_operators(&control, &mut told_until).await,
        };
        if let Err(error) = result {
            tracing::warn!(
                error = &error as &dyn Error,
                "could not deliver notices; trying again"
            );
        }
    }
}

/// Delivers every notice that is due. Does nothing when no webhook is configured.
///
/// # Errors
/// [`StoreError`] when notices could not be read. A failed delivery is none: it is planned anew.
pub async fn deliver_due(control: &Control) -> Result<(), StoreError> {
    let Some(webhook) = &control.config().webhook else {
        return Ok(());
    };
    let mut reader = control.db().read().await?;
    let due = store::due(&mut reader, control.now()).await?;
    drop(reader);
    if due.is_empty() {
        return Ok(());
    }
    let endpoint = Endpoint::new(webhook);
    stream::iter(due)
        .for_each_concurrent(CALLS_MAX, |notice| {
            let endpoint = endpoint.as_ref();
            async move {
                if let Err(error) = deliver(control, endpoint, &notice).await {
                    tracing::warn!(
                        notice = notice.id,
                        error = &error as &dyn Error,
                        "could not write down the delivery of a notice"
                    );
                }
            }
        })
        .await;
    Ok(())
}

async fn deliver(
    control: &Control,
    endpoint: Result<&Endpoint, &WebhookError>,
    notice: &Notice,
) -> Result<(), StoreError> {
    let failure: String = match endpoint {
        Ok(endpoint) => {
            match endpoint
                .post(control.directory(), notice, control.now())
                .await
            {
                Ok(()) => return taken(control, notice).await,
                Err(error) => Chain(&error).to_string(),
            }
        }
        Err(error) => Chain(error).to_string(),
    };
    failed(control, notice, &failure).await
}

async fn taken(control: &Control, notice: &Notice) -> Result<(), StoreError> {
    let mut tx = control.db().begin(Actor::System).await?;
    store::delivered(&mut tx, &notice.id, control.now()).await?;
    tx.commit_operational().await?;
    count("taken");
    Ok(())
}

async fn failed(control: &Control, notice: &Notice, failure: &str) -> Result<(), StoreError> {
    let attempts = notice.attempts.saturating_add(1);
    let next_at = control.now().plus(back_off(attempts));
    let mut tx = control.db().begin(Actor::System).await?;
    store::failed(&mut tx, &notice.id, attempts, next_at).await?;
    count("failed");
    // The log tells of trouble and that it lasts, not of every attempt.
    if attempts != 1 && !attempts.is_multiple_of(10) {
        return tx.commit_operational().await;
    }
    tracing::warn!(
        notice = notice.id,
        attempts,
        failure,
        "a notice was not delivered; trying again"
    );
    let event = Event::new(EventName::NoticeFailed, &notice.id)
        .with("kind", &notice.kind)
        .with("attempts", attempts)
        .with("reason", failure);
    tx.commit(Events::one(event)).await.map(drop)
}

fn count(outcome: &'static str) {
    metrics::counter!("sallyport_notice_attempts_total", "outcome" => outcome).increment(1);
}

/// The wait after this many failed attempts: 1 s, doubling, at most 10 minutes.
fn back_off(attempts: u64) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1))
        .unwrap_or(u32::MAX)
        .min(16);
    BACK_OFF_FIRST
        .saturating_mul(2_u32.saturating_pow(doublings))
        .min(BACK_OFF_MAX)
}

/// Without a webhook nobody is told of a broken glass but whoever reads the logs: one line each.
async fn tell_operators(control: &Control, told_until: &mut Timestamp) -> Result<(), StoreError> {
    let mut reader = control.db().read().await?;
    for (notice, created_at) in
        store::undelivered_since(&mut reader, super::BREAK_GLASS_USED, *told_until).await?
    {
        tracing::warn!(
            notice,
            "somebody broke the glass and no webhook is configured to tell anybody; set `webhook.url`"
        );
        *told_until = created_at;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_failures_then_the_wait_doubles_up_to_ten_minutes_for_ever() {
        let waits: Vec<u64> = [1, 2, 3, 9, 10, 11, 12, 1_000, u64::MAX]
            .into_iter()
            .map(|attempts| back_off(attempts).as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 256, 512, 600, 600, 600, 600]);
    }
}
