//! Tables of proofs: `enrolment_code`, `sign_in_token`, `api_token`, `ssh_key`, `sign_in_failure`, and
//! the columns of `person` that prove somebody.

use sallyport_core::{id::ApiTokenId, principal::Authentication};

use super::bearer::{FoundToken, of_api_token};
use crate::{
    kernel::{caller::Bearer, database::StoreError, statement::Sql},
    params,
};

/// The sign-in of this token hash, if there is one.
pub(super) async fn sign_in_by_hash(
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

/// The API token of this hash, if there is one that is not revoked.
pub(super) async fn api_token_by_hash(
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
    row.map(|row| {
        Ok(FoundToken {
            person_id: row.parsed("person_id")?,
            authentication: of_api_token(row.time("created_at")?),
            bearer: Bearer::ApiToken(row.parsed::<ApiTokenId>("id")?),
            scopes: Some(row.json("scopes")?),
            expires_at: row.time("expires_at")?,
        })
    })
    .transpose()
}
