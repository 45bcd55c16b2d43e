//! `sallyport grant …`.

use clap::Subcommand;
use sallyport_api::rest::access::{End, GrantView};

use crate::{
    client::NOTHING,
    context::Context,
    failure::Failure,
    output::{Column, minute, or_dash},
};

use super::{Limit, print_listed};

/// Grants: access as it was given, from and until
#[derive(Debug, clap::Args)]
pub struct Grant {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List grants, newest first: everybody's if you may see them, else yours
    List {
        /// Only those that have not ended
        #[arg(long)]
        live: bool,
        /// Only yours
        #[arg(long)]
        mine: bool,
        #[command(flatten)]
        limit: Limit,
    },
    /// Show a grant
    Show {
        /// Grant, as `grant list` prints it
        #[arg(value_name = "GRANT")]
        id: String,
    },
    /// End a grant now, with every session under it
    End {
        /// Grant, as `grant list` prints it
        #[arg(value_name = "GRANT")]
        id: String,
        /// Why; shown to its person and kept in the audit log
        #[arg(long)]
        reason: String,
    },
}

impl Grant {
    /// Calls `/v1/grants`.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        match self.verb {
            Verb::List { live, mine, limit } => {
                let mut query = Vec::new();
                if live {
                    query.push(("state", "live"));
                }
                if mine {
                    query.push(("mine", "true"));
                }
                let grants = client.list(&["grants"], &query, limit.limit).await?;
                print_listed(context.output, &grants, &COLUMNS)
            }
            Verb::Show { id } => {
                let grant: GrantView = client.get(&["grants", &id], &NOTHING).await?;
                context.output.record(&grant, &fields(&grant))
            }
            Verb::End { id, reason } => {
                let grant: GrantView = client
                    .post(&["grants", &id, "end"], &End { reason })
                    .await?;
                context.output.done(&grant, &format!("ended {id}"))
            }
        }
    }
}

const COLUMNS: [Column<GrantView>; 5] = [
    Column::whole("ID", |grant: &GrantView| grant.id.clone()),
    Column::new("PERSON", |grant| grant.person.clone()),
    Column::new("ACCOUNT", |grant| {
        format!("{}@{}", grant.account, grant.target)
    }),
    Column::new("STATE", |grant| {
        match (&grant.end_reason, grant.is_break_glass) {
            (Some(reason), _) => format!("{}: {reason}", grant.state),
            (None, true) => format!("{} (break-glass)", grant.state),
            (None, false) => grant.state.clone(),
        }
    }),
    Column::new("UNTIL", |grant| minute(grant.until)),
];

fn fields(grant: &GrantView) -> [(&'static str, String); 8] {
    [
        ("grant", grant.id.clone()),
        ("request", grant.request_id.clone()),
        ("person", grant.person.clone()),
        ("account", format!("{}@{}", grant.account, grant.target)),
        ("from", grant.from.to_string()),
        ("until", grant.until.to_string()),
        (
            "state",
            if grant.is_break_glass {
                format!("{}, break-glass", grant.state)
            } else {
                grant.state.clone()
            },
        ),
        ("ended", or_dash(grant.end_reason.as_deref())),
    ]
}
