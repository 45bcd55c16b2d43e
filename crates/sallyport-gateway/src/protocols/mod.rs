//! The protocols a gateway speaks: one folder each, one line each in [`all`].
//!
//! A protocol turns a client's bytes into questions to its [`Door`], and what a
//! [`Session`](crate::session::Session) lets through into bytes for a target. It decides nothing.
//!
//! INVARIANT: a protocol reaches a target only by `Session::dial`, and every byte it passes was
//! recorded before.
//!
//! Not here: accepting connections and their limits (`listener`).

mod masking;
pub mod mysql;
pub mod postgres;
mod recognition;
pub mod ssh;
mod wording;

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use sallyport_core::{descriptor::Descriptor, policy::Restraints};

use crate::{
    config::{Limits, SshKeyExchange},
    door::Door,
    stream::ClientStream,
    tls::TlsIdentity,
};

/// What a protocol may need to get ready, once at the gateway's start.
#[derive(Clone, Debug)]
pub struct ProtocolSetup {
    /// The gateway's data directory; a protocol keeps its host key in a folder of its own kind here.
    pub data_directory: PathBuf,
    /// The gateway's limits.
    pub limits: Limits,
    /// How SSH clients may agree on keys.
    pub ssh_key_exchange: SshKeyExchange,
    /// What a listener that speaks TLS proves.
    pub tls: Arc<TlsIdentity>,
}

/// Why a protocol cannot be offered.
#[derive(Debug, thiserror::Error)]
#[error("set up protocol `{kind}`")]
pub struct SetupError {
    /// The protocol.
    pub kind: &'static str,
    /// Why.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Why serving one connection ended early. Told to the log only; the client was told in the
/// protocol's own words.
#[derive(Debug, thiserror::Error)]
#[error("serve {attempt} of a `{kind}` connection")]
pub struct ServeError {
    /// The protocol.
    pub kind: &'static str,
    /// What was being done, such as `handshake`.
    pub attempt: &'static str,
    /// Why.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// A protocol.
#[async_trait]
pub trait Protocol: Send + Sync {
    /// What it is and which operations it reports to policy.
    fn describe(&self) -> Descriptor;

    /// By what clients recognise this gateway, in the protocol's own text form; pinned by those who
    /// sign in first.
    fn identities(&self) -> Vec<String>;

    /// Which demands of policies it enforces on what passes. Where policy demands another, there is no session:
    /// asked before each begins, and when policies change.
    fn enforces(&self) -> Restraints;

    /// Serves one connection until it is over. The stream is cut, and reads and writes of it fail,
    /// once the login grace is over, the session has ended and its notice had its time, the gateway
    /// stops, or this future is dropped.
    ///
    /// # Errors
    /// [`ServeError`], for the log.
    async fn serve(&self, stream: ClientStream, door: Door) -> Result<(), ServeError>;
}

/// Every protocol, in alphabetical order.
///
/// # Errors
/// [`SetupError`] of the first that cannot be offered.
pub fn all(setup: &ProtocolSetup) -> Result<Vec<Arc<dyn Protocol>>, SetupError> {
    Ok(vec![
        Arc::new(mysql::Mysql::new(setup)?),
        Arc::new(postgres::Postgres::new(setup)?),
        Arc::new(ssh::Ssh::new(setup)?),
    ])
}
