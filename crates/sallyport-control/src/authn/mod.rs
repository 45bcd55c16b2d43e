//! Proving who somebody is: enrolment, sign-in, tokens, SSH keys, one-time codes, the lock-out.
//!
//! The HTTP guard asks [`caller_of_bearer`]; the broker asks the `prove_…` functions for gateways.
//!
//! INVARIANT: secrets are stored as hashes only, codes are consumed in the transaction that records
//! their use, and one counter per name counts failures over all doors.
//!
//! Not here: what a proven person may do (`sallyport_core::authz`), who they are ([`crate::directory`]).

mod bearer;
mod store;

pub use bearer::{BearerError, caller_of_bearer};

use crate::{
    config::SignInRules,
    kernel::data_directory::{DataDirectory, DataDirectoryError},
};

/// What the doors share and nothing else may touch.
#[derive(Debug)]
pub(crate) struct Doors {}

impl Doors {
    pub(crate) fn open(_: &DataDirectory, _: &SignInRules) -> Result<Self, DataDirectoryError> {
        Ok(Self {})
    }
}
