//! Who releases a held operation, when, and how often.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests stop at the first surprise"
)]

use proptest::prelude::*;

use super::*;
use crate::{
    fixture::{account_id, at, person, target_id},
    principal::Person,
    session::OperationKind,
};

fn content(command: &str) -> HeldContent {
    HeldContent {
        session_id: SessionId::new(at(0), [5; 10]),
        requester_id: person("alice", &[]).id,
        requester: "alice".parse().unwrap(),
        target_id: target_id(),
        target: "web-1".parse().unwrap(),
        account_id: account_id(),
        account: "root".parse().unwrap(),
        operation: Operation {
            kind: OperationKind::Exec,
            detail: command.to_owned(),
            facts: None,
        },
        bundle: BundleHash("b1".to_owned()),
    }
}

fn held(quorums: &[(u64, Option<&str>)]) -> HeldOperation {
    let quorums = quorums
        .iter()
        .map(|(count, from)| Quorum {
            count: *count,
            from: from.map(str::to_owned),
        })
        .collect();
    let terms = HoldTerms {
        quorums,
        within_s: 600,
    };
    let id = OperationId::new(at(0), [6; 10]);
    HeldOperation::hold(id, content("rm -rf /srv"), terms, at(0))
}

fn vote(
    held: &mut HeldOperation,
    person: &Person,
    kind: VoteKind,
    now: Timestamp,
) -> Result<(), Refusal> {
    let content_hash = held.content_hash();
    let voter = Voter {
        person,
        content_hash: &content_hash,
        comment: "",
    };
    held.vote(&voter, kind, now)
}

/// E1, E3
#[test]
fn a_held_operation_is_released_once_by_enough_distinct_people_who_do_not_ask_for_it() {
    let mut held = held(&[(2, None)]);
    assert_eq!(
        vote(&mut held, &person("alice", &[]), VoteKind::Approve, at(1)),
        Err(Refusal::OwnRequest)
    );
    vote(&mut held, &person("bob", &[]), VoteKind::Approve, at(1)).unwrap();
    assert_eq!(
        vote(&mut held, &person("bob", &[]), VoteKind::Approve, at(2)),
        Err(Refusal::AlreadyVoted)
    );
    assert!(!held.release(at(2)), "one of two is not enough");
    vote(&mut held, &person("carol", &[]), VoteKind::Approve, at(3)).unwrap();
    assert!(held.release(at(3)));
    assert!(!held.release(at(3)), "released twice");
    assert_eq!(held.state, HeldState::Released);
}

/// E4
#[test]
fn nothing_is_released_after_its_time_or_after_one_no_or_when_given_up() {
    let approve = |held: &mut HeldOperation| {
        vote(held, &person("bob", &[]), VoteKind::Approve, at(1)).unwrap();
    };
    let mut late = held(&[(1, None)]);
    approve(&mut late);
    assert!(!late.release(late.expires_at));
    assert!(late.expire(late.expires_at));
    assert_eq!(
        vote(&mut late, &person("carol", &[]), VoteKind::Approve, at(2)),
        Err(Refusal::NotPending)
    );

    let mut denied = held(&[(1, None)]);
    approve(&mut denied);
    vote(&mut denied, &person("carol", &[]), VoteKind::Deny, at(2)).unwrap();
    assert!(
        !denied.release(at(2)),
        "a no after enough yes still stops it"
    );

    let mut withdrawn = held(&[(1, None)]);
    approve(&mut withdrawn);
    assert!(withdrawn.withdraw());
    assert!(!withdrawn.release(at(2)));
    assert!(!withdrawn.withdraw(), "what is over is not given up again");
}

/// E4: rights are asked again when the release is taken.
#[test]
fn a_vote_of_somebody_who_lost_the_right_releases_nothing() {
    let mut held = held(&[(1, Some("sre"))]);
    vote(
        &mut held,
        &person("bob", &["sre"]),
        VoteKind::Approve,
        at(1),
    )
    .unwrap();
    held.void_votes(|_| false);
    assert!(!held.release(at(2)));
    assert_eq!(held.approvals_missing(), 1);
}

