//! Where the control plane listens.

use std::{net::SocketAddr, time::Duration};

use serde::Deserialize;

use super::{ConfigError, seconds};

/// Addresses, names and limits of the listeners.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// API and console, HTTPS. Port 7443 on every address unless set.
    pub api: SocketAddr,
    /// Metrics and health, plain HTTP; a loopback address only. Port 7442 unless set.
    pub health: SocketAddr,
    /// Names under which clients reach the API, besides `localhost` and `127.0.0.1`; they stand in the
    /// server certificate.
    pub names: Vec<String>,
    /// Connections served at once; more wait in the kernel's queue. 1,024 unless set.
    pub connections_max: u32,
    /// Time for a TLS handshake and for the head of a request. 10 s unless set.
    #[serde(
        rename = "handshake_timeout_s",
        deserialize_with = "seconds::deserialize"
    )]
    pub handshake_timeout: Duration,
    /// Time until the head of the answer. 30 s unless set.
    #[serde(
        rename = "request_timeout_s",
        deserialize_with = "seconds::deserialize"
    )]
    pub request_timeout: Duration,
    /// Time that open requests get when the process stops. 10 s unless set.
    #[serde(rename = "shutdown_grace_s", deserialize_with = "seconds::deserialize")]
    pub shutdown_grace: Duration,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            api: SocketAddr::from(([0, 0, 0, 0], 7443)),
            health: SocketAddr::from(([127, 0, 0, 1], 7442)),
            names: Vec::new(),
            connections_max: 1024,
            handshake_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            shutdown_grace: Duration::from_secs(10),
        }
    }
}

impl Listen {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if !self.health.ip().is_loopback() {
            return Err(ConfigError::Bounds {
                key: "listen.health",
                found: self.health.to_string(),
                bounds: "a loopback address, because it asks nobody who they are",
            });
        }
        if !(1..=100_000).contains(&self.connections_max) {
            return Err(ConfigError::Bounds {
                key: "listen.connections_max",
                found: self.connections_max.to_string(),
                bounds: "1 to 100,000",
            });
        }
        let bounds = "1 to 300 seconds";
        seconds::check(
            "listen.handshake_timeout_s",
            self.handshake_timeout,
            1,
            300,
            bounds,
        )?;
        seconds::check(
            "listen.request_timeout_s",
            self.request_timeout,
            1,
            300,
            bounds,
        )?;
        seconds::check(
            "listen.shutdown_grace_s",
            self.shutdown_grace,
            1,
            300,
            bounds,
        )
    }
}
