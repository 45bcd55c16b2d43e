//! Table `notice`.

use sallyport_core::time::Timestamp;
use serde_json::Value as Json;

use crate::{
    kernel::{
        database::StoreError,
        statement::{Sql, Value},
        transaction::{OperationalTable, Transaction},
    },
    params,
};

/// One notice waiting for delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) body: String,
    pub(super) attempts: u64,
}

/// Enqueues a notice about `subject`; joins the caller's transaction. Its id becomes part of its body, so
/// that the signature covers it.
pub(super) async fn enqueue(
    tx: &mut Transaction,
    subject: &str,
    kind: &str,
    mut body: Json,
    now: Timestamp,
) -> Result<(), StoreError> {
    let id = format!("{kind}:{subject}");
    if let Some(fields) = body.as_object_mut() {
        fields.insert("id".to_owned(), id.as_str().into());
        fields.insert("kind".to_owned(), kind.into());
        fields.insert("at".to_owned(), now.to_string().into());
    }
    tx.run(
        "INSERT INTO notice (id, kind, body, created_at, attempts, next_at, delivered_at)
         VALUES ($1, $2, $3, $4, 0, $4, NULL)",
        params![id, kind, Value::json(&body)?, now],
    )
    .await
    .map(drop)
}

/// Notices due for delivery, oldest first.
pub(super) async fn due(sql: &mut dyn Sql, now: Timestamp) -> Result<Vec<Notice>, StoreError> {
    let rows = sql
        .all(
            "SELECT id, kind, body, attempts FROM notice
             WHERE delivered_at IS NULL AND next_at <= $1 ORDER BY created_at LIMIT 50",
            params![now],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Notice {
                id: row.text("id")?,
                kind: row.text("kind")?,
                body: row.text("body")?,
                attempts: row.count("attempts")?,
            })
        })
        .collect()
}

/// Marks a notice delivered.
pub(super) async fn delivered(
    tx: &mut Transaction,
    id: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    tx.run_operational(
        OperationalTable::Notice,
        "UPDATE notice SET delivered_at = $2 WHERE id = $1",
        params![id, now],
    )
    .await
    .map(drop)
}

/// Plans the next attempt.
pub(super) async fn failed(
    tx: &mut Transaction,
    id: &str,
    attempts: u64,
    next_at: Timestamp,
) -> Result<(), StoreError> {
    tx.run_operational(
        OperationalTable::Notice,
        "UPDATE notice SET attempts = $2, next_at = $3 WHERE id = $1",
        params![id, attempts, next_at],
    )
    .await
    .map(drop)
}

/// Notices of one kind that are waiting and were made after `since`, oldest first, each with that time.
pub(super) async fn undelivered_since(
    sql: &mut dyn Sql,
    kind: &str,
    since: Timestamp,
) -> Result<Vec<(String, Timestamp)>, StoreError> {
    let rows = sql
        .all(
            "SELECT id, created_at FROM notice
             WHERE delivered_at IS NULL AND kind = $1 AND created_at > $2 ORDER BY created_at LIMIT 50",
            params![kind, since],
        )
        .await?;
    rows.iter()
        .map(|row| Ok((row.text("id")?, row.time("created_at")?)))
        .collect()
}
