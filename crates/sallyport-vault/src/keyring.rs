//! The keyring: versions of the key that wraps data keys, sealed under the root key, and the record
//! of it that control stores.
//!
//! The barrier ([`Vault`](crate::Vault)) holds the opened keyring while the vault is unsealed; control
//! stores a [`KeyringRecord`] in the transaction that also records who caused it.
//!
//! INVARIANT: every byte of a record is covered by authentication under a key that is not in it, and a
//! record has one spelling: anything else does not open.
//!
//! Not here: who may seal and unseal (control), where the root key comes from (`seals/`).

use std::fmt;

use sallyport_core::{entropy::Entropy, secret::Secret};
use serde::{Deserialize, Serialize};

use crate::{
    aead::{AssociatedBytes, KEY_BYTES, NotAuthentic, SymmetricKey},
    text::{base32, from_base32, serde_base64},
};

/// Names one vault for its whole life: 80 random bits as 16 characters of base 32.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyringId([u8; Self::BYTES]);

impl KeyringId {
    pub(crate) const BYTES: usize = 10;

    pub(crate) const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for KeyringId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32(&self.0))
    }
}

impl From<KeyringId> for String {
    fn from(id: KeyringId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for KeyringId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = from_base32(&text)
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self);
        bytes
            .filter(|id| id.to_string() == text)
            .ok_or("text is not a keyring id")
    }
}

/// Why a keyring cannot be read, opened or grown.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The stored record is no keyring of this format, or far too large.
    #[error("read the stored keyring: it is damaged or not of format {FORMAT}")]
    Format(#[source] Option<serde_json::Error>),
    /// The root key is right, the keys under it are not: the record was changed.
    #[error("open keyring `{keyring_id}`: its record was changed after it was stored")]
    Damaged {
        /// Which.
        keyring_id: KeyringId,
        /// What failed.
        source: NotAuthentic,
    },
    /// A thousand rotations are kept.
    #[error("add a key to keyring `{keyring_id}`: it holds {MAX_KEYS} keys already")]
    Full {
        /// Which.
        keyring_id: KeyringId,
    },
    /// The cryptographic library refused.
    #[error("seal keyring `{keyring_id}`")]
    Seal {
        /// Which.
        keyring_id: KeyringId,
        /// What failed.
        source: NotAuthentic,
    },
}

/// The format written.
const FORMAT: u32 = 1;
/// Most keys in one keyring.
const MAX_KEYS: usize = 1_000;
/// Largest stored record: [`MAX_KEYS`] keys in base 64, and the seal.
const MAX_RECORD_BYTES: usize = 64 * 1024;

/// The root key as a seal keeps it, and what the seal must remember about it. Not secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedRootKey {
    /// Kind of the seal.
    pub kind: String,
    /// What the seal remembers: JSON in its own form, kept as text because it is bound to the letter.
    pub parameters: String,
    /// Tells whether the seal's key is the right one before anything is opened with it.
    #[serde(with = "serde_base64")]
    pub key_check: Vec<u8>,
    /// The root key under the seal's key.
    #[serde(with = "serde_base64")]
    pub wrapped_root_key: Vec<u8>,
}

/// The keyring as it is stored. Holds nothing that is secret from whoever reads the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyringRecord {
    format: u32,
    id: KeyringId,
    /// Grows by one with each change, so that two changes at once cannot both be stored.
    generation: u64,
    seal: SealedRootKey,
    #[serde(with = "serde_base64")]
    sealed_keys: Vec<u8>,
}

impl KeyringRecord {
    /// Reads a stored record.
    ///
    /// # Errors
    /// [`KeyringError::Format`] when it is not one this version wrote, to the letter.
    pub fn from_stored(text: &str) -> Result<Self, KeyringError> {
        if text.len() > MAX_RECORD_BYTES {
            return Err(KeyringError::Format(None));
        }
        let record: Self =
            serde_json::from_str(text).map_err(|error| KeyringError::Format(Some(error)))?;
        if record.format != FORMAT || record.to_stored() != text {
            return Err(KeyringError::Format(None));
        }
        Ok(record)
    }

    /// The text to store.
    #[must_use]
    pub fn to_stored(&self) -> String {
        // Plain strings and numbers always serialise; an empty text would not read back.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Which vault this is.
    #[must_use]
    pub const fn id(&self) -> &KeyringId {
        &self.id
    }

    /// How often it changed, counting from one.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// How its root key is kept.
    #[must_use]
    pub const fn seal(&self) -> &SealedRootKey {
        &self.seal
    }

    fn associated(&self) -> AssociatedBytes {
        AssociatedBytes::new("sallyport keyring v1")
            .and(self.id.as_bytes())
            .and_number(self.generation)
    }
}

/// The key above all others. Exists only between a seal and a keyring.
pub struct RootKey(pub(crate) SymmetricKey);

impl RootKey {
    /// Draws a new root key.
    #[must_use]
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self(SymmetricKey::generate(entropy))
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootKey")
    }
}

