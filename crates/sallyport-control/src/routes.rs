//! The routes of every slice, one line each.

use crate::{
    access, apply, audit, authn, broker, directory, inventory, kernel::http::Routes, lock,
    operation, policy, recording, secret,
};

/// Every route of the control plane with its access rule.
#[must_use]
pub fn all() -> Routes {
    Routes::new()
        .merge(access::api::routes())
        .merge(apply::api::routes())
        .merge(audit::api::routes())
        .merge(authn::routes())
        .merge(broker::api::routes())
        .merge(directory::routes())
        .merge(inventory::api::routes())
        .merge(lock::api::routes())
        .merge(operation::api::routes())
        .merge(policy::api::routes())
        .merge(recording::api::routes())
        .merge(secret::api::routes())
}
