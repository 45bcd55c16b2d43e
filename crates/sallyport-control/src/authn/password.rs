//! Passwords: argon2id, off the async threads, a few at a time.
//!
//! INVARIANT: checking a password costs the same whether or not there is one to check against; how many
//! are checked at once, and how many wait, is bounded, in all and for each source.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version,
    password_hash::phc::PasswordHash,
};
use sallyport_core::secret::SecretString;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::source::Source;
use crate::kernel::{ids, task};

/// OWASP's first choice for argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Hashes computed at once: more would only make each slower.
const AT_ONCE: usize = 2;
/// Attempts that may wait for their turn: some seconds of work. Later ones are told to come back.
const WAITING_MAX: usize = 64;
/// Of these, how many one source may have: a crowd from one place leaves room for everybody else.
const OF_SOURCE_MAX: usize = 8;
const CHARS_MIN: usize = 12;
const CHARS_MAX: usize = 256;

/// Why a password cannot be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a password has {CHARS_MIN} to {CHARS_MAX} characters, none of them a control character")]
pub struct UnfitPassword;

/// A password that may be set or checked.
pub(super) struct Password(SecretString);

impl Password {
    /// Takes a password as typed.
    pub(super) fn read(text: &str) -> Result<Self, UnfitPassword> {
        let is_fit = text.len() <= CHARS_MAX * 4
            && (CHARS_MIN..=CHARS_MAX).contains(&text.chars().count())
            && !text.chars().any(char::is_control);
        is_fit
            .then(|| Self(SecretString::new(text.to_owned())))
            .ok_or(UnfitPassword)
    }
}

/// Too many attempts wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Busy;

/// A place among those whose password is being hashed. Taken before an attempt is charged, so that a
/// crowd at the door costs nobody an attempt.
pub(super) struct Place<'a> {
    _permit: SemaphorePermit<'a>,
    passwords: &'a Passwords,
    source: Option<Source>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let Some(source) = self.source else { return };
        let of_sources = &self.passwords.of_sources;
        let mut counts = of_sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&source);
            }
        }
    }
}

/// The place where passwords are hashed.
pub(super) struct Passwords {
    turns: Arc<Semaphore>,
    places: Semaphore,
    /// Places that each source has.
    of_sources: Mutex<HashMap<Source, usize>>,
    /// Checked against where there is no hash; nobody knows its password.
    dummy: String,
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").finish_non_exhaustive()
    }
}

impl Passwords {
    pub(super) fn new() -> Self {
        let mut secret = [0_u8; 32];
        ids::fill(&mut secret);
        Self {
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            places: Semaphore::new(AT_ONCE + WAITING_MAX),
            of_sources: Mutex::default(),
            dummy: hash(&secret).unwrap_or_default(),
        }
    }

    /// A place, unless too many wait: in all, or from this source. `None` is a source that stands for
    /// many people and has no limit of its own.
    pub(super) fn place(&self, source: Option<Source>) -> Result<Place<'_>, Busy> {
        let permit = self.places.try_acquire().map_err(|_| Busy)?;
        if let Some(source) = source {
            let mut counts = self
                .of_sources
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(source).or_default();
            if *count >= OF_SOURCE_MAX {
                return Err(Busy);
            }
            *count = count.saturating_add(1);
        }
        Ok(Place {
            _permit: permit,
            passwords: self,
            source,
        })
    }

    /// The hash to store, in PHC form; `None` when the library fails.
    pub(super) async fn hash(&self, _: &Place<'_>, password: Password) -> Option<String> {
        self.work(move || hash(password.0.expose_secret().as_bytes()))
            .await
            .flatten()
    }

    /// Whether `password` is the one behind `stored`. Without a stored hash, or with a password that
    /// can be nobody's, the same work is done and the answer is no.
    pub(super) async fn is_right(
        &self,
        _: &Place<'_>,
        password: Option<Password>,
        stored: Option<&str>,
    ) -> bool {
        let is_possible = password.is_some() && stored.is_some();
        let stored = stored.unwrap_or(&self.dummy).to_owned();
        let password = password.unwrap_or_else(|| Password(SecretString::new(String::new())));
        let is_match = self
            .work(move || {
                let stored = PasswordHash::new(&stored).ok()?;
                hasher()?
                    .verify_password(password.0.expose_secret().as_bytes(), &stored)
                    .ok()
            })
            .await
            .flatten()
            .is_some();
        metrics::counter!("sallyport_password_checks_total").increment(1);
        is_possible && is_match
    }

    /// Runs `work` on a thread for blocking work. `None` when it panicked.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.ok()?;
        // The turn moves into the work: a caller that gives up does not let another one start early.
        task::blocking("password", move || {
            let done = work();
            drop(turn);
            done
        })
        .await
    }
}

