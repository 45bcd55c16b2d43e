//! Hold, vote, release, give up: load facts, ask core, commit, tell.

use sallyport_core::{
    access::{HeldContent, HeldOperation, HeldState, HoldTerms, Refusal, VoteKind, Voter},
    authz::Reason,
    event::{Actor, Event, EventName, Events},
    id::{GatewayId, OperationId, PersonId, SessionId},
    policy::BundleHash,
    session::{OPERATION_DETAIL_BYTES_MAX, Operation, OperationKind},
    time::Timestamp,
};

use super::store;
use crate::{
    access::{
        self,
        workflow::{eligible_voters, is_still_eligible},
    },
    broker::{self, SessionRow},
    directory,
    kernel::{control::Control, database::StoreError, statement::Sql, transaction::Transaction},
    lock, notify,
};

/// A session has at most this many operations waiting.
const WAITING_MAX: usize = 16;
/// Groups that one operation may need votes from.
const QUORUMS_MAX: usize = 64;

/// An operation that a gateway holds.
#[derive(Clone, Debug)]
pub struct Hold {
    /// Session it would run in.
    pub session_id: SessionId,
    /// Its id, fresh.
    pub operation_id: OperationId,
    /// The operation, to the last byte.
    pub operation: Operation,
    /// Its detail as it stands in records and notices.
    pub recorded: String,
    /// What releasing it takes.
    pub terms: HoldTerms,
    /// Bundle that said so.
    pub bundle: BundleHash,
}

