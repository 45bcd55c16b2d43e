//! The client's end of a connection: the greeting, TLS, its answer, its pass, and whole packets until a
//! session exists.
//!
//! INVARIANT: nothing that came before TLS is taken for something that came inside it (security class G1):
//! of what is said in clear exactly the request for TLS is read. A password is asked for inside TLS only.

use std::{io, sync::Arc};

use aws_lc_rs::rand;
use bytes::{BufMut as _, BytesMut};
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    codec::{self, Body, CodecError, HEADER_BYTES, Report, put_packet, put_text},
    limits::{LOGIN_BYTES_MAX, PASSWORD_BYTES_MAX},
    login::{self, Answer, CHALLENGE_BYTES, Greeting},
    wording,
};
use crate::stream::ClientStream;

/// The way of proving a password that stock clients follow to the end inside TLS, where it sends the
/// password itself.
const SHA2: &str = "caching_sha2_password";
/// The way that sends nothing but the password; clients have to be told to.
const CLEAR: &str = "mysql_clear_password";

/// Why a client's connection ended before its session.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// It broke.
    #[error("talk to the client")]
    Io(#[from] io::Error),
    /// What it sent is no packet, or has no place there.
    #[error("read the client's packet")]
    Packet(#[from] CodecError),
    /// It speaks no TLS.
    #[error("serve a client that asks for no TLS")]
    NoTls,
    /// There is no randomness for its challenge.
    #[error("make a challenge for the client")]
    Entropy,
}

/// A client inside TLS that has no session yet.
pub(super) struct Client {
    pub(super) stream: TlsStream<ClientStream>,
    pub(super) buffer: BytesMut,
    /// The number of the next packet.
    sequence: u8,
    challenge: [u8; CHALLENGE_BYTES],
}

/// A challenge whose bytes no client takes for the end of one.
fn challenge() -> Result<[u8; CHALLENGE_BYTES], ClientError> {
    let mut challenge = [0; CHALLENGE_BYTES];
    rand::fill(&mut challenge).map_err(|_| ClientError::Entropy)?;
    Ok(challenge.map(|byte| b'0'.saturating_add(byte % 64)))
}

/// Greets a client under this number, speaks TLS, and reads its answer; nothing when it looked and left.
///
/// # Errors
/// [`ClientError`]; the client was told where it can understand it.
pub(super) async fn enter(
    mut stream: ClientStream,
    tls: &Arc<ServerConfig>,
    connection: u32,
) -> Result<Option<(Box<Client>, Answer)>, ClientError> {
    let challenge = challenge()?;
    let mut out = BytesMut::new();
    Greeting::put(connection, &challenge, SHA2, &mut out)?;
    stream.write_all(&out).await?;
    // Exactly the header and what it announces: what follows it belongs to TLS.
    let mut header = [0; HEADER_BYTES];
    match stream.read_exact(&mut header).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let header = codec::header(&header).ok_or(CodecError::Body)?;
    if header.sequence != 1 {
        let found = header.sequence;
        return Err(CodecError::Sequence { expected: 1, found }.into());
    }
    if header.payload > LOGIN_BYTES_MAX {
        return Err(CodecError::TooLong.into());
    }
    let mut payload = vec![0; header.payload];
    stream.read_exact(&mut payload).await?;
    if !login::asks_for_tls(&payload) {
        let mut out = BytesMut::new();
        wording::TLS_REQUIRED.put(&mut out, 2)?;
        stream.write_all(&out).await?;
        stream.shutdown().await?;
        return Err(ClientError::NoTls);
    }
    let stream = TlsAcceptor::from(Arc::clone(tls)).accept(stream).await?;
    let mut client = Box::new(Client {
        stream,
        buffer: BytesMut::new(),
        sequence: 2,
        challenge,
    });
    let Some(payload) = client.next(LOGIN_BYTES_MAX).await? else {
        return Ok(None);
    };
    match Answer::read(&payload) {
        Ok(answer) => Ok(Some((client, answer))),
        Err(error) => {
            client.part(&wording::NOT_SPOKEN).await?;
            Err(error.into())
        }
    }
}

impl Client {
    /// The payload of the next packet, at most `limit` bytes long; nothing when the client left.
    async fn next(&mut self, limit: usize) -> Result<Option<Vec<u8>>, ClientError> {
        loop {
            if let Some(packet) = codec::take_packet(&mut self.buffer, self.sequence, limit)? {
                self.sequence = packet.sequence.wrapping_add(1);
                return Ok(Some(packet.payload().into_owned()));
            }
            let room = limit.saturating_add(HEADER_BYTES);
            let mut room = (&mut self.buffer).limit(room);
            if self.stream.read_buf(&mut room).await? == 0 {
                return Ok(None);
            }
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// Sends one packet.
    async fn packet(&mut self, write: impl FnOnce(&mut BytesMut)) -> Result<(), ClientError> {
        let mut out = BytesMut::new();
        put_packet(&mut out, self.sequence, write)?;
        self.sequence = self.sequence.wrapping_add(1);
        self.send(&out).await
    }

    /// Lets the client in, with the target's status and words for the person.
    pub(super) async fn welcome(&mut self, status: u16, words: &str) -> Result<(), ClientError> {
        let mut out = BytesMut::new();
        codec::put_success(&mut out, self.sequence, status, words)?;
        self.send(&out).await
    }

    /// Says why not, and closes.
    pub(super) async fn part(&mut self, report: &Report<'_>) -> Result<(), ClientError> {
        let mut out = BytesMut::new();
        report.put(&mut out, self.sequence)?;
        self.send(&out).await?;
        self.stream.shutdown().await?;
        Ok(())
    }

    /// The password of a client that answered this; nothing when it left. Empty when it has none.
    ///
    /// # Errors
    /// [`ClientError`].
    pub(super) async fn password(
        &mut self,
        answer: &Answer,
    ) -> Result<Option<Vec<u8>>, ClientError> {
        // `perform_full_authentication`: the client sends the password itself, because TLS is spoken.
        const SEND_PASSWORD: [u8; 2] = [1, 4];
        const SWITCH: u8 = 0xfe;
        if answer.plugin == CLEAR {
            return Ok(Some(until_zero(&answer.proof)));
        }
        let mut proof = answer.proof.clone();
        if answer.plugin != SHA2 {
            let challenge = self.challenge;
            self.packet(|body| {
                body.put_u8(SWITCH);
                put_text(body, SHA2);
                body.put_slice(&challenge);
                body.put_u8(0);
            })
            .await?;
            let Some(answered) = self.next(PASSWORD_BYTES_MAX).await? else {
                return Ok(None);
            };
            proof = answered;
        }
        // Without a password clients prove nothing, or say so by one zero byte.
        if proof.is_empty() || proof == [0] {
            return Ok(Some(Vec::new()));
        }
        self.packet(|body| body.put_slice(&SEND_PASSWORD)).await?;
        let password = self.next(PASSWORD_BYTES_MAX).await?;
        Ok(password.map(|password| until_zero(&password)))
    }
}

/// A password as it is sent: with its final zero byte.
fn until_zero(bytes: &[u8]) -> Vec<u8> {
    let text = Body::new(bytes).text().unwrap_or(bytes);
    text.to_vec()
}
