//! The vault of the running node: its keyring and secrets in the store, its keys in use.
//!
//! Callers: `broker` (credentials, recording keys, permits), `recording` (playback), `authn` (user
//! certificates), operators (initialise, unseal, seal, write secrets).
//!
//! INVARIANT: secrets leave this slice only sealed to a gateway, inside a signed permit or certificate,
//! or as a recording's key; no route reads one back.
//!
//! Not here: cryptography and engines (`sallyport-vault`).

pub mod api;
mod issue;
mod making;
pub mod rotation;
mod site;
mod store;
pub mod workflow;

pub use issue::{
    EngineNeeds, IssuedCredential, RecordingKey, STATIC, SecretError, check_engine, engine_needs,
    has_secret, issue, recording_key, sign_permit, unwrap_recording_key, user_authority,
};
pub use making::Making;
pub use rotation::{Rotating, after_use, settle};
pub use site::{Place, place, place_now, site};
pub use store::{keyring_record, public_key};
pub(crate) use workflow::PERMIT_KEY;
