//! Leases by what is to be done with them, and the table `lease_place`.

use sallyport_core::{
    id::LeaseId,
    lease::{Lease, STUCK_AFTER},
    time::Timestamp,
};

use crate::{
    kernel::{
        database::StoreError,
        statement::{Sql, Value},
        transaction::Transaction,
    },
    params,
    secret::Place,
};

/// Addresses at which revocations are due, and nowhere where they are at no target.
///
/// # Errors
/// [`StoreError`]; so for all here.
pub(in crate::broker) async fn addresses_due(
    sql: &mut dyn Sql,
    now: Timestamp,
) -> Result<Vec<String>, StoreError> {
    let rows = sql
        .all(
            "SELECT DISTINCT COALESCE(p.address, '') AS address FROM lease l
             LEFT JOIN lease_place p ON p.lease_id = l.id
             WHERE (l.state = 'revoking' AND l.next_attempt_at <= $1)
                OR (l.state IN ('intended', 'issued') AND l.expires_at <= $1)",
            params![now],
        )
        .await?;
    rows.iter().map(|row| row.text("address")).collect()
}

/// Leases at an address whose revocation is due, longest due first.
pub(in crate::broker) async fn due_at(
    sql: &mut dyn Sql,
    address: &str,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<Lease>, StoreError> {
    let rows = sql
        .all(
            "SELECT l.body AS body FROM lease l LEFT JOIN lease_place p ON p.lease_id = l.id
             WHERE COALESCE(p.address, '') = $2 AND ((l.state = 'revoking' AND l.next_attempt_at <= $1)
                OR (l.state IN ('intended', 'issued') AND l.expires_at <= $1))
             ORDER BY l.next_attempt_at, l.id LIMIT $3",
            params![now, address, limit],
        )
        .await?;
    rows.iter().map(|row| row.json("body")).collect()
}

/// Leases older than `cursor` (an id), newest first; with `only_stuck` those somebody should look at.
pub(in crate::broker) async fn page(
    sql: &mut dyn Sql,
    cursor: &str,
    limit: u32,
    only_stuck: bool,
) -> Result<Vec<Lease>, StoreError> {
    let attempts = if only_stuck { STUCK_AFTER } else { 0 };
    let rows = sql
        .all(
            "SELECT body FROM lease WHERE ($1 = '' OR id < $1)
                AND ($3 = 0 OR (state = 'revoking' AND revoke_attempts >= $3))
             ORDER BY id DESC LIMIT $2",
            params![cursor, limit, attempts],
        )
        .await?;
    rows.iter().map(|row| row.json("body")).collect()
}

/// How many leases stand where, for the metrics.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::broker) struct Counts {
    /// Not revoked.
    pub(in crate::broker) open: u64,
    /// To be revoked now.
    pub(in crate::broker) due: u64,
    /// Beyond the time by which they should have been.
    pub(in crate::broker) overdue: u64,
    /// Failed so often that somebody should look.
    pub(in crate::broker) stuck: u64,
}

/// Counts leases; those are overdue that ended before `late`.
pub(in crate::broker) async fn counts(
    sql: &mut dyn Sql,
    now: Timestamp,
    late: Timestamp,
) -> Result<Counts, StoreError> {
    let row = sql
        .optional(
            "SELECT COUNT(*) AS n_open,
                COUNT(CASE WHEN state = 'revoking' OR expires_at <= $1 THEN 1 END) AS n_due,
                COUNT(CASE WHEN expires_at <= $2 OR (state = 'revoking' AND revoke_attempts > 1) THEN 1 END)
                    AS n_overdue,
                COUNT(CASE WHEN state = 'revoking' AND revoke_attempts >= $3 THEN 1 END) AS n_stuck
             FROM lease WHERE state <> 'revoked'",
            params![now, late, STUCK_AFTER],
        )
        .await?;
    row.map_or(Ok(Counts::default()), |row| {
        Ok(Counts {
            open: row.count("n_open")?,
            due: row.count("n_due")?,
            overdue: row.count("n_overdue")?,
            stuck: row.count("n_stuck")?,
        })
    })
}

/// Stores where a lease's credential is made.
pub(in crate::broker) async fn put_place(
    tx: &mut Transaction,
    lease_id: &LeaseId,
    place: &Place,
) -> Result<(), StoreError> {
    tx.run(
        "INSERT INTO lease_place (lease_id, address, body) VALUES ($1, $2, $3)",
        params![
            lease_id.as_str(),
            place.address.as_str(),
            Value::json(place)?
        ],
    )
    .await
    .map(drop)
}

/// Where a lease's credential is made; nothing for those made at no target.
pub(in crate::broker) async fn place_of(
    sql: &mut dyn Sql,
    lease_id: &LeaseId,
) -> Result<Option<Place>, StoreError> {
    let row = sql
        .optional(
            "SELECT body FROM lease_place WHERE lease_id = $1",
            params![lease_id.as_str()],
        )
        .await?;
    row.map(|row| row.json("body")).transpose()
}

/// Forgets where a credential was made that is gone.
pub(in crate::broker) async fn forget_place(
    tx: &mut Transaction,
    lease_id: &LeaseId,
) -> Result<(), StoreError> {
    tx.run(
        "DELETE FROM lease_place WHERE lease_id = $1",
        params![lease_id.as_str()],
    )
    .await
    .map(drop)
}

/// Handles of leases that are not revoked.
pub(in crate::broker) async fn open_handles(sql: &mut dyn Sql) -> Result<Vec<String>, StoreError> {
    let rows = sql
        .all(
            "SELECT l.body AS body FROM lease l JOIN lease_place p ON p.lease_id = l.id
             WHERE l.state <> 'revoked'",
            vec![],
        )
        .await?;
    let mut handles = Vec::with_capacity(rows.len());
    for row in &rows {
        handles.extend(row.json::<Lease>("body")?.handle);
    }
    Ok(handles)
}
