//! Recordings of sessions: which there are, playing and exporting them, checking them against the audit
//! log, and settling those whose gateway died.
//!
//! The gateway writes a recording's file; this slice only reads it. Callers: auditors (over the API) and
//! `broker`, which asks [`settle`] what a lost session left behind and shows a [`live_view`] to who joins.
//!
//! INVARIANT: content leaves this slice only after a `recording.played` entry about it is durable, and
//! memory in use for one reader is bounded by one chunk, whatever the size of the recording.
//!
//! Not here: the container and the exports (`sallyport-evidence`), the key of a recording
//! ([`crate::secret`]), writing (`sallyport-gateway`), the rows of tables `recording` and `session`
//! ([`crate::broker`]).

pub mod api;
mod export;
mod file;
mod playback;
mod settle;
mod store;
mod verification;
mod view;
pub mod workflow;

pub use settle::{Settled, settle};
pub use workflow::{RecordingError, live_view};
