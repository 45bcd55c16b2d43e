//! What must not depend on one message arriving: live sessions are compared with what the store says,
//! when a gateway connects and every second.
//!
//! INVARIANT: a session whose grant, lock, person, account or own end says so is told to end again and
//! again until its gateway reports its end; one whose gateway is gone for good is written down as over.

use std::{collections::HashMap, time::Duration};

use sallyport_api::gateway::SessionClosed;
use sallyport_core::{
    id::{AccountId, GatewayId, SessionId, TargetId},
    lock::Lock,
    session::EndReason,
    time::Timestamp,
};

use super::{close, pause, store};
use crate::{
    access, directory, inventory,
    kernel::{control::Control, database::StoreError, statement::Sql},
    lock,
};

const TICK: Duration = Duration::from_secs(1);
/// A gateway ends its sessions after a minute without us; this long after it was last connected, none
/// of them lives.
const GONE_AFTER: Duration = Duration::from_secs(180);

/// Looks after live sessions until the process ends.
pub async fn run(control: Control) {
    let mut away = HashMap::new();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let looked = async {
            look(&control, &mut away).await?;
            pause::tell_again(&control).await
        };
        if let Err(error) = looked.await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "could not look after live sessions; trying again"
            );
        }
    }
}

/// Tells gateways once more what must end, and writes off what is over. `away` remembers since when
/// gateways with live sessions have not been connected.
///
/// # Errors
/// [`StoreError`].
pub async fn look(
    control: &Control,
    away: &mut HashMap<GatewayId, Timestamp>,
) -> Result<(), StoreError> {
    let now = control.now();
    let mut reader = control.db().read().await?;
    let sessions = store::live_sessions(&mut reader).await?;
    let locks = lock::in_force(&mut reader, now).await?;
    away.retain(|gateway_id, _| !control.live().is_connected(gateway_id));
    let mut lost = Vec::new();
    for session in sessions {
        if control.live().is_connected(&session.gateway_id) {
            if let Some(reason) = must_end(&mut reader, &session, &locks, now).await? {
                let comment = session.end_requested.as_deref().unwrap_or_default();
                control
                    .live()
                    .end_session(&session.gateway_id, &session.id, reason, comment);
            }
            continue;
        }
        let since = *away.entry(session.gateway_id.clone()).or_insert(now);
        if now.since(since) > GONE_AFTER {
            lost.push(session);
        }
    }
    drop(reader);
    for session in lost {
        write_off(control, &session).await;
    }
    Ok(())
}

/// Writes down that a session its gateway no longer has is over.
async fn write_off(control: &Control, session: &store::SessionRow) {
    let closed = SessionClosed {
        session_id: session.id.clone(),
        reason: EndReason::GatewayStopped,
        bytes_up: 0,
        bytes_down: 0,
        recording: None,
        is_recording_complete: false,
    };
    if let Err(error) = close::close_session(control, &session.gateway_id, &closed).await {
        tracing::error!(
            session_id = %session.id,
            error = &error as &dyn std::error::Error,
            "could not write down a lost session"
        );
    }
}

/// Of the sessions a gateway reports alive, those that must end; and of those the store holds alive on
/// it but it no longer has, writes down that they are over.
///
/// # Errors
/// [`StoreError`].
pub async fn reconcile(
    control: &Control,
    gateway_id: &GatewayId,
    reported: &[SessionId],
) -> Result<Vec<(SessionId, EndReason)>, StoreError> {
    let now = control.now();
    let mut reader = control.db().read().await?;
    let stored: Vec<store::SessionRow> = store::live_sessions(&mut reader)
        .await?
        .into_iter()
        .filter(|session| session.gateway_id == *gateway_id)
        .collect();
    let locks = lock::in_force(&mut reader, now).await?;
    let mut end_now = Vec::new();
    for id in reported {
        let Some(session) = stored.iter().find(|session| session.id == *id) else {
            end_now.push((id.clone(), EndReason::EndedByOperator));
            continue;
        };
        if let Some(reason) = must_end(&mut reader, session, &locks, now).await? {
            end_now.push((id.clone(), reason));
        }
    }
    drop(reader);
    for session in stored
        .iter()
        .filter(|session| !reported.contains(&session.id))
    {
        write_off(control, session).await;
    }
    Ok(end_now)
}

async fn must_end(
    sql: &mut dyn Sql,
    session: &store::SessionRow,
    locks: &[Lock],
    now: Timestamp,
) -> Result<Option<EndReason>, StoreError> {
    if session.end_requested.is_some() {
        return Ok(Some(EndReason::EndedByOperator));
    }
    let (Ok(account_id), Ok(target_id)) = (
        session.account_id.parse::<AccountId>(),
        session.target_id.parse::<TargetId>(),
    ) else {
        return Ok(Some(EndReason::PolicyChanged));
    };
    if locks
        .iter()
        .any(|lock| lock.stops(&session.person_id, &account_id, &target_id, now))
    {
        return Ok(Some(EndReason::Locked));
    }
    if inventory::account_by_id(sql, &account_id).await?.is_none() {
        return Ok(Some(EndReason::PolicyChanged));
    }
    let person = directory::person_by_id(sql, &session.person_id).await?;
    if !person.is_some_and(|person| person.is_enabled) {
        return Ok(Some(EndReason::PersonDisabled));
    }
    Ok(match access::grant_by_id(sql, &session.grant_id).await? {
        Some(grant) if grant.is_live(now) => None,
        Some(grant) => Some(
            grant
                .ended
                .map_or(EndReason::GrantExpired, |(_, reason)| reason),
        ),
        None => Some(EndReason::GrantEnded),
    })
}
