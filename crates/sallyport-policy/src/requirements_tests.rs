//! What each annotation demands, and what is none.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests stop at the first surprise"
)]

use proptest::prelude::*;
use sallyport_core::{
    policy::{CommandRule, MAX_DURATION_CEILING_S, Mask, Masks, Pattern},
    principal::AuthenticationStrength,
};

use super::{access::APPROVALS_MAX, *};

fn demand_of(key: &str, argument: &str) -> Result<Demand, AnnotationFault> {
    parse_demand("p", [(ID, "p"), (key, argument)].into_iter())
}

/// PO-2
#[test]
fn each_annotation_demands_exactly_what_it_says() {
    let requirement = |key, argument| demand_of(key, argument).unwrap().requirements.remove(0);
    let constraint = |key, argument| demand_of(key, argument).unwrap().constraints.remove(0);
    assert_eq!(
        requirement("mfa", "phishing_resistant, max_age=15m"),
        Requirement::Mfa {
            strength: AuthenticationStrength::PhishingResistant,
            max_age_s: Some(900)
        }
    );
    assert_eq!(
        requirement("mfa", "multi_factor"),
        Requirement::Mfa {
            strength: AuthenticationStrength::MultiFactor,
            max_age_s: None
        }
    );
    assert_eq!(
        requirement("approval", "2 from sre"),
        Requirement::Approval {
            count: 2,
            from: Some("sre".into())
        }
    );
    assert_eq!(
        requirement("approval", "1"),
        Requirement::Approval {
            count: 1,
            from: None
        }
    );
    assert_eq!(
        requirement("justification", "min=10"),
        Requirement::Justification { min_chars: 10 }
    );
    assert_eq!(
        requirement("ticket", "CHG-"),
        Requirement::Ticket {
            prefix: "CHG-".into()
        }
    );
    assert_eq!(
        constraint("max_duration", "1h"),
        Constraint::MaxDuration { seconds: 3_600 }
    );
    assert_eq!(
        constraint("idle_timeout", "15m"),
        Constraint::IdleTimeout { seconds: 900 }
    );
    let patterns = |texts: &[&str]| -> Vec<Pattern> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    };
    assert_eq!(
        requirement(
            "command_approval",
            "2 from sre, within=5m, unknown_prompt=allow, full_screen=allow: rm * | a: b"
        ),
        Requirement::CommandApproval(CommandRule {
            count: 2,
            from: Some("sre".into()),
            within_s: 300,
            allows_unknown_prompt: true,
            allows_full_screen: true,
            patterns: patterns(&["rm *", "a: b"]),
        })
    );
    assert_eq!(
        requirement("command_approval", "1: *"),
        Requirement::CommandApproval(CommandRule {
            count: 1,
            from: None,
            within_s: 600,
            allows_unknown_prompt: false,
            allows_full_screen: false,
            patterns: patterns(&["*"]),
        })
    );
    assert_eq!(
        constraint("shell_prompt", "*$ | *#"),
        Constraint::ShellPrompt {
            patterns: patterns(&["*$", "*#"])
        }
    );
    for (word, up, down) in [
        ("none", false, false),
        ("up", true, false),
        ("down", false, true),
        ("both", true, true),
    ] {
        assert_eq!(
            constraint("file_transfer", word),
            Constraint::FileTransfer { up, down }
        );
    }
    assert_eq!(
        constraint("recording_content_limit", "64MiB"),
        Constraint::RecordingContentLimit { bytes: 64 << 20 }
    );
    assert_eq!(
        constraint("statement_rows", "1000"),
        Constraint::Budget {
            of: Budget::StatementRows,
            most: 1_000
        }
    );
    assert_eq!(
        constraint("grant_bytes", "1GiB"),
        Constraint::Budget {
            of: Budget::GrantBytes,
            most: 1 << 30
        }
    );
    assert_eq!(
        constraint("statement_time", "30s"),
        Constraint::Budget {
            of: Budget::StatementSeconds,
            most: 30
        }
    );
    assert_eq!(constraint("read_only", "enforced"), Constraint::ReadOnly);
    assert_eq!(
        constraint(
            "mask",
            "shop.public.customers.email = token | *.*.customers.iban = null"
        ),
        Constraint::Mask {
            columns: Masks::from([
                ("shop.public.customers.email".parse().unwrap(), Mask::Token),
                ("*.*.customers.iban".parse().unwrap(), Mask::Null),
            ])
        }
    );
    assert_eq!(
        constraint("watcher", "required"),
        Constraint::Watcher { wait_s: 60 }
    );
    assert_eq!(
        constraint("watcher", "required, wait=5m"),
        Constraint::Watcher { wait_s: 300 }
    );
    for (word, shared) in [("own", false), ("shared", true)] {
        assert_eq!(
            constraint("keyboard", word),
            Constraint::Keyboard { shared }
        );
    }
    let Constraint::Redact { rules } = constraint("redact", "cards, acme-token") else {
        panic!("not a redaction");
    };
    let names: Vec<_> = rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["acme-token", "cards"]);
}

