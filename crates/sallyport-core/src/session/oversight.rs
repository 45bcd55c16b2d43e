//! Who looks on at a live session, who else may type in it, and when nothing passes in it.
//!
//! The gateway keeps one [`Oversight`] for each session and asks it before every byte and every
//! operation; control asks [`counts_as_watcher`] before it lets somebody join.
//!
//! INVARIANT: where policy demands a watcher, nothing passes without one who is not the session's own
//! person; nobody types who did not join with the keyboard, and each joining is a [`Change`] that the
//! session's person is told of.
//!
//! Not here: administrative rights (`authz::admin`), what the person reads (`sallyport-gateway`).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    id::{PersonId, WatcherId},
    policy::Constraints,
    principal::PersonName,
    time::Timestamp,
};

/// Most people who are joined to one session at a time.
pub const WATCHERS_MAX: usize = 16;

/// Somebody who joined a live session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watcher {
    /// This joining; the same person may join twice.
    pub id: WatcherId,
    /// Who.
    pub person_id: PersonId,
    /// Their name.
    pub person: PersonName,
    /// Whether they asked to type, too.
    pub has_keyboard: bool,
}

/// Whether a joined person makes up for the second pair of eyes that policy demands: anybody but the
/// session's own person.
#[must_use]
pub fn counts_as_watcher(watcher: &PersonId, owner: &PersonId) -> bool {
    watcher != owner
}

/// Why nothing passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// Somebody paused the session.
    Paused {
        /// Who.
        by: PersonName,
    },
    /// Policy demands a watcher and there is none.
    Unwatched {
        /// How long that may last before the session ends, in seconds.
        wait_s: u64,
    },
}

/// What became different, for the person of the session to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Somebody joined.
    Joined(Watcher),
    /// Somebody left, or was made to.
    Left(Watcher),
    /// Somebody paused the session.
    Paused {
        /// Who.
        by: PersonName,
    },
    /// The pause is over.
    Resumed,
}

/// Who looks on at one session, and what follows from it.
#[derive(Clone, Debug)]
pub struct Oversight {
    owner: PersonId,
    /// Longest time without a watcher, in seconds, where policy demands one.
    watcher_wait_s: Option<u64>,
    shares_keyboard: bool,
    paused_by: Option<PersonName>,
    watchers: Vec<Watcher>,
    /// When the last watcher who counts was gone; the beginning, while there was none.
    unwatched_since: Timestamp,
}

impl Oversight {
    /// Nobody looks on yet, and nothing is demanded.
    #[must_use]
    pub const fn new(owner: PersonId, started_at: Timestamp) -> Self {
        Self {
            owner,
            watcher_wait_s: None,
            shares_keyboard: true,
            paused_by: None,
            watchers: Vec::new(),
            unwatched_since: started_at,
        }
    }

    /// Applies limits besides those already in force; the stricter of both holds.
    pub fn tighten(&mut self, constraints: &Constraints, now: Timestamp) {
        self.shares_keyboard &= constraints.shares_keyboard;
        if let Some(wait_s) = constraints.watcher_wait_s {
            match &mut self.watcher_wait_s {
                Some(known_s) => *known_s = wait_s.min(*known_s),
                none => {
                    *none = Some(wait_s);
                    // The time before policy demanded it does not count.
                    self.unwatched_since = now;
                }
            }
        }
    }

    /// These people are joined now, and nobody else. At most [`WATCHERS_MAX`] of them are taken.
    pub fn watched_by(&mut self, mut watchers: Vec<Watcher>, now: Timestamp) -> Vec<Change> {
        watchers.truncate(WATCHERS_MAX);
        let was_watched = self.is_watched();
        let is_in = |list: &[Watcher], watcher: &Watcher| list.iter().any(|w| w.id == watcher.id);
        let left = self
            .watchers
            .iter()
            .filter(|watcher| !is_in(&watchers, watcher))
            .cloned()
            .map(Change::Left);
        let joined = watchers
            .iter()
            .filter(|watcher| !is_in(&self.watchers, watcher))
            .cloned()
            .map(Change::Joined);
        let changes = joined.chain(left).collect();
        self.watchers = watchers;
        if was_watched && !self.is_watched() {
            self.unwatched_since = now;
        }
        changes
    }

