//! Who is told at once of what cannot wait, such as break-glass.

use std::path::PathBuf;

use serde::Deserialize;

/// A signed webhook.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Where notices are posted; `https`, or `http` on a loopback address.
    pub url: String,
    /// File that holds the key notices are signed with.
    pub secret_file: PathBuf,
}
