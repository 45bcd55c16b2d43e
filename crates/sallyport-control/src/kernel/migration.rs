//! The schema, brought up to date at start: plain SQL files that both databases accept, each applied
//! once, in one transaction, and never edited afterwards.

use super::{
    database::StoreError,
    writer::{OwnedConnection, script},
};

/// Migrations in order; the version is the position, from 1.
const MIGRATIONS: &[(&str, &str)] = &[
    ("audit", include_str!("../../migrations/0001_audit.sql")),
    ("people", include_str!("../../migrations/0002_people.sql")),
    ("access", include_str!("../../migrations/0003_access.sql")),
    ("vault", include_str!("../../migrations/0004_vault.sql")),
    ("notice", include_str!("../../migrations/0005_notice.sql")),
    (
        "oversight",
        include_str!("../../migrations/0006_oversight.sql"),
    ),
    (
        "held_operation",
        include_str!("../../migrations/0007_held_operation.sql"),
    ),
    (
        "database_user",
        include_str!("../../migrations/0008_database_user.sql"),
    ),
];

/// Applies what is missing.
pub(super) async fn run(connection: &mut OwnedConnection) -> Result<(), StoreError> {
    let table = "CREATE TABLE IF NOT EXISTS schema_migration (version BIGINT PRIMARY KEY, name TEXT NOT NULL)";
    script(connection, table).await?;
    let rows = connection
        .as_mut()
        .all(
            "SELECT COALESCE(MAX(version), 0) AS version FROM schema_migration",
            vec![],
        )
        .await?;
    let found = rows.first().map_or(Ok(0), |row| row.int("version"))?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(StoreError::TooNew { found, known });
    }
    for (version, (name, sql)) in (1_i64..).zip(MIGRATIONS) {
        if version <= found {
            continue;
        }
        connection.plain("BEGIN").await?;
        script(connection, sql).await?;
        connection
            .as_mut()
            .run(
                "INSERT INTO schema_migration (version, name) VALUES ($1, $2)",
                crate::params![version, *name],
            )
            .await?;
        connection.plain("COMMIT").await?;
    }
    Ok(())
}
