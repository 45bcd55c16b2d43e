//! Signing in and out, enrolment, one's own keys and tokens.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::directory::PersonView;
use crate::sensitive::Sensitive;

/// `POST /v1/enrol`: turns a one-time code into an account. Anonymous.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Enrol {
    /// The one-time code.
    pub code: Sensitive,
    /// New password, 12 to 256 characters.
    pub password: Sensitive,
    /// The sign-in name: needed for the first owner, ignored otherwise (the code names the person).
    pub name: Option<String>,
}

/// Answer to [`Enrol`].
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Enrolled {
    /// The person.
    pub person: PersonView,
    /// `otpauth://` URI of the one-time-code secret. Shown this once.
    pub totp_uri: Sensitive,
}

/// `POST /v1/sign-in`. Anonymous.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// Sign-in name.
    pub name: String,
    /// Password.
    pub password: Sensitive,
    /// One-time code, six digits.
    pub code: Sensitive,
    /// An SSH public key (OpenSSH one line) to certify for this sign-in's life.
    pub ssh_public_key: Option<String>,
}

/// Answer to [`SignIn`].
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignedIn {
    /// Bearer token for the API.
    pub token: Sensitive,
    /// Its end.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: sallyport_core::time::Timestamp,
    /// The person.
    pub person: PersonView,
    /// SSH user certificate over the key given; proves the person to the SSH gateway.
    pub ssh_certificate: Option<String>,
    /// Lines for a known_hosts file that pin the gateway's host keys.
    pub known_hosts: Vec<String>,
}

/// `POST /v1/self/passes`: makes a pass, which proves the caller to a gateway where a client can send
/// nothing but a password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreatePass {
    /// What it is for: `account@target`.
    pub on: String,
    /// Life in seconds, 30 to 3,600; 600 when absent. Never longer than the sign-in.
    pub ttl_s: Option<u64>,
}

/// Answer to [`CreatePass`].
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedPass {
    /// The pass. Shown this once.
    pub pass: Sensitive,
    /// Its end.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: sallyport_core::time::Timestamp,
    /// The protocol of the target; absent for whoever may not know that there is one.
    pub protocol: Option<String>,
    /// Where gateways take clients that show passes; empty while none is connected.
    pub entrances: Vec<PassEntrance>,
}

/// Where clients of one protocol show a pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PassEntrance {
    /// The protocol.
    pub protocol: String,
    /// The gateway's port.
    pub port: u16,
}

/// `GET /v1/whoami`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhoAmI {
    /// The person.
    pub person: PersonView,
    /// How the caller proved it: `sign_in` or `api_token`.
    pub door: String,
    /// How strongly.
    pub strength: String,
    /// End of the token.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: sallyport_core::time::Timestamp,
    /// Actions the token may do; absent means all of the person's.
    pub scopes: Option<Vec<String>>,
}

/// `POST /v1/self/keys`: registers an SSH key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddKey {
    /// OpenSSH one line: ed25519, ecdsa, sk-, or rsa of at least 3072 bits.
    pub public_key: String,
    /// Label, at most 64 characters.
    pub label: String,
}

/// A registered SSH key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyView {
    /// Id.
    pub id: String,
    /// Label.
    pub label: String,
    /// Algorithm.
    pub algorithm: String,
    /// `SHA256:…`.
    pub fingerprint: String,
    /// When it was registered.
    #[schema(value_type = String, format = DateTime)]
    pub added_at: sallyport_core::time::Timestamp,
}

/// `POST /v1/self/tokens`: makes an API token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateApiToken {
    /// Label, at most 64 characters.
    pub label: String,
    /// Actions it may do (`noun.verb`), at least one, each within the person's own.
    pub scopes: Vec<String>,
    /// Life in seconds, 60 to 7,776,000 (90 days).
    pub ttl_s: u64,
}

/// Answer to [`CreateApiToken`].
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedApiToken {
    /// About it.
    pub api_token: ApiTokenView,
    /// The token. Shown this once.
    pub token: Sensitive,
}

/// An API token, without the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiTokenView {
    /// Id.
    pub id: String,
    /// Label.
    pub label: String,
    /// Actions it may do.
    pub scopes: Vec<String>,
    /// Its end.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: sallyport_core::time::Timestamp,
    /// Whether it was revoked.
    pub is_revoked: bool,
}
