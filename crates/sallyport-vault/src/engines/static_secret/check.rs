//! What a stored secret must look like to be of use.

use russh::keys::ssh_key::{Algorithm, PrivateKey};
use sallyport_core::secret::SecretString;

use super::super::EngineError;
use crate::certificate::check_public_key;

/// What a stored secret is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretKind {
    /// A password.
    Password,
    /// An OpenSSH private key.
    PrivateKey,
}

impl SecretKind {
    /// As the API names it: `password`, `private_key`.
    ///
    /// # Errors
    /// [`EngineError::Secret`].
    pub fn from_name(name: &str) -> Result<Self, EngineError> {
        match name {
            "password" => Ok(Self::Password),
            "private_key" => Ok(Self::PrivateKey),
            _ => Err(EngineError::Secret {
                kind: name.chars().filter(|c| !c.is_control()).take(64).collect(),
                problem: "the kinds are `password` and `private_key`",
            }),
        }
    }

    /// As the API names it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::PrivateKey => "private_key",
        }
    }

    /// As it is stored before the secret.
    pub(super) const fn tag(self) -> u8 {
        match self {
            Self::Password => 1,
            Self::PrivateKey => 2,
        }
    }

    pub(super) const fn from_tag(tag: u8) -> Option<Self> {
        match tag {
            1 => Some(Self::Password),
            2 => Some(Self::PrivateKey),
            _ => None,
        }
    }
}

/// Longest password, in characters.
const MAX_PASSWORD_CHARS: usize = 1_024;
/// Longest private key: RSA of the largest size accepted.
const MAX_PRIVATE_KEY_BYTES: usize = 32 * 1024;

/// Checks a secret before it is stored: a password has 1 to 1024 characters and no line break or NUL; a
/// private key is in OpenSSH's format, not encrypted, and ed25519, ecdsa, or rsa of 3072 bits or more.
///
/// # Errors
/// [`EngineError::Secret`], which says what is wrong and nothing of the content.
pub fn check_secret(kind: SecretKind, value: &SecretString) -> Result<(), EngineError> {
    let text = value.expose_secret();
    let problem = match kind {
        SecretKind::Password => password_problem(text),
        SecretKind::PrivateKey => private_key_problem(text),
    };
    problem.map_or(Ok(()), |problem| {
        Err(EngineError::Secret {
            kind: kind.as_str().to_owned(),
            problem,
        })
    })
}

fn password_problem(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        Some("it is empty")
    } else if text.chars().nth(MAX_PASSWORD_CHARS).is_some() {
        Some("it is longer than 1024 characters")
    } else if text.contains(['\0', '\n', '\r']) {
        Some("it holds a line break or NUL, which no login accepts; was a file pasted?")
    } else {
        None
    }
}

fn private_key_problem(text: &str) -> Option<&'static str> {
    if text.len() > MAX_PRIVATE_KEY_BYTES {
        return Some("it is longer than any private key");
    }
    // The library's error is dropped: it could quote what it read.
    let Ok(key) = PrivateKey::from_openssh(text) else {
        return Some(
            "it is not a private key in OpenSSH's format (`ssh-keygen -p -m RFC4716` converts)",
        );
    };
    if key.is_encrypted() {
        return Some("it is encrypted with a passphrase; remove that with `ssh-keygen -p`");
    }
    let is_kind_accepted = matches!(
        key.algorithm(),
        Algorithm::Ed25519 | Algorithm::Ecdsa { .. } | Algorithm::Rsa { .. }
    );
    if !is_kind_accepted || check_public_key(key.public_key().key_data()).is_err() {
        return Some("use an ed25519 or ecdsa key, or rsa of 3072 bits or more");
    }
    None
}
