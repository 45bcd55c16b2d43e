//! `sallyport status`.

use sallyport_api::rest::{sign_in::WhoAmI, vault::VaultStatus};
use serde::Serialize;

use crate::{
    client::NOTHING,
    context::Context,
    failure::{Exit, Failure},
    output::minute,
};

use super::operator::vault_in_words;

/// Show whether the server is reached, its vault is open, and you are signed in
#[derive(Debug, clap::Args)]
pub struct Status {}

#[derive(Debug, Serialize)]
struct Seen {
    server: String,
    vault: VaultStatus,
    person: Option<WhoAmI>,
}

impl Status {
    /// Asks the server; a server that is away is exit code 3, not being signed in is none.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.anonymous_client()?;
        let vault: VaultStatus = client.get(&["vault"], &NOTHING).await?;
        let person = match context.client() {
            Ok(client) => match client.get::<WhoAmI>(&["whoami"], &NOTHING).await {
                Ok(me) => Some(me),
                Err(failure) if failure.exit() == Exit::NotSignedIn => None,
                Err(failure) => return Err(failure),
            },
            Err(_) => None,
        };
        let seen = Seen {
            server: context.profile.server()?.to_owned(),
            vault,
            person,
        };
        context.output.record(
            &seen,
            &[
                ("server", seen.server.clone()),
                ("vault", vault_in_words(&seen.vault)),
                (
                    "signed in",
                    seen.person.as_ref().map_or_else(
                        || "no".to_owned(),
                        |me| format!("{} until {}", me.person.name, minute(me.expires_at)),
                    ),
                ),
            ],
        )
    }
}
