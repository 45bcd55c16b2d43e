//! Carries evidence to control: first to disk, then, in order within each session, to control,
//! again and again until it is acknowledged.
//!
//! INVARIANT: [`Outbox::keep`] answers after the evidence is durable here; evidence of one session
//! reaches control in the order it was kept, and stays on disk until control has it.
//!
//! Not here: the files ([`crate::spool`]), the connection ([`crate::rpc`]).

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use sallyport_api::gateway::CallError;
use sallyport_core::{id::SessionId, session::EndReason, time::Clock};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{
    control::{ControlError, ControlPlane},
    live::LiveSessions,
    session::End,
    spool::{Evidence, SegmentNumber, Spool, SpoolError},
};

/// Entries that share one write and one fsync, at most.
const GROUP_MAX: usize = 256;
/// Calls under way to control, each for another session.
const IN_FLIGHT_MAX: usize = 32;
/// Rest after a failed call, so that an absent control plane costs nothing.
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// Evidence was not kept: the spool is full, cannot be written, or is closed. The session it is about
/// must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("keep evidence of a session")]
pub struct NotKept;

struct Deposit {
    evidence: Arc<Evidence>,
    kept: oneshot::Sender<Result<(), NotKept>>,
}

/// Where sessions leave their evidence.
#[derive(Clone, Debug)]
pub struct Outbox {
    deposits: mpsc::Sender<Deposit>,
}

impl Outbox {
    /// Keeps evidence. Waits while others' is being written.
    ///
    /// # Errors
    /// [`NotKept`].
    pub async fn keep(&self, evidence: Evidence) -> Result<(), NotKept> {
        let (kept, answer) = oneshot::channel();
        self.deposits
            .send(Deposit {
                evidence: Arc::new(evidence),
                kept,
            })
            .await
            .map_err(|_| NotKept)?;
        answer.await.map_err(|_| NotKept)?
    }
}

/// The other end of an [`Outbox`]: run it as one task.
pub struct Carrier {
    deposits: mpsc::Receiver<Deposit>,
    /// Absent while a write is under way.
    spool: Option<Spool>,
    control: Arc<dyn ControlPlane>,
    live: Arc<LiveSessions>,
    clock: Arc<dyn Clock>,
    queues: HashMap<SessionId, VecDeque<(SegmentNumber, Arc<Evidence>)>>,
    /// Sessions with something to deliver and no call under way.
    ready: VecDeque<SessionId>,
    finished_segments: Vec<SegmentNumber>,
}

impl std::fmt::Debug for Carrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Carrier")
            .field("spool", &self.spool)
            .finish_non_exhaustive()
    }
}

/// What became of one delivery.
enum Delivery {
    Done,
    /// Control will never take it.
    Refused(ControlError),
    Retry,
}

/// Makes an outbox over `spool` that delivers to `control`; `left` is what the spool held at start.
pub fn outbox(
    (spool, left): (Spool, Vec<(SegmentNumber, Evidence)>),
    control: Arc<dyn ControlPlane>,
    live: Arc<LiveSessions>,
    clock: Arc<dyn Clock>,
) -> (Outbox, Carrier) {
    let (sender, deposits) = mpsc::channel(GROUP_MAX);
    let mut carrier = Carrier {
        deposits,
        spool: Some(spool),
        control,
        live,
        clock,
        queues: HashMap::new(),
        ready: VecDeque::new(),
        finished_segments: Vec::new(),
    };
    for (segment, evidence) in left {
        carrier.enqueue(segment, Arc::new(evidence));
    }
    (Outbox { deposits: sender }, carrier)
}

/// A write under way; nothing when it panicked, and the spool with it.
type Write = BoxFuture<'static, Option<Written>>;
type Written = (Spool, Result<SegmentNumber, SpoolError>, Vec<Deposit>);
type Call = BoxFuture<'static, (SessionId, Delivery)>;

impl Carrier {
    /// Keeps and delivers until `stop`; then goes on until everything is delivered or `patience` is
    /// over. What is left is delivered after the next start.
    pub async fn run(mut self, stop: CancellationToken, patience: Duration) {
        let mut write: Option<Write> = None;
        let mut calls: FuturesUnordered<Call> = FuturesUnordered::new();
        let mut rest: Option<std::pin::Pin<Box<tokio::time::Sleep>>> = None;
        let mut group = Vec::with_capacity(GROUP_MAX);
        let mut deadline: Option<std::pin::Pin<Box<tokio::time::Sleep>>> = None;
        let mut is_closed = false;
        loop {
            while rest.is_none() && calls.len() < IN_FLIGHT_MAX {
                let Some(call) = self.next_call() else { break };
                calls.push(call);
            }
            let is_idle = write.is_none() && self.queues.is_empty() && self.deposits.is_empty();
            if (deadline.is_some() || is_closed) && is_idle {
                return;
            }
            tokio::select! {
                count = self.deposits.recv_many(&mut group, GROUP_MAX),
                    if write.is_none() && !is_closed =>
                {
                    if count == 0 {
                        is_closed = true;
                    } else {
                        write = self.begin_write(std::mem::take(&mut group));
                    }
                }
                written = waiting(&mut write) => {
                    write = None;
                    match written {
                        Some(written) => self.end_write(written),
                        // What the spool holds is unknown. Everyone who wants to keep something
                        // is told no from here on, so their sessions end.
                        None => return tracing::error!("writing evidence panicked"),
                    }
                }
                Some((session_id, delivery)) = calls.next(), if !calls.is_empty() => {
                    if matches!(delivery, Delivery::Retry) {
                        rest = Some(Box::pin(tokio::time::sleep(RETRY_AFTER)));
                    }
                    self.end_call(session_id, delivery);
                }
                () = sleeping(&mut rest) => rest = None,
                () = stop.cancelled(), if deadline.is_none() => {
                    deadline = Some(Box::pin(tokio::time::sleep(patience)));
                }
                () = sleeping(&mut deadline) => return,
            }
            self.remove_finished();
        }
    }

