//! Logging in to a target with the credential of the session.
//!
//! INVARIANT: the credential goes to the target and nowhere else: not to the client, not to a log,
//! not into an error.
//!
//! russh takes passwords as `String` and wipes the one it holds; the copies it hands to its encoder
//! are its own. Answers to keyboard-interactive prompts it does not wipe.

use std::sync::Arc;

use russh::{
    MethodKind,
    client::{self, AuthResult, KeyboardInteractiveAuthResponse},
    keys::{Algorithm, Certificate, HashAlg, PrivateKey, PrivateKeyWithHashAlg},
};
use sallyport_api::{gateway::CredentialContent, sensitive::Sensitive};

/// Rounds of questions a target may ask before a password counts as refused.
const ROUNDS_MAX: usize = 4;

/// Why logging in failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoginError {
    /// There is no credential: it was used already.
    #[error("use a credential twice")]
    NoCredential,
    /// The private key or certificate cannot be read. The text is not repeated.
    #[error("read the {what} of a credential")]
    Unreadable {
        /// What.
        what: &'static str,
    },
    /// The connection broke.
    #[error("send the credential")]
    Broken(#[source] russh::Error),
    /// The target said no.
    #[error("the target refused the credential")]
    Refused,
}

/// Logs in as `account`.
///
/// # Errors
/// [`LoginError`].
pub(super) async fn log_in<H: client::Handler>(
    handle: &mut client::Handle<H>,
    account: &str,
    credential: Option<&CredentialContent>,
) -> Result<(), LoginError> {
    match credential.ok_or(LoginError::NoCredential)? {
        CredentialContent::Password { password, .. } => {
            with_password(handle, account, password).await
        }
        CredentialContent::PrivateKey {
            private_key,
            certificate,
        } => with_key(handle, account, private_key, certificate.as_deref()).await,
    }
}

async fn with_key<H: client::Handler>(
    handle: &mut client::Handle<H>,
    account: &str,
    private_key: &Sensitive,
    certificate: Option<&str>,
) -> Result<(), LoginError> {
    let key = PrivateKey::from_openssh(private_key.expose().as_bytes()).map_err(|_| {
        LoginError::Unreadable {
            what: "private key",
        }
    })?;
    let key = Arc::new(key);
    let result = match certificate {
        Some(text) => {
            let certificate =
                Certificate::from_openssh(text).map_err(|_| LoginError::Unreadable {
                    what: "certificate",
                })?;
            handle
                .authenticate_openssh_cert(account, key, certificate)
                .await
        }
        None => {
            let hash = match key.algorithm() {
                // Never SHA-1, whatever the target says it knows.
                Algorithm::Rsa { .. } => Some(
                    handle
                        .best_supported_rsa_hash()
                        .await
                        .map_err(LoginError::Broken)?
                        .flatten()
                        .unwrap_or(HashAlg::Sha512),
                ),
                _ => None,
            };
            handle
                .authenticate_publickey(account, PrivateKeyWithHashAlg::new(key, hash))
                .await
        }
    };
    match result.map_err(LoginError::Broken)? {
        AuthResult::Success => Ok(()),
        AuthResult::Failure { .. } => Err(LoginError::Refused),
    }
}

async fn with_password<H: client::Handler>(
    handle: &mut client::Handle<H>,
    account: &str,
    password: &Sensitive,
) -> Result<(), LoginError> {
    let result = handle
        .authenticate_password(account, password.expose())
        .await
        .map_err(LoginError::Broken)?;
    match result {
        AuthResult::Success => Ok(()),
        AuthResult::Failure {
            remaining_methods,
            partial_success: false,
        } if remaining_methods.contains(&MethodKind::KeyboardInteractive) => {
            by_questions(handle, account, password).await
        }
        AuthResult::Failure { .. } => Err(LoginError::Refused),
    }
}

/// Many targets ask for the password by keyboard-interactive only. One hidden prompt is the password;
/// anything else is a question this credential has no answer to.
async fn by_questions<H: client::Handler>(
    handle: &mut client::Handle<H>,
    account: &str,
    password: &Sensitive,
) -> Result<(), LoginError> {
    let mut answer = handle
        .authenticate_keyboard_interactive_start(account, None)
        .await
        .map_err(LoginError::Broken)?;
    let mut is_given = false;
    for _ in 0..ROUNDS_MAX {
        let prompts = match answer {
            KeyboardInteractiveAuthResponse::Success => return Ok(()),
            KeyboardInteractiveAuthResponse::Failure { .. } => return Err(LoginError::Refused),
            KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => prompts,
        };
        let responses = match prompts.as_slice() {
            [] => Vec::new(),
            [prompt] if !prompt.echo && !is_given => {
                is_given = true;
                vec![password.expose().to_owned()]
            }
            _ => return Err(LoginError::Refused),
        };
        answer = handle
            .authenticate_keyboard_interactive_respond(responses)
            .await
            .map_err(LoginError::Broken)?;
    }
    Err(LoginError::Refused)
}