/// An opened keyring. Wiped when dropped.
pub struct Keyring {
    id: KeyringId,
    root_key: RootKey,
    /// By ascending id; never empty, the last is the active one.
    keys: Vec<(u32, SymmetricKey)>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Keyring {
    /// Makes a vault's first keyring.
    pub(crate) fn generate(id: KeyringId, root_key: RootKey, entropy: &dyn Entropy) -> Self {
        Self {
            id,
            root_key,
            keys: vec![(1, SymmetricKey::generate(entropy))],
        }
    }

    /// Opens a stored keyring.
    ///
    /// # Errors
    /// [`KeyringError::Damaged`].
    pub(crate) fn open(record: &KeyringRecord, root_key: RootKey) -> Result<Self, KeyringError> {
        let damaged = || KeyringError::Damaged {
            keyring_id: record.id.clone(),
            source: NotAuthentic,
        };
        let encoded = root_key
            .0
            .open(&record.associated(), &record.sealed_keys)
            .map_err(|_| damaged())?;
        let keys = decode_keys(encoded.expose_secret()).ok_or_else(damaged)?;
        Ok(Self {
            id: record.id.clone(),
            root_key,
            keys,
        })
    }

    /// The record to store for this keyring.
    ///
    /// # Errors
    /// [`KeyringError::Seal`].
    pub(crate) fn record(
        &self,
        generation: u64,
        seal: SealedRootKey,
        entropy: &dyn Entropy,
    ) -> Result<KeyringRecord, KeyringError> {
        let mut record = KeyringRecord {
            format: FORMAT,
            id: self.id.clone(),
            generation,
            seal,
            sealed_keys: Vec::new(),
        };
        record.sealed_keys = self
            .root_key
            .0
            .seal(
                entropy,
                &record.associated(),
                encode_keys(&self.keys).expose_secret(),
            )
            .map_err(|source| KeyringError::Seal {
                keyring_id: self.id.clone(),
                source,
            })?;
        Ok(record)
    }

    /// This keyring with one more key, which seals from now on. Older keys still open.
    ///
    /// # Errors
    /// [`KeyringError::Full`].
    pub(crate) fn rotated(&self, entropy: &dyn Entropy) -> Result<Self, KeyringError> {
        let full = || KeyringError::Full {
            keyring_id: self.id.clone(),
        };
        if self.keys.len() >= MAX_KEYS {
            return Err(full());
        }
        let next_id = self.active()?.0.checked_add(1).ok_or_else(full)?;
        let mut keys: Vec<_> = self
            .keys
            .iter()
            .map(|(id, key)| (*id, key.duplicate()))
            .collect();
        keys.push((next_id, SymmetricKey::generate(entropy)));
        Ok(Self {
            id: self.id.clone(),
            root_key: RootKey(self.root_key.0.duplicate()),
            keys,
        })
    }

    /// Which vault's it is.
    #[must_use]
    pub const fn id(&self) -> &KeyringId {
        &self.id
    }

    /// The key that seals, and its id.
    ///
    /// # Errors
    /// [`KeyringError::Damaged`], which cannot happen: no keyring is made without a key.
    pub(crate) fn active(&self) -> Result<(u32, &SymmetricKey), KeyringError> {
        self.keys
            .last()
            .map(|(id, key)| (*id, key))
            .ok_or_else(|| KeyringError::Damaged {
                keyring_id: self.id.clone(),
                source: NotAuthentic,
            })
    }

    /// The key with an id, active or not.
    pub(crate) fn key(&self, id: u32) -> Option<&SymmetricKey> {
        self.keys
            .iter()
            .find(|(known, _)| *known == id)
            .map(|(_, key)| key)
    }
}

/// Each key as its id (4 bytes, big endian) and 32 bytes, in ascending order of ids.
fn encode_keys(keys: &[(u32, SymmetricKey)]) -> Secret<Vec<u8>> {
    let mut encoded = Vec::with_capacity(keys.len() * (4 + KEY_BYTES));
    for (id, key) in keys {
        encoded.extend_from_slice(&id.to_be_bytes());
        encoded.extend_from_slice(key.expose_secret());
    }
    Secret::new(encoded)
}

fn decode_keys(encoded: &[u8]) -> Option<Vec<(u32, SymmetricKey)>> {
    let entries = encoded.chunks_exact(4 + KEY_BYTES);
    if !entries.remainder().is_empty() {
        return None;
    }
    let mut keys: Vec<(u32, SymmetricKey)> = Vec::new();
    for entry in entries {
        let (id, key) = entry.split_at_checked(4)?;
        let id = u32::from_be_bytes(id.try_into().ok()?);
        let is_ascending = keys.last().is_none_or(|(last, _)| *last < id);
        if !is_ascending || keys.len() >= MAX_KEYS {
            return None;
        }
        keys.push((id, SymmetricKey::from_secret(Secret::new(key.to_vec()))?));
    }
    (!keys.is_empty()).then_some(keys)
}
