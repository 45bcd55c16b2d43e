//! Routes of enrolment, sign-in, and one's own keys and tokens.

use axum::{Json, extract::State, http::StatusCode};
use sallyport_api::rest::{
    page::{Page, PageQuery},
    problem::Problem,
    sign_in::{
        AddKey, ApiTokenView, CreateApiToken, CreatePass, CreatedApiToken, CreatedPass, Enrol,
        Enrolled, KeyView, SignIn, SignedIn, WhoAmI,
    },
};
use sallyport_core::{
    authz::AdminAction,
    id::{ApiTokenId, KeyId},
};
use utoipa_axum::routes;

use super::{
    enrolment, known_hosts, pass,
    sign_in::{self},
    ssh_key,
    store::{self, key::SshKey, token::ApiToken},
    token,
};
use crate::{
    directory,
    kernel::{
        caller::{Bearer, Caller, ClientAddress},
        control::Control,
        extract::{JsonBody, PathText, QueryFields},
        http::{Access, Routes},
        page::Wanted,
        problem::HttpProblem,
    },
};

/// The routes.
#[must_use]
pub fn routes() -> Routes {
    let show = Access::Action(AdminAction::SelfShow);
    let edit = Access::Action(AdminAction::SelfEdit);
    Routes::new()
        .route(
            Access::Anonymous("the one-time code is the proof"),
            routes!(enrol),
        )
        .route(
            Access::Anonymous("password and code are the proof"),
            routes!(sign_in),
        )
        .route(edit, routes!(sign_out))
        .route(show, routes!(who_am_i))
        .route(show, routes!(list_keys))
        .route(edit, routes!(add_key))
        .route(edit, routes!(remove_key))
        .route(show, routes!(list_tokens))
        .route(edit, routes!(create_token))
        .route(edit, routes!(revoke_token))
        .route(edit, routes!(create_pass))
}

/// Turns a one-time code into an account.
#[utoipa::path(post, path = "/v1/enrol", tag = "self", request_body = Enrol,
    responses((status = 201, body = Enrolled), (status = "default", body = Problem)))]
async fn enrol(
    State(control): State<Control>,
    ClientAddress(ip): ClientAddress,
    JsonBody(body): JsonBody<Enrol>,
) -> Result<(StatusCode, Json<Enrolled>), HttpProblem> {
    let enrolled = enrolment::enrol(&control, ip, &body).await?;
    let view = Enrolled {
        person: directory::view_of(&enrolled.person, true),
        totp_uri: enrolled.totp_uri,
    };
    Ok((StatusCode::CREATED, Json(view)))
}

/// Signs in with a password and a one-time code.
#[utoipa::path(post, path = "/v1/sign-in", tag = "self", request_body = SignIn,
    responses((status = 200, body = SignedIn), (status = "default", body = Problem)))]
async fn sign_in(
    State(control): State<Control>,
    ClientAddress(ip): ClientAddress,
    JsonBody(body): JsonBody<SignIn>,
) -> Result<Json<SignedIn>, HttpProblem> {
    let signed_in = sign_in::sign_in(&control, ip, &body).await?;
    Ok(Json(SignedIn {
        token: signed_in.token,
        expires_at: signed_in.expires_at,
        person: directory::view_of(&signed_in.person, true),
        ssh_certificate: signed_in.ssh_certificate,
        known_hosts: known_hosts::known_hosts(&control),
    }))
}

/// Ends this sign-in and its SSH certificate.
#[utoipa::path(post, path = "/v1/sign-out", tag = "self",
    responses((status = 204), (status = "default", body = Problem)))]
async fn sign_out(
    State(control): State<Control>,
    caller: Caller,
) -> Result<StatusCode, HttpProblem> {
    sign_in::sign_out(&control, &caller).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Shows who the caller is, and with what.
#[utoipa::path(get, path = "/v1/whoami", tag = "self",
    responses((status = 200, body = WhoAmI), (status = "default", body = Problem)))]
async fn who_am_i(caller: Caller) -> Json<WhoAmI> {
    let door = match caller.bearer {
        Bearer::SignIn { .. } => "sign_in",
        Bearer::ApiToken(_) => "api_token",
    };
    Json(WhoAmI {
        person: directory::view_of(&caller.person, true),
        door: door.to_owned(),
        strength: caller.authentication.strength.as_str().to_owned(),
        expires_at: caller.expires_at,
        scopes: caller.scopes.as_deref().map(names),
    })
}

fn names(scopes: &[AdminAction]) -> Vec<String> {
    scopes
        .iter()
        .map(|scope| scope.as_str().to_owned())
        .collect()
}

fn key_view(key: SshKey) -> KeyView {
    KeyView {
        id: key.id.to_string(),
        label: key.label,
        algorithm: key.algorithm,
        fingerprint: key.fingerprint,
        added_at: key.added_at,
    }
}

