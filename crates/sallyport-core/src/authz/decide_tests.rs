//! Every rule of the decision: what no policy can switch off, what policies say, what is missing.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests stop at the first surprise"
)]

use std::{sync::Mutex, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    fixture::{Policies, at, grant, grant_facts, person, question},
    id::{AccountId, LockId},
    lock::{Lock, LockScope},
    policy::Constraint,
    session::Operation,
    time::Timestamp,
};

const ACTIONS: [Action; 4] = [
    Action::RequestCreate,
    Action::SessionOpen,
    Action::OperationRun,
    Action::FeatureUse,
];

/// The decision. About an operation, the one that is made for its session must be the same: every rule tested
/// here holds for both.
fn decided(policies: &Policies, question: &Question) -> Decision {
    let decision = decide(policies, question);
    if let Some(operation) = &question.operation
        && operation.action() == question.action
    {
        let policies = Policies {
            evaluation: policies.evaluation.clone(),
            asked: Mutex::default(),
        };
        let session = SessionQuestion::new(question);
        let answer = decide_operation(&policies, &session, operation, question.now);
        let expected = match decision.clone() {
            Decision::Permit(_) => OperationAnswer::Permit,
            Decision::Challenge { unmet, trace, .. } => {
                OperationAnswer::Challenge(unmet, trace.bundle.unwrap())
            }
            Decision::Deny { reasons, .. } => OperationAnswer::Deny(reasons[0]),
        };
        assert_eq!(answer, expected);
    }
    decision
}

/// The reason of a denial; anything else fails the test.
fn denied(policies: &Policies, question: &Question) -> Reason {
    match decided(policies, question) {
        Decision::Deny { reasons, .. } => {
            assert_eq!(reasons.len(), 1);
            reasons[0]
        }
        other => panic!("not denied: {other:?}"),
    }
}

/// What a challenge misses; anything else fails the test.
fn missing(policies: &Policies, question: &Question) -> Vec<Unmet> {
    match decided(policies, question) {
        Decision::Challenge { unmet, .. } => unmet,
        other => panic!("not challenged: {other:?}"),
    }
}

fn permitted(policies: &Policies, question: &Question) -> Authorisation {
    match decided(policies, question) {
        Decision::Permit(authorisation) => *authorisation,
        other => panic!("not permitted: {other:?}"),
    }
}

fn lock(scope: LockScope) -> Lock {
    Lock {
        id: LockId::new(at(0), [5; 10]),
        scope,
        reason: "incident".into(),
        until: None,
    }
}

fn mfa(strength: AuthenticationStrength, max_age_s: Option<u64>) -> Requirement {
    Requirement::Mfa {
        strength,
        max_age_s,
    }
}

fn approval(count: u64, from: Option<&str>) -> Requirement {
    Requirement::Approval {
        count,
        from: from.map(str::to_owned),
    }
}

/// PO-1
#[test]
fn what_policies_permit_without_demands_is_permitted() {
    for action in ACTIONS {
        let authorisation = permitted(&Policies::permitting(), &question(action));
        assert_eq!(authorisation.constraints(), &Constraints::default());
        assert_eq!(authorisation.approvals(), []);
    }
}

/// PO-1
#[test]
fn what_no_policy_permits_is_denied() {
    let mut policies = Policies::permitting();
    let evaluation = policies.evaluation.as_mut().unwrap();
    evaluation.is_authorised = false;
    evaluation.determining.clear();
    for action in ACTIONS {
        assert_eq!(denied(&policies, &question(action)), Reason::NotPermitted);
    }
}

/// PO-1
#[test]
fn a_forbid_beats_a_permit() {
    let mut policies = Policies::permitting();
    policies.evaluation.as_mut().unwrap().is_forbidden = true;
    for action in ACTIONS {
        assert_eq!(denied(&policies, &question(action)), Reason::Forbidden);
    }
}

/// PO-1: fail closed.
#[test]
fn an_engine_error_is_a_denial_that_names_the_policies_at_fault() {
    for action in ACTIONS {
        let Decision::Deny { reasons, trace } = decide(&Policies::failing(), &question(action))
        else {
            panic!("not denied");
        };
        assert_eq!(reasons, [Reason::PolicyError]);
        assert_eq!(trace.determining, ["faulty"]);
        assert_eq!(trace.bundle, Some(crate::fixture::bundle()));
    }
}

