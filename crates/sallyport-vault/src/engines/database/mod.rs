//! What engines of database users have in common: for each session a user of its own on the target's server, made
//! by a root account and gone with the lease.
//!
//! A kind of server implements [`DatabaseEngine`], which is its SQL and nothing more, and is an
//! [`Engine`](super::Engine) by what stands here. Today `mysql` and `postgres` are.
//!
//! INVARIANT: the password is made here, the server and its log get what proves it, and it is stored nowhere; a user
//! counts as gone only after a login with a password that was right a moment before was refused.
//!
//! Not here: who may have a session (control), logging in with the user (the gateway), the clients
//! ([`database`](crate::database)), the statements (the engines).

pub(super) mod settings;

mod revoke;

use std::fmt;

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
use serde_json::Value;

pub(super) use self::revoke::{Going, end_connections};
use self::settings::UserSettings;
use super::{CredentialMaterial, Engine, EngineError, IssueContext, Issued, RevokeContext, Site};
use crate::{
    barrier::Vault,
    database::{Client, DatabaseError, Login, Rows, Server, name},
    secret_store::SecretPath,
};

/// What a kind of server has of its own.
#[async_trait]
pub(super) trait DatabaseEngine: fmt::Debug + Send + Sync + 'static {
    /// The engine's kind, and the protocol of its targets.
    const KIND: &'static str;
    /// The database in which a root account's own password is changed; empty where logins are to none.
    const DATABASE_DEFAULT: &'static str;
    /// What the server says to somebody who logs in as a user that is gone.
    const GONE: &'static [&'static str];

    /// How it is talked to.
    type Client: Client;
    /// The settings of an account, read.
    type Settings: AsRef<UserSettings> + Send + Sync;

    /// What its settings are.
    fn descriptor() -> Descriptor;

    /// Reads an account's settings.
    ///
    /// # Errors
    /// [`EngineError::Settings`].
    fn read(settings: &Value) -> Result<Self::Settings, EngineError>;

    /// Looks at a server that let the root account in, before anything is asked of it.
    ///
    /// # Errors
    /// [`EngineError::NoSite`]: it is not one of those that the engine is for.
    fn recognise(_root: &Self::Client) -> Result<(), EngineError> {
        Ok(())
    }

    /// The statement by which whoever is logged in takes this password.
    fn own_password(password: &SecretString, entropy: &dyn Entropy) -> String;

    /// Makes a user that can do no more than the settings allow, or leaves none.
    ///
    /// # Errors
    /// [`EngineError`]; [`EngineError::Excess`] when it could do more.
    async fn make(
        root: &mut Self::Client,
        user: &NewUser<'_>,
        settings: &Self::Settings,
        entropy: &dyn Entropy,
    ) -> Result<(), EngineError>;

    /// Locks a user out, ends what runs as it, and drops it. Whether there was one.
    ///
    /// # Errors
    /// [`EngineError`]; the steps before the one that failed are done and stay done.
    async fn end(
        root: &mut Self::Client,
        user: &Going<'_>,
        settings: &Self::Settings,
    ) -> Result<bool, EngineError>;

    /// Ends the connections that a user has now. Whether there were any.
    ///
    /// # Errors
    /// [`EngineError::Database`].
    async fn disconnect(root: &mut Self::Client, user: &str) -> Result<bool, EngineError>;

    /// The users whose names begin like this, one a row.
    ///
    /// # Errors
    /// [`EngineError::Database`].
    async fn list(root: &mut Self::Client, prefix: &str) -> Result<Rows, EngineError>;
}

/// A user to be made.
pub(super) struct NewUser<'a> {
    pub(super) name: &'a str,
    pub(super) password: &'a SecretString,
    /// When it ends, as SQL writes it.
    pub(super) expires_at: String,
    /// How long that is; at least one second.
    pub(super) lasts_s: u64,
    /// Whose it is, for whoever looks at the server.
    pub(super) comment: String,
    pub(super) site: &'a Site,
}

#[async_trait]
impl<D: DatabaseEngine> Engine for D {
    fn describe(&self) -> Descriptor {
        D::descriptor()
    }

