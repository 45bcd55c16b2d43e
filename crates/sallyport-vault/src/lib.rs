//! Keeps secrets sealed, and turns a permit into a credential that dies on time.
//!
//! Only control uses this crate; a gateway cannot name it. [`Vault`] is the barrier around all key
//! material at rest. Secrets engines ([`engines`]) make credentials from a permit; [`lease`] is the order
//! in which that happens. Sealing is pure: what is to be stored is returned, and the caller stores it in
//! the transaction that also records why. So this crate has no storage and no clock; it has a network only
//! where an engine makes its credentials at a target ([`engines`]).
//!
//! INVARIANT: no error, `Debug` output or log line of this crate holds secret material, and nothing opens
//! while the vault is sealed.
//!
//! Not here: who may read or write a secret, and storing them (`sallyport-control`); logging in with a
//! credential (`sallyport-gateway`); the key of the audit log, which must sign while the vault is sealed.

#![warn(missing_docs)]

mod aead;
pub mod authority;
mod authority_key;
mod barrier;
mod certificate;
mod database;
pub mod engines;
mod entropy;
mod keyring;
pub mod lease;
pub mod seals;
mod secret_store;
mod signing;
mod text;

pub use aead::NotAuthentic;
pub use barrier::{BarrierState, BarrierStatus, KeyringChange, ShareTaken, Vault, VaultError};
pub use certificate::{CertificateError, SshAuthority};
pub use database::DatabaseError;
pub use entropy::SystemEntropy;
pub use keyring::{Keyring, KeyringError, KeyringId, KeyringRecord, RootKey, SealedRootKey};
pub use seals::shamir::{Share, ShareError};
pub use secret_store::{MAX_SECRET_BYTES, ParsePathError, SealedSecret, SecretError, SecretPath};
pub use signing::{NotASigningKey, SigningKey};
