//! Evidence of operations: decided, let through or refused, ended, and carried to control in order.
//!
//! INVARIANT: every operation that was asked for is on record exactly once, with what became of it; one
//! that never said how it ended is on record as interrupted. What waits to be carried is bounded, and a
//! record waits no longer than [`BATCH_EVERY`] before it is on its way: at once, when none was shortly before.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sallyport_api::gateway::OperationBatch;
use sallyport_core::{
    authz::Reason,
    id::{OperationId, SessionId},
    session::{
        EndReason, OPERATION_DETAIL_BYTES_MAX, Operation, OperationOutcome, OperationRecord,
        StatementRecord,
    },
    time::{Clock, Timestamp},
};
use tokio::{sync::Notify, time::timeout};

use super::{HeldOperation, Session, SessionOver};
use crate::{
    outbox::{NotKept, Outbox},
    spool::Evidence,
};

/// Records in one batch, as the RPC allows.
const BATCH_RECORDS_MAX: usize = 256;
/// Batches that are not full begin at multiples of this, unless there was none shortly before. Each costs a sync
/// of the spool, a call to control and a commit there, whatever is in it; those of several sessions that begin
/// together share the sync and the commit. The recording, which has the same records, is behind by longer.
const BATCH_EVERY: Duration = Duration::from_millis(50);
/// Bytes of details in one batch: written as JSON they stay below a frame's limit, whatever they hold.
const BATCH_DETAIL_BYTES_MAX: usize = 1024 * 1024;
/// Operations that run or whose evidence waits to be carried.
const OPERATIONS_MAX: usize = 1_024;
/// Bytes of their details.
const DETAIL_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What became of asking to begin an operation.
#[derive(Debug)]
pub enum OperationStart {
    /// It may run. Finish it; dropped unfinished, it is on record as interrupted.
    Begun(RunningOperation),
    /// It waits for other people. Dropped, it is given up.
    Held(Box<HeldOperation>),
    /// It must not reach the target. The refusal is on record already.
    Refused(Reason),
    /// The session is over.
    Over(SessionOver),
}

/// What is known of an operation at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperationResult {
    /// Exit status, for commands that ended with one.
    pub exit_status: Option<u32>,
    /// Bytes of a file moved.
    pub size_bytes: Option<u64>,
    /// SHA-256 of a file moved whole and in order.
    pub sha256: Option<[u8; 32]>,
    /// What is known of a statement beside its text.
    pub statement: Option<StatementRecord>,
    /// Why it was cut off by us.
    pub reason: Option<Reason>,
}

/// An operation that was let through and has not ended.
#[derive(Debug)]
pub struct RunningOperation {
    session: Arc<Session>,
    /// Absent once finished.
    begun: Option<Begun>,
}

#[derive(Debug)]
struct Begun {
    id: OperationId,
    channel: u32,
    operation: Operation,
    started_at: Timestamp,
}

impl RunningOperation {
    pub(super) fn new(
        session: Arc<Session>,
        id: OperationId,
        channel: u32,
        operation: Operation,
        started_at: Timestamp,
    ) -> Self {
        session.state.operations.begun(operation.detail.len());
        Self {
            session,
            begun: Some(Begun {
                id,
                channel,
                operation,
                started_at,
            }),
        }
    }

    /// Whether its session was ended over the head of its client: what the target did not finish was cut off.
    /// A client that leaves ends what it wants to end, such as a forwarded connection.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        self.session
            .end_if_over()
            .is_some_and(|end| end.reason != EndReason::ClientClosed)
    }

    /// Puts the end of the operation on record.
    pub fn finish(mut self, outcome: OperationOutcome, result: OperationResult) {
        self.put(outcome, result);
    }

    /// Ends the operation without a record, because another sees it: what is typed is put on record
    /// where it shows on the screen.
    pub fn leave_to_screen(mut self) {
        if let Some(begun) = self.begun.take() {
            let detail_bytes = begun.operation.detail.len();
            self.session.state.operations.ended(detail_bytes);
        }
    }

    fn put(&mut self, outcome: OperationOutcome, result: OperationResult) {
        let Some(begun) = self.begun.take() else {
            return;
        };
        self.session
            .state
            .operations
            .ended(begun.operation.detail.len());
        self.session.put(OperationRecord {
            id: begun.id,
            channel: begun.channel,
            operation: begun.operation,
            started_at: begun.started_at,
            ended_at: self.session.state.clock.now(),
            outcome,
            reason: result.reason.map(|reason| reason.code().to_owned()),
            exit_status: result.exit_status,
            size_bytes: result.size_bytes,
            sha256: result.sha256.map(hex::encode),
            statement: result.statement,
        });
    }
}

