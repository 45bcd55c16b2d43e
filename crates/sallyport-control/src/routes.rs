//! The routes of every slice, one line each.

use crate::kernel::http::Routes;

/// Every route of the control plane with its access rule.
#[must_use]
pub fn all() -> Routes {
    Routes::new()
}
