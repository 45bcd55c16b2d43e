//! The running control plane: what every route, job and call works with. Cheap to clone.
//!
//! INVARIANT: there is one [`Control`] per data directory; it holds the directory's lock while it lives.

use std::{fmt, sync::Arc};

use sallyport_core::time::{Clock, Timestamp};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use super::{
    clock::RatchetClock,
    database::{Database, StoreError, StoreLocation},
    node_directory::{NodeDirectory, NodeDirectoryError},
};
use sallyport_vault::{SystemEntropy, Vault};

use super::changes::Changes;
use crate::{audit, authn, broker, config::ControlConfig, policy, secret};

/// The running control plane.
#[derive(Clone)]
pub struct Control(Arc<Parts>);

struct Parts {
    config: ControlConfig,
    clock: Arc<dyn RatchetClock>,
    directory: NodeDirectory,
    db: Database,
    doors: authn::Doors,
    vault: Vault,
    policies: policy::Current,
    live: broker::Live,
    revoking: broker::Revoking,
    making: secret::Making,
    rotating: secret::Rotating,
    changes: Changes,
    log: audit::Log,
    stop: CancellationToken,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

/// Why the control plane does not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data directory cannot be used.
    #[error("use the data directory")]
    NodeDirectory(#[source] NodeDirectoryError),
    /// The store cannot be used.
    #[error("open the store")]
    Store(#[source] StoreError),
    /// The key of the audit log cannot be used.
    #[error("open the audit log")]
    Log(#[source] audit::IntegrateError),
    /// The policies in force cannot be read, so nothing could be decided.
    #[error("load the policies in force")]
    Policies(#[source] policy::workflow::PolicyChangeError),
}

impl Control {
    /// Opens the data directory and the store. Nothing listens and no job runs yet.
    ///
    /// # Errors
    /// [`OpenError`]; nothing is left half-done.
    pub async fn open(
        config: ControlConfig,
        clock: Arc<dyn RatchetClock>,
    ) -> Result<Self, OpenError> {
        let directory =
            NodeDirectory::lock(&config.store.data_directory).map_err(OpenError::NodeDirectory)?;
        let location = match &config.store.postgres_url_file {
            Some(path) => StoreLocation::Postgres(
                directory
                    .read_postgres_url(path)
                    .map_err(OpenError::NodeDirectory)?,
            ),
            None => StoreLocation::Sqlite(directory.path("sallyport.db")),
        };
        let for_store: Arc<dyn Clock> = clock.clone();
        let db = Database::open(&location, for_store)
            .await
            .map_err(OpenError::Store)?;
        audit::refuse_lost_store(&directory, *db.log_size().borrow()).map_err(OpenError::Log)?;
        clock.raise(db.last_recorded().await.map_err(OpenError::Store)?);
        let bundle = policy::workflow::load(&db, &*clock)
            .await
            .map_err(OpenError::Policies)?;
        let mut reader = db.read().await.map_err(OpenError::Store)?;
        let keyring = secret::keyring_record(&mut reader)
            .await
            .map_err(OpenError::Store)?;
        drop(reader);
        let log = audit::Log::open(&directory).map_err(OpenError::Log)?;
        let vault = Vault::new(Arc::new(SystemEntropy), keyring);
        let doors = authn::Doors::open(&directory).map_err(OpenError::NodeDirectory)?;
        Ok(Self(Arc::new(Parts {
            config,
            clock,
            directory,
            db,
            doors,
            vault,
            policies: policy::Current::new(bundle),
            live: broker::Live::default(),
            revoking: broker::Revoking::default(),
            making: secret::Making::default(),
            rotating: secret::Rotating::default(),
            changes: Changes::default(),
            log,
            stop: CancellationToken::new(),
        })))
    }

    /// What the operator set.
    #[must_use]
    pub fn config(&self) -> &ControlConfig {
        &self.0.config
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn RatchetClock> {
        &self.0.clock
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// The data directory.
    #[must_use]
    pub fn directory(&self) -> &NodeDirectory {
        &self.0.directory
    }

    /// The store.
    #[must_use]
    pub fn db(&self) -> &Database {
        &self.0.db
    }

    /// The vault.
    #[must_use]
    pub fn vault(&self) -> &Vault {
        &self.0.vault
    }

    /// The policies in force.
    #[must_use]
    pub fn policies(&self) -> &policy::Current {
        &self.0.policies
    }

    /// The gateways connected right now.
    #[must_use]
    pub fn live(&self) -> &broker::Live {
        &self.0.live
    }

    /// Where credentials are being revoked right now.
    #[must_use]
    pub fn revoking(&self) -> &broker::Revoking {
        &self.0.revoking
    }

    /// Where credentials are being made.
    #[must_use]
    pub fn making(&self) -> &secret::Making {
        &self.0.making
    }

    /// Whose passwords are being rotated right now.
    #[must_use]
    pub fn rotating(&self) -> &secret::Rotating {
        &self.0.rotating
    }

    /// What changed, for those who wait.
    #[must_use]
    pub fn changes(&self) -> &Changes {
        &self.0.changes
    }

    /// Tells every job to end; nothing is begun afterwards.
    pub fn stop(&self) {
        self.0.stop.cancel();
    }

    /// Resolves once [`Self::stop`] was called.
    pub fn stopped(&self) -> WaitForCancellationFuture<'_> {
        self.0.stop.cancelled()
    }

    /// The audit log.
    #[must_use]
    pub fn log(&self) -> &audit::Log {
        &self.0.log
    }

    /// What the doors share: password work, proofs in memory, the key of one-time-code secrets.
    pub(crate) fn doors(&self) -> &authn::Doors {
        &self.0.doors
    }
}
