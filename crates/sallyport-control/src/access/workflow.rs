//! Ask, vote, cancel, end, review: load facts, ask core, commit, tell.

use std::time::Duration;

use sallyport_core::{
    access::{
        AccessRequest, Asked, Ballot, Grant, Progress, REASON_CHARS_MAX, Refusal, Review,
        ReviewError, ReviewState, Vote, VoteKind, Voter,
    },
    authz::{Decision, Reason, RequestFacts, Trace, Unmet, decide},
    event::{Actor, Event, EventName, Events},
    id::{GrantId, PersonId, RequestId, ReviewId},
    inventory::{AccountName, TargetName},
    principal::{AdminRole, Person},
    session::EndReason,
};

use super::{
    facts::{self, Asker, Facts},
    store,
};
use crate::{
    broker, directory,
    kernel::{control::Control, database::StoreError, ids, statement::Sql},
    notify,
};

/// Asked for when nobody says how long: one hour.
const DEFAULT_DURATION_S: u64 = 3_600;
/// A request waits this long for votes.
const REQUEST_TTL: Duration = Duration::from_secs(4 * 3_600);
/// A person has at most this many requests waiting.
const PENDING_MAX: u64 = 20;

/// What somebody asks for.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Account.
    pub account: AccountName,
    /// Target.
    pub target: TargetName,
    /// Reason.
    pub reason: String,
    /// Ticket.
    pub ticket: Option<String>,
    /// Duration in seconds; absent means the default, or what policy allows if less.
    pub duration_s: Option<u64>,
    /// Whether it is break-glass.
    pub is_break_glass: bool,
}

/// What became of asking.
#[derive(Clone, Debug)]
pub enum Submitted {
    /// The request exists; it may have become a grant at once.
    Request {
        /// The request.
        request: Box<AccessRequest>,
        /// The grant, when no votes were needed.
        grant: Option<Box<Grant>>,
    },
    /// Something is still missing; nothing was made.
    Challenge {
        /// What.
        unmet: Vec<Unmet>,
        /// Longest duration that may be asked for, in seconds.
        max_duration_s: u64,
    },
    /// No; nothing was made.
    Refused {
        /// Why.
        reasons: Vec<Reason>,
        /// What to name when asking about it.
        reference: String,
    },
}

/// Why a step on a request, grant or review did not happen.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// There is none of this id, or it is not the caller's to see.
    #[error("there is no such {noun}")]
    NotFound {
        /// `request`, `grant`, `review`.
        noun: &'static str,
    },
    /// A field is not acceptable.
    #[error("`{field}` {problem}")]
    BadField {
        /// Which.
        field: &'static str,
        /// What is wrong and what is accepted.
        problem: String,
    },
    /// The rules say no.
    #[error("{0}")]
    Refused(Refusal),
    /// The rules of reviews say no.
    #[error("{0}")]
    Review(ReviewError),
    /// The grant has ended already.
    #[error("the grant has ended already")]
    Ended,
    /// The store failed.
    #[error("reach the store")]
    Store(#[from] StoreError),
}

