//! Sessions and the operations in them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::sensitive::Sensitive;
use sallyport_core::time::Timestamp;

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionView {
    /// Id.
    pub id: String,
    /// Grant it runs under.
    pub grant_id: String,
    /// Who.
    pub person: String,
    /// Account.
    pub account: String,
    /// Target.
    pub target: String,
    /// Protocol kind.
    pub protocol: String,
    /// The client's address.
    pub ip: String,
    /// `live` or `ended`.
    pub state: String,
    /// Why it ended.
    pub end_reason: Option<String>,
    /// When it opened.
    #[schema(value_type = String, format = DateTime)]
    pub opened_at: Timestamp,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    /// Its recording.
    pub recording_id: String,
    /// Bytes from client to target, once ended.
    pub bytes_up: u64,
    /// Bytes from target to client, once ended.
    pub bytes_down: u64,
    /// Who paused it, while it is paused.
    pub paused_by: Option<String>,
    /// Who is joined to it.
    pub watchers: Vec<WatcherView>,
}

/// Somebody who is joined to a live session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WatcherView {
    /// Id of this joining.
    pub id: String,
    /// Who.
    pub person: String,
    /// Whether they can type.
    pub has_keyboard: bool,
}

/// Joins a live session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// Whether to type as well as to watch.
    #[serde(default)]
    pub keyboard: bool,
    /// The channel to show; those that open, one after the other, when absent.
    pub channel: Option<u32>,
}

/// The header of the answer to [`Join`] that names the joining.
pub const WATCHER_HEADER: &str = "sallyport-watcher";

/// What somebody who is joined types. Without a channel it says only that they are still there.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Typing {
    /// Id of the joining, from the header of its answer.
    pub watcher: String,
    /// At the terminal of this channel.
    pub channel: Option<u32>,
    /// Bytes in lower-case hex, at most 4 KiB of them.
    #[serde(default)]
    pub input: Option<Sensitive>,
}

/// Something to say to the person of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// What, 1 to 1,000 characters.
    pub text: String,
}

/// The sessions of one grant: programs that connect for every command, such as a playbook's tasks, leave
/// one line instead of hundreds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionGroupView {
    /// The grant that all of them ran under.
    pub grant_id: String,
    /// Who.
    pub person: String,
    /// Account.
    pub account: String,
    /// Target.
    pub target: String,
    /// How many there are.
    pub sessions: u64,
    /// How many of them are live.
    pub live: u64,
    /// The newest of them.
    pub last_session_id: String,
    /// When the first opened.
    #[schema(value_type = String, format = DateTime)]
    pub first_opened_at: Timestamp,
    /// When the newest opened.
    #[schema(value_type = String, format = DateTime)]
    pub last_opened_at: Timestamp,
    /// Bytes from client to target in all that have ended.
    pub bytes_up: u64,
    /// Bytes from target to client in all that have ended.
    pub bytes_down: u64,
}

/// What is known of an executed statement beside its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatementView {
    /// Values bound to its parameters, in order; null for NULL.
    pub parameters: Vec<Option<String>>,
    /// How many parameters there were, when not all are listed.
    pub parameter_count: Option<u32>,
    /// What the server says it did: `SELECT 3`.
    pub tag: Option<String>,
    /// Rows that came back, or were copied.
    pub rows: Option<u64>,
    /// The server's error code (SQLSTATE).
    pub sqlstate: Option<String>,
    /// SHA-256 of the whole text, when `detail` is only its beginning.
    pub text_sha256: Option<String>,
}

/// One operation of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OperationView {
    /// Id.
    pub id: String,
    /// Kind: `exec`, `file_upload`, …
    pub kind: String,
    /// What exactly.
    pub detail: String,
    /// What a statement is, the gravest of several: `read`, `session`, `write`, `ddl`, `dcl`, `admin`, `unknown`.
    pub verb: Option<String>,
    /// Relations that a statement touches: `database.schema.relation`.
    pub relations: Vec<String>,
    /// `completed`, `interrupted`, `refused`, `failed_at_target`.
    pub outcome: String,
    /// Reason code, when refused.
    pub reason: Option<String>,
    /// Exit status of a command.
    pub exit_status: Option<u32>,
    /// Bytes of a file moved, or of a statement's result or copied rows.
    pub size_bytes: Option<u64>,
    /// SHA-256 of a file moved.
    pub sha256: Option<String>,
    /// Of a statement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<StatementView>,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// When its outcome was known.
    #[schema(value_type = String, format = DateTime)]
    pub ended_at: Timestamp,
}