/// E2: whatever is changed, votes cast before count no more.
#[test]
fn changing_anything_voids_the_votes() {
    let changes: [fn(&mut HeldOperation); 9] = [
        |held| held.content.operation.detail.push(' '),
        |held| held.content.operation.kind = OperationKind::TypedCommand,
        |held| held.content.session_id = SessionId::new(at(0), [9; 10]),
        |held| held.content.requester_id = person("dave", &[]).id,
        |held| held.content.account_id = AccountId::new(at(0), [9; 10]),
        |held| held.content.target_id = TargetId::new(at(0), [9; 10]),
        |held| held.content.bundle = BundleHash("b2".to_owned()),
        |held| held.id = OperationId::new(at(0), [9; 10]),
        |held| held.ballot.quorums[0].from = Some("sre".to_owned()),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let mut held = held(&[(1, None)]);
        vote(
            &mut held,
            &person("bob", &["sre"]),
            VoteKind::Approve,
            at(1),
        )
        .unwrap();
        change(&mut held);
        assert!(!held.release(at(2)), "change {index} kept its vote");
    }
}

/// E2: nobody is asked, nobody agreed.
#[test]
fn terms_without_votes_wait_for_one_and_time_is_bounded() {
    for quorums in [&[][..], &[(0, None)]] {
        let mut held = held(quorums);
        assert!(!held.release(at(1)));
        vote(&mut held, &person("bob", &[]), VoteKind::Approve, at(1)).unwrap();
        assert!(held.release(at(1)));
    }
    let terms = HoldTerms {
        quorums: Vec::new(),
        within_s: u64::MAX,
    };
    let id = OperationId::new(at(0), [6; 10]);
    let held = HeldOperation::hold(id, content("x"), terms, at(0));
    assert_eq!(held.expires_at, at(HELD_WITHIN_S_MAX));
}

#[derive(Clone, Debug)]
enum Step {
    Vote { person: usize, kind: VoteKind },
    Release,
    Withdraw,
    Expire,
    Wait(u64),
    Void(usize),
}

const PEOPLE: [&str; 5] = ["alice", "bob", "carol", "dave", "erin"];

fn step() -> impl Strategy<Value = Step> {
    let person = 0..PEOPLE.len();
    prop_oneof![
        6 => person.clone().prop_map(|person| Step::Vote { person, kind: VoteKind::Approve }),
        1 => person.clone().prop_map(|person| Step::Vote { person, kind: VoteKind::Deny }),
        4 => Just(Step::Release),
        1 => Just(Step::Withdraw),
        1 => Just(Step::Expire),
        2 => (0_u64..300).prop_map(Step::Wait),
        1 => person.prop_map(Step::Void),
    ]
}

proptest! {
    /// E1, E2, E3, E4, R11
    #[test]
    fn whatever_happens_at_most_one_release_and_only_with_good_votes(
        count in 1_u64..4, steps in prop::collection::vec(step(), 0..40),
    ) {
        let mut held = held(&[(count, None)]);
        let mut now = at(0);
        let mut releases = 0;
        for step in steps {
            let before = held.clone();
            match step {
                Step::Vote { person: index, kind } => {
                    if vote(&mut held, &person(PEOPLE[index], &[]), kind, now).is_err() {
                        prop_assert_eq!(&held, &before, "a refusal changes nothing");
                    }
                }
                Step::Release => {
                    if held.release(now) {
                        releases += 1;
                        let good = before.ballot.votes.iter()
                            .filter(|vote| vote.kind == VoteKind::Approve && !vote.is_void)
                            .map(|vote| &vote.voter_id)
                            .collect::<std::collections::BTreeSet<_>>();
                        prop_assert!(good.len() as u64 >= count);
                        prop_assert!(!good.contains(&before.content.requester_id));
                        prop_assert!(now < before.expires_at);
                    }
                }
                Step::Withdraw => { let _ = held.withdraw(); }
                Step::Expire => { let _ = held.expire(now); }
                Step::Wait(seconds) => now = now.plus(std::time::Duration::from_secs(seconds)),
                Step::Void(index) => {
                    let gone = person(PEOPLE[index], &[]).id;
                    held.void_votes(|vote| vote.voter_id != gone);
                }
            }
            if before.state != HeldState::Waiting {
                prop_assert_eq!(held.state, before.state, "what is over stays over");
            }
        }
        prop_assert!(releases <= 1);
        prop_assert_eq!(held.state == HeldState::Released, releases == 1);
    }
}
