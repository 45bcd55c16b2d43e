//! Held operations as gateways speak of them: holding, waiting for the release, giving up.
//!
//! INVARIANT: a release is said to one call, after it is durable; whatever fails is a refusal.

use std::time::Duration;

use sallyport_api::gateway::{CallError, HeldProgress, HoldOperation, Reply};
use sallyport_core::{
    access::{HeldOperation, HeldState, VoteKind},
    authz::Reason,
    event::Event,
    id::{GatewayId, OperationId, SessionId},
};

use super::{
    rpc::{fault, store_fault},
    store,
};
use crate::{
    kernel::{control::Control, database::StoreError, transaction::Transaction},
    operation::{
        self,
        workflow::{self, Hold, OperationError},
    },
};

/// Longest wait for news in one call.
const AWAIT_MAX: Duration = Duration::from_secs(20);

/// Holds an operation.
pub async fn hold(control: &Control, gateway_id: &GatewayId, call: HoldOperation) -> Reply {
    let hold = Hold {
        session_id: call.session_id,
        operation_id: call.operation_id,
        operation: call.operation,
        recorded: call.recorded,
        terms: call.terms,
        bundle: call.bundle,
    };
    match workflow::hold(control, gateway_id, hold).await {
        Ok(held) => Reply::Held(progress(&held)),
        Err(error) => failed(&error),
    }
}

fn progress(held: &HeldOperation) -> HeldProgress {
    let votes = held.ballot.votes.iter();
    match workflow::refusal(held.state) {
        None => HeldProgress::Waiting {
            approvals_missing: held.approvals_missing(),
            approved_by: votes
                .filter(|vote| vote.kind == VoteKind::Approve && !vote.is_void)
                .map(|vote| vote.voter.clone())
                .collect(),
            expires_at: held.expires_at,
        },
        Some(reason) => HeldProgress::Refused {
            reason,
            comment: votes
                .filter(|vote| vote.kind == VoteKind::Deny)
                .map(|vote| vote.comment.clone())
                .next()
                .unwrap_or_default(),
        },
    }
}

/// Waits for news about an operation; takes its release when nothing is missing.
pub async fn wait(
    control: &Control,
    gateway_id: &GatewayId,
    session_id: &SessionId,
    operation_id: &OperationId,
    seen: &HeldProgress,
) -> Reply {
    let mut changes = control.changes().subscribe();
    let waited = tokio::time::timeout(AWAIT_MAX, async {
        loop {
            let now = look(control, gateway_id, session_id, operation_id).await;
            if !matches!(&now, Ok(progress) if progress == seen) {
                return now;
            }
            if changes.changed().await.is_err() {
                return now;
            }
        }
    })
    .await;
    match waited {
        Ok(Ok(progress)) => Reply::Held(progress),
        Ok(Err(error)) => failed(&error),
        Err(_) => Reply::Held(seen.clone()),
    }
}

async fn look(
    control: &Control,
    gateway_id: &GatewayId,
    session_id: &SessionId,
    operation_id: &OperationId,
) -> Result<HeldProgress, OperationError> {
    let mut reader = control.db().read().await?;
    let held = workflow::standing(&mut reader, gateway_id, session_id, operation_id).await?;
    drop(reader);
    let is_due = held.is_waiting(control.now()) && held.approvals_missing() == 0;
    if !is_due {
        return Ok(progress(&held));
    }
    let (held, is_released) =
        workflow::release(control, gateway_id, session_id, operation_id).await?;
    if !is_released || held.state != HeldState::Released {
        return Ok(progress(&held));
    }
    let votes = held.ballot.votes.iter();
    Ok(HeldProgress::Released {
        approved_by: votes
            .filter(|vote| vote.kind == VoteKind::Approve && !vote.is_void)
            .map(|vote| vote.voter.clone())
            .collect(),
    })
}

/// Gives an operation up.
pub async fn withdraw(
    control: &Control,
    gateway_id: &GatewayId,
    session_id: &SessionId,
    operation_id: &OperationId,
) -> Reply {
    match workflow::withdraw(control, gateway_id, session_id, operation_id).await {
        Ok(()) => Reply::Done,
        Err(error) => failed(&error),
    }
}

/// Gives up what waited on the connection that a gateway lost; joins the caller's transaction.
///
/// # Errors
/// [`StoreError`].
pub async fn abandon(
    tx: &mut Transaction,
    gateway_id: &GatewayId,
    sessions: &[SessionId],
) -> Result<Vec<Event>, StoreError> {
    let mut events = Vec::new();
    for session_id in sessions {
        let session = store::session_by_id(tx, session_id).await?;
        if session.is_some_and(|session| session.gateway_id == *gateway_id) {
            events.extend(
                operation::withdraw_all_of_session(tx, session_id, "connection-lost").await?,
            );
        }
    }
    Ok(events)
}

fn failed(error: &OperationError) -> Reply {
    let reason = match error {
        OperationError::Store(error) => return store_fault(error),
        OperationError::TooMany => Reason::TooManyAttempts,
        OperationError::NotFound
        | OperationError::NotHoldable { .. }
        | OperationError::SessionNotLive
        | OperationError::Refused(_) => Reason::CommandWithdrawn,
    };
    fault(CallError::Caller, reason, &error.to_string())
}
