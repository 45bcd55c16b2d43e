//! Asking for access and having it: requests, votes, grants, break-glass and its review.
//!
//! INVARIANT: a [`Grant`] is made here only, from a request that met its quorum; a vote counts only for
//! the exact content it was cast on.

mod break_glass;
mod grant;
mod request;

pub use break_glass::{Review, ReviewError, ReviewState};
pub use grant::Grant;
pub use request::{
    AccessRequest, Asked, Progress, Quorum, REASON_CHARS_MAX, Refusal, RequestState, Vote,
    VoteKind, Voter,
};
