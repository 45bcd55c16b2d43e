//! The target's side: TLS with a proven identity, login with the injected credential, and asking it to
//! stop.
//!
//! INVARIANT: the credential is used only after the target's identity was found to be an accepted one, and
//! nothing that a target says while logging in reaches the person but its SQLSTATE.
//!
//! Not here: dialling (`session`), moving messages (`relay`).

use std::sync::Arc;

use aws_lc_rs::rand;
use bytes::{Buf as _, BufMut as _, BytesMut};
use sallyport_api::{gateway::CredentialContent, sensitive::Sensitive};
use sallyport_core::{authz::Reason, session::EndReason};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use zeroize::Zeroizing;

use sallyport_wire::{
    scram::{self, Binding, Exchange, ScramError},
    trust::{self, TlsTrust, Trust},
};

use super::{
    super::recognition::{self, RecognitionError},
    ALPN,
    codec::{self, Body, CancelKey, CodecError},
    limits::{CANCEL_TIME, LOGIN_BYTES_MAX, LOGIN_MESSAGES_MAX, TARGET_ANSWER_TIME},
};
use crate::{
    dial::{DialError, WayToStop},
    session::Session,
    stream::TargetStream,
};

/// A connection to a target, encrypted unless an owner said that it cannot be.
pub(super) type TargetIo = Either<TargetStream, TlsStream<TargetStream>>;

