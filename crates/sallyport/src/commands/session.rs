//! `sallyport session …`.

use clap::Subcommand;
use sallyport_api::rest::{
    access::End,
    session::{Message, OperationView, SessionGroupView, SessionView},
};

use crate::{
    client::NOTHING,
    context::Context,
    failure::Failure,
    joined,
    output::{Column, Format, minute, or_dash, size},
    player,
};

use super::{Limit, print_listed};

/// Sessions: connections through the gateway, live and past
#[derive(Debug, clap::Args)]
pub struct Session {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List sessions, newest first: everybody's if you may see them, else yours. Those of one grant are
    /// one line; `--output json` has each
    List {
        /// Only those that have not ended, each on a line of its own
        #[arg(long)]
        live: bool,
        /// Only yours
        #[arg(long)]
        mine: bool,
        /// Each on a line of its own
        #[arg(long)]
        all: bool,
        /// Only those under this grant, each on a line of its own
        #[arg(long, value_name = "GRANT")]
        grant: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Show a session
    Show {
        /// Session, as `session list` prints it
        #[arg(value_name = "SESSION")]
        id: String,
    },
    /// List what was done in a session: commands, files, in order
    Operations {
        /// Session, as `session list` prints it
        #[arg(value_name = "SESSION")]
        id: String,
        #[command(flatten)]
        limit: Limit,
    },
    /// Watch a live session's terminal as its person sees it; ends with the session or Ctrl-C
    Watch {
        /// Session, as `session list` prints it
        #[arg(value_name = "SESSION")]
        id: String,
        /// Channel to watch; the first with a terminal when left out
        #[arg(long)]
        channel: Option<u32>,
    },
    /// Join a live session: its person is told, and where policy demands a watcher you count as one
    ///
    /// Ends with the session, with your right to see it, or when you leave: Ctrl-C, or Ctrl-] when you
    /// type.
    Join {
        /// Session, as `session list` prints it
        #[arg(value_name = "SESSION")]
        id: String,
        /// Type as well; what you type is recorded as yours
        #[arg(long)]
        keyboard: bool,
        /// Channel to join; those that open, one after the other, when left out
        #[arg(long)]
        channel: Option<u32>,
    },
    /// Say something to the person of a live session, on their terminal
    Message {
        /// Session, as `session list` prints it
        #[arg(value_name = "SESSION")]
        id: String,
        /// What to say
        #[arg(value_name = "TEXT")]
        text: String,
    },
    /// Pause a live session: nothing passes until it is resumed; its clocks go on
    Pause {
        /// Session, as `session list` prints it
        #[arg(value_name = "SESSION")]
        id: String,
    },
    /// Let a paused session go on
    Resume {
        /// Session, as `session list` prints it
        #[arg(value_name = "SESSION")]
        id: String,
    },
    /// End a live session now; its credential is revoked and the reason is recorded
    End {
        /// Session, as `session list` prints it
        #[arg(value_name = "SESSION")]
        id: String,
        /// Why, in a few words; shown to its person and kept in the audit log
        #[arg(long)]
        reason: String,
    },
}

impl Session {
    /// Calls `/v1/sessions`.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        match self.verb {
            Verb::List {
                live,
                mine,
                all,
                grant,
                limit,
            } => {
                let mut query = Vec::new();
                if mine {
                    query.push(("mine", "true"));
                }
                let is_each = all || live || grant.is_some();
                if !is_each && context.output.format() == Format::Table {
                    let path = ["session-groups"];
                    let groups = client.list(&path, &query, limit.limit).await?;
                    return print_listed(context.output, &groups, &GROUP_COLUMNS);
                }
                if live {
                    query.push(("state", "live"));
                }
                if let Some(grant) = &grant {
                    query.push(("grant", grant));
                }
                let sessions = client.list(&["sessions"], &query, limit.limit).await?;
                print_listed(context.output, &sessions, &SESSION_COLUMNS)
            }
            Verb::Show { id } => {
                let session: SessionView = client.get(&["sessions", &id], &NOTHING).await?;
                context.output.record(&session, &fields(&session))
            }
            Verb::Operations { id, limit } => {
                let path = ["sessions", &id, "operations"];
                let operations = client.list(&path, &[], limit.limit).await?;
                print_listed(context.output, &operations, &OPERATION_COLUMNS)
            }
            Verb::Watch { id, channel } => {
                let session: SessionView = client.get(&["sessions", &id], &NOTHING).await?;
                player::watch(context, &client, &session.recording_id, channel).await
            }
            Verb::Join {
                id,
                keyboard,
                channel,
            } => {
                let wish = joined::Wish {
                    session_id: &id,
                    has_keyboard: keyboard,
                    channel,
                };
                joined::join(context, &client, wish).await
            }
            Verb::Message { id, text } => {
                let message = Message { text };
                client
                    .deliver(&["sessions", &id, "message"], &message)
                    .await?;
                context.output.note(&format!("said in {id}"))
            }
            Verb::Pause { id } => {
                let session: SessionView = client.act(&["sessions", &id, "pause"]).await?;
                context.output.done(&session, &format!("paused {id}"))
            }
            Verb::Resume { id } => {
                let session: SessionView = client.act(&["sessions", &id, "resume"]).await?;
                context.output.done(&session, &format!("resumed {id}"))
            }
            Verb::End { id, reason } => {
                let session: SessionView = client
                    .post(&["sessions", &id, "end"], &End { reason })
                    .await?;
                context.output.done(&session, &format!("ended {id}"))
            }
        }
    }
}

