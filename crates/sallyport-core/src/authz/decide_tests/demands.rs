//! What the require set demands, what of it is missing, and that the strictest wins.

use super::*;

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
