//! Routes of the audit log. An export is made by the client from exact entries and one checkpoint, so
//! that what is verified is what was read.

use axum::{Json, extract::State};
use sallyport_api::rest::{
    audit::{CheckpointView, Entries, EntriesQuery},
    problem::Problem,
};
use sallyport_core::{
    authz::AdminAction,
    event::{Event, EventName, Events},
};
use utoipa_axum::routes;

use super::store::{self, Wanted};
use crate::kernel::{
    caller::Caller,
    control::Control,
    extract::QueryFields,
    http::{Access, Routes},
    problem::{Fault, HttpProblem},
};

const LIMIT_DEFAULT: u32 = 100;
const LIMIT_MAX: u32 = 1_000;

/// The routes.
#[must_use]
pub fn routes() -> Routes {
    let read = Access::Action(AdminAction::AuditRead);
    Routes::new()
        .route(read, routes!(list_entries))
        .route(read, routes!(show_checkpoint))
}

/// Reads entries: oldest first from `from`, or the newest when `from` is absent.
#[utoipa::path(get, path = "/v1/audit/entries", tag = "audit", params(EntriesQuery),
    responses((status = 200, body = Entries), (status = "default", body = Problem)))]
async fn list_entries(
    State(control): State<Control>,
    caller: Caller,
    QueryFields(query): QueryFields<EntriesQuery>,
) -> Result<Json<Entries>, HttpProblem> {
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(HttpProblem::of(Fault::field("limit", "is 1 to 1,000")));
    }
    let event = query.event.as_deref().unwrap_or("");
    let about = query.about.as_deref().unwrap_or("");
    for (field, text) in [("event", event), ("about", about)] {
        // `_` and `%` would be read as patterns; ids hold one `_`, which then matches more, never less.
        let is_fit = text.len() <= 64
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !is_fit {
            return Err(HttpProblem::of(Fault::field(
                field,
                "is an event name or an id",
            )));
        }
    }
    let wanted = Wanted {
        first: query.from.unwrap_or(0),
        event,
        about,
        limit,
        is_newest_first: query.from.is_none(),
    };
    // Reading the whole log from its beginning is an export, and on record.
    if query.from == Some(0) {
        let tx = control.db().begin(caller.actor()).await?;
        let exported = Event::new(EventName::AuditExported, "audit")
            .with("from", 0)
            .with("size", control.log().size());
        tx.commit(Events::one(exported)).await?;
    }
    let mut reader = control.db().read().await?;
    let mut found = store::entries(&mut reader, &wanted).await?;
    if wanted.is_newest_first {
        found.reverse();
    }
    let next = found
        .last()
        .map_or(wanted.first, |(seq, _)| seq.saturating_add(1));
    let entries = found.into_iter().map(|(_, entry)| entry).collect();
    Ok(Json(Entries { entries, next }))
}

/// Shows the newest signed checkpoint and the log's verifier key.
#[utoipa::path(get, path = "/v1/audit/checkpoint", tag = "audit",
    responses((status = 200, body = CheckpointView), (status = "default", body = Problem)))]
async fn show_checkpoint(State(control): State<Control>) -> Json<CheckpointView> {
    Json(CheckpointView {
        checkpoint: control.log().checkpoint(),
        verifier_key: control.log().verifier_key(),
    })
}
