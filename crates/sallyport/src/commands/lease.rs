//! `sallyport lease …`.

use clap::Subcommand;
use sallyport_api::rest::vault::LeaseView;

use crate::{
    context::Context,
    failure::Failure,
    output::{Column, minute},
};

use super::{Limit, print_listed};

/// Leases: credentials that were made, and that end
#[derive(Debug, clap::Args)]
pub struct Lease {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List leases, newest first
    List {
        #[command(flatten)]
        limit: Limit,
    },
}

impl Lease {
    /// Calls `/v1/leases`.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let Verb::List { limit } = self.verb;
        let leases = context
            .client()?
            .list(&["leases"], &[], limit.limit)
            .await?;
        print_listed::<LeaseView>(
            context.output,
            &leases,
            &[
                Column::whole("ID", |lease| lease.id.clone()),
                Column::new("ENGINE", |lease| lease.engine.clone()),
                Column::new("STATE", |lease| lease.state.clone()),
                Column::new("UNTIL", |lease| minute(lease.expires_at)),
                Column::new("FAILED", |lease| lease.revoke_attempts.to_string()),
            ],
        )
    }
}
