//! The `postgres` engine: for each session a user of its own on the server, made by a root account and gone
//! with the lease.
//!
//! INVARIANT: a user that could do more than the account's settings allow is never committed, which is read
//! from the server's catalogue and not from what was asked for; the password is made here, the server and
//! its log get a verifier of it, and it is stored nowhere.
//!
//! Not here: who may have a session (control), logging in with the user (the gateway), the client
//! ([`database`](crate::database)).

mod revoke;
mod settings;

use async_trait::async_trait;
use sallyport_core::{
    authz::Permit,
    descriptor::Descriptor,
    entropy::Entropy,
    id::{AccountId, LeaseId},
    inventory::AccountName,
    lease::Lease,
    secret::{SecretBytes, SecretString},
};
use sallyport_wire::scram;
use serde_json::Value;

use self::settings::PostgresSettings;
use super::{CredentialMaterial, Engine, EngineError, IssueContext, Issued, RevokeContext, Site};
use crate::{
    barrier::Vault,
    database::{
        DatabaseError, Server, name,
        postgres::{Connection, Login},
        sql_text::{Dialect, Values},
    },
    secret_store::SecretPath,
};

const KIND: &str = "postgres";
const SQL: Dialect = Dialect::Postgres;
/// The database that servers have.
const DATABASE_DEFAULT: &str = "postgres";
/// What a server says when a password is wrong, and when a login is not permitted.
const LOGIN_REFUSED: [&str; 2] = ["28P01", "28000"];

/// See the module.
#[derive(Debug)]
pub(super) struct Postgres;

#[async_trait]
impl Engine for Postgres {
    fn describe(&self) -> Descriptor {
        settings::descriptor()
    }

    fn check_settings(&self, settings: &Value) -> Result<(), EngineError> {
        settings::read(settings).map(|_| ())
    }

    fn secret_paths(&self, _account_id: &AccountId) -> Vec<SecretPath> {
        Vec::new()
    }

    fn accept_secret(
        &self,
        _account_id: &AccountId,
        _kind: &str,
        _value: &SecretString,
    ) -> Result<(SecretPath, SecretBytes), EngineError> {
        Err(EngineError::TakesNoSecret { engine: KIND })
    }

    fn root_account(&self, settings: &Value) -> Result<Option<AccountName>, EngineError> {
        settings::read(settings).map(|settings| Some(settings.root))
    }

    fn protocol(&self) -> Option<&'static str> {
        Some("postgres")
    }

    fn handle(&self, vault: &Vault, lease_id: &LeaseId) -> Option<String> {
        vault
            .keyring_id()
            .map(|keyring| name::user(&keyring, lease_id))
    }

    async fn issue(
        &self,
        permit: &Permit,
        context: IssueContext<'_>,
    ) -> Result<Issued, EngineError> {
        let settings = settings::read(context.settings)?;
        let terms = permit.terms();
        if terms.expires_at <= context.now {
            return Err(EngineError::PermitEnded {
                ended: terms.expires_at,
            });
        }
        let site = site(context.site)?;
        let user = context.handle.ok_or(NO_HANDLE)?;
        let entropy = context.vault.entropy();
        let password = name::password(entropy);
        let wanted = Wanted {
            user,
            verifier: verifier(&password, entropy),
            expires_at: terms.expires_at.to_string(),
            comment: format!(
                "sallyport: session {} of {}",
                terms.session_id, terms.question.principal.name
            ),
        };
        let mut root = log_in(site, context.vault, &settings.database).await?;
        // Whatever fails: a connection that is dropped takes its transaction with it.
        wanted.make(&mut root, &settings).await?;
        root.close().await;
        Ok(Issued {
            content: CredentialMaterial::Password {
                user: Some(user.to_owned()),
                password,
            },
            expires_at: terms.expires_at,
            handle: Some(user.to_owned()),
        })
    }

    async fn revoke(&self, lease: &Lease, context: RevokeContext<'_>) -> Result<(), EngineError> {
        let user = lease.handle.as_deref().ok_or(NO_HANDLE)?;
        revoke::revoke(user, context).await
    }

    async fn remove(&self, handle: &str, context: RevokeContext<'_>) -> Result<(), EngineError> {
        revoke::revoke(handle, context).await
    }

    async fn set_password(
        &self,
        site: &Site,
        vault: &Vault,
        password: &SecretString,
    ) -> Result<(), EngineError> {
        let mut own = log_in(site, vault, DATABASE_DEFAULT).await?;
        let verifier = SQL.value(&verifier(password, vault.entropy()));
        let set = format!("ALTER ROLE CURRENT_USER PASSWORD {verifier}");
        run(&mut own, "change a password", &set).await?;
        own.close().await;
        Ok(())
    }

    async fn accepts(
        &self,
        site: &Site,
        vault: &Vault,
        password: &SecretString,
    ) -> Result<bool, EngineError> {
        let server = Server {
            address: &site.address,
            identities: &site.identities,
        };
        let login = Login {
            user: site.root.as_str(),
            password,
            database: DATABASE_DEFAULT,
        };
        match Connection::open(&server, login, vault.entropy()).await {
            Ok(connection) => {
                connection.close().await;
                Ok(true)
            }
            Err(DatabaseError::LoginRefused { .. }) => Ok(false),
            Err(error) => Err(EngineError::Database(error)),
        }
    }

    async fn made(&self, context: RevokeContext<'_>) -> Result<Vec<String>, EngineError> {
        revoke::made(context).await
    }
}