/// Why a step on a held operation did not happen.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// There is none of this id, or it is not the caller's.
    #[error("there is no such operation")]
    NotFound,
    /// What was sent is no operation that can be held.
    #[error("the operation cannot be held: {problem}")]
    NotHoldable {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The session has ended or does not belong to this gateway.
    #[error("the session is not live at this gateway")]
    SessionNotLive,
    /// Too many wait in this session.
    #[error("too many operations of this session wait already")]
    TooMany,
    /// The rules say no.
    #[error("{0}")]
    Refused(Refusal),
    /// The store failed.
    #[error("reach the store")]
    Store(#[from] StoreError),
}

/// Holds an operation of a live session.
///
/// # Errors
/// [`OperationError`]; it must not run then.
pub async fn hold(
    control: &Control,
    gateway_id: &GatewayId,
    hold: Hold,
) -> Result<HeldOperation, OperationError> {
    check(&hold)?;
    let now = control.now();
    let mut tx = begin(control, gateway_id).await?;
    let session = live_session(&mut tx, gateway_id, &hold.session_id).await?;
    if store::waiting_of_session(&mut tx, &session.id).await?.len() >= WAITING_MAX {
        return Err(OperationError::TooMany);
    }

    let content = content(&session, hold.operation, hold.bundle)?;
    let held = HeldOperation::hold(hold.operation_id, content, hold.terms, now);

    store::insert(&mut tx, &held).await?;
    notify::operation_held(&mut tx, &held, &hold.recorded).await?;
    tx.commit(Events::one(held_event(&held, &hold.recorded)))
        .await?;
    control.changes().touch();
    metrics::counter!("sallyport_operations_held_total").increment(1);
    Ok(held)
}

async fn begin(control: &Control, gateway_id: &GatewayId) -> Result<Transaction, StoreError> {
    control.db().begin(Actor::Gateway(gateway_id.clone())).await
}

fn check(hold: &Hold) -> Result<(), OperationError> {
    let is_command = matches!(
        hold.operation.kind,
        OperationKind::Exec | OperationKind::TypedCommand | OperationKind::Statement
    );
    let problem = if !is_command {
        "it is no command"
    } else if hold.operation.detail.len() > OPERATION_DETAIL_BYTES_MAX
        || hold.recorded.len() > OPERATION_DETAIL_BYTES_MAX
    {
        "it is too long"
    } else if hold.terms.quorums.len() > QUORUMS_MAX {
        "it needs votes from too many groups"
    } else {
        return Ok(());
    };
    Err(OperationError::NotHoldable { problem })
}

fn content(
    session: &SessionRow,
    operation: Operation,
    bundle: BundleHash,
) -> Result<HeldContent, OperationError> {
    let damaged = OperationError::NotHoldable {
        problem: "its session names no account",
    };
    let (Ok(requester), Ok(target_id), Ok(target), Ok(account_id), Ok(account)) = (
        session.person.parse(),
        session.target_id.parse(),
        session.target.parse(),
        session.account_id.parse(),
        session.account.parse(),
    ) else {
        return Err(damaged);
    };
    Ok(HeldContent {
        session_id: session.id.clone(),
        requester_id: session.person_id.clone(),
        requester,
        target_id,
        target,
        account_id,
        account,
        operation,
        bundle,
    })
}

fn held_event(held: &HeldOperation, recorded: &str) -> Event {
    let content = &held.content;
    Event::new(EventName::OperationHeld, &held.id)
        .with("session_id", &content.session_id)
        .with("person_id", &content.requester_id)
        .with("account", &content.account)
        .with("target", &content.target)
        .with("kind", content.operation.kind)
        .with("detail", recorded)
        .with("command_hash", held.command_hash())
        .with("content_hash", held.content_hash())
        .with("quorums", &held.ballot.quorums)
        .with("expires_at", held.expires_at)
        .with("bundle", &content.bundle)
}

async fn live_session(
    sql: &mut dyn Sql,
    gateway_id: &GatewayId,
    session_id: &SessionId,
) -> Result<SessionRow, OperationError> {
    broker::session_by_id(sql, session_id)
        .await?
        .filter(|session| session.gateway_id == *gateway_id)
        .filter(is_going_on)
        .ok_or(OperationError::SessionNotLive)
}

fn is_going_on(session: &SessionRow) -> bool {
    session.is_live && session.end_requested.is_none()
}

/// Whether everything that opened the session still stands.
async fn has_access(
    sql: &mut dyn Sql,
    held: &HeldOperation,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let content = &held.content;
    let Some(session) = broker::session_by_id(sql, &content.session_id).await? else {
        return Ok(false);
    };
    let person = directory::person_by_id(sql, &content.requester_id).await?;
    let grant = access::grant_by_id(sql, &session.grant_id).await?;
    let is_locked = lock::in_force(sql, now).await?.iter().any(|lock| {
        lock.stops(
            &content.requester_id,
            &content.account_id,
            &content.target_id,
            now,
        )
    });
    Ok(is_going_on(&session)
        && !is_locked
        && person.is_some_and(|person| person.is_enabled)
        && grant.is_some_and(|grant| grant.is_live(now)))
}

/// A held operation of this gateway's session, votes that count no more voided.
///
/// # Errors
/// [`OperationError::NotFound`] or [`OperationError::Store`].
pub async fn standing(
    sql: &mut dyn Sql,
    gateway_id: &GatewayId,
    session_id: &SessionId,
    operation_id: &OperationId,
) -> Result<HeldOperation, OperationError> {
    let session = broker::session_by_id(sql, session_id)
        .await?
        .filter(|session| session.gateway_id == *gateway_id)
        .ok_or(OperationError::NotFound)?;
    let mut held = store::operation_by_id(sql, operation_id)
        .await?
        .filter(|held| held.content.session_id == session.id)
        .ok_or(OperationError::NotFound)?;
    void_votes(sql, &mut held).await?;
    Ok(held)
}

async fn void_votes(sql: &mut dyn Sql, held: &mut HeldOperation) -> Result<(), StoreError> {
    let eligible = eligible_voters(sql, &held.ballot).await?;
    held.void_votes(|vote| is_still_eligible(&eligible, vote));
    Ok(())
}

/// Takes the release of an operation: `true` once, for one caller. An operation whose session, grant or
/// person is no longer good is given up instead.
///
/// # Errors
/// [`OperationError`]; it must not run then.
pub async fn release(
    control: &Control,
    gateway_id: &GatewayId,
    session_id: &SessionId,
    operation_id: &OperationId,
) -> Result<(HeldOperation, bool), OperationError> {
    let now = control.now();
    let mut tx = begin(control, gateway_id).await?;
    let mut held = standing(&mut tx, gateway_id, session_id, operation_id).await?;
    let has_access = has_access(&mut tx, &held, now).await?;

    let event = if !has_access && held.withdraw() {
        withdrawn_event(&held, "access-ended")
    } else if has_access && held.release(now) {
        Event::new(EventName::OperationReleased, &held.id)
            .with("session_id", &held.content.session_id)
            .with("command_hash", held.command_hash())
            .with("content_hash", held.content_hash())
            .with("approved_by", approved_by(&held))
    } else {
        return Ok((held, false));
    };

    if !store::update(&mut tx, &held).await? {
        return Err(OperationError::NotFound);
    }
    tx.commit(Events::one(event)).await?;
    control.changes().touch();
    let is_released = held.state == HeldState::Released;
    Ok((held, is_released))
}

/// Ids of those whose yes counts.
fn approved_by(held: &HeldOperation) -> Vec<&PersonId> {
    let votes = held.ballot.votes.iter();
    votes
        .filter(|vote| vote.kind == VoteKind::Approve && !vote.is_void)
        .map(|vote| &vote.voter_id)
        .collect()
}

fn withdrawn_event(held: &HeldOperation, cause: &str) -> Event {
    Event::new(EventName::OperationWithdrawn, &held.id)
        .with("session_id", &held.content.session_id)
        .with("cause", cause)
}

/// Gives an operation up at its gateway's word. Repeats are harmless.
///
/// # Errors
/// [`OperationError`].
pub async fn withdraw(
    control: &Control,
    gateway_id: &GatewayId,
    session_id: &SessionId,
    operation_id: &OperationId,
) -> Result<(), OperationError> {
    let mut tx = begin(control, gateway_id).await?;
    let mut held = standing(&mut tx, gateway_id, session_id, operation_id).await?;
    if !held.withdraw() {
        return Ok(());
    }
    store::update(&mut tx, &held).await?;
    tx.commit(Events::one(withdrawn_event(&held, "given-up")))
        .await?;
    control.changes().touch();
    Ok(())
}

/// Gives up whatever still waits in a session, which ends or whose gateway lost its waits; joins the caller's transaction.
///
/// # Errors
/// [`StoreError`].
pub async fn withdraw_all_of_session(
    tx: &mut Transaction,
    session_id: &SessionId,
    cause: &str,
) -> Result<Vec<Event>, StoreError> {
    let mut events = Vec::new();
    for mut held in store::waiting_of_session(tx, session_id).await? {
        if held.withdraw() {
            store::update(tx, &held).await?;
            events.push(withdrawn_event(&held, cause));
        }
    }
    Ok(events)
}

/// Casts a vote. The voter's rights are loaded here, at the moment of voting.
///
/// # Errors
/// [`OperationError::NotFound`] or [`OperationError::Refused`].
pub async fn vote(
    control: &Control,
    voter_id: &PersonId,
    operation_id: &OperationId,
    content_hash: &str,
    kind: VoteKind,
    comment: &str,
) -> Result<HeldOperation, OperationError> {
    let now = control.now();
    let mut tx = control.db().begin(Actor::Person(voter_id.clone())).await?;
    let mut held = store::operation_by_id(&mut tx, operation_id)
        .await?
        .ok_or(OperationError::NotFound)?;
    let person = directory::person_by_id(&mut tx, voter_id)
        .await?
        .ok_or(OperationError::NotFound)?;
    void_votes(&mut tx, &mut held).await?;
    if !has_access(&mut tx, &held, now).await? {
        return Err(OperationError::Refused(Refusal::NotPending));
    }

    let voter = Voter {
        person: &person,
        content_hash,
        comment,
    };
    held.vote(&voter, kind, now)
        .map_err(OperationError::Refused)?;

    if !store::update(&mut tx, &held).await? {
        return Err(OperationError::Refused(Refusal::NotPending));
    }
    let name = match kind {
        VoteKind::Approve => EventName::OperationApproved,
        VoteKind::Deny => EventName::OperationVetoed,
    };
    let cast = Event::new(name, operation_id)
        .with("content_hash", content_hash)
        .with("comment", comment)
        .with("approvals_missing", held.approvals_missing());
    tx.commit(Events::one(cast)).await?;
    control.changes().touch();
    Ok(held)
}

/// Why an operation that waits no more must not run; nothing while it may.
#[must_use]
pub const fn refusal(state: HeldState) -> Option<Reason> {
    match state {
        HeldState::Waiting => None,
        // Its one release was taken by another call, or its answer was lost.
        HeldState::Released | HeldState::Withdrawn => Some(Reason::CommandWithdrawn),
        HeldState::Denied => Some(Reason::CommandDenied),
        HeldState::Expired => Some(Reason::CommandNotApproved),
    }
}
