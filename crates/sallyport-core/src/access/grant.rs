//! A grant: may act, from–until, for a purpose. The only thing that opens sessions.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::AccessRequest;
use crate::{
    authz::GrantFacts,
    id::{AccountId, GrantId, PersonId, RequestId, TargetId},
    policy::Constraints,
    session::EndReason,
    time::Timestamp,
};

/// Access that somebody has, for a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Id.
    pub id: GrantId,
    /// Request it came from.
    pub request_id: RequestId,
    /// Holder.
    pub person_id: PersonId,
    /// Target.
    pub target_id: TargetId,
    /// Account.
    pub account_id: AccountId,
    /// First moment.
    pub from: Timestamp,
    /// First moment after.
    pub until: Timestamp,
    /// When and why it was ended before or at its time.
    pub ended: Option<(Timestamp, EndReason)>,
    /// Limits.
    pub constraints: Constraints,
    /// Whether it is break-glass.
    pub is_break_glass: bool,
}

impl Grant {
    /// The grant a request becomes: its clock starts now, not when it was asked.
    pub(super) fn begin(request: &AccessRequest, id: GrantId, now: Timestamp) -> Self {
        let duration_s = request
            .asked
            .duration_s
            .min(request.constraints.max_duration_s);
        Self {
            id,
            request_id: request.id.clone(),
            person_id: request.asked.requester_id.clone(),
            target_id: request.asked.target_id.clone(),
            account_id: request.asked.account_id.clone(),
            from: now,
            until: now.plus(Duration::from_secs(duration_s)),
            ended: None,
            constraints: request.constraints.clone(),
            is_break_glass: request.asked.is_break_glass,
        }
    }

    /// Whether it opens sessions at `now`.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.ended.is_none() && self.from <= now && now < self.until
    }

    /// Ends the grant; says whether it was still open. What ended stays ended.
    #[must_use]
    pub fn end(&mut self, now: Timestamp, reason: EndReason) -> bool {
        let was_open = self.ended.is_none();
        if was_open {
            self.ended = Some((now, reason));
        }
        was_open
    }

    /// The grant as a fact for a decision.
    #[must_use]
    pub fn facts(&self) -> GrantFacts {
        GrantFacts {
            id: self.id.clone(),
            person_id: self.person_id.clone(),
            account_id: self.account_id.clone(),
            from: self.from,
            until: self.until,
            is_open: self.ended.is_none(),
            is_break_glass: self.is_break_glass,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{at, grant};

    /// AC-5
    #[test]
    fn a_grant_lives_from_its_first_moment_until_just_before_its_last() {
        let grant = grant(at(100), at(160));
        assert!(!grant.is_live(at(99)));
        assert!(grant.is_live(at(100)));
        assert!(grant.is_live(Timestamp::from_unix_ms(at(160).unix_ms() - 1)));
        assert!(!grant.is_live(at(160)));
        assert!(!grant.is_live(at(161)));
    }

    /// AC-5, AC-6
    #[test]
    fn what_ended_stays_ended_and_keeps_its_first_reason() {
        let mut grant = grant(at(100), at(160));
        assert!(grant.end(at(120), EndReason::GrantEnded));
        assert!(!grant.end(at(130), EndReason::GrantExpired));
        assert_eq!(grant.ended, Some((at(120), EndReason::GrantEnded)));
        assert!(!grant.is_live(at(125)));
        // Even a clock that shows an earlier time does not bring it back.
        assert!(!grant.is_live(at(110)));
        assert!(!grant.facts().is_open);
    }

    #[test]
    fn the_facts_of_a_grant_are_the_grant() {
        let grant = grant(at(100), at(160));
        let facts = grant.facts();
        assert_eq!(facts.id, grant.id);
        assert_eq!(
            (facts.person_id, facts.account_id),
            (grant.person_id, grant.account_id)
        );
        assert_eq!((facts.from, facts.until), (grant.from, grant.until));
        assert!(facts.is_open && !facts.is_break_glass);
    }
}
