//! Tables `person` (without what proves somebody), `person_group`, `group_member`.

use sallyport_core::{
    id::{GroupId, PersonId},
    principal::{Person, PersonName},
    time::Timestamp,
};

use super::group::GroupName;
use crate::{
    kernel::{
        database::StoreError,
        ids,
        statement::{Row, Sql, Value},
        transaction::Transaction,
    },
    params,
};

/// A person, and whether enrolment is finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) person: Person,
    pub(super) is_enrolled: bool,
}

async fn listed(sql: &mut dyn Sql, row: &Row) -> Result<Listed, StoreError> {
    let id: PersonId = row.parsed("id")?;
    let groups = groups_of(sql, &id).await?;
    let person = Person {
        name: row.parsed("name")?,
        display_name: row.text("display_name")?,
        groups,
        admin_roles: row.json("admin_roles")?,
        is_enabled: row.flag("is_enabled")?,
        id,
    };
    Ok(Listed {
        person,
        is_enrolled: row.flag("is_enrolled")?,
    })
}

async fn groups_of(sql: &mut dyn Sql, id: &PersonId) -> Result<Vec<String>, StoreError> {
    let rows = sql
        .all(
            "SELECT person_group.name AS name FROM group_member
             JOIN person_group ON person_group.id = group_member.group_id
             WHERE group_member.person_id = $1 ORDER BY person_group.name LIMIT 1000",
            params![id.as_str()],
        )
        .await?;
    rows.iter().map(|row| row.text("name")).collect()
}

/// The person of this id, if there is one.
///
/// # Errors
/// [`StoreError`]; so for all readers here.
pub async fn person_by_id(sql: &mut dyn Sql, id: &PersonId) -> Result<Option<Person>, StoreError> {
    let row = sql
        .optional(
            "SELECT id, name, display_name, admin_roles, is_enabled, CAST(0 AS BIGINT) AS is_enrolled
             FROM person WHERE id = $1",
            params![id.as_str()],
        )
        .await?;
    match row {
        Some(row) => Ok(Some(listed(sql, &row).await?.person)),
        None => Ok(None),
    }
}

/// The person of this name, if there is one.
pub async fn person_by_name(
    sql: &mut dyn Sql,
    name: &PersonName,
) -> Result<Option<Person>, StoreError> {
    Ok(listed_by_name(sql, name).await?.map(|listed| listed.person))
}

/// The person of this name as lists show one.
pub(super) async fn listed_by_name(
    sql: &mut dyn Sql,
    name: &PersonName,
) -> Result<Option<Listed>, StoreError> {
    let row = sql
        .optional(
            "SELECT id, name, display_name, admin_roles, is_enabled,
                 CAST(CASE WHEN password_hash IS NULL THEN 0 ELSE 1 END AS BIGINT) AS is_enrolled
             FROM person WHERE name = $1",
            params![name.as_str()],
        )
        .await?;
    match row {
        Some(row) => listed(sql, &row).await.map(Some),
        None => Ok(None),
    }
}

/// People after `cursor` (a name, or empty), by name.
pub(super) async fn page(
    sql: &mut dyn Sql,
    cursor: &str,
    limit: u32,
) -> Result<Vec<Listed>, StoreError> {
    let rows = sql
        .all(
            "SELECT id, name, display_name, admin_roles, is_enabled,
                 CAST(CASE WHEN password_hash IS NULL THEN 0 ELSE 1 END AS BIGINT) AS is_enrolled
             FROM person WHERE name > $1 ORDER BY name LIMIT $2",
            params![cursor, limit],
        )
        .await?;
    let mut people = Vec::with_capacity(rows.len());
    for row in &rows {
        people.push(listed(sql, row).await?);
    }
    Ok(people)
}

/// Whether there is anybody yet.
pub async fn has_people(sql: &mut dyn Sql) -> Result<bool, StoreError> {
    let row = sql
        .optional("SELECT id FROM person LIMIT 1", vec![])
        .await?;
    Ok(row.is_some())
}

/// Whether somebody other than `except` is an enabled, enrolled owner.
pub(super) async fn has_other_owner(
    sql: &mut dyn Sql,
    except: &PersonId,
) -> Result<bool, StoreError> {
    let row = sql
        .optional(
            "SELECT id FROM person WHERE id <> $1 AND is_enabled = 1
                 AND password_hash IS NOT NULL AND admin_roles LIKE '%\"owner\"%' LIMIT 1",
            params![except.as_str()],
        )
        .await?;
    Ok(row.is_some())
}

/// Makes a person; [`StoreError::Conflict`] when the name is taken.
pub(super) async fn insert(
    tx: &mut Transaction,
    person: &Person,
    now: Timestamp,
) -> Result<(), StoreError> {
    tx.run(
        "INSERT INTO person
             (id, name, display_name, admin_roles, is_enabled, totp_last_step, created_at)
         VALUES ($1, $2, $3, $4, $5, 0, $6)",
        params![
            person.id.as_str(),
            person.name.as_str(),
            person.display_name.as_str(),
            Value::json(&person.admin_roles)?,
            person.is_enabled,
            now
        ],
    )
    .await
    .map(drop)
}

/// Changes a person; the name and what proves them stay.
pub(super) async fn update(tx: &mut Transaction, person: &Person) -> Result<(), StoreError> {
    tx.run(
        "UPDATE person SET display_name = $1, admin_roles = $2, is_enabled = $3 WHERE id = $4",
        params![
            person.display_name.as_str(),
            Value::json(&person.admin_roles)?,
            person.is_enabled,
            person.id.as_str()
        ],
    )
    .await
    .map(drop)
}

/// Puts a person into exactly these groups; groups that do not exist are made.
pub(super) async fn put_groups(
    tx: &mut Transaction,
    person_id: &PersonId,
    groups: &[GroupName],
    now: Timestamp,
) -> Result<(), StoreError> {
    tx.run(
        "DELETE FROM group_member WHERE person_id = $1",
        params![person_id.as_str()],
    )
    .await?;
    for group in groups {
        let id = GroupId::new(now, ids::entropy());
        tx.run(
            "INSERT INTO person_group (id, name) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
            params![id.as_str(), group.as_str()],
        )
        .await?;
        tx.run(
            "INSERT INTO group_member (group_id, person_id)
             SELECT id, $1 FROM person_group WHERE name = $2",
            params![person_id.as_str(), group.as_str()],
        )
        .await?;
    }
    Ok(())
}
