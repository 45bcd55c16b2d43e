//! `sallyport operation …`: commands that wait for other people, and voting on them.

use std::borrow::Cow;

use clap::Subcommand;
use sallyport_api::rest::{access::CastVote, operation::HeldOperationView};
use sallyport_evidence::recording::escape_controls;

use crate::{
    client::{Client, NOTHING},
    context::Context,
    failure::Failure,
    output::{Column, joined, minute},
    prompt::confirm,
};

use super::{Limit, print_listed};

/// Held operations: commands that wait for other people, and voting on them
#[derive(Debug, clap::Args)]
pub struct Operation {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List held operations, newest first: everybody's if you may see them, else yours
    List {
        /// Only those in this state: waiting, released, denied, withdrawn, expired
        #[arg(long)]
        state: Option<String>,
        /// Only yours
        #[arg(long)]
        mine: bool,
        #[command(flatten)]
        limit: Limit,
    },
    /// Show a held operation: the exact command, control characters escaped
    Show {
        /// Operation, as `operation list` prints it
        #[arg(value_name = "OPERATION")]
        id: String,
    },
    /// Vote yes on exactly this command; with enough votes it runs at once
    Approve(Vote),
    /// Vote no; one no is enough, and the command does not reach the target
    Deny(Vote),
}

#[derive(Debug, clap::Args)]
struct Vote {
    /// Operation, as `operation list` prints it
    #[arg(value_name = "OPERATION")]
    id: String,
    /// Remark, kept with the vote; whoever wants to run the command reads it when it is denied
    #[arg(long, default_value = "")]
    comment: String,
    /// Hash of what you decided on, as `operation show` printed it; the vote counts only for exactly that
    #[arg(long, value_name = "HASH")]
    content_hash: Option<String>,
    /// Do not ask; vote on what is shown
    #[arg(long)]
    yes: bool,
}

impl Operation {
    /// Calls `/v1/operations`.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        match self.verb {
            Verb::List { state, mine, limit } => {
                let mut query = Vec::new();
                if let Some(state) = &state {
                    query.push(("state", state.as_str()));
                }
                if mine {
                    query.push(("mine", "true"));
                }
                let held = client.list(&["operations"], &query, limit.limit).await?;
                print_listed(context.output, &held, &COLUMNS)
            }
            Verb::Show { id } => {
                let held = show(&client, &id).await?;
                context.output.record(&held, &fields(&held))
            }
            Verb::Approve(vote) => vote.run(context, &client, "approve", "Approve").await,
            Verb::Deny(vote) => vote.run(context, &client, "deny", "Deny").await,
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
                if !self.yes && !confirm(&format!("{question} this command?"))? {
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
        let held: HeldOperationView = client.post(&["operations", &self.id, verb], &body).await?;
        context.output.done(&held, &standing(&held))
    }
}

async fn show(client: &Client, id: &str) -> Result<HeldOperationView, Failure> {
    client.get(&["operations", id], &NOTHING).await
}

/// Where it stands, in one line.
fn standing(held: &HeldOperationView) -> String {
    match (held.state.as_str(), held.approvals_missing) {
        ("waiting", 0) => format!("{} approved", held.id),
        ("waiting", missing) => {
            format!("{} waiting: {missing} more approval(s) needed", held.id)
        }
        (state, _) => format!("{} {state}", held.id),
    }
}

const COLUMNS: [Column<HeldOperationView>; 5] = [
    Column::whole("ID", |held: &HeldOperationView| held.id.clone()),
    Column::new("WHO", |held| held.requester.clone()),
    Column::new("ACCOUNT", |held| {
        format!("{}@{}", held.account, held.target)
    }),
    Column::new("STATE", |held| held.state.clone()),
    Column::new("COMMAND", |held| beginning(&held.command)),
];

/// Longest command in a table, in characters; `operation show` prints all of it.
const COMMAND_CHARS: usize = 60;

fn beginning(command: &str) -> String {
    let mut shown: String = command.chars().take(COMMAND_CHARS).collect();
    if shown.len() < command.len() {
        shown.push('…');
    }
    shown
}

fn fields(held: &HeldOperationView) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("operation", held.id.clone()),
        ("who", held.requester.clone()),
        ("account", format!("{}@{}", held.account, held.target)),
        ("session", held.session_id.clone()),
        ("kind", held.kind.clone()),
        // On one line: a line end in it must look like one, not like another field.
        ("command", escaped(&held.command)),
        ("command sha256", held.command_hash.clone()),
        ("state", held.state.clone()),
        ("needs", joined(&held.quorums)),
        ("held", minute(held.created_at)),
    ];
    for vote in &held.votes {
        fields.push((
            "vote",
            format!("{} {} {}", vote.voter, vote.kind, vote.comment)
                .trim()
                .to_owned(),
        ));
    }
    if held.state == "waiting" {
        fields.push((
            "still missing",
            format!("{} approval(s)", held.approvals_missing),
        ));
        fields.push(("ends by itself", held.expires_at.to_string()));
    }
    fields.push(("content hash", held.content_hash.clone()));
    fields
}

/// A command as people must see it before they agree: every control character spelled out and, where
/// there is one, every backslash doubled, so that no two commands look the same.
fn escaped(command: &str) -> String {
    match escape_controls(command) {
        Cow::Borrowed(plain) => plain.to_owned(),
        Cow::Owned(_) => escape_controls(&command.replace('\\', "\\\\")).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// K5, E2: whoever approves sees one line, and nothing in it acts on the terminal.
    #[test]
    fn a_command_cannot_hide_a_part_of_itself_from_whoever_approves_it() {
        let shown = escaped("ls\r\u{1b}[2K\nrm -rf /");
        assert!(!shown.contains(['\r', '\n', '\u{1b}']), "{shown:?}");
        assert!(shown.contains("ls") && shown.contains("rm -rf /"));
        assert_eq!(escaped(r"printf a\nb"), r"printf a\nb");
        assert_ne!(escaped("a\nb\u{1b}"), escaped("a\\nb\u{1b}"));
    }
}