/// Lists the caller's SSH keys, newest first.
#[utoipa::path(get, path = "/v1/self/keys", tag = "self", params(PageQuery),
    responses((status = 200, body = Page<KeyView>), (status = "default", body = Problem)))]
async fn list_keys(
    State(control): State<Control>,
    caller: Caller,
    QueryFields(query): QueryFields<PageQuery>,
) -> Result<Json<Page<KeyView>>, HttpProblem> {
    let wanted = Wanted::from_query(&query)?;
    let mut reader = control.db().read().await?;
    let keys = store::key::ssh_keys(
        &mut reader,
        &caller.person.id,
        &wanted.cursor,
        wanted.load(),
    )
    .await?;
    let views = keys.into_iter().map(key_view).collect();
    Ok(Json(wanted.page(views, |view: &KeyView| view.id.clone())))
}

/// Registers an SSH key of the caller.
#[utoipa::path(post, path = "/v1/self/keys", tag = "self", request_body = AddKey,
    responses((status = 201, body = KeyView), (status = "default", body = Problem)))]
async fn add_key(
    State(control): State<Control>,
    caller: Caller,
    JsonBody(body): JsonBody<AddKey>,
) -> Result<(StatusCode, Json<KeyView>), HttpProblem> {
    let key = ssh_key::add(&control, &caller, &body).await?;
    Ok((StatusCode::CREATED, Json(key_view(key))))
}

/// Removes an SSH key of the caller.
#[utoipa::path(delete, path = "/v1/self/keys/{id}", tag = "self", params(("id" = String, Path,)),
    responses((status = 204), (status = "default", body = Problem)))]
async fn remove_key(
    State(control): State<Control>,
    caller: Caller,
    PathText(id): PathText<KeyId>,
) -> Result<StatusCode, HttpProblem> {
    ssh_key::remove(&control, &caller, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn token_view(token: &ApiToken) -> ApiTokenView {
    ApiTokenView {
        id: token.id.to_string(),
        label: token.label.clone(),
        scopes: names(&token.scopes),
        expires_at: token.expires_at,
        is_revoked: token.is_revoked,
    }
}

/// Lists the caller's API tokens, newest first.
#[utoipa::path(get, path = "/v1/self/tokens", tag = "self", params(PageQuery),
    responses((status = 200, body = Page<ApiTokenView>), (status = "default", body = Problem)))]
async fn list_tokens(
    State(control): State<Control>,
    caller: Caller,
    QueryFields(query): QueryFields<PageQuery>,
) -> Result<Json<Page<ApiTokenView>>, HttpProblem> {
    let wanted = Wanted::from_query(&query)?;
    let mut reader = control.db().read().await?;
    let tokens = store::token::api_tokens(
        &mut reader,
        &caller.person.id,
        &wanted.cursor,
        wanted.load(),
    )
    .await?;
    let views = tokens.iter().map(token_view).collect();
    Ok(Json(
        wanted.page(views, |view: &ApiTokenView| view.id.clone()),
    ))
}

/// Makes an API token of the caller.
#[utoipa::path(post, path = "/v1/self/tokens", tag = "self", request_body = CreateApiToken,
    responses((status = 201, body = CreatedApiToken), (status = "default", body = Problem)))]
async fn create_token(
    State(control): State<Control>,
    caller: Caller,
    JsonBody(body): JsonBody<CreateApiToken>,
) -> Result<(StatusCode, Json<CreatedApiToken>), HttpProblem> {
    let (token, text) = token::create(&control, &caller, &body).await?;
    let view = CreatedApiToken {
        api_token: token_view(&token),
        token: text,
    };
    Ok((StatusCode::CREATED, Json(view)))
}

/// Makes a pass: a password for minutes, for one account.
#[utoipa::path(post, path = "/v1/self/passes", tag = "self", request_body = CreatePass,
    responses((status = 201, body = CreatedPass), (status = "default", body = Problem)))]
async fn create_pass(
    State(control): State<Control>,
    caller: Caller,
    JsonBody(body): JsonBody<CreatePass>,
) -> Result<(StatusCode, Json<CreatedPass>), HttpProblem> {
    let created = pass::create(&control, &caller, &body).await?;
    Ok((StatusCode::CREATED, Json(created)))
}

/// Revokes an API token of the caller.
#[utoipa::path(delete, path = "/v1/self/tokens/{id}", tag = "self", params(("id" = String, Path,)),
    responses((status = 204), (status = "default", body = Problem)))]
async fn revoke_token(
    State(control): State<Control>,
    caller: Caller,
    PathText(id): PathText<ApiTokenId>,
) -> Result<StatusCode, HttpProblem> {
    token::revoke(&control, &caller, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