/// AC-6: and no policy is asked about it.
#[test]
fn a_disabled_person_is_denied_whatever_policies_say() {
    let policies = Policies::permitting();
    for action in ACTIONS {
        let mut question = question(action);
        question.principal.is_enabled = false;
        assert_eq!(denied(&policies, &question), Reason::PersonDisabled);
    }
    assert_eq!(policies.times_asked(), 0);
}

/// AC-6: and no policy is asked about it.
#[test]
fn a_lock_beats_every_permit_and_every_live_grant() {
    let policies = Policies::permitting();
    for action in ACTIONS {
        let asked = question(action);
        for scope in [
            LockScope::Person(asked.principal.id.clone()),
            LockScope::Account(asked.account.id.clone()),
            LockScope::Target(asked.target.id.clone()),
            LockScope::Everything,
        ] {
            let mut locked = asked.clone();
            locked.locks = vec![lock(scope)];
            assert_eq!(denied(&policies, &locked), Reason::Locked);
        }
    }
    assert_eq!(policies.times_asked(), 0);
}

/// AC-6
#[test]
fn a_lock_on_something_else_or_one_that_ran_out_stops_nothing() {
    let mut question = question(Action::SessionOpen);
    question.locks = vec![
        lock(LockScope::Person(person("bob", &[]).id)),
        lock(LockScope::Account(AccountId::new(at(0), [9; 10]))),
        Lock {
            until: Some(question.now),
            ..lock(LockScope::Everything)
        },
    ];
    permitted(&Policies::permitting(), &question);
}

/// AC-5, AC-6
#[test]
fn a_grant_that_is_not_live_is_denied_at_connection_and_at_every_operation() {
    for action in [Action::SessionOpen, Action::OperationRun] {
        let mut ended = grant(at(0), at(3_600));
        assert!(ended.end(at(0), crate::session::EndReason::GrantEnded));
        for facts in [
            ended.facts(),
            grant(at(1), at(3_600)).facts(),
            grant(Timestamp::EPOCH, at(0)).facts(),
        ] {
            let mut question = question(action);
            question.grant = Some(facts);
            assert_eq!(
                denied(&Policies::permitting(), &question),
                Reason::GrantNotLive
            );
        }
    }
}

/// AC-5
#[test]
fn a_grant_ends_with_the_millisecond_it_says() {
    let mut question = question(Action::OperationRun);
    question.now = Timestamp::from_unix_ms(at(3_600).unix_ms() - 1);
    permitted(&Policies::permitting(), &question);
    question.now = at(3_600);
    assert_eq!(
        denied(&Policies::permitting(), &question),
        Reason::GrantNotLive
    );
}

/// AC-3
#[test]
fn the_grant_of_another_person_or_for_another_account_opens_nothing() {
    for action in [Action::SessionOpen, Action::OperationRun] {
        let mut stolen = question(action);
        stolen.grant.as_mut().unwrap().person_id = person("bob", &[]).id;
        assert_eq!(
            denied(&Policies::permitting(), &stolen),
            Reason::GrantNotLive
        );
        let mut elsewhere = question(action);
        elsewhere.grant.as_mut().unwrap().account_id = AccountId::new(at(0), [9; 10]);
        assert_eq!(
            denied(&Policies::permitting(), &elsewhere),
            Reason::GrantNotLive
        );
    }
}

/// AC-5
#[test]
fn a_session_without_a_grant_is_never_permitted() {
    let mut question = question(Action::SessionOpen);
    question.grant = None;
    assert_eq!(missing(&Policies::permitting(), &question), [Unmet::Grant]);
}

/// PO-3
#[test]
fn an_operation_without_a_grant_or_without_a_description_is_denied() {
    let mut without_grant = question(Action::OperationRun);
    without_grant.grant = None;
    assert_eq!(
        denied(&Policies::permitting(), &without_grant),
        Reason::GrantNotLive
    );
    let mut undescribed = question(Action::OperationRun);
    undescribed.operation = None;
    assert_eq!(
        denied(&Policies::permitting(), &undescribed),
        Reason::GrantNotLive
    );
}

/// PO-3: what cannot be recorded whole is not decided by its beginning.
#[test]
fn an_operation_too_long_to_record_is_denied_not_cut() {
    let mut question = question(Action::OperationRun);
    question.operation.as_mut().unwrap().detail = "x".repeat(OPERATION_DETAIL_BYTES_MAX);
    permitted(&Policies::permitting(), &question);
    question.operation.as_mut().unwrap().detail.push('x');
    assert_eq!(
        denied(&Policies::permitting(), &question),
        Reason::OperationTooLong
    );
}

