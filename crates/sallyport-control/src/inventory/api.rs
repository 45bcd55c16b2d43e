//! Routes of targets and accounts.

use axum::{Json, extract::State, http::StatusCode};
use sallyport_api::rest::{
    inventory::{AccountSpec, AccountView, TargetSpec, TargetView},
    page::{Page, PageQuery},
    problem::Problem,
};
use sallyport_core::{
    authz::AdminAction,
    inventory::{Account, Selector, Target, TargetName},
};
use utoipa_axum::routes;

use super::{
    store,
    workflow::{self, InventoryError},
};
use crate::{
    kernel::{
        caller::Caller,
        control::Control,
        extract::{JsonBody, PathText, QueryFields},
        http::{Access, Routes},
        page::Wanted,
        problem::{Fault, Faulty, HttpProblem},
        statement::Sql,
    },
    secret,
};

/// The routes.
#[must_use]
pub fn routes() -> Routes {
    let see = Access::Action(AdminAction::TargetList);
    let edit = Access::Action(AdminAction::TargetEdit);
    Routes::new()
        .route(see, routes!(list_targets))
        .route(edit, routes!(create_target))
        .route(see, routes!(show_target))
        .route(edit, routes!(replace_target))
        .route(edit, routes!(remove_target))
        .route(edit, routes!(create_account))
        .route(see, routes!(show_account))
        .route(edit, routes!(replace_account))
        .route(edit, routes!(remove_account))
}

impl Faulty for InventoryError {
    fn fault(&self) -> Fault {
        match self {
            Self::NotFound { noun } => Fault::NotFound { noun },
            Self::Exists { noun } => Fault::Conflict {
                title: format!("there is a {noun} of this name already"),
                remedy: "use another name, or change the one there is",
            },
            Self::BadField { field, problem } => Fault::field(*field, problem),
            Self::Store(error) => error.fault(),
        }
    }
}

fn spec(target: &Target) -> TargetSpec {
    TargetSpec {
        name: target.name.to_string(),
        protocol: target.protocol.clone(),
        address: target.address.clone(),
        labels: target.labels.clone(),
        sensitivity: target.sensitivity.as_str().to_owned(),
        host_keys: target.host_keys.clone(),
        pins_first_host_key: target.pins_first_host_key,
    }
}

async fn view(sql: &mut dyn Sql, target: &Target) -> Result<TargetView, InventoryError> {
    let accounts = store::accounts_of(sql, &target.id).await?;
    Ok(TargetView {
        id: target.id.to_string(),
        spec: spec(target),
        accounts: accounts
            .iter()
            .map(|account| account.name.to_string())
            .collect(),
    })
}

async fn account_view(
    sql: &mut dyn Sql,
    target: &Target,
    account: &Account,
) -> Result<AccountView, InventoryError> {
    let (rotation, next_rotation_at) = secret::rotation::standing(sql, &account.id)
        .await?
        .unwrap_or_default();
    Ok(AccountView {
        id: account.id.to_string(),
        spec: AccountSpec {
            target: target.name.to_string(),
            name: account.name.to_string(),
            engine: account.engine.clone(),
            settings: serde_json::from_value(account.settings.clone()).unwrap_or_default(),
        },
        has_secret: secret::has_secret(sql, account).await?,
        rotated_at: rotation.rotated_at,
        next_rotation_at,
        rotation_failure: rotation.last_failure,
    })
}

async fn find(sql: &mut dyn Sql, selector: &Selector) -> Result<(Target, Account), InventoryError> {
    let target = store::target_by_name(sql, &selector.target)
        .await?
        .ok_or(InventoryError::NotFound { noun: "target" })?;
    let account = store::account_by_name(sql, &target.id, &selector.account)
        .await?
        .ok_or(InventoryError::NotFound { noun: "account" })?;
    Ok((target, account))
}

/// Lists targets by name.
#[utoipa::path(get, path = "/v1/targets", tag = "target", params(PageQuery),
    responses((status = 200, body = Page<TargetView>), (status = "default", body = Problem)))]
async fn list_targets(
    State(control): State<Control>,
    QueryFields(query): QueryFields<PageQuery>,
) -> Result<Json<Page<TargetView>>, HttpProblem> {
    let wanted = Wanted::from_query(&query)?;
    let mut reader = control.db().read().await?;
    let mut views = Vec::new();
    for target in store::page(&mut reader, &wanted.cursor, wanted.load()).await? {
        views.push(view(&mut reader, &target).await?);
    }
    Ok(Json(wanted.page(views, |view| view.spec.name.clone())))
}

/// Makes a target.
#[utoipa::path(post, path = "/v1/targets", tag = "target", request_body = TargetSpec,
    responses((status = 201, body = TargetView), (status = "default", body = Problem)))]
async fn create_target(
    State(control): State<Control>,
    caller: Caller,
    JsonBody(body): JsonBody<TargetSpec>,
) -> Result<(StatusCode, Json<TargetView>), HttpProblem> {
    let target = workflow::create_target(&control, caller.actor(), &body).await?;
    let mut reader = control.db().read().await?;
    Ok((StatusCode::CREATED, Json(view(&mut reader, &target).await?)))
}

