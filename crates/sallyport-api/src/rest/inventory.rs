//! Targets and accounts.

use std::collections::BTreeMap;

use sallyport_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A target, as created (`POST /v1/targets`), replaced (`PUT /v1/targets/{name}`), applied and shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetSpec {
    /// Unique name.
    pub name: String,
    /// Protocol kind: `ssh`.
    pub protocol: String,
    /// `host:port`.
    pub address: String,
    /// Labels that policies read.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// `low`, `medium`, `high` or `critical`.
    pub sensitivity: String,
    /// Host keys accepted, OpenSSH one-line form.
    #[serde(default)]
    pub host_keys: Vec<String>,
    /// Whether the first host key seen may be pinned when none is given.
    #[serde(default)]
    pub pins_first_host_key: bool,
}

/// A target as listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TargetView {
    /// Id.
    pub id: String,
    /// What it is.
    #[serde(flatten)]
    pub spec: TargetSpec,
    /// Names of its accounts.
    pub accounts: Vec<String>,
}

/// An account, as created (`POST /v1/accounts`), replaced (`PUT /v1/accounts/{account@target}`), applied
/// and shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountSpec {
    /// The target it is on.
    pub target: String,
    /// Name as the target spells it.
    pub name: String,
    /// Secrets engine: `static` or `ssh_ca`.
    pub engine: String,
    /// Engine settings.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

/// An account as listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccountView {
    /// Id.
    pub id: String,
    /// What it is.
    #[serde(flatten)]
    pub spec: AccountSpec,
    /// Whether the secret its engine needs has been stored.
    pub has_secret: bool,
    /// When its password was last changed at its target by rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub rotated_at: Option<Timestamp>,
    /// When that is due next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_rotation_at: Option<Timestamp>,
    /// Why the last rotation failed, while it is not made good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_failure: Option<String>,
}
