//! The target's side: TLS with a proven identity, login with the injected credential, and asking it to
//! stop.
//!
//! INVARIANT: the credential is used only after the target's identity was found to be an accepted one; in
//! clear it is never sent but inside TLS; nothing that a target says while logging in reaches the person but
//! what its number means.
//!
//! A server stops what it runs only for somebody who is logged in. So what stops a session keeps its
//! password, as long as the session lives.
//!
//! Not here: dialling (`session`), moving packets (`relay`).

use std::sync::Arc;

use bytes::{BufMut as _, BytesMut};
use sallyport_api::{gateway::CredentialContent, sensitive::Sensitive};
use sallyport_core::{authz::Reason, id::SessionId, session::EndReason};
use sallyport_wire::{scramble, trust::Trust};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::{
    super::recognition::{self, RecognitionError},
    codec::{self, Body, CodecError, ERROR, HEADER_BYTES, OK, Packet, put_packet},
    limits::{KILL_TIME, LOGIN_BYTES_MAX, LOGIN_PACKETS_MAX, TARGET_ANSWER_TIME},
    login::{self, Answer, Greeting, capability},
};
use crate::{
    dial::{DialError, WayToStop},
    session::Session,
    stream::TargetStream,
};

/// A connection to a target, encrypted unless an owner said that it cannot be.
pub(super) type TargetIo = Either<TargetStream, TlsStream<TargetStream>>;

const NATIVE: &str = "mysql_native_password";
const CACHING_SHA2: &str = "caching_sha2_password";
const SHA256: &str = "sha256_password";
const CLEAR: &str = "mysql_clear_password";

