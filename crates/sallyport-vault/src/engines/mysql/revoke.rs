//! Ending a user: no new logins, no connections, gone. Objects have no owners here.
//!
//! INVARIANT: whatever fails, the steps before it have been done and stay done, and the first of them locks
//! the user out.

use super::{
    super::{
        EngineError,
        database::{self, Going},
    },
    Mysql, SQL, at_any_host, event,
    settings::MysqlSettings,
    verifier,
};
use crate::database::{Client as _, DatabaseError, mysql::Connection};

/// What the server says of a connection that has ended meanwhile.
const NO_SUCH_THREAD: &str = "HY000";

/// Ends a user, and what runs as it where there is none any more.
pub(super) async fn end(
    root: &mut Connection,
    user: &Going<'_>,
    settings: &MysqlSettings,
) -> Result<bool, EngineError> {
    let look = format!(
        "SELECT User FROM mysql.global_priv WHERE User = {} AND Host = '%'",
        SQL.value(user.name)
    );
    let is_there = !root.run("look for a user", &look).await?.is_empty();
    let at = at_any_host(user.name);
    if is_there {
        let lock_out = format!(
            "ALTER USER {at} IDENTIFIED VIA mysql_native_password USING {} ACCOUNT LOCK",
            verifier(user.password)
        );
        root.run("lock a user out", &lock_out).await?;
    }
    // Connections outlive their user here.
    database::end_connections::<Mysql>(root, user.name).await?;
    if let Some(event) = event(settings, user.name) {
        let drop = format!("DROP EVENT IF EXISTS {event}");
        root.run("drop the end that was set for a user", &drop)
            .await?;
    }
    if is_there {
        root.run("drop a user", &format!("DROP USER {at}")).await?;
        // One that was being let in when the user was locked out.
        database::end_connections::<Mysql>(root, user.name).await?;
    }
    Ok(is_there)
}

/// Ends the connections that a user has now.
pub(super) async fn disconnect(root: &mut Connection, user: &str) -> Result<bool, EngineError> {
    let list = format!(
        "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = {}",
        SQL.value(user)
    );
    let rows = root.run("look for a user's connections", &list).await?;
    for row in &rows {
        let id: u64 = row.text(0).parse().unwrap_or_default();
        match root
            .run("end a user's connection", &format!("KILL {id}"))
            .await
        {
            Err(DatabaseError::Refused { code, .. }) if code == NO_SUCH_THREAD => {}
            other => drop(other?),
        }
    }
    Ok(!rows.is_empty())
}
