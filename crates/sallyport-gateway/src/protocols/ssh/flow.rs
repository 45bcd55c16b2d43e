//! How much a peer may send: reading and windows that follow what the other side takes.
//!
//! russh extends a channel's window as soon as bytes arrive. Waiting for the channel's task at that
//! moment would stop the loop of the whole connection, in both directions, and two sides that wait
//! for each other would never wake up. So its callbacks never wait, and two other things hold peers
//! back:
//!
//! - A target's connection carries one channel, as a rule. While too much of it waits, the connection is not
//!   read ([`Valve::close`]): TCP holds the target back, and nobody else notices.
//! - A client's connection carries many. russh asks how large the next window shall be, one size for
//!   all channels. While a channel does not keep up, that size is [`DRIP_BYTES`]: its sender stops,
//!   except for a byte or two that carry the question whether to go on, and [`Valve::pause`] makes
//!   those rare.
//!
//! INVARIANT: no loop ever waits for a channel, and what a client that keeps to its windows can make
//! us hold is at most [`BACKLOG_BYTES_MAX`] for a connection; one that does not is cut off.
//!
//! Not here: the bytes themselves (`inbox`).

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, BytesMut};
use futures_util::task::AtomicWaker;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};
use tokio_util::io::poll_read_buf;

/// What a client's channel may send before it is taken. OpenSSH's is 2 MiB, topped up after a few
/// packets; russh's is topped up when half is used, so that a distant client gets less out of one of
/// the same size. All of it may have to be held for a target that takes nothing.
pub(super) const WINDOW_BYTES: u32 = 3 * 1024 * 1024;
/// What a target's channel may send before it is taken. OpenSSH's is 2 MiB, topped up after a few
/// packets; russh's is topped up when half is used, so this is the least that gives as much over any
/// distance. No more, because OpenSSH's server reads ahead as far as the window goes, into a buffer that it
/// copies at every quarter of a megabyte: 16 MiB made it copy a gigabyte.
pub(super) const TARGET_WINDOW_BYTES: u32 = 5 * 1024 * 1024;
/// The window of a channel that must wait. The smallest that russh extends again at all: it does so
/// when less than half is left, in whole bytes.
pub(super) const DRIP_BYTES: u32 = 2;
/// What a client's channel may have waiting before it must wait itself. A sender that shares a core with its
/// reader is often this far ahead; more would have to be held, with a window's worth, for a target that
/// takes nothing.
pub(super) const CONGESTED_BYTES: usize = 1280 * 1024;
/// What a target's channel may have waiting before its connection is not read.
pub(super) const HELD_BACK_BYTES: usize = 512 * 1024;
/// What all channels of a connection may have waiting before none gets a full window.
pub(super) const CROWDED_BYTES: usize = 16 * 1024 * 1024;
/// More than this is waiting only when the peer sends more than it was allowed.
pub(super) const BACKLOG_BYTES_MAX: usize = CROWDED_BYTES + 8 * 1024 * 1024;
/// How long a connection is not read after a drip: at first, so that a channel that was congested for a
/// moment goes on soon,
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// and after many in a row, so that one that is stuck costs nothing.
const PAUSE_MAX: Duration = Duration::from_millis(32);
/// Drips are in a row when no more than this is read between them.
const DRIPPING_BYTES: usize = 16 * 1024;

/// What is waiting on a connection, as far as the next window depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Backlog {
    /// Bytes waiting on the channel that was just given a window.
    pub(super) own_bytes: usize,
    /// Bytes waiting on the channel that has most.
    pub(super) largest_bytes: usize,
    /// Bytes waiting on all channels.
    pub(super) total_bytes: usize,
}

impl Backlog {
    /// Sums up a connection: `own` is waiting on the channel in question, `all` on every channel.
    pub(super) fn new(own_bytes: usize, all: impl Iterator<Item = usize>) -> Self {
        let mut backlog = Self {
            own_bytes,
            ..Self::default()
        };
        for bytes in all {
            backlog.largest_bytes = backlog.largest_bytes.max(bytes);
            backlog.total_bytes = backlog.total_bytes.saturating_add(bytes);
        }
        backlog
    }

    /// Whether the channel in question must wait.
    pub(super) const fn is_congested(self) -> bool {
        self.own_bytes > CONGESTED_BYTES
    }

    /// The size of the next window that any channel of the connection is given, after the channel in
    /// question was given `given_bytes`.
    pub(super) const fn next_window_bytes(self, given_bytes: u32) -> u32 {
        if self.is_congested() || self.total_bytes > CROWDED_BYTES {
            DRIP_BYTES
        } else if given_bytes == DRIP_BYTES {
            // Not congested, and it used up its window while others were: its turn.
            WINDOW_BYTES
        } else if self.largest_bytes > CONGESTED_BYTES {
            DRIP_BYTES
        } else {
            WINDOW_BYTES
        }
    }
}

