//! Table `rotation`, and which accounts are to be in it.

use sallyport_core::{id::AccountId, inventory::Account, time::Timestamp};
use sallyport_vault::engines;
use serde::{Deserialize, Serialize};

use crate::{
    kernel::{
        database::StoreError,
        statement::{Row, Sql, Value},
        transaction::Transaction,
    },
    params,
    secret::rotation::Emergency,
};

/// How the rotation of an account stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotationRow {
    /// When it succeeded last.
    pub rotated_at: Option<Timestamp>,
    /// Failures since.
    pub attempts: u32,
    /// Why the last one failed, in words that hold no secret.
    pub last_failure: Option<String>,
}

/// Stores how a rotation stands and when the next is due.
///
/// # Errors
/// [`StoreError`]; so for all here.
pub(in crate::secret) async fn put(
    tx: &mut Transaction,
    account_id: &AccountId,
    next_at: Option<Timestamp>,
    row: &RotationRow,
) -> Result<(), StoreError> {
    tx.run(
        "INSERT INTO rotation (account_id, next_at, rotated_at, body) VALUES ($1, $2, $3, $4)
         ON CONFLICT (account_id) DO UPDATE SET next_at = excluded.next_at,
             rotated_at = excluded.rotated_at, body = excluded.body",
        params![
            account_id.as_str(),
            next_at,
            row.rotated_at,
            Value::json(row)?
        ],
    )
    .await
    .map(drop)
}

pub(in crate::secret) async fn remove(
    tx: &mut Transaction,
    account_id: &AccountId,
) -> Result<(), StoreError> {
    tx.run(
        "DELETE FROM rotation WHERE account_id = $1",
        params![account_id.as_str()],
    )
    .await
    .map(drop)
}

pub(in crate::secret) async fn standing(
    sql: &mut dyn Sql,
    account_id: &AccountId,
) -> Result<Option<(RotationRow, Option<Timestamp>)>, StoreError> {
    let row = sql
        .optional(
            "SELECT next_at, body FROM rotation WHERE account_id = $1",
            params![account_id.as_str()],
        )
        .await?;
    row.map(|row| Ok((row.json("body")?, row.time_or_null("next_at")?)))
        .transpose()
}

pub(in crate::secret) async fn row(
    sql: &mut dyn Sql,
    account_id: &AccountId,
) -> Result<Option<RotationRow>, StoreError> {
    Ok(standing(sql, account_id).await?.map(|(row, _)| row))
}

/// Accounts whose rotation is due, longest due first.
pub(in crate::secret) async fn due(
    sql: &mut dyn Sql,
    now: Timestamp,
) -> Result<Vec<AccountId>, StoreError> {
    let rows = sql
        .all(
            "SELECT account_id FROM rotation WHERE next_at <= $1 ORDER BY next_at LIMIT 100",
            params![now],
        )
        .await?;
    ids(&rows, "account_id")
}

/// When the password was rotated that was rotated longest ago.
pub(in crate::secret) async fn oldest(sql: &mut dyn Sql) -> Result<Option<Timestamp>, StoreError> {
    let row = sql
        .optional("SELECT MIN(rotated_at) AS at FROM rotation", vec![])
        .await?;
    row.map_or(Ok(None), |row| row.time_or_null("at"))
}

/// Accounts that are to be rotated from time to time and that no row is there for.
pub(in crate::secret) async fn unplanned(sql: &mut dyn Sql) -> Result<Vec<Account>, StoreError> {
    let rows = sql
        .all(
            "SELECT a.id AS id FROM account a LEFT JOIN rotation r ON r.account_id = a.id
             WHERE a.engine = 'static' AND r.account_id IS NULL AND a.settings LIKE '%rotate_every_s%'
             LIMIT 100",
            vec![],
        )
        .await?;
    let mut accounts = Vec::with_capacity(rows.len());
    for id in ids(&rows, "id")? {
        accounts.extend(crate::inventory::account_by_id(sql, &id).await?);
    }
    Ok(accounts)
}

/// Accounts with stored secrets that an emergency is about.
pub(in crate::secret) async fn accounts_of(
    sql: &mut dyn Sql,
    emergency: &Emergency,
) -> Result<Vec<AccountId>, StoreError> {
    const ALL: &str = "SELECT a.id AS id, t.protocol AS protocol, t.id AS target_id FROM account a
         JOIN target t ON t.id = a.target_id WHERE a.engine = 'static'";
    const OF_PERSON: &str =
        "SELECT a.id AS id, t.protocol AS protocol, t.id AS target_id FROM account a
         JOIN target t ON t.id = a.target_id WHERE a.engine = 'static'
           AND a.id IN (SELECT account_id FROM session WHERE person_id = $1)";
    let rows = match emergency {
        Emergency::Person(person_id) => sql.all(OF_PERSON, params![person_id.as_str()]).await?,
        Emergency::Target(_) | Emergency::Everything => sql.all(ALL, vec![]).await?,
    };
    let mut accounts = Vec::new();
    for row in &rows {
        let is_meant = match emergency {
            Emergency::Target(target_id) => row.text("target_id")? == target_id.as_str(),
            Emergency::Person(_) | Emergency::Everything => true,
        };
        if is_meant && engines::of_protocol(&row.text("protocol")?).is_some() {
            accounts.push(row.parsed("id")?);
        }
    }
    Ok(accounts)
}

fn ids(rows: &[Row], column: &str) -> Result<Vec<AccountId>, StoreError> {
    rows.iter().map(|row| row.parsed(column)).collect()
}
