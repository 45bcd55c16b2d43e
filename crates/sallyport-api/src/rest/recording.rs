//! Recordings.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use sallyport_core::time::Timestamp;

/// A recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecordingView {
    /// Id.
    pub id: String,
    /// Session it is of.
    pub session_id: String,
    /// Who.
    pub person: String,
    /// Account.
    pub account: String,
    /// Target.
    pub target: String,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// `live`, `complete`, `cut_off`.
    pub state: String,
    /// Durable chunks.
    pub chunks: u64,
    /// Bytes stored.
    pub size_bytes: u64,
    /// Chain value, lower-case hex.
    pub chain: String,
}

/// The recordings of one grant's sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecordingGroupView {
    /// The grant that all of the sessions ran under.
    pub grant_id: String,
    /// Who.
    pub person: String,
    /// Account.
    pub account: String,
    /// Target.
    pub target: String,
    /// How many there are.
    pub recordings: u64,
    /// How many of them are still being written.
    pub live: u64,
    /// How many of them were cut off.
    pub cut_off: u64,
    /// The newest of them.
    pub last_recording_id: String,
    /// When the first began.
    #[schema(value_type = String, format = DateTime)]
    pub first_started_at: Timestamp,
    /// When the newest began.
    #[schema(value_type = String, format = DateTime)]
    pub last_started_at: Timestamp,
    /// Bytes stored of all.
    pub size_bytes: u64,
}

/// `GET /v1/recordings/{id}/content`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ContentQuery {
    /// `asciicast-v3` (default), `asciicast-v2`, `transcript`, `commands` (JSON lines), `container`
    /// (the sealed file itself).
    pub format: Option<String>,
    /// Channel to export, for the asciicast formats; the first with a terminal when absent.
    pub channel: Option<u32>,
    /// Keep the response open and send what is recorded from now on, for asciicast formats.
    #[serde(default)]
    pub follow: bool,
}

/// `GET /v1/recordings/{id}/verification`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerificationView {
    /// Whether the file is exactly what the audit log anchors.
    pub is_verified: bool,
    /// Chunks checked.
    pub chunks: u64,
    /// Whether the last chunk is there.
    pub is_complete: bool,
    /// Chain value at the end, lower-case hex.
    pub chain: String,
    /// What is wrong and where, when something is.
    pub fault: Option<String>,
}
