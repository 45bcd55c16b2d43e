//! Frames: what travels in each direction.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use super::{Call, Reply};
use sallyport_core::{
    id::{SessionId, WatcherId},
    principal::PersonName,
    session::{EndReason, oversight::Watcher},
};

/// Longest piece of typing in one push, in bytes.
pub const KEYSTROKES_BYTES_MAX: usize = 4 * 1024;

/// What somebody typed: passwords too, so it prints as its length and is wiped when dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Keystrokes(Vec<u8>);

impl Keystrokes {
    /// Wraps what was typed.
    #[must_use]
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Lends what was typed.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Keystrokes {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Keystrokes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes]", self.0.len())
    }
}

/// What control tells a gateway unasked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "push", content = "with", rename_all = "snake_case")]
pub enum Push {
    /// End a session now.
    EndSession {
        /// Session.
        session_id: SessionId,
        /// Why.
        reason: EndReason,
        /// Words for the person, at most 1,000 characters.
        comment: String,
    },
    /// Who is joined to a session now: all of them, each time one comes or goes, and again every
    /// second while there is anybody.
    Watched {
        /// Session.
        session_id: SessionId,
        /// They, and nobody else.
        watchers: Vec<Watcher>,
    },
    /// Whether a session is paused: when that changes, and again every second while it is.
    Paused {
        /// Session.
        session_id: SessionId,
        /// Who paused it; absent when it goes on.
        by: Option<PersonName>,
    },
    /// Say something to the person of a session.
    Message {
        /// Session.
        session_id: SessionId,
        /// Who says it.
        from: PersonName,
        /// What, at most 1,000 characters.
        text: String,
    },
    /// Somebody who is joined with the keyboard typed.
    Typed {
        /// Session.
        session_id: SessionId,
        /// Who, as [`Push::Watched`] names them.
        watcher_id: WatcherId,
        /// At the terminal of this channel, as numbered in the recording.
        channel: u32,
        /// What, at most [`KEYSTROKES_BYTES_MAX`].
        keystrokes: Keystrokes,
    },
    /// A new policy bundle is in force.
    Bundle {
        /// As `sallyport-policy` reads it.
        bundle: String,
    },
    /// Still here; sent every two seconds.
    Heartbeat,
}

/// A frame from a gateway.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FromGateway {
    /// Number of the call, chosen by the gateway, unique while unanswered.
    pub id: u64,
    /// The call.
    pub call: Call,
}

/// A frame from control.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "frame", rename_all = "snake_case", deny_unknown_fields)]
pub enum FromControl {
    /// An answer.
    Reply {
        /// Number of the call.
        id: u64,
        /// The answer.
        reply: Reply,
    },
    /// Unasked.
    Push {
        /// What.
        push: Push,
    },
}
