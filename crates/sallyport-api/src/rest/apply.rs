//! Everything as files: the wanted state in one document, applied all or nothing.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    directory::CreatePerson,
    inventory::{AccountSpec, TargetSpec},
    policy::BundleFiles,
};

/// `POST /v1/apply`: what is listed is made so; what is not listed stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Targets.
    #[serde(default)]
    pub targets: Vec<TargetSpec>,
    /// Accounts.
    #[serde(default)]
    pub accounts: Vec<AccountSpec>,
    /// People. New ones get an enrolment code by `sallyport person enrolment`.
    #[serde(default)]
    pub people: Vec<CreatePerson>,
    /// Policies, all of them, when given.
    #[serde(default)]
    pub policies: Option<BundleFiles>,
}

/// Whether to do it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ApplyQuery {
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// `create`, `change` or `unchanged`.
    pub verb: String,
    /// `target`, `account`, `person`, `policies`.
    pub noun: String,
    /// Name.
    pub name: String,
    /// Field by field, `field: old -> new`; empty for new things.
    pub differences: Vec<String>,
}

/// Answer to [`Wanted`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Applied {
    /// Whether it was done, not only compared.
    pub is_applied: bool,
    /// Changes, in order.
    pub changes: Vec<Change>,
}
