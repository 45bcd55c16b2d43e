//! What a policy test expects of an answer, and what of it is otherwise.
//!
//! What an expectation does not say is not checked, except the outcome.

use std::collections::BTreeSet;

use sallyport_core::{
    authz::{Decision, Reason, Unmet},
    policy::{Constraints, Requirement},
};
use serde::Deserialize;

/// What a test checks of the answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expected {
    outcome: Outcome,
    /// Reason codes of a denial.
    reasons: Option<Vec<Reason>>,
    /// What is missing for a challenge, in the short form of [`shown`].
    unmet: Option<Vec<String>>,
    /// Votes that a permitted request still needs: `1`, `2 from sre`.
    approvals: Option<Vec<String>>,
    constraints: Option<ExpectedConstraints>,
    determining: Option<Vec<String>>,
    demanding: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Permit,
    Challenge,
    Deny,
}

/// Limits, each checked when it is named.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedConstraints {
    max_duration_s: Option<u64>,
    idle_timeout_s: Option<u64>,
    upload: Option<bool>,
    download: Option<bool>,
    recording_content_limit_bytes: Option<u64>,
    records_file_content: Option<bool>,
    watcher_wait_s: Option<u64>,
    shares_keyboard: Option<bool>,
    redact: Option<Vec<String>>,
    read_only: Option<bool>,
    mask: Option<Vec<String>>,
    statement_rows: Option<u64>,
    statement_bytes: Option<u64>,
    statement_seconds: Option<u64>,
    grant_rows: Option<u64>,
    grant_bytes: Option<u64>,
}

impl Outcome {
    /// As [`Decision::outcome`] spells it.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Permit => "permit",
            Self::Challenge => "challenge",
            Self::Deny => "deny",
        }
    }
}

impl Expected {
    /// What is not as expected.
    pub(super) fn failures(&self, decision: &Decision) -> Vec<String> {
        let trace = decision.trace();
        let mut failures = Vec::new();
        let mut compare = |what: &str, expected: Option<String>, actual: String| {
            if let Some(expected) = expected.filter(|expected| *expected != actual) {
                failures.push(format!("{what}: expected {expected}, got {actual}"));
            }
        };
        compare(
            "outcome",
            Some(self.outcome.as_str().to_owned()),
            decision.outcome().to_owned(),
        );
        let reasons = match decision {
            Decision::Deny { reasons, .. } => reasons.as_slice(),
            Decision::Permit(_) | Decision::Challenge { .. } => &[],
        };
        let expected = self
            .reasons
            .as_deref()
            .map(|reasons| sorted(reasons.iter()));
        compare("reasons", expected, sorted(reasons.iter()));
        let unmet = match decision {
            Decision::Challenge { unmet, .. } => unmet.as_slice(),
            Decision::Permit(_) | Decision::Deny { .. } => &[],
        };
        let expected = self.unmet.as_ref().map(|unmet| sorted(unmet.iter()));
        compare("unmet", expected, sorted(unmet.iter().map(shown)));
        let approvals = match decision {
            Decision::Permit(authorisation) => authorisation.approvals(),
            Decision::Challenge { .. } | Decision::Deny { .. } => &[],
        };
        let approvals = sorted(
            approvals
                .iter()
                .filter_map(|requirement| match requirement {
                    Requirement::Approval { count, from } => {
                        Some(shown_approval(*count, from.as_deref()))
                    }
                    Requirement::Mfa { .. }
                    | Requirement::Justification { .. }
                    | Requirement::Ticket { .. }
                    | Requirement::CommandApproval(_) => None,
                }),
        );
        let expected = self.approvals.as_ref().map(|votes| sorted(votes.iter()));
        compare("approvals", expected, approvals);
        let expected = self.determining.as_ref().map(|ids| sorted(ids.iter()));
        compare("determining", expected, sorted(trace.determining.iter()));
        let expected = self.demanding.as_ref().map(|ids| sorted(ids.iter()));
        compare("demanding", expected, sorted(trace.demanding.iter()));
        if let Some(expected) = &self.constraints {
            failures.extend(expected.failures(constraints_of(decision)));
        }
        failures
    }
}

