//! Ending a user: no new logins, no connections, its objects as configured, gone.
//!
//! INVARIANT: whatever fails, the steps before it have been done and stay done, and the first of them locks
//! the user out.

use super::{
    super::{
        EngineError,
        database::{self, Going},
    },
    Postgres, SQL,
    settings::{OwnedObjects, PostgresSettings},
    verifier,
};
use crate::database::{Client as _, postgres::Connection};

/// Ends a user, if there is one of this name.
pub(super) async fn end(
    root: &mut Connection,
    user: &Going<'_>,
    settings: &PostgresSettings,
) -> Result<bool, EngineError> {
    let look = "SELECT oid, (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) FROM pg_roles \
                WHERE rolname = $1";
    let found = root.ask("look for a user", look, &[user.name]).await?;
    let Some(row) = found.first() else {
        return Ok(false);
    };
    let name = SQL.name(user.name);
    let lock_out = format!(
        "ALTER ROLE {name} NOLOGIN PASSWORD {}",
        verifier(user.password, user.vault.entropy())
    );
    root.run("lock a user out", &lock_out).await?;
    if row.text(1) != "t" {
        // Ending its connections and handing on its objects takes membership.
        let join = format!("GRANT {name} TO CURRENT_USER");
        root.run("become a member of a user", &join).await?;
    }
    database::end_connections::<Postgres>(root, user.name).await?;
    settle_objects(root, user, row.text(0), &settings.owned_objects).await?;
    let drop = format!("DROP ROLE {name}");
    root.run("drop a user", &drop).await?;
    Ok(true)
}

/// Ends the connections that a user has now.
pub(super) async fn disconnect(root: &mut Connection, user: &str) -> Result<bool, EngineError> {
    let end = "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE usesysid = (SELECT oid FROM pg_roles WHERE rolname = $1)";
    let ended = root.ask("end a user's connections", end, &[user]).await?;
    Ok(!ended.is_empty())
}

/// Does with a user's objects and privileges what the settings say, in every database that has any.
async fn settle_objects(
    root: &mut Connection,
    user: &Going<'_>,
    oid: &str,
    owned_objects: &OwnedObjects,
) -> Result<(), EngineError> {
    let look = "SELECT coalesce(d.datname, current_database()), sum((s.deptype = 'o')::int) FROM pg_shdepend s \
                LEFT JOIN pg_database d ON d.oid = s.dbid \
                WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = $1::oid GROUP BY 1";
    let rows = root.ask("look for what a user owns", look, &[oid]).await?;
    if *owned_objects == OwnedObjects::Refuse
        && let Some(owns) = rows.iter().find(|row| row.text(1) != "0")
    {
        return Err(EngineError::OwnsObjects {
            user: user.name.to_owned(),
            objects: owns.text(1).to_owned(),
        });
    }
    let name = SQL.name(user.name);
    for row in &rows {
        let mut there = database::log_in::<Postgres>(user.site, user.vault, row.text(0)).await?;
        if let OwnedObjects::Reassign(heir) = owned_objects {
            let heir = heir.as_deref().unwrap_or(user.site.root.as_str());
            let reassign = format!("REASSIGN OWNED BY {name} TO {}", SQL.name(heir));
            there.run("hand on what a user owns", &reassign).await?;
        }
        // Of what is left: privileges, and with `drop` the objects.
        let drop = format!("DROP OWNED BY {name}");
        there.run("drop what a user has", &drop).await?;
        there.close().await;
    }
    Ok(())
}
