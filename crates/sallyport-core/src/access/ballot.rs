//! Votes on something exactly described: who may cast them, what they count for, when they are enough.
//!
//! Requests for access and held operations are both decided by one of these.
//!
//! INVARIANT: a vote counts only for the content it was cast on, once for each person, for one seat,
//! and never for the person who asked.
//!
//! Not here: what is voted on, and what enough votes bring about (`request`, `held`).

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    id::PersonId,
    principal::{AdminRole, Person, PersonName},
    time::Timestamp,
};

/// Longest reason or remark, in characters.
pub const REASON_CHARS_MAX: usize = 1_000;

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

/// Votes needed and cast on one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ballot {
    /// Votes needed; all of them.
    pub quorums: Vec<Quorum>,
    /// Votes cast.
    pub votes: Vec<Vote>,
}

impl Ballot {
    /// No votes yet.
    #[must_use]
    pub const fn new(quorums: Vec<Quorum>) -> Self {
        Self {
            quorums,
            votes: Vec::new(),
        }
    }

    /// Casts a vote on what `matter` is the hash of, asked for by `requester`. What the vote brings
    /// about is for the caller.
    ///
    /// # Errors
    /// A [`Refusal`]; nothing is changed then.
    pub(super) fn cast(
        &mut self,
        requester: &PersonId,
        matter: &str,
        voter: &Voter<'_>,
        kind: VoteKind,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        self.check(requester, matter, voter)?;
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
        Ok(())
    }

    fn check(&self, requester: &PersonId, matter: &str, voter: &Voter<'_>) -> Result<(), Refusal> {
        if voter.person.id == *requester {
            return Err(Refusal::OwnRequest);
        }
        if voter.content_hash != matter {
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

    /// How many more yes votes on what `matter` is the hash of are needed, at least.
    ///
    /// One vote counts for one quorum only, so two quorums need distinct people.
    #[must_use]
    pub fn approvals_missing(&self, matter: &str) -> u64 {
        let votes: Vec<&Vote> = self
            .votes
            .iter()
            .filter(|vote| {
                vote.kind == VoteKind::Approve && !vote.is_void && vote.content_hash == matter
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

    /// Voids the yes votes of people who may no longer vote, as of now. `still_may` gets each voter.
    pub fn void_votes(&mut self, still_may: impl Fn(&Vote) -> bool) {
        for vote in &mut self.votes {
            vote.is_void |= vote.kind == VoteKind::Approve && !still_may(vote);
        }
    }
}

/// SHA-256 over a domain and length-prefixed fields, lower-case hex.
pub(super) fn content_hash(domain: &str, fields: &[&str]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(domain.as_bytes());
    for field in fields {
        hasher.update(u64::try_from(field.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(field.as_bytes());
    }
    hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
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
