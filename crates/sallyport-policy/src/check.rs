//! Policy tests: questions in short form with the answers they must get, kept in the bundle beside the
//! policies they protect.
//!
//! A test file is an object with one list, `tests`. Each test has a `name`, a `question` and what to
//! `expect`; what a question does not say has a default that is harmless and the same for all
//! (a person `alice` in no group, signed in with one factor, on a Monday morning). What an
//! expectation does not say is not checked, except the outcome.
//!
//! INVARIANT: a test file that cannot be read refuses the whole bundle, so no test is skipped.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use sallyport_core::{
    authz::{
        AccountFacts, Action, Decision, GrantFacts, HistoryFacts, NetworkFacts, OperationFacts,
        PrincipalFacts, Question, Reason, RequestFacts, TargetFacts, Unmet, decide,
    },
    id::{AccountId, GrantId, PersonId, TargetId},
    inventory::{Selector, Sensitivity},
    policy::{Constraints, Requirement},
    principal::{Authentication, AuthenticationStrength, PrincipalKind},
    time::Timestamp,
};
use serde::Deserialize;

use crate::{bundle::Bundle, requirements::duration_s, schema::ACTIONS};

/// What became of all tests of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestReport {
    /// One for each test, in the order of the files.
    pub outcomes: Vec<TestOutcome>,
}

/// What became of one test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestOutcome {
    /// File it stands in.
    pub file: String,
    /// Its name.
    pub name: String,
    /// What was not as expected; empty when it passed.
    pub failures: Vec<String>,
    /// Policies that decided or demanded: what the test covers.
    pub policies: Vec<String>,
}

impl TestReport {
    /// How many tests failed.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.outcomes
            .iter()
            .filter(|outcome| !outcome.failures.is_empty())
            .count()
    }

    /// Ids of the policies that took part in no test: nobody would notice if they went wrong.
    #[must_use]
    pub fn untested(&self, bundle: &Bundle) -> Vec<String> {
        let mut untested: Vec<String> = bundle
            .inner
            .places
            .keys()
            .map(ToString::to_string)
            .filter(|id| {
                let mut policies = self.outcomes.iter().flat_map(|outcome| &outcome.policies);
                !policies.any(|tested| tested == id)
            })
            .collect();
        untested.sort();
        untested
    }
}

impl Bundle {
    /// Runs every test of the bundle.
    #[must_use]
    pub fn test(&self) -> TestReport {
        let outcomes = self.inner.tests.iter().flat_map(|(file, tests)| {
            tests.iter().map(|test| {
                let decision = decide(self, &test.question);
                let trace = decision.trace();
                TestOutcome {
                    file: file.clone(),
                    name: test.name.clone(),
                    failures: test.expect.failures(&decision),
                    policies: [trace.determining.clone(), trace.demanding.clone()].concat(),
                }
            })
        });
        TestReport {
            outcomes: outcomes.collect(),
        }
    }
}

/// The content of `tests/NAME.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TestFile {
    pub(crate) tests: Vec<TestCase>,
}

/// One test, its question spelled out.
#[derive(Debug, Deserialize)]
#[serde(try_from = "ShortCase")]
pub(crate) struct TestCase {
    name: String,
    question: Question,
    expect: Expected,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShortCase {
    name: String,
    question: ShortQuestion,
    expect: Expected,
}

/// A question as people write it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShortQuestion {
    action: String,
    /// `account@target`.
    on: String,
    person: Option<String>,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default = "default_protocol")]
    protocol: String,
    #[serde(default = "default_sensitivity")]
    sensitivity: Sensitivity,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default = "default_strength")]
    strength: AuthenticationStrength,
    #[serde(default)]
    signed_in_s_ago: u64,
    #[serde(default = "default_ip")]
    ip: IpAddr,
    #[serde(default = "default_time")]
    at: Timestamp,
    request: Option<ShortRequest>,
    grant: Option<ShortGrant>,
    operation: Option<OperationFacts>,
    #[serde(default)]
    open_reviews: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShortRequest {
    #[serde(default)]
    reason: String,
    ticket: Option<String>,
    #[serde(default = "default_duration")]
    duration: String,
    #[serde(default)]
    is_break_glass: bool,
}

