//! The `mysql` engine: for each session a user of its own on a MariaDB server, made by a root account and
//! gone with the lease ([`database`](super::database)).
//!
//! INVARIANT: a user is locked until its grants were read back and are no more than the account's settings
//! allow; the server's clock ends what the server ends; the server and its log get a hash of the password.
//!
//! Not here: the client ([`database`](crate::database)). MySQL 8 is refused: it takes no hash that this
//! engine makes.

mod grants;
mod revoke;
mod settings;

use async_trait::async_trait;
use sallyport_core::{descriptor::Descriptor, entropy::Entropy, secret::SecretString};
use sallyport_wire::scramble;
use serde_json::Value;

use self::settings::MysqlSettings;
use super::{
    EngineError,
    database::{DatabaseEngine, Going, NewUser},
};
use crate::database::{Client as _, Rows, mysql::Connection, sql_text::Dialect};

const KIND: &str = "mysql";
const SQL: Dialect = Dialect::Mysql;

/// See the module.
#[derive(Debug)]
pub(super) struct Mysql;

#[async_trait]
impl DatabaseEngine for Mysql {
    const KIND: &'static str = KIND;
    const DATABASE_DEFAULT: &'static str = "";
    const GONE: &'static [&'static str] = &["28000"];

    type Client = Connection;
    type Settings = MysqlSettings;

    fn descriptor() -> Descriptor {
        settings::descriptor()
    }

    fn read(settings: &Value) -> Result<MysqlSettings, EngineError> {
        settings::read(settings)
    }

    fn recognise(root: &Connection) -> Result<(), EngineError> {
        if root.version().contains("MariaDB") {
            return Ok(());
        }
        Err(EngineError::NoSite {
            engine: KIND,
            problem: "the server is not MariaDB",
        })
    }

    fn own_password(password: &SecretString, _entropy: &dyn Entropy) -> String {
        format!("SET PASSWORD = {}", verifier(password))
    }

    async fn make(
        root: &mut Connection,
        user: &NewUser<'_>,
        settings: &MysqlSettings,
        _entropy: &dyn Entropy,
    ) -> Result<(), EngineError> {
        let made = make_locked(root, user, settings).await;
        if made.is_err() {
            // It is locked; gone is better. If that fails too, its lease still ends it.
            let drop = format!("DROP USER IF EXISTS {}", at_any_host(user.name));
            let _ = root.run("drop a user that may not be", &drop).await;
        }
        made
    }

    async fn end(
        root: &mut Connection,
        user: &Going<'_>,
        settings: &MysqlSettings,
    ) -> Result<bool, EngineError> {
        revoke::end(root, user, settings).await
    }

    async fn disconnect(root: &mut Connection, user: &str) -> Result<bool, EngineError> {
        revoke::disconnect(root, user).await
    }

    async fn list(root: &mut Connection, prefix: &str) -> Result<Rows, EngineError> {
        let list = format!(
            "SELECT User FROM mysql.global_priv WHERE Host = '%' AND LEFT(User, {}) = {}",
            prefix.len(),
            SQL.value(prefix)
        );
        Ok(root.run("list the users that were made", &list).await?)
    }
}

/// A user as the server names it: from wherever gateways are.
fn at_any_host(user: &str) -> String {
    format!("{}@'%'", SQL.value(user))
}

/// The event that ends a user at the server, if there is a place for one.
fn event(settings: &MysqlSettings, user: &str) -> Option<String> {
    (!settings.expiry_database.is_empty())
        .then(|| format!("{}.{}", SQL.name(&settings.expiry_database), SQL.name(user)))
}

/// What the server gets instead of a password, as a value.
fn verifier(password: &SecretString) -> String {
    SQL.value(&scramble::native_verifier(
        password.expose_secret().as_bytes(),
    ))
}

