//! Routes of recordings.

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use sallyport_api::rest::{
    page::{Page, PageQuery},
    problem::Problem,
    recording::{ContentQuery, RecordingGroupView, RecordingView, VerificationView},
};
use sallyport_core::{
    authz::{AdminAction, Reason},
    id::{GrantId, RecordingId},
};
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;
use utoipa::IntoParams;
use utoipa_axum::routes;

use super::{
    export::ExportError,
    file::FileError,
    store::{self, RecordingGroup, RecordingRow},
    verification,
    workflow::{self, Content, RecordingError, Wanted},
};
use crate::kernel::{
    caller::Caller,
    control::Control,
    extract::{PathText, QueryFields},
    http::{Access, Routes},
    page,
    problem::{Chain, Fault, Faulty, HttpProblem},
};

/// The routes.
#[must_use]
pub fn routes() -> Routes {
    let play = Access::Action(AdminAction::RecordingPlay);
    Routes::new()
        .route(play, routes!(list_recordings))
        .route(play, routes!(list_recording_groups))
        .route(play, routes!(show_recording))
        .route(play, routes!(read_content))
        .route(play, routes!(verify_recording))
}

impl Faulty for RecordingError {
    fn fault(&self) -> Fault {
        match self {
            Self::NotFound => Fault::NotFound { noun: "recording" },
            Self::BadField { field, problem } => {
                Fault::field(*field, format!("`{field}` {problem}"))
            }
            Self::File(error) => error.fault(),
            Self::Key { .. } if self.is_sealed() => Fault::refused(Reason::VaultSealed),
            Self::Key { .. } => Fault::Conflict {
                title: "the key of this recording cannot be unwrapped".to_owned(),
                remedy: "restore the file of the recording from a backup made with this vault",
            },
            Self::Export(ExportError::NoTerminal) => Fault::field(
                "format",
                "no channel of this recording has a terminal; use `transcript` or `commands`",
            ),
            Self::Export(ExportError::Cast(error)) => Fault::field("channel", error),
            Self::RightEnded => Fault::Unauthenticated,
            Self::Export(ExportError::Transcript(_)) | Self::Panicked => Fault::Bug,
            Self::Store(error) => error.fault(),
        }
    }
}

impl Faulty for FileError {
    fn fault(&self) -> Fault {
        match self {
            Self::Missing { .. } => Fault::Conflict {
                title: "the file of this recording is missing".to_owned(),
                remedy: "restore the directory of recordings from a backup",
            },
            Self::Damaged { .. } | Self::Foreign { .. } => Fault::Conflict {
                title: Chain(self).to_string(),
                remedy: "restore the file from a backup; `sallyport recording verify` says what the audit log anchors",
            },
            Self::Io { .. } => Fault::Unavailable,
        }
    }
}

fn view(row: &RecordingRow) -> RecordingView {
    RecordingView {
        id: row.id.to_string(),
        session_id: row.session_id.to_string(),
        person: row.person.clone(),
        account: row.account.clone(),
        target: row.target.clone(),
        started_at: row.started_at,
        state: row.state.clone(),
        chunks: row.chunks,
        size_bytes: row.size_bytes,
        chain: row.chain.clone(),
    }
}

fn group_view(group: &RecordingGroup) -> RecordingGroupView {
    RecordingGroupView {
        grant_id: group.grant_id.to_string(),
        person: group.person.clone(),
        account: group.account.clone(),
        target: group.target.clone(),
        recordings: group.recordings,
        live: group.live,
        cut_off: group.cut_off,
        last_recording_id: group.last.to_string(),
        first_started_at: group.first_started_at,
        last_started_at: group.last_started_at,
        size_bytes: group.size_bytes,
    }
}

/// Which recordings to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct RecordingQuery {
    /// `next` of the page before.
    cursor: Option<String>,
    /// Items on a page, 1 to 500; 50 when absent.
    limit: Option<u32>,
    /// Only of sessions under this grant.
    #[param(value_type = Option<String>)]
    grant: Option<GrantId>,
}

