//! Seals: what stands between a stored vault and its root key. A seam; a new kind is a file here and
//! two lines below.
//!
//! Called by the barrier ([`Vault`](crate::Vault)) when a vault is made and when it is unsealed.
//!
//! INVARIANT: what a seal stores is bound to its keyring and to its own parameters, and opens the root
//! key only together with something that is not stored beside it.

mod key_file;
pub mod shamir;

use std::{fmt, path::PathBuf};

use sallyport_core::{descriptor::Descriptor, entropy::Entropy};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    aead::{AssociatedBytes, NotAuthentic, SymmetricKey},
    keyring::{KeyringId, RootKey, SealedRootKey},
};
pub(crate) use key_file::KIND as KEY_FILE;
use shamir::{Share, ShareError};

/// Every kind of seal, in alphabetical order.
#[must_use]
pub fn all() -> &'static [&'static dyn Seal] {
    &[
        &key_file::KeyFile, //
        &shamir::Shamir,
    ]
}

/// The seal of a kind.
#[must_use]
pub fn by_kind(kind: &str) -> Option<&'static dyn Seal> {
    all()
        .iter()
        .copied()
        .find(|seal| seal.describe().kind == kind)
}

/// A way to keep the root key. Holds no state: settings come from the configuration, the rest from
/// the stored record.
pub trait Seal: Send + Sync + fmt::Debug {
    /// Its kind and settings.
    fn describe(&self) -> Descriptor;

    /// Seals a new root key. Afterwards [`Self::unwrap`] recovers it from what is stored, the same
    /// settings and (where the seal makes some) enough shares.
    ///
    /// # Errors
    /// [`SealError`]; nothing is kept then.
    fn wrap(&self, root_key: &RootKey, sealing: &Sealing<'_>) -> Result<Wrapped, SealError>;

    /// Recovers the root key.
    ///
    /// # Errors
    /// [`SealError::WrongKey`] when the key or the shares are another vault's,
    /// [`SealError::Damaged`] when they are right and the record is not.
    fn unwrap(
        &self,
        sealed: &SealedRootKey,
        unsealing: &Unsealing<'_>,
    ) -> Result<RootKey, SealError>;
}

/// What a seal gets to seal with.
#[derive(Debug)]
pub struct Sealing<'a> {
    /// The vault.
    pub keyring_id: &'a KeyringId,
    /// Settings, as described.
    pub settings: &'a Value,
    /// Randomness.
    pub entropy: &'a dyn Entropy,
}

/// What a seal gets to unseal with.
#[derive(Debug)]
pub struct Unsealing<'a> {
    /// The vault.
    pub keyring_id: &'a KeyringId,
    /// Settings, as described.
    pub settings: &'a Value,
    /// Shares people gave; none for a seal without people.
    pub shares: &'a [&'a Share],
}

/// A sealed root key.
#[derive(Debug)]
pub struct Wrapped {
    /// What is stored.
    pub sealed: SealedRootKey,
    /// What is given to people, once, and kept nowhere.
    pub shares: Vec<Share>,
}

/// Why a seal cannot seal or unseal.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The settings are not what the seal describes.
    #[error("read the settings of seal `{kind}`: {problem}")]
    Settings {
        /// Kind of the seal.
        kind: &'static str,
        /// What is wrong with them.
        problem: String,
    },
    /// The stored record is of a kind this version does not know.
    #[error("open the vault with seal `{kind}`: this version has no such seal")]
    UnknownKind {
        /// Kind found.
        kind: String,
    },
    /// The key is well-formed but another vault's.
    #[error("unseal keyring `{keyring_id}`: the key or the shares belong to another vault")]
    WrongKey {
        /// The vault.
        keyring_id: KeyringId,
    },
    /// The key is right, the record is not.
    #[error("unseal keyring `{keyring_id}`: its record was changed after it was stored")]
    Damaged {
        /// The vault.
        keyring_id: KeyringId,
    },
    /// A share was refused.
    #[error("take a share")]
    Share(#[source] ShareError),
    /// Too few shares.
    #[error("unseal with {given} of {threshold} shares")]
    TooFewShares {
        /// Given.
        given: usize,
        /// Needed.
        threshold: u8,
    },
    /// The key file cannot be used.
    #[error("use key file `{path}`: {problem}")]
    KeyFile {
        /// Where.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: &'static str,
        /// What the system said.
        #[source]
        source: Option<std::io::Error>,
    },
    /// The cryptographic library refused.
    #[error("encrypt the root key")]
    Encrypt(#[source] NotAuthentic),
}

/// Wraps the root key under a seal's own key. Binds the seal's parameters: a changed threshold or
/// digest does not open.
fn wrap_under(
    seal_key: &SymmetricKey,
    root_key: &RootKey,
    sealing: &Sealing<'_>,
    kind: &str,
    parameters: String,
) -> Result<SealedRootKey, SealError> {
    let bound = bound_to(sealing.keyring_id, kind, &parameters);
    let wrapped_root_key = seal_key
        .seal(sealing.entropy, &bound, root_key.0.expose_secret())
        .map_err(SealError::Encrypt)?;
    Ok(SealedRootKey {
        kind: kind.to_owned(),
        parameters,
        key_check: seal_key.check_value(&check_domain(sealing.keyring_id)),
        wrapped_root_key,
    })
}

/// The inverse of [`wrap_under`].
fn unwrap_under(
    seal_key: &SymmetricKey,
    sealed: &SealedRootKey,
    keyring_id: &KeyringId,
) -> Result<RootKey, SealError> {
    if !seal_key.is_check_value(&check_domain(keyring_id), &sealed.key_check) {
        return Err(SealError::WrongKey {
            keyring_id: keyring_id.clone(),
        });
    }
    let bound = bound_to(keyring_id, &sealed.kind, &sealed.parameters);
    seal_key
        .open(&bound, &sealed.wrapped_root_key)
        .ok()
        .and_then(SymmetricKey::from_secret)
        .map(RootKey)
        .ok_or_else(|| SealError::Damaged {
            keyring_id: keyring_id.clone(),
        })
}

fn bound_to(keyring_id: &KeyringId, kind: &str, parameters: &str) -> AssociatedBytes {
    AssociatedBytes::new("sallyport root key v1")
        .and(keyring_id.as_bytes())
        .and(kind.as_bytes())
        .and(parameters.as_bytes())
}

fn check_domain(keyring_id: &KeyringId) -> AssociatedBytes {
    AssociatedBytes::new("sallyport seal key check v1").and(keyring_id.as_bytes())
}

/// Reads a seal's settings or parameters into its own type.
fn read<T: DeserializeOwned>(kind: &'static str, value: &Value) -> Result<T, SealError> {
    T::deserialize(value).map_err(|error| SealError::Settings {
        kind,
        problem: error.to_string(),
    })
}