/// Rounds of hashing that are done without leaving the task.
const ITERATIONS_INLINE_MAX: u32 = 16_384;

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
    #[error("speak TLS with a target that refuses it")]
    TlsRefused,
    /// It is not recognised.
    #[error(transparent)]
    Recognition(#[from] RecognitionError),
    /// Its message is none.
    #[error("read the target's message")]
    Message(#[from] CodecError),
    /// It said something that has no place in a login.
    #[error("follow a target that says `{kind}` while logging in")]
    Unexpected {
        /// The kind of its message.
        kind: char,
    },
    /// There is no password to log in with: it was used already, or the credential is of another kind.
    #[error("log in without a password")]
    NoPassword,
    /// It asks for a proof that is never given.
    #[error("log in to a target that asks for authentication {code}")]
    Method {
        /// The protocol's number of the method.
        code: u32,
    },
    /// It offers no mechanism that we speak.
    #[error("log in to a target that offers no SCRAM-SHA-256")]
    Mechanism,
    /// The exchange failed.
    #[error("log in by SCRAM")]
    Scram(#[from] ScramError),
    /// It let us in before it proved that it knows the password.
    #[error("believe a target that broke off its own proof")]
    Unproven,
    /// It said no.
    #[error("log in to a target that refuses with `{sqlstate}`")]
    Refused {
        /// Its code.
        sqlstate: String,
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

/// A target that is logged in to.
pub(super) struct Upstream {
    pub(super) stream: TargetIo,
    /// What it sent after it was ready.
    pub(super) rest: BytesMut,
    /// The settings it reported and what else it said, as it sent them.
    pub(super) greeting: BytesMut,
    /// How to ask it to stop.
    pub(super) stopper: Option<Stopper>,
    /// Status of its transaction, as it said when it was ready.
    pub(super) status: u8,
}

/// Connects, recognises the target and logs in.
///
/// # Errors
/// [`UpstreamError`].
pub(super) async fn connect(
    session: &Arc<Session>,
    parameters: &[(String, String)],
) -> Result<Upstream, UpstreamError> {
    let trust = recognition::trust_of(session, &[ALPN])?;
    let stream = session.dial().await.map_err(UpstreamError::Dial)?;
    let (stream, trust) = timeout(TARGET_ANSWER_TIME, recognise(session, stream, trust))
        .await
        .map_err(|_| UpstreamError::TimedOut { what: "speak TLS" })??;
    let (user, password) = match session.take_credential() {
        Some(CredentialContent::Password { user, password }) => (user, Some(password)),
        Some(CredentialContent::PrivateKey { .. }) | None => (None, None),
    };
    let login = Login {
        channel: Channel {
            stream,
            buffer: BytesMut::new(),
        },
        password,
    };
    let parameters = as_user(parameters, user);
    timeout(TARGET_ANSWER_TIME, login.run(session, trust, &parameters))
        .await
        .map_err(|_| UpstreamError::TimedOut { what: "log in" })?
}

/// The parameters of a connection as the user that the credential is for.
fn as_user(parameters: &[(String, String)], user: Option<String>) -> Vec<(String, String)> {
    let mut parameters = parameters.to_vec();
    if let Some(user) = user
        && let Some((_, value)) = parameters.iter_mut().find(|(name, _)| name == "user")
    {
        *value = user;
    }
    parameters
}

/// Speaks TLS, as far as the target's identity calls for it.
async fn recognise(
    session: &Session,
    stream: TargetStream,
    trust: Trust,
) -> Result<(TargetIo, Trust), UpstreamError> {
    match trust {
        Trust::Plaintext => Ok((Either::Left(stream), Trust::Plaintext)),
        Trust::Tls(tls) => {
            let stream = ask_for_tls(stream).await?;
            let (stream, settled) = recognition::introduce(session, stream, &tls).await?;
            Ok((Either::Right(stream), Trust::Tls(settled)))
        }
    }
}

async fn handshake<S>(stream: S, tls: &TlsTrust) -> Result<TlsStream<S>, UpstreamError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    Ok(recognition::shake(ask_for_tls(stream).await?, tls).await?)
}

/// Has the target begin TLS.
async fn ask_for_tls<S>(mut stream: S) -> Result<S, UpstreamError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(&codec::ssl_request()).await?;
    // One byte and no more: what else came in clear would be taken for TLS, and fail as such.
    match stream.read_u8().await? {
        b'S' => Ok(stream),
        _ => Err(UpstreamError::TlsRefused),
    }
}

/// Whole messages from a target, while logging in.
struct Channel {
    stream: TargetIo,
    buffer: BytesMut,
}

impl Channel {
    async fn send(&mut self, bytes: &[u8]) -> Result<(), UpstreamError> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// The next message, header included.
    async fn next(&mut self) -> Result<(u8, BytesMut), UpstreamError> {
        loop {
            if let Some(header) = codec::header(&self.buffer)? {
                if header.bytes > LOGIN_BYTES_MAX {
                    return Err(CodecError::TooLong.into());
                }
                if self.buffer.len() >= header.bytes {
                    return Ok((header.kind, self.buffer.split_to(header.bytes)));
                }
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
        }
    }
}

struct Login {
    channel: Channel,
    password: Option<Sensitive>,
}

impl Login {
    async fn run(
        mut self,
        session: &Arc<Session>,
        trust: Trust,
        parameters: &[(String, String)],
    ) -> Result<Upstream, UpstreamError> {
        let startup = codec::startup_message(parameters)?;
        self.channel.send(&startup).await?;
        self.authenticate(&trust).await?;
        let mut greeting = BytesMut::new();
        let mut key = None;
        for _ in 0..LOGIN_MESSAGES_MAX {
            let (kind, message) = self.channel.next().await?;
            let mut body = Body::of(&message);
            match kind {
                b'S' | b'N' => greeting.extend_from_slice(&message),
                b'K' => {
                    key = Some(CancelKey {
                        process: body.u32()?,
                        secret: body.rest().to_vec(),
                    });
                }
                b'Z' => {
                    return Ok(Upstream {
                        status: body.byte()?,
                        stopper: key.map(|key| Stopper {
                            way: session.way_to_stop(),
                            trust,
                            key,
                        }),
                        stream: self.channel.stream,
                        rest: self.channel.buffer,
                        greeting,
                    });
                }
                b'E' => return Err(refused(body)),
                kind => return Err(unexpected(kind)),
            }
            if greeting.len() > LOGIN_BYTES_MAX {
                return Err(CodecError::TooLong.into());
            }
        }
        Err(CodecError::TooLong.into())
    }

    /// Proves the account, until the target says that it is content.
    async fn authenticate(&mut self, trust: &Trust) -> Result<(), UpstreamError> {
        const OK: u32 = 0;
        const CLEARTEXT: u32 = 3;
        const SASL: u32 = 10;
        for _ in 0..LOGIN_MESSAGES_MAX {
            let (kind, message) = self.channel.next().await?;
            let mut body = Body::of(&message);
            match kind {
                b'N' => {}
                b'E' => return Err(refused(body)),
                b'R' => match body.u32()? {
                    OK => return Ok(()),
                    // The target has proven who it is, and nobody else hears it.
                    CLEARTEXT if matches!(trust, Trust::Tls(_)) => self.send_password().await?,
                    SASL => self.scram(body).await?,
                    code => return Err(UpstreamError::Method { code }),
                },
                kind => return Err(unexpected(kind)),
            }
        }
        Err(CodecError::TooLong.into())
    }

    async fn send_password(&mut self) -> Result<(), UpstreamError> {
        let password = self.password.take().ok_or(UpstreamError::NoPassword)?;
        let text = password.expose().as_bytes();
        let length = text.len().checked_add(5).ok_or(CodecError::TooLong)?;
        let mut message = Zeroizing::new(Vec::with_capacity(length.saturating_add(1)));
        message.put_u8(b'p');
        message.put_u32(u32::try_from(length).map_err(|_| CodecError::TooLong)?);
        message.put_slice(text);
        message.put_u8(0);
        self.channel.send(&message).await
    }

    async fn scram(&mut self, mut offered: Body<'_>) -> Result<(), UpstreamError> {
        let password = self.password.take().ok_or(UpstreamError::NoPassword)?;
        let (mut has_plus, mut has_plain) = (false, false);
        loop {
            match offered.utf8()? {
                "" => break,
                scram::MECHANISM_PLUS => has_plus = true,
                scram::MECHANISM => has_plain = true,
                _ => {}
            }
        }
        let binding = match (self.end_point(), has_plus) {
            (Some(hash), true) => Binding::EndPoint(hash),
            (Some(_), false) => Binding::NotOffered,
            (None, _) => Binding::Impossible,
        };
        if !has_plain && !matches!(binding, Binding::EndPoint(_)) {
            return Err(UpstreamError::Mechanism);
        }
        let mut nonce = [0_u8; 18];
        rand::fill(&mut nonce).map_err(|_| UpstreamError::Mechanism)?;
        let exchange = Exchange::new(binding, &nonce);
        let first = exchange.first();
        let mut message = BytesMut::new();
        let length = i32::try_from(first.len()).map_err(|_| CodecError::TooLong)?;
        codec::message(&mut message, b'p', |body| {
            codec::put_text(body, exchange.mechanism());
            body.put_i32(length);
            body.put_slice(first.as_bytes());
        })?;
        self.channel.send(&message).await?;

        let challenge = exchange.challenge(&self.sasl(11).await?)?;
        let (challenge, salted) = match challenge.iterations.get() {
            0..=ITERATIONS_INLINE_MAX => {
                let salted = challenge.hash(password.expose());
                (challenge, salted)
            }
            // Other connections are served meanwhile.
            _ => tokio::task::spawn_blocking(move || {
                let salted = challenge.hash(password.expose());
                (challenge, salted)
            })
            .await
            .map_err(|_| UpstreamError::TimedOut {
                what: "hash a password",
            })?,
        };
        let (last, unproven) = exchange.answer(&challenge, &salted);
        let mut message = BytesMut::new();
        codec::message(&mut message, b'p', |body| body.put_slice(last.as_bytes()))?;
        self.channel.send(&message).await?;
        unproven.check(&self.sasl(12).await?)?;
        Ok(())
    }

    /// The target's next message of the exchange, which must be of this number.
    async fn sasl(&mut self, expected: u32) -> Result<Vec<u8>, UpstreamError> {
        let (kind, mut message) = self.channel.next().await?;
        let mut body = Body::of(&message);
        match kind {
            b'E' => Err(refused(body)),
            b'R' => match body.u32()? {
                code if code == expected => {
                    message.advance(codec::HEADER_BYTES.saturating_add(4));
                    Ok(message.to_vec())
                }
                0 => Err(UpstreamError::Unproven),
                code => Err(UpstreamError::Method { code }),
            },
            kind => Err(unexpected(kind)),
        }
    }

    fn end_point(&self) -> Option<Vec<u8>> {
        let Either::Right(stream) = &self.channel.stream else {
            return None;
        };
        let (_, connection) = stream.get_ref();
        trust::end_point(connection.peer_certificates()?.first()?)
    }
}

fn refused(body: Body<'_>) -> UpstreamError {
    UpstreamError::Refused {
        sqlstate: codec::server_error(body).sqlstate,
    }
}

fn unexpected(kind: u8) -> UpstreamError {
    UpstreamError::Unexpected {
        kind: char::from(kind),
    }
}

/// Asks a target to stop what it does for a session, over a connection of its own.
#[derive(Debug)]
pub(super) struct Stopper {
    way: WayToStop,
    trust: Trust,
    key: CancelKey,
}

impl Stopper {
    /// One whose target nobody answers at.
    #[cfg(test)]
    pub(super) fn of_nobody() -> Self {
        Self {
            way: WayToStop::new("127.0.0.1:1".to_owned(), CANCEL_TIME),
            trust: Trust::Plaintext,
            key: CancelKey {
                process: 1,
                secret: vec![1; 4],
            },
        }
    }

    /// Asks, and waits until the target has heard it. Also after the session's end: what still runs must
    /// not go on.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub(super) async fn ask(&self) -> Result<(), UpstreamError> {
        timeout(CANCEL_TIME, async {
            let request = codec::cancel_request(&self.key)?;
            let stream = self.way.dial().await.map_err(UpstreamError::Dial)?;
            match &self.trust {
                Trust::Plaintext => send_and_leave(stream, &request).await,
                Trust::Tls(tls) => send_and_leave(handshake(stream, tls).await?, &request).await,
            }
        })
        .await
        .map_err(|_| UpstreamError::TimedOut { what: "stop" })?
    }
}

async fn send_and_leave<S>(mut stream: S, bytes: &[u8]) -> Result<(), UpstreamError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(bytes).await?;
    stream.flush().await?;
    // The target closes once it has passed the request on.
    let mut rest = [0_u8; 64];
    let _ = stream.read(&mut rest).await;
    Ok(())
}
