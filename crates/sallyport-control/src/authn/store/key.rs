//! Tables `ssh_key` and `ssh_certificate`.

use sallyport_core::{
    id::{KeyId, PersonId},
    principal::AuthenticationStrength,
    time::Timestamp,
};

use crate::{
    kernel::{
        database::StoreError,
        statement::{Row, Sql, Value},
        transaction::Transaction,
    },
    params,
};

/// A registered SSH key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::authn) struct SshKey {
    pub(in crate::authn) id: KeyId,
    pub(in crate::authn) person_id: PersonId,
    pub(in crate::authn) fingerprint: String,
    pub(in crate::authn) public_key: String,
    pub(in crate::authn) algorithm: String,
    pub(in crate::authn) label: String,
    pub(in crate::authn) added_at: Timestamp,
}

fn ssh_key(row: &Row) -> Result<SshKey, StoreError> {
    Ok(SshKey {
        id: row.parsed("id")?,
        person_id: row.parsed("person_id")?,
        fingerprint: row.text("fingerprint")?,
        public_key: row.text("public_key")?,
        algorithm: row.text("algorithm")?,
        label: row.text("label")?,
        added_at: row.time("added_at")?,
    })
}

/// The key of this fingerprint, whoever it belongs to.
pub(in crate::authn) async fn ssh_key_by_fingerprint(
    sql: &mut dyn Sql,
    fingerprint: &str,
) -> Result<Option<SshKey>, StoreError> {
    let row = sql
        .optional(
            "SELECT id, person_id, fingerprint, public_key, algorithm, label, added_at
             FROM ssh_key WHERE fingerprint = $1",
            params![fingerprint],
        )
        .await?;
    row.as_ref().map(ssh_key).transpose()
}

/// Keys of a person, newest first, from before `cursor` (an id, or empty).
pub(in crate::authn) async fn ssh_keys(
    sql: &mut dyn Sql,
    person_id: &PersonId,
    cursor: &str,
    limit: u32,
) -> Result<Vec<SshKey>, StoreError> {
    let rows = sql
        .all(
            "SELECT id, person_id, fingerprint, public_key, algorithm, label, added_at
             FROM ssh_key WHERE person_id = $1 AND ($2 = '' OR id < $2)
             ORDER BY id DESC LIMIT $3",
            params![person_id.as_str(), cursor, limit],
        )
        .await?;
    rows.iter().map(ssh_key).collect()
}

/// Stores a key; [`StoreError::Conflict`] when anybody has it.
pub(in crate::authn) async fn put_ssh_key(
    tx: &mut Transaction,
    key: &SshKey,
) -> Result<(), StoreError> {
    tx.run(
        "INSERT INTO ssh_key (id, person_id, fingerprint, public_key, algorithm, label, added_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        params![
            key.id.as_str(),
            key.person_id.as_str(),
            key.fingerprint.as_str(),
            key.public_key.as_str(),
            key.algorithm.as_str(),
            key.label.as_str(),
            key.added_at
        ],
    )
    .await
    .map(drop)
}

/// Removes a key.
pub(in crate::authn) async fn delete_ssh_key(
    tx: &mut Transaction,
    id: &KeyId,
) -> Result<(), StoreError> {
    tx.run("DELETE FROM ssh_key WHERE id = $1", params![id.as_str()])
        .await
        .map(drop)
}

/// A certificate issued at sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::authn) struct SshCertificate {
    pub(in crate::authn) serial: u64,
    pub(in crate::authn) person_id: PersonId,
    pub(in crate::authn) fingerprint: String,
    pub(in crate::authn) strength: AuthenticationStrength,
    pub(in crate::authn) authenticated_at: Timestamp,
    pub(in crate::authn) expires_at: Timestamp,
}

/// Stores a certificate under the sign-in it was made at.
pub(in crate::authn) async fn put_ssh_certificate(
    tx: &mut Transaction,
    token_hash: Vec<u8>,
    certificate: &SshCertificate,
) -> Result<(), StoreError> {
    tx.run(
        "INSERT INTO ssh_certificate
             (serial, person_id, fingerprint, token_hash, strength, authenticated_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        params![
            Value::shown(&certificate.serial),
            certificate.person_id.as_str(),
            certificate.fingerprint.as_str(),
            token_hash,
            Value::json(&certificate.strength)?,
            certificate.authenticated_at,
            certificate.expires_at
        ],
    )
    .await
    .map(drop)
}

/// The certificate of this number, if we issued it and its sign-in has not ended.
pub(in crate::authn) async fn ssh_certificate(
    sql: &mut dyn Sql,
    serial: u64,
) -> Result<Option<SshCertificate>, StoreError> {
    let row = sql
        .optional(
            "SELECT person_id, fingerprint, strength, authenticated_at, expires_at
             FROM ssh_certificate WHERE serial = $1",
            params![Value::shown(&serial)],
        )
        .await?;
    row.map(|row| {
        Ok(SshCertificate {
            serial,
            person_id: row.parsed("person_id")?,
            fingerprint: row.text("fingerprint")?,
            strength: row.json("strength")?,
            authenticated_at: row.time("authenticated_at")?,
            expires_at: row.time("expires_at")?,
        })
    })
    .transpose()
}
