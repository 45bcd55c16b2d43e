//! Bounds on everything a peer can take from a gateway. Raising one costs memory or patience, never
//! a check.

use std::time::Duration;

use serde::Deserialize;

/// Bounds of one gateway.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at one time. Default 2,000.
    pub connections_max: usize,
    /// Connections from one address that have not proven who they are. Default 64.
    pub unauthenticated_per_source_max: usize,
    /// Seconds a connection has to open a session; time spent waiting for approval does not count.
    /// Default 120 s.
    pub login_grace_s: u64,
    /// Failed proofs on one connection. Default 6.
    pub authentication_attempts_max: u32,
    /// Seconds to reach a target. Default 10 s.
    pub dial_timeout_s: u64,
    /// Seconds an answer of control may take, waiting for approval excepted. Default 15 s.
    pub call_timeout_s: u64,
    /// Seconds without a sign of life after which control counts as gone. Default 6 s: three
    /// heartbeats.
    pub control_silence_s: u64,
    /// Bytes of evidence kept on disk while control cannot take them. As many bytes of memory
    /// at most. Default 64 MiB.
    pub spool_bytes_max: u64,
    /// Seconds one chunk of a recording may take to become durable. Default 8 s: with the time that a chunk
    /// collects, a session ends within ten seconds of its disk.
    pub recorder_stall_s: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 2_000,
            unauthenticated_per_source_max: 64,
            login_grace_s: 120,
            authentication_attempts_max: 6,
            dial_timeout_s: 10,
            call_timeout_s: 15,
            control_silence_s: 6,
            spool_bytes_max: 64 * 1024 * 1024,
            recorder_stall_s: 8,
        }
    }
}

impl Limits {
    /// [`Limits::login_grace_s`] as a duration.
    #[must_use]
    pub const fn login_grace(&self) -> Duration {
        Duration::from_secs(self.login_grace_s)
    }

    /// [`Limits::dial_timeout_s`] as a duration.
    #[must_use]
    pub const fn dial_timeout(&self) -> Duration {
        Duration::from_secs(self.dial_timeout_s)
    }

    /// [`Limits::call_timeout_s`] as a duration.
    #[must_use]
    pub const fn call_timeout(&self) -> Duration {
        Duration::from_secs(self.call_timeout_s)
    }

    /// [`Limits::control_silence_s`] as a duration.
    #[must_use]
    pub const fn control_silence(&self) -> Duration {
        Duration::from_secs(self.control_silence_s)
    }

    /// [`Limits::recorder_stall_s`] as a duration.
    #[must_use]
    pub const fn recorder_stall(&self) -> Duration {
        Duration::from_secs(self.recorder_stall_s)
    }
}
