//! Policy bundles: versions, which one is in force, and bringing another into force.
//!
//! INVARIANT: the bundle in force passed its own tests and is on record before the first decision that
//! uses it; an earlier version is brought back as a new version, so the numbers only grow.
//!
//! Not here: what policies mean (`sallyport-policy`), the decision (`sallyport-core`).

pub mod api;
mod store;
pub mod workflow;

use std::sync::{Arc, PoisonError, RwLock};

use sallyport_policy::Bundle;

/// The bundle in force.
#[derive(Debug)]
pub struct Current {
    bundle: RwLock<Arc<Bundle>>,
    /// Held from storing a version until it is in force, so that the order of versions is the order in
    /// which they come into force.
    change: tokio::sync::Mutex<()>,
}

impl Current {
    /// With this bundle in force.
    #[must_use]
    pub fn new(bundle: Bundle) -> Self {
        Self {
            bundle: RwLock::new(Arc::new(bundle)),
            change: tokio::sync::Mutex::new(()),
        }
    }

    /// The bundle in force. Keep it for one decision only.
    #[must_use]
    pub fn current(&self) -> Arc<Bundle> {
        Arc::clone(&self.bundle.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for the turn to change policies.
    pub(crate) async fn change(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.change.lock().await
    }

    fn replace(&self, bundle: Bundle) {
        *self.bundle.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(bundle);
    }
}