/// Asks for access.
///
/// # Errors
/// [`AccessError::BadField`] or [`AccessError::Store`]; a refusal is a value.
pub async fn submit(control: &Control, asker: &Asker, ask: Ask) -> Result<Submitted, AccessError> {
    check(&ask)?;
    let now = control.now();
    let mut tx = control
        .db()
        .begin(Actor::Person(asker.person_id.clone()))
        .await?;
    let request_id = RequestId::new(now, ids::entropy());
    let Some(facts) = facts::load(&mut tx, asker, &ask.account, &ask.target, now).await? else {
        return refuse(tx, &request_id, &ask, vec![Reason::NotPermitted], None).await;
    };
    if store::pending_count(&mut tx, &facts.person.id).await? >= PENDING_MAX {
        return refuse(tx, &request_id, &ask, vec![Reason::TooManyAttempts], None).await;
    }

    let (decision, duration_s) = decide_request(control, &facts, &ask);

    match decision {
        Decision::Deny { reasons, trace } => {
            refuse(tx, &request_id, &ask, reasons, Some(&trace)).await
        }
        Decision::Challenge {
            unmet,
            constraints,
            trace,
        } => {
            let event =
                decision_fields(refused_event(&request_id, &ask), &trace).with("unmet", &unmet);
            tx.commit(Events::one(event)).await?;
            Ok(Submitted::Challenge {
                unmet,
                max_duration_s: constraints.max_duration_s,
            })
        }
        Decision::Permit(authorisation) => {
            let asked = asked(&facts, ask, duration_s, authorisation.trace());
            let expires_at = now.plus(REQUEST_TTL);
            let mut request = AccessRequest::submit(&authorisation, request_id, asked, expires_at);
            let created = created_event(&request, authorisation.trace());
            let progress = request.progress(now, GrantId::new(now, ids::entropy()));
            store::put_request(&mut tx, &request).await?;
            let mut events = Events::one(created);
            let mut grant = None;
            if let Progress::Granted(new) = progress {
                let (next, opened) = open_grant(&mut tx, &request, &new).await?;
                events = events.and_all(next);
                grant = Some(Box::new(opened));
            } else {
                notify::request_created(&mut tx, &request).await?;
            }
            tx.commit(events).await?;
            control.changes().touch();
            Ok(Submitted::Request {
                request: Box::new(request),
                grant,
            })
        }
    }
}

fn check(ask: &Ask) -> Result<(), AccessError> {
    if ask.reason.chars().count() > REASON_CHARS_MAX {
        return Err(AccessError::BadField {
            field: "reason",
            problem: "is longer than 1,000 characters".to_owned(),
        });
    }
    if ask.ticket.as_ref().is_some_and(|ticket| ticket.len() > 64) {
        return Err(AccessError::BadField {
            field: "ticket",
            problem: "is longer than 64 bytes".to_owned(),
        });
    }
    if ask.duration_s.is_some_and(|seconds| seconds < 30) {
        return Err(AccessError::BadField {
            field: "duration_s",
            problem: "is less than 30 seconds".to_owned(),
        });
    }
    Ok(())
}

/// Decides, once with the duration asked for or, when none was, with the longest that policy allows up
/// to the default.
fn decide_request(control: &Control, facts: &Facts, ask: &Ask) -> (Decision, u64) {
    let bundle = control.policies().current();
    let question = |duration_s| {
        facts.about_request(RequestFacts {
            id: None,
            reason: ask.reason.clone(),
            ticket: ask.ticket.clone(),
            duration_s,
            is_break_glass: ask.is_break_glass,
        })
    };
    if let Some(duration_s) = ask.duration_s {
        return (decide(&*bundle, &question(duration_s)), duration_s);
    }
    let shortest = decide(&*bundle, &question(30));
    let max_s = match &shortest {
        Decision::Permit(authorisation) => authorisation.constraints().max_duration_s,
        Decision::Challenge { constraints, .. } => constraints.max_duration_s,
        Decision::Deny { .. } => return (shortest, 0),
    };
    let duration_s = DEFAULT_DURATION_S.min(max_s);
    (decide(&*bundle, &question(duration_s)), duration_s)
}

fn asked(facts: &Facts, ask: Ask, duration_s: u64, trace: &Trace) -> Asked {
    Asked {
        requester_id: facts.person.id.clone(),
        requester: facts.person.name.clone(),
        target_id: facts.target.id.clone(),
        target: facts.target.name.clone(),
        account_id: facts.account.id.clone(),
        account: facts.account.name.clone(),
        reason: ask.reason,
        ticket: ask.ticket,
        duration_s,
        is_break_glass: ask.is_break_glass,
        bundle: trace
            .bundle
            .clone()
            .unwrap_or_else(|| sallyport_core::policy::BundleHash(String::new())),
    }
}

