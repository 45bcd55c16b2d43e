//! Routes of locks.

use std::time::Duration;

use axum::{Json, extract::State, http::StatusCode};
use sallyport_api::rest::{
    lock::{AddLock, LockView},
    page::Page,
    problem::Problem,
};
use sallyport_core::{
    authz::AdminAction,
    id::LockId,
    inventory::{AccountName, TargetName},
    lock::{Lock, LockScope},
    principal::PersonName,
};
use utoipa_axum::routes;

use super::{
    store,
    workflow::{self, LockError},
};
use crate::{
    directory, inventory,
    kernel::{
        caller::Caller,
        control::Control,
        database::StoreError,
        extract::{JsonBody, PathText},
        http::{Access, Routes},
        problem::{Fault, Faulty, HttpProblem},
        statement::Sql,
    },
};

/// The routes.
#[must_use]
pub fn routes() -> Routes {
    Routes::new()
        .route(Access::Action(AdminAction::LockAdd), routes!(list))
        .route(Access::Action(AdminAction::LockAdd), routes!(add))
        .route(Access::Action(AdminAction::LockRemove), routes!(remove))
}

impl Faulty for LockError {
    fn fault(&self) -> Fault {
        match self {
            Self::NotFound => Fault::NotFound { noun: "lock" },
            Self::BadField { field, problem } => Fault::field(*field, problem),
            Self::TooMany => Fault::Conflict {
                title: self.to_string(),
                remedy: "remove locks that are no longer needed, or lock everything",
            },
            Self::Store(error) => error.fault(),
        }
    }
}

async fn view(sql: &mut dyn Sql, lock: &Lock) -> Result<LockView, StoreError> {
    let scope = match &lock.scope {
        LockScope::Person(id) => {
            let name = directory::person_by_id(sql, id)
                .await?
                .map(|person| person.name.to_string());
            format!("person {}", name.unwrap_or_else(|| id.to_string()))
        }
        LockScope::Target(id) => {
            let name = inventory::target_by_id(sql, id)
                .await?
                .map(|target| target.name.to_string());
            format!("target {}", name.unwrap_or_else(|| id.to_string()))
        }
        LockScope::Account(id) => match inventory::account_by_id(sql, id).await? {
            Some(account) => {
                let target = inventory::target_by_id(sql, &account.target_id).await?;
                format!(
                    "account {}@{}",
                    account.name,
                    target.map_or_else(String::new, |t| t.name.to_string())
                )
            }
            None => format!("account {id}"),
        },
        LockScope::Everything => "everything".to_owned(),
    };
    Ok(LockView {
        id: lock.id.to_string(),
        scope,
        reason: lock.reason.clone(),
        until: lock.until,
    })
}

/// Lists locks in force.
#[utoipa::path(get, path = "/v1/locks", tag = "lock",
    responses((status = 200, body = Page<LockView>), (status = "default", body = Problem)))]
async fn list(State(control): State<Control>) -> Result<Json<Page<LockView>>, HttpProblem> {
    let mut reader = control.db().read().await?;
    let mut items = Vec::new();
    for lock in store::in_force(&mut reader, control.now()).await? {
        items.push(view(&mut reader, &lock).await?);
    }
    Ok(Json(Page { items, next: None }))
}

/// Sets a lock; live sessions it stops end at once.
#[utoipa::path(post, path = "/v1/locks", tag = "lock", request_body = AddLock,
    responses((status = 201, body = LockView), (status = "default", body = Problem)))]
async fn add(
    State(control): State<Control>,
    caller: Caller,
    JsonBody(body): JsonBody<AddLock>,
) -> Result<(StatusCode, Json<LockView>), HttpProblem> {
    let scope = scope(&control, &body).await?;
    let ttl = body.ttl_s.map(Duration::from_secs);
    let lock = workflow::add(&control, caller.actor(), scope, &body.reason, ttl).await?;
    let mut reader = control.db().read().await?;
    Ok((StatusCode::CREATED, Json(view(&mut reader, &lock).await?)))
}

async fn scope(control: &Control, body: &AddLock) -> Result<LockScope, HttpProblem> {
    let mut reader = control.db().read().await?;
    let missing = |noun| HttpProblem::of(Fault::NotFound { noun });
    match (&body.person, &body.target, &body.account, body.everything) {
        (Some(person), None, None, false) => {
            let name: PersonName = person
                .parse()
                .map_err(|error| HttpProblem::of(Fault::field("person", error)))?;
            let person = directory::person_by_name(&mut reader, &name)
                .await?
                .ok_or_else(|| missing("person"))?;
            Ok(LockScope::Person(person.id))
        }
        (None, Some(target), account, false) => {
            let name: TargetName = target
                .parse()
                .map_err(|error| HttpProblem::of(Fault::field("target", error)))?;
            let target = inventory::target_by_name(&mut reader, &name)
                .await?
                .ok_or_else(|| missing("target"))?;
            let Some(account) = account else {
                return Ok(LockScope::Target(target.id));
            };
            let name: AccountName = account
                .parse()
                .map_err(|error| HttpProblem::of(Fault::field("account", error)))?;
            let account = inventory::account_by_name(&mut reader, &target.id, &name)
                .await?
                .ok_or_else(|| missing("account"))?;
            Ok(LockScope::Account(account.id))
        }
        (None, None, None, true) => Ok(LockScope::Everything),
        _ => Err(HttpProblem::of(Fault::field(
            "person",
            "say exactly one of `person`, `target` (with or without `account`), `everything`",
        ))),
    }
}

/// Removes a lock.
#[utoipa::path(delete, path = "/v1/locks/{id}", tag = "lock", params(("id" = String, Path,)),
    responses((status = 204), (status = "default", body = Problem)))]
async fn remove(
    State(control): State<Control>,
    caller: Caller,
    PathText(id): PathText<LockId>,
) -> Result<StatusCode, HttpProblem> {
    workflow::remove(&control, caller.actor(), &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