/// AC-7
#[test]
fn an_open_review_blocks_the_next_break_glass_and_nothing_else() {
    let policies = Policies::permitting();
    let mut asked = question(Action::RequestCreate);
    asked.history.open_reviews = 1;
    permitted(&policies, &asked);
    asked.request.as_mut().unwrap().is_break_glass = true;
    assert_eq!(denied(&policies, &asked), Reason::ReviewOutstanding);
    asked.history.open_reviews = 0;
    permitted(&policies, &asked);

    // The access that is to be reviewed goes on: the review is opened when the glass is broken.
    let mut opened = question(Action::SessionOpen);
    opened.history.open_reviews = 1;
    opened.grant.as_mut().unwrap().is_break_glass = true;
    permitted(&policies, &opened);
}

/// AC-7
#[test]
fn break_glass_waits_for_no_approval_but_skips_nothing_else() {
    let policies = Policies::requiring(vec![
        approval(2, None),
        Requirement::Justification { min_chars: 10 },
        mfa(AuthenticationStrength::PhishingResistant, None),
    ]);
    let mut question = question(Action::RequestCreate);
    let request = question.request.as_mut().unwrap();
    request.is_break_glass = true;
    request.reason.clear();
    assert_eq!(
        missing(&policies, &question),
        [
            Unmet::Mfa {
                strength: AuthenticationStrength::PhishingResistant,
                max_age_s: None
            },
            Unmet::Justification { min_chars: 10 },
        ]
    );
    question.request.as_mut().unwrap().reason = "the site is down".into();
    question.authentication.strength = AuthenticationStrength::PhishingResistant;
    assert_eq!(permitted(&policies, &question).approvals(), []);
}

/// PO-2, AC-3
#[test]
fn a_permitted_request_says_which_votes_it_waits_for() {
    let policies = Policies::requiring(vec![approval(1, Some("sre")), approval(2, None)]);
    assert_eq!(
        permitted(&policies, &question(Action::RequestCreate)).approvals(),
        [approval(1, Some("sre")), approval(2, None)]
    );
}

/// PO-2
#[test]
fn a_weak_sign_in_is_challenged_at_request_and_at_connection() {
    let policies = Policies::requiring(vec![mfa(AuthenticationStrength::MultiFactor, None)]);
    for action in [Action::RequestCreate, Action::SessionOpen] {
        let mut question = question(action);
        question.authentication.strength = AuthenticationStrength::SingleFactor;
        assert_eq!(
            missing(&policies, &question),
            [Unmet::Mfa {
                strength: AuthenticationStrength::MultiFactor,
                max_age_s: None
            }]
        );
        for strength in [
            AuthenticationStrength::MultiFactor,
            AuthenticationStrength::PhishingResistant,
        ] {
            question.authentication.strength = strength;
            permitted(&policies, &question);
        }
    }
}

/// PO-2: a grant proves that others agreed, not who sits at the keyboard now.
#[test]
fn a_stale_sign_in_is_challenged_even_with_a_grant() {
    let required = mfa(AuthenticationStrength::SingleFactor, Some(900));
    let policies = Policies::requiring(vec![required]);
    let mut question = question(Action::SessionOpen);
    question.now = at(900);
    permitted(&policies, &question);
    question.now = at(901);
    assert_eq!(
        missing(&policies, &question),
        [Unmet::Mfa {
            strength: AuthenticationStrength::SingleFactor,
            max_age_s: Some(900)
        }]
    );
}

/// PO-3: the sign-in was checked when the session opened; nobody is asked at each keystroke.
#[test]
fn an_operation_does_not_ask_for_a_fresh_sign_in() {
    let required = mfa(AuthenticationStrength::PhishingResistant, Some(1));
    let policies = Policies::requiring(vec![required]);
    let mut question = question(Action::OperationRun);
    question.now = at(1_800);
    permitted(&policies, &question);
}