async fn refuse(
    tx: crate::kernel::transaction::Transaction,
    request_id: &RequestId,
    ask: &Ask,
    reasons: Vec<Reason>,
    trace: Option<&Trace>,
) -> Result<Submitted, AccessError> {
    let mut event = refused_event(request_id, ask).with("reasons", &reasons);
    if let Some(trace) = trace {
        event = decision_fields(event, trace);
    }
    tx.commit(Events::one(event)).await?;
    Ok(Submitted::Refused {
        reasons,
        reference: request_id.to_string(),
    })
}

fn refused_event(request_id: &RequestId, ask: &Ask) -> Event {
    Event::new(EventName::RequestRefused, request_id)
        .with("account", &ask.account)
        .with("target", &ask.target)
        .with("is_break_glass", ask.is_break_glass)
}

fn created_event(request: &AccessRequest, trace: &Trace) -> Event {
    let asked = &request.asked;
    let event = Event::new(EventName::RequestCreated, &request.id)
        .with("account", &asked.account)
        .with("account_id", &asked.account_id)
        .with("target", &asked.target)
        .with("target_id", &asked.target_id)
        .with("reason", &asked.reason)
        .with("ticket", &asked.ticket)
        .with("duration_s", asked.duration_s)
        .with("is_break_glass", asked.is_break_glass)
        .with("content_hash", asked.content_hash())
        .with("quorums", &request.ballot.quorums);
    decision_fields(event, trace)
}

/// Adds how a decision came about: bundle, policies, hash of the facts.
pub(crate) fn decision_fields(event: Event, trace: &Trace) -> Event {
    event
        .with("bundle", &trace.bundle)
        .with("determining", &trace.determining)
        .with("demanding", &trace.demanding)
        .with("facts_hash", &trace.facts_hash)
}

/// Stores a fresh grant, opens the review of a break-glass use, and says what to record.
async fn open_grant(
    tx: &mut crate::kernel::transaction::Transaction,
    request: &AccessRequest,
    grant: &Grant,
) -> Result<(Vec<Event>, Grant), StoreError> {
    store::put_grant(tx, grant).await?;
    let mut events = vec![
        Event::new(EventName::GrantOpened, &grant.id)
            .with("request_id", &grant.request_id)
            .with("person_id", &grant.person_id)
            .with("account", &request.asked.account)
            .with("target", &request.asked.target)
            .with("until", grant.until)
            .with("is_break_glass", grant.is_break_glass)
            .with("is_automatic", request.ballot.votes.is_empty()),
    ];
    if grant.is_break_glass {
        let review = Review {
            id: ReviewId::new(grant.from, ids::entropy()),
            grant_id: grant.id.clone(),
            person_id: grant.person_id.clone(),
            opened_at: grant.from,
            state: ReviewState::Open,
        };
        store::put_review(tx, &review).await?;
        events.push(
            Event::new(EventName::BreakGlassUsed, &grant.person_id)
                .with("grant_id", &grant.id)
                .with("review_id", &review.id)
                .with("reason", &request.asked.reason),
        );
        notify::break_glass_used(tx, request, grant, &review).await?;
    }
    Ok((events, grant.clone()))
}

