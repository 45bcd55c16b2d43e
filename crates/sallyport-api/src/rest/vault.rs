//! The vault: status, initialisation, unsealing, secrets, leases.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::sensitive::Sensitive;
use sallyport_core::time::Timestamp;

/// `GET /v1/vault`. Anonymous.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VaultStatus {
    /// Whether it was made.
    pub is_initialised: bool,
    /// Whether it is sealed.
    pub is_sealed: bool,
    /// Seal kind: `shamir` or `key_file`.
    pub seal: Option<String>,
    /// Shares given so far in this unseal.
    pub shares_given: u8,
    /// Shares needed.
    pub threshold: u8,
}

/// `POST /v1/vault/initialise`. An owner's; works once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InitialiseVault {
    /// Shares to make, 1 to 16.
    pub shares: u8,
    /// Shares needed to unseal, 1 to `shares`.
    pub threshold: u8,
}

/// Answer to [`InitialiseVault`].
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InitialisedVault {
    /// The shares. Shown this once; give each to another person.
    pub shares: Vec<Sensitive>,
}

/// `POST /v1/vault/unseal`. Anonymous: the share is the proof.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Unseal {
    /// One share.
    pub share: Sensitive,
}

/// `PUT /v1/accounts/{account@target}/secret`: stores what the engine needs; never read back.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteSecret {
    /// `password` or `private_key`.
    pub kind: String,
    /// The secret.
    pub value: Sensitive,
}

/// Answer to [`WriteSecret`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretWritten {
    /// Path in the vault.
    pub path: String,
    /// Version stored.
    pub version: u64,
}

/// `GET /v1/ssh-authority`: what a target's sshd must trust (`TrustedUserCAKeys`). Any member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SshAuthorityView {
    /// OpenSSH one-line public key of the authority for targets.
    pub public_key: String,
}

/// A password that was rotated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rotated {
    /// The account.
    pub account: String,
    /// The version of its stored password now.
    pub version: u64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub rotated_at: Timestamp,
}

/// Whose stored passwords are to be rotated at once; exactly one of the three.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateMany {
    /// Those of the accounts on this target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Those of every account that this person had a session on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    /// All.
    #[serde(default)]
    pub everything: bool,
}

/// What will be rotated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RotationDemanded {
    /// How many passwords.
    pub accounts: u64,
}

/// A lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeaseView {
    /// Id.
    pub id: String,
    /// Grant it serves.
    pub grant_id: String,
    /// Session it was made for.
    pub session_id: String,
    /// Engine.
    pub engine: String,
    /// `intended`, `issued`, `revoking`, `revoked`.
    pub state: String,
    /// Its end.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// Failed revocations so far.
    pub revoke_attempts: u32,
    /// Why the last one failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// When the next is tried, while it is being revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_attempt_at: Option<Timestamp>,
}