/// Holds back the reading of one connection; writing goes on.
#[derive(Clone, Debug, Default)]
pub(super) struct Valve(Arc<ValveState>);

#[derive(Debug, Default)]
struct ValveState {
    position: AtomicU8,
    reader: AtomicWaker,
}

const OPEN: u8 = 0;
const CLOSED: u8 = 1;
const PAUSED: u8 = 2;

impl Valve {
    /// Nothing is read until [`Valve::open`].
    pub(super) fn close(&self) {
        self.0.position.store(CLOSED, Ordering::Release);
    }

    /// Reading goes on.
    pub(super) fn open(&self) {
        if self.0.position.swap(OPEN, Ordering::AcqRel) == CLOSED {
            self.0.reader.wake();
        }
    }

    /// The next read waits, the longer the more often this was said with little read in between.
    pub(super) fn pause(&self) {
        self.0.position.store(PAUSED, Ordering::Release);
    }
}

/// The least that is read ahead.
const AHEAD_BYTES_MIN: usize = 2 * 1024;
/// The most that is read ahead: a few packets, in one system call.
const AHEAD_BYTES_MAX: usize = 128 * 1024;

/// A stream whose reads pass a valve. It reads ahead, because russh asks for the four bytes of a
/// packet's length and for the rest of it apart; the more arrives at once, the further. While nothing
/// arrives it holds no memory.
#[derive(Debug)]
pub(super) struct ValvedStream<S> {
    stream: S,
    valve: Valve,
    pause: Option<Pin<Box<Sleep>>>,
    next_pause: Duration,
    read_since_pause: usize,
    ahead: BytesMut,
    ahead_bytes: usize,
}

impl<S> ValvedStream<S> {
    pub(super) fn new(stream: S, valve: Valve) -> Self {
        Self {
            stream,
            valve,
            pause: None,
            next_pause: PAUSE_MIN,
            read_since_pause: 0,
            ahead: BytesMut::new(),
            ahead_bytes: AHEAD_BYTES_MIN,
        }
    }