/// PO-2
#[test]
fn a_reason_counts_in_characters_without_the_blanks_around_it() {
    let policies = Policies::requiring(vec![Requirement::Justification { min_chars: 5 }]);
    for (reason, is_enough) in [
        ("", false),
        ("          ", false),
        ("  abcd   ", false),
        ("abcde", true),
        ("äöüßé", true),
    ] {
        let mut question = question(Action::RequestCreate);
        question.request.as_mut().unwrap().reason = reason.into();
        if is_enough {
            permitted(&policies, &question);
        } else {
            let unmet = missing(&policies, &question);
            assert_eq!(unmet, [Unmet::Justification { min_chars: 5 }], "{reason:?}");
        }
    }
}

/// PO-2
#[test]
fn a_ticket_is_its_prefix_and_digits() {
    let policies = Policies::requiring(vec![Requirement::Ticket {
        prefix: "CHG-".into(),
    }]);
    for (ticket, is_ticket) in [
        (None, false),
        (Some(""), false),
        (Some("CHG-"), false),
        (Some("INC-1"), false),
        (Some("chg-1"), false),
        (Some("CHG-12a"), false),
        (Some("CHG-1 "), false),
        (Some("CHG-1234567890123"), false),
        (Some("CHG-1"), true),
        (Some("CHG-123456789012"), true),
    ] {
        let mut question = question(Action::RequestCreate);
        question.request.as_mut().unwrap().ticket = ticket.map(str::to_owned);
        let is_permitted = matches!(decide(&policies, &question), Decision::Permit(_));
        assert_eq!(is_permitted, is_ticket, "{ticket:?}");
    }
}

/// PO-2, AC-1: everything that is missing is told at once, each once.
#[test]
fn a_session_without_a_grant_is_told_all_that_it_takes() {
    let policies = Policies::requiring(vec![
        Requirement::Justification { min_chars: 10 },
        Requirement::Ticket {
            prefix: "CHG-".into(),
        },
        approval(1, Some("sre")),
        mfa(AuthenticationStrength::PhishingResistant, None),
    ]);
    let mut question = question(Action::SessionOpen);
    question.grant = None;
    let unmet = missing(&policies, &question);
    assert_eq!(
        unmet,
        [
            Unmet::Grant,
            Unmet::Mfa {
                strength: AuthenticationStrength::PhishingResistant,
                max_age_s: None
            },
            Unmet::Justification { min_chars: 10 },
            Unmet::Ticket {
                prefix: "CHG-".into()
            },
            Unmet::Approval {
                count: 1,
                from: Some("sre".into())
            },
        ]
    );
}

/// PO-2
#[test]
fn under_a_live_grant_what_its_request_met_is_not_asked_again() {
    let policies = Policies::requiring(vec![
        Requirement::Justification { min_chars: 10 },
        Requirement::Ticket {
            prefix: "CHG-".into(),
        },
        approval(1, None),
    ]);
    permitted(&policies, &question(Action::SessionOpen));
    permitted(&policies, &question(Action::OperationRun));
}

/// PO-2, AC-3
#[test]
fn a_live_grant_excuses_a_new_request_from_nothing() {
    let policies = Policies::requiring(vec![
        Requirement::Justification { min_chars: 10 },
        Requirement::Ticket {
            prefix: "CHG-".into(),
        },
    ]);
    let mut question = question(Action::RequestCreate);
    question.grant = Some(grant_facts());
    question.request.as_mut().unwrap().reason.clear();
    assert_eq!(missing(&policies, &question).len(), 2);
}

/// PO-2
#[test]
fn of_each_kind_of_demand_the_strictest_wins() {
    let policies = Policies::demanding(vec![
        (
            vec![
                mfa(AuthenticationStrength::PhishingResistant, Some(3_600)),
                Requirement::Justification { min_chars: 5 },
                approval(1, Some("sre")),
                approval(3, None),
            ],
            vec![Constraint::MaxDuration { seconds: 7_200 }],
        ),
        (
            vec![
                mfa(AuthenticationStrength::SingleFactor, Some(60)),
                Requirement::Justification { min_chars: 50 },
                approval(2, Some("sre")),
                approval(1, None),
            ],
            vec![
                Constraint::MaxDuration { seconds: 3_600 },
                Constraint::IdleTimeout { seconds: 900 },
            ],
        ),
        (
            vec![mfa(AuthenticationStrength::SingleFactor, None)],
            vec![],
        ),
    ]);
    let mut question = question(Action::SessionOpen);
    question.grant = None;
    question.now = at(120);
    let Decision::Challenge {
        unmet, constraints, ..
    } = decide(&policies, &question)
    else {
        panic!("not challenged");
    };
    let of_group = |count, from: Option<&str>| Unmet::Approval {
        count,
        from: from.map(str::to_owned),
    };
    assert_eq!(
        unmet,
        [
            Unmet::Grant,
            Unmet::Mfa {
                strength: AuthenticationStrength::PhishingResistant,
                max_age_s: Some(60)
            },
            Unmet::Justification { min_chars: 50 },
            of_group(2, Some("sre")),
            of_group(3, None),
        ]
    );
    assert_eq!(constraints.max_duration_s, 3_600);
    assert_eq!(constraints.idle_timeout_s, Some(900));
}

