//! Where credentials are being revoked, and where it is of no use to try for a while.
//!
//! INVARIANT: one address is worked on by one task at a time, and one that does not answer is asked by one
//! lease at a time: neither holds up the others.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use sallyport_core::time::Timestamp;

/// Longest wait before an address that did not answer is asked again: what is revoked late because of it is
/// revoked within a minute of its return.
const AWAY_MAX: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug, Default)]
pub struct Revoking(Mutex<Work>);

#[derive(Debug, Default)]
struct Work {
    busy: HashSet<String>,
    away: HashMap<String, Away>,
}

#[derive(Clone, Copy, Debug)]
struct Away {
    times: u32,
    until: Timestamp,
}

impl Revoking {
    /// Takes an address to work on; nothing when somebody does, or when it did not answer a moment ago.
    pub(super) fn begin(&self, address: &str, now: Timestamp) -> Option<Turn<'_>> {
        let mut work = self.lock();
        let is_away = work.away.get(address).is_some_and(|away| away.until > now);
        if is_away || !work.busy.insert(address.to_owned()) {
            return None;
        }
        Some(Turn {
            of: self,
            address: address.to_owned(),
            was_away: work.away.contains_key(address),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Work> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to work on an address. Dropped, others may.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    of: &'a Revoking,
    address: String,
    was_away: bool,
}

impl Turn<'_> {
    /// Whether it did not answer when it was asked last.
    pub(super) const fn was_away(&self) -> bool {
        self.was_away
    }

    /// It did not answer; it is asked again after a while that doubles.
    pub(super) fn is_away(&self, now: Timestamp) {
        let mut work = self.of.lock();
        let times = work
            .away
            .get(&self.address)
            .map_or(0, |away| away.times.saturating_add(1));
        let wait = Duration::from_secs(1 << times.min(10)).min(AWAY_MAX);
        let until = now.plus(wait);
        work.away
            .insert(self.address.clone(), Away { times, until });
    }

    /// It answered.
    pub(super) fn is_there(&self) {
        self.of.lock().away.remove(&self.address);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.of.lock().busy.remove(&self.address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_unix_ms(s * 1_000)
    }

    /// VA-4, R14
    #[test]
    fn given_an_address_that_does_not_answer_then_it_is_asked_seldom_and_others_are_not_held_up() {
        let revoking = Revoking::default();
        let turn = revoking.begin("a", at(0)).unwrap();
        assert!(revoking.begin("a", at(0)).is_none(), "one at a time");
        assert!(revoking.begin("b", at(0)).is_some());
        turn.is_away(at(0));
        drop(turn);
        assert!(revoking.begin("a", at(0)).is_none());
        assert!(revoking.begin("b", at(0)).is_some());
        let mut waits = Vec::new();
        let mut now = 1;
        for _ in 0..7 {
            let turn = revoking.begin("a", at(now)).unwrap();
            assert!(turn.was_away());
            turn.is_away(at(now));
            drop(turn);
            let from = now;
            while revoking.begin("a", at(now)).is_none() {
                now += 1;
            }
            waits.push(now - from);
        }
        assert_eq!(waits, [2, 4, 8, 16, 30, 30, 30]);
        revoking.begin("a", at(now)).unwrap().is_there();
        assert!(!revoking.begin("a", at(now)).unwrap().was_away());
    }
}
