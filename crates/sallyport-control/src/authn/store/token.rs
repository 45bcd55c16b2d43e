//! Tables `sign_in_token` and `api_token`. The certificates made at a sign-in go with it.

use sallyport_core::{
    authz::AdminAction,
    id::{ApiTokenId, PersonId},
    principal::Authentication,
    time::Timestamp,
};

use crate::{
    authn::bearer::{FoundToken, of_api_token},
    kernel::{
        caller::Bearer,
        database::StoreError,
        statement::{Row, Sql, Value},
        transaction::Transaction,
    },
    params,
};

/// The sign-in of this token hash, if there is one.
pub(in crate::authn) async fn sign_in_by_hash(
    sql: &mut dyn Sql,
    token_hash: Vec<u8>,
) -> Result<Option<FoundToken>, StoreError> {
    let row = sql
        .optional(
            "SELECT person_id, strength, methods, authenticated_at, expires_at FROM sign_in_token
             WHERE token_hash = $1",
            params![token_hash.clone()],
        )
        .await?;
    row.map(|row| {
        Ok(FoundToken {
            person_id: row.parsed("person_id")?,
            authentication: Authentication {
                strength: row.json("strength")?,
                at: row.time("authenticated_at")?,
                methods: row.json("methods")?,
            },
            bearer: Bearer::SignIn { token_hash },
            scopes: None,
            expires_at: row.time("expires_at")?,
        })
    })
    .transpose()
}

/// Stores a sign-in.
pub(in crate::authn) async fn put_sign_in(
    tx: &mut Transaction,
    token_hash: Vec<u8>,
    person_id: &PersonId,
    authentication: &Authentication,
    expires_at: Timestamp,
) -> Result<(), StoreError> {
    tx.run(
        "INSERT INTO sign_in_token
             (token_hash, person_id, strength, methods, authenticated_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6)",
        params![
            token_hash,
            person_id.as_str(),
            Value::json(&authentication.strength)?,
            Value::json(&authentication.methods)?,
            authentication.at,
            expires_at
        ],
    )
    .await
    .map(drop)
}

/// Forgets the sign-ins and certificates of a person that have run out.
pub(in crate::authn) async fn prune_sign_ins(
    tx: &mut Transaction,
    person_id: &PersonId,
    now: Timestamp,
) -> Result<(), StoreError> {
    tx.run(
        "DELETE FROM ssh_certificate WHERE person_id = $1 AND expires_at <= $2",
        params![person_id.as_str(), now],
    )
    .await?;
    tx.run(
        "DELETE FROM sign_in_token WHERE person_id = $1 AND expires_at <= $2",
        params![person_id.as_str(), now],
    )
    .await
    .map(drop)
}

/// Ends one sign-in with the certificate made at it; false when it had ended.
pub(in crate::authn) async fn end_sign_in(
    tx: &mut Transaction,
    token_hash: &[u8],
) -> Result<bool, StoreError> {
    tx.run(
        "DELETE FROM ssh_certificate WHERE token_hash = $1",
        params![token_hash.to_vec()],
    )
    .await?;
    let rows = tx
        .run(
            "DELETE FROM sign_in_token WHERE token_hash = $1",
            params![token_hash.to_vec()],
        )
        .await?;
    Ok(rows == 1)
}

/// Ends every sign-in of a person, with certificates.
pub(in crate::authn) async fn end_sign_ins(
    tx: &mut Transaction,
    person_id: &PersonId,
) -> Result<(), StoreError> {
    tx.run(
        "DELETE FROM ssh_certificate WHERE person_id = $1",
        params![person_id.as_str()],
    )
    .await?;
    tx.run(
        "DELETE FROM sign_in_token WHERE person_id = $1",
        params![person_id.as_str()],
    )
    .await
    .map(drop)
}

/// An API token, without the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::authn) struct ApiToken {
    pub(in crate::authn) id: ApiTokenId,
    pub(in crate::authn) label: String,
    pub(in crate::authn) scopes: Vec<AdminAction>,
    pub(in crate::authn) created_at: Timestamp,
    pub(in crate::authn) expires_at: Timestamp,
    pub(in crate::authn) is_revoked: bool,
}

