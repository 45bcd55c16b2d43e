//! What a gateway logs in with, after it opened the sealed [`Credential`](super::Credential).

use serde::{Deserialize, Serialize};

use crate::sensitive::Sensitive;

/// A credential for one session on one target. Lives in the gateway's memory only.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum CredentialContent {
    /// A password.
    Password {
        /// The name it is for, where that is not the account's: a user made for this session.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
        /// The password.
        password: Sensitive,
    },
    /// A private key, with a certificate where the target trusts an authority instead of the key.
    PrivateKey {
        /// OpenSSH private key, PEM.
        private_key: Sensitive,
        /// OpenSSH certificate, one line.
        certificate: Option<String>,
    },
}
