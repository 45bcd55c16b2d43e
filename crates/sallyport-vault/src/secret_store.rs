//! Secrets at rest: each version of each secret under a data key of its own, which the keyring wraps.
//! Pure: the caller stores what comes out, in the transaction that also records why.
//!
//! Called through the barrier ([`Vault`](crate::Vault)).
//!
//! INVARIANT: sealed bytes are bound to the path and version they were made for. Put in another place,
//! or changed, or taken from an older version, they do not open.

use std::{fmt, str::FromStr};

use sallyport_core::{
    entropy::Entropy,
    id::{AccountId, RecordingId},
    secret::SecretBytes,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    aead::{AssociatedBytes, KEY_BYTES, NotAuthentic, SymmetricKey},
    keyring::{Keyring, KeyringError},
    text::{base64, from_base64, serde_base64},
};

/// Where a secret is kept: 1 to 8 segments joined by `/`, each 1 to 64 of `a-z`, `0-9`, `_`, `-`. One
/// spelling for one place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretPath(String);

impl SecretPath {
    /// The credential of an account with the `static` engine.
    #[must_use]
    pub fn account_credential(account_id: &AccountId) -> Self {
        Self(format!("account/{account_id}/credential"))
    }

    /// The next credential of an account with the `static` engine, while its target may or may not know it
    /// already.
    #[must_use]
    pub fn account_candidate(account_id: &AccountId) -> Self {
        Self(format!("account/{account_id}/candidate"))
    }

    /// The authority whose certificates targets trust.
    #[must_use]
    pub fn ssh_authority() -> Self {
        Self("ssh/authority".to_owned())
    }

    /// The authority whose certificates our own gateways trust.
    #[must_use]
    pub fn ssh_user_authority() -> Self {
        Self("ssh/user-authority".to_owned())
    }

    /// The key that signs permits.
    #[must_use]
    pub fn permit_key() -> Self {
        Self("control/permit-key".to_owned())
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is no path.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is not a secret path: join 1 to 8 segments of a-z, 0-9, `_`, `-` by `/`")]
pub struct ParsePathError {
    text: String,
}

impl FromStr for SecretPath {
    type Err = ParsePathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_segment = |segment: &str| {
            (1..=64).contains(&segment.len())
                && segment
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
        };
        if text.split('/').all(is_segment) && text.split('/').count() <= 8 {
            return Ok(Self(text.to_owned()));
        }
        Err(ParsePathError {
            text: text.chars().filter(|c| !c.is_control()).take(64).collect(),
        })
    }
}

impl fmt::Display for SecretPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for SecretPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SecretPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Why a secret cannot be sealed, read or opened.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Longer than [`MAX_SECRET_BYTES`].
    #[error("seal secret `{path}`: {size_bytes} bytes are more than {MAX_SECRET_BYTES}")]
    TooLong {
        /// Where.
        path: SecretPath,
        /// How long.
        size_bytes: usize,
    },
    /// Versions count from one.
    #[error("seal secret `{path}`: versions count from 1")]
    NoVersion {
        /// Where.
        path: SecretPath,
    },
    /// The stored text is not a sealed secret of this format.
    #[error("read a stored secret: it is damaged or not of format {FORMAT}")]
    Format(#[source] Option<serde_json::Error>),
    /// It was sealed with a key this keyring does not have: another vault, or an older keyring.
    #[error("open `{place}`: keyring `{keyring_id}` has no key {key_id}")]
    UnknownKey {
        /// What was to be opened.
        place: String,
        /// The keyring.
        keyring_id: String,
        /// The key it names.
        key_id: u32,
    },
    /// It was changed, or put in another place.
    #[error("open `{place}`: it was changed or moved after it was stored")]
    Damaged {
        /// What was to be opened.
        place: String,
        /// What failed.
        source: NotAuthentic,
    },
    /// The cryptographic library refused.
    #[error("encrypt `{place}`")]
    Encrypt {
        /// What was to be sealed.
        place: String,
        /// What failed.
        source: NotAuthentic,
    },
    /// The keyring holds no key.
    #[error("choose a key")]
    Keyring(#[source] KeyringError),
}

/// The format written.
const FORMAT: u32 = 1;
/// Longest secret: room for any key or certificate chain.
pub const MAX_SECRET_BYTES: usize = 64 * 1024;
/// Longest stored text: a secret in base 64, and what surrounds it.
const MAX_STORED_BYTES: usize = 96 * 1024;

/// One version of one secret, as it is stored. Not secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedSecret {
    format: u32,
    path: SecretPath,
    version: u64,
    key_id: u32,
    #[serde(with = "serde_base64")]
    wrapped_data_key: Vec<u8>,
    #[serde(with = "serde_base64")]
    ciphertext: Vec<u8>,
}

impl SealedSecret {
    /// Reads a stored secret.
    ///
    /// # Errors
    /// [`SecretError::Format`] when it is not one this version wrote, to the letter.
    pub fn from_stored(text: &str) -> Result<Self, SecretError> {
        if text.len() > MAX_STORED_BYTES {
            return Err(SecretError::Format(None));
        }
        let sealed: Self =
            serde_json::from_str(text).map_err(|error| SecretError::Format(Some(error)))?;
        if sealed.format != FORMAT || sealed.to_stored() != text {
            return Err(SecretError::Format(None));
        }
        Ok(sealed)
    }

