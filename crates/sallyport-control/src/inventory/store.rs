//! Tables `target` and `account`.

use sallyport_core::{
    id::{AccountId, TargetId},
    inventory::{Account, AccountName, Sensitivity, Target, TargetName},
};

use crate::{
    kernel::{
        database::StoreError,
        statement::{Row, Sql, Value},
        transaction::Transaction,
    },
    params,
};

fn target(row: &Row) -> Result<Target, StoreError> {
    Ok(Target {
        id: row.parsed("id")?,
        name: row.parsed("name")?,
        protocol: row.text("protocol")?,
        address: row.text("address")?,
        labels: row.json("labels")?,
        sensitivity: row.json::<Sensitivity>("sensitivity")?,
        host_keys: row.json("host_keys")?,
        pins_first_host_key: row.flag("pins_first_host_key")?,
    })
}

fn account(row: &Row) -> Result<Account, StoreError> {
    Ok(Account {
        id: row.parsed("id")?,
        target_id: row.parsed("target_id")?,
        name: row.parsed("name")?,
        engine: row.text("engine")?,
        settings: row.json("settings")?,
    })
}

/// The target of this name, if there is one.
///
/// # Errors
/// [`StoreError`]; so for all readers here.
pub async fn target_by_name(
    sql: &mut dyn Sql,
    name: &TargetName,
) -> Result<Option<Target>, StoreError> {
    let row = sql
        .optional(
            "SELECT * FROM target WHERE name = $1",
            params![name.as_str()],
        )
        .await?;
    row.as_ref().map(target).transpose()
}

/// The target of this id, if there is one.
pub async fn target_by_id(sql: &mut dyn Sql, id: &TargetId) -> Result<Option<Target>, StoreError> {
    let row = sql
        .optional("SELECT * FROM target WHERE id = $1", params![id.as_str()])
        .await?;
    row.as_ref().map(target).transpose()
}

/// Targets after `cursor` (a name), by name.
pub async fn page(sql: &mut dyn Sql, cursor: &str, limit: u32) -> Result<Vec<Target>, StoreError> {
    let rows = sql
        .all(
            "SELECT * FROM target WHERE name > $1 ORDER BY name LIMIT $2",
            params![cursor, limit],
        )
        .await?;
    rows.iter().map(target).collect()
}

/// The account of this name on a target, if there is one.
pub async fn account_by_name(
    sql: &mut dyn Sql,
    target_id: &TargetId,
    name: &AccountName,
) -> Result<Option<Account>, StoreError> {
    let row = sql
        .optional(
            "SELECT * FROM account WHERE target_id = $1 AND name = $2",
            params![target_id.as_str(), name.as_str()],
        )
        .await?;
    row.as_ref().map(account).transpose()
}

/// The account of this id, if there is one.
pub async fn account_by_id(
    sql: &mut dyn Sql,
    id: &AccountId,
) -> Result<Option<Account>, StoreError> {
    let row = sql
        .optional("SELECT * FROM account WHERE id = $1", params![id.as_str()])
        .await?;
    row.as_ref().map(account).transpose()
}

/// All accounts of a target, by name.
pub async fn accounts_of(
    sql: &mut dyn Sql,
    target_id: &TargetId,
) -> Result<Vec<Account>, StoreError> {
    let rows = sql
        .all(
            "SELECT * FROM account WHERE target_id = $1 ORDER BY name LIMIT 1000",
            params![target_id.as_str()],
        )
        .await?;
    rows.iter().map(account).collect()
}

/// Makes or replaces a target.
pub(super) async fn put_target(tx: &mut Transaction, target: &Target) -> Result<(), StoreError> {
    tx.run(
        "INSERT INTO target (id, name, protocol, address, labels, sensitivity, host_keys, pins_first_host_key)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (id) DO UPDATE SET protocol = excluded.protocol, address = excluded.address,
             labels = excluded.labels, sensitivity = excluded.sensitivity, host_keys = excluded.host_keys,
             pins_first_host_key = excluded.pins_first_host_key",
        params![
            target.id.as_str(),
            target.name.as_str(),
            target.protocol.as_str(),
            target.address.as_str(),
            Value::json(&target.labels)?,
            Value::json(&target.sensitivity)?,
            Value::json(&target.host_keys)?,
            target.pins_first_host_key,
        ],
    )
    .await
    .map(drop)
}

/// Removes a target and its accounts.
pub(super) async fn remove_target(tx: &mut Transaction, id: &TargetId) -> Result<(), StoreError> {
    tx.run(
        "DELETE FROM account WHERE target_id = $1",
        params![id.as_str()],
    )
    .await?;
    tx.run("DELETE FROM target WHERE id = $1", params![id.as_str()])
        .await
        .map(drop)
}

/// Makes or replaces an account.
pub(super) async fn put_account(tx: &mut Transaction, account: &Account) -> Result<(), StoreError> {
    tx.run(
        "INSERT INTO account (id, target_id, name, engine, settings) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (id) DO UPDATE SET engine = excluded.engine, settings = excluded.settings",
        params![
            account.id.as_str(),
            account.target_id.as_str(),
            account.name.as_str(),
            account.engine.as_str(),
            Value::json(&account.settings)?,
        ],
    )
    .await
    .map(drop)
}

/// Removes an account.
pub(super) async fn remove_account(tx: &mut Transaction, id: &AccountId) -> Result<(), StoreError> {
    tx.run("DELETE FROM account WHERE id = $1", params![id.as_str()])
        .await
        .map(drop)
}
