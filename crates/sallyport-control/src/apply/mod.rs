//! Everything as files: the wanted state of targets, accounts, people and policies, compared and made so
//! in one transaction.
//!
//! What is listed is made so; what is not listed stays as it is. Nothing is removed here.
//!
//! INVARIANT: all or nothing. Every fault of the document is found before the store is touched, each
//! change has its own audit event, and a dry run takes the same path up to the commit, which it leaves
//! out.
//!
//! Not here: what a target, account, person or bundle may look like; each is read, compared and stored
//! by the slice that owns it.

pub mod api;
mod document;
pub mod workflow;

use sallyport_api::rest::apply::Wanted;
use sallyport_core::time::Timestamp;

/// Reads a document as far as that goes without the store, for a fuzzer; returns how many faults it has.
#[must_use]
pub fn read_anything(wanted: &Wanted) -> usize {
    document::read(wanted, Timestamp::EPOCH).map_or_else(|faults| faults.len(), |_| 0)
}
