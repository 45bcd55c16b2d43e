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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{at, person};

    fn review() -> Review {
        Review {
            id: ReviewId::new(at(0), [1; 10]),
            grant_id: GrantId::new(at(0), [2; 10]),
            person_id: person("alice", &[]).id,
            opened_at: at(0),
            state: ReviewState::Open,
        }
    }

    fn security(name: &str) -> Person {
        Person {
            admin_roles: vec![AdminRole::Security],
            ..person(name, &[])
        }
    }

    const FINDING: &str = "restarted the database, nothing else";

    /// AC-7
    #[test]
    fn security_closes_a_review_once_the_access_has_ended() {
        let mut review = review();
        let bob = security("bob");
        assert_eq!(
            review.close(&bob, FINDING, true, at(5)),
            Err(ReviewError::GrantStillOpen)
        );
        assert_eq!(review.state, ReviewState::Open);
        assert_eq!(
            review.close(&bob, &format!("  {FINDING} "), false, at(5)),
            Ok(())
        );
        assert_eq!(
            review.state,
            ReviewState::Closed {
                by: bob.id.clone(),
                at: at(5),
                finding: FINDING.into()
            }
        );
        let carol = security("carol");
        assert_eq!(
            review.close(&carol, FINDING, false, at(6)),
            Err(ReviewError::Closed)
        );
    }

    /// AC-7
    #[test]
    fn nobody_closes_the_review_of_their_own_use_whatever_their_role() {
        let mut review = review();
        let alice = security("alice");
        assert_eq!(
            review.close(&alice, FINDING, false, at(5)),
            Err(ReviewError::OwnUse)
        );
        assert_eq!(review.state, ReviewState::Open);
    }

    /// AC-7
    #[test]
    fn only_the_security_role_closes_reviews_and_only_while_enabled() {
        let mut review = review();
        let disabled = Person {
            is_enabled: false,
            ..security("bob")
        };
        let owner = Person {
            admin_roles: vec![AdminRole::Owner, AdminRole::Approver, AdminRole::Auditor],
            ..person("bob", &["security"])
        };
        for by in [disabled, owner, person("bob", &[])] {
            assert_eq!(
                review.close(&by, FINDING, false, at(5)),
                Err(ReviewError::NotSecurity)
            );
        }
        assert_eq!(review.state, ReviewState::Open);
    }

    /// AC-7
    #[test]
    fn a_finding_that_says_nothing_or_never_ends_closes_no_review() {
        let mut review = review();
        let bob = security("bob");
        for finding in ["", "ok", "              ", &"x".repeat(1_001)] {
            assert_eq!(
                review.close(&bob, finding, false, at(5)),
                Err(ReviewError::FindingLength)
            );
        }
        assert_eq!(review.close(&bob, &"x".repeat(1_000), false, at(5)), Ok(()));
    }
}
