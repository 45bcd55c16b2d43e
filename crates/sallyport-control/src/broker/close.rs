//! Ending sessions: by a person, a grant's end, a lock, a disabled person, or because they are over;
//! and what a gateway reports while they run.
//!
//! INVARIANT: the record of an end is durable before the push that makes it happen, and a gateway that
//! was away compares its live sessions when it is back, so no end is lost.

use sallyport_api::gateway::{Anchor, SessionClosed};
use sallyport_core::{
    event::{Actor, Event, EventName, Events},
    id::{GatewayId, GrantId, PersonId, SessionId},
    lock::LockScope,
    principal::Person,
    session::EndReason,
};

use super::{lease, store};
use crate::{
    access::workflow::AccessError,
    kernel::{control::Control, database::StoreError, transaction::Transaction},
    operation, recording,
};

/// Ends one session at somebody's word. The owner of the session may; others need the right, which the
/// route checked.
///
/// # Errors
/// [`AccessError::NotFound`] or [`AccessError::Ended`].
pub async fn end_session(
    control: &Control,
    by: &Person,
    may_end_any: bool,
    session_id: &SessionId,
    comment: &str,
) -> Result<(), AccessError> {
    let mut tx = control.db().begin(Actor::Person(by.id.clone())).await?;
    let session = store::session_by_id(&mut tx, session_id)
        .await?
        .ok_or(AccessError::NotFound { noun: "session" })?;
    if !may_end_any && session.person_id != by.id {
        return Err(AccessError::NotFound { noun: "session" });
    }
    if !session.is_live {
        return Err(AccessError::Ended);
    }
    store::request_end(&mut tx, session_id, comment).await?;
    lease::begin_revocation_of_session(&mut tx, session_id, control.now()).await?;
    let event = Event::new(EventName::SessionEndRequested, session_id)
        .with("reason", EndReason::EndedByOperator)
        .with("comment", comment);
    tx.commit(Events::one(event)).await?;
    control.live().end_session(
        &session.gateway_id,
        session_id,
        EndReason::EndedByOperator,
        comment,
    );
    Ok(())
}

/// Ends every live session under a grant. The grant's end is on record already.
///
/// # Errors
/// [`StoreError`].
pub async fn end_for_grant(
    control: &Control,
    grant_id: &GrantId,
    reason: EndReason,
    comment: &str,
) -> Result<(), StoreError> {
    let mut reader = control.db().read().await?;
    for session in store::live_sessions_of_grant(&mut reader, grant_id).await? {
        control
            .live()
            .end_session(&session.gateway_id, &session.id, reason, comment);
    }
    Ok(())
}

/// Ends every live session of a person. Their disabling is on record already.
///
/// # Errors
/// [`StoreError`].
pub async fn end_for_person(
    control: &Control,
    person_id: &PersonId,
    reason: EndReason,
) -> Result<(), StoreError> {
    end_where(control, &LockScope::Person(person_id.clone()), reason, "").await
}

/// Ends every live session a lock stops. The lock is on record already.
///
/// # Errors
/// [`StoreError`].
pub async fn end_for_lock(
    control: &Control,
    scope: &LockScope,
    comment: &str,
) -> Result<(), StoreError> {
    end_where(control, scope, EndReason::Locked, comment).await
}

async fn end_where(
    control: &Control,
    scope: &LockScope,
    reason: EndReason,
    comment: &str,
) -> Result<(), StoreError> {
    let mut reader = control.db().read().await?;
    for session in store::live_sessions(&mut reader).await? {
        let is_meant = match scope {
            LockScope::Person(id) => *id == session.person_id,
            LockScope::Account(id) => id.as_str() == session.account_id,
            LockScope::Target(id) => id.as_str() == session.target_id,
            LockScope::Everything => true,
        };
        if is_meant {
            control
                .live()
                .end_session(&session.gateway_id, &session.id, reason, comment);
        }
    }
    Ok(())
}

/// Why a gateway's report was refused.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The session is unknown or another gateway's.
    #[error("session `{session_id}` is not this gateway's")]
    NotYours {
        /// The session.
        session_id: SessionId,
    },
    /// Records are missing before these.
    #[error("operations of session `{session_id}` begin at {first}, expected {expected}")]
    Gap {
        /// The session.
        session_id: SessionId,
        /// First number given.
        first: u64,
        /// First number expected.
        expected: u64,
    },
    /// The store failed.
    #[error("reach the store")]
    Store(#[from] StoreError),
}

/// A session of this gateway.
pub(super) async fn own_session(
    tx: &mut Transaction,
    gateway_id: &GatewayId,
    session_id: &SessionId,
) -> Result<store::SessionRow, ReportError> {
    store::session_by_id(tx, session_id)
        .await?
        .filter(|session| session.gateway_id == *gateway_id)
        .ok_or_else(|| ReportError::NotYours {
            session_id: session_id.clone(),
        })
}

