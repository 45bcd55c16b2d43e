//! What the engine answers, and that it answers nothing it should not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests stop at the first surprise"
)]

use std::{sync::OnceLock, time::Duration};

use proptest::prelude::*;
use sallyport_core::{
    authz::{Action, Decision as Answer, Reason, decide},
    inventory::Sensitivity,
    policy::{Constraint, Requirement},
    principal::AuthenticationStrength,
    session::{Operation, OperationKind},
};

use super::*;
use crate::fixture::{PERMIT_ALL, bundle, question};

type Edit = fn(&mut Question);

fn is_authorised(condition: &str, question: &Question) -> bool {
    let policy = format!("@id(\"p\") permit (principal, action, resource) when {{ {condition} }};");
    let evaluation = bundle(&policy, "").evaluate(question).unwrap();
    assert_eq!(evaluation.determining.is_empty(), !evaluation.is_authorised);
    evaluation.is_authorised
}

/// PO-1: each fact, with a question in which the policy holds and one in which it does not.
#[test]
fn a_policy_weighs_every_fact_it_can_name() {
    let cases: [(&str, Action, Edit); 24] = [
        (r#"principal.name == "alice""#, Action::SessionOpen, |q| {
            q.principal.name = "bob".parse().unwrap();
        }),
        (
            r#"principal == Person::"alice""#,
            Action::SessionOpen,
            |q| {
                q.principal.name = "bob".parse().unwrap();
            },
        ),
        (r#"principal in Group::"sre""#, Action::SessionOpen, |q| {
            q.principal.groups = vec!["dev".into()];
        }),
        (r#"resource.name == "root""#, Action::SessionOpen, |q| {
            q.account.name = "app".parse().unwrap();
        }),
        (
            r#"resource == Account::"root@web-1""#,
            Action::SessionOpen,
            |q| {
                q.target.name = "web-2".parse().unwrap();
            },
        ),
        (r#"resource in Target::"web-1""#, Action::SessionOpen, |q| {
            q.target.name = "web-2".parse().unwrap();
        }),
        (
            r#"resource.target.name == "web-1""#,
            Action::SessionOpen,
            |q| {
                q.target.name = "web-2".parse().unwrap();
            },
        ),
        (
            r#"resource.target.protocol == "ssh""#,
            Action::SessionOpen,
            |q| {
                q.target.protocol = "postgres".into();
            },
        ),
        (
            r#"resource.target.sensitivity == Sensitivity::"medium""#,
            Action::SessionOpen,
            |q| q.target.sensitivity = Sensitivity::High,
        ),
        (
            "resource.target.sensitivity_rank <= 2",
            Action::SessionOpen,
            |q| {
                q.target.sensitivity = Sensitivity::High;
            },
        ),
        (
            r#"resource.target.hasTag("env") && resource.target.getTag("env") == "prod""#,
            Action::SessionOpen,
            |q| q.target.labels.clear(),
        ),
        (
            r#"context.mfa.strength == AuthenticationStrength::"single_factor""#,
            Action::SessionOpen,
            |q| q.authentication.strength = AuthenticationStrength::MultiFactor,
        ),
        ("context.mfa.strength_rank < 3", Action::SessionOpen, |q| {
            q.authentication.strength = AuthenticationStrength::PhishingResistant;
        }),
        ("context.mfa.age_s < 60", Action::SessionOpen, |q| {
            q.now = q.now.plus(std::time::Duration::from_secs(60));
        }),
        (
            r#"context.network.ip.isInRange(ip("192.0.2.0/24"))"#,
            Action::SessionOpen,
            |q| q.network.ip = "198.51.100.1".parse().unwrap(),
        ),
        ("context.time.hour < 11", Action::SessionOpen, |q| {
            q.now = "2026-03-02T11:00:00Z".parse().unwrap();
        }),
        ("context.time.weekday < 5", Action::SessionOpen, |q| {
            q.now = "2026-03-07T00:00:00Z".parse().unwrap();
        }),
        (
            "context.time.unix_s < 1800000000",
            Action::SessionOpen,
            |q| {
                q.now = "2030-01-01T00:00:00Z".parse().unwrap();
            },
        ),
        (
            "context.history.open_reviews == 0",
            Action::SessionOpen,
            |q| {
                q.history.open_reviews = 1;
            },
        ),
        (
            r#"context has request && context.request.reason like "rotate*""#,
            Action::RequestCreate,
            |q| q.request.as_mut().unwrap().reason = "none".into(),
        ),
        (
            "context has request && !context.request.has_ticket && !(context.request has ticket)",
            Action::RequestCreate,
            |q| q.request.as_mut().unwrap().ticket = Some("CHG-1".into()),
        ),
        (
            "context has request && context.request.duration_s <= 3600",
            Action::RequestCreate,
            |q| q.request.as_mut().unwrap().duration_s = u64::MAX,
        ),
        (
            r#"context has operation && context.operation.kind == OperationKind::"exec""#,
            Action::OperationRun,
            |q| q.operation.as_mut().unwrap().kind = OperationKind::Shell,
        ),
        (
            r#"context has operation && context.operation.detail == "id""#,
            Action::OperationRun,
            |q| q.operation.as_mut().unwrap().detail = "id -u".into(),
        ),
    ];
    for (condition, action, edit) in cases {
        let mut question = question(action);
        assert!(is_authorised(condition, &question), "{condition}");
        edit(&mut question);
        assert!(!is_authorised(condition, &question), "not {condition}");
    }
}

