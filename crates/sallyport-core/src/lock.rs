//! A lock stops a person, an account, a target or everything, at once and for live sessions too.

use serde::{Deserialize, Serialize};

use crate::{
    id::{AccountId, LockId, PersonId, TargetId},
    time::Timestamp,
};

/// What a lock stops.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", content = "id", rename_all = "snake_case")]
pub enum LockScope {
    /// One person.
    Person(PersonId),
    /// One account on one target.
    Account(AccountId),
    /// Every account on one target.
    Target(TargetId),
    /// Everybody everywhere.
    Everything,
}

/// A stop in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// Id.
    pub id: LockId,
    /// What it stops.
    pub scope: LockScope,
    /// Why, shown to the people it stops.
    pub reason: String,
    /// When it ends by itself; absent means when somebody removes it.
    pub until: Option<Timestamp>,
}

impl Lock {
    /// Whether the lock stops a session of this person to this account at `now`.
    #[must_use]
    pub fn stops(
        &self,
        person: &PersonId,
        account: &AccountId,
        target: &TargetId,
        now: Timestamp,
    ) -> bool {
        if self.until.is_some_and(|until| until <= now) {
            return false;
        }
        match &self.scope {
            LockScope::Person(id) => id == person,
            LockScope::Account(id) => id == account,
            LockScope::Target(id) => id == target,
            LockScope::Everything => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::at;

    fn lock(scope: LockScope, until: Option<Timestamp>) -> Lock {
        Lock {
            id: LockId::new(at(0), [1; 10]),
            scope,
            reason: "incident".into(),
            until,
        }
    }

    /// AC-6
    #[test]
    fn a_lock_stops_what_it_names_and_nothing_else() {
        let person = PersonId::new(at(0), [1; 10]);
        let account = AccountId::new(at(0), [2; 10]);
        let target = TargetId::new(at(0), [3; 10]);
        for (scope, is_stopped) in [
            (LockScope::Person(person.clone()), true),
            (LockScope::Person(PersonId::new(at(0), [9; 10])), false),
            (LockScope::Account(account.clone()), true),
            (LockScope::Account(AccountId::new(at(0), [9; 10])), false),
            (LockScope::Target(target.clone()), true),
            (LockScope::Target(TargetId::new(at(0), [9; 10])), false),
            (LockScope::Everything, true),
        ] {
            let lock = lock(scope, None);
            assert_eq!(
                lock.stops(&person, &account, &target, at(1)),
                is_stopped,
                "{lock:?}"
            );
        }
    }

    /// AC-6
    #[test]
    fn a_lock_with_an_end_holds_until_just_before_it() {
        let person = PersonId::new(at(0), [1; 10]);
        let account = AccountId::new(at(0), [2; 10]);
        let target = TargetId::new(at(0), [3; 10]);
        let lock = lock(LockScope::Everything, Some(at(60)));
        assert!(lock.stops(&person, &account, &target, at(59)));
        assert!(!lock.stops(&person, &account, &target, at(60)));
    }
}
