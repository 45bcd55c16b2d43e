//! Evidence of statements: what stands in the log of the thousands that programs run.

use sallyport_api::gateway::{Call, OperationBatch, Reply};
use sallyport_core::{
    id::{OperationId, SessionId},
    session::{
        OPERATION_DETAIL_BYTES_MAX, Operation, OperationKind, OperationOutcome, OperationRecord,
        StatementFacts,
    },
    time::Timestamp,
};
use serde_json::Value;

use crate::main_job::{Story, story};

fn record(number: u8, kind: OperationKind, detail: &str, reason: Option<&str>) -> OperationRecord {
    OperationRecord {
        id: OperationId::new(Timestamp::EPOCH, [number; 10]),
        channel: 0,
        operation: Operation {
            kind,
            detail: detail.to_owned(),
            facts: Some(Box::new(StatementFacts::unknown())),
        },
        started_at: Timestamp::EPOCH,
        ended_at: Timestamp::EPOCH,
        outcome: match reason {
            Some(_) => OperationOutcome::Refused,
            None => OperationOutcome::Completed,
        },
        reason: reason.map(str::to_owned),
        exit_status: None,
        size_bytes: None,
        sha256: None,
        statement: None,
    }
}

async fn report(
    story: &mut Story,
    session_id: &SessionId,
    first: u64,
    records: &[OperationRecord],
) {
    let batch = OperationBatch {
        session_id: session_id.clone(),
        first,
        records: records.to_vec(),
    };
    let reply = story.gateway.call(Call::RecordOperations(batch)).await;
    assert_eq!(reply, Reply::Done);
}

/// What the log has of operations, in its order: how many share an entry, and their texts.
async fn logged(story: &Story) -> Vec<Vec<String>> {
    let texts = |entry: &Value| match entry["data"]["statements"].as_array() {
        Some(statements) => statements
            .iter()
            .map(|one| one["operation"]["detail"].as_str().unwrap().to_owned())
            .collect(),
        None => vec![entry["data"]["detail"].as_str().unwrap().to_owned()],
    };
    let mut entries = story.entries("operation.recorded").await;
    entries.extend(story.entries("statements.recorded").await);
    entries.sort_by_key(|entry| entry["seq"].as_u64().unwrap());
    entries.iter().map(texts).collect()
}

/// RE-3, AU-1: statements that ran share entries of the log in their order; what was refused and what is no
/// statement has its own, and a report that is repeated adds nothing.
#[tokio::test]
async fn given_statements_that_ran_then_they_share_entries_and_each_stands_in_the_log_once() {
    let mut story = story().await;
    let opened = story.opened().await;
    let session_id = story.permit(&opened).terms().session_id.clone();
    let statement = |number, reason| {
        record(
            number,
            OperationKind::Statement,
            &format!("SELECT {number}"),
            reason,
        )
    };
    let records = [
        record(1, OperationKind::Database, "shop", None),
        statement(2, None),
        statement(3, None),
        statement(4, Some("not-permitted")),
        statement(5, None),
        statement(6, None),
        statement(7, None),
    ];
    report(&mut story, &session_id, 0, &records[..6]).await;
    report(&mut story, &session_id, 0, &records[..6]).await;
    report(&mut story, &session_id, 4, &records[4..]).await;
    let expected: [&[&str]; 5] = [
        &["shop"],
        &["SELECT 2", "SELECT 3"],
        &["SELECT 4"],
        &["SELECT 5", "SELECT 6"],
        &["SELECT 7"],
    ];
    assert_eq!(logged(&story).await, expected);
    let path = format!("/v1/sessions/{session_id}/operations");
    let listed = story.node.ok(&story.bob, "GET", &path, None).await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 7, "{listed}");
}

/// RE-3, AU-6: however long statements are, and whatever is in them, an entry has room for those that share it.
#[tokio::test]
async fn given_long_statements_then_no_entry_is_too_large_and_none_is_missing() {
    let mut story = story().await;
    let opened = story.opened().await;
    let session_id = story.permit(&opened).terms().session_id.clone();
    // Six bytes each as JSON.
    let text = |bytes: usize| "\u{1}".repeat(bytes);
    let records: Vec<_> = (0..24)
        .map(|number| {
            let text = text(OPERATION_DETAIL_BYTES_MAX >> (number % 6));
            record(number, OperationKind::Statement, &text, None)
        })
        .collect();
    report(&mut story, &session_id, 0, &records).await;
    let logged = logged(&story).await;
    assert!(logged.len() < records.len(), "short ones share");
    let texts: Vec<_> = logged.into_iter().flatten().collect();
    let reported: Vec<_> = records
        .into_iter()
        .map(|one| one.operation.detail)
        .collect();
    assert_eq!(texts, reported);
}