/// PO-2: two prefixes can never both be met by one ticket, and neither cancels the other.
#[test]
fn tickets_of_two_systems_are_both_demanded() {
    let ticket = |prefix: &str| Requirement::Ticket {
        prefix: prefix.into(),
    };
    let policies = Policies::requiring(vec![ticket("CHG-"), ticket("INC-"), ticket("CHG-")]);
    let mut question = question(Action::RequestCreate);
    assert_eq!(missing(&policies, &question).len(), 2);
    question.request.as_mut().unwrap().ticket = Some("CHG-1".into());
    assert_eq!(
        missing(&policies, &question),
        [Unmet::Ticket {
            prefix: "INC-".into()
        }]
    );
}

/// PO-2
#[test]
fn asking_for_longer_than_policy_allows_is_denied() {
    let policies = Policies::limiting(Constraint::MaxDuration { seconds: 3_600 });
    let mut question = question(Action::RequestCreate);
    permitted(&policies, &question);
    question.request.as_mut().unwrap().duration_s = 3_601;
    assert_eq!(denied(&policies, &question), Reason::DurationTooLong);
}

/// PO-2
#[test]
fn nobody_gets_more_than_seven_days_even_without_a_policy() {
    let mut question = question(Action::RequestCreate);
    question.request.as_mut().unwrap().duration_s = 7 * 86_400;
    permitted(&Policies::permitting(), &question);
    question.request.as_mut().unwrap().duration_s += 1;
    assert_eq!(
        denied(&Policies::permitting(), &question),
        Reason::DurationTooLong
    );
}

/// PO-2, PO-3
#[test]
fn files_move_only_in_the_directions_that_policy_leaves_open() {
    use OperationKind::{Exec, FileChange, FileDownload, FileUpload, Shell};
    for (up, down, refused) in [
        (true, true, vec![]),
        (true, false, vec![(FileDownload, Reason::DownloadRefused)]),
        (
            false,
            true,
            vec![
                (FileUpload, Reason::UploadRefused),
                (FileChange, Reason::UploadRefused),
            ],
        ),
        (
            false,
            false,
            vec![
                (FileUpload, Reason::UploadRefused),
                (FileChange, Reason::UploadRefused),
                (FileDownload, Reason::DownloadRefused),
            ],
        ),
    ] {
        let policies = Policies::limiting(Constraint::FileTransfer { up, down });
        for kind in [Exec, FileChange, FileDownload, FileUpload, Shell] {
            let mut question = question(Action::OperationRun);
            question.operation.as_mut().unwrap().kind = kind;
            let expected = refused.iter().find(|(other, _)| *other == kind);
            match expected {
                Some((_, reason)) => assert_eq!(denied(&policies, &question), *reason),
                None => drop(permitted(&policies, &question)),
            }
        }
    }
}

/// PO-9
#[test]
fn every_answer_names_the_bundle_the_policies_and_the_facts() {
    let policies = Policies::requiring(vec![approval(1, None)]);
    let asked = question(Action::RequestCreate);
    let decision = decide(&policies, &asked);
    let trace = decision.trace();
    assert_eq!(trace.bundle, Some(crate::fixture::bundle()));
    assert_eq!(trace.determining, ["permit"]);
    assert_eq!(trace.demanding, ["r0"]);
    assert_eq!(trace.facts_hash, asked.facts_hash());
    assert_eq!(decision.outcome(), "permit");

    let mut disabled = asked.clone();
    disabled.principal.is_enabled = false;
    let decision = decide(&policies, &disabled);
    assert_eq!(decision.outcome(), "deny");
    assert_eq!(decision.trace().bundle, None);
    assert_eq!(decision.trace().facts_hash, disabled.facts_hash());
    assert_ne!(decision.trace().facts_hash, asked.facts_hash());
}

