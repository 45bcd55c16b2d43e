//! Ending a user of a database and proving that it is gone, and finding the users that nobody remembers.
//!
//! Called by the [`Engine`](super::Engine) of every [`DatabaseEngine`], which says how its server ends one.
//!
//! INVARIANT: whatever fails, the steps before it have been done and stay done; a user counts as gone only after a
//! login with a password that was right a moment before was refused.

use std::time::Duration;

use sallyport_core::secret::SecretString;

use super::{
    super::{EngineError, RevokeContext, Site},
    DatabaseEngine, known, log_in, server,
};
use crate::{
    barrier::Vault,
    database::{Client as _, DatabaseError, Login, name},
};

/// How often connections are ended before it is given up for this time.
const ENDINGS_MAX: u32 = 40;
/// How long a connection gets to end.
const ENDING_TIME: Duration = Duration::from_millis(50);

/// A user to be ended.
pub(in super::super) struct Going<'a> {
    pub(in super::super) name: &'a str,
    /// To be set while it is locked out. Known to us alone, so that a login refused afterwards proves something.
    pub(in super::super) password: &'a SecretString,
    pub(in super::super) site: &'a Site,
    pub(in super::super) vault: &'a Vault,
}

/// Ends a user of this name.
pub(super) async fn revoke<D: DatabaseEngine>(
    name: &str,
    context: RevokeContext<'_>,
) -> Result<(), EngineError> {
    let settings = D::read(context.settings)?;
    let database = settings.as_ref().database.as_str();
    let site = known::<D>(context.site)?;
    let mut root = log_in::<D>(site, context.vault, database).await?;
    let password = name::password(context.vault.entropy());
    let user = Going {
        name,
        password: &password,
        site,
        vault: context.vault,
    };
    let was_there = D::end(&mut root, &user, &settings).await?;
    root.close().await;
    if !was_there {
        return Ok(());
    }
    let login = Login {
        user: name,
        password: &password,
        database,
    };
    match D::Client::open(&server(site), login, context.vault.entropy()).await {
        Err(DatabaseError::LoginRefused { code, .. }) if D::GONE.contains(&code.as_str()) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Err(EngineError::StillThere {
            user: name.to_owned(),
        }),
    }
}

/// Ends a user's connections until there are none.
pub(in super::super) async fn end_connections<D: DatabaseEngine>(
    root: &mut D::Client,
    user: &str,
) -> Result<(), EngineError> {
    for _ in 0..ENDINGS_MAX {
        if !D::disconnect(root, user).await? {
            return Ok(());
        }
        tokio::time::sleep(ENDING_TIME).await;
    }
    Err(EngineError::StillConnected {
        user: user.to_owned(),
    })
}

/// The users of this installation that are on the server.
pub(super) async fn made<D: DatabaseEngine>(
    context: RevokeContext<'_>,
) -> Result<Vec<String>, EngineError> {
    let settings = D::read(context.settings)?;
    let keyring = context.vault.keyring_id().ok_or(EngineError::NoSite {
        engine: D::KIND,
        problem: "the vault is not made",
    })?;
    let site = known::<D>(context.site)?;
    let mut root = log_in::<D>(site, context.vault, &settings.as_ref().database).await?;
    let found = D::list(&mut root, &name::prefix(&keyring)).await?;
    root.close().await;
    let names = found.iter().map(|row| row.text(0));
    Ok(names
        .filter(|name| name::is_user(name, &keyring))
        .map(str::to_owned)
        .collect())
}
