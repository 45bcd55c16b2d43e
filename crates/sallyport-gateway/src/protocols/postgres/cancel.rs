//! Keys by which clients cancel what they run, and what each stops.
//!
//! A client gets a key of ours, never the target's. Whoever shows it, on a connection that proves nothing
//! else, has the one session stopped that it belongs to.
//!
//! INVARIANT: a wrong key changes nothing and is remembered nowhere; one session asks its target once at a
//! time, however often its key is shown (security class G7).

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use aws_lc_rs::{constant_time, rand};
use tokio::sync::Notify;

use super::{codec::CancelKey, upstream::Stopper};

/// Bytes of a secret where the protocol fixes its length (version 3.0).
const SHORT_SECRET_BYTES: usize = 4;
/// Bytes of a secret where it does not (version 3.2).
const LONG_SECRET_BYTES: usize = 32;
/// Tries to find a number that no other session has.
const DRAWS_MAX: usize = 16;

/// What one session's key stops.
#[derive(Debug)]
pub(super) struct Cancellable {
    secret: Vec<u8>,
    stopper: Stopper,
    /// Hears of it too: what waits for other people has not reached the target.
    interrupted: Arc<Notify>,
    is_asking: AtomicBool,
}

impl Cancellable {
    /// Asks the target to stop, unless it is being asked already.
    pub(super) async fn stop(&self) {
        self.interrupted.notify_waiters();
        if self.is_asking.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Err(error) = self.stopper.ask().await {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "a target could not be asked to stop");
        }
        self.is_asking.store(false, Ordering::Release);
    }
}

/// The keys of all sessions, by their number.
#[derive(Debug, Default)]
pub(super) struct Cancels(Mutex<HashMap<u32, Arc<Cancellable>>>);

impl Cancels {
    fn all(&self) -> MutexGuard<'_, HashMap<u32, Arc<Cancellable>>> {
        // Every change is one insert or removal, so a panic elsewhere leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A key for a session, good until the result is dropped. Nothing without randomness.
    pub(super) fn issue(
        self: &Arc<Self>,
        stopper: Stopper,
        interrupted: Arc<Notify>,
        is_long: bool,
    ) -> Option<Issued> {
        let length = match is_long {
            true => LONG_SECRET_BYTES,
            false => SHORT_SECRET_BYTES,
        };
        let mut secret = vec![0; length];
        rand::fill(&mut secret).ok()?;
        let cancellable = Arc::new(Cancellable {
            secret: secret.clone(),
            stopper,
            interrupted,
            is_asking: AtomicBool::new(false),
        });
        let mut all = self.all();
        for _ in 0..DRAWS_MAX {
            let mut number = [0; 4];
            rand::fill(&mut number).ok()?;
            let process = u32::from_be_bytes(number);
            // Clients show it as a process id: a number that is none would look odd.
            if process == 0 || all.contains_key(&process) {
                continue;
            }
            all.insert(process, Arc::clone(&cancellable));
            drop(all);
            return Some(Issued {
                cancels: Arc::clone(self),
                key: CancelKey { process, secret },
                cancellable,
            });
        }
        None
    }

    /// What this key stops, if it is one of ours.
    pub(super) fn find(&self, key: &CancelKey) -> Option<Arc<Cancellable>> {
        let found = self.all().get(&key.process).cloned()?;
        constant_time::verify_slices_are_equal(&found.secret, &key.secret).ok()?;
        Some(found)
    }
}

/// A key that is good while this lives.
#[derive(Debug)]
pub(super) struct Issued {
    cancels: Arc<Cancels>,
    pub(super) key: CancelKey,
    pub(super) cancellable: Arc<Cancellable>,
}

impl Drop for Issued {
    fn drop(&mut self) {
        self.cancels.all().remove(&self.key.process);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issue(cancels: &Arc<Cancels>, is_long: bool) -> Issued {
        let interrupted = Arc::new(Notify::new());
        let stopper = Stopper::of_nobody();
        cancels.issue(stopper, interrupted, is_long).unwrap()
    }

    /// G7: a million wrong keys cancel nothing and leave nothing behind.
    #[test]
    fn given_wrong_keys_without_end_then_nothing_is_found_and_nothing_is_kept() {
        let cancels = Arc::new(Cancels::default());
        let issued = issue(&cancels, false);
        let mut wrong = issued.key.clone();
        for guess in 0..1_000_000_u32 {
            wrong.process = guess.wrapping_mul(2_654_435_761);
            wrong.secret = guess.to_be_bytes().to_vec();
            let is_right = wrong == issued.key;
            assert_eq!(cancels.find(&wrong).is_some(), is_right);
        }
        assert_eq!(cancels.all().len(), 1);
    }

    /// G7
    #[test]
    fn given_a_key_then_it_is_whole_or_nothing_and_ends_with_its_session() {
        let cancels = Arc::new(Cancels::default());
        for (is_long, length) in [(false, 4), (true, 32)] {
            let issued = issue(&cancels, is_long);
            let other = issue(&cancels, is_long);
            assert_eq!(issued.key.secret.len(), length);
            assert_ne!(issued.key, other.key);
            let key = issued.key.clone();
            assert!(cancels.find(&key).is_some());
            for secret in [
                vec![],
                key.secret[1..].to_vec(),
                [&key.secret[..], b"x"].concat(),
                other.key.secret.clone(),
            ] {
                let process = key.process;
                assert!(cancels.find(&CancelKey { process, secret }).is_none());
            }
            drop(issued);
            assert!(cancels.find(&key).is_none());
            assert_eq!(cancels.all().len(), 1);
        }
    }
}
