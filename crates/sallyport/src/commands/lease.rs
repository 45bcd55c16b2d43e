//! `sallyport lease …`.

use clap::Subcommand;
use sallyport_api::rest::vault::LeaseView;
use sallyport_core::id::LeaseId;

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
        /// Only those whose revocation failed so often that somebody should look, and why
        #[arg(long)]
        stuck: bool,
        #[command(flatten)]
        limit: Limit,
    },
    /// Have the revocation of a lease tried at once
    Retry {
        /// The lease
        #[arg(value_name = "LEASE")]
        id: LeaseId,
    },
}

impl Lease {
    /// Calls `/v1/leases`.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        match self.verb {
            Verb::List { stuck, limit } => {
                let filter: &[(&str, &str)] = if stuck { &[("stuck", "true")] } else { &[] };
                let leases = client.list(&["leases"], filter, limit.limit).await?;
                let mut columns = vec![
                    Column::whole("ID", |lease: &LeaseView| lease.id.clone()),
                    Column::new("ENGINE", |lease| lease.engine.clone()),
                    Column::new("STATE", |lease| lease.state.clone()),
                    Column::new("UNTIL", |lease| minute(lease.expires_at)),
                    Column::new("FAILED", |lease| lease.revoke_attempts.to_string()),
                ];
                if stuck {
                    columns.push(Column::new("WHY", |lease| {
                        lease.last_failure.clone().unwrap_or_default()
                    }));
                }
                print_listed::<LeaseView>(context.output, &leases, &columns)
            }
            Verb::Retry { id } => {
                let lease: LeaseView = client.act(&["leases", id.as_str(), "retry"]).await?;
                let line = match lease.state.as_str() {
                    "revoking" => format!("revoking {id} is tried at once"),
                    state => format!("{id} is {state}: there is nothing to retry"),
                };
                context.output.done(&lease, &line)
            }
        }
    }
}
