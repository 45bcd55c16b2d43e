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