impl Drop for RunningOperation {
    fn drop(&mut self) {
        self.put(OperationOutcome::Interrupted, OperationResult::default());
    }
}

/// The record of something that took no time: refused, or only seen.
pub(super) fn instant_record(
    id: OperationId,
    channel: u32,
    mut operation: Operation,
    at: Timestamp,
    reason: Option<Reason>,
) -> OperationRecord {
    // Only a refused operation can be longer; its beginning is evidence enough.
    let end = operation
        .detail
        .floor_char_boundary(OPERATION_DETAIL_BYTES_MAX);
    operation.detail.truncate(end);
    OperationRecord {
        id,
        channel,
        operation,
        started_at: at,
        ended_at: at,
        outcome: match reason {
            Some(_) => OperationOutcome::Refused,
            None => OperationOutcome::Completed,
        },
        reason: reason.map(|reason| reason.code().to_owned()),
        exit_status: None,
        size_bytes: None,
        sha256: None,
        statement: None,
    }
}

/// As metrics spell an outcome.
pub(super) const fn outcome_name(outcome: OperationOutcome) -> &'static str {
    match outcome {
        OperationOutcome::Completed => "completed",
        OperationOutcome::Interrupted => "interrupted",
        OperationOutcome::Refused => "refused",
        OperationOutcome::FailedAtTarget => "failed_at_target",
    }
}

/// How long until batches begin again, in every session at the same moment.
fn until_next_batch(now: Timestamp) -> Duration {
    let every_ms = i64::try_from(BATCH_EVERY.as_millis()).unwrap_or(1);
    let passed_ms = now.unix_ms().checked_rem_euclid(every_ms).unwrap_or(0);
    BATCH_EVERY.saturating_sub(Duration::from_millis(passed_ms.unsigned_abs()))
}

/// Evidence that waits to be carried.
#[derive(Debug, Default)]
pub(crate) struct OperationLog {
    state: Mutex<Waiting>,
    /// There is a first record to carry, or the log is closed.
    work: Notify,
    /// There is a batch's worth, or the log is closed.
    batch: Notify,
    room: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    records: VecDeque<OperationRecord>,
    /// Of the records that wait and the operations that run.
    detail_bytes: usize,
    /// Number, within the session, of the first record that waits.
    first: u64,
    running: usize,
    is_closed: bool,
}

impl Waiting {
    /// Whether there is as much as should wait no longer.
    fn is_batch(&self) -> bool {
        self.records.len() >= BATCH_RECORDS_MAX || self.detail_bytes >= BATCH_DETAIL_BYTES_MAX
    }
}

impl OperationLog {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is room for one more operation, or the log is closed.
    pub(super) async fn room(&self) {
        loop {
            let room = self.room.notified();
            {
                let waiting = self.waiting();
                let operations = waiting.records.len().saturating_add(waiting.running);
                let has_room =
                    operations < OPERATIONS_MAX && waiting.detail_bytes < DETAIL_BYTES_MAX;
                if has_room || waiting.is_closed {
                    return;
                }
            }
            room.await;
        }
    }

    fn begun(&self, detail_bytes: usize) {
        let mut waiting = self.waiting();
        waiting.detail_bytes = waiting.detail_bytes.saturating_add(detail_bytes);
        waiting.running = waiting.running.saturating_add(1);
    }

    fn ended(&self, detail_bytes: usize) {
        let mut waiting = self.waiting();
        waiting.detail_bytes = waiting.detail_bytes.saturating_sub(detail_bytes);
        waiting.running = waiting.running.saturating_sub(1);
        drop(waiting);
        self.room.notify_waiters();
    }

    /// Adds a record; says whether it will be carried, which it is until the log is closed.
    pub(super) fn put(&self, record: OperationRecord) -> bool {
        let (is_first, is_batch) = {
            let mut waiting = self.waiting();
            if waiting.is_closed {
                return false;
            }
            waiting.detail_bytes = waiting
                .detail_bytes
                .saturating_add(record.operation.detail.len());
            waiting.records.push_back(record);
            (waiting.records.len() == 1, waiting.is_batch())
        };
        if is_first {
            self.work.notify_one();
        }
        if is_batch {
            self.batch.notify_one();
        }
        true
    }

    /// Takes nothing any more; what waits is still carried.
    pub(super) fn close(&self) {
        self.waiting().is_closed = true;
        self.work.notify_one();
        self.batch.notify_one();
        self.room.notify_waiters();
    }

