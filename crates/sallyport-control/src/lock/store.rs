//! Table `access_lock`.

use sallyport_core::{id::LockId, lock::Lock, time::Timestamp};

use crate::{
    kernel::{
        database::StoreError,
        statement::{Sql, Value},
        transaction::Transaction,
    },
    params,
};

/// More locks than this at once are a fault; the decision must see all of them.
pub(super) const LOCKS_MAX: u32 = 1_000;

/// Every lock in force at `now`.
///
/// # Errors
/// [`StoreError`].
pub async fn in_force(sql: &mut dyn Sql, now: Timestamp) -> Result<Vec<Lock>, StoreError> {
    let rows = sql
        .all(
            "SELECT body FROM access_lock WHERE until_at IS NULL OR until_at > $1 ORDER BY id LIMIT $2",
            params![now, LOCKS_MAX],
        )
        .await?;
    rows.iter().map(|row| row.json("body")).collect()
}

pub(super) async fn put(tx: &mut Transaction, lock: &Lock) -> Result<(), StoreError> {
    tx.run(
        "INSERT INTO access_lock (id, body, until_at) VALUES ($1, $2, $3)",
        params![lock.id.as_str(), Value::json(lock)?, lock.until],
    )
    .await
    .map(drop)
}

pub(super) async fn remove(tx: &mut Transaction, id: &LockId) -> Result<bool, StoreError> {
    Ok(tx
        .run(
            "DELETE FROM access_lock WHERE id = $1",
            params![id.as_str()],
        )
        .await?
        > 0)
}
