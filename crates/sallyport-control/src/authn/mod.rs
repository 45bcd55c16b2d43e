//! Proving who somebody is: enrolment, sign-in, tokens, SSH keys, one-time codes, the lock-out.
//!
//! The HTTP guard asks [`caller_of_bearer`]; the broker asks the `prove_…` functions for gateways and
//! names the result with [`proof`].
//!
//! INVARIANT: secrets are stored as hashes or sealed, codes are consumed in the transaction that records
//! their use, and one counter per name counts attempts over all doors.
//!
//! Not here: what a proven person may do (`sallyport_core::authz`), who they are ([`crate::directory`]).

mod api;
mod authority;
mod bearer;
mod enrolment;
mod factor;
mod gateway;
pub mod jobs;
mod known_hosts;
mod pass;
mod password;
mod proof;
mod sign_in;
mod source;
mod ssh_key;
mod store;
mod throttle;
mod token;
mod totp;

pub use api::routes;
pub use authority::{
    adopt_user_authority, release_user_authority, trust_user_authority, user_authorities,
};
pub use bearer::{BearerError, caller_again, caller_of_bearer};
pub use enrolment::{EnrolError, Enrolled, enrol, first_owner_code};
pub use gateway::{proof, prove_pass, prove_password, prove_ssh_certificate, prove_ssh_key};
pub use sign_in::{SignInError, SignedIn, sign_in, sign_out};

pub(crate) use enrolment::issue as issue_enrolment_code;
pub(crate) use sign_in::end_for_person;

use crate::kernel::node_directory::{NodeDirectory, NodeDirectoryError};

/// Key file of the secrets of one-time codes. Not in the vault, because people sign in to unseal it.
const ONE_TIME_KEY: &str = "authn/one-time.key";

/// What the doors share and nothing else may touch.
#[derive(Debug)]
pub(crate) struct Doors {
    authority: authority::UserAuthority,
    passes: pass::Passes,
    passwords: password::Passwords,
    penalties: source::Penalties,
    proofs: proof::Proofs,
    seal: totp::OneTimeSeal,
}

impl Doors {
    pub(crate) fn open(directory: &NodeDirectory) -> Result<Self, NodeDirectoryError> {
        let key = directory.key(ONE_TIME_KEY)?;
        let seal = totp::OneTimeSeal::new(&key).map_err(|_| NodeDirectoryError::Damaged {
            path: directory.path(ONE_TIME_KEY),
            problem: "it cannot be used as a key",
        })?;
        Ok(Self {
            authority: authority::UserAuthority::default(),
            passes: pass::Passes::default(),
            passwords: password::Passwords::new(),
            penalties: source::Penalties::default(),
            proofs: proof::Proofs::default(),
            seal,
        })
    }
}