/// Why the target cannot be used. The log gets the chain; the person gets [`UpstreamError::reason`].
#[derive(Debug, thiserror::Error)]
pub(super) enum UpstreamError {
    /// Nobody answers there.
    #[error("reach the target")]
    Dial(#[source] DialError),
    /// The connection broke.
    #[error("talk to the target")]
    Io(#[from] std::io::Error),
    /// It did not get on with it.
    #[error("wait for the target to {what}")]
    TimedOut {
        /// What was waited for.
        what: &'static str,
    },
    /// It speaks no TLS, and nobody said that it need not.
    #[error("speak TLS with a target that does not")]
    TlsRefused,
    /// It is not recognised.
    #[error(transparent)]
    Recognition(#[from] RecognitionError),
    /// Its packet is none.
    #[error("read the target's packet")]
    Packet(#[from] CodecError),
    /// It lacks what a session needs.
    #[error("use a target that cannot do enough: capabilities {capabilities:#x}")]
    TooOld {
        /// What it can do.
        capabilities: u32,
    },
    /// It reads statements in a set of characters in which SQL is not what it seems.
    #[error("use a target in an encoding in which SQL is not what it seems")]
    Encoding,
    /// There is no password to log in with: it was used already, or the credential is of another kind.
    #[error("log in without a password")]
    NoPassword,
    /// It asks for a proof that is never given, or not in clear.
    #[error("log in to a target that asks for `{plugin}`")]
    Plugin {
        /// What it asks for.
        plugin: String,
    },
    /// It said something that has no place in a login, or too much.
    #[error("follow a target that goes on without letting anybody in")]
    Unexpected,
    /// It said no.
    #[error("log in to a target that refuses with {number}")]
    Refused {
        /// Its number for it.
        number: u16,
    },
}

impl UpstreamError {
    /// What the person is told.
    pub(super) const fn reason(&self) -> Reason {
        match self {
            Self::Recognition(error) => error.reason(),
            _ => Reason::TargetUnreachable,
        }
    }

    /// Why the session is over because of it.
    pub(super) const fn end_reason(&self) -> EndReason {
        match self {
            Self::Recognition(error) => error.end_reason(),
            _ => EndReason::TargetUnreachable,
        }
    }
}

/// What a client wants of a target.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// What the client can do.
    pub(super) capabilities: u32,
    pub(super) collation: u8,
    pub(super) database: Option<String>,
    /// What the client calls itself.
    pub(super) program: String,
}

/// A target that is logged in to.
pub(super) struct Upstream {
    pub(super) stream: TargetIo,
    /// What it sent after it was ready.
    pub(super) rest: BytesMut,
    /// Its status, as it said when it let us in.
    pub(super) status: u16,
    /// How to ask it to stop.
    pub(super) stopper: Stopper,
}

/// Connects, recognises the target and logs in.
///
/// # Errors
/// [`UpstreamError`].
pub(super) async fn connect(
    session: &Arc<Session>,
    wanted: &Wanted,
) -> Result<Upstream, UpstreamError> {
    let trust = recognition::trust_of(session, &[])?;
    let mut stream = session.dial().await.map_err(UpstreamError::Dial)?;
    let recognising = async {
        let greeting = greeted(&mut stream).await?;
        let answer = answer(&greeting, wanted, session.id());
        let (stream, trust, sequence) = match trust {
            Trust::Plaintext => (Either::Left(stream), Trust::Plaintext, 1),
            Trust::Tls(tls) => {
                ask_for_tls(&mut stream, &greeting, &answer).await?;
                let (stream, settled) = recognition::introduce(session, stream, &tls).await?;
                (Either::Right(stream), Trust::Tls(settled), 2)
            }
        };
        Ok::<_, UpstreamError>((stream, trust, sequence, greeting, answer))
    };
    let (stream, trust, sequence, greeting, answer) = timeout(TARGET_ANSWER_TIME, recognising)
        .await
        .map_err(|_| UpstreamError::TimedOut { what: "speak TLS" })??;
    let Some(CredentialContent::Password { user, password }) = session.take_credential() else {
        return Err(UpstreamError::NoPassword);
    };
    // A user made for this session, or the account itself.
    let account = || session.permit().terms().question.account.name.to_string();
    let user = user.unwrap_or_else(account);
    let answer = Answer {
        user: user.clone(),
        ..answer
    };
    let mut channel = Channel::new(stream, sequence);
    let is_encrypted = matches!(trust, Trust::Tls(_));
    let is_read_only = session.is_read_only();
    let logging_in = async {
        let status = channel
            .log_in(&greeting, answer, &password, is_encrypted)
            .await?;
        match is_read_only {
            true => channel.keep_from_writing().await,
            false => Ok(status),
        }
    };
    let status = timeout(TARGET_ANSWER_TIME, logging_in)
        .await
        .map_err(|_| UpstreamError::TimedOut { what: "log in" })??;
    Ok(Upstream {
        stream: channel.stream,
        rest: channel.buffer,
        status,
        stopper: Stopper {
            way: session.way_to_stop(),
            trust,
            user,
            password,
            connection: greeting.connection,
        },
    })
}

/// Reads a server's greeting, and nothing that follows it: that may belong to TLS.
async fn greeted<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Greeting, UpstreamError> {
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header).await?;
    let header = codec::header(&header).ok_or(CodecError::Body)?;
    if header.payload > LOGIN_BYTES_MAX {
        return Err(CodecError::TooLong.into());
    }
    let mut payload = vec![0; header.payload];
    stream.read_exact(&mut payload).await?;
    if payload.first() == Some(&ERROR) {
        return Err(refused(&payload));
    }
    let greeting = Greeting::read(&payload)?;
    let capabilities = greeting.capabilities;
    match capabilities & capability::NEEDED_OF_TARGETS == capability::NEEDED_OF_TARGETS {
        true => Ok(greeting),
        false => Err(UpstreamError::TooOld { capabilities }),
    }
}

/// Says that transactions of a session write nothing, unless they say otherwise.
pub(super) const READ_ONLY: &str = "SET SESSION TRANSACTION READ ONLY";

/// What the gateway answers to a greeting; without user and proof.
fn answer(greeting: &Greeting, wanted: &Wanted, session_id: &SessionId) -> Answer {
    const MADE_OF_OLD: u32 = capability::PROTOCOL_41
        | capability::SECURE_CONNECTION
        | capability::PLUGIN_AUTH
        | capability::SESSION_TRACK
        | capability::MYSQL;
    let offered = capability::CONNECT_ATTRIBUTES | capability::PLUGIN_AUTH_LENENC;
    let mut capabilities = wanted.capabilities & capability::PASSED_ON | offered;
    capabilities &= greeting.capabilities;
    capabilities |= MADE_OF_OLD;
    if wanted.database.is_some() {
        capabilities |= capability::CONNECT_WITH_DB;
    }
    // MariaDB has collations of its own where MySQL has its newest, and takes an unknown one for another.
    let collation = match wanted.collation {
        255 if greeting.is_mariadb() => login::UTF8MB4,
        collation => collation,
    };
    let attribute = |name: &str, value: String| (name.to_owned(), value);
    Answer {
        capabilities,
        collation,
        database: wanted.database.clone(),
        attributes: vec![
            attribute("_client_name", "sallyport".to_owned()),
            attribute(
                "program_name",
                format!("sallyport:{session_id} {}", wanted.program),
            ),
            attribute("sallyport_session", session_id.to_string()),
        ],
        ..Answer::default()
    }
}

/// Asks a server to begin TLS. It says nothing to it, and begins.
async fn ask_for_tls<S: AsyncWrite + Unpin>(
    stream: &mut S,
    greeting: &Greeting,
    answer: &Answer,
) -> Result<(), UpstreamError> {
    if greeting.capabilities & capability::TLS == 0 {
        return Err(UpstreamError::TlsRefused);
    }
    let request = Answer {
        capabilities: answer.capabilities | capability::TLS,
        collation: answer.collation,
        ..Answer::default()
    };
    let mut out = BytesMut::new();
    request.put_tls_request(&mut out, 1)?;
    stream.write_all(&out).await?;
    stream.flush().await?;
    Ok(())
}

fn refused(payload: &[u8]) -> UpstreamError {
    UpstreamError::Refused {
        number: codec::server_error(payload).number,
    }
}

/// Whole packets to and from a target that nobody else talks to yet.
struct Channel<S> {
    stream: S,
    buffer: BytesMut,
    /// The number of the next packet.
    sequence: u8,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Channel<S> {
    fn new(stream: S, sequence: u8) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            sequence,
        }
    }

    async fn send(&mut self, write: impl FnOnce(&mut BytesMut)) -> Result<(), UpstreamError> {
        let mut out = BytesMut::new();
        put_packet(&mut out, self.sequence, write)?;
        self.sequence = self.sequence.wrapping_add(1);
        self.stream.write_all(&out).await?;
        self.stream.flush().await?;
        Ok(())
    }

    async fn next(&mut self) -> Result<Packet, UpstreamError> {
        loop {
            let taken = codec::take_packet(&mut self.buffer, self.sequence, LOGIN_BYTES_MAX)?;
            if let Some(packet) = taken {
                self.sequence = packet.sequence.wrapping_add(1);
                return Ok(packet);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    /// Has the target keep the session from writing; returns its status.
    async fn keep_from_writing(&mut self) -> Result<u16, UpstreamError> {
        const QUERY: u8 = 3;
        self.sequence = 0;
        self.send(|body| {
            body.put_u8(QUERY);
            body.put_slice(READ_ONLY.as_bytes());
        })
        .await?;
        let packet = self.next().await?;
        let payload = packet.payload();
        match payload.first() {
            Some(&OK) => Ok(codec::success(&payload)?.status),
            Some(&ERROR) => Err(refused(&payload)),
            _ => Err(UpstreamError::Unexpected),
        }
    }

    /// Proves the account, until the target says that it is content; returns its status.
    async fn log_in(
        &mut self,
        greeting: &Greeting,
        answer: Answer,
        password: &Sensitive,
        is_encrypted: bool,
    ) -> Result<u16, UpstreamError> {
        const SWITCH: u8 = 0xfe;
        const MORE: u8 = 1;
        // Known by heart to the server: it is content, and says so next.
        const FAST: &[u8] = &[3];
        const SEND_PASSWORD: &[u8] = &[4];
        let password = password.expose().as_bytes();
        // What a server would like to have in clear it has to ask for.
        let mut plugin = match greeting.plugin.as_str() {
            CACHING_SHA2 => CACHING_SHA2,
            _ => NATIVE,
        }
        .to_owned();
        let mut out = BytesMut::new();
        let tls = if is_encrypted { capability::TLS } else { 0 };
        Answer {
            capabilities: answer.capabilities | tls,
            proof: proof(&plugin, &greeting.challenge, password, is_encrypted)?,
            plugin: plugin.clone(),
            ..answer
        }
        .put(&mut out, self.sequence)?;
        self.sequence = self.sequence.wrapping_add(1);
        self.stream.write_all(&out).await?;
        self.stream.flush().await?;
        for _ in 0..LOGIN_PACKETS_MAX {
            let packet = self.next().await?;
            let payload = packet.payload();
            match payload.first() {
                Some(&OK) => {
                    let success = codec::success(&payload)?;
                    let is_plain = success
                        .changes()?
                        .character_set
                        .is_none_or(login::is_plain_character_set);
                    return match is_plain {
                        true => Ok(success.status),
                        false => Err(UpstreamError::Encoding),
                    };
                }
                Some(&ERROR) => return Err(refused(&payload)),
                Some(&SWITCH) => {
                    let mut body = Body::new(payload.get(1..).unwrap_or_default());
                    plugin = String::from_utf8_lossy(body.text().unwrap_or_default()).into_owned();
                    let challenge = body.rest();
                    let challenge = challenge.strip_suffix(&[0]).unwrap_or(challenge);
                    let proof = proof(&plugin, challenge, password, is_encrypted)?;
                    self.send(|body| body.put_slice(&proof)).await?;
                }
                Some(&MORE) if plugin == CACHING_SHA2 => match payload.get(1..) {
                    Some(FAST) => {}
                    Some(SEND_PASSWORD) => {
                        let proof = proof(CLEAR, &[], password, is_encrypted)?;
                        self.send(|body| body.put_slice(&proof)).await?;
                    }
                    _ => return Err(UpstreamError::Unexpected),
                },
                _ => return Err(UpstreamError::Unexpected),
            }
        }
        Err(UpstreamError::Unexpected)
    }
}

/// What proves the password in this way.
fn proof(
    plugin: &str,
    challenge: &[u8],
    password: &[u8],
    is_encrypted: bool,
) -> Result<Vec<u8>, UpstreamError> {
    match plugin {
        NATIVE if password.is_empty() => Ok(Vec::new()),
        NATIVE => Ok(scramble::native(password, challenge)),
        CACHING_SHA2 => Ok(scramble::caching_sha2(password, challenge)),
        // The target has proven who it is, and nobody else hears it. Never by RSA in clear: whose key that
        // is nobody knows.
        CLEAR | SHA256 if is_encrypted => Ok([password, &[0]].concat()),
        _ => Err(UpstreamError::Plugin {
            plugin: plugin.chars().take(64).collect(),
        }),
    }
}

/// What is to be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kill {
    /// What the connection runs.
    Query,
    /// The connection, too.
    Connection,
}

/// Asks a target to stop what it does for a session, over a connection of its own.
#[derive(Debug)]
pub(super) struct Stopper {
    way: WayToStop,
    trust: Trust,
    user: String,
    password: Sensitive,
    /// The target's number of the session's connection.
    connection: u32,
}

impl Stopper {
    /// The target's number of the session's connection.
    pub(super) const fn connection(&self) -> u32 {
        self.connection
    }

    /// One whose target nobody answers at.
    #[cfg(test)]
    pub(super) fn of_nobody(connection: u32) -> Self {
        Self {
            way: WayToStop::new("127.0.0.1:1".to_owned(), KILL_TIME),
            trust: Trust::Plaintext,
            user: "app".to_owned(),
            password: Sensitive::new(String::new()),
            connection,
        }
    }

    /// Asks, and waits until the target has done it. Also after the session's end: what still runs must
    /// not go on.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub(super) async fn ask(&self, kill: Kill) -> Result<(), UpstreamError> {
        let asking = async {
            let mut stream = self.way.dial().await.map_err(UpstreamError::Dial)?;
            let greeting = greeted(&mut stream).await?;
            let answer = self.answer(&greeting);
            match &self.trust {
                Trust::Plaintext => {
                    let channel = Channel::new(stream, 1);
                    self.stop(channel, &greeting, answer, false, kill).await
                }
                Trust::Tls(tls) => {
                    ask_for_tls(&mut stream, &greeting, &answer).await?;
                    let channel = Channel::new(recognition::shake(stream, tls).await?, 2);
                    self.stop(channel, &greeting, answer, true, kill).await
                }
            }
        };
        timeout(KILL_TIME, asking)
            .await
            .map_err(|_| UpstreamError::TimedOut { what: "stop" })?
    }

    fn answer(&self, greeting: &Greeting) -> Answer {
        Answer {
            capabilities: capability::PROTOCOL_41
                | capability::SECURE_CONNECTION
                | capability::PLUGIN_AUTH
                | capability::SESSION_TRACK
                | capability::MYSQL
                | greeting.capabilities & capability::PLUGIN_AUTH_LENENC,
            collation: login::UTF8MB4,
            user: self.user.clone(),
            ..Answer::default()
        }
    }

    async fn stop<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut channel: Channel<S>,
        greeting: &Greeting,
        answer: Answer,
        is_encrypted: bool,
        kill: Kill,
    ) -> Result<(), UpstreamError> {
        const QUERY: u8 = 3;
        channel
            .log_in(greeting, answer, &self.password, is_encrypted)
            .await?;
        let what = match kill {
            Kill::Query => "KILL QUERY",
            Kill::Connection => "KILL CONNECTION",
        };
        let sql = format!("{what} {}", self.connection);
        channel.sequence = 0;
        channel
            .send(|body| {
                body.put_u8(QUERY);
                body.put_slice(sql.as_bytes());
            })
            .await?;
        let packet = channel.next().await?;
        match packet.payload().first() {
            Some(&OK) => Ok(()),
            Some(&ERROR) => Err(refused(&packet.payload())),
            _ => Err(UpstreamError::Unexpected),
        }
    }
}
