//! Routes of sessions and their operations.

mod lease;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use sallyport_api::rest::{
    access::End,
    page::{Page, PageQuery},
    problem::Problem,
    session::{
        Join, Message, OperationView, SessionGroupView, SessionView, StatementView, Typing,
        WATCHER_HEADER, WatcherView,
    },
};
use sallyport_core::{
    authz::AdminAction,
    id::{GrantId, SessionId, WatcherId},
    session::{OperationRecord, StatementRecord, oversight::Watcher},
};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::routes;

use super::{
    join::{self, JoinError, Wish},
    pause,
    store::{self, SessionFilter, SessionGroup, SessionRow},
};
use crate::{
    access::workflow::{AccessError, checked_comment},
    kernel::{
        caller::Caller,
        control::Control,
        extract::{JsonBody, PathText, QueryFields},
        http::{Access, Routes},
        page::Wanted,
        problem::{Fault, Faulty, HttpProblem},
    },
};

/// Longest message to the person of a session.
const MESSAGE_CHARS_MAX: usize = 1_000;

/// The routes.
#[must_use]
pub fn routes() -> Routes {
    let use_access = Access::Action(AdminAction::RequestCreate);
    Routes::new()
        .route(use_access, routes!(list_sessions))
        .route(use_access, routes!(list_session_groups))
        .route(use_access, routes!(show_session))
        .route(use_access, routes!(list_operations))
        .route(use_access, routes!(end_session))
        .route(
            Access::Action(AdminAction::RecordingPlay),
            routes!(join_session),
        )
        .route(
            Access::Action(AdminAction::RecordingPlay),
            routes!(type_at_session),
        )
        .route(
            Access::Action(AdminAction::SessionPause),
            routes!(message_session),
        )
        .route(
            Access::Action(AdminAction::SessionPause),
            routes!(pause_session),
        )
        .route(
            Access::Action(AdminAction::SessionPause),
            routes!(resume_session),
        )
        .merge(lease::routes())
}

impl Faulty for JoinError {
    fn fault(&self) -> Fault {
        match self {
            Self::NotFound { noun } => Fault::NotFound { noun },
            Self::Ended => AccessError::Ended.fault(),
            Self::NoKeyboardRight => Fault::MissingRight(AdminAction::SessionJoin),
            Self::Refused(reason) => Fault::refused(*reason),
            Self::Full => Fault::Conflict {
                title: "as many people as there may be are joined to this session".to_owned(),
                remedy: "ask one of them to leave; `session show` names them",
            },
            Self::BadInput { problem } => Fault::field("input", format!("`input` {problem}")),
            Self::Busy => Fault::Busy,
            Self::Recording(error) => error.fault(),
            Self::Store(error) => error.fault(),
        }
    }
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
    /// Only those under this grant.
    #[param(value_type = Option<String>)]
    grant: Option<GrantId>,
}

/// Which sessions to sum up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct SessionGroupQuery {
    /// `next` of the page before.
    cursor: Option<String>,
    /// Items on a page, 1 to 500; 50 when absent.
    limit: Option<u32>,
    /// Only the caller's own; always so for those who may not see everybody's.
    #[serde(default)]
    mine: bool,
}

fn group_view(group: &SessionGroup) -> SessionGroupView {
    SessionGroupView {
        grant_id: group.grant_id.to_string(),
        person: group.person.clone(),
        account: group.account.clone(),
        target: group.target.clone(),
        sessions: group.sessions,
        live: group.live,
        last_session_id: group.last.to_string(),
        first_opened_at: group.first_opened_at,
        last_opened_at: group.last_opened_at,
        bytes_up: group.bytes_up,
        bytes_down: group.bytes_down,
    }
}

