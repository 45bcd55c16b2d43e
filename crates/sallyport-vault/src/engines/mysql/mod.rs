//! The `mysql` engine: for each session a user of its own on a MariaDB server, made by a root account and
//! gone with the lease.
//!
//! INVARIANT: a user is locked until its grants were read back and are no more than the account's settings
//! allow; the server's clock ends what the server ends; the password is made here, the server and its log get a hash of it, and it is stored nowhere.
//!
//! Not here: who may have a session (control), logging in with the user (the gateway), the client
//! ([`database`](crate::database)). MySQL 8 is refused: it takes no hash that this engine makes.

mod grants;
mod revoke;
mod settings;

use async_trait::async_trait;
use sallyport_core::{
    authz::Permit,
    descriptor::Descriptor,
    id::{AccountId, LeaseId},
    inventory::AccountName,
    lease::Lease,
    secret::{SecretBytes, SecretString},
};
use sallyport_wire::scramble;
use serde_json::Value;

use self::settings::MysqlSettings;
use super::{CredentialMaterial, Engine, EngineError, IssueContext, Issued, RevokeContext, Site};
use crate::{
    barrier::Vault,
    database::{
        DatabaseError, Server,
        mysql::{Connection, Login, Rows},
        name,
        sql_text::{Dialect, Values},
    },
    secret_store::SecretPath,
};

const KIND: &str = "mysql";
const SQL: Dialect = Dialect::Mysql;

/// See the module.
#[derive(Debug)]
pub(super) struct Mysql;

#[async_trait]
impl Engine for Mysql {
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
        Some("mysql")
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
        let password = name::password(context.vault.entropy());
        let mut root = log_in(site, context.vault).await?;
        let wanted = Wanted {
            user,
            at: at_any_host(user),
            is_encrypted: site
                .identities
                .iter()
                .all(|identity| identity != "plaintext"),
            expires_at: terms.expires_at.to_string(),
            lasts_s: terms.expires_at.since(context.now).as_secs().max(1),
        };
        if let Err(error) = wanted.make(&mut root, &settings, &password).await {
            // It is locked; gone is better. If that fails too, its lease still ends it.
            let drop = format!("DROP USER IF EXISTS {}", wanted.at);
            let _ = run(&mut root, "drop a user that may not be", &drop).await;
            return Err(error);
        }
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

    async fn set_password(
        &self,
        site: &Site,
        vault: &Vault,
        password: &SecretString,
    ) -> Result<(), EngineError> {
        let mut own = log_in(site, vault).await?;
        let set = format!("SET PASSWORD = {}", verifier(password));
        run(&mut own, "change a password", &set).await?;
        own.close().await;
        Ok(())
    }

    async fn accepts(
        &self,
        site: &Site,
        _vault: &Vault,
        password: &SecretString,
    ) -> Result<bool, EngineError> {
        let login = Login {
            user: site.root.as_str(),
            password,
        };
        match Connection::open(&server(site), login).await {
            Ok(connection) => {
                connection.close().await;
                Ok(true)
            }
            Err(DatabaseError::LoginRefused { .. }) => Ok(false),
            Err(error) => Err(EngineError::Database(error)),
        }
    }

