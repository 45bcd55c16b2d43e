//! Asking for access and having it: requests, votes, grants, break-glass and its review; and
//! operations held until other people agree.
//!
//! INVARIANT: a [`Grant`] is made here only, from a request that met its quorum; a vote counts only for
//! the exact content it was cast on; a [`HeldOperation`] is released at most once.

mod ballot;
mod break_glass;
mod grant;
mod held;
mod request;

pub use ballot::{Ballot, Quorum, REASON_CHARS_MAX, Refusal, Vote, VoteKind, Voter};
pub use break_glass::{Review, ReviewError, ReviewState};
pub use grant::Grant;
pub use held::{HELD_WITHIN_S_MAX, HeldContent, HeldOperation, HeldState, HoldTerms};
pub use request::{AccessRequest, Asked, Progress, RequestState};
