//! Ending a user: no new logins, no connections, its objects as configured, gone, and proven to be gone.
//!
//! INVARIANT: whatever fails, the steps before it have been done and stay done, and the first of them locks
//! the user out; a user counts as gone only after a login with a password that was right a moment before
//! was refused.

use std::time::Duration;

use super::{
    super::{EngineError, RevokeContext},
    KIND, LOGIN_REFUSED, SQL, column, log_in, query, run,
    settings::{self, OwnedObjects, PostgresSettings},
    site, verifier,
};
use crate::database::{
    DatabaseError, Server, name,
    postgres::{Connection, Login},
};

/// How often connections are ended before it is given up for this time.
const ENDINGS_MAX: u32 = 40;
/// How long a connection gets to end.
const ENDING_TIME: Duration = Duration::from_millis(50);

/// Ends a user of this name.
pub(super) async fn revoke(user: &str, context: RevokeContext<'_>) -> Result<(), EngineError> {
    let settings = settings::read(context.settings)?;
    let site = site(context.site)?;
    let mut root = log_in(site, context.vault, &settings.database).await?;
    let found = query(
        &mut root,
        "look for a user",
        "SELECT oid, (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) FROM pg_roles \
         WHERE rolname = $1",
        &[user],
    )
    .await?;
    let Some(row) = found.first() else {
        root.close().await;
        return Ok(());
    };
    let going = Going {
        user,
        oid: column(row, 0).to_owned(),
        settings: &settings,
        context,
    };
    going.end(&mut root, column(row, 1) == "t").await?;
    root.close().await;
    Ok(())
}

/// The users of this installation that are on the server.
pub(super) async fn made(context: RevokeContext<'_>) -> Result<Vec<String>, EngineError> {
    let settings = settings::read(context.settings)?;
    let keyring = context.vault.keyring_id().ok_or(EngineError::NoSite {
        engine: KIND,
        problem: "the vault is not made",
    })?;
    let mut root = log_in(site(context.site)?, context.vault, &settings.database).await?;
    let rows = query(
        &mut root,
        "list the users that were made",
        "SELECT rolname FROM pg_roles WHERE starts_with(rolname, $1)",
        &[&name::prefix(&keyring)],
    )
    .await?;
    root.close().await;
    let names = rows.iter().map(|row| column(row, 0));
    Ok(names
        .filter(|found| name::is_user(found, &keyring))
        .map(str::to_owned)
        .collect())
}

struct Going<'a> {
    user: &'a str,
    oid: String,
    settings: &'a PostgresSettings,
    context: RevokeContext<'a>,
}

impl Going<'_> {
    async fn end(&self, root: &mut Connection, is_superuser: bool) -> Result<(), EngineError> {
        let user = SQL.name(self.user);
        // Known to us alone, so that the last step proves something.
        let password = name::password(self.context.vault.entropy());
        let lock_out = format!(
            "ALTER ROLE {user} NOLOGIN PASSWORD {}",
            SQL.value(&verifier(&password, self.context.vault.entropy()))
        );
        run(root, "lock a user out", &lock_out).await?;
        if !is_superuser {
            // Ending its connections and handing on its objects takes membership.
            let join = format!("GRANT {user} TO CURRENT_USER");
            run(root, "become a member of a user", &join).await?;
        }
        self.end_connections(root).await?;
        self.settle_objects(root).await?;
        run(root, "drop a user", &format!("DROP ROLE {user}")).await?;
        let site = site(self.context.site)?;
        let server = Server {
            address: &site.address,
            identities: &site.identities,
        };
        let login = Login {
            user: self.user,
            password: &password,
            database: &self.settings.database,
        };
        match Connection::open(&server, login, self.context.vault.entropy()).await {
            Err(DatabaseError::LoginRefused { code, .. })
                if LOGIN_REFUSED.contains(&code.as_str()) =>
            {
                Ok(())
            }
            Err(error) => Err(EngineError::Database(error)),
            Ok(_) => Err(EngineError::StillThere {
                user: self.user.to_owned(),
            }),
        }
    }

    async fn end_connections(&self, root: &mut Connection) -> Result<(), EngineError> {
        for _ in 0..ENDINGS_MAX {
            let ended = query(
                root,
                "end a user's connections",
                "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE usesysid = $1::oid",
                &[&self.oid],
            )
            .await?;
            if ended.is_empty() {
                return Ok(());
            }
            tokio::time::sleep(ENDING_TIME).await;
        }
        Err(EngineError::StillConnected {
            user: self.user.to_owned(),
        })
    }

    /// Does with the user's objects and privileges what the settings say, in every database that has any.
    async fn settle_objects(&self, root: &mut Connection) -> Result<(), EngineError> {
        let rows = query(
            root,
            "look for what a user owns",
            "SELECT coalesce(d.datname, current_database()), sum((s.deptype = 'o')::int) FROM pg_shdepend s \
             LEFT JOIN pg_database d ON d.oid = s.dbid \
             WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = $1::oid GROUP BY 1",
            &[&self.oid],
        )
        .await?;
        if self.settings.owned_objects == OwnedObjects::Refuse
            && let Some(owns) = rows.iter().find(|row| column(row, 1) != "0")
        {
            return Err(EngineError::OwnsObjects {
                user: self.user.to_owned(),
                objects: column(owns, 1).to_owned(),
            });
        }
        let site = site(self.context.site)?;
        for row in &rows {
            let mut there = log_in(site, self.context.vault, column(row, 0)).await?;
            let user = SQL.name(self.user);
            if let OwnedObjects::Reassign(heir) = &self.settings.owned_objects {
                let heir = heir.as_deref().unwrap_or(site.root.as_str());
                let reassign = format!("REASSIGN OWNED BY {user} TO {}", SQL.name(heir));
                run(&mut there, "hand on what a user owns", &reassign).await?;
            }
            // Of what is left: privileges, and with `drop` the objects.
            let drop = format!("DROP OWNED BY {user}");
            run(&mut there, "drop what a user has", &drop).await?;
            there.close().await;
        }
        Ok(())
    }
}