/// Casts a vote. The voter's rights are loaded here, at the moment of voting.
///
/// # Errors
/// [`AccessError::NotFound`] or [`AccessError::Refused`].
pub async fn vote(
    control: &Control,
    voter_id: &PersonId,
    request_id: &RequestId,
    content_hash: &str,
    kind: VoteKind,
    comment: &str,
) -> Result<AccessRequest, AccessError> {
    let now = control.now();
    let mut tx = control.db().begin(Actor::Person(voter_id.clone())).await?;
    let mut request = store::request_by_id(&mut tx, request_id)
        .await?
        .ok_or(AccessError::NotFound { noun: "request" })?;
    let person = directory::person_by_id(&mut tx, voter_id)
        .await?
        .ok_or(AccessError::NotFound { noun: "request" })?;
    let requester = directory::person_by_id(&mut tx, &request.asked.requester_id).await?;

    let eligible = eligible_voters(&mut tx, &request.ballot).await?;
    request.void_votes(|vote| is_still_eligible(&eligible, vote));
    let voter = Voter {
        person: &person,
        content_hash,
        comment,
    };
    if !requester.is_some_and(|requester| requester.is_enabled) {
        return Err(AccessError::Refused(Refusal::NotPending));
    }
    let progress = request
        .vote(&voter, kind, now, GrantId::new(now, ids::entropy()))
        .map_err(AccessError::Refused)?;

    store::put_request(&mut tx, &request).await?;
    let name = match kind {
        VoteKind::Approve => EventName::RequestApproved,
        VoteKind::Deny => EventName::RequestVetoed,
    };
    let cast = Event::new(name, request_id)
        .with("content_hash", content_hash)
        .with("comment", comment)
        .with("approvals_missing", request.approvals_missing());
    let mut events = Events::one(cast);
    if let Progress::Granted(grant) = &progress {
        events = events.and_all(open_grant(&mut tx, &request, grant).await?.0);
    }
    tx.commit(events).await?;
    control.changes().touch();
    Ok(request)
}

/// Those who voted and may still vote, with the groups they are in now.
///
/// # Errors
/// [`StoreError`].
pub(crate) async fn eligible_voters(
    sql: &mut dyn Sql,
    ballot: &Ballot,
) -> Result<Vec<(PersonId, Vec<String>)>, StoreError> {
    let mut eligible = Vec::new();
    for vote in &ballot.votes {
        if let Some(earlier) = directory::person_by_id(sql, &vote.voter_id).await?
            && earlier.has_role(AdminRole::Approver)
        {
            eligible.push((earlier.id, earlier.groups));
        }
    }
    Ok(eligible)
}

/// Whether a vote still counts: its caster may vote and is in every group the vote was cast from.
pub(crate) fn is_still_eligible(eligible: &[(PersonId, Vec<String>)], vote: &Vote) -> bool {
    eligible.iter().any(|(id, groups)| {
        *id == vote.voter_id && vote.voter_groups.iter().all(|group| groups.contains(group))
    })
}

/// Takes a request back; only its requester can.
///
/// # Errors
/// [`AccessError::NotFound`], also for somebody else's, or [`AccessError::Refused`].
pub async fn cancel(
    control: &Control,
    by: &PersonId,
    request_id: &RequestId,
) -> Result<AccessRequest, AccessError> {
    let mut tx = control.db().begin(Actor::Person(by.clone())).await?;
    let mut request = store::request_by_id(&mut tx, request_id)
        .await?
        .ok_or(AccessError::NotFound { noun: "request" })?;

    request.cancel(by).map_err(|refusal| match refusal {
        Refusal::NotRequester => AccessError::NotFound { noun: "request" },
        other => AccessError::Refused(other),
    })?;

    store::put_request(&mut tx, &request).await?;
    tx.commit(Events::one(Event::new(
        EventName::RequestCancelled,
        request_id,
    )))
    .await?;
    control.changes().touch();
    Ok(request)
}

/// Ends a grant and everything it opened. The holder may end their own; others need the right, which
/// the route checked.
///
/// # Errors
/// [`AccessError::NotFound`] or [`AccessError::Ended`].
pub async fn end_grant(
    control: &Control,
    by: &Person,
    may_end_any: bool,
    grant_id: &GrantId,
    comment: &str,
) -> Result<Grant, AccessError> {
    let mut tx = control.db().begin(Actor::Person(by.id.clone())).await?;
    let mut grant = store::grant_by_id(&mut tx, grant_id)
        .await?
        .ok_or(AccessError::NotFound { noun: "grant" })?;
    if !may_end_any && grant.person_id != by.id {
        return Err(AccessError::NotFound { noun: "grant" });
    }

    if !grant.end(control.now(), EndReason::GrantEnded) {
        return Err(AccessError::Ended);
    }

    store::put_grant(&mut tx, &grant).await?;
    broker::revoke_leases_of_grant(&mut tx, grant_id, control.now()).await?;
    tx.commit(Events::one(
        ended_event(&grant, EndReason::GrantEnded).with("comment", comment),
    ))
    .await?;
    broker::end_for_grant(control, grant_id, EndReason::GrantEnded, comment).await?;
    control.changes().touch();
    Ok(grant)
}

