//! Where state is kept.

use std::path::PathBuf;

use serde::Deserialize;

/// The data directory and, for several nodes, the database server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSettings {
    /// Directory of keys, and of the SQLite file unless PostgreSQL is used. One control process at a
    /// time may use it. `/var/lib/sallyport` unless set.
    pub data_directory: PathBuf,
    /// File that holds the URL of a PostgreSQL database; SQLite is used when absent.
    pub postgres_url_file: Option<PathBuf>,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            data_directory: PathBuf::from("/var/lib/sallyport"),
            postgres_url_file: None,
        }
    }
}
