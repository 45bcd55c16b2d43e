//! Bounds of this protocol on what a client or a target can take, beyond the gateway's own limits.

use std::time::Duration;

/// Longest command that carries SQL or values.
pub(super) const STATEMENT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Longest command of a client that carries neither.
pub(super) const SMALL_BYTES_MAX: usize = 8 * 1024;
/// Longest packet of a target that is read whole; rows pass as they come.
pub(super) const SERVER_WHOLE_BYTES_MAX: usize = 64 * 1024;
/// Longest packet of either side during login.
/// Longest row that is masked, and most that the definitions of one result take then.
pub(super) const MASKED_BYTES_MAX: usize = 1024 * 1024;
/// What is read of a catalogue at most.
pub(super) const CATALOG_BYTES_MAX: usize = 32 * 1024 * 1024;
pub(super) const CATALOG_ROWS_MAX: usize = 200_000;
pub(super) const LOGIN_BYTES_MAX: usize = 16 * 1024;
/// Packets of a target during login.
pub(super) const LOGIN_PACKETS_MAX: usize = 16;
/// Longest password packet of a client.
pub(super) const PASSWORD_BYTES_MAX: usize = 1_024;
/// Prepared statements in one session.
pub(super) const PREPARED_MAX: usize = 10_000;
/// Bytes of text of prepared statements in one session.
pub(super) const PREPARED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Results of one command, of which each is another statement of its text.
pub(super) const RESULTS_MAX: u32 = 100_000;
/// Longest message of an error: clients cut at 512 bytes.
pub(super) const ERROR_BYTES_MAX: usize = 500;
/// How long a target may take for TLS and for logging in, each.
pub(super) const TARGET_ANSWER_TIME: Duration = Duration::from_secs(15);
/// How long the person is given to hear why the session is over.
pub(super) const FAREWELL_TIME: Duration = Duration::from_millis(500);
/// Least time a failed proof takes, whatever failed.
pub(super) const REJECTION_TIME: Duration = Duration::from_millis(400);
/// How long asking a target to stop may take.
pub(super) const KILL_TIME: Duration = Duration::from_secs(10);
