//! Tables `person` (without what proves somebody), `person_group`, `group_member`.

use sallyport_core::{
    id::PersonId,
    principal::{Person, PersonName},
};

use crate::{
    kernel::{
        database::StoreError,
        statement::{Row, Sql},
    },
    params,
};

async fn person(sql: &mut dyn Sql, row: &Row) -> Result<Person, StoreError> {
    let id: PersonId = row.parsed("id")?;
    let groups = groups_of(sql, &id).await?;
    Ok(Person {
        name: row.parsed("name")?,
        display_name: row.text("display_name")?,
        groups,
        admin_roles: row.json("admin_roles")?,
        is_enabled: row.flag("is_enabled")?,
        id,
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
            "SELECT id, name, display_name, admin_roles, is_enabled FROM person WHERE id = $1",
            params![id.as_str()],
        )
        .await?;
    match row {
        Some(row) => person(sql, &row).await.map(Some),
        None => Ok(None),
    }
}

/// The person of this name, if there is one.
pub async fn person_by_name(
    sql: &mut dyn Sql,
    name: &PersonName,
) -> Result<Option<Person>, StoreError> {
    let row = sql
        .optional(
            "SELECT id, name, display_name, admin_roles, is_enabled FROM person WHERE name = $1",
            params![name.as_str()],
        )
        .await?;
    match row {
        Some(row) => person(sql, &row).await.map(Some),
        None => Ok(None),
    }
}
