//! `sallyport logout`.

use reqwest::Method;
use serde_json::json;

use crate::{
    context::Context,
    failure::{Exit, Failure},
    files,
};

/// End the sign-in: the token is revoked, and forgotten here with its SSH certificate
#[derive(Debug, clap::Args)]
pub struct Logout {}

impl Logout {
    /// Signs out, then forgets; what is here is forgotten even when the server is away.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let revoked = match context.client() {
            Ok(client) => client.order(Method::POST, &["sign-out"]).await,
            Err(failure) => Err(failure),
        };
        context.profile.forget_token()?;
        if let Some(path) = context.profile.ssh_certificate() {
            files::remove_if_any(path)?;
        }
        match revoked {
            Ok(()) => {}
            // A token that the server no longer knows needs no revoking.
            Err(failure) if failure.exit() == Exit::NotSignedIn => {}
            Err(failure) => {
                context.output.note(
                    "forgotten here, but not revoked: it stays good until it ends by itself",
                )?;
                return Err(failure);
            }
        }
        context
            .output
            .done(&json!({ "profile": context.profile.name() }), "signed out")
    }
}
