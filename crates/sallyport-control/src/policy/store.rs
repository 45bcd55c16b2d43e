//! Table `policy_bundle`.

use sallyport_core::time::Timestamp;

use crate::{
    kernel::{
        database::StoreError,
        statement::{Row, Sql},
        transaction::Transaction,
    },
    params,
};

/// One version, without its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionRow {
    /// Number, dense from 1.
    pub version: u64,
    /// Hash of its content.
    pub hash: String,
    /// Who put it into force.
    pub applied_by: String,
    /// When.
    pub applied_at: Timestamp,
}

fn version(row: &Row) -> Result<VersionRow, StoreError> {
    Ok(VersionRow {
        version: row.count("version")?,
        hash: row.text("hash")?,
        applied_by: row.text("applied_by")?,
        applied_at: row.time("applied_at")?,
    })
}

/// The newest version and its text, if there is one.
pub(super) async fn latest(sql: &mut dyn Sql) -> Result<Option<(VersionRow, String)>, StoreError> {
    let row = sql
        .optional(
            "SELECT * FROM policy_bundle ORDER BY version DESC LIMIT 1",
            vec![],
        )
        .await?;
    row.map(|row| Ok((version(&row)?, row.text("body")?)))
        .transpose()
}

/// One version and its text, if there is one.
pub(super) async fn by_version(
    sql: &mut dyn Sql,
    number: u64,
) -> Result<Option<(VersionRow, String)>, StoreError> {
    let row = sql
        .optional(
            "SELECT * FROM policy_bundle WHERE version = $1",
            params![number],
        )
        .await?;
    row.map(|row| Ok((version(&row)?, row.text("body")?)))
        .transpose()
}

/// Versions before `cursor` (0 for the newest), newest first.
pub(super) async fn page(
    sql: &mut dyn Sql,
    cursor: u64,
    limit: u32,
) -> Result<Vec<VersionRow>, StoreError> {
    let rows = sql
        .all(
            "SELECT version, hash, applied_by, applied_at FROM policy_bundle
             WHERE ($1 = 0 OR version < $1) ORDER BY version DESC LIMIT $2",
            params![cursor, limit],
        )
        .await?;
    rows.iter().map(version).collect()
}

pub(super) async fn insert(
    tx: &mut Transaction,
    row: &VersionRow,
    body: &str,
) -> Result<(), StoreError> {
    tx.run(
        "INSERT INTO policy_bundle (version, hash, body, applied_by, applied_at) VALUES ($1, $2, $3, $4, $5)",
        params![row.version, row.hash.as_str(), body, row.applied_by.as_str(), row.applied_at],
    )
    .await
    .map(drop)
}