/// PO-9: two questions that differ in any fact have different hashes.
#[test]
fn the_hash_of_the_facts_changes_with_every_fact() {
    let edits: [fn(&mut Question); 13] = [
        |_| {},
        |q| q.action = Action::RequestCreate,
        |q| q.now = at(1),
        |q| q.principal.groups.push("sre".into()),
        |q| q.principal.name = "bob".parse().unwrap(),
        |q| q.authentication.strength = AuthenticationStrength::SingleFactor,
        |q| q.network.ip = "192.0.2.11".parse().unwrap(),
        |q| drop(q.target.labels.insert("env".into(), "prod".into())),
        |q| q.account.name = "app".parse().unwrap(),
        |q| q.grant = None,
        |q| q.operation.as_mut().unwrap().detail = "id -u".into(),
        |q| q.locks.push(lock(LockScope::Everything)),
        |q| q.history.open_reviews = 1,
    ];
    let mut hashes: Vec<String> = edits
        .iter()
        .map(|edit| {
            let mut question = question(Action::OperationRun);
            edit(&mut question);
            question.facts_hash()
        })
        .collect();
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), edits.len());
}

/// PO-3
#[test]
fn an_operation_is_decided_on_the_facts_of_its_session() {
    let session = question(Action::SessionOpen);
    let operation = Operation {
        kind: OperationKind::Exec,
        detail: "uptime".into(),
        facts: None,
    };
    let asked = session.about_operation(operation.clone(), at(5));
    assert_eq!(asked.action, Action::OperationRun);
    assert_eq!(asked.now, at(5));
    assert_eq!(asked.operation, Some(operation));
    assert_eq!(asked.grant, session.grant);
    permitted(&Policies::permitting(), &asked);
}

/// PO-3: what only the other action permits is not let in by asking under that one.
#[test]
fn an_operation_asked_about_under_another_action_is_refused() {
    for (kind, action) in [
        (OperationKind::ForwardLocal, Action::OperationRun),
        (OperationKind::Exec, Action::FeatureUse),
    ] {
        let mut question = question(action);
        question.operation = Some(Operation {
            kind,
            detail: "db-1:5432".into(),
            facts: None,
        });
        assert_eq!(
            denied(&Policies::permitting(), &question),
            Reason::FeatureRefused
        );
    }
}

/// PO-3: two sessions are told from each other by every fact, and what an operation brings itself is none.
#[test]
fn the_digest_of_a_session_changes_with_every_fact_of_it_and_with_nothing_else() {
    let digest = |edit: fn(&mut Question)| {
        let mut question = question(Action::SessionOpen);
        edit(&mut question);
        *SessionQuestion::new(&question).digest().unwrap()
    };
    let base = digest(|_| {});
    let edits: [fn(&mut Question); 10] = [
        |q| q.principal.groups.push("sre".into()),
        |q| q.principal.name = "bob".parse().unwrap(),
        |q| q.authentication.strength = AuthenticationStrength::SingleFactor,
        |q| q.authentication.at = at(5),
        |q| q.network.ip = "192.0.2.11".parse().unwrap(),
        |q| drop(q.target.labels.insert("env".into(), "prod".into())),
        |q| q.account.name = "app".parse().unwrap(),
        |q| q.grant = None,
        |q| q.locks.push(lock(LockScope::Everything)),
        |q| q.history.open_reviews = 1,
    ];
    for (place, edit) in edits.into_iter().enumerate() {
        assert_ne!(digest(edit), base, "edit {place}");
    }
    assert_eq!(digest(|q| q.action = Action::OperationRun), base);
    assert_eq!(digest(|q| q.now = at(7)), base);
}

/// GW-1, F4: nobody gets a forwarding or another subsystem under the permission to run things.
#[test]
fn forwarding_other_subsystems_and_environment_are_features_and_the_rest_is_not() {
    let action = |kind, detail: &str| {
        let detail = detail.to_owned();
        Operation {
            kind,
            detail,
            facts: None,
        }
        .action()
    };
    for kind in OperationKind::ALL {
        let expected = match kind {
            OperationKind::ForwardLocal
            | OperationKind::ForwardLocalSocket
            | OperationKind::ForwardRemote
            | OperationKind::ForwardRemoteSocket
            | OperationKind::ForwardAgent
            | OperationKind::Environment
            | OperationKind::Subsystem
            | OperationKind::FunctionCall
            | OperationKind::Replication
            | OperationKind::LocalFile
            | OperationKind::Unsupported => Action::FeatureUse,
            _ => Action::OperationRun,
        };
        assert_eq!(action(kind, "anything"), expected, "{kind:?}");
    }
    let sftp = action(OperationKind::Subsystem, "sftp");
    assert_eq!(sftp, Action::OperationRun);
}

