//! Routes of leases.

use axum::{Json, extract::State};
use sallyport_api::rest::{
    page::{Page, PageQuery},
    problem::Problem,
    vault::LeaseView,
};
use sallyport_core::{
    authz::AdminAction,
    id::LeaseId,
    lease::{Lease, LeaseState},
};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::routes;

use super::super::{
    lease,
    store::{self, lease as lease_store},
};
use crate::kernel::{
    caller::Caller,
    control::Control,
    extract::{PathText, QueryFields},
    http::{Access, Routes},
    page::Wanted,
    problem::{Fault, HttpProblem},
};

/// The routes.
#[must_use]
pub fn routes() -> Routes {
    Routes::new()
        .route(Access::Action(AdminAction::LeaseList), routes!(list_leases))
        .route(
            Access::Action(AdminAction::LeaseRetry),
            routes!(retry_lease),
        )
}

/// Which leases to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct LeaseQuery {
    /// `next` of the page before.
    cursor: Option<String>,
    /// Items on a page, 1 to 500; 50 when absent.
    limit: Option<u32>,
    /// Only those whose revocation failed so often that somebody should look.
    #[serde(default)]
    stuck: bool,
}

fn view(lease: &Lease) -> LeaseView {
    LeaseView {
        id: lease.id.to_string(),
        grant_id: lease.grant_id.to_string(),
        session_id: lease.session_id.to_string(),
        engine: lease.engine.clone(),
        state: store::state_text(lease.state).to_owned(),
        expires_at: lease.expires_at,
        revoke_attempts: lease.revoke_attempts,
        last_failure: lease.last_failure.clone(),
        next_attempt_at: (lease.state == LeaseState::Revoking).then_some(lease.next_attempt_at),
    }
}

/// Lists leases, newest first.
#[utoipa::path(get, path = "/v1/leases", tag = "lease", params(LeaseQuery),
    responses((status = 200, body = Page<LeaseView>), (status = "default", body = Problem)))]
async fn list_leases(
    State(control): State<Control>,
    QueryFields(query): QueryFields<LeaseQuery>,
) -> Result<Json<Page<LeaseView>>, HttpProblem> {
    let wanted = Wanted::from_query(&PageQuery {
        cursor: query.cursor,
        limit: query.limit,
    })?;
    let mut reader = control.db().read().await?;
    let leases = lease_store::page(&mut reader, &wanted.cursor, wanted.load(), query.stuck).await?;
    let views = leases.iter().map(view).collect();
    Ok(Json(wanted.page(views, |view| view.id.clone())))
}

/// Has the revocation of a lease tried at once.
#[utoipa::path(post, path = "/v1/leases/{id}/retry", tag = "lease", params(("id" = String, Path,)),
    responses((status = 200, body = LeaseView), (status = "default", body = Problem)))]
async fn retry_lease(
    State(control): State<Control>,
    caller: Caller,
    PathText(id): PathText<LeaseId>,
) -> Result<Json<LeaseView>, HttpProblem> {
    let lease = lease::retry(&control, caller.actor(), &id)
        .await?
        .ok_or_else(|| HttpProblem::of(Fault::NotFound { noun: "lease" }))?;
    Ok(Json(view(&lease)))
}