/// The API token of this hash, if there is one that is not revoked.
pub(in crate::authn) async fn api_token_by_hash(
    sql: &mut dyn Sql,
    token_hash: Vec<u8>,
) -> Result<Option<FoundToken>, StoreError> {
    let row = sql
        .optional(
            "SELECT id, person_id, scopes, created_at, expires_at FROM api_token
             WHERE token_hash = $1 AND is_revoked = 0",
            params![token_hash],
        )
        .await?;
    row.as_ref().map(found_api_token).transpose()
}

/// The API token of this id that is not revoked.
pub(in crate::authn) async fn api_token_by_id(
    sql: &mut dyn Sql,
    id: &ApiTokenId,
) -> Result<Option<FoundToken>, StoreError> {
    let row = sql
        .optional(
            "SELECT id, person_id, scopes, created_at, expires_at FROM api_token
             WHERE id = $1 AND is_revoked = 0",
            params![id.as_str()],
        )
        .await?;
    row.as_ref().map(found_api_token).transpose()
}

fn found_api_token(row: &Row) -> Result<FoundToken, StoreError> {
    Ok(FoundToken {
        person_id: row.parsed("person_id")?,
        authentication: of_api_token(row.time("created_at")?),
        bearer: Bearer::ApiToken(row.parsed("id")?),
        scopes: Some(row.json("scopes")?),
        expires_at: row.time("expires_at")?,
    })
}

/// API tokens of a person, newest first, from before `cursor` (an id, or empty).
pub(in crate::authn) async fn api_tokens(
    sql: &mut dyn Sql,
    person_id: &PersonId,
    cursor: &str,
    limit: u32,
) -> Result<Vec<ApiToken>, StoreError> {
    let rows = sql
        .all(
            "SELECT id, label, scopes, created_at, expires_at, is_revoked FROM api_token
             WHERE person_id = $1 AND ($2 = '' OR id < $2) ORDER BY id DESC LIMIT $3",
            params![person_id.as_str(), cursor, limit],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(ApiToken {
                id: row.parsed("id")?,
                label: row.text("label")?,
                scopes: row.json("scopes")?,
                created_at: row.time("created_at")?,
                expires_at: row.time("expires_at")?,
                is_revoked: row.flag("is_revoked")?,
            })
        })
        .collect()
}

/// How many API tokens of a person still work at `now`.
pub(in crate::authn) async fn live_api_tokens(
    sql: &mut dyn Sql,
    person_id: &PersonId,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let row = sql
        .optional(
            "SELECT COUNT(*) AS count FROM api_token
             WHERE person_id = $1 AND is_revoked = 0 AND expires_at > $2",
            params![person_id.as_str(), now],
        )
        .await?;
    row.map_or(Ok(0), |row| row.count("count"))
}

/// Stores an API token.
pub(in crate::authn) async fn put_api_token(
    tx: &mut Transaction,
    person_id: &PersonId,
    token_hash: Vec<u8>,
    token: &ApiToken,
) -> Result<(), StoreError> {
    tx.run(
        "INSERT INTO api_token
             (id, token_hash, person_id, label, scopes, created_at, expires_at, is_revoked)
         VALUES ($1, $2, $3, $4, $5, $6, $7, 0)",
        params![
            token.id.as_str(),
            token_hash,
            person_id.as_str(),
            token.label.as_str(),
            Value::json(&token.scopes)?,
            token.created_at,
            token.expires_at
        ],
    )
    .await
    .map(drop)
}

/// Revokes an API token of a person; false when there is none that works.
pub(in crate::authn) async fn revoke_api_token(
    tx: &mut Transaction,
    person_id: &PersonId,
    id: &ApiTokenId,
) -> Result<bool, StoreError> {
    let rows = tx
        .run(
            "UPDATE api_token SET is_revoked = 1
             WHERE id = $1 AND person_id = $2 AND is_revoked = 0",
            params![id.as_str(), person_id.as_str()],
        )
        .await?;
    Ok(rows == 1)
}