fn requirement() -> impl Strategy<Value = Requirement> {
    let strength = prop::sample::select(vec![
        AuthenticationStrength::SingleFactor,
        AuthenticationStrength::MultiFactor,
        AuthenticationStrength::PhishingResistant,
    ]);
    prop_oneof![
        (strength, prop::option::of(0_u64..7_200)).prop_map(|(s, age)| mfa(s, age)),
        (1_u64..40).prop_map(|min_chars| Requirement::Justification { min_chars }),
        prop::sample::select(vec!["CHG-", "INC-"]).prop_map(|prefix| Requirement::Ticket {
            prefix: prefix.into()
        }),
        (
            1_u64..4,
            prop::sample::select(vec![None, Some("sre"), Some("dba")])
        )
            .prop_map(|(count, from)| approval(count, from)),
    ]
}

fn constraint() -> impl Strategy<Value = Constraint> {
    prop_oneof![
        (600_u64..7_200).prop_map(|seconds| Constraint::MaxDuration { seconds }),
        (any::<bool>(), any::<bool>()).prop_map(|(up, down)| Constraint::FileTransfer { up, down }),
    ]
}

fn demands() -> impl Strategy<Value = Vec<(Vec<Requirement>, Vec<Constraint>)>> {
    let demand = (
        prop::collection::vec(requirement(), 0..4),
        prop::collection::vec(constraint(), 0..3),
    );
    prop::collection::vec(demand, 0..4)
}

fn any_question() -> impl Strategy<Value = Question> {
    (
        prop::sample::select(ACTIONS.to_vec()),
        any::<bool>(),
        0_u64..7_200,
        0_usize..30,
        prop::option::of(Just("CHG-7")),
        prop::sample::select(OperationKind::ALL.to_vec()),
    )
        .prop_map(|(action, has_grant, age_s, reason_chars, ticket, kind)| {
            let mut question = question(action);
            question.authentication.at = question.now.minus(Duration::from_secs(age_s));
            if action == Action::SessionOpen && !has_grant {
                question.grant = None;
            }
            if let Some(request) = &mut question.request {
                request.reason = "x".repeat(reason_chars);
                request.ticket = ticket.map(str::to_owned);
            }
            if let Some(operation) = &mut question.operation {
                operation.kind = kind;
                question.action = operation.action();
            }
            question
        })
}

/// Better is more: a denial, a challenge by how little it misses, a permit by how few votes it needs.
fn generosity(decision: &Decision) -> (u8, std::cmp::Reverse<usize>) {
    match decision {
        Decision::Deny { .. } => (0, std::cmp::Reverse(0)),
        Decision::Challenge { unmet, .. } => (1, std::cmp::Reverse(unmet.len())),
        Decision::Permit(authorisation) => (2, std::cmp::Reverse(authorisation.approvals().len())),
    }
}

