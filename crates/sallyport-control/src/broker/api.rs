//! Routes of sessions, their operations, and leases.

use axum::{Json, extract::State, http::StatusCode};
use sallyport_api::rest::{
    access::End,
    page::{Page, PageQuery},
    problem::Problem,
    session::{OperationView, SessionView},
    vault::LeaseView,
};
use sallyport_core::{authz::AdminAction, id::SessionId, session::OperationRecord};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::routes;

use super::store::{self, SessionRow};
use crate::{
    access::workflow::{AccessError, checked_comment},
    kernel::{
        caller::Caller,
        control::Control,
        extract::{JsonBody, PathText, QueryFields},
        http::{Access, Routes},
        page::Wanted,
        problem::{Fault, HttpProblem},
    },
};

/// The routes.
#[must_use]
pub fn routes() -> Routes {
    let use_access = Access::Action(AdminAction::RequestCreate);
    Routes::new()
        .route(use_access, routes!(list_sessions))
        .route(use_access, routes!(show_session))
        .route(use_access, routes!(list_operations))
        .route(use_access, routes!(end_session))
        .route(Access::Action(AdminAction::LeaseList), routes!(list_leases))
}

/// Which sessions to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct SessionQuery {
    /// `next` of the page before.
    cursor: Option<String>,
    /// Items on a page, 1 to 500; 50 when absent.
    limit: Option<u32>,
    /// `live`, or all when absent.
    state: Option<String>,
    /// Only the caller's own; always so for those who may not see everybody's.
    #[serde(default)]
    mine: bool,
}

fn view(session: &SessionRow) -> SessionView {
    SessionView {
        id: session.id.to_string(),
        grant_id: session.grant_id.to_string(),
        person: session.person.clone(),
        account: session.account.clone(),
        target: session.target.clone(),
        protocol: session.protocol.clone(),
        ip: session.ip.clone(),
        state: if session.is_live { "live" } else { "ended" }.to_owned(),
        end_reason: session.end_reason.clone(),
        opened_at: session.opened_at,
        ended_at: session.ended_at,
        recording_id: session.recording_id.to_string(),
        bytes_up: session.bytes_up,
        bytes_down: session.bytes_down,
    }
}

fn operation_view(record: &OperationRecord) -> OperationView {
    let outcome = serde_json::to_value(record.outcome).ok();
    OperationView {
        id: record.id.to_string(),
        kind: record.operation.kind.as_str().to_owned(),
        detail: record.operation.detail.clone(),
        outcome: outcome
            .and_then(|value| value.as_str().map(str::to_owned))
            .unwrap_or_default(),
        reason: record.reason.clone(),
        exit_status: record.exit_status,
        size_bytes: record.size_bytes,
        sha256: record.sha256.clone(),
        started_at: record.started_at,
        ended_at: record.ended_at,
    }
}

/// Lists sessions, newest first: everybody's for those who may see them, else one's own.
#[utoipa::path(get, path = "/v1/sessions", tag = "session", params(SessionQuery),
    responses((status = 200, body = Page<SessionView>), (status = "default", body = Problem)))]
async fn list_sessions(
    State(control): State<Control>,
    caller: Caller,
    QueryFields(query): QueryFields<SessionQuery>,
) -> Result<Json<Page<SessionView>>, HttpProblem> {
    let wanted = Wanted::from_query(&PageQuery {
        cursor: query.cursor.clone(),
        limit: query.limit,
    })?;
    let is_live_only = match query.state.as_deref() {
        None => false,
        Some("live") => true,
        Some(_) => {
            return Err(HttpProblem::of(Fault::field(
                "state",
                "is `live` or left out",
            )));
        }
    };
    let is_own_only = query.mine || !caller.is_permitted(AdminAction::SessionList);
    let person = is_own_only.then_some(&caller.person.id);
    let mut reader = control.db().read().await?;
    let sessions = store::sessions_page(
        &mut reader,
        person,
        is_live_only,
        &wanted.cursor,
        wanted.load(),
    )
    .await?;
    Ok(Json(
        wanted.page(sessions.iter().map(view).collect(), |view| view.id.clone()),
    ))
}

