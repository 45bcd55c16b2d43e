//! How a kind of thing (a protocol, a secrets engine) describes itself, so that the API, the CLI and
//! the policy schema need no edit when a kind is added.

use serde::{Deserialize, Serialize};

/// What a plug-in says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Stable kind, as stored and typed: `ssh`, `static`, `ssh_ca`.
    pub kind: String,
    /// Name for people.
    pub title: String,
    /// The settings it accepts; anything else is refused.
    pub settings: Vec<Setting>,
    /// The kinds of operation it reports to policy (protocols only).
    pub operations: Vec<OperationDescriptor>,
    /// Names of the secrets it needs, for each account.
    pub secrets_needed: Vec<String>,
}

/// One setting of a plug-in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Field name.
    pub name: String,
    /// What it is for, its unit and its bounds.
    pub purpose: String,
    /// Whether it must be given.
    pub is_required: bool,
}

/// One kind of operation a protocol reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationDescriptor {
    /// Stable kind, as policy reads it in `context.operation.kind`.
    pub kind: String,
    /// What it is.
    pub purpose: String,
    /// Whether a policy can refuse it before it happens. False means it is evidence only.
    pub is_refusable: bool,
}
