//! What no policy can switch off: who is disabled, what is locked, which grants are live, what break-glass costs.

use super::*;

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
