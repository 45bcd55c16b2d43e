//! `sallyport lock …`.

use clap::Subcommand;
use reqwest::Method;
use sallyport_api::rest::{
    lock::{AddLock, LockView},
    page::Page,
};
use serde_json::json;

use crate::{
    client::NOTHING,
    context::Context,
    failure::Failure,
    output::{Column, minute},
};

use super::seconds;

/// Locks: stop a person, a target, an account or everything, at once
#[derive(Debug, clap::Args)]
pub struct Lock {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List locks in force
    List,
    /// Set a lock: live sessions it stops end at once, and no new ones open
    Add(Add),
    /// Remove a lock
    Remove {
        /// Lock, as `lock list` prints it
        #[arg(value_name = "LOCK")]
        id: String,
    },
}

#[derive(Debug, clap::Args)]
struct Add {
    /// Stop this person
    #[arg(long, value_name = "NAME", group = "scope", required_unless_present_any = ["target", "everything"])]
    person: Option<String>,
    /// Stop this target
    #[arg(long, value_name = "NAME", group = "scope")]
    target: Option<String>,
    /// Stop only this account on the target
    #[arg(long, value_name = "NAME", requires = "target")]
    account: Option<String>,
    /// Stop everybody everywhere
    #[arg(long, group = "scope")]
    everything: bool,
    /// Why; shown to the people it stops
    #[arg(long)]
    reason: String,
    /// For how long, such as 2h; until it is removed when left out
    #[arg(long = "for", value_parser = seconds, value_name = "TIME")]
    ttl_s: Option<u64>,
}

impl Lock {
    /// Calls `/v1/locks`.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        match self.verb {
            Verb::List => {
                let locks: Page<LockView> = client.get(&["locks"], &NOTHING).await?;
                context.output.list(
                    &locks.items,
                    &[
                        Column::whole("ID", |lock| lock.id.clone()),
                        Column::new("STOPS", |lock| lock.scope.clone()),
                        Column::new("REASON", |lock| lock.reason.clone()),
                        Column::new("UNTIL", |lock| {
                            lock.until.map_or_else(|| "removed".to_owned(), minute)
                        }),
                    ],
                )
            }
            Verb::Add(add) => {
                let body = AddLock {
                    person: add.person,
                    target: add.target,
                    account: add.account,
                    everything: add.everything,
                    reason: add.reason,
                    ttl_s: add.ttl_s,
                };
                let lock: LockView = client.post(&["locks"], &body).await?;
                let line = format!("locked {} by {}", lock.scope, lock.id);
                context.output.done(&lock, &line)
            }
            Verb::Remove { id } => {
                client.order(Method::DELETE, &["locks", &id]).await?;
                context
                    .output
                    .done(&json!({ "id": id }), &format!("removed {id}"))
            }
        }
    }
}
