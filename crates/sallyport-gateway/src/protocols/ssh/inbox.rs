//! What has arrived on one channel and waits for the channel's task.
//!
//! russh's callbacks put things in and return at once; the task takes them out in order. Bytes of one
//! stream that follow each other are joined, so that a task that is behind works in large pieces.
//!
//! INVARIANT: putting in never waits; what is taken counts as waiting until the task asks for more,
//! so a task that is stuck with bytes in its hands is seen as stuck.
//!
//! Not here: how much may wait (`flow`).

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

/// Largest piece that bytes are joined to.
const PIECE_BYTES_MAX: usize = 256 * 1024;
/// What a piece that waits costs besides its bytes, about: a peer that alternates between streams makes a
/// piece of every byte.
const PIECE_OVERHEAD_BYTES: usize = 128;
/// Most events that may wait; a legitimate peer never has more than a few.
const EVENTS_MAX: usize = 1_024;

/// One thing that arrived: bytes of stream `S`, or an event `E`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival<S, E> {
    /// Bytes.
    Content(S, Bytes),
    /// Anything else.
    Event(E),
}

/// The peer sent more than anybody may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a peer sent more than its windows allow")]
pub struct Overrun;

#[derive(Debug)]
struct Waiting<S, E> {
    queue: VecDeque<Queued<S, E>>,
    content_bytes: usize,
    events: usize,
    in_hand_bytes: usize,
    is_closed: bool,
}

#[derive(Debug)]
enum Queued<S, E> {
    Content(S, BytesMut),
    Event(E),
}

/// A channel's inbox.
#[derive(Debug)]
pub(super) struct Inbox<S, E> {
    waiting: Mutex<Waiting<S, E>>,
    arrived: Notify,
    closed: Notify,
}

impl<S, E> Default for Inbox<S, E> {
    fn default() -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                queue: VecDeque::new(),
                content_bytes: 0,
                events: 0,
                in_hand_bytes: 0,
                is_closed: false,
            }),
            arrived: Notify::new(),
            closed: Notify::new(),
        }
    }
}

impl<S: Copy + PartialEq, E> Inbox<S, E> {
    fn waiting(&self) -> MutexGuard<'_, Waiting<S, E>> {
        // A panic while it was held leaves a queue that is still a queue.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that wait or are in the task's hands, what holding them costs included.
    pub(super) fn backlog_bytes(&self) -> usize {
        let waiting = self.waiting();
        waiting.content_bytes.saturating_add(waiting.in_hand_bytes)
    }