/// Ends every grant and pending request of a disabled person; joins the caller's transaction.
///
/// # Errors
/// [`StoreError`].
pub async fn end_all_of_person(
    tx: &mut crate::kernel::transaction::Transaction,
    person_id: &PersonId,
    now: sallyport_core::time::Timestamp,
) -> Result<Vec<Event>, StoreError> {
    let mut events = Vec::new();
    loop {
        let grants = store::open_grants_of(tx, person_id).await?;
        if grants.is_empty() {
            break;
        }
        for mut grant in grants {
            grant.ended.get_or_insert((now, EndReason::PersonDisabled));
            store::put_grant(tx, &grant).await?;
            broker::revoke_leases_of_grant(tx, &grant.id, now).await?;
            events.push(ended_event(&grant, EndReason::PersonDisabled));
        }
    }
    for mut request in store::requests_page(tx, Some(person_id), Some("pending"), "", 500).await? {
        if request.cancel(person_id).is_ok() {
            store::put_request(tx, &request).await?;
            events.push(
                Event::new(EventName::RequestCancelled, &request.id)
                    .with("reason", "person-disabled"),
            );
        }
    }
    Ok(events)
}

pub(super) fn ended_event(grant: &Grant, reason: EndReason) -> Event {
    Event::new(EventName::GrantEnded, &grant.id)
        .with("reason", reason)
        .with("person_id", &grant.person_id)
        .with("request_id", &grant.request_id)
}

/// Closes the review of a break-glass use.
///
/// # Errors
/// [`AccessError::NotFound`] or [`AccessError::Review`].
pub async fn close_review(
    control: &Control,
    by: &Person,
    review_id: &ReviewId,
    finding: &str,
) -> Result<Review, AccessError> {
    let now = control.now();
    let mut tx = control.db().begin(Actor::Person(by.id.clone())).await?;
    let mut review = store::review_by_id(&mut tx, review_id)
        .await?
        .ok_or(AccessError::NotFound { noun: "review" })?;
    let grant = store::grant_by_id(&mut tx, &review.grant_id).await?;

    let is_live = grant.is_some_and(|grant| grant.is_live(now));
    review
        .close(by, finding, is_live, now)
        .map_err(AccessError::Review)?;

    store::put_review(&mut tx, &review).await?;
    let event = Event::new(EventName::ReviewClosed, review_id)
        .with("grant_id", &review.grant_id)
        .with("person_id", &review.person_id)
        .with("finding", finding.trim());
    tx.commit(Events::one(event)).await?;
    Ok(review)
}

/// The name of a person, for views; the id when the person is gone.
pub(super) async fn name_of(sql: &mut dyn Sql, person_id: &PersonId) -> Result<String, StoreError> {
    Ok(directory::person_by_id(sql, person_id)
        .await?
        .map_or_else(|| person_id.to_string(), |person| person.name.to_string()))
}

/// A comment that a person will read: 1 to 1,000 characters.
///
/// # Errors
/// [`AccessError::BadField`] naming `reason`.
pub fn checked_comment(comment: &str) -> Result<&str, AccessError> {
    let comment = comment.trim();
    if (1..=REASON_CHARS_MAX).contains(&comment.chars().count()) {
        Ok(comment)
    } else {
        Err(AccessError::BadField {
            field: "reason",
            problem: "must be 1 to 1,000 characters".to_owned(),
        })
    }
}
