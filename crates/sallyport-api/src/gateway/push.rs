//! Frames: what travels in each direction.

use serde::{Deserialize, Serialize};

use super::{Call, Reply};
use sallyport_core::{id::SessionId, session::EndReason};

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
