//! `sallyport ssh-authority`.

use sallyport_api::rest::vault::SshAuthorityView;

use crate::{client::NOTHING, context::Context, failure::Failure};

/// Print the key that targets must trust for `ssh_ca` accounts (sshd's TrustedUserCAKeys)
#[derive(Debug, clap::Args)]
pub struct SshAuthority {}

impl SshAuthority {
    /// Calls `/v1/ssh-authority`.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let authority: SshAuthorityView =
            context.client()?.get(&["ssh-authority"], &NOTHING).await?;
        context.output.done(&authority, &authority.public_key)
    }
}
