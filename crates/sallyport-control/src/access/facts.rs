//! Loads the facts a decision reads, each from the slice that owns it.

use std::net::IpAddr;

use sallyport_core::{
    access::Grant,
    authz::{
        AccountFacts, Action, HistoryFacts, NetworkFacts, PrincipalFacts, Question, RequestFacts,
        TargetFacts,
    },
    id::PersonId,
    inventory::{Account, AccountName, Target, TargetName},
    principal::{Authentication, Person, PrincipalKind},
    time::Timestamp,
};

use super::store;
use crate::{
    directory, inventory,
    kernel::{database::StoreError, statement::Sql},
    lock,
};

/// Who asks, proven, and from where.
#[derive(Clone, Debug)]
pub struct Asker {
    /// The person, as loaded when the proof was checked; loaded again for the decision.
    pub person_id: PersonId,
    /// The proof.
    pub authentication: Authentication,
    /// The client's address.
    pub ip: IpAddr,
}

/// Everything a decision about one person and one account rests on.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Who.
    pub person: Person,
    /// On what.
    pub target: Target,
    /// As whom.
    pub account: Account,
    /// The live grant, if any.
    pub grant: Option<Grant>,
    question: Question,
}

/// Loads the facts, or nothing when there is no such person, target or account.
///
/// # Errors
/// [`StoreError`].
pub async fn load(
    sql: &mut dyn Sql,
    asker: &Asker,
    account: &AccountName,
    target: &TargetName,
    now: Timestamp,
) -> Result<Option<Facts>, StoreError> {
    let Some(person) = directory::person_by_id(sql, &asker.person_id).await? else {
        return Ok(None);
    };
    let Some(target) = inventory::target_by_name(sql, target).await? else {
        return Ok(None);
    };
    let Some(account) = inventory::account_by_name(sql, &target.id, account).await? else {
        return Ok(None);
    };
    let grant = store::live_grant(sql, &person.id, &account.id, now).await?;
    let question = Question {
        action: Action::SessionOpen,
        now,
        principal: PrincipalFacts {
            kind: PrincipalKind::Person,
            id: person.id.clone(),
            name: person.name.clone(),
            groups: person.groups.clone(),
            is_enabled: person.is_enabled,
        },
        authentication: asker.authentication.clone(),
        network: NetworkFacts { ip: asker.ip },
        target: TargetFacts {
            id: target.id.clone(),
            name: target.name.clone(),
            protocol: target.protocol.clone(),
            labels: target.labels.clone(),
            sensitivity: target.sensitivity,
        },
        account: AccountFacts {
            id: account.id.clone(),
            name: account.name.clone(),
        },
        request: None,
        grant: None,
        operation: None,
        locks: lock::in_force(sql, now)
            .await?
            .into_iter()
            .filter(|lock| lock.stops(&person.id, &account.id, &target.id, now))
            .collect(),
        history: HistoryFacts {
            open_reviews: store::open_reviews(sql, &person.id).await?,
        },
    };
    Ok(Some(Facts {
        person,
        target,
        account,
        grant,
        question,
    }))
}

impl Facts {
    /// The question whether a session may open, under the live grant if there is one.
    #[must_use]
    pub fn about_session(&self) -> Question {
        let request = self.grant.as_ref().map(|grant| RequestFacts {
            id: Some(grant.request_id.clone()),
            reason: String::new(),
            ticket: None,
            duration_s: 0,
            is_break_glass: grant.is_break_glass,
        });
        Question {
            action: Action::SessionOpen,
            request,
            grant: self.grant.as_ref().map(Grant::facts),
            ..self.question.clone()
        }
    }

    /// The question whether this may be asked for, and what it takes.
    #[must_use]
    pub fn about_request(&self, request: RequestFacts) -> Question {
        Question {
            action: Action::RequestCreate,
            request: Some(request),
            ..self.question.clone()
        }
    }
}
