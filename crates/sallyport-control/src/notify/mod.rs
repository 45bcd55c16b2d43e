//! Tells people what cannot wait: an outbox in the store, delivered by a signed webhook at least once.
//!
//! INVARIANT: a notice is enqueued in the transaction of what it tells about, so neither exists without
//! the other; delivery never delays the change itself.
//!
//! Not here: who must vote or review (`access`); channels other than the webhook.

pub mod jobs;
mod store;
mod webhook;

use sallyport_core::{
    access::{AccessRequest, Grant, HeldOperation, Review},
    id::RequestId,
};
use serde_json::json;

use crate::kernel::{database::StoreError, transaction::Transaction};

/// Kind of the notice that somebody broke the glass.
const BREAK_GLASS_USED: &str = "break_glass.used";
/// Kind of the notice that a request waits for votes.
const REQUEST_CREATED: &str = "request.created";

/// Kind of the notice that a command waits for votes.
const OPERATION_HELD: &str = "operation.held";
/// Most characters of a command in a notice; the whole of it is in the API.
const COMMAND_CHARS_MAX: usize = 1_000;

/// Tells that somebody broke the glass.
///
/// # Errors
/// [`StoreError`].
pub async fn break_glass_used(
    tx: &mut Transaction,
    request: &AccessRequest,
    grant: &Grant,
    review: &Review,
) -> Result<(), StoreError> {
    let asked = &request.asked;
    let body = json!({
        "person": asked.requester,
        "account": asked.account,
        "target": asked.target,
        "reason": asked.reason,
        "grant_id": grant.id,
        "review_id": review.id,
        "until": grant.until,
    });
    store::enqueue(tx, grant.id.as_str(), BREAK_GLASS_USED, body, grant.from).await
}

/// Tells that a request waits for votes.
///
/// # Errors
/// [`StoreError`].
pub async fn request_created(
    tx: &mut Transaction,
    request: &AccessRequest,
) -> Result<(), StoreError> {
    let asked = &request.asked;
    let id: &RequestId = &request.id;
    let body = json!({
        "request_id": id,
        "person": asked.requester,
        "account": asked.account,
        "target": asked.target,
        "reason": asked.reason,
        "ticket": asked.ticket,
        "duration_s": asked.duration_s,
        "approvals_missing": request.approvals_missing(),
        "expires_at": request.expires_at,
    });
    store::enqueue(tx, id.as_str(), REQUEST_CREATED, body, request.created_at).await
}

/// Tells that a command waits for votes.
///
/// # Errors
/// [`StoreError`].
pub async fn operation_held(
    tx: &mut Transaction,
    held: &HeldOperation,
    recorded: &str,
) -> Result<(), StoreError> {
    let content = &held.content;
    let command: String = recorded.chars().take(COMMAND_CHARS_MAX).collect();
    let body = json!({
        "operation_id": held.id,
        "session_id": content.session_id,
        "person": content.requester,
        "account": content.account,
        "target": content.target,
        "command": command,
        "command_hash": held.command_hash(),
        "approvals_missing": held.approvals_missing(),
        "expires_at": held.expires_at,
    });
    store::enqueue(tx, held.id.as_str(), OPERATION_HELD, body, held.created_at).await
}
