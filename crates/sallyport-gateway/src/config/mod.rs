//! Settings of a gateway: one struct, parsed once; every default states its unit.
//!
//! INVARIANT: an unknown key is an error, and no setting switches recording or permits off.

mod limits;

pub use limits::Limits;

use std::{net::SocketAddr, path::PathBuf};

use serde::Deserialize;

/// Everything a gateway is told from outside.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayConfig {
    /// Where the gateway keeps its id, its host key, the spool and new recordings. Belongs to one
    /// gateway process at a time.
    pub data_directory: PathBuf,
    /// Unix socket of the control plane.
    pub control_socket: PathBuf,
    /// Where SSH clients are accepted. Default 127.0.0.1:7022.
    #[serde(default = "default_ssh_listen")]
    pub ssh_listen: SocketAddr,
    /// How SSH clients may agree on keys.
    #[serde(default)]
    pub ssh_key_exchange: SshKeyExchange,
    /// Where PostgreSQL clients are accepted. Nowhere when absent.
    #[serde(default)]
    pub postgres_listen: Option<SocketAddr>,
    /// Where MySQL clients are accepted. Nowhere when absent.
    #[serde(default)]
    pub mysql_listen: Option<SocketAddr>,
    /// Bounds on what peers can take.
    #[serde(default)]
    pub limits: Limits,
}

/// Which key exchanges an SSH client may choose from. Targets are asked for the strongest that they have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SshKeyExchange {
    /// The hybrid that is safe from quantum computers, or X25519 for clients that do not have it: OpenSSH
    /// before 9.9, paramiko.
    #[default]
    Compatible,
    /// Only the hybrid: what is recorded off the wire today stays secret.
    PostQuantum,
}

fn default_ssh_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7022))
}

impl GatewayConfig {
    /// Where clients of a protocol are accepted; nothing when it is not offered.
    #[must_use]
    pub fn listen(&self, protocol: &str) -> Option<SocketAddr> {
        match protocol {
            "ssh" => Some(self.ssh_listen),
            "postgres" => self.postgres_listen,
            "mysql" => self.mysql_listen,
            _ => None,
        }
    }

    /// Settings with every default, for a gateway with these paths.
    #[must_use]
    pub fn new(data_directory: PathBuf, control_socket: PathBuf) -> Self {
        Self {
            data_directory,
            control_socket,
            ssh_listen: default_ssh_listen(),
            ssh_key_exchange: SshKeyExchange::default(),
            postgres_listen: None,
            mysql_listen: None,
            limits: Limits::default(),
        }
    }
}