fn view(control: &Control, session: &SessionRow) -> SessionView {
    let watchers = control.live().watchers().of(&session.id);
    SessionView {
        paused_by: session.paused_by.as_ref().map(ToString::to_string),
        watchers: watchers.iter().map(watcher_view).collect(),
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

fn watcher_view(watcher: &Watcher) -> WatcherView {
    WatcherView {
        id: watcher.id.to_string(),
        person: watcher.person.to_string(),
        has_keyboard: watcher.has_keyboard,
    }
}

fn statement_view(statement: &StatementRecord) -> StatementView {
    StatementView {
        parameters: statement.parameters.clone(),
        parameter_count: statement.parameter_count,
        tag: statement.tag.clone(),
        rows: statement.rows,
        sqlstate: statement.sqlstate.clone(),
        text_sha256: statement.text_sha256.clone(),
    }
}

fn operation_view(record: &OperationRecord) -> OperationView {
    let outcome = serde_json::to_value(record.outcome).ok();
    OperationView {
        id: record.id.to_string(),
        kind: record.operation.kind.as_str().to_owned(),
        detail: record.operation.detail.clone(),
        verb: record
            .operation
            .facts
            .as_ref()
            .map(|facts| facts.verb().as_str().to_owned()),
        relations: record
            .operation
            .facts
            .iter()
            .flat_map(|facts| facts.relations.iter().cloned())
            .collect(),
        outcome: outcome
            .and_then(|value| value.as_str().map(str::to_owned))
            .unwrap_or_default(),
        reason: record.reason.clone(),
        exit_status: record.exit_status,
        size_bytes: record.size_bytes,
        sha256: record.sha256.clone(),
        statement: record.statement.as_ref().map(statement_view),
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
    let filter = SessionFilter {
        person: is_own_only.then_some(&caller.person.id),
        grant: query.grant.as_ref(),
        is_live_only,
    };
    let mut reader = control.db().read().await?;
    let sessions = store::sessions_page(&mut reader, filter, &wanted.cursor, wanted.load()).await?;
    Ok(Json(
        wanted.page(
            sessions
                .iter()
                .map(|session| view(&control, session))
                .collect(),
            |view| view.id.clone(),
        ),
    ))
}

/// Lists sessions by grant, counted and summed up, the grant used last first: everybody's for those who may see them, else one's own.
#[utoipa::path(get, path = "/v1/session-groups", tag = "session", params(SessionGroupQuery),
    responses((status = 200, body = Page<SessionGroupView>), (status = "default", body = Problem)))]
async fn list_session_groups(
    State(control): State<Control>,
    caller: Caller,
    QueryFields(query): QueryFields<SessionGroupQuery>,
) -> Result<Json<Page<SessionGroupView>>, HttpProblem> {
    let wanted = Wanted::from_query(&PageQuery {
        cursor: query.cursor.clone(),
        limit: query.limit,
    })?;
    let is_own_only = query.mine || !caller.is_permitted(AdminAction::SessionList);
    let person = is_own_only.then_some(&caller.person.id);
    let mut reader = control.db().read().await?;
    let groups =
        store::session_groups_page(&mut reader, person, &wanted.cursor, wanted.load()).await?;
    Ok(Json(
        wanted.page(groups.iter().map(group_view).collect(), |view| {
            view.last_session_id.clone()
        }),
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
    let session = visible(&control, &caller, &id).await?;
    Ok(Json(view(&control, &session)))
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
    Ok((StatusCode::ACCEPTED, Json(view(&control, &session))))
}

/// Joins a live session: its person is told, and the answer shows the session until it ends, the caller
/// leaves or no longer may. Lines that begin with `#` say what follows: a cast of a channel's terminal,
/// or text. The caller must say at least every ten seconds that they are there, by typing nothing.
#[utoipa::path(post, path = "/v1/sessions/{id}/join", tag = "session", params(("id" = String, Path,)),
    request_body = Join,
    responses(
        (status = 200, body = String, content_type = "text/plain",
            headers(("sallyport-watcher" = String, description = "Id of this joining"))),
        (status = "default", body = Problem)))]
async fn join_session(
    State(control): State<Control>,
    caller: Caller,
    PathText(id): PathText<SessionId>,
    JsonBody(body): JsonBody<Join>,
) -> Result<Response, HttpProblem> {
    let wish = Wish {
        has_keyboard: body.keyboard,
        channel: body.channel,
    };
    let joined = join::join(&control, caller, &id, wish).await?;
    let watcher = HeaderValue::from_str(joined.watcher_id.as_str())
        .map_err(|_| HttpProblem::bug("an id does not fit a header"))?;
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        ),
        (HeaderName::from_static(WATCHER_HEADER), watcher),
    ];
    Ok((headers, Body::from_stream(joined.shown)).into_response())
}

