//! Bounds of this protocol on what a client or a target can take, beyond the gateway's own limits.

use std::time::Duration;

/// Channels open at one time on one connection.
pub(super) const CHANNELS_MAX: usize = 10;
/// Connections that a client forwards at one time on one connection, besides its channels.
pub(super) const FORWARDS_FROM_CLIENT_MAX: usize = 64;
/// Connections that a target forwards at one time in one session, agents' included.
pub(super) const FORWARDS_FROM_TARGET_MAX: usize = 64;
/// Places where a target listens for one session.
pub(super) const LISTENERS_MAX: usize = 16;
/// Connections to the target that forwarded ones are spread over before they share.
pub(super) const FORWARD_CONNECTIONS_MAX: usize = 6;
/// Channels a target may open on one connection that nobody asked for, before it is cut off.
pub(super) const UNASKED_CHANNELS_MAX: usize = 16;
/// Channels ever opened on one connection: russh keeps a little of each that was closed from this side.
pub(super) const CHANNELS_EVER_MAX: u32 = 65_536;
/// Connections to the target kept for the session's next channel.
pub(super) const IDLE_TARGET_CONNECTIONS_MAX: usize = 4;
/// How long a target may take for the handshake, for logging in, and for opening a channel, each.
pub(super) const TARGET_ANSWER_TIME: Duration = Duration::from_secs(15);
/// How long the answer to a request to listen may keep a client's connection waiting: a handshake, a
/// login and the answer.
pub(super) const LISTEN_ANSWER_TIME: Duration = Duration::from_secs(30);
/// How often a target is asked whether it is still there.
pub(super) const TARGET_PING_EVERY: Duration = Duration::from_secs(30);
/// Keys a client may offer on one connection, known or not.
pub(super) const OFFERS_MAX: u32 = 64;
/// Rounds of prompts on one connection; waiting for an approver does not count.
pub(super) const PROMPT_ROUNDS_MAX: u32 = 24;
/// Least time a failed proof takes, whatever failed.
pub(super) const REJECTION_TIME: Duration = Duration::from_millis(400);
/// How often a waiting client is asked whether it is still there.
pub(super) const LIFE_SIGN_EVERY: Duration = Duration::from_secs(5);
/// How often a waiting person is told that nothing has changed, in life signs.
pub(super) const LIFE_SIGNS_PER_LINE: u32 = 3;
/// How often an idle client is asked whether it is still there: so long after the login grace. Asked
/// before it is let in, OpenSSH's client prints a complaint at the person's prompt.
pub(super) const KEEPALIVE_AFTER_GRACE: Duration = Duration::from_secs(15);
/// How often an idle client may not answer.
pub(super) const KEEPALIVES_UNANSWERED_MAX: usize = 1;
/// How long a client that closed its channel waits for what it sent to reach the target.
pub(super) const FLUSH_TIME: Duration = Duration::from_secs(2);
/// How long the person is given to hear why the session is over.
pub(super) const FAREWELL_TIME: Duration = Duration::from_millis(500);
/// How long a client that was told is given to leave by itself before it is disconnected.
pub(super) const LEAVING_TIME: Duration = Duration::from_millis(200);
/// Longest name of a signal that is no known one.
pub(super) const SIGNAL_NAME_BYTES_MAX: usize = 64;
/// Longest explanation that a target may give for a process that a signal ended.
pub(super) const EXIT_MESSAGE_CHARS_MAX: usize = 1_024;
/// Environment variables passed on for one channel.
pub(super) const ENV_MAX: usize = 32;
/// Exit status of a channel that policy or the gateway refused: as a shell's for a command that may
/// not be run.
pub(super) const EXIT_REFUSED: u32 = 126;
