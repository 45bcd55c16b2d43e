//! Statements of which no more is passed on, and commands of our own.
//!
//! A statement that takes too much is answered by our error where its next packet would have stood. The target is
//! asked to stop, and what it says until its answer ends is for nobody.
//!
//! INVARIANT: nothing of such a statement reaches the client but the one error; the next command reaches the target
//! only once that answer has ended, and is not stopped in its place.
//!
//! Not here: what is too much (`session`).

use std::time::Duration;

use bytes::{Buf as _, BufMut as _, BytesMut};
use sallyport_core::authz::Reason;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    super::{
        codec::{PAYLOAD_MAX, put_packet},
        upstream::{Kill, READ_ONLY},
        wording,
    },
    Expected, Relay, RelayError,
};

const QUERY: u8 = 0x03;
const PING: u8 = 0x0e;
/// Longest row that a server sends: 1 GiB.
const ROW_BYTES_MAX: u64 = 1 << 30;

impl<C, T> Relay<C, T>
where
    C: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    /// Why one more row of this size is too much.
    pub(super) fn over_budget(&mut self, wire: usize) -> Option<Reason> {
        if !self.setup.session.has_budgets() {
            return None;
        }
        let row_bytes = match wire >= PAYLOAD_MAX {
            // It goes on in the next packet, and cannot be cut off there.
            true => ROW_BYTES_MAX,
            false => u64::try_from(wire).unwrap_or(ROW_BYTES_MAX),
        };
        let (rows, bytes) = self.running.as_mut()?.with_row(row_bytes)?;
        self.setup.session.take_row(rows, bytes, row_bytes)
    }

    /// How much longer the statement that runs may run. Nothing in the middle of a packet, where nothing else can
    /// be said.
    pub(super) fn time_left(&self) -> Option<Duration> {
        let since = self.running.as_ref()?.since()?;
        match self.passing {
            0 => self.setup.session.time_left(since),
            _ => None,
        }
    }

    /// Passes on no more of the statement that answers now, and has the target give it up.
    pub(super) async fn cut(&mut self, reason: Reason) -> Result<(), RelayError> {
        self.pass().await?;
        if let Some(running) = &mut self.running {
            running.cut(reason);
        }
        // What waits is not sent either: the error stands in the place of its first packet.
        let next = self.sequence;
        if let Some(first) = self.held.take() {
            let waiting = std::mem::take(&mut self.passed);
            self.setup.from_target.advance(waiting);
            self.sequence = first;
        }
        self.refuse(&wording::refusal(reason, "")).await?;
        self.sequence = next;
        (self.is_muted, self.is_for_nobody) = (true, true);
        // One that cannot be stopped goes on for nobody, to its own end.
        let _ = self.setup.stop.stop(Kill::Query).await;
        Ok(())
    }

    /// Has the target forget that it was asked to stop, where it was done by then: a server remembers it for the
    /// next command.
    pub(super) async fn forget_stop(&mut self) -> Result<(), RelayError> {
        self.own(PING, "").await?;
        Ok(())
    }

    /// Tells the target again that the session only reads.
    pub(super) async fn keep_from_writing(&mut self) -> Result<(), RelayError> {
        match self.own(QUERY, READ_ONLY).await? {
            true => Ok(()),
            false => Err(RelayError::MayWrite),
        }
    }

    /// Sends a command of ours, of which the client hears nothing; whether it succeeded.
    async fn own(&mut self, code: u8, text: &str) -> Result<bool, RelayError> {
        let mut out = BytesMut::new();
        put_packet(&mut out, 0, |body| {
            body.put_u8(code);
            body.put_slice(text.as_bytes());
        })
        .map_err(RelayError::Target)?;
        self.sequence = 1;
        self.send(&out).await?;
        (self.is_muted, self.is_for_nobody) = (true, true);
        let running = self.running.take();
        let outcome = self.answers(Expected::One, &[]).await;
        self.running = running;
        (self.is_muted, self.is_for_nobody) = (false, false);
        Ok(outcome?.error.is_none())
    }
}