const NO_HANDLE: EngineError = EngineError::NoSite {
    engine: KIND,
    problem: "the lease does not say which user it is for",
};

fn site(site: Option<&Site>) -> Result<&Site, EngineError> {
    site.ok_or(EngineError::NoSite {
        engine: KIND,
        problem: "its target, its root account or that account's password is not there",
    })
}

fn verifier(password: &SecretString, entropy: &dyn Entropy) -> String {
    scram::verifier(password.expose_secret(), &entropy.draw())
}

/// Logs in as the root account.
async fn log_in(site: &Site, vault: &Vault, database: &str) -> Result<Connection, EngineError> {
    let server = Server {
        address: &site.address,
        identities: &site.identities,
    };
    let mut refusal = None;
    for password in site.root_passwords(vault)? {
        let login = Login {
            user: site.root.as_str(),
            password: &password,
            database,
        };
        match Connection::open(&server, login, vault.entropy()).await {
            // While the root account is rotated, one of two passwords is the right one.
            Err(error @ DatabaseError::LoginRefused { .. }) => refusal = Some(error),
            other => return other.map_err(EngineError::Database),
        }
    }
    Err(refusal.map_or(
        EngineError::NoSite {
            engine: KIND,
            problem: "its root account has no password stored",
        },
        EngineError::Database,
    ))
}

/// A user to be made.
struct Wanted<'a> {
    user: &'a str,
    verifier: String,
    expires_at: String,
    comment: String,
}

impl Wanted<'_> {
    /// Makes the user in one transaction, and commits it only when it can do no more than it should.
    async fn make(
        &self,
        root: &mut Connection,
        settings: &PostgresSettings,
    ) -> Result<(), EngineError> {
        let user = SQL.name(self.user);
        run(root, "begin", "BEGIN").await?;
        let began = transaction(root).await?;
        let create = format!(
            "CREATE ROLE {user} LOGIN INHERIT CONNECTION LIMIT {} PASSWORD {} VALID UNTIL {}",
            settings.connections,
            SQL.value(&self.verifier),
            SQL.value(&self.expires_at),
        );
        run(root, "create a user", &create).await?;
        let comment = format!("COMMENT ON ROLE {user} IS {}", SQL.value(&self.comment));
        run(root, "say whose user it is", &comment).await?;
        if !settings.roles.is_empty() {
            let roles: Vec<String> = settings.roles.iter().map(|role| SQL.name(role)).collect();
            let grant = format!("GRANT {} TO {user}", roles.join(", "));
            run(root, "grant roles to a user", &grant).await?;
        }
        let values = Values {
            user: self.user,
            expires_at: &self.expires_at,
            database: &settings.database,
        };
        for statement in &settings.creation {
            run(root, "run the setting `creation`", &statement.fill(&values)).await?;
        }
        if transaction(root).await? != began {
            return Err(EngineError::Excess {
                problem: "`creation` ended the transaction".to_owned(),
            });
        }
        self.check(root, settings).await?;
        run(root, "commit a user", "COMMIT").await
    }

    /// Reads from the catalogue what the user is, before anybody else can see it.
    async fn check(
        &self,
        root: &mut Connection,
        settings: &PostgresSettings,
    ) -> Result<(), EngineError> {
        let memberships = query(root, "read a user's roles", MEMBERSHIPS, &[self.user]).await?;
        for row in memberships {
            let role = column(&row, 0);
            let is_allowed = |names: &[String]| names.iter().any(|name| name == role);
            if !is_allowed(&settings.roles) && !is_allowed(&settings.allowed_roles) {
                return Err(EngineError::Excess {
                    problem: format!(
                        "it would be a member of `{role}`, which neither `roles` nor `allowed_roles` names"
                    ),
                });
            }
            if column(&row, 1) == "t" {
                return Err(EngineError::Excess {
                    problem: format!("it could make others members of `{role}`"),
                });
            }
        }
        for row in query(root, "read a user's powers", POWERS, &[self.user]).await? {
            let (role, power) = (column(&row, 0), column(&row, 1));
            if !settings.powers.iter().any(|allowed| allowed == power) {
                return Err(EngineError::Excess {
                    problem: format!(
                        "through `{role}` it has `{power}`, which `powers` does not name"
                    ),
                });
            }
        }
        Ok(())
    }
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
    let rows = query(root, "read the transaction", "SELECT txid_current()", &[]).await?;
    Ok(rows.first().map_or("", |row| column(row, 0)).to_owned())
}

async fn run(root: &mut Connection, what: &'static str, sql: &str) -> Result<(), EngineError> {
    query(root, what, sql, &[]).await.map(drop)
}

async fn query(
    root: &mut Connection,
    what: &'static str,
    sql: &str,
    parameters: &[&str],
) -> Result<crate::database::postgres::Rows, EngineError> {
    root.run(what, sql, parameters)
        .await
        .map_err(EngineError::Database)
}

fn column(row: &[Option<String>], at: usize) -> &str {
    row.get(at).and_then(Option::as_deref).unwrap_or_default()
}
