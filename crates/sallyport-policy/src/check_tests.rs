//! That policy tests fail when they should, each expectation on its own.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests stop at the first surprise"
)]

use serde_json::{Value, json};

use crate::fixture::{PERMIT_ALL, load};

const DEMANDS: &str = "@id(\"two\") @approval(\"2 from sre\") @idle_timeout(\"15m\") permit (principal, action, resource);
@id(\"key\") @mfa(\"phishing_resistant, max_age=15m\") permit (principal, action == Action::\"session.open\", resource);
@id(\"why\") @justification(\"min=5\") @ticket(\"CHG-\") permit (principal, action, resource);";

/// What is not as expected in the one test of a bundle that permits all and demands [`DEMANDS`].
fn failures(question: Value, expect: Value) -> Vec<String> {
    let tests = json!({ "tests": [{ "name": "it", "question": question, "expect": expect }] });
    let bundle = load(&[
        ("authorise/a.cedar", PERMIT_ALL),
        ("require/a.cedar", DEMANDS),
        ("tests/a.json", &tests.to_string()),
    ])
    .unwrap();
    let report = bundle.test();
    assert_eq!(report.outcomes.len(), 1);
    assert_eq!(report.outcomes[0].file, "tests/a.json");
    assert_eq!(report.outcomes[0].name, "it");
    assert_eq!(
        report.failed(),
        usize::from(!report.outcomes[0].failures.is_empty())
    );
    report.outcomes[0].failures.clone()
}

/// PO-2, PO-9
#[test]
fn a_test_passes_when_everything_it_names_is_so() {
    let opened = failures(
        json!({ "action": "session.open", "on": "root@web-1" }),
        json!({
            "outcome": "challenge",
            "reasons": [],
            "unmet": ["grant", "mfa phishing_resistant, max_age=900s", "approval 2 from sre",
                      "justification min=5", "ticket CHG-"],
            "approvals": [],
            "determining": ["all"],
            "demanding": ["key", "two", "why"],
            "constraints": { "idle_timeout_s": 900, "upload": true }
        }),
    );
    assert_eq!(opened, Vec::<String>::new());
    let asked = failures(
        json!({ "action": "request.create", "on": "root@web-1",
                "request": { "reason": "deploy", "ticket": "CHG-12" } }),
        json!({ "outcome": "permit", "approvals": ["2 from sre"] }),
    );
    assert_eq!(asked, Vec::<String>::new());
}

#[test]
fn a_test_fails_for_each_thing_that_is_not_as_expected() {
    let asked = json!({ "action": "request.create", "on": "root@web-1",
                        "request": { "reason": "deploy", "ticket": "CHG-12" } });
    for (expect, failure) in [
        (
            json!({ "outcome": "deny" }),
            "outcome: expected deny, got permit",
        ),
        (
            json!({ "outcome": "permit", "reasons": ["locked"] }),
            "reasons: expected [locked], got []",
        ),
        (
            json!({ "outcome": "permit", "unmet": ["grant"] }),
            "unmet: expected [grant], got []",
        ),
        (
            json!({ "outcome": "permit", "approvals": ["1"] }),
            "approvals: expected [1], got [2 from sre]",
        ),
        (
            json!({ "outcome": "permit", "determining": [] }),
            "determining: expected [], got [all]",
        ),
        (
            json!({ "outcome": "permit", "demanding": ["two"] }),
            "demanding: expected [two], got [two; why]",
        ),
        (
            json!({ "outcome": "permit", "constraints": { "idle_timeout_s": 60 } }),
            "constraints.idle_timeout_s: expected 60, got 900",
        ),
        (
            json!({ "outcome": "permit", "constraints": { "upload": false } }),
            "constraints.upload: expected false, got true",
        ),
    ] {
        assert_eq!(failures(asked.clone(), expect), [failure]);
    }
}

#[test]
fn a_test_that_expects_limits_of_a_denial_fails() {
    let question = json!({ "action": "operation.run", "on": "root@web-1",
                           "operation": { "kind": "exec", "detail": "id" } });
    let expect = json!({ "outcome": "deny", "constraints": { "upload": true } });
    assert_eq!(
        failures(question, expect),
        ["constraints: a denial has none"]
    );
}

#[test]
fn a_policy_that_no_test_touches_is_named() {
    let tests = r#"{ "tests": [ { "name": "it",
        "question": { "action": "request.create", "on": "root@web-1", "request": {} },
        "expect": { "outcome": "challenge" } } ] }"#;
    let bundle = load(&[
        ("authorise/a.cedar", PERMIT_ALL),
        ("require/a.cedar", DEMANDS),
        ("tests/a.json", tests),
    ])
    .unwrap();
    assert_eq!(bundle.test().untested(&bundle), ["key"]);
}