const SESSION_COLUMNS: [Column<SessionView>; 5] = [
    Column::whole("ID", |session: &SessionView| session.id.clone()),
    Column::new("PERSON", |session| session.person.clone()),
    Column::new("ACCOUNT", |session| {
        format!("{}@{}", session.account, session.target)
    }),
    Column::new("STATE", |session| {
        match (&session.end_reason, &session.paused_by) {
            (Some(reason), _) => format!("{}: {reason}", session.state),
            (None, Some(by)) => format!("{}: paused by {by}", session.state),
            (None, None) => session.state.clone(),
        }
    }),
    Column::new("OPENED", |session| minute(session.opened_at)),
];

/// A grant's sessions; of one alone, the session.
const GROUP_COLUMNS: [Column<SessionGroupView>; 5] = [
    Column::whole("ID", |group: &SessionGroupView| match group.sessions {
        1 => group.last_session_id.clone(),
        _ => group.grant_id.clone(),
    }),
    Column::new("PERSON", |group| group.person.clone()),
    Column::new("ACCOUNT", |group| {
        format!("{}@{}", group.account, group.target)
    }),
    Column::new("COUNT", |group| match group.live {
        0 => group.sessions.to_string(),
        live => format!("{}, {live} live", group.sessions),
    }),
    Column::new("LAST", |group| minute(group.last_opened_at)),
];

const OPERATION_COLUMNS: [Column<OperationView>; 4] = [
    Column::new("KIND", |operation: &OperationView| operation.kind.clone()),
    Column::new("OUTCOME", |operation| {
        match (&operation.reason, operation.exit_status) {
            (Some(reason), _) => format!("{}: {reason}", operation.outcome),
            (None, Some(status)) if status != 0 => format!("{} ({status})", operation.outcome),
            (None, _) => operation.outcome.clone(),
        }
    }),
    Column::new("SIZE", |operation| {
        operation.size_bytes.map_or_else(|| "-".to_owned(), size)
    }),
    Column::new("WHAT", |operation| {
        let tag = operation.statement.as_ref().and_then(|statement| {
            let end = statement.sqlstate.as_ref().or(statement.tag.as_ref())?;
            Some(format!(" [{end}]"))
        });
        match &operation.sha256 {
            Some(sha256) => format!("{} sha256:{sha256}", operation.detail),
            None => format!("{}{}", operation.detail, tag.unwrap_or_default()),
        }
    }),
];

fn fields(session: &SessionView) -> [(&'static str, String); 12] {
    let joined = session
        .watchers
        .iter()
        .map(|watcher| match watcher.has_keyboard {
            true => format!("{} with the keyboard", watcher.person),
            false => watcher.person.clone(),
        })
        .collect::<Vec<_>>()
        .join(", ");
    [
        ("session", session.id.clone()),
        ("grant", session.grant_id.clone()),
        ("recording", session.recording_id.clone()),
        ("person", format!("{} from {}", session.person, session.ip)),
        (
            "account",
            format!(
                "{}@{} by {}",
                session.account, session.target, session.protocol
            ),
        ),
        ("state", session.state.clone()),
        ("paused by", or_dash(session.paused_by.as_deref())),
        (
            "joined by",
            or_dash(Some(joined.as_str()).filter(|joined| !joined.is_empty())),
        ),
        ("ended", or_dash(session.end_reason.as_deref())),
        ("from", session.opened_at.to_string()),
        (
            "until",
            session
                .ended_at
                .map_or_else(|| "-".to_owned(), |at| at.to_string()),
        ),
        (
            "bytes",
            format!(
                "{} up, {} down",
                size(session.bytes_up),
                size(session.bytes_down)
            ),
        ),
    ]
}
