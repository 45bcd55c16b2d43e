//! Bounds of this protocol on what a client or a target can take, beyond the gateway's own limits.

use std::time::Duration;

/// Longest message that carries SQL, or calls a function.
pub(super) const STATEMENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest beginning of a message with bound values: its names stand in there, and what the evidence keeps.
pub(super) const BIND_HEAD_BYTES_MAX: usize = 64 * 1024;
/// Longest message of a client that carries neither SQL nor values nor copied rows.
pub(super) const SMALL_BYTES_MAX: usize = 8 * 1024;
/// Longest row that is masked, and longest description of such rows.
pub(super) const MASKED_BYTES_MAX: usize = 1024 * 1024;
/// Most that is read of a target's catalogue to know what is masked.
pub(super) const CATALOG_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Most rows of it.
pub(super) const CATALOG_ROWS_MAX: usize = 200_000;
/// Longest message of a target that is read whole; one that is longer is passed on as it comes.
pub(super) const SERVER_WHOLE_BYTES_MAX: usize = 64 * 1024;
/// Longest message of a target during login.
pub(super) const LOGIN_BYTES_MAX: usize = 64 * 1024;
/// Messages of a target during login.
pub(super) const LOGIN_MESSAGES_MAX: usize = 512;
/// Longest password message of a client.
pub(super) const PASSWORD_BYTES_MAX: usize = 1_024;
/// Messages that wait for the target's answer in one session.
pub(super) const UNANSWERED_MAX: usize = 4_096;
/// The target is asked for what it has after so many messages without a synchronisation.
pub(super) const FLUSH_EVERY: usize = 256;
/// Prepared statements and portals with a name in one session.
pub(super) const NAMES_MAX: usize = 10_000;
/// Bytes of text of prepared statements in one session.
pub(super) const PREPARED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long a target may take for TLS and for logging in, each.
pub(super) const TARGET_ANSWER_TIME: Duration = Duration::from_secs(15);
/// How long the person is given to hear why the session is over.
pub(super) const FAREWELL_TIME: Duration = Duration::from_millis(500);
/// Least time a failed proof takes, whatever failed.
pub(super) const REJECTION_TIME: Duration = Duration::from_millis(400);
/// How often a waiting person is told that nothing has changed.
pub(super) const WAITING_LINE_EVERY: Duration = Duration::from_secs(15);
/// How often a grant is looked for that was asked for elsewhere.
pub(super) const GRANT_LOOK_EVERY: Duration = Duration::from_secs(3);
/// How often control may fail to answer, one after the other, before a waiting person is told.
pub(super) const CONTROL_SILENT_MAX: u32 = 24;
/// How long asking a target to stop may take.
pub(super) const CANCEL_TIME: Duration = Duration::from_secs(5);
