//! The client's end of a connection, from its first byte to its startup message, and whole messages until
//! a session exists.
//!
//! INVARIANT: nothing that came before TLS is taken for something that came inside it (security class G1),
//! and nothing but a cancel key is taken in clear.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{BufMut as _, BytesMut};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    codec::{self, CancelKey, CodecError, FirstMessage, Report, STARTUP_BYTES_MAX, Startup},
    wording,
};
use crate::stream::ClientStream;

/// First byte of a TLS record that begins a handshake (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// Why a client's connection ended before its session.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// It broke.
    #[error("talk to the client")]
    Io(#[from] io::Error),
    /// What it sent is no message.
    #[error("read the client's message")]
    Message(#[from] CodecError),
    /// It sent something where TLS had to begin.
    #[error("begin TLS with a client that does not wait for it")]
    BeforeTls,
    /// It speaks no TLS.
    #[error("serve a client that asks for no TLS")]
    NoTls,
    /// It began TLS directly and named another protocol inside, or none.
    #[error("begin TLS with a client that does not name `postgresql`")]
    Alpn,
    /// It said something that has no place there.
    #[error("follow a client that says `{kind}` before it is let in")]
    Unexpected {
        /// The kind of its message.
        kind: char,
    },
}

/// What a connection turned out to be.
pub(super) enum Entry {
    /// Somebody who wants a session.
    Client(Box<Client>, Startup),
    /// Somebody who shows a key.
    Cancel(CancelKey),
    /// Somebody who looked and left.
    Nobody,
}

/// A stream some of whose bytes were read already.
pub(super) struct Prefixed {
    prefix: BytesMut,
    stream: ClientStream,
}

impl AsyncRead for Prefixed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.prefix.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buffer);
        }
        let count = this.prefix.len().min(buffer.remaining());
        buffer.put_slice(&this.prefix.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Finds out what a connection is.
///
/// # Errors
/// [`ClientError`]; the client was told where it can understand it.
pub(super) async fn enter(
    mut stream: ClientStream,
    tls: &Arc<ServerConfig>,
) -> Result<Entry, ClientError> {
    let mut buffer = BytesMut::new();
    let mut asked_for_gss = false;
    loop {
        if buffer.first() == Some(&TLS_HANDSHAKE) {
            return inside(stream, buffer, tls, true).await;
        }
        let Some(message) = first_of(&mut stream, &mut buffer).await? else {
            return Ok(Entry::Nobody);
        };
        if message.is_empty() {
            continue;
        }
        match codec::first_message(&message)? {
            FirstMessage::SslRequest if buffer.is_empty() => {
                stream.write_all(b"S").await?;
                return inside(stream, buffer, tls, false).await;
            }
            FirstMessage::GssRequest if buffer.is_empty() && !asked_for_gss => {
                asked_for_gss = true;
                stream.write_all(b"N").await?;
            }
            FirstMessage::SslRequest | FirstMessage::GssRequest => {
                return Err(ClientError::BeforeTls);
            }
            FirstMessage::Cancel(key) => return Ok(Entry::Cancel(key)),
            FirstMessage::Startup(_) => {
                let mut out = BytesMut::new();
                wording::TLS_REQUIRED.put(&mut out)?;
                stream.write_all(&out).await?;
                stream.shutdown().await?;
                return Err(ClientError::NoTls);
            }
        }
    }
}

/// The whole first message at the front; empty when TLS begins there, nothing when the client left.
async fn first_of<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut BytesMut,
) -> Result<Option<BytesMut>, ClientError> {
    loop {
        if buffer.first() == Some(&TLS_HANDSHAKE) {
            return Ok(Some(BytesMut::new()));
        }
        if let Some(length) = codec::first_length(buffer)?
            && buffer.len() >= length
        {
            return Ok(Some(buffer.split_to(length)));
        }
        let room = STARTUP_BYTES_MAX.saturating_sub(buffer.len()).max(1);
        if stream.read_buf(&mut (&mut *buffer).limit(room)).await? == 0 {
            return Ok(None);
        }
    }
}

/// Speaks TLS, and reads the first message inside.
async fn inside(
    stream: ClientStream,
    prefix: BytesMut,
    tls: &Arc<ServerConfig>,
    is_direct: bool,
) -> Result<Entry, ClientError> {
    let acceptor = TlsAcceptor::from(Arc::clone(tls));
    let mut stream = acceptor.accept(Prefixed { prefix, stream }).await?;
    let (_, connection) = stream.get_ref();
    if is_direct && connection.alpn_protocol() != Some(super::ALPN) {
        return Err(ClientError::Alpn);
    }
    let mut buffer = BytesMut::new();
    let Some(message) = first_of(&mut stream, &mut buffer).await? else {
        return Ok(Entry::Nobody);
    };
    match codec::first_message(&message)? {
        FirstMessage::Startup(startup) => {
            Ok(Entry::Client(Box::new(Client { stream, buffer }), startup))
        }
        FirstMessage::Cancel(key) => Ok(Entry::Cancel(key)),
        FirstMessage::SslRequest | FirstMessage::GssRequest => Err(ClientError::BeforeTls),
    }
}

/// A client inside TLS that has no session yet.
pub(super) struct Client {
    pub(super) stream: TlsStream<Prefixed>,
    pub(super) buffer: BytesMut,
}

impl Client {
    /// Sends bytes at once.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// Says something: an error or a notice.
    pub(super) async fn say(&mut self, report: &Report<'_>) -> Result<(), ClientError> {
        let mut out = BytesMut::new();
        report.put(&mut out)?;
        self.send(&out).await
    }

    /// Says why not, and closes.
    pub(super) async fn part(mut self: Box<Self>, report: &Report<'_>) -> Result<(), ClientError> {
        self.say(report).await?;
        self.stream.shutdown().await?;
        Ok(())
    }

    /// The next message, at most `limit` bytes long; nothing when the client left.
    pub(super) async fn next(
        &mut self,
        limit: usize,
    ) -> Result<Option<(u8, BytesMut)>, ClientError> {
        loop {
            if let Some(header) = codec::header(&self.buffer)? {
                if header.bytes > limit {
                    return Err(CodecError::TooLong.into());
                }
                if self.buffer.len() >= header.bytes {
                    return Ok(Some((header.kind, self.buffer.split_to(header.bytes))));
                }
            }
            let mut room = (&mut self.buffer).limit(limit);
            if self.stream.read_buf(&mut room).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Resolves when the client leaves, or says anything, which it must not while it waits.
    pub(super) async fn left(&mut self) -> ClientError {
        match self.next(16).await {
            Ok(Some((kind, _))) => ClientError::Unexpected {
                kind: char::from(kind),
            },
            Ok(None) => io::Error::from(io::ErrorKind::UnexpectedEof).into(),
            Err(error) => error,
        }
    }
}

/// Appends a request for authentication.
pub(super) fn put_authentication(out: &mut BytesMut, code: u32) -> Result<(), CodecError> {
    codec::message(out, b'R', |body| body.put_u32(code))
}