impl ExpectedConstraints {
    fn failures(&self, actual: Option<&Constraints>) -> Vec<String> {
        let Some(actual) = actual else {
            return vec![String::from("constraints: a denial has none")];
        };
        // `None` of an idle timeout is "no limit"; a test can only expect a limit.
        let pairs = [
            (
                "max_duration_s",
                text(self.max_duration_s),
                text(Some(actual.max_duration_s)),
            ),
            (
                "idle_timeout_s",
                text(self.idle_timeout_s),
                text(actual.idle_timeout_s),
            ),
            ("upload", text(self.upload), text(Some(actual.upload))),
            ("download", text(self.download), text(Some(actual.download))),
            (
                "recording_content_limit_bytes",
                text(self.recording_content_limit_bytes),
                text(Some(actual.recording_content_limit_bytes)),
            ),
            (
                "records_file_content",
                text(self.records_file_content),
                text(Some(actual.records_file_content)),
            ),
            (
                "watcher_wait_s",
                text(self.watcher_wait_s),
                text(actual.watcher_wait_s),
            ),
            (
                "shares_keyboard",
                text(self.shares_keyboard),
                text(Some(actual.shares_keyboard)),
            ),
            (
                "read_only",
                text(self.read_only),
                text(Some(actual.read_only)),
            ),
            (
                "mask",
                self.mask.as_ref().map(|rules| {
                    let mut rules = rules.clone();
                    rules.sort();
                    rules.join(" | ")
                }),
                {
                    let masks = actual.masks.iter();
                    let rules = masks.map(|(column, mask)| format!("{column} = {}", mask.as_str()));
                    let mut rules: Vec<String> = rules.collect();
                    rules.sort();
                    Some(rules.join(" | "))
                },
            ),
            (
                "statement_rows",
                text(self.statement_rows),
                text(actual.budgets.statement_rows),
            ),
            (
                "statement_bytes",
                text(self.statement_bytes),
                text(actual.budgets.statement_bytes),
            ),
            (
                "statement_seconds",
                text(self.statement_seconds),
                text(actual.budgets.statement_seconds),
            ),
            (
                "grant_rows",
                text(self.grant_rows),
                text(actual.budgets.grant_rows),
            ),
            (
                "grant_bytes",
                text(self.grant_bytes),
                text(actual.budgets.grant_bytes),
            ),
            (
                "redact",
                self.redact.as_ref().map(|names| {
                    let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
                    Vec::from_iter(names).join(", ")
                }),
                Some(
                    Vec::from_iter(actual.redact.iter().map(|rule| rule.name.as_str())).join(", "),
                ),
            ),
        ];
        pairs
            .into_iter()
            .filter(|(_, expected, actual)| expected.is_some() && expected != actual)
            .map(|(name, expected, actual)| {
                let shown = |value: Option<String>| value.unwrap_or_else(|| String::from("none"));
                format!(
                    "constraints.{name}: expected {}, got {}",
                    shown(expected),
                    shown(actual)
                )
            })
            .collect()
    }
}

fn constraints_of(decision: &Decision) -> Option<&Constraints> {
    match decision {
        Decision::Permit(authorisation) => Some(authorisation.constraints()),
        Decision::Challenge { constraints, .. } => Some(constraints),
        Decision::Deny { .. } => None,
    }
}

fn text(value: Option<impl ToString>) -> Option<String> {
    value.map(|value| value.to_string())
}

fn sorted(items: impl Iterator<Item = impl ToString>) -> String {
    let mut items: Vec<String> = items.map(|item| item.to_string()).collect();
    items.sort();
    format!("[{}]", items.join("; "))
}

/// One missing thing, as tests spell it: the same words as the annotation that demanded it.
fn shown(unmet: &Unmet) -> String {
    match unmet {
        Unmet::Grant => String::from("grant"),
        Unmet::Mfa {
            strength,
            max_age_s: None,
        } => format!("mfa {}", strength.as_str()),
        Unmet::Mfa {
            strength,
            max_age_s: Some(max_age_s),
        } => format!("mfa {}, max_age={max_age_s}s", strength.as_str()),
        Unmet::Justification { min_chars } => format!("justification min={min_chars}"),
        Unmet::Ticket { prefix } => format!("ticket {prefix}"),
        Unmet::Approval { count, from } => {
            format!("approval {}", shown_approval(*count, from.as_deref()))
        }
        Unmet::CommandApproval(terms) => {
            let votes: Vec<String> = terms
                .quorums
                .iter()
                .map(|quorum| shown_approval(quorum.count, quorum.from.as_deref()))
                .collect();
            format!(
                "command_approval {}, within={}s",
                votes.join(", "),
                terms.within_s
            )
        }
    }
}

fn shown_approval(count: u64, from: Option<&str>) -> String {
    match from {
        Some(group) => format!("{count} from {group}"),
        None => count.to_string(),
    }
}
