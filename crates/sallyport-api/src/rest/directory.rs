//! People and groups.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::sensitive::Sensitive;

/// A person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PersonView {
    /// Id.
    pub id: String,
    /// Sign-in name.
    pub name: String,
    /// Name for people.
    pub display_name: String,
    /// Groups.
    pub groups: Vec<String>,
    /// Administrative roles besides `member`.
    pub admin_roles: Vec<String>,
    /// False once disabled.
    pub is_enabled: bool,
    /// Whether the person finished enrolment.
    pub is_enrolled: bool,
}

/// `POST /v1/people`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreatePerson {
    /// Sign-in name.
    pub name: String,
    /// Name for people.
    #[serde(default)]
    pub display_name: String,
    /// Groups; made when missing.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Administrative roles.
    #[serde(default)]
    pub admin_roles: Vec<String>,
}

/// Answer to [`CreatePerson`] and to `POST /v1/people/{name}/enrolment`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnrolmentCode {
    /// The person.
    pub person: PersonView,
    /// One-time code for `sallyport enrol`. Shown this once; valid 24 hours.
    pub code: Sensitive,
}

/// `PATCH /v1/people/{name}`: absent fields stay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EditPerson {
    /// Name for people.
    pub display_name: Option<String>,
    /// Groups, all of them.
    pub groups: Option<Vec<String>>,
    /// Administrative roles, all of them.
    pub admin_roles: Option<Vec<String>>,
}

/// `POST /v1/people/{name}/disable`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DisablePerson {
    /// Why.
    pub reason: String,
}