/// PO-1: purpose: an emergency is another thing than daily work, at the request and under its grant.
#[test]
fn a_policy_tells_break_glass_from_daily_work() {
    let mut asked = question(Action::RequestCreate);
    let condition = "context has request && context.request.is_break_glass";
    assert!(!is_authorised(condition, &asked));
    asked.request.as_mut().unwrap().is_break_glass = true;
    assert!(is_authorised(condition, &asked));

    let mut held = question(Action::OperationRun);
    let condition = "context has grant && context.grant.is_break_glass";
    assert!(!is_authorised(condition, &held));
    held.grant.as_mut().unwrap().is_break_glass = true;
    assert!(is_authorised(condition, &held));
}

/// PO-1: a listener for both families must not lift an IPv4 client out of every IPv4 range.
#[test]
fn an_ipv4_client_in_ipv6_form_is_the_ipv4_client() {
    let mut question = question(Action::SessionOpen);
    question.network.ip = "::ffff:192.0.2.10".parse().unwrap();
    assert!(is_authorised(
        r#"context.network.ip.isInRange(ip("192.0.2.0/24"))"#,
        &question
    ));
    question.network.ip = "2001:db8::1".parse().unwrap();
    assert!(is_authorised(
        r#"context.network.ip.isInRange(ip("2001:db8::/32"))"#,
        &question
    ));
}

/// PO-1
#[test]
fn hours_and_weekdays_are_those_of_utc() {
    for (at, hour, weekday) in [
        ("1970-01-01T00:00:00Z", 0, 3),
        ("1970-01-05T00:00:00Z", 0, 0),
        ("2026-03-01T23:59:59.999Z", 23, 6),
        ("2026-03-02T00:00:00Z", 0, 0),
        ("2024-02-29T12:30:00Z", 12, 3),
    ] {
        let mut question = question(Action::SessionOpen);
        question.now = at.parse().unwrap();
        let condition = format!("context.time.hour == {hour} && context.time.weekday == {weekday}");
        assert!(is_authorised(&condition, &question), "{at}");
    }
}