/// Anchors how far a recording is durable.
///
/// # Errors
/// [`ReportError`].
pub async fn anchor_recording(
    control: &Control,
    gateway_id: &GatewayId,
    anchor: &Anchor,
) -> Result<(), ReportError> {
    let mut tx = control
        .db()
        .begin(Actor::Gateway(gateway_id.clone()))
        .await?;
    let session = own_session(&mut tx, gateway_id, &anchor.session_id).await?;
    if session.recording_id != anchor.recording_id {
        return Err(ReportError::NotYours {
            session_id: anchor.session_id.clone(),
        });
    }
    let Some(mut recording) = store::recording_by_id(&mut tx, &anchor.recording_id).await? else {
        return Err(ReportError::NotYours {
            session_id: anchor.session_id.clone(),
        });
    };
    if anchor.chunks <= recording.chunks || recording.state != "live" {
        return Ok(());
    }
    apply(&mut recording, anchor);
    store::update_recording(&mut tx, &recording).await?;
    tx.commit(Events::one(anchor_event(
        EventName::RecordingAnchored,
        anchor,
    )))
    .await?;
    Ok(())
}

fn apply(recording: &mut store::RecordingRow, anchor: &Anchor) {
    recording.chunks = anchor.chunks;
    recording.size_bytes = anchor.size_bytes;
    recording.chain.clone_from(&anchor.chain);
}

fn anchor_event(name: EventName, anchor: &Anchor) -> Event {
    Event::new(name, &anchor.recording_id)
        .with("session_id", &anchor.session_id)
        .with("chunks", anchor.chunks)
        .with("chain", &anchor.chain)
        .with("size_bytes", anchor.size_bytes)
}

/// Writes down that a session is over, and sees its credential off. Repeats are harmless.
///
/// # Errors
/// [`ReportError`].
pub async fn close_session(
    control: &Control,
    gateway_id: &GatewayId,
    closed: &SessionClosed,
) -> Result<(), ReportError> {
    let settled = settle(control, gateway_id, closed).await?;
    let now = control.now();
    let mut tx = control
        .db()
        .begin(Actor::Gateway(gateway_id.clone()))
        .await?;
    let session = own_session(&mut tx, gateway_id, &closed.session_id).await?;
    if !session.is_live {
        return Ok(());
    }
    store::end_session(
        &mut tx,
        &session.id,
        closed.reason,
        now,
        closed.bytes_up,
        closed.bytes_down,
    )
    .await?;
    lease::begin_revocation_of_session(&mut tx, &session.id, now).await?;
    let mut events =
        operation::withdraw_all_of_session(&mut tx, &session.id, "session-ended").await?;
    if let Some(mut recording) = store::recording_by_id(&mut tx, &session.recording_id).await? {
        let (anchor, is_complete) = match &settled {
            Some(settled) => (Some(&settled.anchor), settled.is_complete),
            None => (closed.recording.as_ref(), is_recording_whole(closed)),
        };
        if let Some(anchor) = anchor {
            apply(&mut recording, anchor);
        }
        recording.state = if is_complete { "complete" } else { "cut_off" }.to_owned();
        let name = if is_complete {
            EventName::RecordingCompleted
        } else {
            EventName::RecordingCutOff
        };
        store::update_recording(&mut tx, &recording).await?;
        events.push(
            Event::new(name, &recording.id)
                .with("session_id", &session.id)
                .with("chunks", recording.chunks)
                .with("chain", &recording.chain)
                .with("size_bytes", recording.size_bytes),
        );
    }
    let ended = Event::new(EventName::SessionEnded, &session.id)
        .with("reason", closed.reason)
        .with("person_id", &session.person_id)
        .with("grant_id", &session.grant_id)
        .with("bytes_up", closed.bytes_up)
        .with("bytes_down", closed.bytes_down);
    tx.commit(Events::one(ended).and_all(events)).await?;
    metrics::counter!("sallyport_sessions_ended_total", "reason" => closed.reason.as_str())
        .increment(1);
    control.changes().touch();
    Ok(())
}

fn is_recording_whole(closed: &SessionClosed) -> bool {
    closed.is_recording_complete && closed.recording.is_some()
}

/// How far a recording really goes that its gateway could not finish: chunks that it did not live to
/// anchor, or to report, are anchored with the end.
async fn settle(
    control: &Control,
    gateway_id: &GatewayId,
    closed: &SessionClosed,
) -> Result<Option<recording::Settled>, StoreError> {
    if is_recording_whole(closed) {
        return Ok(None);
    }
    let mut reader = control.db().read().await?;
    let session = store::session_by_id(&mut reader, &closed.session_id)
        .await?
        .filter(|session| session.gateway_id == *gateway_id && session.is_live);
    drop(reader);
    Ok(match session {
        Some(session) => {
            recording::settle(control, &session.recording_id, closed.recording.as_ref()).await
        }
        None => None,
    })
}