    /// The session is paused by this person, or by nobody.
    pub fn pause(&mut self, by: Option<PersonName>) -> Option<Change> {
        if self.paused_by == by {
            return None;
        }
        self.paused_by = by;
        Some(match &self.paused_by {
            Some(by) => Change::Paused { by: by.clone() },
            None => Change::Resumed,
        })
    }

    /// Why nothing passes now; nothing when all may.
    #[must_use]
    pub fn halt(&self) -> Option<Halt> {
        if let Some(by) = &self.paused_by {
            return Some(Halt::Paused { by: by.clone() });
        }
        match self.watcher_wait_s {
            Some(wait_s) if !self.is_watched() => Some(Halt::Unwatched { wait_s }),
            _ => None,
        }
    }

    /// Whether a demanded watcher has been missing for too long at `now`. A pause does not stop this
    /// clock.
    #[must_use]
    pub fn is_abandoned(&self, now: Timestamp) -> bool {
        self.watcher_wait_s.is_some_and(|wait_s| {
            !self.is_watched() && now.since(self.unwatched_since) >= Duration::from_secs(wait_s)
        })
    }

    /// The joined person behind `id`, if they may type now.
    #[must_use]
    pub fn typist(&self, id: &WatcherId) -> Option<&Watcher> {
        self.watchers.iter().find(|watcher| {
            watcher.id == *id
                && watcher.has_keyboard
                && self.shares_keyboard
                && watcher.person_id != self.owner
        })
    }

    /// Who is joined.
    #[must_use]
    pub fn watchers(&self) -> &[Watcher] {
        &self.watchers
    }

