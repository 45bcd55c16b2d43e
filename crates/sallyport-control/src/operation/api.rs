//! Routes of held operations.

use axum::{Json, extract::State};
use sallyport_api::rest::{
    access::CastVote,
    operation::HeldOperationView,
    page::{Page, PageQuery},
    problem::Problem,
};
use sallyport_core::{
    access::{HeldOperation, Refusal, VoteKind},
    authz::{AdminAction, Reason},
    id::OperationId,
};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::routes;

use super::{
    store,
    workflow::{self, OperationError},
};
use crate::{
    access::api::{quorum_words, vote_views},
    kernel::{
        caller::Caller,
        control::Control,
        extract::{JsonBody, PathText, QueryFields},
        http::{Access, Routes},
        page::Wanted,
        problem::{Fault, Faulty, HttpProblem},
    },
};

/// The routes.
#[must_use]
pub fn routes() -> Routes {
    let use_access = Access::Action(AdminAction::RequestCreate);
    let vote = Access::Action(AdminAction::OperationVote);
    Routes::new()
        .route(use_access, routes!(list_operations))
        .route(use_access, routes!(show_operation))
        .route(vote, routes!(approve_operation))
        .route(vote, routes!(deny_operation))
}

impl Faulty for OperationError {
    fn fault(&self) -> Fault {
        match self {
            Self::NotFound => Fault::NotFound { noun: "operation" },
            Self::NotHoldable { .. } | Self::SessionNotLive => Fault::Bug,
            Self::TooMany => Fault::refused(Reason::TooManyAttempts),
            Self::Refused(refusal) => Fault::Conflict {
                title: match refusal {
                    Refusal::NotPending => "the operation no longer waits".to_owned(),
                    Refusal::OwnRequest => "nobody may vote on their own command".to_owned(),
                    Refusal::NotAnApprover => {
                        "this person may not vote on this operation".to_owned()
                    }
                    Refusal::ContentChanged => {
                        "the operation is not the one that was shown".to_owned()
                    }
                    other => other.to_string(),
                },
                remedy: match refusal {
                    Refusal::OwnRequest | Refusal::AlreadyVoted | Refusal::NotAnApprover => {
                        "another person must vote; `operation show` says who may"
                    }
                    Refusal::NotPending | Refusal::NotRequester => {
                        "see where it stands: `operation show`"
                    }
                    Refusal::ContentChanged => {
                        "show the operation again and vote on what it says now"
                    }
                    Refusal::TextTooLong => "shorten it",
                },
            },
            Self::Store(error) => error.fault(),
        }
    }
}

/// Which held operations to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct OperationQuery {
    /// `next` of the page before.
    cursor: Option<String>,
    /// Items on a page, 1 to 500; 50 when absent.
    limit: Option<u32>,
    /// `waiting`, `released`, `denied`, `withdrawn`, `expired`; all when absent.
    state: Option<String>,
    /// Only the caller's own; always so for those who may not see everybody's.
    #[serde(default)]
    mine: bool,
}

fn view(held: &HeldOperation) -> HeldOperationView {
    let content = &held.content;
    HeldOperationView {
        id: held.id.to_string(),
        session_id: content.session_id.to_string(),
        requester: content.requester.to_string(),
        account: content.account.to_string(),
        target: content.target.to_string(),
        kind: content.operation.kind.as_str().to_owned(),
        command: content.operation.detail.clone(),
        command_hash: held.command_hash(),
        state: held.state.as_str().to_owned(),
        approvals_missing: held.approvals_missing(),
        quorums: quorum_words(&held.ballot),
        votes: vote_views(&held.ballot),
        content_hash: held.content_hash(),
        created_at: held.created_at,
        expires_at: held.expires_at,
    }
}

/// Lists held operations, newest first: everybody's for those who may see them, else one's own.
#[utoipa::path(get, path = "/v1/operations", tag = "operation", params(OperationQuery),
    responses((status = 200, body = Page<HeldOperationView>), (status = "default", body = Problem)))]
async fn list_operations(
    State(control): State<Control>,
    caller: Caller,
    QueryFields(query): QueryFields<OperationQuery>,
) -> Result<Json<Page<HeldOperationView>>, HttpProblem> {
    let wanted = Wanted::from_query(&PageQuery {
        cursor: query.cursor.clone(),
        limit: query.limit,
    })?;
    let is_own_only = query.mine || !caller.is_permitted(AdminAction::OperationList);
    let requester = is_own_only.then_some(&caller.person.id);
    let mut reader = control.db().read().await?;
    let held = store::operations_page(
        &mut reader,
        requester,
        query.state.as_deref(),
        &wanted.cursor,
        wanted.load(),
    )
    .await?;
    let views = held.iter().map(view).collect();
    Ok(Json(wanted.page(views, |view| view.id.clone())))
}

/// Shows a held operation.
#[utoipa::path(get, path = "/v1/operations/{id}", tag = "operation", params(("id" = String, Path,)),
    responses((status = 200, body = HeldOperationView), (status = "default", body = Problem)))]
async fn show_operation(
    State(control): State<Control>,
    caller: Caller,
    PathText(id): PathText<OperationId>,
) -> Result<Json<HeldOperationView>, HttpProblem> {
    let mut reader = control.db().read().await?;
    let held = store::operation_by_id(&mut reader, &id)
        .await?
        .filter(|held| {
            held.content.requester_id == caller.person.id
                || caller.is_permitted(AdminAction::OperationList)
        })
        .ok_or(OperationError::NotFound)?;
    Ok(Json(view(&held)))
}

/// Votes yes on exactly what `content_hash` names; with enough votes the command runs at once.
#[utoipa::path(post, path = "/v1/operations/{id}/approve", tag = "operation", params(("id" = String, Path,)),
    request_body = CastVote,
    responses((status = 200, body = HeldOperationView), (status = "default", body = Problem)))]
async fn approve_operation(
    State(control): State<Control>,
    caller: Caller,
    PathText(id): PathText<OperationId>,
    JsonBody(body): JsonBody<CastVote>,
) -> Result<Json<HeldOperationView>, HttpProblem> {
    cast(&control, &caller, &id, &body, VoteKind::Approve).await
}

/// Votes no on exactly what `content_hash` names; one no is enough.
#[utoipa::path(post, path = "/v1/operations/{id}/deny", tag = "operation", params(("id" = String, Path,)),
    request_body = CastVote,
    responses((status = 200, body = HeldOperationView), (status = "default", body = Problem)))]
async fn deny_operation(
    State(control): State<Control>,
    caller: Caller,
    PathText(id): PathText<OperationId>,
    JsonBody(body): JsonBody<CastVote>,
) -> Result<Json<HeldOperationView>, HttpProblem> {
    cast(&control, &caller, &id, &body, VoteKind::Deny).await
}

async fn cast(
    control: &Control,
    caller: &Caller,
    id: &OperationId,
    body: &CastVote,
    kind: VoteKind,
) -> Result<Json<HeldOperationView>, HttpProblem> {
    let voter_id = &caller.person.id;
    let held = workflow::vote(
        control,
        voter_id,
        id,
        &body.content_hash,
        kind,
        &body.comment,
    )
    .await?;
    Ok(Json(view(&held)))
}