    /// Puts bytes in. Whether that is too much is for the caller to ask.
    pub(super) fn put_content(&self, stream: S, bytes: &[u8]) {
        let mut waiting = self.waiting();
        if waiting.is_closed || bytes.is_empty() {
            return;
        }
        waiting.content_bytes = waiting.content_bytes.saturating_add(bytes.len());
        match waiting.queue.back_mut() {
            Some(Queued::Content(of, piece))
                if *of == stream && piece.len().saturating_add(bytes.len()) <= PIECE_BYTES_MAX =>
            {
                if piece.capacity().saturating_sub(piece.len()) < bytes.len() {
                    // In few steps, because each copies it; but never much more than it holds, because
                    // a peer chooses how small the pieces are.
                    let more = piece.len().saturating_mul(3);
                    let room = PIECE_BYTES_MAX.saturating_sub(piece.len());
                    piece.reserve(more.min(room).max(bytes.len()));
                }
                piece.extend_from_slice(bytes);
            }
            _ => {
                waiting.content_bytes = waiting.content_bytes.saturating_add(PIECE_OVERHEAD_BYTES);
                waiting
                    .queue
                    .push_back(Queued::Content(stream, BytesMut::from(bytes)));
            }
        }
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Puts an event in.
    ///
    /// # Errors
    /// [`Overrun`] when more wait than any legitimate peer sends.
    pub(super) fn put_event(&self, event: E) -> Result<(), Overrun> {
        let mut waiting = self.waiting();
        if waiting.is_closed {
            return Ok(());
        }
        if waiting.events >= EVENTS_MAX {
            return Err(Overrun);
        }
        waiting.events = waiting.events.saturating_add(1);
        waiting.queue.push_back(Queued::Event(event));
        drop(waiting);
        self.arrived.notify_one();
        Ok(())
    }

    /// Puts an event in that makes the one before it pointless, if that is the last thing in here and
    /// `is_replaced` says so.
    ///
    /// # Errors
    /// As [`Inbox::put_event`].
    pub(super) fn put_latest(
        &self,
        event: E,
        is_replaced: impl FnOnce(&E) -> bool,
    ) -> Result<(), Overrun> {
        if let Some(Queued::Event(last)) = self.waiting().queue.back_mut()
            && is_replaced(last)
        {
            *last = event;
            return Ok(());
        }
        self.put_event(event)
    }

    /// Nothing more will arrive.
    pub(super) fn close(&self) {
        self.waiting().is_closed = true;
        self.arrived.notify_one();
        self.closed.notify_waiters();
    }

    /// The next arrival in order, or nothing once the inbox is closed and empty. For one task.
    pub(super) async fn next(&self) -> Option<Arrival<S, E>> {
        self.waiting().in_hand_bytes = 0;
        loop {
            let arrived = self.arrived.notified();
            {
                let mut waiting = self.waiting();
                match waiting.queue.pop_front() {
                    Some(Queued::Content(stream, piece)) => {
                        waiting.in_hand_bytes = piece.len();
                        waiting.content_bytes = waiting
                            .content_bytes
                            .saturating_sub(piece.len())
                            .saturating_sub(PIECE_OVERHEAD_BYTES);
                        return Some(Arrival::Content(stream, piece.freeze()));
                    }
                    Some(Queued::Event(event)) => {
                        waiting.events = waiting.events.saturating_sub(1);
                        return Some(Arrival::Event(event));
                    }
                    None if waiting.is_closed => return None,
                    None => {}
                }
            }
            arrived.await;
        }
    }

    /// Resolves once the inbox is closed, whatever still waits in it.
    pub(super) async fn closed(&self) {
        loop {
            let closed = self.closed.notified();
            tokio::pin!(closed);
            // Registered before looking, so that a close in between is not missed.
            closed.as_mut().enable();
            if self.waiting().is_closed {
                return;
            }
            closed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type TestInbox = Inbox<u8, &'static str>;

    #[tokio::test]
    async fn arrivals_keep_their_order_and_neighbours_are_joined() {
        let inbox = TestInbox::default();
        inbox.put_content(0, b"ab");
        inbox.put_content(0, b"cd");
        inbox.put_content(1, b"ef");
        inbox.put_event("eof").unwrap();
        inbox.close();
        assert_eq!(
            inbox.next().await,
            Some(Arrival::Content(0, Bytes::from_static(b"abcd")))
        );
        assert_eq!(
            inbox.next().await,
            Some(Arrival::Content(1, Bytes::from_static(b"ef")))
        );
        assert_eq!(inbox.next().await, Some(Arrival::Event("eof")));
        assert_eq!(inbox.next().await, None);
    }

    #[tokio::test]
    async fn what_a_task_has_in_hand_still_counts() {
        let inbox = TestInbox::default();
        inbox.put_content(0, b"abcd");
        assert!(inbox.next().await.is_some());
        assert_eq!(inbox.backlog_bytes(), 4);
        inbox.put_event("eof").unwrap();
        assert!(inbox.next().await.is_some());
        assert_eq!(inbox.backlog_bytes(), 0);
    }

    /// O1, R22
    #[tokio::test]
    async fn given_streams_alternate_byte_by_byte_then_the_pieces_count_for_what_they_cost() {
        let inbox = TestInbox::default();
        for _ in 0..1_000 {
            inbox.put_content(0, b"o");
            inbox.put_content(1, b"e");
        }
        assert!(inbox.backlog_bytes() >= 2_000 * PIECE_OVERHEAD_BYTES);
        inbox.close();
        while inbox.next().await.is_some() {}
        assert_eq!(inbox.backlog_bytes(), 0);
    }

    #[tokio::test]
    async fn given_bytes_are_joined_then_a_piece_takes_little_more_memory_than_it_holds() {
        let inbox = TestInbox::default();
        for _ in 0..3 {
            inbox.put_content(0, b"ab");
        }
        match inbox.waiting().queue.front() {
            Some(Queued::Content(_, piece)) => assert!(piece.capacity() <= 128),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn events_without_end_are_an_overrun() {
        let inbox = TestInbox::default();
        for _ in 0..EVENTS_MAX {
            inbox.put_event("resize").unwrap();
        }
        assert_eq!(inbox.put_event("resize"), Err(Overrun));
    }

    #[tokio::test]
    async fn a_later_size_replaces_the_one_before_it() {
        let inbox = TestInbox::default();
        let is_size = |last: &&str| last.starts_with("size");
        inbox.put_latest("size 1", is_size).unwrap();
        inbox.put_latest("size 2", is_size).unwrap();
        inbox.put_content(0, b"x");
        inbox.put_latest("size 3", is_size).unwrap();
        assert_eq!(inbox.next().await, Some(Arrival::Event("size 2")));
        assert!(inbox.next().await.is_some());
        assert_eq!(inbox.next().await, Some(Arrival::Event("size 3")));
    }

    #[tokio::test]
    async fn closing_is_heard_before_the_last_bytes_are_taken() {
        let inbox = TestInbox::default();
        inbox.put_content(0, b"abcd");
        inbox.close();
        inbox.closed().await;
        assert!(inbox.next().await.is_some());
        assert_eq!(inbox.next().await, None);
    }
}
