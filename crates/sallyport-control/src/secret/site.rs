//! Where an engine makes and unmakes credentials: the target, and the root account that is used there.
//!
//! INVARIANT: a credential is unmade where it was made, whatever happened to the inventory since; by what
//! the target is recognised, and what the account is configured to be, is taken as it is now while the
//! account still is of that engine at that address, so that a fault can be put right.

use sallyport_core::{
    id::{AccountId, TargetId},
    inventory::{Account, AccountName, Target},
};
use sallyport_vault::{
    SecretPath,
    engines::{self, Site},
};
use serde::{Deserialize, Serialize};

use super::store;
use crate::{
    inventory,
    kernel::{database::StoreError, statement::Sql},
};

/// Where a credential is made, as it was when it was intended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The target.
    pub target_id: TargetId,
    /// Its `host:port`.
    pub address: String,
    /// By what it is recognised.
    pub identities: Vec<String>,
    /// Engine of the account.
    pub engine: String,
    /// Settings of the account.
    pub settings: serde_json::Value,
    /// The account that makes and unmakes.
    pub root_id: AccountId,
    /// Its name.
    pub root: AccountName,
}

/// Where the credentials of an account are made; nothing when that is at no target, or when the root
/// account is not there.
///
/// # Errors
/// [`StoreError`]; so for all here.
pub async fn place(
    sql: &mut dyn Sql,
    account: &Account,
    target: &Target,
) -> Result<Option<Place>, StoreError> {
    let root = engines::by_kind(&account.engine)
        .and_then(|engine| engine.root_account(&account.settings).ok().flatten());
    let Some(root) = root else {
        return Ok(None);
    };
    let Some(root) = inventory::account_by_name(sql, &target.id, &root).await? else {
        return Ok(None);
    };
    Ok(Some(Place {
        target_id: target.id.clone(),
        address: target.address.clone(),
        identities: target.host_keys.clone(),
        engine: account.engine.clone(),
        settings: account.settings.clone(),
        root_id: root.id,
        root: root.name,
    }))
}

/// A place as it is now, as far as it is the same one.
pub async fn place_now(
    sql: &mut dyn Sql,
    mut place: Place,
    account_id: &AccountId,
) -> Result<Place, StoreError> {
    let target = inventory::target_by_id(sql, &place.target_id)
        .await?
        .filter(|target| target.address == place.address);
    if let Some(target) = target {
        place.identities = target.host_keys;
        let account = inventory::account_by_id(sql, account_id)
            .await?
            .filter(|account| account.engine == place.engine);
        if let Some(account) = account {
            place.settings = account.settings;
        }
    }
    Ok(place)
}

/// A place with what opens its root account.
pub async fn site(sql: &mut dyn Sql, place: &Place) -> Result<Site, StoreError> {
    let mut root_secrets = Vec::new();
    for path in [
        SecretPath::account_credential(&place.root_id),
        SecretPath::account_candidate(&place.root_id),
    ] {
        root_secrets.extend(store::latest(sql, &path).await?);
    }
    Ok(Site {
        address: place.address.clone(),
        identities: place.identities.clone(),
        root: place.root.clone(),
        root_secrets,
    })
}
