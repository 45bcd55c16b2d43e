//! The route of `sallyport apply`.

use axum::{Json, extract::State};
use sallyport_api::rest::{
    apply::{Applied, ApplyQuery, Wanted},
    problem::Problem,
};
use sallyport_core::authz::AdminAction;
use utoipa_axum::routes;

use super::workflow::{self, ApplyError};
use crate::kernel::{
    caller::Caller,
    control::Control,
    extract::{JsonBody, QueryFields},
    http::{Access, Routes},
    problem::{Fault, Faulty, HttpProblem},
};

/// The route. What it changes takes further rights, each checked for what the document lists.
#[must_use]
pub fn routes() -> Routes {
    Routes::new().route(
        Access::Action(AdminAction::TargetList),
        routes!(apply_wanted),
    )
}

impl Faulty for ApplyError {
    fn fault(&self) -> Fault {
        match self {
            Self::MissingRight(action) => Fault::MissingRight(*action),
            Self::Document(faults) => Fault::Fields(
                faults
                    .iter()
                    .map(|fault| (fault.field.clone(), fault.problem.clone()))
                    .collect(),
            ),
            Self::NoTarget { index, .. } => Fault::field(format!("accounts[{index}].target"), self),
            Self::Account { index, source } => match source.fault() {
                Fault::Field { field, title } => Fault::Field {
                    field: format!("accounts[{index}].{field}"),
                    title,
                },
                other => other,
            },
            Self::Person { index, source } => match source.fault() {
                Fault::Field { field, title } => Fault::Field {
                    field: format!("people[{index}].{field}"),
                    title,
                },
                other => other,
            },
            Self::Panicked => Fault::Bug,
            Self::Store(error) => error.fault(),
        }
    }
}

/// Makes the listed targets, accounts, people and policies so: all or nothing. What is not listed stays.
#[utoipa::path(post, path = "/v1/apply", tag = "apply", params(ApplyQuery), request_body = Wanted,
    responses((status = 200, body = Applied), (status = "default", body = Problem)))]
async fn apply_wanted(
    State(control): State<Control>,
    caller: Caller,
    QueryFields(query): QueryFields<ApplyQuery>,
    JsonBody(wanted): JsonBody<Wanted>,
) -> Result<Json<Applied>, HttpProblem> {
    Ok(Json(
        workflow::apply(&control, &caller, wanted, query.dry_run).await?,
    ))
}
