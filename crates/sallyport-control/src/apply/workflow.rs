//! Compare and make so: read the document, compare with the store, change what differs, commit once.

use std::collections::BTreeMap;

use sallyport_api::rest::apply::{Applied, Change, Wanted};
use sallyport_core::{
    authz::AdminAction,
    event::{Event, EventName, Events},
    inventory::{Account, Target, TargetName},
};

use super::document::{self, Document, DocumentFault, WantedPolicies};
use crate::{
    directory::{self, DirectoryError, WantedPerson},
    inventory::{
        self,
        workflow::{
            InventoryError, account_differences, check_on_target, put_account, put_target,
            target_differences,
        },
    },
    kernel::{caller::Caller, control::Control, database::StoreError, transaction::Transaction},
    policy,
};

/// Why a wanted state was not applied. Nothing of it was then.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The caller may not change what the document lists.
    #[error("apply what takes the right `{right}`", right = .0.as_str())]
    MissingRight(AdminAction),
    /// The document is faulty.
    #[error("read the wanted state: {count} faults", count = .0.len())]
    Document(Vec<DocumentFault>),
    /// An account names a target that is neither there nor wanted.
    #[error("there is no target `{target}`")]
    NoTarget {
        /// Place of the account in the list.
        index: usize,
        /// The target's name.
        target: TargetName,
    },
    /// An account cannot be on its target like this.
    #[error("apply accounts[{index}]")]
    Account {
        /// Place of the account in the list.
        index: usize,
        /// Why.
        #[source]
        source: InventoryError,
    },
    /// A person may not be made or changed like this.
    #[error("apply people[{index}]")]
    Person {
        /// Place of the person in the list.
        index: usize,
        /// Why.
        #[source]
        source: DirectoryError,
    },
    /// Reading the document panicked.
    #[error("read the wanted state without panicking")]
    Panicked,
    /// The store failed.
    #[error("reach the store")]
    Store(#[from] StoreError),
}

/// Makes a wanted state so, or with `is_dry_run` only says what would change.
///
/// # Errors
/// [`ApplyError`].
pub async fn apply(
    control: &Control,
    caller: &Caller,
    wanted: Wanted,
    is_dry_run: bool,
) -> Result<Applied, ApplyError> {
    check_rights(caller, &wanted)?;
    let now = control.now();
    // Loading a bundle and running its tests takes the processor for a while.
    let document =
        crate::kernel::task::blocking("read wanted state", move || document::read(&wanted, now))
            .await
            .ok_or(ApplyError::Panicked)?
            .map_err(ApplyError::Document)?;

    let _turn = control.policies().change().await;
    let mut tx = control.db().begin(caller.actor()).await?;
    let mut plan = Plan::default();
    let Document {
        targets,
        accounts,
        people,
        policies,
    } = document;
    for target in targets {
        plan.target(&mut tx, target).await?;
    }
    let mut stored = Vec::with_capacity(accounts.len());
    for (index, (target, account)) in accounts.into_iter().enumerate() {
        stored.push(plan.account(&mut tx, index, &target, account).await?);
    }
    // Only now: one account may need another that stands further down.
    for (index, (account, target)) in stored.iter().enumerate() {
        check_on_target(&mut tx, account, target)
            .await
            .map_err(|source| match source {
                InventoryError::Store(error) => ApplyError::Store(error),
                source => ApplyError::Account { index, source },
            })?;
    }
    for (index, person) in people.iter().enumerate() {
        plan.person(&mut tx, control, caller, index, person).await?;
    }
    let staged = match policies {
        Some(wanted) => plan.policies(&mut tx, control, caller, wanted).await?,
        None => None,
    };

    if is_dry_run {
        drop(tx);
        return Ok(plan.applied(false));
    }
    let mut events = std::mem::take(&mut plan.events).into_iter();
    if let Some(first) = events.next() {
        tx.commit(Events::one(first).and_all(events)).await?;
        if let Some(bundle) = staged {
            policy::workflow::enforce(control, bundle);
        }
        control.changes().touch();
    }
    Ok(plan.applied(true))
}

fn check_rights(caller: &Caller, wanted: &Wanted) -> Result<(), ApplyError> {
    let has_inventory = !wanted.targets.is_empty() || !wanted.accounts.is_empty();
    let needed = [
        (has_inventory, AdminAction::TargetEdit),
        (!wanted.people.is_empty(), AdminAction::PersonEdit),
        (wanted.policies.is_some(), AdminAction::PolicyApply),
    ];
    match needed
        .into_iter()
        .find(|(is_needed, action)| *is_needed && !caller.is_permitted(*action))
    {
        Some((_, action)) => Err(ApplyError::MissingRight(action)),
        None => Ok(()),
    }
}

