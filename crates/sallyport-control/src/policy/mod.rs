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
pub struct Current(RwLock<Arc<Bundle>>);

impl Current {
    /// With this bundle in force.
    #[must_use]
    pub fn new(bundle: Bundle) -> Self {
        Self(RwLock::new(Arc::new(bundle)))
    }

    /// The bundle in force. Keep it for one decision only.
    #[must_use]
    pub fn current(&self) -> Arc<Bundle> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, bundle: Bundle) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(bundle);
    }
}
