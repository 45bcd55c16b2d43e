//! Routes with their access rule, and the guard in front of them.
//!
//! Each slice returns [`Routes`]; [`crate::routes::all`] puts them together. The guard finds the declared
//! rule of the matched route, authenticates the bearer, and checks roles and scopes before a route sees
//! the request. Ownership of single objects is checked by the slice that holds them.
//!
//! INVARIANT: a route cannot be added without [`Access`]; a matched route that is not in the declared
//! table is refused.
//!
//! Not here: sockets and TLS ([`super::listener`]), who a token belongs to ([`crate::authn`]).

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use sallyport_core::authz::AdminAction;
use utoipa::openapi::{
    OpenApi, PathItem,
    extensions::ExtensionsBuilder,
    path::Operation,
    security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use super::{
    caller::ClientAddress,
    control::Control,
    problem::{Fault, HttpProblem},
    task,
};

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whoever may do this action.
    Action(AdminAction),
    /// Anybody, for this reason.
    Anonymous(&'static str),
}

/// One declared route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteName {
    /// As matched: `/v1/people/{name}`.
    pub path: String,
    /// Upper case.
    pub method: String,
}

/// Routes, each with its access rule.
#[derive(Clone, Default)]
pub struct Routes {
    router: OpenApiRouter<Control>,
    declared: BTreeMap<RouteName, Access>,
}

impl std::fmt::Debug for Routes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Routes")
            .field("declared", &self.declared)
            .finish_non_exhaustive()
    }
}

impl Routes {
    /// No routes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what `utoipa_axum::routes!` made of one route, with its access rule.
    #[must_use]
    pub fn route(mut self, access: Access, mut route: UtoipaMethodRouter<Control>) -> Self {
        for (path, item) in &mut route.1.paths {
            for (method, operation) in operations(item) {
                describe(operation, access);
                self.declared.insert(
                    RouteName {
                        path: path.clone(),
                        method: method.to_owned(),
                    },
                    access,
                );
            }
        }
        self.router = self.router.routes(route);
        self
    }

    /// These and those of another slice.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.declared.extend(other.declared);
        self
    }

    /// The declared table: every route with its access rule.
    #[must_use]
    pub const fn declared(&self) -> &BTreeMap<RouteName, Access> {
        &self.declared
    }

    /// The OpenAPI document of these routes.
    #[must_use]
    pub fn openapi(&self) -> OpenApi {
        let mut document = self.router.get_openapi().clone();
        document.info.title = "Sallyport".to_owned();
        document.info.description =
            Some("Asks for, decides, opens, ends and proves privileged access.".to_owned());
        document.info.version = env!("CARGO_PKG_VERSION").to_owned();
        document.info.license = None;
        document.info.contact = None;
        document
            .components
            .get_or_insert_default()
            .add_security_scheme(
                BEARER,
                SecurityScheme::Http(
                    HttpBuilder::new()
                        .scheme(HttpAuthScheme::Bearer)
                        .description(Some("A sign-in token or an API token."))
                        .build(),
                ),
            );
        document
    }

    /// The guarded service.
    pub fn into_router(self, control: Control) -> Router {
        let document = Arc::new(self.openapi());
        let mut declared = self.declared;
        declared.insert(
            RouteName {
                path: OPENAPI_PATH.to_owned(),
                method: Method::GET.to_string(),
            },
            Access::Anonymous("a description without contents"),
        );
        let guard = Guard {
            control: control.clone(),
            declared: Arc::new(declared),
        };
        let (router, _) = self.router.split_for_parts();
        router
            .route(
                OPENAPI_PATH,
                get(move || std::future::ready(Json(Arc::clone(&document)))),
            )
            .method_not_allowed_fallback(|| async {
                HttpProblem::of(Fault::NotFound { noun: "route" })
            })
            .route_layer(middleware::from_fn_with_state(guard, check))
            .fallback(|| async { HttpProblem::of(Fault::NotFound { noun: "route" }) })
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .layer(middleware::from_fn_with_state(control.clone(), to_the_end))
            .with_state(control)
    }
}

/// Where the OpenAPI document is served.
pub const OPENAPI_PATH: &str = "/v1/openapi.json";

/// Largest body of a request.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Name of the security scheme in the OpenAPI document.
const BEARER: &str = "bearer";

fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    [
        ("GET", item.get.as_mut()),
        ("POST", item.post.as_mut()),
        ("PUT", item.put.as_mut()),
        ("PATCH", item.patch.as_mut()),
        ("DELETE", item.delete.as_mut()),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation?)))
}

/// Writes the access rule into the route's description.
fn describe(operation: &mut Operation, access: Access) {
    match access {
        Access::Action(action) => {
            operation.extensions = Some(
                ExtensionsBuilder::new()
                    .add("x-sallyport-action", action.as_str())
                    .build(),
            );
            operation.security = Some(vec![SecurityRequirement::new::<_, _, String>(BEARER, [])]);
        }
        Access::Anonymous(_) => operation.security = Some(vec![]),
    }
}

#[derive(Clone)]
struct Guard {
    control: Control,
    declared: Arc<BTreeMap<RouteName, Access>>,
}

/// The guard: no route runs before it said yes.
async fn check(
    State(guard): State<Guard>,
    path: MatchedPath,
    client: ClientAddress,
    mut request: Request,
    next: Next,
) -> Result<Response, HttpProblem> {
    // A GET route answers HEAD too.
    let method = match *request.method() {
        Method::HEAD => Method::GET.to_string(),
        ref other => other.to_string(),
    };
    let name = RouteName {
        path: path.as_str().to_owned(),
        method,
    };
    match guard.declared.get(&name) {
        Some(Access::Anonymous(_)) => {}
        Some(Access::Action(action)) => {
            let token = bearer_token(request.headers())
                .ok_or_else(|| HttpProblem::of(Fault::Unauthenticated))?;
            let caller = crate::authn::caller_of_bearer(&guard.control, token, client.0).await?;
            if !caller.is_permitted(*action) {
                return Err(HttpProblem::of(Fault::MissingRight(*action)));
            }
            request.extensions_mut().insert(caller);
        }
        // Known path, other method: says no more than an unknown path does.
        None => return Err(HttpProblem::of(Fault::NotFound { noun: "route" })),
    }
    Ok(next.run(request).await)
}

fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Runs a request in a task of its own, so that a client that hangs up, or a wait that is too long,
/// never stops a change half-way; and answers a panic with a problem.
async fn to_the_end(State(control): State<Control>, request: Request, next: Next) -> Response {
    let timeout = control.config().listen.request_timeout;
    let running = task::run("HTTP request", next.run(request));
    let mut response = match tokio::time::timeout(timeout, running).await {
        Ok(Some(response)) => response,
        Ok(None) => HttpProblem::bug("a request panicked").into_response(),
        Err(_) => HttpProblem::of(Fault::Unavailable).into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Answers hold secrets and are no pages: never cached, framed, sniffed or run.
const HEADERS: [(HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "no-store"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'",
    ),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
];
