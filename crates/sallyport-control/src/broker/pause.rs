//! Pausing and resuming live sessions, and saying something to their people.
//!
//! INVARIANT: whether a session is paused is what the store says; what a gateway is told never runs
//! behind that, because reading it and telling happen under one lock, and it is told again every second.
//!
//! Not here: what a pause does (`sallyport-gateway::session`).

use sallyport_api::gateway::Push;
use sallyport_core::{
    event::{Actor, Event, EventName, Events},
    id::{GatewayId, SessionId},
    principal::{Person, PersonName},
};

use super::{
    store::{self, SessionRow},
    watchers,
};
use crate::{
    access::workflow::AccessError,
    kernel::{control::Control, database::StoreError},
};

/// Pauses a session, or lets it go on. Doing what is done already is no error.
///
/// # Errors
/// [`AccessError::NotFound`] or [`AccessError::Ended`].
pub async fn pause(
    control: &Control,
    by: &Person,
    session_id: &SessionId,
    is_paused: bool,
) -> Result<(), AccessError> {
    let _told = control.live().telling_pauses().await;
    let mut tx = control.db().begin(Actor::Person(by.id.clone())).await?;
    let session = store::session_by_id(&mut tx, session_id)
        .await?
        .ok_or(AccessError::NotFound { noun: "session" })?;
    if !session.is_live {
        return Err(AccessError::Ended);
    }
    if session.paused_by.is_some() == is_paused {
        return Ok(());
    }
    let paused_by = is_paused.then(|| by.name.clone());
    store::set_paused(&mut tx, session_id, paused_by.as_ref()).await?;
    let name = match is_paused {
        true => EventName::SessionPaused,
        false => EventName::SessionResumed,
    };
    tx.commit(Events::one(Event::new(name, session_id))).await?;
    push(control, &session, paused_by);
    Ok(())
}

/// Says something to the person of a live session.
///
/// # Errors
/// As [`pause`].
pub async fn say(
    control: &Control,
    by: &Person,
    session_id: &SessionId,
    text: &str,
) -> Result<(), AccessError> {
    let mut tx = control.db().begin(Actor::Person(by.id.clone())).await?;
    let session = store::session_by_id(&mut tx, session_id)
        .await?
        .ok_or(AccessError::NotFound { noun: "session" })?;
    if !session.is_live {
        return Err(AccessError::Ended);
    }
    let event = Event::new(EventName::SessionMessaged, session_id).with("text", text);
    tx.commit(Events::one(event)).await?;
    let push = Push::Message {
        session_id: session_id.clone(),
        from: by.name.clone(),
        text: text.to_owned(),
    };
    control.live().push(&session.gateway_id, push);
    Ok(())
}

fn push(control: &Control, session: &SessionRow, by: Option<PersonName>) {
    let push = Push::Paused {
        session_id: session.id.clone(),
        by,
    };
    control.live().push(&session.gateway_id, push);
}

/// Tells gateways once more which sessions are paused and who is joined to which.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn tell_again(control: &Control) -> Result<(), StoreError> {
    let _told = control.live().telling_pauses().await;
    let mut reader = control.db().read().await?;
    for session in store::live_sessions(&mut reader).await? {
        if !control.live().is_connected(&session.gateway_id) {
            continue;
        }
        if session.paused_by.is_some() {
            push(control, &session, session.paused_by.clone());
        }
        if !control.live().watchers().of(&session.id).is_empty() {
            watchers::tell(control, &session.gateway_id, &session.id);
        }
    }
    Ok(())
}

/// The sessions of a gateway that are paused, and by whom. Ask while holding
/// [`telling_pauses`](super::Live::telling_pauses) until the gateway is told.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn paused_of(
    control: &Control,
    gateway_id: &GatewayId,
) -> Result<Vec<(SessionId, PersonName)>, StoreError> {
    let mut reader = control.db().read().await?;
    Ok(store::live_sessions(&mut reader)
        .await?
        .into_iter()
        .filter(|session| session.gateway_id == *gateway_id)
        .filter_map(|session| Some((session.id, session.paused_by?)))
        .collect())
}