    fn enqueue(&mut self, segment: SegmentNumber, evidence: Arc<Evidence>) {
        let session_id = evidence.session_id().clone();
        if matches!(*evidence, Evidence::Closed(_)) {
            self.live.end_kept(&session_id);
        }
        let queue = self.queues.entry(session_id.clone()).or_default();
        if queue.is_empty() {
            self.ready.push_back(session_id);
        }
        queue.push_back((segment, evidence));
    }

    fn begin_write(&mut self, deposits: Vec<Deposit>) -> Option<Write> {
        // Only one write is under way at a time, so the spool is here.
        let mut spool = self.spool.take()?;
        let write = tokio::task::spawn_blocking(move || {
            let entries: Vec<&Evidence> = deposits
                .iter()
                .map(|deposit| deposit.evidence.as_ref())
                .collect();
            let result = spool.append(&entries);
            (spool, result, deposits)
        });
        Some(Box::pin(write.map(Result::ok)))
    }

    fn end_write(&mut self, (spool, result, deposits): Written) {
        match result {
            Ok(segment) => {
                for deposit in deposits {
                    self.enqueue(segment, deposit.evidence);
                    // A session that no longer waits is over; its evidence is kept all the same.
                    let _ = deposit.kept.send(Ok(()));
                }
            }
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::error!(error, "evidence cannot be kept; its sessions end");
                for deposit in deposits {
                    let _ = deposit.kept.send(Err(NotKept));
                }
            }
        }
        self.spool = Some(spool);
        self.report_depth();
    }

    fn next_call(&mut self) -> Option<Call> {
        let session_id = self.ready.pop_front()?;
        let evidence = Arc::clone(&self.queues.get(&session_id)?.front()?.1);
        let control = Arc::clone(&self.control);
        Some(Box::pin(async move {
            let delivery = deliver(control.as_ref(), &evidence).await;
            (session_id, delivery)
        }))
    }

    fn end_call(&mut self, session_id: SessionId, delivery: Delivery) {
        if let Delivery::Refused(error) = &delivery {
            metrics::counter!("sallyport_gateway_evidence_refused_total").increment(1);
            tracing::error!(%session_id, %error, "control refuses evidence for good; the session ends");
            let end = End::because(EndReason::RecorderFailed);
            self.live.end(&session_id, end, self.clock.now());
        }
        let Some(queue) = self.queues.get_mut(&session_id) else {
            return;
        };
        if !matches!(delivery, Delivery::Retry)
            && let Some((segment, evidence)) = queue.pop_front()
        {
            self.finished_segments.push(segment);
            if matches!(*evidence, Evidence::Closed(_)) {
                self.live.end_reported(&session_id);
            }
        }
        if queue.is_empty() {
            self.queues.remove(&session_id);
        } else {
            self.ready.push_back(session_id);
        }
    }

    fn remove_finished(&mut self) {
        let Some(spool) = &mut self.spool else { return };
        if self.finished_segments.is_empty() {
            return;
        }
        for segment in self.finished_segments.drain(..) {
            if let Err(error) = spool.acknowledge(segment) {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(
                    error,
                    "a delivered segment of the spool stays; it is repeated later"
                );
            }
        }
        self.report_depth();
    }

    fn report_depth(&self) {
        if let Some(spool) = &self.spool {
            let depth = u32::try_from(spool.depth()).unwrap_or(u32::MAX);
            metrics::gauge!("sallyport_gateway_spool_entries").set(depth);
        }
    }
}

async fn deliver(control: &dyn ControlPlane, evidence: &Evidence) -> Delivery {
    let result = match evidence {
        Evidence::Operations(batch) => control.record_operations(batch.clone()).await,
        Evidence::Anchor(anchor) => control.anchor_recording(anchor.clone()).await,
        Evidence::Closed(closed) => control.close_session(closed.clone()).await,
    };
    match result {
        Ok(()) => Delivery::Done,
        Err(error) if is_final(&error) => Delivery::Refused(error),
        Err(error @ ControlError::Failed { .. }) => {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "control cannot take evidence; trying again");
            Delivery::Retry
        }
        Err(error) => {
            // Debug while there is no connection: the client says that once.
            tracing::debug!(%error, "evidence was not delivered; trying again");
            Delivery::Retry
        }
    }
}

fn is_final(error: &ControlError) -> bool {
    matches!(error, ControlError::Failed { fault, .. } if fault.error == CallError::Caller)
}

async fn waiting<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn sleeping(sleep: &mut Option<std::pin::Pin<Box<tokio::time::Sleep>>>) {
    waiting(sleep).await;
}

#[cfg(test)]
mod tests;
