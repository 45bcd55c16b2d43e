//! Held operations: commands that wait for other people.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use sallyport_core::time::Timestamp;

use super::access::VoteView;

/// A command that waits for other people, or waited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeldOperationView {
    /// Id.
    pub id: String,
    /// Session it would run in.
    pub session_id: String,
    /// Who would run it.
    pub requester: String,
    /// Account.
    pub account: String,
    /// Target.
    pub target: String,
    /// `exec`, or `typed_command` for one typed at a prompt.
    pub kind: String,
    /// The command, to the last byte. Escape it before it reaches a terminal.
    pub command: String,
    /// SHA-256 of the command.
    pub command_hash: String,
    /// `waiting`, `released`, `denied`, `withdrawn`, `expired`.
    pub state: String,
    /// Yes votes still missing.
    pub approvals_missing: u64,
    /// Votes needed, in words: `2 from group sre`.
    pub quorums: Vec<String>,
    /// Votes cast.
    pub votes: Vec<VoteView>,
    /// Hash that votes must name: over the command, session, person, account, target and bundle.
    pub content_hash: String,
    /// Since when it waits.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it ends by itself.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}
