//! People, their groups and administrative roles.
//!
//! Other slices read a person with [`person_by_id`] and [`person_by_name`]; what proves that somebody is
//! that person is in [`crate::authn`].
//!
//! INVARIANT: nobody gives a role that they do not hold, and there is always an enabled owner.

mod group;
mod store;

pub use store::{person_by_id, person_by_name};
