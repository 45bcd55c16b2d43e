//! People as `apply` wants them: made when missing, brought into line when different. The rules are those
//! of [`super::workflow`], word for word.
//!
//! INVARIANT: no code is issued here, and nobody is enabled or disabled.

use sallyport_api::rest::directory::CreatePerson;
use sallyport_core::{
    event::{Event, EventName},
    id::PersonId,
    principal::{AdminRole, Person, PersonName},
};

use super::{
    group::GroupName,
    store,
    workflow::{
        DirectoryError, bad, check_display_name, check_giving, check_other_owner, create_person,
        groups, roles,
    },
};
use crate::kernel::{caller::Caller, control::Control, ids, transaction::Transaction};

/// A person as a document lists one, read and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WantedPerson {
    /// Sign-in name.
    pub(crate) name: PersonName,
    display_name: String,
    groups: Vec<GroupName>,
    admin_roles: Vec<AdminRole>,
}

/// What became of a wanted person.
#[derive(Debug)]
pub(crate) struct PutPerson {
    /// Whether the person was made.
    pub(crate) is_new: bool,
    /// `field: old -> new`; empty for new people.
    pub(crate) differences: Vec<String>,
    /// What to record; nothing when everything was as wanted.
    pub(crate) event: Option<Event>,
}

/// Reads a person of a document.
///
/// # Errors
/// [`DirectoryError::BadField`].
pub(crate) fn read_wanted(spec: &CreatePerson) -> Result<WantedPerson, DirectoryError> {
    check_display_name(&spec.display_name)?;
    Ok(WantedPerson {
        name: spec.name.parse().map_err(|error| bad("name", &error))?,
        display_name: spec.display_name.clone(),
        groups: groups(&spec.groups)?,
        admin_roles: roles(&spec.admin_roles)?,
    })
}

/// Makes a person or brings one into line; joins the caller's transaction.
///
/// # Errors
/// [`DirectoryError`], as for making and editing people one by one.
pub(crate) async fn put_wanted(
    tx: &mut Transaction,
    control: &Control,
    caller: &Caller,
    wanted: &WantedPerson,
) -> Result<PutPerson, DirectoryError> {
    match store::listed_by_name(tx, &wanted.name).await? {
        Some(listed) => change(tx, control, caller, listed.person, wanted).await,
        None => create(tx, control, caller, wanted).await,
    }
}

async fn create(
    tx: &mut Transaction,
    control: &Control,
    caller: &Caller,
    wanted: &WantedPerson,
) -> Result<PutPerson, DirectoryError> {
    check_giving(caller, &[], &wanted.admin_roles)?;
    let now = control.now();
    let person = Person {
        id: PersonId::new(now, ids::entropy()),
        name: wanted.name.clone(),
        display_name: wanted.display_name.clone(),
        groups: wanted.groups.iter().map(ToString::to_string).collect(),
        admin_roles: wanted.admin_roles.clone(),
        is_enabled: true,
    };
    let event = create_person(tx, &person, now).await?;
    store::put_groups(tx, &person.id, &wanted.groups, now).await?;
    Ok(PutPerson {
        is_new: true,
        differences: Vec::new(),
        event: Some(event),
    })
}

async fn change(
    tx: &mut Transaction,
    control: &Control,
    caller: &Caller,
    old: Person,
    wanted: &WantedPerson,
) -> Result<PutPerson, DirectoryError> {
    let person = Person {
        display_name: wanted.display_name.clone(),
        groups: wanted.groups.iter().map(ToString::to_string).collect(),
        admin_roles: wanted.admin_roles.clone(),
        ..old.clone()
    };
    let role_names = |roles: &[AdminRole]| {
        roles
            .iter()
            .map(|role| role.as_str())
            .collect::<Vec<_>>()
            .join(",")
    };
    let fields: Vec<(&str, String, String)> = [
        (
            "display_name",
            old.display_name.clone(),
            person.display_name.clone(),
        ),
        ("groups", old.groups.join(","), person.groups.join(",")),
        (
            "admin_roles",
            role_names(&old.admin_roles),
            role_names(&person.admin_roles),
        ),
    ]
    .into_iter()
    .filter(|(_, before, after)| before != after)
    .collect();
    if fields.is_empty() {
        return Ok(PutPerson {
            is_new: false,
            differences: Vec::new(),
            event: None,
        });
    }
    check_giving(caller, &old.admin_roles, &person.admin_roles)?;
    let is_owner = |person: &Person| person.admin_roles.contains(&AdminRole::Owner);
    if is_owner(&old) && !is_owner(&person) {
        check_other_owner(tx, &person.id).await?;
    }
    store::put_groups(tx, &person.id, &wanted.groups, control.now()).await?;
    store::update(tx, &person).await?;
    let changed: Vec<&str> = fields.iter().map(|(field, ..)| *field).collect();
    let event = Event::new(EventName::PersonChanged, &person.id)
        .with("changed", changed)
        .with("groups", &person.groups)
        .with("admin_roles", &person.admin_roles);
    Ok(PutPerson {
        is_new: false,
        differences: fields
            .into_iter()
            .map(|(field, before, after)| format!("{field}: {before} -> {after}"))
            .collect(),
        event: Some(event),
    })
}