/// PO-2: what is misspelt must not load as no demand.
#[test]
fn an_argument_that_is_not_of_its_form_is_refused() {
    for (key, argument) in [
        ("mfa", ""),
        ("mfa", "two_factor"),
        ("mfa", "multi_factor,"),
        ("mfa", "multi_factor, max_age=0s"),
        ("mfa", "multi_factor, max_age=15"),
        ("mfa", "multi_factor, max_age=15m, x=1"),
        ("mfa", " multi_factor"),
        ("approval", ""),
        ("approval", "0"),
        ("approval", "33"),
        ("approval", "-1"),
        ("approval", "1 from "),
        ("approval", "1 from SRE"),
        ("approval", "1 from a b"),
        ("approval", "one"),
        ("justification", "10"),
        ("justification", "min=0"),
        ("justification", "min=1001"),
        ("justification", "min=+5"),
        ("ticket", ""),
        ("ticket", "-"),
        ("ticket", "CHG"),
        ("ticket", "1CHG-"),
        ("ticket", "CHG--"),
        ("max_duration", "0s"),
        ("max_duration", "8d"),
        ("max_duration", "1 h"),
        ("max_duration", "99999999999999999999d"),
        ("idle_timeout", "9s"),
        ("command_approval", ""),
        ("command_approval", "1"),
        ("command_approval", "1: "),
        ("command_approval", "0: rm *"),
        ("command_approval", "33: rm *"),
        ("command_approval", "1 from SRE: rm *"),
        ("command_approval", "1, within=9s: rm *"),
        ("command_approval", "1, within=61m: rm *"),
        ("command_approval", "1, within=1m, within=2m: rm *"),
        ("command_approval", "1, unknown_prompt=yes: rm *"),
        ("command_approval", "1, prompt=allow: rm *"),
        ("command_approval", "1: rm * |  | ls"),
        ("shell_prompt", ""),
        ("shell_prompt", "*"),
        ("file_transfer", "upload"),
        ("file_transfer", ""),
        ("recording_files", ""),
        ("recording_files", "none"),
        ("redact", ""),
        ("redact", "cards,tokens"),
        ("redact", "cards, "),
        ("redact", "cards, cards"),
        ("redact", "Cards"),
        ("recording_content_limit", "64"),
        ("recording_content_limit", "64MB"),
        ("recording_content_limit", "1025GiB"),
        ("recording_content_limit", "99999999999GiB"),
        ("watcher", ""),
        ("read_only", "true"),
        ("mask", ""),
        ("mask", "customers.email = token"),
        ("mask", "*.*.*.email = token"),
        ("mask", "*.*.customers.email = hash"),
        ("mask", "*.*.customers.email=token"),
        (
            "mask",
            "*.*.customers.email = token | *.*.customers.email = null",
        ),
        ("statement_rows", "1e3"),
        ("statement_rows", "-1"),
        ("grant_rows", "1000000000001"),
        ("statement_bytes", "10"),
        ("statement_time", "0s"),
        ("watcher", "optional"),
        ("watcher", "required,"),
        ("watcher", "required, wait=4s"),
        ("watcher", "required, wait=2h"),
        ("watcher", "required wait=60s"),
        ("keyboard", ""),
        ("keyboard", "none"),
    ] {
        let fault = demand_of(key, argument).expect_err(&format!("@{key}(\"{argument}\")"));
        assert_eq!(fault.key.as_deref(), Some(key));
    }
}

/// PO-2
#[test]
fn an_unknown_annotation_and_a_policy_without_demands_are_refused() {
    assert_eq!(
        demand_of("aproval", "1").unwrap_err().key.as_deref(),
        Some("aproval")
    );
    let nothing = parse_demand("p", [(ID, "p")].into_iter()).unwrap_err();
    assert_eq!(nothing.problem, "the policy demands nothing");
}

/// PO-2
#[test]
fn a_demand_in_the_authorise_set_is_refused_because_it_would_be_ignored() {
    let fault = check_authorise([(ID, "p"), ("approval", "1")].into_iter()).unwrap_err();
    assert!(fault.remedy.contains("require/"), "{fault:?}");
    assert!(check_authorise([(ID, "p")].into_iter()).is_ok());
}

proptest! {
    #[test]
    fn no_argument_makes_the_registry_panic_or_demand_the_unmeetable(
        which in 0..REGISTRY.len(), argument in "\\PC{0,24}|[0-9]{1,22}[smhd]|[0-9]{1,3}( from [a-z]{0,4})?"
    ) {
        if let Ok(demand) = demand_of(REGISTRY[which].key, &argument) {
            for requirement in demand.requirements {
                if let Requirement::Approval { count, .. } = requirement {
                    prop_assert!((1..=APPROVALS_MAX).contains(&count));
                }
            }
            for constraint in demand.constraints {
                if let Constraint::MaxDuration { seconds } = constraint {
                    prop_assert!((1..=MAX_DURATION_CEILING_S).contains(&seconds));
                }
            }
        }
    }
}
