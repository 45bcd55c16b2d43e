//! What gateways report of operations: stored with the session, and entered in the log.
//!
//! INVARIANT: every record is stored once and stands in the log once, whole and in its order; a report that is
//! repeated changes nothing, and one that leaves something out is refused.

use sallyport_api::gateway::OperationBatch;
use sallyport_core::{
    event::{Actor, Event, EventName, Events},
    id::GatewayId,
    session::{OperationKind, OperationRecord},
};

use super::{
    close::{ReportError, own_session},
    store::{self, OperationBody, SessionRow},
};
use crate::kernel::control::Control;

/// Bytes of statements that share one entry of the log, as JSON: far below what an entry may have.
const SHARED_BYTES_MAX: usize = 128 * 1024;

/// Stores a gateway's evidence of operations. Repeats are harmless.
///
/// # Errors
/// [`ReportError`].
pub async fn record_operations(
    control: &Control,
    gateway_id: &GatewayId,
    batch: OperationBatch,
) -> Result<(), ReportError> {
    let mut tx = control
        .db()
        .begin(Actor::Gateway(gateway_id.clone()))
        .await?;
    let session = own_session(&mut tx, gateway_id, &batch.session_id).await?;
    if batch.first > session.operations {
        return Err(ReportError::Gap {
            session_id: batch.session_id,
            first: batch.first,
            expected: session.operations,
        });
    }
    let known =
        usize::try_from(session.operations.saturating_sub(batch.first)).unwrap_or(usize::MAX);
    let fresh = batch.records.get(known..).unwrap_or_default();
    let bodies = fresh
        .iter()
        .map(OperationBody::of)
        .collect::<Result<Vec<_>, _>>()?;
    let sizes: Vec<usize> = bodies.iter().map(OperationBody::len).collect();
    let mut events = events(&session, fresh, &sizes).into_iter();
    let Some(first) = events.next() else {
        return Ok(());
    };
    store::append_operations(&mut tx, &session.id, session.operations, &bodies).await?;
    tx.commit(Events::one(first).and_all(events)).await?;
    count(fresh);
    Ok(())
}

fn count(records: &[OperationRecord]) {
    for record in records {
        metrics::counter!(
            "sallyport_operations_total",
            "kind" => record.operation.kind.as_str(),
            "outcome" => if record.reason.is_some() { "refused" } else { "run" },
        )
        .increment(1);
    }
}

/// The entries for `records`, which take `sizes` bytes as JSON: statements that ran share them, because programs
/// run thousands a second and an entry costs more than what stands in it.
fn events(session: &SessionRow, records: &[OperationRecord], sizes: &[usize]) -> Vec<Event> {
    let mut events = Vec::new();
    let (mut shared, mut shared_bytes): (Vec<&OperationRecord>, usize) = (Vec::new(), 0);
    for (record, size) in records.iter().zip(sizes) {
        if !may_share(record) || shared_bytes.saturating_add(*size) > SHARED_BYTES_MAX {
            events.extend(statements_event(session, &std::mem::take(&mut shared)));
            shared_bytes = 0;
        }
        if may_share(record) {
            shared.push(record);
            shared_bytes = shared_bytes.saturating_add(*size);
        } else {
            events.push(operation_event(session, record));
        }
    }
    events.extend(statements_event(session, &shared));
    events
}

/// Whether it is one of many: what was refused is looked for one by one.
fn may_share(record: &OperationRecord) -> bool {
    record.operation.kind == OperationKind::Statement && record.reason.is_none()
}

fn statements_event(session: &SessionRow, records: &[&OperationRecord]) -> Option<Event> {
    match records {
        [] => None,
        [record] => Some(operation_event(session, record)),
        records => Some(
            Event::new(EventName::StatementsRecorded, &session.id)
                .with("person_id", &session.person_id)
                .with("statements", records),
        ),
    }
}

fn operation_event(session: &SessionRow, record: &OperationRecord) -> Event {
    Event::new(EventName::OperationRecorded, &record.id)
        .with("session_id", &session.id)
        .with("person_id", &session.person_id)
        .with("channel", record.channel)
        .with("kind", record.operation.kind)
        .with("detail", &record.operation.detail)
        .with("facts", &record.operation.facts)
        .with("outcome", record.outcome)
        .with("reason", &record.reason)
        .with("exit_status", record.exit_status)
        .with("size_bytes", record.size_bytes)
        .with("sha256", &record.sha256)
        .with("statement", &record.statement)
        .with("started_at", record.started_at)
        .with("ended_at", record.ended_at)
}
