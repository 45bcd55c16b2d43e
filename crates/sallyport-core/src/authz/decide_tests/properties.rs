//! What holds for all demands and all questions.

use proptest::prelude::*;

use super::*;

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
