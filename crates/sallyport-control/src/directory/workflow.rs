//! Making, changing, disabling and enabling people.

use sallyport_api::{
    rest::directory::{CreatePerson, EditPerson, PersonView},
    sensitive::Sensitive,
};
use sallyport_core::{
    event::{Event, EventName, Events},
    id::PersonId,
    principal::{AdminRole, Person, PersonName},
    session::EndReason,
    time::Timestamp,
};

use super::{
    group::GroupName,
    store::{self, Listed},
};
use crate::{
    access, authn, broker,
    kernel::{
        caller::Caller,
        control::Control,
        database::StoreError,
        ids,
        problem::{Fault, Faulty},
        transaction::Transaction,
    },
};

const DISPLAY_NAME_CHARS_MAX: usize = 128;
const GROUPS_MAX: usize = 100;
const REASON_CHARS_MAX: usize = 1_000;

/// Why a person was not made or changed.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// There is nobody of this name.
    #[error("there is no such person")]
    NotFound,
    /// The name is taken.
    #[error("there is a person named `{name}` already")]
    Exists {
        /// The name.
        name: PersonName,
    },
    /// A field is not acceptable.
    #[error("`{field}` {problem}")]
    BadField {
        /// Which.
        field: &'static str,
        /// What is wrong and what is accepted.
        problem: String,
    },
    /// The role is above the caller's own.
    #[error("give the role {role}, which is above the caller's own")]
    AboveOwn {
        /// The role.
        role: AdminRole,
    },
    /// An API token gives no roles and makes no codes for those who have some.
    #[error("give administrative roles with an API token")]
    NeedsSignIn,
    /// Nobody could do an owner's work any more.
    #[error("leave no enabled owner")]
    LastOwner,
    /// A disabled person does not enrol.
    #[error("issue an enrolment code for a disabled person")]
    Disabled,
    /// The store failed.
    #[error("reach the store")]
    Store(#[from] StoreError),
}

impl Faulty for DirectoryError {
    fn fault(&self) -> Fault {
        match self {
            Self::NotFound => Fault::NotFound { noun: "person" },
            Self::Exists { name } => Fault::Conflict {
                title: format!("there is a person named `{name}` already"),
                remedy: "use another name, or change the person there is",
            },
            Self::BadField { field, problem } => Fault::field(*field, problem),
            Self::AboveOwn { role } => Fault::field(
                "admin_roles",
                format!("`{role}` is above your own role; nobody gives more than they have"),
            ),
            Self::NeedsSignIn => Fault::NeedsSignIn,
            Self::LastOwner => Fault::Conflict {
                title: "this is the last enabled owner".to_owned(),
                remedy: "make somebody else an owner first, and let them enrol",
            },
            Self::Disabled => Fault::Conflict {
                title: "the person is disabled".to_owned(),
                remedy: "enable the person first",
            },
            Self::Store(error) => error.fault(),
        }
    }
}

/// A person for the API.
#[must_use]
pub fn view_of(person: &Person, is_enrolled: bool) -> PersonView {
    PersonView {
        id: person.id.to_string(),
        name: person.name.to_string(),
        display_name: person.display_name.clone(),
        groups: person.groups.clone(),
        admin_roles: person
            .admin_roles
            .iter()
            .map(|role| role.as_str().to_owned())
            .collect(),
        is_enabled: person.is_enabled,
        is_enrolled,
    }
}

/// Stores a new person within the caller's transaction; returns the event to commit.
pub(crate) async fn create_person(
    tx: &mut Transaction,
    person: &Person,
    now: Timestamp,
) -> Result<Event, StoreError> {
    store::insert(tx, person, now).await?;
    Ok(Event::new(EventName::PersonCreated, &person.id)
        .with("name", &person.name)
        .with("admin_roles", &person.admin_roles)
        .with("groups", &person.groups))
}

/// Makes a person; returns the enrolment code too.
pub(super) async fn create(
    control: &Control,
    caller: &Caller,
    body: &CreatePerson,
) -> Result<(Person, Sensitive), DirectoryError> {
    let name: PersonName = body.name.parse().map_err(|error| bad("name", &error))?;
    check_display_name(&body.display_name)?;
    let groups = groups(&body.groups)?;
    let admin_roles = roles(&body.admin_roles)?;
    check_giving(caller, &[], &admin_roles)?;

    let now = control.now();
    let person = Person {
        id: PersonId::new(now, ids::entropy()),
        display_name: body.display_name.clone(),
        groups: groups.iter().map(ToString::to_string).collect(),
        admin_roles,
        is_enabled: true,
        name,
    };
    let mut tx = control.db().begin(caller.actor()).await?;
    let created = match create_person(&mut tx, &person, now).await {
        Err(StoreError::Conflict) => return Err(DirectoryError::Exists { name: person.name }),
        other => other?,
    };
    store::put_groups(&mut tx, &person.id, &groups, now).await?;
    let (code, issued) = authn::issue_enrolment_code(control, &mut tx, &person).await?;
    tx.commit(Events::one(created).and(issued)).await?;
    Ok((person, code))
}

