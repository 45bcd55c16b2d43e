//! Tables `access_request`, `access_grant`, `review`.

use sallyport_core::{
    access::{AccessRequest, Grant, Review, ReviewState},
    id::{AccountId, GrantId, PersonId, RequestId, ReviewId},
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

/// The request of this id, if there is one.
///
/// # Errors
/// [`StoreError`]; so for all here.
pub async fn request_by_id(
    sql: &mut dyn Sql,
    id: &RequestId,
) -> Result<Option<AccessRequest>, StoreError> {
    let row = sql
        .optional(
            "SELECT body FROM access_request WHERE id = $1",
            params![id.as_str()],
        )
        .await?;
    row.map(|row| row.json("body")).transpose()
}

/// Requests older than `cursor` (an id), newest first; only of `requester` when given, only in `state`
/// when given.
pub(super) async fn requests_page(
    sql: &mut dyn Sql,
    requester: Option<&PersonId>,
    state: Option<&str>,
    cursor: &str,
    limit: u32,
) -> Result<Vec<AccessRequest>, StoreError> {
    let rows = sql
        .all(
            "SELECT body FROM access_request
             WHERE ($1 = '' OR requester_id = $1) AND ($2 = '' OR state = $2) AND ($3 = '' OR id < $3)
             ORDER BY id DESC LIMIT $4",
            params![requester.map_or("", PersonId::as_str), state.unwrap_or(""), cursor, limit],
        )
        .await?;
    rows.iter().map(|row| row.json("body")).collect()
}

/// A pending request of this person for this account, if there is one.
pub async fn pending_request(
    sql: &mut dyn Sql,
    person_id: &PersonId,
    account_id: &AccountId,
    now: Timestamp,
) -> Result<Option<AccessRequest>, StoreError> {
    let row = sql
        .optional(
            "SELECT body FROM access_request
             WHERE requester_id = $1 AND account_id = $2 AND state = 'pending' AND expires_at > $3
             ORDER BY id DESC LIMIT 1",
            params![person_id.as_str(), account_id.as_str(), now],
        )
        .await?;
    row.map(|row| row.json("body")).transpose()
}

/// How many requests of this person are pending.
pub(super) async fn pending_count(
    sql: &mut dyn Sql,
    person_id: &PersonId,
) -> Result<u64, StoreError> {
    let row = sql
        .optional(
            "SELECT COUNT(*) AS n FROM access_request WHERE requester_id = $1 AND state = 'pending'",
            params![person_id.as_str()],
        )
        .await?;
    row.map_or(Ok(0), |row| row.count("n"))
}

/// Pending requests whose time is over.
pub(super) async fn overdue_requests(
    sql: &mut dyn Sql,
    now: Timestamp,
) -> Result<Vec<AccessRequest>, StoreError> {
    let rows = sql
        .all(
            "SELECT body FROM access_request WHERE state = 'pending' AND expires_at <= $1
             ORDER BY expires_at LIMIT 100",
            params![now],
        )
        .await?;
    rows.iter().map(|row| row.json("body")).collect()
}

pub(super) async fn put_request(
    tx: &mut Transaction,
    request: &AccessRequest,
) -> Result<(), StoreError> {
    tx.run(
        "INSERT INTO access_request (id, requester_id, account_id, state, expires_at, body)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (id) DO UPDATE SET state = excluded.state, body = excluded.body",
        params![
            request.id.as_str(),
            request.asked.requester_id.as_str(),
            request.asked.account_id.as_str(),
            request.state.as_str(),
            request.expires_at,
            Value::json(request)?,
        ],
    )
    .await
    .map(drop)
}

/// The grant of this id, if there is one.
pub async fn grant_by_id(sql: &mut dyn Sql, id: &GrantId) -> Result<Option<Grant>, StoreError> {
    let row = sql
        .optional(
            "SELECT body FROM access_grant WHERE id = $1",
            params![id.as_str()],
        )
        .await?;
    row.map(|row| row.json("body")).transpose()
}

/// The live grant of this person for this account that lasts longest, if there is one.
pub async fn live_grant(
    sql: &mut dyn Sql,
    person_id: &PersonId,
    account_id: &AccountId,
    now: Timestamp,
) -> Result<Option<Grant>, StoreError> {
    let row = sql
        .optional(
            "SELECT body FROM access_grant
             WHERE person_id = $1 AND account_id = $2 AND is_open = 1 AND until_at > $3
             ORDER BY until_at DESC LIMIT 1",
            params![person_id.as_str(), account_id.as_str(), now],
        )
        .await?;
    row.map(|row| row.json("body")).transpose()
}

/// Grants older than `cursor` (an id), newest first; only of `person` when given, only open when asked.
pub(super) async fn grants_page(
    sql: &mut dyn Sql,
    person: Option<&PersonId>,
    is_open_only: bool,
    cursor: &str,
    limit: u32,
) -> Result<Vec<Grant>, StoreError> {
    let rows = sql
        .all(
            "SELECT body FROM access_grant
             WHERE ($1 = '' OR person_id = $1) AND is_open >= $2 AND ($3 = '' OR id < $3)
             ORDER BY id DESC LIMIT $4",
            params![
                person.map_or("", PersonId::as_str),
                is_open_only,
                cursor,
                limit
            ],
        )
        .await?;
    rows.iter().map(|row| row.json("body")).collect()
}

/// Open grants of one person.
pub(super) async fn open_grants_of(
    sql: &mut dyn Sql,
    person_id: &PersonId,
) -> Result<Vec<Grant>, StoreError> {
    let rows = sql
        .all(
            "SELECT body FROM access_grant WHERE person_id = $1 AND is_open = 1 LIMIT 1000",
            params![person_id.as_str()],
        )
        .await?;
    rows.iter().map(|row| row.json("body")).collect()
}

/// Open grants whose time is over.
pub(super) async fn overdue_grants(
    sql: &mut dyn Sql,
    now: Timestamp,
) -> Result<Vec<Grant>, StoreError> {
    let rows = sql
        .all(
            "SELECT body FROM access_grant WHERE is_open = 1 AND until_at <= $1 ORDER BY until_at LIMIT 100",
            params![now],
        )
        .await?;
    rows.iter().map(|row| row.json("body")).collect()
}

pub(super) async fn put_grant(tx: &mut Transaction, grant: &Grant) -> Result<(), StoreError> {
    tx.run(
        "INSERT INTO access_grant (id, request_id, person_id, account_id, target_id, until_at, is_open, body)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (id) DO UPDATE SET is_open = excluded.is_open, body = excluded.body",
        params![
            grant.id.as_str(),
            grant.request_id.as_str(),
            grant.person_id.as_str(),
            grant.account_id.as_str(),
            grant.target_id.as_str(),
            grant.until,
            grant.ended.is_none(),
            Value::json(grant)?,
        ],
    )
    .await
    .map(drop)
}

/// Break-glass uses of this person that nobody has reviewed.
pub(super) async fn open_reviews(
    sql: &mut dyn Sql,
    person_id: &PersonId,
) -> Result<u64, StoreError> {
    let row = sql
        .optional(
            "SELECT COUNT(*) AS n FROM review WHERE person_id = $1 AND is_open = 1",
            params![person_id.as_str()],
        )
        .await?;
    row.map_or(Ok(0), |row| row.count("n"))
}

/// The review of this id, if there is one.
pub(super) async fn review_by_id(
    sql: &mut dyn Sql,
    id: &ReviewId,
) -> Result<Option<Review>, StoreError> {
    let row = sql
        .optional(
            "SELECT body FROM review WHERE id = $1",
            params![id.as_str()],
        )
        .await?;
    row.map(|row| row.json("body")).transpose()
}

/// Reviews older than `cursor` (an id), newest first.
pub(super) async fn reviews_page(
    sql: &mut dyn Sql,
    cursor: &str,
    limit: u32,
) -> Result<Vec<Review>, StoreError> {
    let rows = sql
        .all(
            "SELECT body FROM review WHERE ($1 = '' OR id < $1) ORDER BY id DESC LIMIT $2",
            params![cursor, limit],
        )
        .await?;
    rows.iter().map(|row| row.json("body")).collect()
}

pub(super) async fn put_review(tx: &mut Transaction, review: &Review) -> Result<(), StoreError> {
    tx.run(
        "INSERT INTO review (id, grant_id, person_id, is_open, body) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (id) DO UPDATE SET is_open = excluded.is_open, body = excluded.body",
        params![
            review.id.as_str(),
            review.grant_id.as_str(),
            review.person_id.as_str(),
            review.state == ReviewState::Open,
            Value::json(review)?,
        ],
    )
    .await
    .map(drop)
}
