//! The lock-out: one counter per name over every door and every spelling.
//!
//! An attempt is charged before it is checked, and a success takes the charge back. So a hundred attempts
//! at once are no more than a hundred in a row: the first five are checked, the rest are refused.
//!
//! INVARIANT: at most `failures_max` guesses are checked per name within `lock_out`, whatever the door,
//! across restarts; and as many more beside a proof of that person, see below. Names that nobody has count
//! like others, so that the lock-out tells nothing.
//!
//! A stranger who locks a name by failing on purpose does not keep its person out. Keys and certificates
//! are not charged: they cannot be guessed. A password or code typed beside one is charged to a counter of
//! its own, which only who has the key can use up; failures there count on the common counter too.

use std::time::Duration;

use sallyport_core::{event::Actor, principal::PersonName, time::Timestamp};

use super::{bearer::hash, store};
use crate::{
    config::SignInRules,
    kernel::{control::Control, database::StoreError},
};

/// What a claimed name is counted under: SHA-256 of its canonical form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NameKey(Vec<u8>);

impl NameKey {
    /// The key of a name as somebody typed it. What cannot be a name has a key too.
    pub(super) fn of(claimed: &str) -> Self {
        match claimed.parse::<PersonName>() {
            Ok(name) => Self::of_name(&name),
            Err(_) => {
                let text: String = claimed.trim().chars().take(256).collect();
                Self(hash(&format!("not a name:{}", text.to_lowercase())))
            }
        }
    }

    pub(super) fn of_name(name: &PersonName) -> Self {
        Self(hash(name.as_str()))
    }

    /// The key of what is typed where `name` was proven already.
    pub(super) fn beside_proof(name: &PersonName) -> Self {
        // No name has a space, so this is no other name's key.
        Self(hash(&format!("beside a proof of {name}")))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// For records about names nobody has: tells attempts apart without repeating what was typed,
    /// which may be a password in the wrong field.
    pub(super) fn masked(&self) -> String {
        let start: Vec<u8> = self.0.iter().copied().take(6).collect();
        format!("unknown:{}", hex::encode(start))
    }
}

/// How a name stands; times in milliseconds, 0 for never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) failures: u32,
    pub(super) last_at: i64,
    pub(super) locked_until: i64,
}

/// Whether an attempt may be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Charge {
    /// Yes. Should it fail, it locks the name until this time.
    Allowed {
        /// Set when this is the last attempt allowed.
        locks_until: Option<Timestamp>,
    },
    /// No: the name is locked.
    Locked,
}

/// Counts one attempt against `count`; returns how the name stands then and whether to check.
fn charged(count: Count, now: Timestamp, rules: &SignInRules) -> (Count, Charge) {
    let now_ms = now.unix_ms();
    if count.locked_until > now_ms {
        return (count, Charge::Locked);
    }
    let is_over = count.locked_until != 0
        || Timestamp::from_unix_ms(count.last_at).plus(rules.lock_out) <= now;
    let failures = if is_over { 0 } else { count.failures }.saturating_add(1);
    let locks_until = (failures >= rules.failures_max).then(|| now.plus(rules.lock_out));
    let count = Count {
        failures,
        last_at: now_ms,
        locked_until: locks_until.map_or(0, Timestamp::unix_ms),
    };
    (count, Charge::Allowed { locks_until })
}

/// Charges one attempt, durably.
pub(super) async fn charge(control: &Control, key: &NameKey) -> Result<Charge, StoreError> {
    let mut tx = control.db().begin(Actor::Anonymous).await?;
    let now = control.now();
    let count = store::factor::failure_count(&mut tx, key).await?;
    let (count, charge) = charged(count, now, &control.config().sign_in);
    if charge != Charge::Locked {
        store::factor::put_failure_count(&mut tx, key, count).await?;
    }
    tx.commit_operational().await?;
    Ok(charge)
}

/// How long a count without a new failure is kept.
pub(super) const fn kept_for(rules: &SignInRules) -> Duration {
    rules.lock_out.saturating_mul(2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_unix_ms(s * 1_000)
    }

    /// ID-5
    #[test]
    fn given_every_spelling_of_a_name_then_there_is_one_counter() {
        let key = NameKey::of("alice");
        for spelling in ["Alice", " alice", "ALICE", "alice\t", "aLiCe\n"] {
            assert_eq!(NameKey::of(spelling), key, "{spelling:?}");
        }
        assert_ne!(NameKey::of("bob"), key);
        assert_eq!(NameKey::of("No Name"), NameKey::of(" no name "));
    }

    #[test]
    fn given_five_failures_then_the_name_is_locked_for_fifteen_minutes_and_starts_afresh() {
        let rules = SignInRules::default();
        let mut count = Count::default();
        for attempt in 1..=5 {
            let (next, charge) = charged(count, at(100), &rules);
            let locks_until = (attempt == 5).then(|| at(100 + 900));
            assert_eq!(charge, Charge::Allowed { locks_until }, "attempt {attempt}");
            count = next;
        }
        assert_eq!(charged(count, at(999), &rules).1, Charge::Locked);
        let (count, charge) = charged(count, at(1_000), &rules);
        assert_eq!(charge, Charge::Allowed { locks_until: None });
        assert_eq!(count.failures, 1);
    }

    proptest! {
        /// Whatever the rhythm, no more than five guesses fall into any fifteen minutes.
        #[test]
        fn no_rhythm_gets_more_guesses_than_allowed(gaps in prop::collection::vec(0_i64..1200, 1..60)) {
            let rules = SignInRules::default();
            let (mut now, mut count, mut checked) = (1_000, Count::default(), Vec::new());
            for gap in gaps {
                now += gap;
                let (next, charge) = charged(count, at(now), &rules);
                count = next;
                if charge != Charge::Locked {
                    checked.push(now);
                }
            }
            for (position, start) in checked.iter().enumerate() {
                let within = checked[position..].iter().take_while(|time| **time < start + 900).count();
                prop_assert!(within <= 5, "{within} guesses from {start}: {checked:?}");
            }
        }
    }
}
