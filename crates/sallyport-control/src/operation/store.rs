//! Table `held_operation`.

use sallyport_core::{
    access::HeldOperation,
    id::{OperationId, PersonId, SessionId},
    time::Timestamp,
};

use crate::{
    kernel::{
        database::StoreError,
        statement::{Sql, Value},
        transaction::Transaction,
    },
    params,
};

/// The held operation of this id, if there is one.
pub(super) async fn operation_by_id(
    sql: &mut dyn Sql,
    id: &OperationId,
) -> Result<Option<HeldOperation>, StoreError> {
    let row = sql
        .optional(
            "SELECT body FROM held_operation WHERE id = $1",
            params![id.as_str()],
        )
        .await?;
    row.map(|row| row.json("body")).transpose()
}

/// Held operations older than `cursor` (an id), newest first; only of `requester` when given, only in
/// `state` when given.
pub(super) async fn operations_page(
    sql: &mut dyn Sql,
    requester: Option<&PersonId>,
    state: Option<&str>,
    cursor: &str,
    limit: u32,
) -> Result<Vec<HeldOperation>, StoreError> {
    let rows = sql
        .all(
            "SELECT body FROM held_operation
             WHERE ($1 = '' OR requester_id = $1) AND ($2 = '' OR state = $2) AND ($3 = '' OR id < $3)
             ORDER BY id DESC LIMIT $4",
            params![requester.map_or("", PersonId::as_str), state.unwrap_or(""), cursor, limit],
        )
        .await?;
    rows.iter().map(|row| row.json("body")).collect()
}

/// Operations that wait in one session.
pub(super) async fn waiting_of_session(
    sql: &mut dyn Sql,
    session_id: &SessionId,
) -> Result<Vec<HeldOperation>, StoreError> {
    let rows = sql
        .all(
            "SELECT body FROM held_operation WHERE session_id = $1 AND state = 'waiting' LIMIT 1000",
            params![session_id.as_str()],
        )
        .await?;
    rows.iter().map(|row| row.json("body")).collect()
}

/// Waiting operations whose time is over.
pub(super) async fn overdue(
    sql: &mut dyn Sql,
    now: Timestamp,
) -> Result<Vec<HeldOperation>, StoreError> {
    let rows = sql
        .all(
            "SELECT body FROM held_operation WHERE state = 'waiting' AND expires_at <= $1
             ORDER BY expires_at LIMIT 100",
            params![now],
        )
        .await?;
    rows.iter().map(|row| row.json("body")).collect()
}

/// Stores a new one; an id that is known already is a conflict.
pub(super) async fn insert(
    tx: &mut Transaction,
    operation: &HeldOperation,
) -> Result<(), StoreError> {
    tx.run(
        "INSERT INTO held_operation (id, session_id, requester_id, state, expires_at, body)
         VALUES ($1, $2, $3, $4, $5, $6)",
        params![
            operation.id.as_str(),
            operation.content.session_id.as_str(),
            operation.content.requester_id.as_str(),
            operation.state.as_str(),
            operation.expires_at,
            Value::json(operation)?,
        ],
    )
    .await
    .map(drop)
}

/// Stores where it stands now. What is over is never changed again.
pub(super) async fn update(
    tx: &mut Transaction,
    operation: &HeldOperation,
) -> Result<bool, StoreError> {
    let touched = tx
        .run(
            "UPDATE held_operation SET state = $2, body = $3 WHERE id = $1 AND state = 'waiting'",
            params![
                operation.id.as_str(),
                operation.state.as_str(),
                Value::json(operation)?,
            ],
        )
        .await?;
    Ok(touched > 0)
}