/// A live grant of the person for the account.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ShortGrant {
    Ordinary,
    BreakGlass,
}

fn default_protocol() -> String {
    String::from("ssh")
}

const fn default_sensitivity() -> Sensitivity {
    Sensitivity::Medium
}

const fn default_strength() -> AuthenticationStrength {
    AuthenticationStrength::SingleFactor
}

/// An address set aside for documentation (RFC 5737).
const fn default_ip() -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 10))
}

/// Monday, 2 March 2026, 10:00 UTC.
const fn default_time() -> Timestamp {
    Timestamp::from_unix_ms(1_772_445_600_000)
}

fn default_duration() -> String {
    String::from("1h")
}

impl TryFrom<ShortCase> for TestCase {
    type Error = String;

    fn try_from(case: ShortCase) -> Result<Self, String> {
        Ok(Self {
            name: case.name,
            question: case.question.spelled_out()?,
            expect: case.expect,
        })
    }
}

impl ShortQuestion {
    fn spelled_out(self) -> Result<Question, String> {
        let action = ACTIONS
            .into_iter()
            .find(|action| action.as_str() == self.action)
            .ok_or_else(|| {
                format!(
                    "`{}` is not an action; actions are {}",
                    self.action,
                    ACTIONS.map(Action::as_str).join(", ")
                )
            })?;
        let selector: Selector = self.on.parse().map_err(chain)?;
        let person = self.person.as_deref().unwrap_or("alice");
        // Policies know names, not ids, so any ids will do.
        let person_id = PersonId::new(Timestamp::EPOCH, [1; 10]);
        let account_id = AccountId::new(Timestamp::EPOCH, [2; 10]);
        Ok(Question {
            action,
            now: self.at,
            principal: PrincipalFacts {
                kind: PrincipalKind::Person,
                id: person_id.clone(),
                name: person.parse().map_err(chain)?,
                groups: self.groups,
                is_enabled: true,
            },
            authentication: Authentication {
                strength: self.strength,
                at: self.at.minus(Duration::from_secs(self.signed_in_s_ago)),
                methods: Vec::new(),
            },
            network: NetworkFacts { ip: self.ip },
            target: TargetFacts {
                id: TargetId::new(Timestamp::EPOCH, [3; 10]),
                name: selector.target,
                protocol: self.protocol,
                labels: self.labels,
                sensitivity: self.sensitivity,
            },
            account: AccountFacts {
                id: account_id.clone(),
                name: selector.account,
            },
            request: self.request.map(ShortRequest::spelled_out).transpose()?,
            grant: self.grant.map(|grant| GrantFacts {
                id: GrantId::new(Timestamp::EPOCH, [4; 10]),
                person_id,
                account_id,
                from: self.at,
                until: self.at.plus(Duration::from_secs(3_600)),
                is_open: true,
                is_break_glass: matches!(grant, ShortGrant::BreakGlass),
            }),
            operation: self.operation,
            locks: Vec::new(),
            history: HistoryFacts {
                open_reviews: self.open_reviews,
            },
        })
    }
}

impl ShortRequest {
    fn spelled_out(self) -> Result<RequestFacts, String> {
        let duration_s = duration_s(&self.duration)
            .ok_or_else(|| format!("`{}` is not a duration such as 30m or 8h", self.duration))?;
        Ok(RequestFacts {
            id: None,
            reason: self.reason,
            ticket: self.ticket,
            duration_s,
            is_break_glass: self.is_break_glass,
        })
    }
}

/// An error with its causes, for the one line that a test file's fault has.
fn chain(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// What a test checks of the answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
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
    fn failures(&self, decision: &Decision) -> Vec<String> {
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

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
