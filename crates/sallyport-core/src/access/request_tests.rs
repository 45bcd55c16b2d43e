//! Who may vote on what, when votes are enough, and that a grant comes from nowhere else.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests stop at the first surprise"
)]

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{
    authz::Action,
    fixture::{Policies, asked, at, authorisation, person, question},
    policy::Constraint,
    principal::{AdminRole, Person},
};

fn grant_id(n: u8) -> GrantId {
    GrantId::new(at(0), [n; 10])
}

/// A request of alice that waits for these votes for an hour.
fn pending(quorums: &[(u64, Option<&str>)]) -> AccessRequest {
    let requirements = quorums.iter().map(|(count, from)| Requirement::Approval {
        count: *count,
        from: from.map(str::to_owned),
    });
    let policies = Policies::requiring(requirements.collect());
    AccessRequest::submit(
        &authorisation(&policies, &question(Action::RequestCreate)),
        RequestId::new(at(0), [7; 10]),
        asked(),
        at(3_600),
    )
}

fn vote_at(
    request: &mut AccessRequest,
    person: &Person,
    kind: VoteKind,
    now: Timestamp,
) -> Result<Progress, Refusal> {
    let content_hash = request.asked.content_hash();
    let voter = Voter {
        person,
        content_hash: &content_hash,
        comment: "",
    };
    request.vote(&voter, kind, now, grant_id(1))
}

fn approve(request: &mut AccessRequest, person: &Person) -> Result<Progress, Refusal> {
    vote_at(request, person, VoteKind::Approve, at(10))
}

const fn waiting(approvals_missing: u64) -> Result<Progress, Refusal> {
    Ok(Progress::Waiting { approvals_missing })
}

fn granted(result: Result<Progress, Refusal>) -> Grant {
    match result {
        Ok(Progress::Granted(grant)) => *grant,
        other => panic!("not granted: {other:?}"),
    }
}

/// AC-3
#[test]
fn two_approvals_need_two_people_who_are_not_the_requester() {
    let mut request = pending(&[(2, None)]);
    assert_eq!(
        approve(&mut request, &person("alice", &[])),
        Err(Refusal::OwnRequest)
    );
    assert_eq!(approve(&mut request, &person("bob", &[])), waiting(1));
    assert_eq!(
        approve(&mut request, &person("bob", &[])),
        Err(Refusal::AlreadyVoted)
    );
    let grant = granted(approve(&mut request, &person("carol", &[])));
    assert_eq!(grant.person_id, person("alice", &[]).id);
    assert_eq!(request.state, RequestState::Granted { grant_id: grant.id });
}

/// AC-3
#[test]
fn nobody_votes_on_their_own_request_by_any_right() {
    let mut request = pending(&[(1, Some("sre"))]);
    let mut alice = person("alice", &["sre"]);
    alice.admin_roles = AdminRole::ALL.to_vec();
    for kind in [VoteKind::Approve, VoteKind::Deny] {
        assert_eq!(
            vote_at(&mut request, &alice, kind, at(1)),
            Err(Refusal::OwnRequest)
        );
    }
    assert_eq!(request.ballot.votes, []);
}

/// AC-3
#[test]
fn a_vote_needs_the_approver_role_and_an_enabled_person() {
    let mut request = pending(&[(1, None)]);
    let mut member = person("bob", &[]);
    member.admin_roles = vec![AdminRole::Owner, AdminRole::Security, AdminRole::Auditor];
    assert_eq!(approve(&mut request, &member), Err(Refusal::NotAnApprover));
    let mut disabled = person("carol", &[]);
    disabled.is_enabled = false;
    assert_eq!(
        approve(&mut request, &disabled),
        Err(Refusal::NotAnApprover)
    );
}

/// AC-3
#[test]
fn only_people_of_the_group_asked_vote() {
    let mut request = pending(&[(1, Some("sre"))]);
    assert_eq!(
        approve(&mut request, &person("bob", &["dba"])),
        Err(Refusal::NotAnApprover)
    );
    granted(approve(&mut request, &person("carol", &["dba", "sre"])));
}

