//! Streams that can be cut from outside: however a protocol is written, its connection ends when it
//! must.
//!
//! INVARIANT: once the token is cancelled, no byte is read from or written to the stream.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Most that is read at once.
pub(crate) const READ_BYTES: usize = 64 * 1024;
/// Least that is read at once.
pub(crate) const READ_BYTES_MIN: usize = 4 * 1024;

/// A client's connection.
pub type ClientStream = CutStream<TcpStream>;
/// A connection to a target.
pub type TargetStream = CutStream<TcpStream>;

/// A stream that a token cuts.
#[derive(Debug)]
pub struct CutStream<S> {
    stream: S,
    token: CancellationToken,
    cut_read: Pin<Box<WaitForCancellationFutureOwned>>,
    cut_write: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<S> CutStream<S> {
    /// A stream that ends when `token` is cancelled.
    #[must_use]
    pub fn new(stream: S, token: CancellationToken) -> Self {
        Self {
            stream,
            cut_read: Box::pin(token.clone().cancelled_owned()),
            cut_write: Box::pin(token.clone().cancelled_owned()),
            token,
        }
    }
}

fn cut() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "the connection was cut by the gateway",
    )
}

impl<S: AsyncRead + Unpin> AsyncRead for CutStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.token.is_cancelled() {
            return Poll::Ready(Err(cut()));
        }
        match Pin::new(&mut this.stream).poll_read(cx, buffer) {
            // Only a reader that waits needs to hear of the cut.
            Poll::Pending => this.cut_read.as_mut().poll_cut(cx),
            ready @ Poll::Ready(_) => ready,
        }
    }
}

/// Waiting for the cut while waiting for the peer.
trait PollCut {
    fn poll_cut<T>(self, cx: &mut Context<'_>) -> Poll<io::Result<T>>;
}

impl PollCut for Pin<&mut WaitForCancellationFutureOwned> {
    fn poll_cut<T>(self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        std::future::Future::poll(self, cx).map(|()| Err(cut()))
    }
}

impl<S: AsyncWrite + Unpin> CutStream<S> {
    fn poll_unless_cut<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.token.is_cancelled() {
            return Poll::Ready(Err(cut()));
        }
        match poll(Pin::new(&mut self.stream), cx) {
            Poll::Pending => self.cut_write.as_mut().poll_cut(cx),
            ready @ Poll::Ready(_) => ready,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for CutStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_unless_cut(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_unless_cut(cx, |stream, cx| stream.poll_write_vectored(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_unless_cut(cx, |stream, cx| stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_unless_cut(cx, |stream, cx| stream.poll_shutdown(cx))
    }
}

/// Reads more into a buffer: much at once while much comes, and holding little while nothing does. `want`
/// is what is read at once, from [`READ_BYTES_MIN`] to [`READ_BYTES`].
pub(crate) async fn fill<R: AsyncRead + Unpin>(
    stream: &mut R,
    buffer: &mut BytesMut,
    want: &mut usize,
) -> io::Result<usize> {
    if buffer.is_empty() && buffer.capacity() > *want {
        *buffer = BytesMut::new();
    }
    buffer.reserve(*want);
    let count = stream.read_buf(buffer).await?;
    *want = match count.saturating_mul(2) >= *want {
        true => want.saturating_mul(2).min(READ_BYTES),
        false => (*want / 2).max(READ_BYTES_MIN),
    };
    Ok(count)
}