    fn is_watched(&self) -> bool {
        self.watchers
            .iter()
            .any(|watcher| counts_as_watcher(&watcher.person_id, &self.owner))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture::at;

    fn person(number: u8) -> PersonId {
        PersonId::new(at(0), [number; 10])
    }

    fn name(text: &str) -> PersonName {
        text.parse().unwrap()
    }

    fn watcher(number: u8, has_keyboard: bool) -> Watcher {
        Watcher {
            id: WatcherId::new(at(0), [number; 10]),
            person_id: person(number),
            person: name("bob"),
            has_keyboard,
        }
    }

    /// Alice's session, of which policy demands that somebody watches within a minute.
    fn four_eyes() -> Oversight {
        let mut oversight = Oversight::new(person(1), at(0));
        oversight.tighten(&demanding(60), at(0));
        oversight
    }

    fn demanding(wait_s: u64) -> Constraints {
        Constraints {
            watcher_wait_s: Some(wait_s),
            ..Constraints::default()
        }
    }

    /// RE-13
    #[test]
    fn given_a_demanded_watcher_then_nothing_passes_until_another_person_is_there() {
        let mut oversight = four_eyes();
        assert_eq!(oversight.halt(), Some(Halt::Unwatched { wait_s: 60 }));
        oversight.watched_by(vec![watcher(1, false)], at(1));
        assert!(oversight.halt().is_some(), "her own eyes counted");
        oversight.watched_by(vec![watcher(1, false), watcher(2, false)], at(2));
        assert_eq!(oversight.halt(), None);
        oversight.watched_by(vec![watcher(1, false)], at(3));
        assert!(oversight.halt().is_some(), "it went on unwatched");
    }

    /// RE-13
    #[test]
    fn given_a_demanded_watcher_then_the_time_without_is_bounded_and_begins_anew_each_time() {
        let mut oversight = four_eyes();
        assert!(!oversight.is_abandoned(at(59)));
        assert!(oversight.is_abandoned(at(60)));
        oversight.watched_by(vec![watcher(2, false)], at(50));
        assert!(!oversight.is_abandoned(at(500)));
        oversight.watched_by(Vec::new(), at(500));
        assert!(!oversight.is_abandoned(at(559)));
        oversight.pause(Some(name("bob")));
        assert!(oversight.is_abandoned(at(560)), "a pause stopped the clock");
    }

    /// RE-13: policies that change while the session lives.
    #[test]
    fn given_a_later_demand_then_it_holds_from_then_on_and_the_shorter_time_counts() {
        let mut oversight = Oversight::new(person(1), at(0));
        assert_eq!(oversight.halt(), None);
        assert!(!oversight.is_abandoned(at(10_000)));
        oversight.tighten(&demanding(60), at(1_000));
        assert!(!oversight.is_abandoned(at(1_059)));
        oversight.tighten(&demanding(30), at(1_001));
        oversight.tighten(&Constraints::default(), at(1_002));
        assert_eq!(oversight.halt(), Some(Halt::Unwatched { wait_s: 30 }));
        assert!(oversight.is_abandoned(at(1_030)));
    }

    /// RE-13, AC-6: who left, or was made to, types nothing more.
    #[test]
    fn only_another_person_who_joined_with_the_keyboard_types_and_only_while_joined() {
        let mut oversight = Oversight::new(person(1), at(0));
        let (own, quiet, typing) = (watcher(1, true), watcher(2, false), watcher(3, true));
        oversight.watched_by(vec![own.clone(), quiet.clone(), typing.clone()], at(1));
        assert_eq!(oversight.typist(&own.id), None);
        assert_eq!(oversight.typist(&quiet.id), None);
        assert_eq!(oversight.typist(&typing.id), Some(&typing));
        oversight.watched_by(vec![own, quiet], at(2));
        assert_eq!(oversight.typist(&typing.id), None);
    }

    /// RE-13, PO-2
    #[test]
    fn given_a_policy_that_keeps_the_keyboard_then_nobody_else_types() {
        let mut oversight = Oversight::new(person(1), at(0));
        oversight.watched_by(vec![watcher(3, true)], at(1));
        let own_keyboard = Constraints {
            shares_keyboard: false,
            ..Constraints::default()
        };
        oversight.tighten(&own_keyboard, at(2));
        oversight.tighten(&Constraints::default(), at(3));
        assert_eq!(oversight.typist(&watcher(3, true).id), None);
    }

    /// MO-6
    #[test]
    fn a_pause_stands_above_a_missing_watcher_and_is_told_once() {
        let mut oversight = four_eyes();
        let paused = oversight.pause(Some(name("bob")));
        assert_eq!(paused, Some(Change::Paused { by: name("bob") }));
        assert_eq!(oversight.pause(Some(name("bob"))), None);
        assert_eq!(oversight.halt(), Some(Halt::Paused { by: name("bob") }));
        assert_eq!(oversight.pause(None), Some(Change::Resumed));
        assert_eq!(oversight.halt(), Some(Halt::Unwatched { wait_s: 60 }));
    }

    proptest! {
        /// RE-13: nobody comes or goes untold, whatever order the lists arrive in.
        #[test]
        fn every_coming_and_going_is_a_change(lists in prop::collection::vec(prop::collection::btree_set(2_u8..9, 0..6), 1..12)) {
            let mut oversight = Oversight::new(person(1), at(0));
            let mut told = std::collections::BTreeSet::new();
            for list in lists {
                let watchers = list.iter().map(|number| watcher(*number, true)).collect();
                for change in oversight.watched_by(watchers, at(1)) {
                    match change {
                        Change::Joined(watcher) => prop_assert!(told.insert(watcher.id)),
                        Change::Left(watcher) => prop_assert!(told.remove(&watcher.id)),
                        other => prop_assert!(false, "{:?}", other),
                    }
                }
                let ids = list.iter().map(|number| watcher(*number, true).id).collect();
                prop_assert_eq!(&told, &ids);
            }
        }
    }
}