/// AC-3
#[test]
fn one_person_in_both_groups_is_one_vote_for_one_of_them() {
    let mut request = pending(&[(1, Some("sre")), (1, Some("dba"))]);
    assert_eq!(
        approve(&mut request, &person("bob", &["sre", "dba"])),
        waiting(1)
    );
    granted(approve(&mut request, &person("carol", &["sre", "dba"])));
}

/// AC-3: the first voter could take either seat; only one way of seating fills both.
#[test]
fn votes_are_seated_so_that_as_many_as_possible_count() {
    let mut request = pending(&[(1, None), (1, Some("sre"))]);
    assert_eq!(approve(&mut request, &person("bob", &["sre"])), waiting(1));
    granted(approve(&mut request, &person("carol", &[])));

    let mut request = pending(&[(1, Some("sre")), (1, Some("dba")), (1, Some("net"))]);
    assert_eq!(
        approve(&mut request, &person("bob", &["sre", "dba"])),
        waiting(2)
    );
    assert_eq!(
        approve(&mut request, &person("carol", &["sre"])),
        waiting(1)
    );
    granted(approve(&mut request, &person("dave", &["dba", "net"])));
}

/// AC-3: two of one group do not replace one of the other.
#[test]
fn too_many_of_one_group_do_not_make_up_for_the_other() {
    let mut request = pending(&[(1, Some("sre")), (1, Some("dba"))]);
    assert_eq!(approve(&mut request, &person("bob", &["sre"])), waiting(1));
    assert_eq!(
        approve(&mut request, &person("carol", &["sre"])),
        waiting(1)
    );
    assert_eq!(approve(&mut request, &person("dave", &["sre"])), waiting(1));
    assert_eq!(request.state, RequestState::Pending);
}

/// AC-3: the groups of the moment of voting count; leaving one later changes nothing.
#[test]
fn the_groups_a_voter_was_in_when_voting_decide() {
    let mut request = pending(&[(2, Some("sre"))]);
    assert_eq!(approve(&mut request, &person("bob", &["sre"])), waiting(1));
    assert_eq!(request.ballot.votes[0].voter_groups, ["sre"]);
    granted(approve(&mut request, &person("carol", &["sre"])));
}

/// AC-3
#[test]
fn a_vote_on_something_else_than_what_is_asked_is_refused() {
    let mut request = pending(&[(1, None)]);
    let seen = request.asked.content_hash();
    request.asked.duration_s = 7_200;
    let bob = person("bob", &[]);
    let voter = Voter {
        person: &bob,
        content_hash: &seen,
        comment: "",
    };
    let refused = request.vote(&voter, VoteKind::Approve, at(10), grant_id(1));
    assert_eq!(refused, Err(Refusal::ContentChanged));
}

/// AC-3
#[test]
fn a_change_of_what_is_asked_voids_the_votes_and_their_casters_look_again() {
    let mut request = pending(&[(2, None)]);
    assert_eq!(approve(&mut request, &person("bob", &[])), waiting(1));
    request.asked.reason = "something else entirely".into();
    assert_eq!(request.approvals_missing(), 2);
    assert_eq!(approve(&mut request, &person("carol", &[])), waiting(1));
    assert_eq!(
        approve(&mut request, &person("carol", &[])),
        Err(Refusal::AlreadyVoted)
    );
    granted(approve(&mut request, &person("bob", &[])));
}

/// AC-3: each field is part of what is voted on, and no two fields can be shifted into each other.
#[test]
fn the_content_hash_covers_every_field() {
    let edits: [fn(&mut Asked); 15] = [
        |_| {},
        |a| a.requester_id = person("bob", &[]).id,
        |a| a.requester = "bob".parse().unwrap(),
        |a| a.target_id = TargetId::new(at(0), [9; 10]),
        |a| a.target = "web-2".parse().unwrap(),
        |a| a.account_id = AccountId::new(at(0), [9; 10]),
        |a| a.account = "app".parse().unwrap(),
        |a| a.reason = "rotate the certificate".into(),
        |a| a.ticket = Some("CHG-1".into()),
        |a| a.ticket = Some(String::new()),
        |a| a.ticket = Some("-".into()),
        |a| a.duration_s = 3_601,
        |a| a.is_break_glass = true,
        |a| a.bundle = BundleHash("c".repeat(64)),
        |a| {
            a.reason = String::new();
            a.ticket = Some("rotate the certificates".into());
        },
    ];
    let mut hashes: Vec<String> = edits
        .iter()
        .map(|edit| {
            let mut asked = asked();
            edit(&mut asked);
            asked.content_hash()
        })
        .collect();
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), edits.len());
}

