//! Tables of proofs: `enrolment_code`, `sign_in_token`, `api_token`, `ssh_key`, `ssh_certificate`,
//! `sign_in_failure`, and the columns of `person` that prove somebody.

use sallyport_core::{
    authz::AdminAction,
    id::{ApiTokenId, KeyId, PersonId},
    principal::{Authentication, AuthenticationStrength, Person, PersonName},
    time::Timestamp,
};

use super::{
    bearer::{FoundToken, of_api_token},
    throttle::{Count, NameKey},
};
use crate::{
    directory,
    kernel::{
        caller::Bearer,
        database::StoreError,
        statement::{Row, Sql, Value},
        transaction::{OperationalTable, Transaction},
    },
    params,
};

/// What proves a person, as stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Factors {
    /// PHC form; absent until enrolled.
    pub(super) password_hash: Option<String>,
    /// Sealed.
    pub(super) totp_secret: Option<Vec<u8>>,
    /// Codes of this and earlier steps are used.
    pub(super) last_step: u64,
}

/// The person of this name and what proves them.
pub(super) async fn person_with_factors(
    sql: &mut dyn Sql,
    name: &PersonName,
) -> Result<Option<(Person, Factors)>, StoreError> {
    let row = sql
        .optional(
            "SELECT password_hash, totp_secret, totp_last_step FROM person WHERE name = $1",
            params![name.as_str()],
        )
        .await?;
    let (Some(row), Some(person)) = (row, directory::person_by_name(sql, name).await?) else {
        return Ok(None);
    };
    let factors = Factors {
        password_hash: row.text_or_null("password_hash")?,
        totp_secret: row.bytes_or_null("totp_secret")?,
        last_step: row.count("totp_last_step")?,
    };
    Ok(Some((person, factors)))
}

/// Uses up a code, if the person is as `factors` says and still enabled; false when not.
pub(super) async fn consume_step(
    tx: &mut Transaction,
    person_id: &PersonId,
    factors: &Factors,
    step: Option<u64>,
) -> Result<bool, StoreError> {
    // Without a code the step stays; the statement then only checks that nothing changed.
    let (floor, step) = match step {
        Some(step) => (step, step),
        None => (factors.last_step.saturating_add(1), factors.last_step),
    };
    let rows = tx
        .run(
            "UPDATE person SET totp_last_step = $1
             WHERE id = $2 AND totp_last_step < $3 AND is_enabled = 1 AND password_hash = $4",
            params![
                step,
                person_id.as_str(),
                floor,
                factors.password_hash.clone()
            ],
        )
        .await?;
    Ok(rows == 1)
}

/// Sets what proves a person; every code made before is used.
pub(super) async fn put_factors(
    tx: &mut Transaction,
    person_id: &PersonId,
    factors: &Factors,
) -> Result<bool, StoreError> {
    let rows = tx
        .run(
            "UPDATE person SET password_hash = $1, totp_secret = $2, totp_last_step = $3
             WHERE id = $4 AND is_enabled = 1",
            vec![
                Value::from(factors.password_hash.clone()),
                Value::Bytes(factors.totp_secret.clone()),
                Value::from(factors.last_step),
                Value::from(person_id.as_str()),
            ],
        )
        .await?;
    Ok(rows == 1)
}

/// How a name stands; afresh when nothing is stored.
pub(super) async fn failure_count(sql: &mut dyn Sql, key: &NameKey) -> Result<Count, StoreError> {
    let row = sql
        .optional(
            "SELECT failures, last_at, locked_until FROM sign_in_failure WHERE name_hash = $1",
            params![key.as_bytes().to_vec()],
        )
        .await?;
    row.map_or_else(
        || Ok(Count::default()),
        |row| {
            Ok(Count {
                failures: u32::try_from(row.count("failures")?).unwrap_or(u32::MAX),
                last_at: row.int("last_at")?,
                locked_until: row.int("locked_until")?,
            })
        },
    )
}

/// Stores how a name stands.
pub(super) async fn put_failure_count(
    tx: &mut Transaction,
    key: &NameKey,
    count: Count,
) -> Result<(), StoreError> {
    tx.run_operational(
        OperationalTable::SignInFailure,
        "INSERT INTO sign_in_failure (name_hash, failures, last_at, locked_until)
         VALUES ($1, $2, $3, $4)
         ON CONFLICT (name_hash) DO UPDATE SET failures = excluded.failures,
             last_at = excluded.last_at, locked_until = excluded.locked_until",
        params![
            key.as_bytes().to_vec(),
            count.failures,
            count.last_at,
            count.locked_until
        ],
    )
    .await
    .map(drop)
}

/// Forgets the failures of a name.
pub(super) async fn clear_failure_count(
    tx: &mut Transaction,
    key: &NameKey,
) -> Result<(), StoreError> {
    tx.run_operational(
        OperationalTable::SignInFailure,
        "DELETE FROM sign_in_failure WHERE name_hash = $1",
        params![key.as_bytes().to_vec()],
    )
    .await
    .map(drop)
}

