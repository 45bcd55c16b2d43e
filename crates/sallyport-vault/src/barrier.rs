//! The barrier: what is between callers and key material. Uninitialised, sealed or unsealed.
//!
//! Control holds one [`Vault`] and reaches every secret through it. Storing is the caller's: functions
//! that change something return what to store, and [`Vault::adopt`] takes effect after that is durable.
//!
//! INVARIANT: while the vault is not unsealed, no key is in memory and every function that needs one
//! answers [`VaultError::Sealed`]. The lock inside is never held across an await: nothing here is async.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use sallyport_core::{entropy::Entropy, id::RecordingId, secret::SecretBytes};
use serde_json::{Value, json};

use crate::{
    keyring::{Keyring, KeyringError, KeyringId, KeyringRecord, RootKey},
    seals::{
        self, Seal, SealError, Sealing, Unsealing,
        shamir::{self, Share},
    },
    secret_store::{SealedSecret, SecretError, SecretPath},
};

/// Why the vault does not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// There is no vault yet.
    #[error("the vault is not initialised: run `sallyport operator init`")]
    Uninitialised,
    /// There is one already.
    #[error("initialise the vault: it is initialised already, as keyring `{keyring_id}`")]
    AlreadyInitialised {
        /// Which.
        keyring_id: KeyringId,
    },
    /// No key is in memory.
    #[error("the vault is sealed: run `sallyport operator unseal`")]
    Sealed,
    /// Somebody else changed the keyring in between.
    #[error("change keyring `{keyring_id}`: it was changed at the same time; try again")]
    Superseded {
        /// Which.
        keyring_id: KeyringId,
    },
    /// The vault's seal takes no shares, or only shares.
    #[error("unseal the vault: its seal is `{kind}`, which {expects}")]
    OtherSeal {
        /// Kind of its seal.
        kind: String,
        /// What that kind of seal needs.
        expects: &'static str,
    },
    /// The seal refused.
    #[error("use the seal")]
    Seal(#[source] SealError),
    /// The keyring refused.
    #[error("use the keyring")]
    Keyring(#[source] KeyringError),
    /// The secret could not be sealed or opened.
    #[error("use the secret store")]
    Secret(#[source] SecretError),
}

/// Where the vault stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarrierState {
    /// Not made yet.
    Uninitialised,
    /// Made; no key in memory.
    Sealed,
    /// Usable.
    Unsealed,
}

/// What came of a share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareTaken {
    /// The vault's state after it.
    pub status: BarrierStatus,
    /// Whether it was this share that opened the vault: of shares at the same moment at most one does.
    pub has_opened: bool,
}

/// Where the vault stands, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BarrierStatus {
    /// Where.
    pub state: BarrierState,
    /// Kind of its seal, once it is made.
    pub seal: Option<String>,
    /// Shares taken so far in this unseal.
    pub shares_given: u8,
    /// Shares needed; 0 where the seal takes none.
    pub threshold: u8,
}

/// A change to the keyring that takes effect once it is stored. Dropped, it never happened.
#[derive(Debug)]
pub struct KeyringChange {
    /// What to store in place of the last record.
    pub record: KeyringRecord,
    /// What to give to people, once; empty unless the vault was just made with shares.
    pub shares: Vec<Share>,
    /// The keyring itself: seals what must be stored in the same transaction.
    pub keyring: Keyring,
}

/// Secrets and keys behind a seal. One for the process; shared by reference.
#[derive(Debug)]
pub struct Vault {
    entropy: Arc<dyn Entropy>,
    state: RwLock<State>,
}

#[derive(Debug)]
enum State {
    Uninitialised,
    Sealed {
        record: KeyringRecord,
        /// Checked shares of an unseal in progress, by number: never more than were made.
        shares: BTreeMap<u8, Share>,
    },
    Unsealed {
        record: KeyringRecord,
        keyring: Keyring,
    },
}

impl Vault {
    /// A vault as it was stored: sealed, or not yet made.
    #[must_use]
    pub fn new(entropy: Arc<dyn Entropy>, record: Option<KeyringRecord>) -> Self {
        let state = record.map_or(State::Uninitialised, |record| State::Sealed {
            record,
            shares: BTreeMap::new(),
        });
        Self {
            entropy,
            state: RwLock::new(state),
        }
    }

    /// The randomness this vault uses.
    #[must_use]
    pub fn entropy(&self) -> &dyn Entropy {
        &*self.entropy
    }