/// AC-3
#[test]
fn one_no_is_enough_and_final() {
    let mut request = pending(&[(2, None)]);
    assert_eq!(approve(&mut request, &person("bob", &[])), waiting(1));
    let carol = person("carol", &[]);
    assert_eq!(
        vote_at(&mut request, &carol, VoteKind::Deny, at(10)),
        Ok(Progress::Denied)
    );
    assert_eq!(request.state, RequestState::Denied);
    assert_eq!(
        approve(&mut request, &person("dave", &[])),
        Err(Refusal::NotPending)
    );
    assert_eq!(
        request.cancel(&person("alice", &[]).id),
        Err(Refusal::NotPending)
    );
    assert!(!request.expire(at(10_000)));
}

/// AC-5
#[test]
fn the_clock_of_a_grant_starts_with_the_last_vote_not_with_the_request() {
    let mut request = pending(&[(1, None)]);
    let grant = granted(vote_at(
        &mut request,
        &person("bob", &[]),
        VoteKind::Approve,
        at(3_000),
    ));
    assert_eq!(grant.from, at(3_000));
    assert_eq!(grant.until, at(3_000 + 3_600));
}

/// AC-5, PO-2
#[test]
fn a_grant_is_never_longer_than_policy_allows() {
    let policies = Policies::demanding(vec![(
        vec![Requirement::Approval {
            count: 1,
            from: None,
        }],
        vec![Constraint::MaxDuration { seconds: 3_600 }],
    )]);
    let yes = authorisation(&policies, &question(Action::RequestCreate));
    let mut longer = asked();
    longer.duration_s = 9_999;
    let mut request =
        AccessRequest::submit(&yes, RequestId::new(at(0), [7; 10]), longer, at(3_600));
    let grant = granted(approve(&mut request, &person("bob", &[])));
    assert_eq!(grant.until.since(grant.from), Duration::from_secs(3_600));
    assert_eq!(grant.constraints.max_duration_s, 3_600);
}

/// AC-1, AC-3
#[test]
fn a_request_that_needs_no_votes_becomes_a_grant_at_once_and_only_once() {
    let mut request = pending(&[]);
    assert_eq!(request.state, RequestState::Pending);
    let grant = granted(Ok(request.progress(at(1), grant_id(1))));
    assert_eq!(grant.from, at(1));
    assert_eq!(
        request.progress(at(2), grant_id(2)),
        Progress::Waiting {
            approvals_missing: 0
        }
    );
    assert_eq!(
        request.state,
        RequestState::Granted {
            grant_id: grant_id(1)
        }
    );
    assert_eq!(
        approve(&mut request, &person("bob", &[])),
        Err(Refusal::NotPending)
    );
}

/// AC-5
#[test]
fn a_request_expires_by_itself_and_takes_no_vote_from_that_moment() {
    let mut request = pending(&[(1, None)]);
    let bob = person("bob", &[]);
    assert!(!request.expire(at(3_599)));
    assert_eq!(
        vote_at(&mut request, &bob, VoteKind::Approve, at(3_600)),
        Err(Refusal::NotPending)
    );
    assert!(request.expire(at(3_600)));
    assert!(!request.expire(at(3_601)));
    assert_eq!(request.state, RequestState::Expired);
    assert_eq!(approve(&mut request, &bob), Err(Refusal::NotPending));
}

#[test]
fn only_the_requester_takes_a_request_back_and_only_while_it_waits() {
    let mut request = pending(&[(1, None)]);
    assert_eq!(
        request.cancel(&person("bob", &[]).id),
        Err(Refusal::NotRequester)
    );
    assert_eq!(request.cancel(&person("alice", &[]).id), Ok(()));
    assert_eq!(request.state, RequestState::Cancelled);
    assert_eq!(
        request.cancel(&person("alice", &[]).id),
        Err(Refusal::NotPending)
    );
    assert_eq!(
        approve(&mut request, &person("bob", &[])),
        Err(Refusal::NotPending)
    );
}