/// Forgets counts whose last failure is before `before` and whose lock is over.
pub(super) async fn prune_failure_counts(
    tx: &mut Transaction,
    before: Timestamp,
    now: Timestamp,
) -> Result<u64, StoreError> {
    tx.run_operational(
        OperationalTable::SignInFailure,
        "DELETE FROM sign_in_failure WHERE last_at < $1 AND locked_until < $2",
        params![before, now],
    )
    .await
}

/// Whom an enrolment code is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CodeOwner {
    /// This person.
    Person(PersonId),
    /// The first owner, who does not exist yet.
    FirstOwner,
}

/// Whom a code is for, if it exists and has not run out.
pub(super) async fn enrolment_code(
    sql: &mut dyn Sql,
    code_hash: &[u8],
    now: Timestamp,
) -> Result<Option<CodeOwner>, StoreError> {
    let row = sql
        .optional(
            "SELECT person_id FROM enrolment_code WHERE code_hash = $1 AND expires_at > $2",
            params![code_hash.to_vec(), now],
        )
        .await?;
    row.map(|row| {
        row.text_or_null("person_id")?.map_or_else(
            || Ok(CodeOwner::FirstOwner),
            |id| {
                let id = id.parse().map_err(|error| StoreError::Damaged {
                    place: "enrolment_code.person_id".to_owned(),
                    problem: format!("{error}"),
                })?;
                Ok(CodeOwner::Person(id))
            },
        )
    })
    .transpose()
}

/// Uses up a code; false when it is used or has run out.
pub(super) async fn consume_enrolment_code(
    tx: &mut Transaction,
    code_hash: &[u8],
    now: Timestamp,
) -> Result<bool, StoreError> {
    let rows = tx
        .run(
            "DELETE FROM enrolment_code WHERE code_hash = $1 AND expires_at > $2",
            params![code_hash.to_vec(), now],
        )
        .await?;
    Ok(rows == 1)
}

/// Stores a code in place of earlier ones for the same owner.
pub(super) async fn put_enrolment_code(
    tx: &mut Transaction,
    code_hash: Vec<u8>,
    owner: &CodeOwner,
    expires_at: Timestamp,
) -> Result<(), StoreError> {
    delete_enrolment_codes(tx, owner).await?;
    let person_id = match owner {
        CodeOwner::Person(id) => Some(id.to_string()),
        CodeOwner::FirstOwner => None,
    };
    tx.run(
        "INSERT INTO enrolment_code (code_hash, person_id, expires_at) VALUES ($1, $2, $3)",
        params![code_hash, person_id, expires_at],
    )
    .await
    .map(drop)
}

/// Takes back the codes of an owner.
pub(super) async fn delete_enrolment_codes(
    tx: &mut Transaction,
    owner: &CodeOwner,
) -> Result<(), StoreError> {
    match owner {
        CodeOwner::Person(id) => {
            tx.run(
                "DELETE FROM enrolment_code WHERE person_id = $1",
                params![id.as_str()],
            )
            .await
        }
        CodeOwner::FirstOwner => {
            tx.run("DELETE FROM enrolment_code WHERE person_id IS NULL", vec![])
                .await
        }
    }
    .map(drop)
}

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

/// Stores a sign-in.
pub(super) async fn put_sign_in(
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
pub(super) async fn prune_sign_ins(
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
pub(super) async fn end_sign_in(
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
pub(super) async fn end_sign_ins(
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
pub(super) struct ApiToken {
    pub(super) id: ApiTokenId,
    pub(super) label: String,
    pub(super) scopes: Vec<AdminAction>,
    pub(super) created_at: Timestamp,
    pub(super) expires_at: Timestamp,
    pub(super) is_revoked: bool,
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
    row.as_ref().map(found_api_token).transpose()
}

/// The API token of this id that is not revoked.
pub(super) async fn api_token_by_id(
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
pub(super) async fn api_tokens(
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
pub(super) async fn live_api_tokens(
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
pub(super) async fn put_api_token(
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
pub(super) async fn revoke_api_token(
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

/// A registered SSH key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SshKey {
    pub(super) id: KeyId,
    pub(super) person_id: PersonId,
    pub(super) fingerprint: String,
    pub(super) public_key: String,
    pub(super) algorithm: String,
    pub(super) label: String,
    pub(super) added_at: Timestamp,
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
pub(super) async fn ssh_key_by_fingerprint(
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
pub(super) async fn ssh_keys(
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
pub(super) async fn put_ssh_key(tx: &mut Transaction, key: &SshKey) -> Result<(), StoreError> {
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
pub(super) async fn delete_ssh_key(tx: &mut Transaction, id: &KeyId) -> Result<(), StoreError> {
    tx.run("DELETE FROM ssh_key WHERE id = $1", params![id.as_str()])
        .await
        .map(drop)
}

/// A certificate issued at sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SshCertificate {
    pub(super) serial: u64,
    pub(super) person_id: PersonId,
    pub(super) fingerprint: String,
    pub(super) strength: AuthenticationStrength,
    pub(super) authenticated_at: Timestamp,
    pub(super) expires_at: Timestamp,
}

/// Stores a certificate under the sign-in it was made at.
pub(super) async fn put_ssh_certificate(
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
pub(super) async fn ssh_certificate(
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
