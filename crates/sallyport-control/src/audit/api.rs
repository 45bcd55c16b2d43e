//! Routes of the audit log. An export is made by the client from exact entries and one checkpoint, so
//! that what is verified is what was read.

use axum::{Json, extract::State};
use sallyport_api::rest::{
    audit::{
        CheckpointView, ConsistencyProofView, ConsistencyQuery, Entries, EntriesQuery,
        InclusionProofView, InclusionQuery,
    },
    problem::Problem,
};
use sallyport_core::{
    authz::AdminAction,
    event::{Event, EventName, Events},
};
use sallyport_evidence::log::tree::TreeHash;
use utoipa_axum::routes;

use super::{
    proof,
    store::{self, Wanted},
};
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
        .route(read, routes!(prove_inclusion))
        .route(read, routes!(prove_consistency))
}

/// Reads entries: oldest first from `from`, or the newest when `from` is absent.
///
/// Reading by number is how the log is exported, so every stretch read that way is on record.
#[utoipa::path(get, path = "/v1/audit/entries", tag = "audit", params(EntriesQuery),
    responses((status = 200, body = Entries), (status = "default", body = Problem)))]
async fn list_entries(
    State(control): State<Control>,
    caller: Caller,
    QueryFields(query): QueryFields<EntriesQuery>,
) -> Result<Json<Entries>, HttpProblem> {
    let wanted = wanted(&query)?;
    if let Some(from) = query.from {
        let exported = Event::new(EventName::AuditExported, "audit")
            .with("from", from)
            .with("size", wanted.limit);
        let tx = control.db().begin(caller.actor()).await?;
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

fn wanted(query: &EntriesQuery) -> Result<Wanted<'_>, HttpProblem> {
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(HttpProblem::of(Fault::field("limit", "is 1 to 1,000")));
    }
    let event = query.event.as_deref().unwrap_or("");
    let about = query.about.as_deref().unwrap_or("");
    for (field, text) in [("event", event), ("about", about)] {
        // `%` would be read as a pattern; so is `_`, which ids hold: it then matches more, never less.
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
    Ok(Wanted {
        first: query.from.unwrap_or(0),
        event,
        about,
        limit,
        is_newest_first: query.from.is_none(),
    })
}

/// Shows the newest signed checkpoint and the log's verifier key.
#[utoipa::path(get, path = "/v1/audit/checkpoint", tag = "audit",
    responses((status = 200, body = CheckpointView), (status = "default", body = Problem)))]
async fn show_checkpoint(State(control): State<Control>) -> Json<CheckpointView> {
    Json(CheckpointView {
        checkpoint: control.log().checkpoint(),
        verifier_key: control.log().verifier_key().to_string(),
    })
}

/// Proves that an entry is in the log.
#[utoipa::path(get, path = "/v1/audit/proofs/inclusion", tag = "audit", params(InclusionQuery),
    responses((status = 200, body = InclusionProofView), (status = "default", body = Problem)))]
async fn prove_inclusion(
    State(control): State<Control>,
    QueryFields(query): QueryFields<InclusionQuery>,
) -> Result<Json<InclusionProofView>, HttpProblem> {
    let size = query.size.unwrap_or_else(|| control.log().size());
    let proof = proof::inclusion(&control, query.index, size).await?;
    Ok(Json(InclusionProofView {
        index: proof.index,
        size: proof.size,
        path: proof.path.iter().map(TreeHash::to_string).collect(),
    }))
}

/// Proves that a log continues an earlier state of itself.
#[utoipa::path(get, path = "/v1/audit/proofs/consistency", tag = "audit", params(ConsistencyQuery),
    responses((status = 200, body = ConsistencyProofView), (status = "default", body = Problem)))]
async fn prove_consistency(
    State(control): State<Control>,
    QueryFields(query): QueryFields<ConsistencyQuery>,
) -> Result<Json<ConsistencyProofView>, HttpProblem> {
    let size = query.size.unwrap_or_else(|| control.log().size());
    let proof = proof::consistency(&control, query.from, size).await?;
    Ok(Json(ConsistencyProofView {
        from: proof.from,
        size: proof.to,
        path: proof.path.iter().map(TreeHash::to_string).collect(),
    }))
}
