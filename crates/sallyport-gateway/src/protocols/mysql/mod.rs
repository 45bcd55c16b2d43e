//! MySQL and MariaDB: databases with stock clients and drivers, in the text and the binary protocol.
//!
//! Followed: "MySQL Client/Server Protocol" in MySQL's source documentation and "Clientserver protocol" of
//! MariaDB's, protocol version 10 on both sides.
//!
//! A client's connection is greeted and becomes TLS (`client`), proves a person by a pass (`handshake`), and
//! is joined to one connection of the target's (`upstream`) by one task that moves commands and answers
//! (`relay`). `docs/plugins/protocol/mysql.md` says what people see.
//!
//! INVARIANT: a byte reaches a target only after the session's permit, after its command was let through,
//! and after it was recorded.
//!
//! Not here: connections and their limits (`listener`), deciding and recording (`session`).

mod client;
mod codec;
pub mod fuzz;
mod handshake;
mod kills;
mod limits;
mod login;
mod mask;
mod operations;
mod prepared;
mod relay;
mod running;
mod serve;
mod upstream;
mod values;
mod wording;
mod words;

use std::sync::Arc;

use async_trait::async_trait;
use rustls::ServerConfig;
use sallyport_core::{
    descriptor::{Descriptor, OperationDescriptor, Setting},
    policy::Restraints,
    session::OperationKind,
};

use self::{client::ClientError, handshake::admit, kills::Kills, serve::Admitted};
use super::{Protocol, ProtocolSetup, ServeError, SetupError};
use crate::{door::Door, stream::ClientStream};

/// The protocol's kind, as stored and typed.
const KIND: &str = "mysql";

/// The MySQL and MariaDB gateway.
#[derive(Debug)]
pub struct Mysql {
    tls: Arc<ServerConfig>,
    kills: Arc<Kills>,
}

impl Mysql {
    /// Gets ready.
    ///
    /// # Errors
    /// [`SetupError`] when TLS cannot be spoken.
    pub fn new(setup: &ProtocolSetup) -> Result<Self, SetupError> {
        let tls = setup.tls.server_config(None).map_err(|source| SetupError {
            kind: KIND,
            source: Box::new(source),
        })?;
        Ok(Self {
            tls,
            kills: Arc::default(),
        })
    }
}

#[async_trait]
impl Protocol for Mysql {
    fn describe(&self) -> Descriptor {
        let operation = |kind: OperationKind, purpose: &str| OperationDescriptor {
            kind: kind.as_str().to_owned(),
            purpose: purpose.to_owned(),
            is_refusable: kind != OperationKind::Unsupported,
        };
        Descriptor {
            kind: KIND.to_owned(),
            title: "MySQL and MariaDB".to_owned(),
            settings: Vec::<Setting>::new(),
            operations: vec![
                operation(OperationKind::Database, "use of one database"),
                operation(
                    OperationKind::Statement,
                    "SQL: a statement, or several in one message",
                ),
                operation(
                    OperationKind::LocalFile,
                    "a file of the client's that a statement loads",
                ),
                operation(
                    OperationKind::Unsupported,
                    "a command that is never passed on",
                ),
            ],
            secrets_needed: vec!["password".to_owned()],
        }
    }

    fn identities(&self) -> Vec<String> {
        // The authority that vouches for the API vouches for this listener, too.
        Vec::new()
    }

    fn enforces(&self) -> Restraints {
        Restraints::ALL
    }

    async fn serve(&self, stream: ClientStream, door: Door) -> Result<(), ServeError> {
        let issued = self.kills.issue().ok_or(ClientError::Entropy);
        let issued = issued.map_err(|error| failed("handshake", error))?;
        let entered = client::enter(stream, &self.tls, issued.number)
            .await
            .map_err(|error| failed("handshake", error))?;
        let Some((mut client, answer)) = entered else {
            return Ok(());
        };
        let session = admit(&mut client, &answer, &door)
            .await
            .map_err(|error| failed("login", error))?;
        let Some(session) = session else {
            return Ok(());
        };
        let admitted = Admitted {
            client,
            session,
            answer,
            issued,
        };
        Box::pin(serve::serve(admitted, &self.kills))
            .await
            .map_err(|error| failed("session", error))
    }
}

fn failed(attempt: &'static str, error: ClientError) -> ServeError {
    ServeError {
        kind: KIND,
        attempt,
        source: Box::new(error),
    }
}
