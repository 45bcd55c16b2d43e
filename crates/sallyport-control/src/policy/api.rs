//! Routes of policies.

use axum::{Json, extract::State, http::StatusCode};
use sallyport_api::rest::{
    page::{Page, PageQuery},
    policy::{BundleFiles, BundleView, Explain, Explanation, Rollback},
    problem::Problem,
};
use sallyport_core::{authz::AdminAction, principal::PersonName};
use utoipa_axum::routes;

use super::{
    store::{self, VersionRow},
    workflow::{self, Asked, PolicyChangeError},
};
use crate::{
    access::workflow::AccessError,
    directory,
    kernel::{
        caller::{Caller, ClientAddress},
        control::Control,
        extract::{JsonBody, QueryFields},
        http::{Access, Routes},
        page::Wanted,
        problem::{Fault, Faulty, HttpProblem},
    },
};

/// The routes.
#[must_use]
pub fn routes() -> Routes {
    let show = Access::Action(AdminAction::PolicyShow);
    let apply = Access::Action(AdminAction::PolicyApply);
    Routes::new()
        .route(show, routes!(list_versions))
        .route(show, routes!(show_current))
        .route(apply, routes!(apply_bundle))
        .route(apply, routes!(roll_back))
        .route(show, routes!(explain))
}

impl Faulty for PolicyChangeError {
    fn fault(&self) -> Fault {
        match self {
            Self::Bundle(error) => Fault::field("files", error),
            Self::TestsFail { .. } => Fault::field("files", self),
            Self::Unchanged => Fault::Conflict {
                title: self.to_string(),
                remedy: "nothing needs to be done",
            },
            Self::NoVersion => Fault::NotFound {
                noun: "policy version",
            },
            Self::Store(error) => error.fault(),
        }
    }
}

fn view(row: &VersionRow, current: u64) -> BundleView {
    BundleView {
        version: row.version,
        bundle: row.hash.clone(),
        applied_by: row.applied_by.clone(),
        applied_at: row.applied_at,
        is_current: row.version == current,
    }
}

/// Lists versions, newest first.
#[utoipa::path(get, path = "/v1/policies", tag = "policy", params(PageQuery),
    responses((status = 200, body = Page<BundleView>), (status = "default", body = Problem)))]
async fn list_versions(
    State(control): State<Control>,
    QueryFields(query): QueryFields<PageQuery>,
) -> Result<Json<Page<BundleView>>, HttpProblem> {
    let wanted = Wanted::from_query(&query)?;
    let cursor: u64 = match wanted.cursor.as_str() {
        "" => 0,
        text => text
            .parse()
            .map_err(|_| HttpProblem::of(Fault::field("cursor", "is a number")))?,
    };
    let mut reader = control.db().read().await?;
    let current = store::latest(&mut reader)
        .await?
        .map_or(0, |(row, _)| row.version);
    let rows = store::page(&mut reader, cursor, wanted.load()).await?;
    let views = rows.iter().map(|row| view(row, current)).collect();
    Ok(Json(wanted.page(views, |view| view.version.to_string())))
}

/// Shows the files of the bundle in force.
#[utoipa::path(get, path = "/v1/policies/current", tag = "policy",
    responses((status = 200, body = BundleFiles), (status = "default", body = Problem)))]
async fn show_current(State(control): State<Control>) -> Json<BundleFiles> {
    Json(BundleFiles {
        files: control.policies().current().files().clone(),
    })
}

/// Brings a bundle into force; one that does not load or fails its own tests is refused whole.
#[utoipa::path(post, path = "/v1/policies", tag = "policy", request_body = BundleFiles,
    responses((status = 201, body = BundleView), (status = "default", body = Problem)))]
async fn apply_bundle(
    State(control): State<Control>,
    caller: Caller,
    JsonBody(body): JsonBody<BundleFiles>,
) -> Result<(StatusCode, Json<BundleView>), HttpProblem> {
    let row = workflow::apply(&control, &caller.person, &body.files).await?;
    Ok((StatusCode::CREATED, Json(view(&row, row.version))))
}

/// Brings an earlier version back, as a new version.
#[utoipa::path(post, path = "/v1/policies/rollback", tag = "policy", request_body = Rollback,
    responses((status = 201, body = BundleView), (status = "default", body = Problem)))]
async fn roll_back(
    State(control): State<Control>,
    caller: Caller,
    JsonBody(body): JsonBody<Rollback>,
) -> Result<(StatusCode, Json<BundleView>), HttpProblem> {
    let row = workflow::rollback(&control, &caller.person, body.version).await?;
    Ok((StatusCode::CREATED, Json(view(&row, row.version))))
}

/// Explains what would be decided now, and what would change the answer.
#[utoipa::path(post, path = "/v1/policies/explain", tag = "policy", request_body = Explain,
    responses((status = 200, body = Explanation), (status = "default", body = Problem)))]
async fn explain(
    State(control): State<Control>,
    ClientAddress(ip): ClientAddress,
    JsonBody(body): JsonBody<Explain>,
) -> Result<Json<Explanation>, HttpProblem> {
    let name: PersonName = body
        .person
        .parse()
        .map_err(|error| HttpProblem::of(Fault::field("person", error)))?;
    let mut reader = control.db().read().await?;
    let person = directory::person_by_name(&mut reader, &name)
        .await?
        .ok_or(AccessError::NotFound { noun: "person" })?;
    drop(reader);
    let is_session = match body.action.as_deref() {
        None | Some("request.create") => false,
        Some("session.open") => true,
        Some(_) => {
            return Err(HttpProblem::of(Fault::field(
                "action",
                "is `request.create` or `session.open`",
            )));
        }
    };
    let asked = Asked {
        person,
        account: body
            .account
            .parse()
            .map_err(|error| HttpProblem::of(Fault::field("account", error)))?,
        target: body
            .target
            .parse()
            .map_err(|error| HttpProblem::of(Fault::field("target", error)))?,
        is_session,
        reason: body.reason,
        ticket: body.ticket,
    };
    let (question, explanation) = workflow::explain(&control, &asked, ip)
        .await?
        .ok_or(AccessError::NotFound { noun: "account" })?;
    let place = |policy: sallyport_policy::PolicyShown| {
        format!("{} ({}:{})", policy.id, policy.file, policy.line)
    };
    Ok(Json(Explanation {
        outcome: explanation.outcome.to_owned(),
        reasons: explanation.reasons,
        unmet: explanation.missing,
        remedies: explanation
            .changes
            .into_iter()
            .map(|change| format!("{} -> {}", change.change, change.outcome))
            .collect(),
        determining: explanation.determining.into_iter().map(place).collect(),
        demanding: explanation.demanding.into_iter().map(place).collect(),
        bundle: Some(control.policies().current().hash().to_string()),
        facts_hash: question.facts_hash(),
    }))
}
