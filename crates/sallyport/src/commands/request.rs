//! `sallyport request …`: asking for access, and voting on what others ask.

use std::time::Duration;

use clap::Subcommand;
use sallyport_api::rest::access::{CastVote, CreateRequest, RequestView};
use sallyport_core::inventory::Selector;

use crate::{
    client::{Client, NOTHING},
    context::Context,
    failure::Failure,
    output::{Column, joined, minute, or_dash},
    prompt::confirm,
};

use super::{Limit, account_on_target, print_listed, seconds, span};

/// Between two looks at a request that is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Requests: ask for access, see who must say yes, vote
#[derive(Debug, clap::Args)]
pub struct Request {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Ask for access to an account
    Create(Create),
    /// List requests, newest first: everybody's if you may see them, else yours
    List {
        /// Only those in this state: pending, granted, denied, cancelled, expired
        #[arg(long)]
        state: Option<String>,
        /// Only yours
        #[arg(long)]
        mine: bool,
        #[command(flatten)]
        limit: Limit,
    },
    /// Show a request
    Show {
        /// Request, as `request list` prints it
        #[arg(value_name = "REQUEST")]
        id: String,
    },
    /// Wait until a request is decided; exit code 0 when it was granted
    Watch {
        /// Request, as `request list` prints it
        #[arg(value_name = "REQUEST")]
        id: String,
    },
    /// Vote yes on exactly what a request says now
    Approve(Vote),
    /// Vote no; one no is enough
    Deny(Vote),
    /// Take your own request back
    Cancel {
        /// Request, as `request list` prints it
        #[arg(value_name = "REQUEST")]
        id: String,
    },
}

#[derive(Debug, clap::Args)]
struct Create {
    /// Account on a target, such as root@web-1
    #[arg(value_name = "ACCOUNT@TARGET", value_parser = account_on_target)]
    on: Selector,
    /// Why; approvers read it
    #[arg(long, default_value = "")]
    reason: String,
    /// Change ticket
    #[arg(long)]
    ticket: Option<String>,
    /// For how long, such as 30m or 2h; an hour, or what policy allows, when left out
    #[arg(long = "for", value_parser = seconds, value_name = "TIME")]
    duration_s: Option<u64>,
    /// Wait until it is decided
    #[arg(long)]
    wait: bool,
}

#[derive(Debug, clap::Args)]
struct Vote {
    /// Request, as `request list` prints it
    #[arg(value_name = "REQUEST")]
    id: String,
    /// Remark, kept with the vote
    #[arg(long, default_value = "")]
    comment: String,
    /// Hash of what you decided on, as `request show` printed it; the vote counts only if the request
    /// still says the same
    #[arg(long, value_name = "HASH")]
    content_hash: Option<String>,
    /// Do not ask; vote on what is shown
    #[arg(long)]
    yes: bool,
}

impl Request {
    /// Calls `/v1/requests`.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        match self.verb {
            Verb::Create(create) => create.run(context, &client).await,
            Verb::List { state, mine, limit } => {
                let mut query = Vec::new();
                if let Some(state) = &state {
                    query.push(("state", state.as_str()));
                }
                if mine {
                    query.push(("mine", "true"));
                }
                let requests = client.list(&["requests"], &query, limit.limit).await?;
                print_listed(context.output, &requests, &COLUMNS)
            }
            Verb::Show { id } => print(context, &show(&client, &id).await?),
            Verb::Watch { id } => {
                let request = show(&client, &id).await?;
                wait(context, &client, request).await
            }
            Verb::Approve(vote) => vote.run(context, &client, "approve", "Approve").await,
            Verb::Deny(vote) => vote.run(context, &client, "deny", "Deny").await,
            Verb::Cancel { id } => {
                let request: RequestView = client.act(&["requests", &id, "cancel"]).await?;
                context.output.done(&request, &format!("cancelled {id}"))
            }
        }
    }
}

