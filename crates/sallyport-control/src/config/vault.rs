//! How the vault is unsealed at start.

use std::path::PathBuf;

use serde::Deserialize;

/// How the vault is unsealed at start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VaultSettings {
    /// File with the key that unseals the vault at start, made with the vault when missing. Whoever can
    /// read it can open every secret, so it is for trying things out. Absent: people unseal with shares.
    pub key_file: Option<PathBuf>,
}
