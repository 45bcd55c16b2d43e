//! PostgreSQL: databases with stock clients and drivers, in the simple and the extended protocol.
//!
//! Followed: the chapter "Frontend/Backend Protocol" of PostgreSQL's documentation, version 3.2 and 3.0
//! towards clients and 3.0 towards targets; RFC 5802, RFC 7677 and RFC 5929 for logging in.
//!
//! A client's connection is TLS from the start or after it asked (`client`), proves a person by a pass
//! (`handshake`), and is joined to one connection of the target's (`upstream`) by one task that moves both
//! directions (`relay`). `docs/plugins/protocol/postgres.md` says what people see.
//!
//! INVARIANT: a byte reaches a target only after the session's permit, after its message was let through,
//! and after it was recorded.
//!
//! Not here: connections and their limits (`listener`), deciding and recording (`session`).

mod cancel;
mod client;
mod codec;
pub mod fuzz;
mod handshake;
mod limits;
mod mask;
mod operations;
mod relay;
mod serve;
mod startup;
mod upstream;
mod wording;

use std::sync::Arc;

use async_trait::async_trait;
use rustls::ServerConfig;
use sallyport_core::{
    descriptor::{Descriptor, OperationDescriptor, Setting},
    policy::Restraints,
    session::OperationKind,
};

use self::{
    cancel::Cancels,
    client::{ClientError, Entry},
    handshake::admit,
};
use super::{Protocol, ProtocolSetup, ServeError, SetupError};
use crate::{door::Door, stream::ClientStream};

/// The protocol's kind, as stored and typed.
const KIND: &str = "postgres";
/// What a client names inside TLS that speaks this protocol (IANA's registry of ALPN ids).
const ALPN: &[u8] = b"postgresql";

/// The PostgreSQL gateway.
#[derive(Debug)]
pub struct Postgres {
    tls: Arc<ServerConfig>,
    cancels: Arc<Cancels>,
}

impl Postgres {
    /// Gets ready.
    ///
    /// # Errors
    /// [`SetupError`] when TLS cannot be spoken.
    pub fn new(setup: &ProtocolSetup) -> Result<Self, SetupError> {
        let tls = setup
            .tls
            .server_config(Some(ALPN))
            .map_err(|source| SetupError {
                kind: KIND,
                source: Box::new(source),
            })?;
        Ok(Self {
            tls,
            cancels: Arc::default(),
        })
    }
}

#[async_trait]
impl Protocol for Postgres {
    fn describe(&self) -> Descriptor {
        let operation = |kind: OperationKind, purpose: &str| OperationDescriptor {
            kind: kind.as_str().to_owned(),
            purpose: purpose.to_owned(),
            is_refusable: true,
        };
        Descriptor {
            kind: KIND.to_owned(),
            title: "PostgreSQL".to_owned(),
            settings: Vec::<Setting>::new(),
            operations: vec![
                operation(OperationKind::Database, "use of one database"),
                operation(
                    OperationKind::Statement,
                    "SQL: a statement, or several in one message",
                ),
                operation(OperationKind::FunctionCall, "a function called without SQL"),
                operation(
                    OperationKind::Replication,
                    "a connection that follows changes",
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
        let entered = client::enter(stream, &self.tls)
            .await
            .map_err(|error| failed("handshake", error))?;
        match entered {
            Entry::Nobody => Ok(()),
            Entry::Cancel(key) => {
                // Nothing is answered, whatever the key is.
                if let Some(found) = self.cancels.find(&key) {
                    found.stop().await;
                }
                Ok(())
            }
            Entry::Client(client, startup) => {
                let door = Arc::new(door);
                let admitted = admit(client, startup, &door)
                    .await
                    .map_err(|error| failed("login", error))?;
                match admitted {
                    Some(admitted) => Box::pin(serve::serve(admitted, &self.cancels))
                        .await
                        .map_err(|error| failed("session", error)),
                    None => Ok(()),
                }
            }
        }
    }
}

fn failed(attempt: &'static str, error: ClientError) -> ServeError {
    ServeError {
        kind: KIND,
        attempt,
        source: Box::new(error),
    }
}