#[test]
fn a_remark_longer_than_its_bound_is_refused() {
    let mut request = pending(&[(1, None)]);
    let bob = person("bob", &[]);
    let content_hash = request.asked.content_hash();
    let mut vote = |comment: &str| {
        let voter = Voter {
            person: &bob,
            content_hash: &content_hash,
            comment,
        };
        request.vote(&voter, VoteKind::Approve, at(1), grant_id(1))
    };
    assert_eq!(vote(&"x".repeat(1_001)), Err(Refusal::TextTooLong));
    granted(vote(&"ä".repeat(1_000)));
}

/// AC-3: a damaged or hostile row asking for more than anybody can ask for is never met.
#[test]
fn a_quorum_beyond_what_a_policy_can_ask_for_is_never_reached() {
    let mut request = pending(&[(1, None)]);
    request.ballot.quorums[0].count = 33;
    for n in 0..40 {
        let progress = approve(&mut request, &person(&format!("voter{n}"), &[]));
        assert!(
            matches!(progress, Ok(Progress::Waiting { .. })),
            "{n}: {progress:?}"
        );
    }
}

#[test]
fn a_request_survives_being_stored_at_any_moment() {
    let mut request = pending(&[(2, Some("sre"))]);
    assert_eq!(approve(&mut request, &person("bob", &["sre"])), waiting(1));
    let stored = serde_json::to_string(&request).unwrap();
    let mut loaded: AccessRequest = serde_json::from_str(&stored).unwrap();
    assert_eq!(loaded, request);
    granted(approve(&mut loaded, &person("carol", &["sre"])));
}

#[derive(Clone, Debug)]
enum Step {
    Vote {
        person: usize,
        kind: VoteKind,
        is_stale: bool,
    },
    Edit,
    Cancel {
        person: usize,
    },
    Expire,
    Wait {
        seconds: u64,
    },
    Progress,
}

const PEOPLE: [(&str, &[&str]); 6] = [
    ("alice", &["sre", "dba"]),
    ("bob", &["sre"]),
    ("carol", &["dba"]),
    ("dave", &["sre", "dba"]),
    ("erin", &[]),
    ("frank", &["net"]),
];

fn step() -> impl Strategy<Value = Step> {
    let kind = prop::sample::select(vec![
        VoteKind::Approve,
        VoteKind::Approve,
        VoteKind::Approve,
        VoteKind::Approve,
        VoteKind::Approve,
        VoteKind::Deny,
    ]);
    prop_oneof![
        8 => (0..PEOPLE.len(), kind, prop::bool::weighted(0.1))
            .prop_map(|(person, kind, is_stale)| Step::Vote { person, kind, is_stale }),
        1 => Just(Step::Edit),
        1 => (0..PEOPLE.len()).prop_map(|person| Step::Cancel { person }),
        1 => Just(Step::Expire),
        2 => (0_u64..2_000).prop_map(|seconds| Step::Wait { seconds }),
        1 => Just(Step::Progress),
    ]
}

fn quorums() -> impl Strategy<Value = Vec<(u64, Option<&'static str>)>> {
    let group = prop::sample::select(vec![None, Some("sre"), Some("dba"), Some("net")]);
    prop::collection::vec((1_u64..3, group), 0..3)
}

