//! A request, the votes on it, and when they are enough.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Grant;
use crate::{
    authz::Authorisation,
    id::{AccountId, GrantId, PersonId, RequestId, TargetId},
    inventory::{AccountName, TargetName},
    policy::{BundleHash, Constraints, Requirement},
    principal::{AdminRole, Person, PersonName},
    time::Timestamp,
};

/// Longest reason, in characters.
pub const REASON_CHARS_MAX: usize = 1_000;

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
        let mut hasher = Sha256::new();
        hasher.update(b"sallyport request v1");
        let duration_s = self.duration_s.to_string();
        let ticket = self
            .ticket
            .as_deref()
            .map_or(String::from("-"), |ticket| format!("+{ticket}"));
        for field in [
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
        ] {
            hasher.update(u64::try_from(field.len()).unwrap_or(u64::MAX).to_be_bytes());
            hasher.update(field.as_bytes());
        }
        hasher
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// One set of votes that is needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quorum {
    /// How many distinct people.
    pub count: u64,
    /// Group they must be in; absent means anybody with the approver role.
    pub from: Option<String>,
}

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VoteKind {
    /// Yes.
    Approve,
    /// No; one is enough.
    Deny,
}

/// One person's vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// Who.
    pub voter_id: PersonId,
    /// Their name, for people.
    pub voter: PersonName,
    /// Groups the voter was in when voting; decides which quorum the vote counts for.
    pub voter_groups: Vec<String>,
    /// What.
    pub kind: VoteKind,
    /// Hash of exactly what was voted on.
    pub content_hash: String,
    /// Remark, at most 1,000 characters.
    pub comment: String,
    /// When.
    pub at: Timestamp,
    /// Whether the voter has lost the right to vote since; it counts no more.
    #[serde(default)]
    pub is_void: bool,
}

/// Who wants to vote, with the rights held at this moment.
#[derive(Clone, Debug)]
pub struct Voter<'a> {
    /// The person.
    pub person: &'a Person,
    /// The hash the voter saw.
    pub content_hash: &'a str,
    /// Remark.
    pub comment: &'a str,
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
    /// Votes needed; all of them.
    pub quorums: Vec<Quorum>,
    /// Votes cast.
    pub votes: Vec<Vote>,
    /// Limits the grant will carry.
    pub constraints: Constraints,
    /// Where it stands.
    pub state: RequestState,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends by itself if votes are still missing.
    pub expires_at: Timestamp,
}

