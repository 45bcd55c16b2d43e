//! The `postgres` engine: for each session a user of its own on the server, made by a root account and gone
//! with the lease ([`database`](super::database)).
//!
//! INVARIANT: a user that could do more than the account's settings allow is never committed, which is read
//! from the server's catalogue and not from what was asked for; the server and its log get a verifier of the
//! password.
//!
//! Not here: the client ([`database`](crate::database)).

mod revoke;
mod settings;

use async_trait::async_trait;
use sallyport_core::{descriptor::Descriptor, entropy::Entropy, secret::SecretString};
use sallyport_wire::scram;
use serde_json::Value;

use self::settings::PostgresSettings;
use super::{
    EngineError,
    database::{DatabaseEngine, Going, NewUser},
};
use crate::database::{Client as _, Rows, postgres::Connection, sql_text::Dialect};

const KIND: &str = "postgres";
const SQL: Dialect = Dialect::Postgres;
/// The database that servers have.
const DATABASE_DEFAULT: &str = "postgres";

/// See the module.
#[derive(Debug)]
pub(super) struct Postgres;

#[async_trait]
impl DatabaseEngine for Postgres {
    const KIND: &'static str = KIND;
    const DATABASE_DEFAULT: &'static str = DATABASE_DEFAULT;
    /// The password is wrong, or a login is not permitted.
    const GONE: &'static [&'static str] = &["28P01", "28000"];

    type Client = Connection;
    type Settings = PostgresSettings;

    fn descriptor() -> Descriptor {
        settings::descriptor()
    }

    fn read(settings: &Value) -> Result<PostgresSettings, EngineError> {
        settings::read(settings)
    }

    fn own_password(password: &SecretString, entropy: &dyn Entropy) -> String {
        format!(
            "ALTER ROLE CURRENT_USER PASSWORD {}",
            verifier(password, entropy)
        )
    }

    /// In one transaction. Whatever fails: a connection that is dropped takes its transaction with it.
    async fn make(
        root: &mut Connection,
        user: &NewUser<'_>,
        settings: &PostgresSettings,
        entropy: &dyn Entropy,
    ) -> Result<(), EngineError> {
        let name = SQL.name(user.name);
        root.run("begin", "BEGIN").await?;
        let began = transaction(root).await?;
        let create = format!(
            "CREATE ROLE {name} LOGIN INHERIT CONNECTION LIMIT {} PASSWORD {} VALID UNTIL {}",
            settings.users.connections,
            verifier(user.password, entropy),
            SQL.value(&user.expires_at),
        );
        root.run("create a user", &create).await?;
        let comment = format!("COMMENT ON ROLE {name} IS {}", SQL.value(&user.comment));
        root.run("say whose user it is", &comment).await?;
        let roles = &settings.users.roles;
        if !roles.is_empty() {
            let roles: Vec<String> = roles.iter().map(|role| SQL.name(role)).collect();
            let grant = format!("GRANT {} TO {name}", roles.join(", "));
            root.run("grant roles to a user", &grant).await?;
        }
        for statement in settings.users.creation(user.name, &user.expires_at) {
            root.run("run the setting `creation`", &statement).await?;
        }
        if transaction(root).await? != began {
            return Err(EngineError::Excess {
                problem: "`creation` ended the transaction".to_owned(),
            });
        }
        check(root, user.name, settings).await?;
        root.run("commit a user", "COMMIT").await?;
        Ok(())
    }

    async fn end(
        root: &mut Connection,
        user: &Going<'_>,
        settings: &PostgresSettings,
    ) -> Result<bool, EngineError> {
        revoke::end(root, user, settings).await
    }

    async fn disconnect(root: &mut Connection, user: &str) -> Result<bool, EngineError> {
        revoke::disconnect(root, user).await
    }

    async fn list(root: &mut Connection, prefix: &str) -> Result<Rows, EngineError> {
        let list = "SELECT rolname FROM pg_roles WHERE starts_with(rolname, $1)";
        Ok(root
            .ask("list the users that were made", list, &[prefix])
            .await?)
    }
}

/// What the server gets instead of a password, as a value.
fn verifier(password: &SecretString, entropy: &dyn Entropy) -> String {
    SQL.value(&scram::verifier(password.expose_secret(), &entropy.draw()))
}

/// Reads from the catalogue what a user is, before anybody else can see it.
async fn check(
    root: &mut Connection,
    user: &str,
    settings: &PostgresSettings,
) -> Result<(), EngineError> {
    let excess = |problem: String| Err(EngineError::Excess { problem });
    let memberships = root
        .ask("read a user's roles", MEMBERSHIPS, &[user])
        .await?;
    for row in memberships {
        let role = row.text(0);
        if !settings.users.allows(role) {
            return excess(format!(
                "it would be a member of `{role}`, which neither `roles` nor `allowed_roles` names"
            ));
        }
        if row.text(1) == "t" {
            return excess(format!("it could make others members of `{role}`"));
        }
    }
    for row in root.ask("read a user's powers", POWERS, &[user]).await? {
        let (role, power) = (row.text(0), row.text(1));
        if !settings.users.powers.iter().any(|allowed| allowed == power) {
            return excess(format!(
                "through `{role}` it has `{power}`, which `powers` does not name"
            ));
        }
    }
    Ok(())
}

/// What a user is a direct member of, and whether it may make others so.
const MEMBERSHIPS: &str = "SELECT r.rolname, m.admin_option FROM pg_auth_members m \
     JOIN pg_roles r ON r.oid = m.roleid JOIN pg_roles u ON u.oid = m.member WHERE u.rolname = $1";

/// The powers of a user and of every role it can become.
const POWERS: &str = "WITH RECURSIVE reach(oid) AS ( \
       SELECT oid FROM pg_roles WHERE rolname = $1 \
       UNION SELECT m.roleid FROM reach JOIN pg_auth_members m ON m.member = reach.oid) \
     SELECT rolname, power FROM pg_roles JOIN reach USING (oid), LATERAL unnest(ARRAY[ \
       CASE WHEN rolsuper THEN 'superuser' END, CASE WHEN rolcreaterole THEN 'createrole' END, \
       CASE WHEN rolcreatedb THEN 'createdb' END, CASE WHEN rolreplication THEN 'replication' END, \
       CASE WHEN rolbypassrls THEN 'bypassrls' END, \
       CASE WHEN rolname IN ('pg_read_server_files', 'pg_write_server_files') THEN 'server_files' END, \
       CASE WHEN rolname = 'pg_execute_server_program' THEN 'server_programs' END]) AS power \
     WHERE power IS NOT NULL";

async fn transaction(root: &mut Connection) -> Result<String, EngineError> {
    let rows = root
        .run("read the transaction", "SELECT txid_current()")
        .await?;
    Ok(rows.first().map_or("", |row| row.text(0)).to_owned())
}