/// Issues another enrolment code; the one before stops working.
pub(super) async fn issue_code(
    control: &Control,
    caller: &Caller,
    name: &PersonName,
) -> Result<(Listed, Sensitive), DirectoryError> {
    let mut tx = control.db().begin(caller.actor()).await?;
    let listed = find(&mut tx, name).await?;
    if !listed.person.is_enabled {
        return Err(DirectoryError::Disabled);
    }
    // Whoever holds the code becomes the person: that is giving all of their roles.
    check_giving(caller, &[], &listed.person.admin_roles)?;
    let (code, issued) = authn::issue_enrolment_code(control, &mut tx, &listed.person).await?;
    tx.commit(Events::one(issued)).await?;
    Ok((listed, code))
}

/// Changes a person.
pub(super) async fn edit(
    control: &Control,
    caller: &Caller,
    name: &PersonName,
    body: &EditPerson,
) -> Result<Listed, DirectoryError> {
    let mut tx = control.db().begin(caller.actor()).await?;
    let mut listed = find(&mut tx, name).await?;
    let person = &mut listed.person;
    let mut changed = Vec::new();
    if let Some(display_name) = &body.display_name {
        check_display_name(display_name)?;
        person.display_name.clone_from(display_name);
        changed.push("display_name");
    }
    if let Some(names) = &body.admin_roles {
        let given = roles(names)?;
        check_giving(caller, &person.admin_roles, &given)?;
        let was_owner = person.admin_roles.contains(&AdminRole::Owner);
        if was_owner && !given.contains(&AdminRole::Owner) {
            check_other_owner(&mut tx, &person.id).await?;
        }
        person.admin_roles = given;
        changed.push("admin_roles");
    }
    if let Some(names) = &body.groups {
        let groups = groups(names)?;
        store::put_groups(&mut tx, &person.id, &groups, control.now()).await?;
        person.groups = groups.iter().map(ToString::to_string).collect();
        changed.push("groups");
    }
    if changed.is_empty() {
        return Ok(listed);
    }
    store::update(&mut tx, person).await?;
    let event = Event::new(EventName::PersonChanged, &person.id)
        .with("changed", changed)
        .with("groups", &person.groups)
        .with("admin_roles", &person.admin_roles);
    tx.commit(Events::one(event)).await?;
    Ok(listed)
}

/// Disables a person: sign-ins and codes end with the commit, grants and sessions right after it.
pub(super) async fn disable(
    control: &Control,
    caller: &Caller,
    name: &PersonName,
    reason: &str,
) -> Result<Listed, DirectoryError> {
    if reason.trim().is_empty() || reason.chars().count() > REASON_CHARS_MAX {
        let problem = format!("has 1 to {REASON_CHARS_MAX} characters");
        return Err(DirectoryError::BadField {
            field: "reason",
            problem,
        });
    }
    let mut tx = control.db().begin(caller.actor()).await?;
    let mut listed = find(&mut tx, name).await?;
    if listed.person.is_enabled {
        if listed.person.admin_roles.contains(&AdminRole::Owner) {
            check_other_owner(&mut tx, &listed.person.id).await?;
        }
        listed.person.is_enabled = false;
        store::update(&mut tx, &listed.person).await?;
        authn::end_for_person(&mut tx, &listed.person).await?;
        let ended =
            access::workflow::end_all_of_person(&mut tx, &listed.person.id, control.now()).await?;
        let event = Event::new(EventName::PersonDisabled, &listed.person.id).with("reason", reason);
        tx.commit(Events::one(event).and_all(ended)).await?;
    } else {
        // Asked again, as when ending sessions failed the first time.
        drop(tx);
    }
    broker::end_for_person(control, &listed.person.id, EndReason::PersonDisabled).await?;
    Ok(listed)
}

/// Enables a person again; sign-ins that ended stay ended.
pub(super) async fn enable(
    control: &Control,
    caller: &Caller,
    name: &PersonName,
) -> Result<Listed, DirectoryError> {
    let mut tx = control.db().begin(caller.actor()).await?;
    let mut listed = find(&mut tx, name).await?;
    if listed.person.is_enabled {
        return Ok(listed);
    }
    check_giving(caller, &[], &listed.person.admin_roles)?;
    listed.person.is_enabled = true;
    store::update(&mut tx, &listed.person).await?;
    let event = Event::new(EventName::PersonEnabled, &listed.person.id);
    tx.commit(Events::one(event)).await?;
    Ok(listed)
}

async fn find(tx: &mut Transaction, name: &PersonName) -> Result<Listed, DirectoryError> {
    store::listed_by_name(tx, name)
        .await?
        .ok_or(DirectoryError::NotFound)
}

pub(super) async fn check_other_owner(
    tx: &mut Transaction,
    id: &PersonId,
) -> Result<(), DirectoryError> {
    if store::has_other_owner(tx, id).await? {
        Ok(())
    } else {
        Err(DirectoryError::LastOwner)
    }
}