/// Whether distinct people can take all seats: every way is tried, unlike in the code under test.
fn can_seat(seats: &[Option<&str>], voters: &[&Vote]) -> bool {
    let Some((seat, rest)) = seats.split_first() else {
        return true;
    };
    (0..voters.len()).any(|index| {
        let is_fit = seat.is_none_or(|group| voters[index].voter_groups.iter().any(|g| g == group));
        let mut others = voters.to_vec();
        others.remove(index);
        is_fit && can_seat(rest, &others)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// AC-3, AC-5: whatever races with whatever, a request is granted at most once, only while it
    /// waits and has not run out, only with enough distinct people other than the requester, each for
    /// exactly what is asked; and what is over stays as it is.
    #[test]
    fn votes_edits_cancels_and_expiry_racing_never_grant_wrongly(
        quorums in quorums(), steps in prop::collection::vec(step(), 1..24),
    ) {
        let mut request = pending(&quorums);
        let first_hash = request.asked.content_hash();
        let mut now = at(0);
        let mut grants: Vec<Grant> = Vec::new();
        for (n, step) in steps.into_iter().enumerate() {
            let before = request.clone();
            let id = grant_id(u8::try_from(n).unwrap());
            let progress = match step {
                Step::Vote { person: index, kind, is_stale } => {
                    let (name, groups) = PEOPLE[index];
                    let person = person(name, groups);
                    let seen = if is_stale { first_hash.clone() } else { request.asked.content_hash() };
                    let voter = Voter { person: &person, content_hash: &seen, comment: "" };
                    let result = request.vote(&voter, kind, now, id);
                    if result.is_err() {
                        prop_assert_eq!(&request, &before, "a refusal changes nothing");
                    }
                    result.ok()
                }
                Step::Edit => {
                    // The shell edits only what still waits.
                    if request.state == RequestState::Pending {
                        request.asked.reason.push('!');
                    }
                    None
                }
                Step::Cancel { person: index } => {
                    let (name, groups) = PEOPLE[index];
                    let is_cancelled = request.cancel(&person(name, groups).id).is_ok();
                    prop_assert!(!is_cancelled || name == "alice");
                    None
                }
                Step::Expire => {
                    let is_expired = request.expire(now);
                    prop_assert!(!is_expired || now >= request.expires_at);
                    None
                }
                Step::Wait { seconds } => {
                    now = now.plus(Duration::from_secs(seconds));
                    None
                }
                Step::Progress if request.expires_at > now => Some(request.progress(now, id)),
                Step::Progress => None,
            };
            if let Some(Progress::Granted(grant)) = progress {
                prop_assert_eq!(&before.state, &RequestState::Pending);
                prop_assert!(now < request.expires_at);
                prop_assert_eq!(grant.from, now);
                grants.push(*grant);
            }
            if before.state != RequestState::Pending {
                prop_assert_eq!(&request, &before, "what is over stays as it is");
            }
            if let RequestState::Granted { .. } = request.state {
                let hash = request.asked.content_hash();
                let votes: Vec<&Vote> = request
                    .ballot
                    .votes
                    .iter()
                    .filter(|vote| vote.kind == VoteKind::Approve && vote.content_hash == hash)
                    .collect();
                let mut ids: Vec<&PersonId> = votes.iter().map(|vote| &vote.voter_id).collect();
                ids.sort();
                ids.dedup();
                prop_assert_eq!(ids.len(), votes.len(), "one vote each");
                prop_assert!(!ids.contains(&&request.asked.requester_id));
                let seats: Vec<Option<&str>> = request
                    .ballot
                    .quorums
                    .iter()
                    .flat_map(|q| (0..q.count).map(|_| q.from.as_deref()))
                    .collect();
                prop_assert!(can_seat(&seats, &votes), "{:?} by {:?}", seats, votes);
            }
            prop_assert!(grants.len() <= 1);
            let is_granted = matches!(request.state, RequestState::Granted { .. });
            prop_assert_eq!(is_granted, grants.len() == 1);
        }
    }

    /// AC-3: votes are seated as well as they can be: nobody waits for a vote that is there.
    #[test]
    fn a_quorum_is_met_exactly_when_distinct_people_can_take_every_seat(
        quorums in quorums(), voters in prop::sample::subsequence(PEOPLE[1..].to_vec(), 0..=5),
    ) {
        let mut request = pending(&quorums);
        for (name, groups) in voters {
            let _ = approve(&mut request, &person(name, groups));
        }
        let votes: Vec<&Vote> = request.ballot.votes.iter().collect();
        let seats: Vec<Option<&str>> = request
            .ballot
            .quorums
            .iter()
            .flat_map(|q| (0..q.count).map(|_| q.from.as_deref()))
            .collect();
        prop_assert_eq!(request.approvals_missing() == 0, can_seat(&seats, &votes));
    }
}
