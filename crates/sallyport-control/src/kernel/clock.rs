//! The system clock, made never to go back: a clock that is set back must not bring an expired grant,
//! code or certificate to life again.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
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

/// The system's clock with a ratchet: it never goes back, and when the system's clock is set back it
/// goes on at the pace of the monotonic clock, so that nothing lives longer for it.
#[derive(Debug)]
pub struct SystemClock(Mutex<Anchor>);

/// A time that was right at an instant.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    at: Timestamp,
    instant: Instant,
}

impl Anchor {
    /// The time now, by the monotonic clock alone.
    fn goes_on(self, now: Instant) -> Timestamp {
        self.at.plus(now.saturating_duration_since(self.instant))
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::not_before(Timestamp::EPOCH)
    }
}

impl SystemClock {
    /// A clock that returns no time before `floor`: the last time recorded before this start.
    #[must_use]
    pub fn not_before(floor: Timestamp) -> Self {
        Self(Mutex::new(Anchor {
            at: floor,
            instant: monotonic_now(),
        }))
    }

    fn anchor(&self) -> MutexGuard<'_, Anchor> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RatchetClock for SystemClock {
    fn raise(&self, floor: Timestamp) {
        let instant = monotonic_now();
        let mut anchor = self.anchor();
        let at = anchor.goes_on(instant).max(floor);
        *anchor = Anchor { at, instant };
    }

    fn behind(&self) -> Duration {
        self.now().since(system_time())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let (system, instant) = (system_time(), monotonic_now());
        let mut anchor = self.anchor();
        let at = anchor.goes_on(instant).max(system);
        *anchor = Anchor { at, instant };
        at
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

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the control plane reads the monotonic clock"
)]
fn monotonic_now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// AC-5: a clock that is set back must not make anything live longer.
    #[test]
    fn given_a_floor_in_the_future_then_time_goes_on_from_there_and_never_back() {
        let floor = system_time().plus(Duration::from_secs(3_600));
        let clock = SystemClock::not_before(Timestamp::EPOCH);
        assert!(clock.now() < floor);
        clock.raise(floor);
        let first = clock.now();
        assert!(first >= floor);
        assert!(clock.behind() > Duration::from_secs(3_500));
        let anchor = *clock.anchor();
        let later = anchor.instant + Duration::from_secs(5);
        assert_eq!(
            anchor.goes_on(later),
            anchor.at.plus(Duration::from_secs(5))
        );
        assert!(clock.now() >= first);
    }
}
