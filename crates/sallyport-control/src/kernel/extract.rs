//! What routes take out of a request: strict JSON, strict queries, ids and names from the path. Each
//! refuses with a problem document that names the field.

use std::{fmt::Display, str::FromStr};

use axum::{
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{HeaderMap, header, request::Parts},
};
use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::problem::{Fault, HttpProblem};

/// A JSON body. `Content-Type: application/json` is demanded, which also keeps forms of other sites
/// out; unknown fields are refused by the shapes themselves.
#[derive(Debug)]
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = HttpProblem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        if !is_json(request.headers()) {
            return Err(HttpProblem::of(Fault::field(
                "Content-Type",
                "send `Content-Type: application/json`",
            )));
        }
        let body = Bytes::from_request(request, state).await.map_err(|_| {
            HttpProblem::of(Fault::field("", "the body is cut off or larger than 1 MiB"))
        })?;
        serde_json::from_slice(&body)
            .map(Self)
            .map_err(|error| HttpProblem::of(json_fault(&error)))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// The parser knows the place, and for unknown and missing fields also the name.
fn json_fault(error: &serde_json::Error) -> Fault {
    let text = error.to_string();
    let is_named = ["unknown field `", "missing field `", "duplicate field `"]
        .iter()
        .any(|start| text.starts_with(start));
    let field = if is_named {
        text.split('`').nth(1).unwrap_or_default().to_owned()
    } else {
        String::new()
    };
    Fault::Field { field, title: text }
}

/// The query, each key known.
#[derive(Debug)]
pub struct QueryFields<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for QueryFields<T> {
    type Rejection = HttpProblem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        Query::from_request_parts(parts, state)
            .await
            .map(|Query(query)| Self(query))
            .map_err(|error| HttpProblem::of(Fault::field("query", error.body_text())))
    }
}

/// The one parameter of the path, such as an id or a name.
#[derive(Debug)]
pub struct PathText<T>(pub T);

impl<T, S> FromRequestParts<S> for PathText<T>
where
    T: FromStr + Send,
    T::Err: Display,
    S: Send + Sync,
{
    type Rejection = HttpProblem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|error| HttpProblem::of(Fault::field("path", error.body_text())))?;
        text.parse()
            .map(Self)
            .map_err(|error: T::Err| HttpProblem::of(Fault::field("path", error)))
    }
}