/// Changes so far: what to say about them, and what to record.
#[derive(Default)]
struct Plan {
    changes: Vec<Change>,
    events: Vec<Event>,
}

impl Plan {
    fn applied(self, is_applied: bool) -> Applied {
        Applied {
            is_applied,
            changes: self.changes,
        }
    }

    /// Notes one thing; without an event it is as wanted already.
    fn note(
        &mut self,
        noun: &str,
        name: String,
        is_new: bool,
        differences: Vec<String>,
        event: Option<Event>,
    ) {
        let verb = match (is_new, event.is_some()) {
            (true, _) => "create",
            (false, true) => "change",
            (false, false) => "unchanged",
        };
        self.changes.push(Change {
            verb: verb.to_owned(),
            noun: noun.to_owned(),
            name,
            differences,
        });
        self.events.extend(event);
    }

    async fn target(&mut self, tx: &mut Transaction, wanted: Target) -> Result<(), StoreError> {
        let old = inventory::target_by_name(tx, &wanted.name).await?;
        let target = match &old {
            Some(old) => merged(old, wanted),
            None => wanted,
        };
        let differences = old
            .as_ref()
            .map_or_else(Vec::new, |old| target_differences(old, &target));
        let event = if old.is_none() || !differences.is_empty() {
            Some(put_target(tx, old.as_ref(), &target).await?)
        } else {
            None
        };
        let name = target.name.to_string();
        self.note("target", name, old.is_none(), differences, event);
        Ok(())
    }

    async fn account(
        &mut self,
        tx: &mut Transaction,
        index: usize,
        target: &TargetName,
        mut account: Account,
    ) -> Result<(Account, Target), ApplyError> {
        let target = inventory::target_by_name(tx, target)
            .await?
            .ok_or_else(|| ApplyError::NoTarget {
                index,
                target: target.clone(),
            })?;
        let old = inventory::account_by_name(tx, &target.id, &account.name).await?;
        account.target_id = target.id.clone();
        if let Some(old) = &old {
            account.id = old.id.clone();
        }
        let differences = old
            .as_ref()
            .map_or_else(Vec::new, |old| account_differences(old, &account));
        let event = if old.is_none() || !differences.is_empty() {
            Some(put_account(tx, old.as_ref(), &account, &target).await?)
        } else {
            None
        };
        let name = format!("{}@{}", account.name, target.name);
        self.note("account", name, old.is_none(), differences, event);
        Ok((account, target))
    }

    async fn person(
        &mut self,
        tx: &mut Transaction,
        control: &Control,
        caller: &Caller,
        index: usize,
        wanted: &WantedPerson,
    ) -> Result<(), ApplyError> {
        let put = directory::put_wanted(tx, control, caller, wanted)
            .await
            .map_err(|source| match source {
                DirectoryError::Store(error) => ApplyError::Store(error),
                source => ApplyError::Person { index, source },
            })?;
        let name = wanted.name.to_string();
        self.note("person", name, put.is_new, put.differences, put.event);
        Ok(())
    }

    /// Stages the bundle; returns it when it has to be enforced after the commit.
    async fn policies(
        &mut self,
        tx: &mut Transaction,
        control: &Control,
        caller: &Caller,
        wanted: WantedPolicies,
    ) -> Result<Option<sallyport_policy::Bundle>, StoreError> {
        let WantedPolicies { bundle, files } = wanted;
        let staged = policy::workflow::stage(
            tx,
            control,
            &caller.person,
            &bundle,
            EventName::PolicyApplied,
        )
        .await?;
        let name = "policies".to_owned();
        match staged {
            None => {
                self.note("policies", name, false, Vec::new(), None);
                Ok(None)
            }
            Some((_, event)) => {
                let differences = file_differences(control.policies().current().files(), &files);
                self.note("policies", name, false, differences, Some(event));
                Ok(Some(bundle))
            }
        }
    }
}

/// A target as wanted, under the id it has. Host keys that were pinned on first sight stay when the
/// document names none and allows that: applying the same files again must not forget them.
fn merged(old: &Target, wanted: Target) -> Target {
    let host_keys = if wanted.host_keys.is_empty() && wanted.pins_first_host_key {
        old.host_keys.clone()
    } else {
        wanted.host_keys
    };
    Target {
        id: old.id.clone(),
        host_keys,
        ..wanted
    }
}

fn file_differences(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<String> {
    let removed = old
        .keys()
        .filter(|path| !new.contains_key(*path))
        .map(|path| format!("{path}: there -> gone"));
    let changed = new.iter().filter_map(|(path, text)| match old.get(path) {
        None => Some(format!("{path}: absent -> {} lines", text.lines().count())),
        Some(before) if before != text => Some(format!(
            "{path}: {} lines -> {} lines",
            before.lines().count(),
            text.lines().count()
        )),
        Some(_) => None,
    });
    removed.chain(changed).collect()
}