fn hasher() -> Option<Argon2<'static>> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).ok()?;
    Some(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash(password: &[u8]) -> Option<String> {
    let mut salt = [0_u8; 16];
    ids::fill(&mut salt);
    let hash = hasher()?.hash_password_with_salt(password, &salt).ok()?;
    Some(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password::read(text).unwrap()
    }

    /// ID-5
    #[tokio::test]
    async fn given_a_stored_hash_then_only_its_password_is_right_to_the_last_character() {
        let passwords = Passwords::new();
        let place = passwords.place(None).unwrap();
        let long = "p".repeat(CHARS_MAX);
        let stored = passwords.hash(&place, password(&long)).await.unwrap();
        assert!(
            stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{stored}"
        );

        let is_right =
            |text: String| passwords.is_right(&place, Some(password(&text)), Some(&stored));
        assert!(is_right(long.clone()).await);
        assert!(!is_right(format!("{}q", "p".repeat(CHARS_MAX - 1))).await);
        assert!(!is_right("p".repeat(CHARS_MAX - 1)).await);
    }

    #[tokio::test]
    async fn given_no_stored_hash_or_no_possible_password_then_nothing_is_right() {
        let passwords = Passwords::new();
        let place = passwords.place(None).unwrap();
        let some = "correct horse battery";
        assert!(!passwords.is_right(&place, Some(password(some)), None).await);
        let stored = passwords.hash(&place, password(some)).await.unwrap();
        assert!(!passwords.is_right(&place, None, Some(&stored)).await);
        assert!(
            !passwords
                .is_right(&place, Some(password(some)), Some(""))
                .await
        );
    }

    #[test]
    fn given_a_crowd_then_the_next_one_is_told_to_come_back() {
        let passwords = Passwords::new();
        let crowd: Vec<_> = (0..AT_ONCE + WAITING_MAX)
            .map(|_| passwords.place(None).unwrap())
            .collect();
        assert!(passwords.place(None).is_err());
        drop(crowd);
        assert!(passwords.place(None).is_ok());
    }

    /// R8, R22
    #[test]
    fn given_a_crowd_from_one_source_then_others_find_a_place_and_so_does_it_afterwards() {
        let source = |text: &str| Some(Source::of(text.parse().unwrap()));
        let passwords = Passwords::new();
        let crowd: Vec<_> = (0..OF_SOURCE_MAX)
            .map(|_| passwords.place(source("192.0.2.1")).unwrap())
            .collect();
        assert!(passwords.place(source("192.0.2.1")).is_err());
        assert!(passwords.place(source("192.0.2.2")).is_ok());
        drop(crowd);
        assert!(passwords.place(source("192.0.2.1")).is_ok());
        assert!(passwords.of_sources.lock().unwrap().is_empty());
    }

    #[test]
    fn given_lengths_and_control_characters_then_only_fit_passwords_are_read() {
        for unfit in [
            "",
            "elevenchars",
            "with\0nul in the middle",
            "with a line\nbreak",
            &"x".repeat(257),
            &"\u{1f511}".repeat(257),
        ] {
            assert_eq!(
                Password::read(unfit).err(),
                Some(UnfitPassword),
                "{unfit:?}"
            );
        }
        for fit in [
            "twelve chars",
            &"\u{1f511}".repeat(12),
            &"\u{1f511}".repeat(256),
        ] {
            assert!(Password::read(fit).is_ok(), "{fit:?}");
        }
    }
}
