//! Table `enrolment_code`.

use sallyport_core::{id::PersonId, time::Timestamp};

use crate::{
    kernel::{database::StoreError, statement::Sql, transaction::Transaction},
    params,
};

/// Whom an enrolment code is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::authn) enum CodeOwner {
    /// This person.
    Person(PersonId),
    /// The first owner, who does not exist yet.
    FirstOwner,
}

/// Whom a code is for, if it exists and has not run out.
pub(in crate::authn) async fn enrolment_code(
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
pub(in crate::authn) async fn consume_enrolment_code(
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
pub(in crate::authn) async fn put_enrolment_code(
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
pub(in crate::authn) async fn delete_enrolment_codes(
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

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use sallyport_core::event::{Actor, Event, EventName, Events};

    use super::*;
    use crate::kernel::{
        clock::SystemClock,
        database::{Database, StoreLocation},
    };

    /// ID-1: whoever read the code before it was used still cannot use it again.
    #[tokio::test]
    async fn given_a_code_when_consumed_again_or_at_its_end_then_it_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let location = StoreLocation::Sqlite(home.path().join("test.db"));
        let db = Database::open(&location, Arc::new(SystemClock::default()))
            .await
            .unwrap();
        let (issued, end) = (
            Timestamp::EPOCH,
            Timestamp::EPOCH.plus(Duration::from_secs(60)),
        );
        let mut tx = db.begin(Actor::System).await.unwrap();
        put_enrolment_code(&mut tx, vec![1], &CodeOwner::FirstOwner, end)
            .await
            .unwrap();
        tx.commit(Events::one(Event::new(EventName::EnrolmentIssued, "-")))
            .await
            .unwrap();

        let mut tx = db.begin(Actor::System).await.unwrap();
        assert!(!consume_enrolment_code(&mut tx, &[1], end).await.unwrap());
        assert!(!consume_enrolment_code(&mut tx, &[2], issued).await.unwrap());
        assert!(consume_enrolment_code(&mut tx, &[1], issued).await.unwrap());
        assert!(!consume_enrolment_code(&mut tx, &[1], issued).await.unwrap());
    }
}