impl Create {
    async fn run(self, context: &Context, client: &Client) -> Result<(), Failure> {
        let body = CreateRequest {
            account: self.on.account.to_string(),
            target: self.on.target.to_string(),
            reason: self.reason,
            ticket: self.ticket,
            duration_s: self.duration_s,
        };
        let request: RequestView = client.post(&["requests"], &body).await?;
        if self.wait {
            wait(context, client, request).await
        } else {
            print(context, &request)
        }
    }
}

impl Vote {
    /// Shows what is voted on, asks, and votes on the hash of exactly that.
    async fn run(
        self,
        context: &Context,
        client: &Client,
        verb: &str,
        question: &str,
    ) -> Result<(), Failure> {
        let seen = show(client, &self.id).await?;
        let content_hash = match self.content_hash {
            Some(hash) => hash,
            None => {
                for (name, value) in fields(&seen) {
                    context.output.note(&format!("{name}: {value}"))?;
                }
                if !self.yes && !confirm(&format!("{question} this?"))? {
                    return Err(Failure::failed(
                        "no vote was cast",
                        "say yes when asked, or pass `--content-hash HASH` or `--yes`",
                    ));
                }
                seen.content_hash
            }
        };
        let body = CastVote {
            content_hash,
            comment: self.comment,
        };
        let request: RequestView = client.post(&["requests", &self.id, verb], &body).await?;
        context.output.done(&request, &standing(&request))
    }
}

/// Prints a request.
pub(super) fn print(context: &Context, request: &RequestView) -> Result<(), Failure> {
    context.output.record(request, &fields(request))
}

async fn show(client: &Client, id: &str) -> Result<RequestView, Failure> {
    client.get(&["requests", id], &NOTHING).await
}

/// Looks until the request is decided, says each change, and fails unless it was granted.
async fn wait(context: &Context, client: &Client, first: RequestView) -> Result<(), Failure> {
    let mut request = first;
    let mut said = String::new();
    while request.state == "pending" {
        let standing = standing(&request);
        if standing != said {
            context.output.note(&standing)?;
            said = standing;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        request = show(client, &request.id).await?;
    }
    context.output.done(&request, &standing(&request))?;
    if request.state == "granted" {
        return Ok(());
    }
    Err(Failure::failed(
        format!("request {} was not granted: {}", request.id, request.state),
        format!("see who said what: `sallyport request show {}`", request.id),
    ))
}

/// Where a request stands, in one line.
fn standing(request: &RequestView) -> String {
    match (&request.grant_id, request.state.as_str()) {
        (Some(grant), _) => format!("{} granted: {grant}", request.id),
        (None, "pending") => format!(
            "{} pending: {} more approval(s) needed",
            request.id, request.approvals_missing
        ),
        (None, state) => format!("{} {state}", request.id),
    }
}

const COLUMNS: [Column<RequestView>; 5] = [
    Column::whole("ID", |request: &RequestView| request.id.clone()),
    Column::new("WHO", |request| request.requester.clone()),
    Column::new("ACCOUNT", |request| {
        format!("{}@{}", request.account, request.target)
    }),
    Column::new("STATE", |request| {
        if request.is_break_glass {
            format!("{} (break-glass)", request.state)
        } else {
            request.state.clone()
        }
    }),
    Column::new("ASKED", |request| minute(request.created_at)),
];

fn fields(request: &RequestView) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("request", request.id.clone()),
        ("who", request.requester.clone()),
        ("account", format!("{}@{}", request.account, request.target)),
        ("reason", or_dash(Some(&request.reason))),
        ("ticket", or_dash(request.ticket.as_deref())),
        ("for", span(request.duration_s)),
        ("state", request.state.clone()),
        ("needs", joined(&request.quorums)),
        ("asked", request.created_at.to_string()),
    ];
    for vote in &request.votes {
        fields.push((
            "vote",
            format!("{} {} {}", vote.voter, vote.kind, vote.comment)
                .trim()
                .to_owned(),
        ));
    }
    if request.state == "pending" {
        fields.push((
            "still missing",
            format!("{} approval(s)", request.approvals_missing),
        ));
        fields.push(("ends by itself", request.expires_at.to_string()));
    }
    if let Some(grant) = &request.grant_id {
        fields.push(("grant", grant.clone()));
    }
    fields.push(("content hash", request.content_hash.clone()));
    fields
}