proptest! {
    /// PO-2: a policy added to the require set can only make access harder.
    #[test]
    fn one_more_demand_never_makes_an_answer_more_generous(
        fewer in demands(), added in demands(), question in any_question(),
    ) {
        let all: Vec<_> = fewer.iter().cloned().chain(added).collect();
        let lax = decide(&Policies::demanding(fewer), &question);
        let strict = decide(&Policies::demanding(all), &question);
        prop_assert!(generosity(&strict) <= generosity(&lax), "{lax:?} became {strict:?}");
    }

    /// PO-2: the order of files and policies means nothing.
    #[test]
    fn demands_add_up_the_same_in_any_order(demands in demands(), question in any_question()) {
        let mut reversed = demands.clone();
        reversed.reverse();
        for (requirements, _) in &mut reversed {
            requirements.reverse();
        }
        let forward = decide(&Policies::demanding(demands), &question);
        let backward = decide(&Policies::demanding(reversed), &question);
        match (forward, backward) {
            (Decision::Permit(a), Decision::Permit(b)) => {
                prop_assert_eq!(a.approvals(), b.approvals());
                prop_assert_eq!(a.constraints(), b.constraints());
            }
            (
                Decision::Challenge { unmet: a, constraints: c, .. },
                Decision::Challenge { unmet: b, constraints: d, .. },
            ) => prop_assert_eq!((a, c), (b, d)),
            (Decision::Deny { reasons: a, .. }, Decision::Deny { reasons: b, .. }) => {
                prop_assert_eq!(a, b);
            }
            (forward, backward) => prop_assert!(false, "{forward:?} is not {backward:?}"),
        }
    }

    /// AC-5: whatever policies demand, a session or operation without a live grant is not permitted.
    #[test]
    fn nothing_opens_without_a_live_grant(
        demands in demands(),
        question in any_question(),
        from_s in 0_u64..100,
        length_s in 0_u64..100,
        now_s in 0_u64..200,
        is_open in any::<bool>(),
    ) {
        prop_assume!(question.action != Action::RequestCreate);
        let mut question = question;
        question.now = at(now_s);
        question.authentication.at = at(now_s);
        let mut facts = grant(at(from_s), at(from_s + length_s)).facts();
        facts.is_open = is_open;
        question.grant = Some(facts);
        let is_live = is_open && from_s <= now_s && now_s < from_s + length_s;
        let is_permitted = matches!(decide(&Policies::demanding(demands), &question), Decision::Permit(_));
        prop_assert!(is_live || !is_permitted);
    }
}

fn command_rule(count: u64, from: Option<&str>, within_s: u64, pattern: &str) -> Requirement {
    Requirement::CommandApproval(crate::policy::CommandRule {
        count,
        from: from.map(str::to_owned),
        within_s,
        allows_unknown_prompt: false,
        allows_full_screen: false,
        patterns: vec![pattern.parse().unwrap()],
    })
}

fn about(kind: OperationKind, detail: &str) -> Question {
    let mut question = question(Action::OperationRun);
    question.operation = Some(crate::session::Operation {
        kind,
        detail: detail.to_owned(),
        facts: None,
    });
    question
}

/// PO-2, E3: a command that matches waits, of each group the most votes, of all times the shortest.
#[test]
fn a_command_that_matches_waits_for_the_strictest_of_what_is_demanded() {
    let policies = Policies::requiring(vec![
        command_rule(1, None, 600, "rm *"),
        command_rule(2, None, 300, "*srv*"),
        command_rule(1, Some("sre"), 900, "rm *"),
        command_rule(9, None, 60, "shutdown*"),
    ]);
    for kind in [OperationKind::Exec, OperationKind::TypedCommand] {
        let unmet = missing(&policies, &about(kind, "rm -rf /srv"));
        let quorum = |count, from: Option<&str>| Quorum {
            count,
            from: from.map(str::to_owned),
        };
        let [Unmet::CommandApproval(terms)] = unmet.as_slice() else {
            panic!("{unmet:?}");
        };
        assert_eq!(terms.within_s, 300);
        assert_eq!(terms.quorums.len(), 2);
        assert!(terms.quorums.contains(&quorum(2, None)), "{terms:?}");
        assert!(terms.quorums.contains(&quorum(1, Some("sre"))), "{terms:?}");
        permitted(&policies, &about(kind, "ls"));
    }
}

/// PO-2: what is no command waits for nobody, and a shell says what may not be typed in it.
#[test]
fn only_commands_wait_and_a_shell_carries_the_rules_for_what_is_typed_in_it() {
    let policies = Policies::requiring(vec![command_rule(1, None, 600, "*")]);
    permitted(&policies, &question(Action::SessionOpen));
    for kind in OperationKind::ALL {
        let is_command = matches!(
            kind,
            OperationKind::Exec | OperationKind::TypedCommand | OperationKind::Statement
        );
        let decision = decide(&policies, &about(kind, "x"));
        match decision {
            Decision::Permit(_) => assert!(!is_command, "{kind:?} did not wait"),
            Decision::Challenge { .. } => assert!(is_command, "{kind:?} waits"),
            // Features that no policy names are refused, and wait for nobody.
            Decision::Deny { reasons, .. } => {
                assert_eq!(reasons, [Reason::FeatureRefused], "{kind:?}");
            }
        }
    }
    let found = terminal_rules(&policies, &question(Action::SessionOpen)).unwrap();
    assert_eq!(found.rules.len(), 1);
    assert!(terminal_rules(&Policies::failing(), &question(Action::SessionOpen)).is_err());
}