async fn visible(
    control: &Control,
    caller: &Caller,
    id: &SessionId,
) -> Result<SessionRow, HttpProblem> {
    let mut reader = control.db().read().await?;
    Ok(store::session_by_id(&mut reader, id)
        .await?
        .filter(|session| {
            session.person_id == caller.person.id || caller.is_permitted(AdminAction::SessionList)
        })
        .ok_or(AccessError::NotFound { noun: "session" })?)
}

/// Shows a session.
#[utoipa::path(get, path = "/v1/sessions/{id}", tag = "session", params(("id" = String, Path,)),
    responses((status = 200, body = SessionView), (status = "default", body = Problem)))]
async fn show_session(
    State(control): State<Control>,
    caller: Caller,
    PathText(id): PathText<SessionId>,
) -> Result<Json<SessionView>, HttpProblem> {
    Ok(Json(view(&visible(&control, &caller, &id).await?)))
}

/// Lists what was done in a session, in order.
#[utoipa::path(get, path = "/v1/sessions/{id}/operations", tag = "session", params(("id" = String, Path,), PageQuery),
    responses((status = 200, body = Page<OperationView>), (status = "default", body = Problem)))]
async fn list_operations(
    State(control): State<Control>,
    caller: Caller,
    PathText(id): PathText<SessionId>,
    QueryFields(query): QueryFields<PageQuery>,
) -> Result<Json<Page<OperationView>>, HttpProblem> {
    let wanted = Wanted::from_query(&query)?;
    let first: u64 = match wanted.cursor.as_str() {
        "" => 0,
        text => text
            .parse()
            .map_err(|_| HttpProblem::of(Fault::field("cursor", "is a number")))?,
    };
    let session = visible(&control, &caller, &id).await?;
    let mut reader = control.db().read().await?;
    let records = store::operations_of(&mut reader, &session.id, first, wanted.load()).await?;
    let next = first.saturating_add(u64::from(wanted.limit)).to_string();
    Ok(Json(wanted.page(
        records.iter().map(operation_view).collect(),
        |_| next.clone(),
    )))
}

/// Ends a session at once; the answer is the session as it stands, which may still be live for a moment: one's own, or anybody's for those who may.
#[utoipa::path(post, path = "/v1/sessions/{id}/end", tag = "session", params(("id" = String, Path,)),
    request_body = End,
    responses((status = 202, body = SessionView), (status = "default", body = Problem)))]
async fn end_session(
    State(control): State<Control>,
    caller: Caller,
    PathText(id): PathText<SessionId>,
    JsonBody(body): JsonBody<End>,
) -> Result<(StatusCode, Json<SessionView>), HttpProblem> {
    let may_end_any = caller.is_permitted(AdminAction::SessionEnd);
    let comment = checked_comment(&body.reason)?;
    super::end_session(&control, &caller.person, may_end_any, &id, comment).await?;
    let session = visible(&control, &caller, &id).await?;
    Ok((StatusCode::ACCEPTED, Json(view(&session))))
}

/// Lists leases, newest first.
#[utoipa::path(get, path = "/v1/leases", tag = "lease", params(PageQuery),
    responses((status = 200, body = Page<LeaseView>), (status = "default", body = Problem)))]
async fn list_leases(
    State(control): State<Control>,
    QueryFields(query): QueryFields<PageQuery>,
) -> Result<Json<Page<LeaseView>>, HttpProblem> {
    let wanted = Wanted::from_query(&query)?;
    let mut reader = control.db().read().await?;
    let leases = store::leases_page(&mut reader, &wanted.cursor, wanted.load()).await?;
    let views = leases
        .iter()
        .map(|lease| LeaseView {
            id: lease.id.to_string(),
            grant_id: lease.grant_id.to_string(),
            session_id: lease.session_id.to_string(),
            engine: lease.engine.clone(),
            state: store::state_text(lease.state).to_owned(),
            expires_at: lease.expires_at,
            revoke_attempts: lease.revoke_attempts,
        })
        .collect();
    Ok(Json(wanted.page(views, |view| view.id.clone())))
}
