//! What proves a person: columns of `person`; and the table `sign_in_failure`.

use sallyport_core::{
    id::PersonId,
    principal::{Person, PersonName},
    time::Timestamp,
};

use crate::{
    authn::throttle::{Count, NameKey},
    directory,
    kernel::{
        database::StoreError,
        statement::{Sql, Value},
        transaction::{OperationalTable, Transaction},
    },
    params,
};

/// What proves a person, as stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::authn) struct Factors {
    /// PHC form; absent until enrolled.
    pub(in crate::authn) password_hash: Option<String>,
    /// Sealed.
    pub(in crate::authn) totp_secret: Option<Vec<u8>>,
    /// Codes of this and earlier steps are used.
    pub(in crate::authn) last_step: u64,
}

/// The person of this name and what proves them.
pub(in crate::authn) async fn person_with_factors(
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
pub(in crate::authn) async fn consume_step(
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
pub(in crate::authn) async fn put_factors(
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
pub(in crate::authn) async fn failure_count(
    sql: &mut dyn Sql,
    key: &NameKey,
) -> Result<Count, StoreError> {
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
pub(in crate::authn) async fn put_failure_count(
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
pub(in crate::authn) async fn clear_failure_count(
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
pub(in crate::authn) async fn prune_failure_counts(
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