    /// Which keyring it is: the same for as long as the vault exists. Not secret. Nothing before it is
    /// made.
    #[must_use]
    pub fn keyring_id(&self) -> Option<KeyringId> {
        match &*self.read() {
            State::Uninitialised => None,
            State::Sealed { record, .. } | State::Unsealed { record, .. } => {
                Some(record.id().clone())
            }
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn status(&self) -> BarrierStatus {
        let state = self.read();
        let (state, record, shares_given) = match &*state {
            State::Uninitialised => (BarrierState::Uninitialised, None, 0),
            State::Sealed { record, shares } => (BarrierState::Sealed, Some(record), shares.len()),
            State::Unsealed { record, .. } => (BarrierState::Unsealed, Some(record), 0),
        };
        let seal = record.map(KeyringRecord::seal);
        let parameters = seal
            .filter(|seal| seal.kind == shamir::KIND)
            .and_then(|seal| shamir::Parameters::read(seal).ok());
        BarrierStatus {
            state,
            seal: seal.map(|seal| seal.kind.clone()),
            shares_given: u8::try_from(shares_given).unwrap_or(u8::MAX),
            threshold: parameters.map_or(0, |parameters| parameters.threshold),
        }
    }

    /// Prepares a vault whose key is split into `shares` (1 to 16), of which `threshold` unseal. Store
    /// the record, hand out the shares, then [`Self::adopt`] the change.
    ///
    /// # Errors
    /// [`VaultError::AlreadyInitialised`]; [`VaultError::Seal`] when the numbers make no sense.
    pub fn initialise_shamir(
        &self,
        shares: u8,
        threshold: u8,
    ) -> Result<KeyringChange, VaultError> {
        self.initialise(
            shamir::KIND,
            &json!({ "shares": shares, "threshold": threshold }),
        )
    }

    /// Prepares a vault whose key is in the file `path`, which is made unless it exists. Store the
    /// record, then [`Self::adopt`] the change.
    ///
    /// # Errors
    /// [`VaultError::AlreadyInitialised`]; [`VaultError::Seal`] when the file cannot be used.
    pub fn initialise_key_file(&self, path: &Path) -> Result<KeyringChange, VaultError> {
        self.initialise(seals::KEY_FILE, &json!({ "path": path }))
    }

    /// Prepares a vault with any seal, its settings as the seal describes them.
    ///
    /// # Errors
    /// [`VaultError::AlreadyInitialised`]; [`VaultError::Seal`].
    pub fn initialise(&self, kind: &str, settings: &Value) -> Result<KeyringChange, VaultError> {
        if let State::Sealed { record, .. } | State::Unsealed { record, .. } = &*self.read() {
            return Err(VaultError::AlreadyInitialised {
                keyring_id: record.id().clone(),
            });
        }
        let keyring_id = KeyringId::from_bytes(self.entropy.draw());
        let root_key = RootKey::generate(&*self.entropy);
        let sealing = Sealing {
            keyring_id: &keyring_id,
            settings,
            entropy: &*self.entropy,
        };
        let wrapped = seal_of(kind)?
            .wrap(&root_key, &sealing)
            .map_err(VaultError::Seal)?;
        let keyring = Keyring::generate(keyring_id, root_key, &*self.entropy);
        let record = keyring
            .record(1, wrapped.sealed, &*self.entropy)
            .map_err(VaultError::Keyring)?;
        Ok(KeyringChange {
            record,
            shares: wrapped.shares,
            keyring,
        })
    }

    /// Prepares a keyring with one more key, which seals from then on; what older keys sealed still
    /// opens. Store the record, then [`Self::adopt`] the change.
    ///
    /// # Errors
    /// [`VaultError::Sealed`], [`VaultError::Uninitialised`]; [`VaultError::Keyring`] after a thousand
    /// rotations.
    pub fn rotate_keyring(&self) -> Result<KeyringChange, VaultError> {
        let state = self.read();
        let (record, keyring) = unsealed(&state)?;
        let keyring = keyring
            .rotated(&*self.entropy)
            .map_err(VaultError::Keyring)?;
        let record = keyring
            .record(
                record.generation().saturating_add(1),
                record.seal().clone(),
                &*self.entropy,
            )
            .map_err(VaultError::Keyring)?;
        Ok(KeyringChange {
            record,
            shares: Vec::new(),
            keyring,
        })
    }

    /// Puts a stored change into force. A new vault is unsealed by it; one that was sealed meanwhile
    /// stays sealed.
    ///
    /// # Errors
    /// [`VaultError::Superseded`] when the change does not follow the record in force. The caller's
    /// transaction should have found that first, by the record's generation.
    pub fn adopt(&self, change: KeyringChange) -> Result<(), VaultError> {
        let mut state = self.write();
        let (is_next, stays_sealed) = match &*state {
            State::Uninitialised => (change.record.generation() == 1, false),
            State::Sealed { record, .. } => (follows(record, &change.record), true),
            State::Unsealed { record, .. } => (follows(record, &change.record), false),
        };
        if !is_next {
            return Err(VaultError::Superseded {
                keyring_id: change.record.id().clone(),
            });
        }
        *state = if stays_sealed {
            State::Sealed {
                record: change.record,
                shares: BTreeMap::new(),
            }
        } else {
            State::Unsealed {
                record: change.record,
                keyring: change.keyring,
            }
        };
        Ok(())
    }

    /// Takes one share, as typed; with the last one needed the vault opens.
    ///
    /// A wrong share is refused by itself and changes nothing: a flood of them neither spoils an unseal
    /// in progress nor, at 256 bits a share, ever guesses one. So there is no lock-out, which would
    /// only let the flood keep the vault sealed. Each call costs one hash; at most as many shares are
    /// kept as were made.
    ///
    /// # Errors
    /// [`VaultError::Seal`] saying what is wrong with the share; [`VaultError::OtherSeal`];
    /// [`VaultError::Uninitialised`]. An unsealed vault answers with its status.
    pub fn offer_share(&self, text: &str) -> Result<ShareTaken, VaultError> {
        let mut has_opened = false;
        {
            let mut state = self.write();
            match &mut *state {
                State::Uninitialised => return Err(VaultError::Uninitialised),
                State::Unsealed { .. } => {}
                State::Sealed { record, shares } => {
                    take_share(record, shares, text)?;
                    let threshold = read_threshold(record)?;
                    if shares.len() >= usize::from(threshold) {
                        let given = std::mem::take(shares);
                        let given: Vec<&Share> = given.values().collect();
                        let keyring = open(record, &Value::Null, &given)?;
                        let record = record.clone();
                        *state = State::Unsealed { record, keyring };
                        has_opened = true;
                    }
                }
            }
        }
        Ok(ShareTaken {
            status: self.status(),
            has_opened,
        })
    }

    /// Forgets the shares taken so far. For an authenticated operator only: whoever may do this can keep
    /// others from unsealing (security class D2).
    pub fn discard_shares(&self) {
        if let State::Sealed { shares, .. } = &mut *self.write() {
            shares.clear();
        }
    }

    /// Unseals with the key file at `path`.
    ///
    /// # Errors
    /// As [`Self::unseal`].
    pub fn unseal_key_file(&self, path: &Path) -> Result<(), VaultError> {
        self.unseal(&json!({ "path": path }))
    }

    /// Unseals with a seal that needs no people, its settings as the seal describes them.
    ///
    /// # Errors
    /// [`VaultError::Seal`], [`VaultError::Keyring`], [`VaultError::OtherSeal`],
    /// [`VaultError::Uninitialised`]. An unsealed vault stays as it is.
    pub fn unseal(&self, settings: &Value) -> Result<(), VaultError> {
        let mut state = self.write();
        match &*state {
            State::Uninitialised => Err(VaultError::Uninitialised),
            State::Unsealed { .. } => Ok(()),
            State::Sealed { record, .. } => {
                expect_shares(record, false)?;
                let keyring = open(record, settings, &[])?;
                *state = State::Unsealed {
                    record: record.clone(),
                    keyring,
                };
                Ok(())
            }
        }
    }

    /// Seals the vault: every key is wiped from memory before this returns.
    pub fn seal(&self) {
        let mut state = self.write();
        if let State::Sealed { record, .. } | State::Unsealed { record, .. } = &*state {
            *state = State::Sealed {
                record: record.clone(),
                shares: BTreeMap::new(),
            };
        }
    }

    /// Seals one version of a secret; the caller stores it.
    ///
    /// # Errors
    /// [`VaultError::Sealed`], [`VaultError::Uninitialised`], [`VaultError::Secret`].
    pub fn seal_secret(
        &self,
        path: &SecretPath,
        version: u64,
        secret: &SecretBytes,
    ) -> Result<SealedSecret, VaultError> {
        self.with_keyring(|keyring| keyring.seal_secret(path, version, secret, &*self.entropy))
    }

    /// Opens a sealed secret.
    ///
    /// # Errors
    /// [`VaultError::Sealed`], [`VaultError::Uninitialised`], [`VaultError::Secret`].
    pub fn open_secret(&self, sealed: &SealedSecret) -> Result<SecretBytes, VaultError> {
        self.with_keyring(|keyring| keyring.open_secret(sealed))
    }

    /// Wraps the key of a recording: text for its header.
    ///
    /// # Errors
    /// [`VaultError::Sealed`], [`VaultError::Uninitialised`], [`VaultError::Secret`].
    pub fn wrap_recording_key(
        &self,
        recording_id: &RecordingId,
        key: &SecretBytes,
    ) -> Result<String, VaultError> {
        self.with_keyring(|keyring| keyring.wrap_recording_key(recording_id, key, &*self.entropy))
    }

    /// Unwraps the key of a recording.
    ///
    /// # Errors
    /// [`VaultError::Sealed`], [`VaultError::Uninitialised`], [`VaultError::Secret`].
    pub fn unwrap_recording_key(
        &self,
        recording_id: &RecordingId,
        wrapped: &str,
    ) -> Result<SecretBytes, VaultError> {
        self.with_keyring(|keyring| keyring.unwrap_recording_key(recording_id, wrapped))
    }

    fn with_keyring<T>(
        &self,
        use_it: impl FnOnce(&Keyring) -> Result<T, SecretError>,
    ) -> Result<T, VaultError> {
        let state = self.read();
        let (_, keyring) = unsealed(&state)?;
        use_it(keyring).map_err(VaultError::Secret)
    }

    // A panic while the lock is held cannot leave half a state: every change is one assignment.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unsealed(state: &State) -> Result<(&KeyringRecord, &Keyring), VaultError> {
    match state {
        State::Uninitialised => Err(VaultError::Uninitialised),
        State::Sealed { .. } => Err(VaultError::Sealed),
        State::Unsealed { record, keyring } => Ok((record, keyring)),
    }
}

fn follows(record: &KeyringRecord, next: &KeyringRecord) -> bool {
    record.id() == next.id() && record.generation().checked_add(1) == Some(next.generation())
}

fn seal_of(kind: &str) -> Result<&'static dyn Seal, VaultError> {
    seals::by_kind(kind).ok_or_else(|| {
        VaultError::Seal(SealError::UnknownKind {
            kind: kind.to_owned(),
        })
    })
}

fn expect_shares(record: &KeyringRecord, expected: bool) -> Result<(), VaultError> {
    let takes_shares = record.seal().kind == shamir::KIND;
    if takes_shares == expected {
        return Ok(());
    }
    Err(VaultError::OtherSeal {
        kind: record.seal().kind.clone(),
        expects: if takes_shares {
            "takes shares"
        } else {
            "takes no shares"
        },
    })
}

fn read_threshold(record: &KeyringRecord) -> Result<u8, VaultError> {
    shamir::Parameters::read(record.seal())
        .map(|parameters| parameters.threshold)
        .map_err(VaultError::Seal)
}

fn take_share(
    record: &KeyringRecord,
    shares: &mut BTreeMap<u8, Share>,
    text: &str,
) -> Result<(), VaultError> {
    expect_shares(record, true)?;
    let parameters = shamir::Parameters::read(record.seal()).map_err(VaultError::Seal)?;
    let share = Share::from_text(text)
        .and_then(|share| share.check_keyring(record.id()).map(|()| share))
        .and_then(|share| parameters.check(&share).map(|()| share))
        .map_err(|error| VaultError::Seal(SealError::Share(error)))?;
    shares.insert(share.index(), share);
    Ok(())
}

fn open(
    record: &KeyringRecord,
    settings: &Value,
    shares: &[&Share],
) -> Result<Keyring, VaultError> {
    let unsealing = Unsealing {
        keyring_id: record.id(),
        settings,
        shares,
    };
    let root_key = seal_of(&record.seal().kind)?
        .unwrap(record.seal(), &unsealing)
        .map_err(VaultError::Seal)?;
    Keyring::open(record, root_key).map_err(VaultError::Keyring)
}
