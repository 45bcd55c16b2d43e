//! People, their groups and administrative roles.
//!
//! Other slices read a person with [`person_by_id`] and [`person_by_name`]; what proves that somebody is
//! that person is in [`crate::authn`].
//!
//! INVARIANT: nobody gives a role above their own, and there is always an enabled, enrolled owner once
//! there was one.

mod api;
mod group;
mod store;
mod wanted;
mod workflow;

pub use api::routes;
pub use store::{has_people, person_by_id, person_by_name};
pub use workflow::{DirectoryError, view_of};

pub(crate) use wanted::{WantedPerson, put_wanted, read_wanted};
pub(crate) use workflow::create_person;
