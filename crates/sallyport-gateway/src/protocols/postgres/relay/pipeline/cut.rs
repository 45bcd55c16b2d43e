//! Statements of which no more is passed on: their client is told why, and their transaction fails, because
//! the target gave up as it was asked to, or because it gets something that fails where it was done before.
//!
//! INVARIANT: nothing of such a statement reaches the client but the one error, and what is sent to the target
//! behind it is skipped or fails.
//!
//! Not here: what is too much (`session`), asking the target to stop (`relay`).

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use sallyport_core::{authz::Reason, time::Timestamp};

use super::{Answer, Asked, Pipeline, Unasked};

/// The code of a statement that was cancelled.
const CANCELLED: &str = "57014";

/// What was taken of one portal, which may be executed again and again.
#[derive(Debug, Default)]
pub(in super::super) struct Spent {
    rows: AtomicU64,
    bytes: AtomicU64,
}

/// A statement of which no more is passed on.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) reason: Reason,
    /// What the client is told; nothing once it was.
    report: Option<BytesMut>,
}

impl Pipeline {
    /// What the statement that answers now has taken with one more row; nothing when that does not count.
    pub(in super::super) fn spend(&mut self, row_bytes: u64) -> Option<(u64, u64)> {
        let running = self.running().filter(|running| running.cut.is_none())?;
        let rows = running.spent.rows.fetch_add(1, Ordering::Relaxed);
        let bytes = running.spent.bytes.fetch_add(row_bytes, Ordering::Relaxed);
        Some((rows.saturating_add(1), bytes.saturating_add(row_bytes)))
    }

    /// Passes on no more of the statement that answers now. Its client is told this instead.
    pub(in super::super) fn cut(&mut self, reason: Reason, report: BytesMut) {
        if let Some(running) = self.running() {
            running.cut = Some(Cut {
                reason,
                report: Some(report),
            });
        }
    }

    /// Since when the statement runs that answers next, if it is not cut off already.
    pub(in super::super) fn running_since(&self) -> Option<Timestamp> {
        match self.asked.front()? {
            Asked::Query(running) | Asked::Execute(running) if running.cut.is_none() => {
                Some(running.since)
            }
            _ => None,
        }
    }

    /// Whether something runs that may be cut off, or has been and is not settled.
    pub(in super::super) fn has_running(&self) -> bool {
        self.to_fail.is_some()
            || self.asked.iter().any(|asked| match asked {
                // The client is heard while it sends rows.
                Asked::Query(running) | Asked::Execute(running) => !running.is_fed,
                _ => false,
            })
    }

    /// What is to be sent to the target so that its transaction fails; whether by the simple protocol.
    pub(in super::super) fn take_failure(&mut self) -> Option<bool> {
        self.to_fail.take()
    }

    /// Whether something is to be sent to the target so that its transaction fails.
    pub(in super::super) fn is_failing(&self) -> bool {
        self.to_fail.is_some()
    }

    /// Whether the statement that answers now is cut off.
    pub(in super::super) fn is_cut(&mut self) -> bool {
        self.running().is_some_and(|running| running.cut.is_some())
    }

    /// What becomes of an answer to a statement that is cut off. Its transaction fails: because the target
    /// gave up as it was asked to, or because it gets something that fails, where it was done before.
    pub(in super::super) fn follow_cut(
        &mut self,
        kind: u8,
        status: Option<u8>,
    ) -> Result<Answer, Unasked> {
        let is_simple = matches!(self.asked.front(), Some(Asked::Query(_)));
        let report = self
            .running()
            .and_then(|running| running.cut.as_mut())
            .and_then(|cut| cut.report.take());
        match (kind, is_simple, report) {
            (b'E', _, report) => {
                if is_simple {
                    if let Some(running) = self.running() {
                        running.record.sqlstate = Some(CANCELLED.to_owned());
                    }
                } else {
                    if let Some(Asked::Execute(mut running)) = self.pop() {
                        running.record.sqlstate = Some(CANCELLED.to_owned());
                        running.finish();
                    }
                    self.skip();
                }
                Ok(report.map_or(Answer::Drop, Answer::Replace))
            }
            (b'C' | b's' | b'I', false, Some(report)) => {
                if let Some(Asked::Execute(running)) = self.pop() {
                    running.finish();
                }
                self.fail_next(report, false);
                Ok(Answer::Drop)
            }
            (b'Z', true, Some(report)) if status == Some(b'T') => {
                if let Some(Asked::Query(running)) = self.pop() {
                    running.finish();
                }
                self.fail_next(report, true);
                Ok(Answer::Drop)
            }
            (b'Z', true, Some(report)) => {
                self.ready(status.unwrap_or_default())?;
                Ok(Answer::Before(report))
            }
            (b'Z', true, None) => {
                self.ready(status.unwrap_or_default())?;
                Ok(Answer::Pass)
            }
            (b'N' | b'S' | b'A', _, report) => {
                self.put_back(report);
                Ok(Answer::Pass)
            }
            (b'D' | b'd' | b'c' | b'T' | b'H' | b'C' | b'I' | b'V', _, report) => {
                self.put_back(report);
                Ok(Answer::Drop)
            }
            // Rows that it now wants, nobody sends.
            (kind, _, _) => Err(Unasked { kind }),
        }
    }

    fn put_back(&mut self, report: Option<BytesMut>) {
        if let Some(cut) = self.running().and_then(|running| running.cut.as_mut()) {
            cut.report = report;
        }
    }

    fn fail_next(&mut self, report: BytesMut, is_simple: bool) {
        self.asked.push_front(Asked::Refused { report, is_simple });
        self.to_fail = Some(is_simple);
    }
}