    /// Carries evidence until the log is closed and empty.
    pub(super) async fn carry(
        &self,
        session_id: &SessionId,
        outbox: &Outbox,
        clock: &dyn Clock,
    ) -> Result<(), NotKept> {
        loop {
            self.work.notified().await;
            while let Some(batch) = self.take(session_id) {
                outbox.keep(Evidence::Operations(batch)).await?;
                self.room.notify_waiters();
                self.gather(until_next_batch(clock.now())).await;
            }
            if self.waiting().is_closed {
                return Ok(());
            }
        }
    }

    /// Lets records come together, unless there is a batch's worth already or no more will come.
    async fn gather(&self, patience: Duration) {
        let gathered = async {
            loop {
                // Listening begins before looking, so that what comes in between is not missed.
                let batch = self.batch.notified();
                {
                    let waiting = self.waiting();
                    if waiting.is_batch() || waiting.is_closed {
                        return;
                    }
                }
                batch.await;
            }
        };
        let _ = timeout(patience, gathered).await;
    }

    fn take(&self, session_id: &SessionId) -> Option<OperationBatch> {
        let mut waiting = self.waiting();
        let first = waiting.first;
        let mut records = Vec::new();
        let mut bytes = 0_usize;
        while records.len() < BATCH_RECORDS_MAX {
            let Some(next) = waiting.records.front() else {
                break;
            };
            bytes = bytes.saturating_add(next.operation.detail.len());
            if bytes > BATCH_DETAIL_BYTES_MAX && !records.is_empty() {
                break;
            }
            records.extend(waiting.records.pop_front());
        }
        let taken: usize = records
            .iter()
            .map(|record| record.operation.detail.len())
            .sum();
        waiting.detail_bytes = waiting.detail_bytes.saturating_sub(taken);
        waiting.first = first.saturating_add(u64::try_from(records.len()).unwrap_or(u64::MAX));
        (!records.is_empty()).then(|| OperationBatch {
            session_id: session_id.clone(),
            first,
            records,
        })
    }
}

#[cfg(test)]
mod tests {
    use sallyport_core::session::OperationKind;

    use super::*;

    fn record(detail_bytes: usize) -> OperationRecord {
        let operation = Operation {
            kind: OperationKind::Exec,
            detail: "x".repeat(detail_bytes),
            facts: None,
        };
        instant_record(
            OperationId::new(Timestamp::EPOCH, [1; 10]),
            0,
            operation,
            Timestamp::EPOCH,
            None,
        )
    }

    fn session_id() -> SessionId {
        SessionId::new(Timestamp::EPOCH, [1; 10])
    }

    /// AU-6
    #[test]
    fn batches_number_their_records_densely_and_keep_to_both_limits() {
        let log = OperationLog::default();
        for _ in 0..600 {
            assert!(log.put(record(8_000)));
        }
        let mut next = 0;
        while let Some(batch) = log.take(&session_id()) {
            assert_eq!(batch.first, next);
            let bytes: usize = batch.records.iter().map(|r| r.operation.detail.len()).sum();
            assert!(batch.records.len() <= BATCH_RECORDS_MAX && bytes <= BATCH_DETAIL_BYTES_MAX);
            next += u64::try_from(batch.records.len()).unwrap();
        }
        assert_eq!(next, 600);
        assert_eq!(log.waiting().detail_bytes, 0);
    }

    #[test]
    fn a_detail_too_long_to_be_let_through_is_cut_at_a_character_in_the_evidence_of_its_refusal() {
        let detail = "é".repeat(OPERATION_DETAIL_BYTES_MAX);
        let record = instant_record(
            OperationId::new(Timestamp::EPOCH, [1; 10]),
            0,
            Operation {
                kind: OperationKind::Exec,
                detail,
                facts: None,
            },
            Timestamp::EPOCH,
            Some(Reason::OperationTooLong),
        );
        assert_eq!(record.operation.detail.len(), OPERATION_DETAIL_BYTES_MAX);
        assert_eq!(record.outcome, OperationOutcome::Refused);
    }

    #[tokio::test]
    async fn beginning_waits_while_too_much_evidence_waits() {
        let log = OperationLog::default();
        for _ in 0..OPERATIONS_MAX {
            log.put(record(1));
        }
        let mut room = Box::pin(log.room());
        assert!(futures_util::poll!(&mut room).is_pending());
        log.take(&session_id()).unwrap();
        log.room.notify_waiters();
        room.await;
    }
}
