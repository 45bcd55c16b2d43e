//! Targets and the accounts on them.
//!
//! INVARIANT: names are unique and checked by core; a host key is pinned once and only an owner
//! changes it afterwards.
//!
//! Not here: secrets of accounts (`secret`), who may use them (`access`, policies).

pub mod api;
mod identity;
mod store;
pub mod workflow;

pub use store::{account_by_id, account_by_name, accounts_of, page, target_by_id, target_by_name};