/// Nobody gives a role above their own, and an API token gives none at all: it must not make somebody
/// who can do more than itself.
pub(super) fn check_giving(
    caller: &Caller,
    before: &[AdminRole],
    after: &[AdminRole],
) -> Result<(), DirectoryError> {
    let mut given = after.iter().copied().filter(|role| !before.contains(role));
    if !caller.is_signed_in() && given.clone().next().is_some() {
        return Err(DirectoryError::NeedsSignIn);
    }
    // Roles are ordered strongest first.
    let own = caller
        .person
        .admin_roles
        .iter()
        .copied()
        .min()
        .unwrap_or(AdminRole::Member);
    match given.find(|role| *role < own) {
        Some(role) => Err(DirectoryError::AboveOwn { role }),
        None => Ok(()),
    }
}

pub(super) fn bad(field: &'static str, problem: &impl ToString) -> DirectoryError {
    DirectoryError::BadField {
        field,
        problem: problem.to_string(),
    }
}

pub(super) fn check_display_name(text: &str) -> Result<(), DirectoryError> {
    if text.chars().count() > DISPLAY_NAME_CHARS_MAX || text.chars().any(char::is_control) {
        let problem = format!(
            "has at most {DISPLAY_NAME_CHARS_MAX} characters, none of them a control character"
        );
        return Err(bad("display_name", &problem));
    }
    Ok(())
}

pub(super) fn groups(names: &[String]) -> Result<Vec<GroupName>, DirectoryError> {
    if names.len() > GROUPS_MAX {
        return Err(bad("groups", &format!("has at most {GROUPS_MAX} names")));
    }
    let mut groups = names
        .iter()
        .map(|name| name.parse().map_err(|error| bad("groups", &error)))
        .collect::<Result<Vec<GroupName>, _>>()?;
    groups.sort();
    groups.dedup();
    Ok(groups)
}

/// Reads roles; `member` is everybody's and is not stored.
pub(super) fn roles(names: &[String]) -> Result<Vec<AdminRole>, DirectoryError> {
    let mut roles = Vec::new();
    for name in names {
        let role = AdminRole::ALL
            .into_iter()
            .find(|role| role.as_str() == name)
            .ok_or_else(|| {
                let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
                let known = AdminRole::ALL.map(AdminRole::as_str).join(", ");
                bad(
                    "admin_roles",
                    &format!("`{shown}` is no role; there are {known}"),
                )
            })?;
        if role != AdminRole::Member && !roles.contains(&role) {
            roles.push(role);
        }
    }
    roles.sort();
    Ok(roles)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use sallyport_core::{
        id::ApiTokenId,
        principal::{Authentication, AuthenticationStrength},
    };

    use super::*;
    use crate::kernel::caller::Bearer;

    fn caller(admin_roles: Vec<AdminRole>, is_signed_in: bool) -> Caller {
        let bearer = if is_signed_in {
            Bearer::SignIn { token_hash: vec![] }
        } else {
            Bearer::ApiToken(ApiTokenId::new(Timestamp::EPOCH, [1; 10]))
        };
        Caller {
            person: Person {
                id: PersonId::new(Timestamp::EPOCH, [1; 10]),
                name: "alice".parse().unwrap(),
                display_name: String::new(),
                groups: vec![],
                admin_roles,
                is_enabled: true,
            },
            authentication: Authentication {
                strength: AuthenticationStrength::MultiFactor,
                at: Timestamp::EPOCH,
                methods: vec![],
            },
            bearer,
            scopes: None,
            expires_at: Timestamp::EPOCH,
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }

    /// ID-1. For every pair: a role is given exactly when it is not above the giver's own.
    #[test]
    fn given_any_role_then_no_role_above_it_is_given() {
        for own in AdminRole::ALL {
            for given in AdminRole::ALL {
                let outcome = check_giving(&caller(vec![own], true), &[], &[given]);
                assert_eq!(outcome.is_ok(), given >= own, "{own} gives {given}");
            }
        }
    }

    #[test]
    fn given_an_api_token_then_it_gives_no_role_but_may_keep_what_is_there() {
        let token = caller(vec![AdminRole::Owner], false);
        assert!(matches!(
            check_giving(&token, &[], &[AdminRole::Auditor]),
            Err(DirectoryError::NeedsSignIn)
        ));
        assert!(check_giving(&token, &[AdminRole::Auditor], &[AdminRole::Auditor]).is_ok());
    }

    #[test]
    fn given_roles_in_any_spelling_then_only_known_ones_are_read_and_member_is_not_kept() {
        let read = |names: &[&str]| {
            roles(
                &names
                    .iter()
                    .map(|name| (*name).to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(
            read(&["auditor", "member", "owner", "auditor"]).unwrap(),
            [AdminRole::Owner, AdminRole::Auditor]
        );
        for unknown in ["Owner", "root", "", "owner "] {
            assert!(read(&[unknown]).is_err(), "{unknown:?}");
        }
    }
}