/// Shows a target.
#[utoipa::path(get, path = "/v1/targets/{name}", tag = "target", params(("name" = String, Path,)),
    responses((status = 200, body = TargetView), (status = "default", body = Problem)))]
async fn show_target(
    State(control): State<Control>,
    PathText(name): PathText<TargetName>,
) -> Result<Json<TargetView>, HttpProblem> {
    let mut reader = control.db().read().await?;
    let target = store::target_by_name(&mut reader, &name)
        .await?
        .ok_or(InventoryError::NotFound { noun: "target" })?;
    Ok(Json(view(&mut reader, &target).await?))
}

/// Changes a target; its name stays.
#[utoipa::path(put, path = "/v1/targets/{name}", tag = "target", params(("name" = String, Path,)),
    request_body = TargetSpec,
    responses((status = 200, body = TargetView), (status = "default", body = Problem)))]
async fn replace_target(
    State(control): State<Control>,
    caller: Caller,
    PathText(name): PathText<TargetName>,
    JsonBody(body): JsonBody<TargetSpec>,
) -> Result<Json<TargetView>, HttpProblem> {
    if body.name != name.as_str() {
        return Err(HttpProblem::of(Fault::field(
            "name",
            "is not the name in the path; names do not change",
        )));
    }
    let target = workflow::replace_target(&control, caller.actor(), &body).await?;
    let mut reader = control.db().read().await?;
    Ok(Json(view(&mut reader, &target).await?))
}

/// Removes a target with its accounts; live sessions on it end.
#[utoipa::path(delete, path = "/v1/targets/{name}", tag = "target", params(("name" = String, Path,)),
    responses((status = 204), (status = "default", body = Problem)))]
async fn remove_target(
    State(control): State<Control>,
    caller: Caller,
    PathText(name): PathText<TargetName>,
) -> Result<StatusCode, HttpProblem> {
    workflow::remove_target(&control, caller.actor(), &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes an account.
#[utoipa::path(post, path = "/v1/accounts", tag = "account", request_body = AccountSpec,
    responses((status = 201, body = AccountView), (status = "default", body = Problem)))]
async fn create_account(
    State(control): State<Control>,
    caller: Caller,
    JsonBody(body): JsonBody<AccountSpec>,
) -> Result<(StatusCode, Json<AccountView>), HttpProblem> {
    let account = workflow::create_account(&control, caller.actor(), &body).await?;
    Ok((StatusCode::CREATED, Json(shown(&control, &account).await?)))
}

async fn shown(control: &Control, account: &Account) -> Result<AccountView, InventoryError> {
    let mut reader = control.db().read().await?;
    let target = store::target_by_id(&mut reader, &account.target_id)
        .await?
        .ok_or(InventoryError::NotFound { noun: "target" })?;
    account_view(&mut reader, &target, account).await
}

/// Shows an account, named `account@target`.
#[utoipa::path(get, path = "/v1/accounts/{selector}", tag = "account", params(("selector" = String, Path,)),
    responses((status = 200, body = AccountView), (status = "default", body = Problem)))]
async fn show_account(
    State(control): State<Control>,
    PathText(selector): PathText<Selector>,
) -> Result<Json<AccountView>, HttpProblem> {
    let mut reader = control.db().read().await?;
    let (target, account) = find(&mut reader, &selector).await?;
    Ok(Json(account_view(&mut reader, &target, &account).await?))
}

/// Changes an account; its name stays.
#[utoipa::path(put, path = "/v1/accounts/{selector}", tag = "account", params(("selector" = String, Path,)),
    request_body = AccountSpec,
    responses((status = 200, body = AccountView), (status = "default", body = Problem)))]
async fn replace_account(
    State(control): State<Control>,
    caller: Caller,
    PathText(selector): PathText<Selector>,
    JsonBody(body): JsonBody<AccountSpec>,
) -> Result<Json<AccountView>, HttpProblem> {
    if body.name != selector.account.as_str() || body.target != selector.target.as_str() {
        return Err(HttpProblem::of(Fault::field(
            "name",
            "is not the account in the path; names do not change",
        )));
    }
    let account = workflow::replace_account(&control, caller.actor(), &body).await?;
    Ok(Json(shown(&control, &account).await?))
}

/// Removes an account; live sessions on it end.
#[utoipa::path(delete, path = "/v1/accounts/{selector}", tag = "account", params(("selector" = String, Path,)),
    responses((status = 204), (status = "default", body = Problem)))]
async fn remove_account(
    State(control): State<Control>,
    caller: Caller,
    PathText(selector): PathText<Selector>,
) -> Result<StatusCode, HttpProblem> {
    workflow::remove_account(
        &control,
        caller.actor(),
        &selector.target,
        &selector.account,
    )
    .await?;
    Ok(StatusCode::NO_CONTENT)
}