/// Lists recordings, newest first.
#[utoipa::path(get, path = "/v1/recordings", tag = "recording", params(RecordingQuery),
    responses((status = 200, body = Page<RecordingView>), (status = "default", body = Problem)))]
async fn list_recordings(
    State(control): State<Control>,
    QueryFields(query): QueryFields<RecordingQuery>,
) -> Result<Json<Page<RecordingView>>, HttpProblem> {
    let wanted = page::Wanted::from_query(&PageQuery {
        cursor: query.cursor,
        limit: query.limit,
    })?;
    let grant = query.grant.as_ref();
    let mut reader = control.db().read().await?;
    let rows = store::page(&mut reader, grant, &wanted.cursor, wanted.load()).await?;
    Ok(Json(wanted.page(rows.iter().map(view).collect(), |view| {
        view.id.clone()
    })))
}

/// Lists recordings by the grant of their sessions, counted and summed up, the grant used last first.
#[utoipa::path(get, path = "/v1/recording-groups", tag = "recording", params(PageQuery),
    responses((status = 200, body = Page<RecordingGroupView>), (status = "default", body = Problem)))]
async fn list_recording_groups(
    State(control): State<Control>,
    QueryFields(query): QueryFields<PageQuery>,
) -> Result<Json<Page<RecordingGroupView>>, HttpProblem> {
    let wanted = page::Wanted::from_query(&query)?;
    let mut reader = control.db().read().await?;
    let groups = store::groups_page(&mut reader, &wanted.cursor, wanted.load()).await?;
    Ok(Json(
        wanted.page(groups.iter().map(group_view).collect(), |view| {
            view.last_recording_id.clone()
        }),
    ))
}

/// Shows a recording.
#[utoipa::path(get, path = "/v1/recordings/{id}", tag = "recording", params(("id" = String, Path,)),
    responses((status = 200, body = RecordingView), (status = "default", body = Problem)))]
async fn show_recording(
    State(control): State<Control>,
    PathText(id): PathText<RecordingId>,
) -> Result<Json<RecordingView>, HttpProblem> {
    Ok(Json(view(&workflow::find(&control, &id).await?)))
}

/// Plays or exports a recording. That it was read is on record before the first byte is sent. A body
/// that breaks off instead of ending is not the whole.
#[utoipa::path(get, path = "/v1/recordings/{id}/content", tag = "recording",
    params(("id" = String, Path,), ContentQuery),
    responses(
        (status = 200, body = String, content_type = "application/x-asciicast"),
        (status = "default", body = Problem)))]
async fn read_content(
    State(control): State<Control>,
    caller: Caller,
    PathText(id): PathText<RecordingId>,
    QueryFields(query): QueryFields<ContentQuery>,
) -> Result<Response, HttpProblem> {
    let wanted = Wanted::parse(query.format.as_deref(), query.channel, query.follow)?;
    let body = match workflow::open(&control, caller, &id, &wanted).await? {
        Content::Playback(playback) => {
            let text = playback.into_stream().await.map_err(RecordingError::from)?;
            Body::from_stream(text)
        }
        Content::Container { file, size_bytes } => {
            let file = tokio::fs::File::from_std(file).take(size_bytes);
            Body::from_stream(ReaderStream::new(file))
        }
    };
    let (media_type, ending) = wanted.media();
    let disposition = HeaderValue::from_str(&format!("attachment; filename=\"{id}.{ending}\""))
        .map_err(|_| HttpProblem::bug("an id does not fit a header"))?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (header::CONTENT_DISPOSITION, disposition),
    ];
    Ok((headers, body).into_response())
}

/// Checks a recording's file against what the audit log anchors. Needs no key and shows no content.
#[utoipa::path(get, path = "/v1/recordings/{id}/verification", tag = "recording",
    params(("id" = String, Path,)),
    responses((status = 200, body = VerificationView), (status = "default", body = Problem)))]
async fn verify_recording(
    State(control): State<Control>,
    PathText(id): PathText<RecordingId>,
) -> Result<Json<VerificationView>, HttpProblem> {
    Ok(Json(verification::verify(&control, &id).await?))
}
