//! Talking to the databases on which engines make users: the connection to a recognised server, and what
//! can go wrong.
//!
//! Called by the engines of database users ([`engines`](crate::engines)).
//!
//! INVARIANT: nothing is sent to a server before it has proven an accepted identity, and a password only as
//! a proof of knowing it; what a server says reaches errors shortened and without control characters, and
//! no error holds a statement.
//!
//! Not here: which statements make or end a user (the engines), by what a server is recognised
//! (`sallyport-wire`).

pub(crate) mod mysql;
pub(crate) mod name;
pub(crate) mod postgres;
pub(crate) mod sql_text;

use std::{io, time::Duration};

use async_trait::async_trait;
use sallyport_core::{entropy::Entropy, secret::SecretString};
use sallyport_wire::{
    scram::ScramError,
    trust::{TlsTrust, Trust, TrustError},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// How long reaching a server and logging in to it may take, each.
const REACH_TIME: Duration = Duration::from_secs(5);
/// How long one statement may take.
const STATEMENT_TIME: Duration = Duration::from_secs(15);
/// Longest message of a server; what engines ask has short answers.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Most rows of one answer.
const ROWS_MAX: usize = 10_000;
/// How much of a server's words is kept.
const WORDS_CHARS_MAX: usize = 200;

/// Why a database did not do what an engine asked. Never holds a password or a statement.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// Nobody answers there, or the connection broke.
    #[error("talk to the server at `{address}`")]
    Reach {
        /// Where.
        address: String,
        /// The system's reason.
        source: io::Error,
    },
    /// It did not get on with it.
    #[error("wait for the server to {what}")]
    TimedOut {
        /// What was waited for.
        what: &'static str,
    },
    /// It is not known by what the server is recognised.
    #[error("know the server")]
    Trust(#[source] TrustError),
    /// No identity is pinned, and engines pin none: sessions do, or an owner.
    #[error("recognise the server: its target has no certificate or key yet")]
    NoIdentity,
    /// It speaks no TLS.
    #[error("speak TLS with a server that refuses it")]
    TlsRefused,
    /// It showed another identity, or TLS failed.
    #[error("speak TLS with the server")]
    Tls(#[source] rustls::Error),
    /// Its message is none, is too long, or has no place here.
    #[error("read the server's message: {problem}")]
    Message {
        /// What is wrong.
        problem: &'static str,
    },
    /// It asks for a proof that is never given.
    #[error("log in to a server that asks for `{method}`")]
    Method {
        /// What it asked for.
        method: String,
    },
    /// The proof failed.
    #[error("log in to the server")]
    Scram(#[source] ScramError),
    /// It refused the login.
    #[error("log in to the server as `{user}`: it says `{code}` {words}")]
    LoginRefused {
        /// As whom.
        user: String,
        /// Its code: an SQLSTATE.
        code: String,
        /// Its words, shortened.
        words: String,
    },
    /// It refused a statement.
    #[error("{what}: the server says `{code}` {words}")]
    Refused {
        /// What was attempted.
        what: &'static str,
        /// Its code: an SQLSTATE.
        code: String,
        /// Its words, shortened.
        words: String,
    },
}

impl DatabaseError {
    /// Whether the server could not be reached at all, so that asking it more now is of no use.
    #[must_use]
    pub const fn is_unreachable(&self) -> bool {
        matches!(self, Self::Reach { .. } | Self::TimedOut { .. })
    }
}

/// Where a database is, and by what it is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server<'a> {
    /// `host:port`.
    pub(crate) address: &'a str,
    /// As the inventory stores them.
    pub(crate) identities: &'a [String],
}

/// As whom to log in, and to which database; servers whose logins are to none look at no database.
#[derive(Clone, Copy)]
pub(crate) struct Login<'a> {
    pub(crate) user: &'a str,
    pub(crate) password: &'a SecretString,
    pub(crate) database: &'a str,
}

/// A connection that is logged in. A connection that is dropped ends too, only less politely.
#[async_trait]
pub(crate) trait Client: Send + Sized {
    /// Connects, recognises the server and logs in.
    ///
    /// # Errors
    /// [`DatabaseError`]; [`DatabaseError::LoginRefused`] when the server says no.
    async fn open(
        server: &Server<'_>,
        login: Login<'_>,
        entropy: &dyn Entropy,
    ) -> Result<Self, DatabaseError>;

    /// Runs one statement. `what` says for errors what it is for.
    ///
    /// # Errors
    /// [`DatabaseError`].
    async fn run(&mut self, what: &'static str, sql: &str) -> Result<Rows, DatabaseError>;

    /// Says goodbye.
    async fn close(self);
}

/// An answer.
pub(crate) type Rows = Vec<Row>;

/// One row of an answer: its columns as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row(Vec<Option<String>>);

impl Row {
    /// The text of a column; empty where it is null or not there.
    pub(crate) fn text(&self, column: usize) -> &str {
        self.0
            .get(column)
            .and_then(Option::as_deref)
            .unwrap_or_default()
    }
}

/// A connection to a server: encrypted, unless an owner said that it cannot be.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Server<'_> {
    async fn dial(&self) -> Result<TcpStream, DatabaseError> {
        let connect = async {
            let stream = TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        timeout(REACH_TIME, connect)
            .await
            .map_err(|_| DatabaseError::TimedOut { what: "answer" })?
            .map_err(|source| self.broken(source))
    }

    fn trust(&self, alpn: &[&[u8]]) -> Result<Trust, DatabaseError> {
        if self.identities.is_empty() {
            return Err(DatabaseError::NoIdentity);
        }
        Trust::read(self.identities, false, self.address, alpn).map_err(DatabaseError::Trust)
    }

    async fn encrypt(
        &self,
        stream: TcpStream,
        tls: &TlsTrust,
    ) -> Result<TlsStream<TcpStream>, DatabaseError> {
        TlsConnector::from(tls.config())
            .connect(tls.name(), stream)
            .await
            .map_err(|error| match error.downcast::<rustls::Error>() {
                Ok(error) => DatabaseError::Tls(error),
                Err(error) => self.broken(error),
            })
    }

    fn broken(&self, source: io::Error) -> DatabaseError {
        DatabaseError::Reach {
            address: self.address.to_owned(),
            source,
        }
    }
}

/// A server's words, as far as they may be shown.
fn words(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(WORDS_CHARS_MAX)
        .collect()
}
