//! The system clock, made never to go back: a clock that is set back must not bring an expired grant,
//! code or certificate to life again.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sallyport_core::time::{Clock, Timestamp};

/// A clock that can be told how late it is at least.
pub trait RatchetClock: Clock {
    /// Raises the floor, as when the store is opened and its last recorded time is known: no earlier
    /// time is returned afterwards.
    fn raise(&self, floor: Timestamp);

    /// How far the time underneath is behind the latest time returned; zero when it is not.
    fn behind(&self) -> Duration;
}

/// The system's clock with a ratchet.
#[derive(Debug, Default)]
pub struct SystemClock {
    latest_ms: AtomicI64,
}

impl SystemClock {
    /// A clock that returns no time before `floor`: the last time recorded before this start.
    #[must_use]
    pub const fn not_before(floor: Timestamp) -> Self {
        Self {
            latest_ms: AtomicI64::new(floor.unix_ms()),
        }
    }
}

impl RatchetClock for SystemClock {
    fn raise(&self, floor: Timestamp) {
        self.latest_ms.fetch_max(floor.unix_ms(), Ordering::AcqRel);
    }

    fn behind(&self) -> Duration {
        Timestamp::from_unix_ms(self.latest_ms.load(Ordering::Acquire)).since(system_time())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let now_ms = system_time().unix_ms();
        Timestamp::from_unix_ms(
            self.latest_ms
                .fetch_max(now_ms, Ordering::AcqRel)
                .max(now_ms),
        )
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the control plane reads the clock"
)]
fn system_time() -> Timestamp {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    Timestamp::from_unix_ms(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}