/// Why a step was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is no longer pending.
    #[error("the request is no longer pending")]
    NotPending,
    /// Nobody votes on what they asked for.
    #[error("nobody may vote on their own request")]
    OwnRequest,
    /// One vote each.
    #[error("this person has voted already")]
    AlreadyVoted,
    /// The voter lacks the role or is in none of the groups asked.
    #[error("this person may not vote on this request")]
    NotAnApprover,
    /// The voter saw something else than what is asked now.
    #[error("the request is not the one that was shown; look at it again")]
    ContentChanged,
    /// Only the requester takes a request back.
    #[error("only the requester can cancel a request")]
    NotRequester,
    /// The remark or reason is too long.
    #[error("the text is longer than 1,000 characters")]
    TextTooLong,
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
            quorums,
            votes: Vec::new(),
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
        self.check_vote(voter, now)?;
        self.votes.push(Vote {
            voter_id: voter.person.id.clone(),
            voter: voter.person.name.clone(),
            voter_groups: voter.person.groups.clone(),
            kind,
            content_hash: voter.content_hash.to_owned(),
            comment: voter.comment.to_owned(),
            at: now,
            is_void: false,
        });
        if kind == VoteKind::Deny {
            self.state = RequestState::Denied;
            return Ok(Progress::Denied);
        }
        Ok(self.progress(now, grant_id))
    }

    fn check_vote(&self, voter: &Voter<'_>, now: Timestamp) -> Result<(), Refusal> {
        if self.state != RequestState::Pending || self.expires_at <= now {
            return Err(Refusal::NotPending);
        }
        if voter.person.id == self.asked.requester_id {
            return Err(Refusal::OwnRequest);
        }
        if voter.content_hash != self.asked.content_hash() {
            return Err(Refusal::ContentChanged);
        }
        // A vote on what was asked before counts no more, so its caster may look again and vote.
        if self
            .votes
            .iter()
            .any(|vote| vote.voter_id == voter.person.id && vote.content_hash == voter.content_hash)
        {
            return Err(Refusal::AlreadyVoted);
        }
        if voter.comment.chars().count() > REASON_CHARS_MAX {
            return Err(Refusal::TextTooLong);
        }
        let is_wanted = self.quorums.iter().any(|quorum| match &quorum.from {
            Some(group) => voter.person.groups.contains(group),
            None => true,
        });
        if !voter.person.has_role(AdminRole::Approver) || !is_wanted {
            return Err(Refusal::NotAnApprover);
        }
        Ok(())
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
        let content_hash = self.asked.content_hash();
        let votes: Vec<&Vote> = self
            .votes
            .iter()
            .filter(|vote| {
                vote.kind == VoteKind::Approve && !vote.is_void && vote.content_hash == content_hash
            })
            .collect();
        let needed: Vec<&Option<String>> = self
            .quorums
            .iter()
            .flat_map(|quorum| (0..quorum.count.min(VOTES_MAX)).map(|_| &quorum.from))
            .collect();
        let filled = largest_assignment(&votes, &needed);
        let beyond_reach: u64 = self
            .quorums
            .iter()
            .map(|quorum| quorum.count.saturating_sub(VOTES_MAX))
            .fold(0, u64::saturating_add);
        u64::try_from(needed.len().saturating_sub(filled))
            .unwrap_or(u64::MAX)
            .saturating_add(beyond_reach)
    }

    /// Voids the votes of people who may no longer vote, as of now. `still_may` gets each voter.
    pub fn void_votes(&mut self, still_may: impl Fn(&Vote) -> bool) {
        for vote in &mut self.votes {
            vote.is_void |= vote.kind == VoteKind::Approve && !still_may(vote);
        }
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

/// No policy can ask for more votes than this; a larger number is never reached.
const VOTES_MAX: u64 = 32;

/// How many of the `needed` seats can be filled when each vote takes at most one seat: a maximum
/// matching by augmenting paths, small enough to be obvious (at most 32 of each).
fn largest_assignment(votes: &[&Vote], needed: &[&Option<String>]) -> usize {
    let mut seat_of_vote: Vec<Option<usize>> = vec![None; votes.len()];
    let mut filled = 0;
    for seat in 0..needed.len() {
        let mut tried = vec![false; votes.len()];
        if place(seat, votes, needed, &mut seat_of_vote, &mut tried) {
            filled += 1;
        }
    }
    filled
}

fn place(
    seat: usize,
    votes: &[&Vote],
    needed: &[&Option<String>],
    seat_of_vote: &mut [Option<usize>],
    tried: &mut [bool],
) -> bool {
    let Some(from) = needed.get(seat) else {
        return false;
    };
    for (index, vote) in votes.iter().enumerate() {
        let is_fit = from
            .as_ref()
            .is_none_or(|group| vote.voter_groups.contains(group));
        let is_tried = tried.get(index).copied().unwrap_or(true);
        if !is_fit || is_tried {
            continue;
        }
        if let Some(slot) = tried.get_mut(index) {
            *slot = true;
        }
        let holder = seat_of_vote.get(index).copied().flatten();
        let is_free = match holder {
            None => true,
            Some(other) => place(other, votes, needed, seat_of_vote, tried),
        };
        if is_free {
            if let Some(slot) = seat_of_vote.get_mut(index) {
                *slot = Some(seat);
            }
            return true;
        }
    }
    false
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
