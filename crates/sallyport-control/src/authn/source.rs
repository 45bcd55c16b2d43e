//! Penalties of the addresses that fail: guessing over many names is slow from one place, and a stranger
//! who fails on somebody's name on purpose soon cannot even be refused.
//!
//! The figures are those of OpenSSH's `PerSourcePenalties`: 5 s for a failed guess, 1 s for an attempt
//! that proved nothing and was not checked; they add up, count from 15 s on, and are never longer than
//! 10 minutes. In memory only: the lock-out per name ([`super::throttle`]) is what outlives a restart.
//!
//! INVARIANT: the table has at most [`SOURCES_MAX`] rows. A source that is barred is refused before its
//! attempt is charged to a name or costs a password hash.
//!
//! Not here: SSH connections that prove nothing, which the gateway counts, and bearer tokens and keys,
//! which nobody guesses.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sallyport_core::time::Timestamp;

const BARRED_FROM: Duration = Duration::from_secs(15);
const BARRED_MAX: Duration = Duration::from_secs(10 * 60);
const SOURCES_MAX: usize = 65_536;

/// What one source is: an IPv4 address, or the /64 that an IPv6 host chooses its addresses from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Source(IpAddr);

impl Source {
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(IpAddr::V4(address)),
            IpAddr::V6(address) => Self(IpAddr::V6(Ipv6Addr::from_bits(
                address.to_bits() & (u128::MAX << 64),
            ))),
        }
    }
}

/// What a source did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offence {
    /// A password, a one-time code or an enrolment code was checked, and wrong.
    WrongGuess,
    /// An attempt was refused without being checked.
    Unchecked,
}

impl Offence {
    const fn penalty(self) -> Duration {
        match self {
            Self::WrongGuess => Duration::from_secs(5),
            Self::Unchecked => Duration::from_secs(1),
        }
    }
}

/// How long a source is penalised, and whether that counts yet.
#[derive(Clone, Copy, Debug)]
struct Penalty {
    until: Timestamp,
    is_barring: bool,
}

/// The penalties that have not run out.
#[derive(Debug, Default)]
pub(super) struct Penalties(Mutex<HashMap<Source, Penalty>>);

impl Penalties {
    fn lock(&self) -> MutexGuard<'_, HashMap<Source, Penalty>> {
        // Every change is one insert or removal, so a panic elsewhere leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether attempts from `source` are refused unchecked for now.
    pub(super) fn is_barred(&self, source: Source, now: Timestamp) -> bool {
        self.lock()
            .get(&source)
            .is_some_and(|penalty| penalty.is_barring && now < penalty.until)
    }

    /// Adds the penalty for `offence`.
    pub(super) fn add(&self, source: Source, offence: Offence, now: Timestamp) {
        let mut all = self.lock();
        let before = all
            .get(&source)
            .copied()
            .filter(|before| now < before.until);
        if before.is_none() && all.len() >= SOURCES_MAX {
            make_room(&mut all, now);
        }
        let from = before.map_or(now, |before| before.until);
        let until = from.plus(offence.penalty()).min(now.plus(BARRED_MAX));
        let is_barring =
            before.is_some_and(|before| before.is_barring) || until.since(now) >= BARRED_FROM;
        all.insert(source, Penalty { until, is_barring });
        drop(all);
        if is_barring && before.is_none_or(|before| !before.is_barring) {
            metrics::counter!("sallyport_sources_barred_total").increment(1);
        }
    }

    /// Forgets what has run out.
    pub(super) fn prune(&self, now: Timestamp) {
        self.lock().retain(|_, penalty| now < penalty.until);
    }
}

/// Forgets what has run out, or else the penalty that would run out next: a flood of addresses makes
/// room for itself, and those who are barred for long stay barred.
fn make_room(all: &mut HashMap<Source, Penalty>, now: Timestamp) {
    all.retain(|_, penalty| now < penalty.until);
    if all.len() >= SOURCES_MAX {
        let next = all.iter().min_by_key(|(_, penalty)| penalty.until);
        if let Some(source) = next.map(|(source, _)| *source) {
            all.remove(&source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_unix_ms(1_000_000 + ms)
    }

    fn source(text: &str) -> Source {
        Source::of(text.parse().unwrap())
    }

    /// R8, O5
    #[test]
    fn given_wrong_guesses_then_their_source_is_barred_from_fifteen_seconds_on_for_ten_minutes_at_most()
     {
        let penalties = Penalties::default();
        let (guesser, other) = (source("192.0.2.1"), source("192.0.2.2"));
        for guess in 1..=3 {
            assert!(!penalties.is_barred(guesser, at(0)), "before guess {guess}");
            penalties.add(guesser, Offence::WrongGuess, at(0));
        }
        assert!(penalties.is_barred(guesser, at(14_999)));
        assert!(!penalties.is_barred(guesser, at(15_000)));
        assert!(!penalties.is_barred(other, at(0)));
        // Barred stays barred to the end, though less than 15 s are left.
        assert!(penalties.is_barred(guesser, at(14_000)));

        for _ in 0..1_000 {
            penalties.add(guesser, Offence::WrongGuess, at(20_000));
        }
        assert!(penalties.is_barred(guesser, at(20_000 + 599_999)));
        assert!(!penalties.is_barred(guesser, at(20_000 + 600_000)));
    }

    /// R8: who mistypes now and then is never barred.
    #[test]
    fn given_a_wrong_guess_every_six_seconds_then_its_source_is_not_barred() {
        let penalties = Penalties::default();
        let person = source("192.0.2.1");
        for guess in 0..100 {
            penalties.add(person, Offence::WrongGuess, at(guess * 6_000));
            assert!(!penalties.is_barred(person, at(guess * 6_000)), "{guess}");
        }
        for attempt in 0..14 {
            penalties.add(person, Offence::Unchecked, at(900_000));
            assert!(!penalties.is_barred(person, at(900_000)), "{attempt}");
        }
        penalties.add(person, Offence::Unchecked, at(900_000));
        assert!(penalties.is_barred(person, at(900_000)));
    }

    /// R8: an IPv6 host chooses among 2^64 addresses and is one source; IPv4 in IPv6 is IPv4.
    #[test]
    fn given_addresses_of_one_host_then_they_are_one_source() {
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:1:2:3"));
        assert_ne!(source("2001:db8:0:1::1"), source("2001:db8:0:2::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
    }

    /// R22: a flood of addresses takes bounded memory and frees nobody who is barred for longer.
    #[test]
    fn given_more_sources_than_fit_then_the_table_stays_bounded_and_the_worst_stay_barred() {
        let penalties = Penalties::default();
        let worst = source("192.0.2.1");
        for _ in 0..10 {
            penalties.add(worst, Offence::WrongGuess, at(0));
        }
        for number in 0..u32::try_from(SOURCES_MAX).unwrap() + 10 {
            let address = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
            penalties.add(
                Source::of(address),
                Offence::WrongGuess,
                at(i64::from(number / 1_000)),
            );
        }
        assert!(penalties.lock().len() <= SOURCES_MAX);
        assert!(penalties.is_barred(worst, at(1_000)));
        penalties.prune(at(60_000));
        assert!(penalties.lock().is_empty());
    }
}
