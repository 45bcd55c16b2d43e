//! What happens later: counts and proofs that are over are forgotten. Nothing depends on it happening in
//! time, because every use looks at the clock.

use std::time::Duration;

use sallyport_core::event::Actor;

use super::{store, throttle};
use crate::kernel::{control::Control, database::StoreError};

const TICK: Duration = Duration::from_secs(60);

/// Runs until the process ends.
pub async fn run(control: Control) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Err(error) = prune(&control).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "could not forget old sign-in failures; trying again"
            );
        }
    }
}

/// Forgets what is over.
///
/// # Errors
/// [`StoreError`].
pub async fn prune(control: &Control) -> Result<(), StoreError> {
    let now = control.now();
    control.doors().proofs.prune(now);
    control.doors().passes.prune(now);
    control.doors().penalties.prune(now);
    let before = now.minus(throttle::kept_for(&control.config().sign_in));
    let mut tx = control.db().begin(Actor::System).await?;
    store::factor::prune_failure_counts(&mut tx, before, now).await?;
    tx.commit_operational().await
}
