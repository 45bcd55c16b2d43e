//! Errors, as RFC 9457 problem documents.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Media type of a [`Problem`].
pub const PROBLEM_MEDIA_TYPE: &str = "application/problem+json";

/// What went wrong, for a program and for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// HTTP status.
    pub status: u16,
    /// Stable code, kebab case: a reason code where access is refused, else one of `bad-field`,
    /// `not-found`, `conflict`, `unauthenticated`, `unavailable`, `internal`.
    pub code: String,
    /// What happened, one line.
    pub title: String,
    /// What to do about it, one line.
    pub remedy: String,
    /// The field at fault, when one is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub field: Option<String>,
    /// Id to name when asking about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reference: Option<String>,
    /// What is missing, when access is challenged: one line each.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub unmet: Vec<String>,
}
