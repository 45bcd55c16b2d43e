//! Routes of people.

use axum::{Json, extract::State, http::StatusCode};
use sallyport_api::rest::{
    directory::{CreatePerson, DisablePerson, EditPerson, EnrolmentCode, PersonView},
    page::{Page, PageQuery},
    problem::Problem,
};
use sallyport_core::{authz::AdminAction, principal::PersonName};
use utoipa_axum::routes;

use super::{
    store::{self, Listed},
    workflow::{self, DirectoryError},
};
use crate::kernel::{
    caller::Caller,
    control::Control,
    extract::{JsonBody, PathText, QueryFields},
    http::{Access, Routes},
    page::Wanted,
    problem::HttpProblem,
};

/// The routes.
#[must_use]
pub fn routes() -> Routes {
    let see = Access::Action(AdminAction::PersonList);
    let edit = Access::Action(AdminAction::PersonEdit);
    Routes::new()
        .route(see, routes!(list_people))
        .route(edit, routes!(create_person))
        .route(see, routes!(show_person))
        .route(edit, routes!(edit_person))
        .route(edit, routes!(issue_enrolment_code))
        .route(
            Access::Action(AdminAction::PersonDisable),
            routes!(disable_person),
        )
        .route(edit, routes!(enable_person))
}

fn view(listed: &Listed) -> PersonView {
    workflow::view_of(&listed.person, listed.is_enrolled)
}

/// Lists people, by name.
#[utoipa::path(get, path = "/v1/people", tag = "person", params(PageQuery),
    responses((status = 200, body = Page<PersonView>), (status = "default", body = Problem)))]
async fn list_people(
    State(control): State<Control>,
    QueryFields(query): QueryFields<PageQuery>,
) -> Result<Json<Page<PersonView>>, HttpProblem> {
    let wanted = Wanted::from_query(&query)?;
    let mut reader = control.db().read().await?;
    let people = store::page(&mut reader, &wanted.cursor, wanted.load()).await?;
    let views = people.iter().map(view).collect();
    Ok(Json(
        wanted.page(views, |view: &PersonView| view.name.clone()),
    ))
}

/// Makes a person and a one-time code for enrolling.
#[utoipa::path(post, path = "/v1/people", tag = "person", request_body = CreatePerson,
    responses((status = 201, body = EnrolmentCode), (status = "default", body = Problem)))]
async fn create_person(
    State(control): State<Control>,
    caller: Caller,
    JsonBody(body): JsonBody<CreatePerson>,
) -> Result<(StatusCode, Json<EnrolmentCode>), HttpProblem> {
    let (person, code) = workflow::create(&control, &caller, &body).await?;
    let view = EnrolmentCode {
        person: workflow::view_of(&person, false),
        code,
    };
    Ok((StatusCode::CREATED, Json(view)))
}

/// Shows a person.
#[utoipa::path(get, path = "/v1/people/{name}", tag = "person", params(("name" = String, Path,)),
    responses((status = 200, body = PersonView), (status = "default", body = Problem)))]
async fn show_person(
    State(control): State<Control>,
    PathText(name): PathText<PersonName>,
) -> Result<Json<PersonView>, HttpProblem> {
    let mut reader = control.db().read().await?;
    let listed = store::listed_by_name(&mut reader, &name)
        .await?
        .ok_or(DirectoryError::NotFound)?;
    Ok(Json(view(&listed)))
}

/// Changes a person; absent fields stay.
#[utoipa::path(patch, path = "/v1/people/{name}", tag = "person",
    params(("name" = String, Path,)), request_body = EditPerson,
    responses((status = 200, body = PersonView), (status = "default", body = Problem)))]
async fn edit_person(
    State(control): State<Control>,
    caller: Caller,
    PathText(name): PathText<PersonName>,
    JsonBody(body): JsonBody<EditPerson>,
) -> Result<Json<PersonView>, HttpProblem> {
    let listed = workflow::edit(&control, &caller, &name, &body).await?;
    Ok(Json(view(&listed)))
}

/// Issues another one-time code; using it replaces everything that proved the person before.
#[utoipa::path(post, path = "/v1/people/{name}/enrolment", tag = "person",
    params(("name" = String, Path,)),
    responses((status = 201, body = EnrolmentCode), (status = "default", body = Problem)))]
async fn issue_enrolment_code(
    State(control): State<Control>,
    caller: Caller,
    PathText(name): PathText<PersonName>,
) -> Result<(StatusCode, Json<EnrolmentCode>), HttpProblem> {
    let (listed, code) = workflow::issue_code(&control, &caller, &name).await?;
    let view = EnrolmentCode {
        person: view(&listed),
        code,
    };
    Ok((StatusCode::CREATED, Json(view)))
}

/// Disables a person at once: sign-ins, grants and live sessions end.
#[utoipa::path(post, path = "/v1/people/{name}/disable", tag = "person",
    params(("name" = String, Path,)), request_body = DisablePerson,
    responses((status = 200, body = PersonView), (status = "default", body = Problem)))]
async fn disable_person(
    State(control): State<Control>,
    caller: Caller,
    PathText(name): PathText<PersonName>,
    JsonBody(body): JsonBody<DisablePerson>,
) -> Result<Json<PersonView>, HttpProblem> {
    let listed = workflow::disable(&control, &caller, &name, &body.reason).await?;
    Ok(Json(view(&listed)))
}

/// Enables a person again.
#[utoipa::path(post, path = "/v1/people/{name}/enable", tag = "person",
    params(("name" = String, Path,)),
    responses((status = 200, body = PersonView), (status = "default", body = Problem)))]
async fn enable_person(
    State(control): State<Control>,
    caller: Caller,
    PathText(name): PathText<PersonName>,
) -> Result<Json<PersonView>, HttpProblem> {
    let listed = workflow::enable(&control, &caller, &name).await?;
    Ok(Json(view(&listed)))
}
