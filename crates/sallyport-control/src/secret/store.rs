//! Tables `vault_keyring`, `secret`, `vault_public_key`.

pub(super) mod rotation;

use sallyport_vault::{KeyringRecord, SealedSecret, SecretPath};

use crate::{
    kernel::{
        database::StoreError,
        statement::{Row, Sql},
        transaction::Transaction,
    },
    params,
};

fn damaged(place: &str, problem: impl ToString) -> StoreError {
    StoreError::Damaged {
        place: place.to_owned(),
        problem: problem.to_string(),
    }
}

/// The stored keyring, once the vault was made.
///
/// # Errors
/// [`StoreError`], also when it cannot be read; so for all here.
pub async fn keyring_record(sql: &mut dyn Sql) -> Result<Option<KeyringRecord>, StoreError> {
    let Some(row) = sql
        .optional("SELECT record FROM vault_keyring WHERE id = 1", vec![])
        .await?
    else {
        return Ok(None);
    };
    let record = KeyringRecord::from_stored(&row.text("record")?);
    record
        .map(Some)
        .map_err(|error| damaged("vault_keyring", error))
}

/// Stores the first keyring; a second one is a conflict.
pub(super) async fn insert_keyring(
    tx: &mut Transaction,
    record: &KeyringRecord,
) -> Result<(), StoreError> {
    tx.run(
        "INSERT INTO vault_keyring (id, generation, record) VALUES (1, $1, $2)",
        params![record.generation(), record.to_stored()],
    )
    .await
    .map(drop)
}

fn sealed(row: &Row) -> Result<SealedSecret, StoreError> {
    SealedSecret::from_stored(&row.text("sealed")?).map_err(|error| damaged("secret", error))
}

/// The newest version of a secret, if there is one.
pub(super) async fn latest(
    sql: &mut dyn Sql,
    path: &SecretPath,
) -> Result<Option<SealedSecret>, StoreError> {
    let row = sql
        .optional(
            "SELECT sealed FROM secret WHERE path = $1 ORDER BY version DESC LIMIT 1",
            params![path.as_str()],
        )
        .await?;
    row.as_ref().map(sealed).transpose()
}

/// Stores one version of a secret.
pub(super) async fn insert(tx: &mut Transaction, sealed: &SealedSecret) -> Result<(), StoreError> {
    tx.run(
        "INSERT INTO secret (path, version, sealed) VALUES ($1, $2, $3)",
        params![sealed.path().as_str(), sealed.version(), sealed.to_stored()],
    )
    .await
    .map(drop)
}

/// Removes every version of a secret.
pub(super) async fn remove(tx: &mut Transaction, path: &SecretPath) -> Result<(), StoreError> {
    tx.run("DELETE FROM secret WHERE path = $1", params![path.as_str()])
        .await
        .map(drop)
}

/// The public half of a key in the vault, once the vault was made.
pub async fn public_key(sql: &mut dyn Sql, name: &str) -> Result<Option<String>, StoreError> {
    let row = sql
        .optional(
            "SELECT value FROM vault_public_key WHERE name = $1",
            params![name],
        )
        .await?;
    row.map(|row| row.text("value")).transpose()
}

/// Stores the public half of a key.
pub(super) async fn put_public_key(
    tx: &mut Transaction,
    name: &str,
    value: &str,
) -> Result<(), StoreError> {
    tx.run(
        "INSERT INTO vault_public_key (name, value) VALUES ($1, $2)",
        params![name, value],
    )
    .await
    .map(drop)
}
