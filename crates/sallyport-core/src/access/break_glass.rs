//! The mandatory look after break-glass: the next use is refused until it is closed.

use serde::{Deserialize, Serialize};

use crate::{
    id::{GrantId, PersonId, ReviewId},
    principal::{AdminRole, Person},
    time::Timestamp,
};

/// Where a review stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ReviewState {
    /// Nobody has looked yet.
    Open,
    /// Looked at and closed.
    Closed {
        /// By whom.
        by: PersonId,
        /// When.
        at: Timestamp,
        /// What was found, at least 10 characters.
        finding: String,
    },
}

/// The look at one break-glass use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Review {
    /// Id.
    pub id: ReviewId,
    /// The grant looked at.
    pub grant_id: GrantId,
    /// Who broke the glass.
    pub person_id: PersonId,
    /// When.
    pub opened_at: Timestamp,
    /// Where it stands.
    pub state: ReviewState,
}

/// Why a review was not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReviewError {
    /// Nobody reviews their own use.
    #[error("nobody may review their own break-glass access")]
    OwnUse,
    /// The role is missing.
    #[error("only the security role closes reviews")]
    NotSecurity,
    /// It is closed already.
    #[error("the review is closed already")]
    Closed,
    /// The grant must have ended first: there is nothing to judge before.
    #[error("the access is still open; end the grant before closing its review")]
    GrantStillOpen,
    /// The finding says nothing.
    #[error("the finding must be 10 to 1,000 characters")]
    FindingLength,
}

impl Review {
    /// Closes the review.
    ///
    /// # Errors
    /// A [`ReviewError`]; the review is unchanged then.
    pub fn close(
        &mut self,
        by: &Person,
        finding: &str,
        grant_is_live: bool,
        now: Timestamp,
    ) -> Result<(), ReviewError> {
        if by.id == self.person_id {
            return Err(ReviewError::OwnUse);
        }
        if !by.has_role(AdminRole::Security) {
            return Err(ReviewError::NotSecurity);
        }
        if self.state != ReviewState::Open {
            return Err(ReviewError::Closed);
        }
        if grant_is_live {
            return Err(ReviewError::GrantStillOpen);
        }
        if !(10..=1_000).contains(&finding.trim().chars().count()) {
            return Err(ReviewError::FindingLength);
        }
        self.state = ReviewState::Closed {
            by: by.id.clone(),
            at: now,
            finding: finding.trim().to_owned(),
        };
        Ok(())
    }
}