    /// The text to store.
    #[must_use]
    pub fn to_stored(&self) -> String {
        // Plain strings and numbers always serialise; an empty text would not read back.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Where it is kept.
    #[must_use]
    pub const fn path(&self) -> &SecretPath {
        &self.path
    }

    /// Which version, from 1.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The key of the keyring that wraps its data key.
    #[must_use]
    pub const fn key_id(&self) -> u32 {
        self.key_id
    }

    fn place(&self) -> String {
        format!("{}@{}", self.path, self.version)
    }
}

impl Keyring {
    /// Seals one version of a secret under a fresh data key.
    ///
    /// # Errors
    /// [`SecretError::TooLong`], [`SecretError::NoVersion`].
    pub fn seal_secret(
        &self,
        path: &SecretPath,
        version: u64,
        secret: &SecretBytes,
        entropy: &dyn Entropy,
    ) -> Result<SealedSecret, SecretError> {
        let size_bytes = secret.expose_secret().len();
        if size_bytes > MAX_SECRET_BYTES {
            return Err(SecretError::TooLong {
                path: path.clone(),
                size_bytes,
            });
        }
        if version == 0 {
            return Err(SecretError::NoVersion { path: path.clone() });
        }
        let (key_id, key) = self.active().map_err(SecretError::Keyring)?;
        let refused = |source| SecretError::Encrypt {
            place: format!("{path}@{version}"),
            source,
        };
        let data_key = SymmetricKey::generate(entropy);
        Ok(SealedSecret {
            format: FORMAT,
            path: path.clone(),
            version,
            key_id,
            wrapped_data_key: key
                .seal(
                    entropy,
                    &data_key_place(path, version, key_id),
                    data_key.expose_secret(),
                )
                .map_err(refused)?,
            ciphertext: data_key
                .seal(
                    entropy,
                    &secret_place(path, version),
                    secret.expose_secret(),
                )
                .map_err(refused)?,
        })
    }

    /// Opens a sealed secret.
    ///
    /// # Errors
    /// [`SecretError::UnknownKey`], [`SecretError::Damaged`].
    pub fn open_secret(&self, sealed: &SealedSecret) -> Result<SecretBytes, SecretError> {
        let damaged = |source| SecretError::Damaged {
            place: sealed.place(),
            source,
        };
        let key = self
            .key(sealed.key_id)
            .ok_or_else(|| SecretError::UnknownKey {
                place: sealed.place(),
                keyring_id: self.id().to_string(),
                key_id: sealed.key_id,
            })?;
        let place = data_key_place(&sealed.path, sealed.version, sealed.key_id);
        let data_key = key
            .open(&place, &sealed.wrapped_data_key)
            .map_err(damaged)?;
        let data_key = SymmetricKey::from_secret(data_key).ok_or_else(|| damaged(NotAuthentic))?;
        data_key
            .open(
                &secret_place(&sealed.path, sealed.version),
                &sealed.ciphertext,
            )
            .map_err(damaged)
    }

    /// Wraps the key of a recording, as text for the recording's header.
    ///
    /// # Errors
    /// [`SecretError::Encrypt`], also when the key is not 32 bytes.
    pub fn wrap_recording_key(
        &self,
        recording_id: &RecordingId,
        key: &SecretBytes,
        entropy: &dyn Entropy,
    ) -> Result<String, SecretError> {
        let refused = |source| SecretError::Encrypt {
            place: recording_id.to_string(),
            source,
        };
        if key.expose_secret().len() != KEY_BYTES {
            return Err(refused(NotAuthentic));
        }
        let (key_id, wrapping) = self.active().map_err(SecretError::Keyring)?;
        let wrapped = wrapping
            .seal(
                entropy,
                &recording_place(recording_id, key_id),
                key.expose_secret(),
            )
            .map_err(refused)?;
        Ok(format!(
            "{RECORDING_KEY_PREFIX}{key_id}.{}",
            base64(&wrapped)
        ))
    }

    /// Unwraps the key of a recording.
    ///
    /// # Errors
    /// [`SecretError::Format`], [`SecretError::UnknownKey`], [`SecretError::Damaged`].
    pub fn unwrap_recording_key(
        &self,
        recording_id: &RecordingId,
        wrapped: &str,
    ) -> Result<SecretBytes, SecretError> {
        let (key_id, bytes) = parse_recording_key(wrapped).ok_or(SecretError::Format(None))?;
        let key = self.key(key_id).ok_or_else(|| SecretError::UnknownKey {
            place: recording_id.to_string(),
            keyring_id: self.id().to_string(),
            key_id,
        })?;
        key.open(&recording_place(recording_id, key_id), &bytes)
            .map_err(|source| SecretError::Damaged {
                place: recording_id.to_string(),
                source,
            })
    }
}

/// Begins a wrapped recording key: its form and version.
const RECORDING_KEY_PREFIX: &str = "srk1.";

fn parse_recording_key(wrapped: &str) -> Option<(u32, Vec<u8>)> {
    let (key_id, bytes) = wrapped
        .strip_prefix(RECORDING_KEY_PREFIX)
        .filter(|rest| rest.len() <= 128)?
        .split_once('.')?;
    let number: u32 = key_id.parse().ok()?;
    (number.to_string() == key_id).then_some(())?;
    Some((number, from_base64(bytes)?))
}

fn data_key_place(path: &SecretPath, version: u64, key_id: u32) -> AssociatedBytes {
    AssociatedBytes::new("sallyport data key v1")
        .and(path.as_str().as_bytes())
        .and_number(version)
        .and_number(key_id.into())
}

fn secret_place(path: &SecretPath, version: u64) -> AssociatedBytes {
    AssociatedBytes::new("sallyport secret v1")
        .and(path.as_str().as_bytes())
        .and_number(version)
}

fn recording_place(recording_id: &RecordingId, key_id: u32) -> AssociatedBytes {
    AssociatedBytes::new("sallyport recording key v1")
        .and(recording_id.as_str().as_bytes())
        .and_number(key_id.into())
}
