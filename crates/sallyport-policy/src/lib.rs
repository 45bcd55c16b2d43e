//! Answers the questions of [`sallyport_core::authz::decide`] with Cedar.
//!
//! A [`Bundle`] is one immutable version of all policies: an authorise set that says whether this may
//! ever be done, a require set whose satisfied policies add demands, and the tests of both. The
//! control plane loads one to decide requests and sessions; the gateway holds the same one and
//! decides operations without a round trip.
//!
//! INVARIANT: a bundle that loads has been checked whole: every policy against the schema, every
//! annotation against the registry, every test file for its form. What cannot be evaluated is an
//! error, and the caller of an error denies.
//!
//! Not here: the decision and what no policy can switch off (`sallyport-core`), storing, versioning
//! and applying bundles (`sallyport-control`).

#![warn(missing_docs)]

mod bundle;
mod check;
mod default_bundle;
mod engine;
mod explain;
mod fault;
#[cfg(test)]
mod fixture;
mod loader;
mod memory;
mod redaction;
mod requirements;
mod schema;
mod selection;
mod sight;

pub use bundle::{BUNDLE_BYTES_MAX, Bundle, BundleError, POLICIES_MAX};
pub use check::{TestOutcome, TestReport};
pub use default_bundle::{default_bundle, default_files};
pub use explain::{Change, Explanation, PolicyShown};
pub use fault::Fault;
pub use redaction::{Begun, Found, MATCH_BYTES_MAX, Place, RedactionError, RuleSet, TextEnd};
pub use schema::schema_text;