    fn poll_valve(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let state = &*self.valve.0;
        state.reader.register(cx.waker());
        match state.position.load(Ordering::Acquire) {
            CLOSED => return Poll::Pending,
            PAUSED => {
                state.position.store(OPEN, Ordering::Release);
                if self.read_since_pause > DRIPPING_BYTES {
                    self.next_pause = PAUSE_MIN;
                }
                self.read_since_pause = 0;
                self.pause = Some(Box::pin(tokio::time::sleep(self.next_pause)));
                self.next_pause = self.next_pause.saturating_mul(2).min(PAUSE_MAX);
            }
            _ => {}
        }
        if let Some(pause) = &mut self.pause {
            if pause.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.pause = None;
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> ValvedStream<S> {
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The same memory again while much arrives.
        self.ahead.reserve(self.ahead_bytes);
        let read = match poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.ahead) {
            Poll::Ready(read) => read?,
            Poll::Pending => {
                self.ahead = BytesMut::new();
                return Poll::Pending;
            }
        };
        self.ahead_bytes = if read >= self.ahead_bytes {
            self.ahead_bytes.saturating_mul(4).min(AHEAD_BYTES_MAX)
        } else if read < self.ahead_bytes / 8 {
            (self.ahead_bytes / 4).max(AHEAD_BYTES_MIN)
        } else {
            self.ahead_bytes
        };
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ValvedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.poll_valve(cx).is_pending() {
            return Poll::Pending;
        }
        let this = &mut *self;
        if this.ahead.is_empty() {
            ready!(this.poll_ahead(cx))?;
        }
        let taken = this.ahead.len().min(buffer.remaining());
        buffer.put_slice(this.ahead.get(..taken).unwrap_or_default());
        this.ahead.advance(taken);
        this.read_since_pause = this.read_since_pause.saturating_add(taken);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ValvedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LITTLE: usize = 1_000;
    const MUCH: usize = CONGESTED_BYTES + 1;

    #[test]
    fn a_connection_that_keeps_up_has_full_windows() {
        let backlog = Backlog::new(LITTLE, [LITTLE, 0].into_iter());
        assert_eq!(backlog.next_window_bytes(WINDOW_BYTES), WINDOW_BYTES);
    }

    #[test]
    fn a_channel_that_does_not_keep_up_is_given_drips_until_it_does() {
        let stalled = Backlog::new(MUCH, [MUCH].into_iter());
        assert_eq!(stalled.next_window_bytes(WINDOW_BYTES), DRIP_BYTES);
        assert_eq!(stalled.next_window_bytes(DRIP_BYTES), DRIP_BYTES);
        let taken = Backlog::new(LITTLE, [LITTLE].into_iter());
        assert_eq!(taken.next_window_bytes(DRIP_BYTES), WINDOW_BYTES);
    }

    #[test]
    fn given_another_channel_is_stalled_then_a_full_window_is_for_the_one_that_asked() {
        let healthy = Backlog::new(LITTLE, [LITTLE, MUCH].into_iter());
        // It used up its window: the next one given is full, ...
        assert_eq!(healthy.next_window_bytes(DRIP_BYTES), WINDOW_BYTES);
        // ... and once it has it, the stalled one must not get one by chance.
        assert_eq!(healthy.next_window_bytes(WINDOW_BYTES), DRIP_BYTES);
    }

    /// Memory stays bounded whatever the channels do together.
    #[test]
    fn a_crowded_connection_has_no_full_windows() {
        let crowded = Backlog::new(LITTLE, [CROWDED_BYTES + 1].into_iter());
        assert_eq!(crowded.next_window_bytes(DRIP_BYTES), DRIP_BYTES);
    }

    #[tokio::test]
    async fn pauses_grow_while_little_is_read_and_begin_anew_after_much() {
        let (mut near, far) = tokio::io::duplex(1 << 20);
        let valve = Valve::default();
        let mut stream = ValvedStream::new(far, valve.clone());
        for (bytes, next_ms) in [
            (2, 2),
            (2, 4),
            (2, 8),
            (2, 16),
            (2, 32),
            (DRIPPING_BYTES + 1, 32),
            (2, 2),
        ] {
            tokio::io::AsyncWriteExt::write_all(&mut near, &vec![0; bytes])
                .await
                .unwrap();
            valve.pause();
            tokio::io::AsyncReadExt::read_exact(&mut stream, &mut vec![0; bytes])
                .await
                .unwrap();
            assert_eq!(stream.next_pause, Duration::from_millis(next_ms));
        }
    }

    #[tokio::test]
    async fn a_closed_valve_holds_reads_until_it_opens() {
        let (mut near, far) = tokio::io::duplex(64);
        let valve = Valve::default();
        let mut stream = ValvedStream::new(far, valve.clone());
        tokio::io::AsyncWriteExt::write_all(&mut near, b"x")
            .await
            .unwrap();
        valve.close();
        let mut byte = [0];
        {
            let mut read = std::pin::pin!(tokio::io::AsyncReadExt::read(&mut stream, &mut byte));
            assert!(futures_util::poll!(&mut read).is_pending());
            valve.open();
            assert_eq!(read.await.unwrap(), 1);
        }
        assert_eq!(byte, *b"x");
    }

    #[tokio::test]
    async fn what_was_read_ahead_is_held_by_a_closed_valve_too_and_nothing_is_kept_when_it_is_taken()
     {
        let (mut near, far) = tokio::io::duplex(4096);
        let valve = Valve::default();
        let mut stream = ValvedStream::new(far, valve.clone());
        tokio::io::AsyncWriteExt::write_all(&mut near, b"abc")
            .await
            .unwrap();
        let mut byte = [0];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut byte)
            .await
            .unwrap();
        valve.close();
        {
            let mut read = std::pin::pin!(tokio::io::AsyncReadExt::read(&mut stream, &mut byte));
            assert!(futures_util::poll!(&mut read).is_pending());
        }
        valve.open();
        let mut rest = [0; 2];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut rest)
            .await
            .unwrap();
        assert_eq!(&rest, b"bc");
        {
            let mut waits = std::pin::pin!(tokio::io::AsyncReadExt::read(&mut stream, &mut byte));
            assert!(futures_util::poll!(&mut waits).is_pending());
        }
        assert_eq!(stream.ahead.capacity(), 0);
    }

    #[tokio::test]
    async fn bytes_come_out_in_order_however_much_is_read_ahead() {
        let sent: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
        let (mut near, far) = tokio::io::duplex(300_000);
        let mut stream = ValvedStream::new(far, Valve::default());
        let sending = async {
            tokio::io::AsyncWriteExt::write_all(&mut near, &sent)
                .await
                .unwrap();
            drop(near);
        };
        let mut received = Vec::new();
        let receiving = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut received);
        let ((), read) = tokio::join!(sending, receiving);
        assert_eq!((read.unwrap(), received == sent), (sent.len(), true));
    }

    /// Everything granted before the first drip, and what may follow, fits below the limit that
    /// tells a peer that cheats from one that does not.
    #[test]
    fn a_peer_that_keeps_to_its_windows_is_never_cut_off() {
        let window = WINDOW_BYTES as usize;
        assert!(CROWDED_BYTES + 2 * window + window / 2 <= BACKLOG_BYTES_MAX);
    }
}
