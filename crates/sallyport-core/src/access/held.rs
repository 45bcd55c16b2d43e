//! An operation held until other people agree that it may run.
//!
//! The gateway holds what it decided must wait, control keeps it and counts the votes, and exactly one
//! answer releases it.
//!
//! INVARIANT: what is voted on is exactly what would run, where, as whom and in which session; it is
//! released at most once, only while it waits, before its time is over, with every vote still good.
//!
//! Not here: which operations must wait (`policy`, `authz`), running them (`sallyport-gateway`).

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Ballot, Quorum, Refusal, Vote, VoteKind, Voter, ballot::content_hash};
use crate::{
    id::{AccountId, OperationId, PersonId, SessionId, TargetId},
    inventory::{AccountName, TargetName},
    policy::BundleHash,
    principal::PersonName,
    session::Operation,
    time::Timestamp,
};

/// No operation waits longer than this: one hour, in seconds.
pub const HELD_WITHIN_S_MAX: u64 = 3_600;

/// What releasing an operation takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldTerms {
    /// Votes needed; all of them.
    pub quorums: Vec<Quorum>,
    /// How long it waits for them, in seconds.
    pub within_s: u64,
}

/// Exactly what would run. Votes are cast on its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldContent {
    /// Session it would run in.
    pub session_id: SessionId,
    /// Who would run it.
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
    /// The operation, to the last byte.
    pub operation: Operation,
    /// Bundle that said it must wait.
    pub bundle: BundleHash,
}

/// Where a held operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldState {
    /// It waits: for votes or, once they are enough, for the gateway to take the release.
    Waiting,
    /// Let through, once.
    Released,
    /// Somebody said no.
    Denied,
    /// Given up: by its person, or because its session ended.
    Withdrawn,
    /// Not enough votes in time.
    Expired,
}

impl HeldState {
    /// As the API and the audit log spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Released => "released",
            Self::Denied => "denied",
            Self::Withdrawn => "withdrawn",
            Self::Expired => "expired",
        }
    }
}

/// An operation that waits for other people, or waited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldOperation {
    /// Id of the operation.
    pub id: OperationId,
    /// What would run.
    pub content: HeldContent,
    /// Votes needed and cast.
    #[serde(flatten)]
    pub ballot: Ballot,
    /// Where it stands.
    pub state: HeldState,
    /// Since when it waits.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
}

impl HeldOperation {
    /// Holds an operation. Terms that ask for no vote at all are never met by silence: they wait for
    /// one vote.
    #[must_use]
    pub fn hold(id: OperationId, content: HeldContent, terms: HoldTerms, now: Timestamp) -> Self {
        let mut quorums = terms.quorums;
        if quorums.iter().all(|quorum| quorum.count == 0) {
            quorums.push(Quorum {
                count: 1,
                from: None,
            });
        }
        let within = std::time::Duration::from_secs(terms.within_s.min(HELD_WITHIN_S_MAX));
        Self {
            id,
            content,
            ballot: Ballot::new(quorums),
            state: HeldState::Waiting,
            created_at: now,
            expires_at: now.plus(within),
        }
    }

    /// SHA-256 over everything that would run and what it takes, length-prefixed, lower-case hex. Any
    /// change voids every vote; another operation with the same words has another hash.
    #[must_use]
    pub fn content_hash(&self) -> String {
        let content = &self.content;
        let needed: Vec<String> = self
            .ballot
            .quorums
            .iter()
            .map(|quorum| match &quorum.from {
                Some(group) => format!("{} from {group}", quorum.count),
                None => quorum.count.to_string(),
            })
            .collect();
        content_hash(
            "sallyport held operation v1",
            &[
                self.id.as_str(),
                content.session_id.as_str(),
                content.requester_id.as_str(),
                content.requester.as_str(),
                content.target_id.as_str(),
                content.target.as_str(),
                content.account_id.as_str(),
                content.account.as_str(),
                content.operation.kind.as_str(),
                &content.operation.detail,
                &content.bundle.0,
                &needed.join(", "),
            ],
        )
    }

    /// SHA-256 of the bytes of the command alone, lower-case hex.
    #[must_use]
    pub fn command_hash(&self) -> String {
        let digest = Sha256::digest(self.content.operation.detail.as_bytes());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Casts a vote. One no ends it.
    ///
    /// # Errors
    /// A [`Refusal`]; nothing is changed then.
    pub fn vote(
        &mut self,
        voter: &Voter<'_>,
        kind: VoteKind,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        if !self.is_waiting(now) {
            return Err(Refusal::NotPending);
        }
        let matter = self.content_hash();
        self.ballot
            .cast(&self.content.requester_id, &matter, voter, kind, now)?;
        if kind == VoteKind::Deny {
            self.state = HeldState::Denied;
        }
        Ok(())
    }

    /// How many more yes votes are needed, at least.
    #[must_use]
    pub fn approvals_missing(&self) -> u64 {
        self.ballot.approvals_missing(&self.content_hash())
    }

    /// Voids the votes of people who may no longer vote, as of now. `still_may` gets each voter.
    pub fn void_votes(&mut self, still_may: impl Fn(&Vote) -> bool) {
        self.ballot.void_votes(still_may);
    }

    /// Whether votes or a release may still change it.
    #[must_use]
    pub fn is_waiting(&self, now: Timestamp) -> bool {
        self.state == HeldState::Waiting && now < self.expires_at
    }

    /// Releases the operation when nothing is missing; says whether it did, which it does once.
    #[must_use]
    pub fn release(&mut self, now: Timestamp) -> bool {
        let is_due = self.is_waiting(now) && self.approvals_missing() == 0;
        if is_due {
            self.state = HeldState::Released;
        }
        is_due
    }

    /// Gives the operation up; says whether it still waited.
    #[must_use]
    pub fn withdraw(&mut self) -> bool {
        let was_waiting = self.state == HeldState::Waiting;
        if was_waiting {
            self.state = HeldState::Withdrawn;
        }
        was_waiting
    }

    /// Ends the operation's wait when its time is over; says whether it did.
    #[must_use]
    pub fn expire(&mut self, now: Timestamp) -> bool {
        let is_over = self.state == HeldState::Waiting && self.expires_at <= now;
        if is_over {
            self.state = HeldState::Expired;
        }
        is_over
    }
}

#[cfg(test)]
#[path = "held_tests.rs"]
mod tests;