    async fn remove(&self, handle: &str, context: RevokeContext<'_>) -> Result<(), EngineError> {
        revoke::revoke(handle, context).await
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

fn server(site: &Site) -> Server<'_> {
    Server {
        address: &site.address,
        identities: &site.identities,
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

/// What the server gets instead of a password.
fn verifier(password: &SecretString) -> String {
    SQL.value(&scramble::native_verifier(
        password.expose_secret().as_bytes(),
    ))
}

/// Logs in as the root account.
async fn log_in(site: &Site, vault: &Vault) -> Result<Connection, EngineError> {
    let mut refusal = None;
    for password in site.root_passwords(vault)? {
        let login = Login {
            user: site.root.as_str(),
            password: &password,
        };
        match Connection::open(&server(site), login).await {
            // While the root account is rotated, one of two passwords is the right one.
            Err(error @ DatabaseError::LoginRefused { .. }) => refusal = Some(error),
            Err(error) => return Err(EngineError::Database(error)),
            Ok(connection) if connection.version().contains("MariaDB") => return Ok(connection),
            Ok(_) => {
                return Err(EngineError::NoSite {
                    engine: KIND,
                    problem: "the server is not MariaDB",
                });
            }
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
    at: String,
    is_encrypted: bool,
    expires_at: String,
    lasts_s: u64,
}

impl Wanted<'_> {
    /// Makes the user locked, and unlocks it only when it can do no more than it should.
    async fn make(
        &self,
        root: &mut Connection,
        settings: &MysqlSettings,
        password: &SecretString,
    ) -> Result<(), EngineError> {
        let create = format!(
            "CREATE USER {} IDENTIFIED VIA mysql_native_password USING {} REQUIRE {} \
             WITH MAX_USER_CONNECTIONS {} ACCOUNT LOCK",
            self.at,
            verifier(password),
            if self.is_encrypted { "SSL" } else { "NONE" },
            settings.connections,
        );
        run(root, "create a user", &create).await?;
        for role in &settings.roles {
            let grant = format!("GRANT {} TO {}", SQL.name(role), self.at);
            run(root, "grant a role to a user", &grant).await?;
        }
        if let Some(first) = settings.roles.first() {
            let set = format!("SET DEFAULT ROLE {} FOR {}", SQL.name(first), self.at);
            run(root, "put a user's role into force", &set).await?;
        }
        let values = Values {
            user: self.user,
            expires_at: &self.expires_at,
            database: &settings.database,
        };
        for statement in &settings.creation {
            run(root, "run the setting `creation`", &statement.fill(&values)).await?;
        }
        self.check(root, settings).await?;
        self.set_end(root, settings).await?;
        let unlock = format!("ALTER USER {} ACCOUNT UNLOCK", self.at);
        run(root, "unlock a user", &unlock).await
    }

    /// Has the server lock the user out at its end by itself, where an owner has named a place for that.
    async fn set_end(
        &self,
        root: &mut Connection,
        settings: &MysqlSettings,
    ) -> Result<(), EngineError> {
        let Some(event) = event(settings, self.user) else {
            return Ok(());
        };
        let is_on = query(
            root,
            "ask for the event scheduler",
            "SELECT @@GLOBAL.event_scheduler",
        )
        .await?;
        if is_on.first().map(|row| column(row, 0)) != Some("ON") {
            return Err(EngineError::NoSite {
                engine: KIND,
                problem: "`expiry_database` is set and the server's event scheduler is off",
            });
        }
        let create = format!(
            "CREATE EVENT {event} ON SCHEDULE AT CURRENT_TIMESTAMP + INTERVAL {} SECOND \
             DO BEGIN ALTER USER {} ACCOUNT LOCK; KILL USER {}; END",
            self.lasts_s, self.at, self.at
        );
        run(root, "set the end of a user", &create).await
    }

    /// Reads back what the user may do, itself and through every role it can have.
    async fn check(
        &self,
        root: &mut Connection,
        settings: &MysqlSettings,
    ) -> Result<(), EngineError> {
        let excess = |problem: String| Err(EngineError::Excess { problem });
        let direct = format!(
            "SELECT Role, Admin_option FROM mysql.roles_mapping WHERE User = {} AND Host = '%'",
            SQL.value(self.user)
        );
        for row in query(root, "read a user's roles", &direct).await? {
            let role = column(&row, 0);
            let is_allowed = |names: &[String]| names.iter().any(|name| name == role);
            if !is_allowed(&settings.roles) && !is_allowed(&settings.allowed_roles) {
                return excess(format!(
                    "it would have the role `{role}`, which neither `roles` nor `allowed_roles` names"
                ));
            }
            if column(&row, 1) != "N" {
                return excess(format!("it could give others the role `{role}`"));
            }
        }
        let reach = format!(
            "WITH RECURSIVE reach(name) AS (SELECT Role FROM mysql.roles_mapping WHERE User = {} AND Host = '%' \
             UNION SELECT m.Role FROM reach JOIN mysql.roles_mapping m ON m.User = reach.name AND m.Host = '') \
             SELECT name FROM reach",
            SQL.value(self.user)
        );
        let mut names = vec![self.at.clone()];
        for row in query(root, "read a user's roles", &reach).await? {
            names.push(SQL.name(column(&row, 0)));
        }
        for name in names {
            let show = format!("SHOW GRANTS FOR {name}");
            for row in query(root, "read a user's grants", &show).await? {
                if let Some(problem) = grants::too_much(column(&row, 0), &settings.powers) {
                    return excess(format!("through {name} it {problem}"));
                }
            }
        }
        Ok(())
    }
}

async fn run(root: &mut Connection, what: &'static str, sql: &str) -> Result<(), EngineError> {
    query(root, what, sql).await.map(drop)
}

async fn query(root: &mut Connection, what: &'static str, sql: &str) -> Result<Rows, EngineError> {
    root.run(what, sql).await.map_err(EngineError::Database)
}

fn column(row: &[Option<String>], at: usize) -> &str {
    row.get(at).and_then(Option::as_deref).unwrap_or_default()
}