/// PO-3: the same bundle is asked at request, at connection and at each operation, and a policy can
/// answer each differently.
#[test]
fn each_of_the_three_actions_gets_its_own_answer() {
    let bundle = bundle(
        "@id(\"ask\") permit (principal, action == Action::\"request.create\", resource);
         @id(\"run\") permit (principal, action == Action::\"operation.run\", resource);
         @id(\"no-shell\") forbid (principal, action == Action::\"operation.run\", resource)
           when { context.operation.kind == OperationKind::\"shell\" };",
        "",
    );
    let answer = |question: &Question| bundle.evaluate(question).unwrap();
    assert_eq!(
        answer(&question(Action::RequestCreate)).determining,
        ["ask"]
    );
    assert!(!answer(&question(Action::SessionOpen)).is_authorised);
    assert!(!answer(&question(Action::SessionOpen)).is_forbidden);
    let mut operation = question(Action::OperationRun);
    assert_eq!(answer(&operation).determining, ["run"]);
    operation.operation.as_mut().unwrap().kind = OperationKind::Shell;
    assert!(answer(&operation).is_forbidden);
    assert_eq!(answer(&operation).determining, ["no-shell"]);
}

/// GW-1, F4: a policy written for every action, maybe before there were features, opens none.
#[test]
fn a_feature_is_off_until_a_policy_names_it() {
    let everything = bundle(PERMIT_ALL, "");
    assert!(
        everything
            .evaluate(&question(Action::OperationRun))
            .unwrap()
            .is_authorised
    );
    let answer = everything.evaluate(&question(Action::FeatureUse)).unwrap();
    assert!(!answer.is_authorised && !answer.is_forbidden);
    assert_eq!(answer.determining, Vec::<String>::new());

    let named = format!(
        "{PERMIT_ALL} @id(\"db\") permit (principal, action == Action::\"feature.use\", resource)
           when {{ context.operation.kind == OperationKind::\"forward_local\" }}
           when {{ context.operation.detail == \"db-1:5432\" }};"
    );
    let mut asked = question(Action::FeatureUse);
    let answer = bundle(&named, "").evaluate(&asked).unwrap();
    assert!(answer.is_authorised);
    assert_eq!(answer.determining, ["db"]);
    asked.operation.as_mut().unwrap().detail = "db-2:5432".into();
    assert!(!bundle(&named, "").evaluate(&asked).unwrap().is_authorised);

    let refused = format!(
        "{named} @id(\"none\") forbid (principal, action, resource)
           when {{ context has operation && context.operation.kind == OperationKind::\"forward_local\" }};"
    );
    let answer = bundle(&refused, "")
        .evaluate(&question(Action::FeatureUse))
        .unwrap();
    assert!(answer.is_forbidden);
    assert_eq!(answer.determining, ["none"]);
}

/// PO-2, PO-9
#[test]
fn every_satisfied_policy_of_the_require_set_adds_its_demand_under_its_name() {
    let bundle = bundle(
        PERMIT_ALL,
        "@id(\"b\") @approval(\"2 from sre\") @max_duration(\"1h\") permit (principal, action, resource);
         @id(\"a\") @mfa(\"multi_factor\") permit (principal, action, resource);
         @id(\"c\") @ticket(\"CHG-\") permit (principal in Group::\"dev\", action, resource);",
    );
    let evaluation = bundle.evaluate(&question(Action::SessionOpen)).unwrap();
    assert_eq!(evaluation.demands.len(), 2);
    assert_eq!(evaluation.demands[0].policy, "a");
    assert_eq!(evaluation.demands[1].policy, "b");
    assert_eq!(
        evaluation.demands[1].requirements,
        [Requirement::Approval {
            count: 2,
            from: Some("sre".into())
        }]
    );
    assert_eq!(
        evaluation.demands[1].constraints,
        [Constraint::MaxDuration { seconds: 3_600 }]
    );
    assert_eq!(evaluation.bundle, *bundle.hash());
}

/// Fails when it is evaluated: the product is beyond what Cedar can count.
const OVERFLOW: &str = "context.time.unix_s * 9000000000000000000 > 0";

/// PO-2: an error denies, wherever it is and whatever the rest says.
#[test]
fn an_evaluation_error_in_any_policy_of_either_set_is_a_denial() {
    let question = question(Action::RequestCreate);
    let faulty = |effect: &str| {
        format!("@id(\"faulty\") {effect} (principal, action, resource) when {{ {OVERFLOW} }};")
    };
    let bundles = [
        bundle(&format!("{PERMIT_ALL}{}", faulty("permit")), ""),
        bundle(&format!("{PERMIT_ALL}{}", faulty("forbid")), ""),
        bundle(PERMIT_ALL, &format!("@approval(\"1\"){}", faulty("permit"))),
        bundle(
            &format!(
                "@id(\"no\") forbid (principal, action, resource);{}",
                faulty("permit")
            ),
            "",
        ),
    ];
    for bundle in bundles {
        let error = bundle.evaluate(&question).unwrap_err();
        assert_eq!(error.policies, ["faulty"]);
        assert_eq!(error.bundle, *bundle.hash());
        let Answer::Deny { reasons, trace } = decide(&bundle, &question) else {
            panic!("not denied");
        };
        assert_eq!(reasons, [Reason::PolicyError]);
        assert_eq!(trace.determining, ["faulty"]);
    }
}

/// PO-1: what no policy was written for is refused, not answered by a policy for something else.
#[test]
fn a_question_that_does_not_fit_the_schema_is_an_error() {
    let edits: [(&str, Action, Edit); 6] = [
        ("a workload", Action::SessionOpen, |q| {
            q.principal.kind = PrincipalKind::Workload
        }),
        ("an agent", Action::SessionOpen, |q| {
            q.principal.kind = PrincipalKind::Agent
        }),
        ("a request of nothing", Action::RequestCreate, |q| {
            q.request = None
        }),
        ("an operation of nothing", Action::OperationRun, |q| {
            q.operation = None
        }),
        ("an operation without a grant", Action::OperationRun, |q| {
            q.grant = None
        }),
        ("an operation outside a session", Action::SessionOpen, |q| {
            q.operation = Some(Operation {
                kind: OperationKind::Exec,
                detail: "id".into(),
                facts: None,
            });
        }),
    ];
    let bundle = bundle(PERMIT_ALL, "");
    for (what, action, edit) in edits {
        let mut question = question(action);
        assert!(bundle.evaluate(&question).unwrap().is_authorised, "{what}");
        edit(&mut question);
        assert!(bundle.evaluate(&question).is_err(), "{what}");
    }
}

#[test]
fn too_many_groups_or_labels_are_an_error() {
    let bundle = bundle(PERMIT_ALL, "");
    let mut crowded = question(Action::SessionOpen);
    crowded.principal.groups = (0..=NAMES_MAX).map(|n| format!("g{n}")).collect();
    assert!(bundle.evaluate(&crowded).is_err());
    let mut labelled = question(Action::SessionOpen);
    labelled.target.labels = (0..=NAMES_MAX)
        .map(|n| (format!("k{n}"), String::new()))
        .collect();
    assert!(bundle.evaluate(&labelled).is_err());
}

/// PO-1: text that a person chose stays text.
#[test]
fn quotes_wildcards_and_policy_text_in_a_fact_mean_nothing() {
    let hostile = "\" || true || \"*\\\0 Group::\"sre\"";
    let mut question = question(Action::OperationRun);
    question.operation.as_mut().unwrap().detail = hostile.into();
    question.principal.groups = vec![hostile.into()];
    question.target.labels = [(hostile.to_owned(), hostile.to_owned())].into();
    assert!(!is_authorised(
        "context has operation && context.operation.detail == \"id\"",
        &question
    ));
    assert!(!is_authorised("principal in Group::\"sre\"", &question));
    assert!(!is_authorised("resource.target.hasTag(\"env\")", &question));
}

#[test]
fn the_entities_of_a_question_fit_the_schema() {
    for action in crate::schema::ACTIONS {
        let asked = Asked::new(&question(action)).unwrap();
        Entities::from_entities(asked.entities.iter().cloned(), Some(schema().unwrap())).unwrap();
    }
}

#[test]
fn policies_for_others_are_not_even_looked_at() {
    let mut policies = String::from(PERMIT_ALL);
    for n in 0..500 {
        policies.push_str(&format!(
            "@id(\"g{n}\") permit (principal in Group::\"g{n}\", action, resource);
             @id(\"t{n}\") permit (principal, action, resource in Target::\"t{n}\");"
        ));
    }
    policies.push_str("@id(\"mine\") permit (principal in Group::\"sre\", action, resource);");
    let bundle = bundle(&policies, "");
    let asked = Asked::new(&question(Action::SessionOpen)).unwrap();
    let selected = bundle.inner.authorise.select(&asked.scope).unwrap();
    let mut ids: Vec<_> = selected
        .policies()
        .map(|policy| policy.id().to_string())
        .collect();
    ids.sort();
    assert_eq!(ids, ["all", "mine"]);
}

#[test]
fn asking_again_after_the_kept_selections_were_forgotten_gives_the_same_answer() {
    // 400 for everybody and one for each target: 100 selections are twice as many as are kept.
    let mut policies = String::new();
    for n in 0..400 {
        policies.push_str(&format!(
            "@id(\"all{n}\") forbid (principal, action, resource) when {{ context.history.open_reviews > {n} }};"
        ));
    }
    for n in 0..100 {
        policies.push_str(&format!(
            "@id(\"t{n}\") permit (principal, action, resource in Target::\"t{n}\");"
        ));
    }
    let bundle = bundle(&policies, "");
    for n in (0..100).chain([0, 1, 99, 99]) {
        let mut question = question(Action::SessionOpen);
        question.target.name = format!("t{n}").parse().unwrap();
        let evaluation = bundle.evaluate(&question).unwrap();
        assert_eq!(evaluation.determining, [format!("t{n}")]);
    }
}

fn scope() -> impl Strategy<Value = String> {
    let principal = prop::sample::select(vec![
        "principal",
        "principal is Person",
        "principal == Person::\"alice\"",
        "principal == Person::\"bob\"",
        "principal in Group::\"sre\"",
        "principal in Group::\"dev\"",
        "principal is Person in Group::\"dba\"",
        "principal in Person::\"alice\"",
    ]);
    let action = prop::sample::select(vec![
        "action",
        "action == Action::\"request.create\"",
        "action == Action::\"session.open\"",
        "action in [Action::\"session.open\", Action::\"operation.run\"]",
        "action in [Action::\"operation.run\"]",
    ]);
    let resource = prop::sample::select(vec![
        "resource",
        "resource is Account",
        "resource == Account::\"root@web-1\"",
        "resource == Account::\"app@web-1\"",
        "resource in Target::\"web-1\"",
        "resource in Target::\"web-2\"",
        "resource is Account in Target::\"web-2\"",
        "resource in Account::\"root@web-2\"",
    ]);
    (principal, action, resource)
        .prop_map(|(principal, action, resource)| format!("({principal}, {action}, {resource})"))
}

fn condition() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "",
        "",
        " when { resource.target.sensitivity_rank >= 3 }",
        " unless { context.mfa.strength_rank >= 2 }",
        " when { resource.target.hasTag(\"env\") && resource.target.getTag(\"env\") == \"prod\" }",
        " when { context has request && context.request.has_ticket }",
        " when { context.history.open_reviews * 9000000000000000000 > 0 }",
    ])
}

fn policies(effects: &'static [&'static str]) -> impl Strategy<Value = String> {
    let policy = (prop::sample::select(effects), scope(), condition());
    prop::collection::vec(policy, 0..10).prop_map(move |policies| {
        let policies = policies.into_iter().enumerate();
        let set = if effects.len() == 1 { "r" } else { "a" };
        policies
            .map(|(n, (effect, scope, condition))| {
                format!("@id(\"{set}{n}\") {effect} {scope}{condition};\n")
            })
            .collect()
    })
}

fn any_question() -> impl Strategy<Value = Question> {
    let groups = prop::sample::subsequence(vec!["sre", "dev", "dba", "ops"], 0..=4);
    let names = (
        prop::sample::select(vec!["alice", "bob", "carol"]),
        prop::sample::select(vec!["root", "app"]),
        prop::sample::select(vec!["web-1", "web-2", "web-3"]),
    );
    let facts = (
        prop::sample::select(crate::schema::SENSITIVITIES.to_vec()),
        prop::sample::select(crate::schema::STRENGTHS.to_vec()),
        any::<bool>(),
        any::<bool>(),
        0_u64..3,
    );
    (
        prop::sample::select(crate::schema::ACTIONS.to_vec()),
        groups,
        names,
        facts,
    )
        .prop_map(|(action, groups, (person, account, target), facts)| {
            let (sensitivity, strength, is_labelled, has_ticket, open_reviews) = facts;
            let mut question = question(action);
            question.principal.name = person.parse().unwrap();
            question.principal.groups = groups.into_iter().map(str::to_owned).collect();
            question.account.name = account.parse().unwrap();
            question.target.name = target.parse().unwrap();
            question.target.sensitivity = sensitivity;
            question.authentication.strength = strength;
            question.history.open_reviews = open_reviews;
            if !is_labelled {
                question.target.labels.clear();
            }
            if let Some(request) = &mut question.request {
                request.ticket = has_ticket.then(|| "CHG-1".to_owned());
            }
            question
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// PO-1, PO-2, PO-9: selecting policies by their scope never changes whether it is authorised or
    /// forbidden, which policies decided, what is demanded, or which policy failed.
    #[test]
    fn selection_never_changes_an_answer(
        authorise in policies(&["permit", "permit", "forbid"]),
        require in policies(&["@approval(\"1\") permit"]),
        questions in prop::collection::vec(any_question(), 1..8),
    ) {
        let bundle = bundle(&authorise, &require);
        for question in questions {
            let selected = bundle.evaluate(&question);
            let whole = bundle.evaluate_with(&question, |index, _| {
                PolicySet::from_policies(index.policies().iter().cloned())
                    .map(Arc::new)
                    .map_err(|error| error.to_string())
            });
            match (selected, whole) {
                (Ok(selected), Ok(whole)) => prop_assert_eq!(selected, whole),
                (Err(selected), Err(whole)) => {
                    prop_assert_eq!(selected.policies, whole.policies);
                    prop_assert_eq!(selected.message, whole.message);
                }
                (selected, whole) => prop_assert!(false, "{selected:?} is not {whole:?}"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// PO-1, PO-2: an answer that is remembered is the one that would be given, however two questions about an
    /// operation differ: in the second, the age of the sign-in, the text, what it does, the person, the place;
    /// whether policies look at texts or not.
    #[test]
    fn a_remembered_answer_is_the_one_that_would_be_given(
        asked in proptest::collection::vec(
            ((0_u64..2, 0_u64..1_000, 0_u64..3), (0_usize..3, 0_usize..4), (0_u8..2, 0_u8..2)),
            8..40,
        ),
        looks: bool,
    ) {
        static BUNDLES: OnceLock<[Bundle; 2]> = OnceLock::new();
        let base = question(Action::OperationRun);
        let blind = r#"
            @id("a") permit (principal, action == Action::"operation.run", resource) when { context.time.unix_s == SECOND };
            @id("b") permit (principal, action == Action::"operation.run", resource) when { context.mfa.age_s > 1 };
            @id("d") permit (principal, action == Action::"operation.run", resource) when { context.network.ip == ip("192.0.2.9") };
            @id("e") forbid (principal == Person::"bob", action, resource);
            @id("f") permit (principal, action == Action::"operation.run", resource) when { context.operation.verb == Verb::"read" };
            @id("g") forbid (principal, action == Action::"operation.run", resource)
                when { context.operation.kind == OperationKind::"exec" } when { context.operation.detail == "SELECT 2" };
        "#.replace("SECOND", &(base.now.unix_s() + 1).to_string());
        let sees = r#"
            @id("c") permit (principal, action == Action::"operation.run", resource) when { context.operation.detail == "SELECT 1" };
        "#;
        let bundles = BUNDLES.get_or_init(|| [bundle(&blind, ""), bundle(&format!("{blind}{sees}"), "")]);
        let bundle = &bundles[usize::from(looks)];
        let statement = |verb| Some(Box::new(StatementFacts { verbs: [verb].into(), ..StatementFacts::default() }));
        let mut asked = asked;
        // What is remembered is of one second: in their order, so that much of it is asked for again.
        asked.sort_by_key(|((later_s, _, _), _, _)| *later_s);
        for ((later_s, later_ms, age_s), (text, what), (who, place)) in asked {
            let mut one = base.clone();
            let now = base.now.plus(Duration::from_millis(later_s * 1_000 + later_ms));
            one.authentication.at = base.now.minus(Duration::from_millis(age_s * 1_000 + 500));
            let (kind, facts) = match what {
                0 => (OperationKind::Exec, None),
                1 => (OperationKind::Statement, statement(Verb::Read)),
                2 => (OperationKind::Statement, statement(Verb::Write)),
                _ => (OperationKind::Statement, None),
            };
            let detail = ["SELECT 1", "SELECT 2", ""][text].to_owned();
            let operation = Operation { kind, detail, facts };
            if who == 1 {
                one.principal.name = "bob".parse().unwrap();
            }
            if place == 1 {
                one.network.ip = "192.0.2.9".parse().unwrap();
            }
            let session = SessionQuestion::new(&one);
            let remembered = bundle.evaluate_operation(&session, &operation, now).unwrap();
            let anew = bundle.evaluate_with(&one.about_operation(operation, now), PolicyIndex::select).unwrap();
            prop_assert_eq!(&*remembered, &anew);
        }
    }
}

/// PO-3: the default bundle's rules about commands do not look at what statements say, so that one with other
/// values in it is not a new question.
#[test]
fn no_policy_of_the_default_bundle_looks_at_the_text_of_a_statement() {
    let bundle = crate::default_bundle().unwrap();
    for (set, reads_commands) in [
        (&bundle.inner.authorise, true),
        (&bundle.inner.require, false),
    ] {
        assert!(!set.text_readers().reads(OperationKind::Statement));
        assert_eq!(
            set.text_readers().reads(OperationKind::Exec),
            reads_commands
        );
    }
}