    fn check_settings(&self, settings: &Value) -> Result<(), EngineError> {
        D::read(settings).map(drop)
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
        Err(EngineError::TakesNoSecret { engine: D::KIND })
    }

    fn root_account(&self, settings: &Value) -> Result<Option<AccountName>, EngineError> {
        D::read(settings).map(|settings| Some(settings.as_ref().root.clone()))
    }

    fn protocol(&self) -> Option<&'static str> {
        Some(D::KIND)
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
        let settings = D::read(context.settings)?;
        let terms = permit.terms();
        if terms.expires_at <= context.now {
            return Err(EngineError::PermitEnded {
                ended: terms.expires_at,
            });
        }
        let site = known::<D>(context.site)?;
        let user = named::<D>(context.handle)?;
        let password = name::password(context.vault.entropy());
        let wanted = NewUser {
            name: user,
            password: &password,
            expires_at: terms.expires_at.to_string(),
            lasts_s: terms.expires_at.since(context.now).as_secs().max(1),
            comment: format!(
                "sallyport: session {} of {}",
                terms.session_id, terms.question.principal.name
            ),
            site,
        };
        let mut root = log_in::<D>(site, context.vault, &settings.as_ref().database).await?;
        D::make(&mut root, &wanted, &settings, context.vault.entropy()).await?;
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
        revoke::revoke::<D>(named::<D>(lease.handle.as_deref())?, context).await
    }

    async fn remove(&self, handle: &str, context: RevokeContext<'_>) -> Result<(), EngineError> {
        revoke::revoke::<D>(handle, context).await
    }

    async fn set_password(
        &self,
        site: &Site,
        vault: &Vault,
        password: &SecretString,
    ) -> Result<(), EngineError> {
        let mut own = log_in::<D>(site, vault, D::DATABASE_DEFAULT).await?;
        let set = D::own_password(password, vault.entropy());
        own.run("change a password", &set).await?;
        own.close().await;
        Ok(())
    }

    async fn accepts(
        &self,
        site: &Site,
        vault: &Vault,
        password: &SecretString,
    ) -> Result<bool, EngineError> {
        let login = Login {
            user: site.root.as_str(),
            password,
            database: D::DATABASE_DEFAULT,
        };
        match D::Client::open(&server(site), login, vault.entropy()).await {
            Ok(client) => {
                client.close().await;
                Ok(true)
            }
            Err(DatabaseError::LoginRefused { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn made(&self, context: RevokeContext<'_>) -> Result<Vec<String>, EngineError> {
        revoke::made::<D>(context).await
    }
}

/// Logs in as the root account.
pub(super) async fn log_in<D: DatabaseEngine>(
    site: &Site,
    vault: &Vault,
    database: &str,
) -> Result<D::Client, EngineError> {
    let mut refusal = None;
    for password in site.root_passwords(vault)? {
        let login = Login {
            user: site.root.as_str(),
            password: &password,
            database,
        };
        match D::Client::open(&server(site), login, vault.entropy()).await {
            // While the root account is rotated, one of two passwords is the right one.
            Err(error @ DatabaseError::LoginRefused { .. }) => refusal = Some(error),
            Err(error) => return Err(error.into()),
            Ok(root) => {
                D::recognise(&root)?;
                return Ok(root);
            }
        }
    }
    Err(refusal.map_or(
        EngineError::NoSite {
            engine: D::KIND,
            problem: "its root account has no password stored",
        },
        EngineError::Database,
    ))
}

fn known<D: DatabaseEngine>(site: Option<&Site>) -> Result<&Site, EngineError> {
    site.ok_or(EngineError::NoSite {
        engine: D::KIND,
        problem: "its target, its root account or that account's password is not there",
    })
}

fn named<D: DatabaseEngine>(handle: Option<&str>) -> Result<&str, EngineError> {
    handle.ok_or(EngineError::NoSite {
        engine: D::KIND,
        problem: "the lease does not say which user it is for",
    })
}

fn server(site: &Site) -> Server<'_> {
    Server {
        address: &site.address,
        identities: &site.identities,
    }
}