/// Makes a user locked, and unlocks it only when it can do no more than it should.
async fn make_locked(
    root: &mut Connection,
    user: &NewUser<'_>,
    settings: &MysqlSettings,
) -> Result<(), EngineError> {
    let at = at_any_host(user.name);
    let mut identities = user.site.identities.iter();
    let is_encrypted = identities.all(|identity| identity != "plaintext");
    let create = format!(
        "CREATE USER {at} IDENTIFIED VIA mysql_native_password USING {} REQUIRE {} \
         WITH MAX_USER_CONNECTIONS {} ACCOUNT LOCK",
        verifier(user.password),
        if is_encrypted { "SSL" } else { "NONE" },
        settings.users.connections,
    );
    root.run("create a user", &create).await?;
    for role in &settings.users.roles {
        let grant = format!("GRANT {} TO {at}", SQL.name(role));
        root.run("grant a role to a user", &grant).await?;
    }
    if let Some(first) = settings.users.roles.first() {
        let set = format!("SET DEFAULT ROLE {} FOR {at}", SQL.name(first));
        root.run("put a user's role into force", &set).await?;
    }
    for statement in settings.users.creation(user.name, &user.expires_at) {
        root.run("run the setting `creation`", &statement).await?;
    }
    check(root, user.name, settings).await?;
    set_end(root, user, settings).await?;
    let unlock = format!("ALTER USER {at} ACCOUNT UNLOCK");
    root.run("unlock a user", &unlock).await?;
    Ok(())
}

/// Has the server lock a user out at its end by itself, where an owner has named a place for that.
async fn set_end(
    root: &mut Connection,
    user: &NewUser<'_>,
    settings: &MysqlSettings,
) -> Result<(), EngineError> {
    let Some(event) = event(settings, user.name) else {
        return Ok(());
    };
    let ask = "SELECT @@GLOBAL.event_scheduler";
    let is_on = root.run("ask for the event scheduler", ask).await?;
    if is_on.first().map(|row| row.text(0)) != Some("ON") {
        return Err(EngineError::NoSite {
            engine: KIND,
            problem: "`expiry_database` is set and the server's event scheduler is off",
        });
    }
    let at = at_any_host(user.name);
    let create = format!(
        "CREATE EVENT {event} ON SCHEDULE AT CURRENT_TIMESTAMP + INTERVAL {} SECOND \
         DO BEGIN ALTER USER {at} ACCOUNT LOCK; KILL USER {at}; END",
        user.lasts_s
    );
    root.run("set the end of a user", &create).await?;
    Ok(())
}

/// Reads back what a user may do, itself and through every role it can have.
async fn check(
    root: &mut Connection,
    user: &str,
    settings: &MysqlSettings,
) -> Result<(), EngineError> {
    let excess = |problem: String| Err(EngineError::Excess { problem });
    let value = SQL.value(user);
    let direct = format!(
        "SELECT Role, Admin_option FROM mysql.roles_mapping WHERE User = {value} AND Host = '%'"
    );
    for row in root.run("read a user's roles", &direct).await? {
        let role = row.text(0);
        if !settings.users.allows(role) {
            return excess(format!(
                "it would have the role `{role}`, which neither `roles` nor `allowed_roles` names"
            ));
        }
        if row.text(1) != "N" {
            return excess(format!("it could give others the role `{role}`"));
        }
    }
    let reach = format!(
        "WITH RECURSIVE reach(name) AS (SELECT Role FROM mysql.roles_mapping WHERE User = {value} AND Host = '%' \
         UNION SELECT m.Role FROM reach JOIN mysql.roles_mapping m ON m.User = reach.name AND m.Host = '') \
         SELECT name FROM reach"
    );
    let mut names = vec![at_any_host(user)];
    for row in root.run("read a user's roles", &reach).await? {
        names.push(SQL.name(row.text(0)));
    }
    for name in names {
        let show = format!("SHOW GRANTS FOR {name}");
        for row in root.run("read a user's grants", &show).await? {
            if let Some(problem) = grants::too_much(row.text(0), &settings.users.powers) {
                return excess(format!("through {name} it {problem}"));
            }
        }
    }
    Ok(())
}
