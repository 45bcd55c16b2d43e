//! A request, the votes on it, and when they are enough.

use super::{Ballot, Grant, Quorum, Refusal, Vote, VoteKind, Voter, ballot::content_hash};
use crate::{
    authz::Authorisation,
    id::{AccountId, GrantId, PersonId, RequestId, TargetId},
    inventory::{AccountName, TargetName},
    policy::{BundleHash, Constraints, Requirement},
    principal::PersonName,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

/// Exactly what was asked. Votes are cast on its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Who asks.
    pub requester_id: PersonId,
    /// Their name, for people.
    pub requester: PersonName,
    /// Target.
    pub target_id: TargetId,
    /// Its name, for people.
    pub target: TargetName,
    /// Account.
    pub account_id: AccountId,
    /// Its name, for people.
    pub account: AccountName,
    /// Why.
    pub reason: String,
    /// Change ticket.
    pub ticket: Option<String>,
    /// For how long, in seconds from the approval.
    pub duration_s: u64,
    /// Whether it is break-glass.
    pub is_break_glass: bool,
    /// Bundle that said what it takes.
    pub bundle: BundleHash,
}

impl Asked {
    /// SHA-256 over every field, length-prefixed, lower-case hex. Any change of what is asked changes
    /// it and so voids every vote.
    #[must_use]
    pub fn content_hash(&self) -> String {
        let duration_s = self.duration_s.to_string();
        let ticket = self
            .ticket
            .as_deref()
            .map_or(String::from("-"), |ticket| format!("+{ticket}"));
        content_hash(
            "sallyport request v1",
            &[
                self.requester_id.as_str(),
                self.requester.as_str(),
                self.target_id.as_str(),
                self.target.as_str(),
                self.account_id.as_str(),
                self.account.as_str(),
                &self.reason,
                &ticket,
                &duration_s,
                if self.is_break_glass {
                    "break-glass"
                } else {
                    "ordinary"
                },
                &self.bundle.0,
            ],
        )
    }
}

/// Where a request stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RequestState {
    /// Votes are missing.
    Pending,
    /// Granted.
    Granted {
        /// The grant it became.
        grant_id: GrantId,
    },
    /// Somebody said no.
    Denied,
    /// Taken back.
    Cancelled,
    /// Not enough votes in time.
    Expired,
}

impl RequestState {
    /// As the API and the audit log spell it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Granted { .. } => "granted",
            Self::Denied => "denied",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
}

/// Asking for access.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessRequest {
    /// Id.
    pub id: RequestId,
    /// What is asked.
    pub asked: Asked,
    /// Votes needed and cast.
    #[serde(flatten)]
    pub ballot: Ballot,
    /// Limits the grant will carry.
    pub constraints: Constraints,
    /// Where it stands.
    pub state: RequestState,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends by itself if votes are still missing.
    pub expires_at: Timestamp,
}

/// What a vote did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More votes are needed.
    Waiting {
        /// How many, at least.
        approvals_missing: u64,
    },
    /// Enough: this is the grant, and its clock starts now.
    Granted(Box<Grant>),
    /// One no is enough.
    Denied,
}

impl AccessRequest {
    /// Makes a request from a decision that said what it takes. Not granted yet, even when no votes
    /// are needed: call [`AccessRequest::progress`] next.
    #[must_use]
    pub fn submit(
        authorisation: &Authorisation,
        id: RequestId,
        asked: Asked,
        expires_at: Timestamp,
    ) -> Self {
        let quorums = authorisation
            .approvals()
            .iter()
            .filter_map(|requirement| match requirement {
                Requirement::Approval { count, from } => Some(Quorum {
                    count: *count,
                    from: from.clone(),
                }),
                _ => None,
            })
            .collect();
        Self {
            id,
            asked,
            ballot: Ballot::new(quorums),
            constraints: authorisation.constraints().clone(),
            state: RequestState::Pending,
            created_at: authorisation.question().now,
            expires_at,
        }
    }

    /// Casts a vote. A yes that completes every quorum makes the grant.
    ///
    /// # Errors
    /// A [`Refusal`]; the request is unchanged then.
    pub fn vote(
        &mut self,
        voter: &Voter<'_>,
        kind: VoteKind,
        now: Timestamp,
        grant_id: GrantId,
    ) -> Result<Progress, Refusal> {
        if self.state != RequestState::Pending || self.expires_at <= now {
            return Err(Refusal::NotPending);
        }
        let matter = self.asked.content_hash();
        self.ballot
            .cast(&self.asked.requester_id, &matter, voter, kind, now)?;
        if kind == VoteKind::Deny {
            self.state = RequestState::Denied;
            return Ok(Progress::Denied);
        }
        Ok(self.progress(now, grant_id))
    }

    /// Whether the votes are enough; if so the request becomes `grant_id`, beginning `now`.
    ///
    /// One vote counts for one quorum only, so two quorums need distinct people.
    #[must_use]
    pub fn progress(&mut self, now: Timestamp, grant_id: GrantId) -> Progress {
        let approvals_missing = self.approvals_missing();
        if self.state != RequestState::Pending || approvals_missing > 0 {
            return Progress::Waiting { approvals_missing };
        }
        self.state = RequestState::Granted {
            grant_id: grant_id.clone(),
        };
        Progress::Granted(Box::new(Grant::begin(self, grant_id, now)))
    }

    /// How many more yes votes are needed, at least.
    #[must_use]
    pub fn approvals_missing(&self) -> u64 {
        self.ballot.approvals_missing(&self.asked.content_hash())
    }

    /// Voids the votes of people who may no longer vote, as of now. `still_may` gets each voter.
    pub fn void_votes(&mut self, still_may: impl Fn(&Vote) -> bool) {
        self.ballot.void_votes(still_may);
    }

    /// Takes the request back.
    ///
    /// # Errors
    /// [`Refusal::NotRequester`] or [`Refusal::NotPending`].
    pub fn cancel(&mut self, by: &PersonId) -> Result<(), Refusal> {
        if by != &self.asked.requester_id {
            return Err(Refusal::NotRequester);
        }
        if self.state != RequestState::Pending {
            return Err(Refusal::NotPending);
        }
        self.state = RequestState::Cancelled;
        Ok(())
    }

    /// Ends the request when its time is over; says whether it did.
    #[must_use]
    pub fn expire(&mut self, now: Timestamp) -> bool {
        let is_over = self.state == RequestState::Pending && self.expires_at <= now;
        if is_over {
            self.state = RequestState::Expired;
        }
        is_over
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
