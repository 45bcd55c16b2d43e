//! Ending a user: no new logins, no connections, gone, and proven to be gone. Objects have no owners here.
//!
//! INVARIANT: whatever fails, the steps before it have been done and stay done, and the first of them locks
//! the user out; a user counts as gone only after a login with a password that was right a moment before
//! was refused.

use std::time::Duration;

use super::{
    super::{EngineError, RevokeContext},
    KIND, SQL, at_any_host, column, event, log_in, query, run, server, settings, site, verifier,
};
use crate::database::{
    DatabaseError,
    mysql::{Connection, Login},
    name,
};

/// How often connections are ended before it is given up for this time.
const ENDINGS_MAX: u32 = 40;
/// How long a connection gets to end.
const ENDING_TIME: Duration = Duration::from_millis(50);
/// What the server says of a connection that has ended meanwhile.
const NO_SUCH_THREAD: &str = "HY000";

/// Ends a user of this name.
pub(super) async fn revoke(user: &str, context: RevokeContext<'_>) -> Result<(), EngineError> {
    let settings = settings::read(context.settings)?;
    let site = site(context.site)?;
    let mut root = log_in(site, context.vault).await?;
    let look = format!(
        "SELECT User FROM mysql.global_priv WHERE User = {} AND Host = '%'",
        SQL.value(user)
    );
    let is_there = !query(&mut root, "look for a user", &look).await?.is_empty();
    let at = at_any_host(user);
    // Known to us alone, so that the last step proves something.
    let password = name::password(context.vault.entropy());
    if is_there {
        let lock_out = format!(
            "ALTER USER {at} IDENTIFIED VIA mysql_native_password USING {} ACCOUNT LOCK",
            verifier(&password)
        );
        run(&mut root, "lock a user out", &lock_out).await?;
    }
    // Connections outlive their user here.
    end_connections(&mut root, user).await?;
    if let Some(event) = event(&settings, user) {
        let drop = format!("DROP EVENT IF EXISTS {event}");
        run(&mut root, "drop the end that was set for a user", &drop).await?;
    }
    if !is_there {
        root.close().await;
        return Ok(());
    }
    run(&mut root, "drop a user", &format!("DROP USER {at}")).await?;
    // One that was being let in when the user was locked out.
    end_connections(&mut root, user).await?;
    root.close().await;
    let login = Login {
        user,
        password: &password,
    };
    match Connection::open(&server(site), login).await {
        Err(DatabaseError::LoginRefused { code, .. }) if code == "28000" => Ok(()),
        Err(error) => Err(EngineError::Database(error)),
        Ok(_) => Err(EngineError::StillThere {
            user: user.to_owned(),
        }),
    }
}

/// The users of this installation that are on the server.
pub(super) async fn made(context: RevokeContext<'_>) -> Result<Vec<String>, EngineError> {
    settings::read(context.settings)?;
    let keyring = context.vault.keyring_id().ok_or(EngineError::NoSite {
        engine: KIND,
        problem: "the vault is not made",
    })?;
    let mut root = log_in(site(context.site)?, context.vault).await?;
    let prefix = name::prefix(&keyring);
    let list = format!(
        "SELECT User FROM mysql.global_priv WHERE Host = '%' AND LEFT(User, {}) = {}",
        prefix.len(),
        SQL.value(&prefix)
    );
    let rows = query(&mut root, "list the users that were made", &list).await?;
    root.close().await;
    let names = rows.iter().map(|row| column(row, 0));
    Ok(names
        .filter(|found| name::is_user(found, &keyring))
        .map(str::to_owned)
        .collect())
}

async fn end_connections(root: &mut Connection, user: &str) -> Result<(), EngineError> {
    let list = format!(
        "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = {}",
        SQL.value(user)
    );
    for _ in 0..ENDINGS_MAX {
        let rows = query(root, "look for a user's connections", &list).await?;
        if rows.is_empty() {
            return Ok(());
        }
        for row in &rows {
            let id: u64 = column(row, 0).parse().unwrap_or_default();
            match run(root, "end a user's connection", &format!("KILL {id}")).await {
                Err(EngineError::Database(DatabaseError::Refused { code, .. }))
                    if code == NO_SUCH_THREAD => {}
                other => other?,
            }
        }
        tokio::time::sleep(ENDING_TIME).await;
    }
    Err(EngineError::StillConnected {
        user: user.to_owned(),
    })
}
