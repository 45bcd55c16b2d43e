//! How many credentials are made at one target at a time: a server takes few connections of the account that
//! makes users, and has other clients.
//!
//! INVARIANT: whoever waits for a turn waits for a bounded time, and targets do not wait for each other.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// Credentials being made at one address at any time.
const PER_ADDRESS_MAX: usize = 8;
/// Longest wait for a turn; a client waits for its session all the while.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug, Default)]
pub struct Making(Mutex<HashMap<String, Arc<Semaphore>>>);

impl Making {
    /// Waits for a turn to make a credential at this address; nothing when there was none in time.
    pub(super) async fn turn(&self, address: &str) -> Option<OwnedSemaphorePermit> {
        self.turn_within(address, WAIT_MAX).await
    }

    async fn turn_within(&self, address: &str, wait_max: Duration) -> Option<OwnedSemaphorePermit> {
        let turns = {
            let mut addresses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Only those somebody has a turn at or waits for are worth keeping.
            addresses.retain(|_, turns| Arc::strong_count(turns) > 1);
            let turns = addresses
                .entry(address.to_owned())
                .or_insert_with(|| Arc::new(Semaphore::new(PER_ADDRESS_MAX)));
            Arc::clone(turns)
        };
        timeout(wait_max, turns.acquire_owned()).await.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// VA-4
    #[tokio::test]
    async fn given_a_target_that_is_slow_then_few_wait_for_it_at_a_time_and_nobody_for_ever() {
        let making = Making::default();
        let mut turns = Vec::new();
        for _ in 0..PER_ADDRESS_MAX {
            turns.push(making.turn("slow:1").await.unwrap());
        }
        let soon = Duration::from_millis(1);
        assert!(making.turn_within("slow:1", soon).await.is_none());
        assert!(making.turn("other:1").await.is_some());
        turns.pop();
        assert!(making.turn("slow:1").await.is_some());
        drop(turns);
        let _ = making.turn("other:1").await;
        assert_eq!(making.0.lock().unwrap().len(), 1, "addresses are forgotten");
    }
}
