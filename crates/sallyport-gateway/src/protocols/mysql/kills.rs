//! Numbers by which clients stop what they run, and what each stops.
//!
//! A client is greeted with a number of ours, never the target's. `KILL` with it, or with the number that
//! the target itself gives the connection, on another session of the same person with the same account,
//! stops that one session; anything else stops nothing.
//!
//! INVARIANT: a wrong number changes nothing and is remembered nowhere; one session asks its target once at
//! a time, however often it is asked for (security class G7).

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use aws_lc_rs::rand;
use sallyport_core::{authz::Permit, id::PersonId};

use super::{
    relay::Activity,
    upstream::{Kill, Stopper, UpstreamError},
};

/// Tries to find a number that no other connection has.
const DRAWS_MAX: usize = 16;
/// Numbers of ours begin here, where servers come last: one is not taken for the other.
const FIRST: u32 = 1 << 31;

/// Whose sessions a number may stop: those of one person with one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    person: PersonId,
    account: String,
    target: String,
}

impl Owner {
    pub(super) fn of(permit: &Permit) -> Self {
        let question = &permit.terms().question;
        Self {
            person: question.principal.id.clone(),
            account: question.account.name.to_string(),
            target: question.target.id.to_string(),
        }
    }
}

/// What one session's number stops.
#[derive(Debug)]
pub(super) struct Killable {
    owner: Owner,
    stopper: Stopper,
    /// Hears of it too: what waits for other people has not reached the target.
    activity: Arc<Activity>,
    is_asking: AtomicBool,
}

impl Killable {
    /// Asks the target to stop, unless it is being asked already.
    ///
    /// # Errors
    /// [`UpstreamError`]: the target was not reached, or refused.
    pub(super) async fn stop(&self, kill: Kill) -> Result<(), UpstreamError> {
        self.activity.interrupted.notify_waiters();
        // A target would remember it for the next statement.
        let is_idle = !self.activity.is_busy.load(Ordering::Acquire);
        if kill == Kill::Query && is_idle {
            return Ok(());
        }
        if self.is_asking.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let asked = self.stopper.ask(kill).await;
        if let Err(error) = &asked {
            let error: &dyn std::error::Error = error;
            tracing::warn!(error, "a target could not be asked to stop");
        }
        self.is_asking.store(false, Ordering::Release);
        asked
    }
}

/// The numbers of all connections: without a session they stop nothing.
#[derive(Debug, Default)]
pub(super) struct Kills(Mutex<HashMap<u32, Option<Arc<Killable>>>>);

impl Kills {
    fn all(&self) -> MutexGuard<'_, HashMap<u32, Option<Arc<Killable>>>> {
        // Every change is one insert or removal, so a panic elsewhere leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for a connection, good until the result is dropped. Nothing without randomness.
    pub(super) fn issue(self: &Arc<Self>) -> Option<Issued> {
        let mut all = self.all();
        for _ in 0..DRAWS_MAX {
            let mut drawn = [0; 4];
            rand::fill(&mut drawn).ok()?;
            let number = u32::from_le_bytes(drawn) | FIRST;
            if all.contains_key(&number) {
                continue;
            }
            all.insert(number, None);
            drop(all);
            return Some(Issued {
                kills: Arc::clone(self),
                number,
            });
        }
        None
    }

    /// What this number stops for `owner`.
    pub(super) fn find(&self, number: u64, owner: &Owner) -> Option<Arc<Killable>> {
        let number = u32::try_from(number).ok()?;
        let all = self.all();
        if number >= FIRST {
            let found = all.get(&number)?.clone()?;
            return (found.owner == *owner).then_some(found);
        }
        let mut killable = all.values().flatten();
        killable
            .find(|known| known.stopper.connection() == number && known.owner == *owner)
            .cloned()
    }
}

/// The number of one connection. It is good while this lives.
#[derive(Debug)]
pub(super) struct Issued {
    kills: Arc<Kills>,
    pub(super) number: u32,
}

impl Issued {
    /// Says what the number stops.
    pub(super) fn stops(
        &self,
        owner: Owner,
        stopper: Stopper,
        activity: Arc<Activity>,
    ) -> Arc<Killable> {
        let killable = Arc::new(Killable {
            owner,
            stopper,
            activity,
            is_asking: AtomicBool::new(false),
        });
        self.kills
            .all()
            .insert(self.number, Some(Arc::clone(&killable)));
        killable
    }
}

impl Drop for Issued {
    fn drop(&mut self) {
        self.kills.all().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use sallyport_core::time::Timestamp;

    use super::*;

    fn owner(person: u8, account: &str) -> Owner {
        Owner {
            person: PersonId::new(Timestamp::EPOCH, [person; 10]),
            account: account.to_owned(),
            target: "orders".to_owned(),
        }
    }

    /// G7: a number stops sessions of its person with its account, as long as they live, and nothing else.
    #[test]
    fn given_numbers_then_each_stops_a_session_of_its_owner_alone() {
        let kills = Arc::new(Kills::default());
        let issued = kills.issue().unwrap();
        let ours = u64::from(issued.number);
        let alice = owner(1, "app");
        assert!(
            kills.find(ours, &alice).is_none(),
            "there is no session yet"
        );
        issued.stops(alice.clone(), Stopper::of_nobody(7), Arc::default());
        assert!(kills.find(ours, &alice).is_some());
        assert!(kills.find(7, &alice).is_some(), "as the target counts");
        for other in [owner(2, "app"), owner(1, "root")] {
            assert!(kills.find(ours, &other).is_none() && kills.find(7, &other).is_none());
        }
        for wrong in [0, 8, ours ^ 1, ours + (1 << 32), u64::MAX] {
            assert!(kills.find(wrong, &alice).is_none(), "{wrong}");
        }
        drop(issued);
        assert!(kills.find(ours, &alice).is_none() && kills.find(7, &alice).is_none());
        assert!(kills.all().is_empty());
    }
}
