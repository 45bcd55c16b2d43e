//! `sallyport whoami`.

use sallyport_api::rest::sign_in::WhoAmI;

use crate::{
    client::NOTHING,
    context::Context,
    failure::Failure,
    output::{joined, minute},
};

/// Show who you are to the server, and until when
#[derive(Debug, clap::Args)]
pub struct Whoami {}

impl Whoami {
    /// Asks the server.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let me: WhoAmI = context.client()?.get(&["whoami"], &NOTHING).await?;
        context.output.record(
            &me,
            &[
                ("person", me.person.name.clone()),
                ("groups", joined(&me.person.groups)),
                ("roles", joined(&me.person.admin_roles)),
                ("signed in by", me.door.clone()),
                ("strength", me.strength.clone()),
                ("until", minute(me.expires_at)),
                (
                    "may",
                    me.scopes
                        .as_ref()
                        .map_or_else(|| "all that the person may".to_owned(), |s| joined(s)),
                ),
            ],
        )
    }
}