/// Types at a terminal of a session that the caller is joined to with the keyboard; the recording says
/// whose typing it is. Typing nothing says that the caller is still there.
#[utoipa::path(post, path = "/v1/sessions/{id}/input", tag = "session", params(("id" = String, Path,)),
    request_body = Typing,
    responses((status = 202), (status = "default", body = Problem)))]
async fn type_at_session(
    State(control): State<Control>,
    caller: Caller,
    PathText(id): PathText<SessionId>,
    JsonBody(body): JsonBody<Typing>,
) -> Result<StatusCode, HttpProblem> {
    let watcher: WatcherId = body
        .watcher
        .parse()
        .map_err(|error| HttpProblem::of(Fault::field("watcher", error)))?;
    let typed = match (body.channel, &body.input) {
        (Some(channel), Some(input)) => {
            let bytes = hex::decode(input.expose())
                .map_err(|_| HttpProblem::of(Fault::field("input", "is bytes in hex")))?;
            Some((channel, bytes))
        }
        (None, None) => None,
        (None, Some(_)) | (Some(_), None) => {
            return Err(HttpProblem::of(Fault::field(
                "input",
                "goes with `channel`, and neither without the other",
            )));
        }
    };
    join::type_at(&control, &caller, &id, &watcher, typed).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Says something to the person of a live session, on their terminal.
#[utoipa::path(post, path = "/v1/sessions/{id}/message", tag = "session", params(("id" = String, Path,)),
    request_body = Message,
    responses((status = 202), (status = "default", body = Problem)))]
async fn message_session(
    State(control): State<Control>,
    caller: Caller,
    PathText(id): PathText<SessionId>,
    JsonBody(body): JsonBody<Message>,
) -> Result<StatusCode, HttpProblem> {
    let chars = body.text.chars().count();
    if !(1..=MESSAGE_CHARS_MAX).contains(&chars) {
        let problem = "is 1 to 1,000 characters long";
        return Err(HttpProblem::of(Fault::field("text", problem)));
    }
    pause::say(&control, &caller.person, &id, &body.text).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Pauses a live session: nothing passes in either direction until it is resumed; its clocks go on.
#[utoipa::path(post, path = "/v1/sessions/{id}/pause", tag = "session", params(("id" = String, Path,)),
    responses((status = 200, body = SessionView), (status = "default", body = Problem)))]
async fn pause_session(
    State(control): State<Control>,
    caller: Caller,
    PathText(id): PathText<SessionId>,
) -> Result<Json<SessionView>, HttpProblem> {
    pause::pause(&control, &caller.person, &id, true).await?;
    let session = visible(&control, &caller, &id).await?;
    Ok(Json(view(&control, &session)))
}

/// Lets a paused session go on.
#[utoipa::path(post, path = "/v1/sessions/{id}/resume", tag = "session", params(("id" = String, Path,)),
    responses((status = 200, body = SessionView), (status = "default", body = Problem)))]
async fn resume_session(
    State(control): State<Control>,
    caller: Caller,
    PathText(id): PathText<SessionId>,
) -> Result<Json<SessionView>, HttpProblem> {
    pause::pause(&control, &caller.person, &id, false).await?;
    let session = visible(&control, &caller, &id).await?;
    Ok(Json(view(&control, &session)))
}
