//! Policy tests: questions in short form with the answers they must get, kept in the bundle beside the
//! policies they protect.
//!
//! A test file is an object with one list, `tests`. Each test has a `name`, a `question` and what to
//! `expect`; what a question does not say has a default that is harmless and the same for all
//! (a person `alice` in no group, signed in with one factor, on a Monday morning). What an
//! expectation does not say is not checked, except the outcome.
//!
//! INVARIANT: a test file that cannot be read refuses the whole bundle, so no test is skipped.

mod expected;

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use sallyport_core::{
    authz::{
        AccountFacts, Action, GrantFacts, HistoryFacts, NetworkFacts, OperationFacts,
        PrincipalFacts, Question, RequestFacts, TargetFacts, decide,
    },
    id::{AccountId, GrantId, PersonId, TargetId},
    inventory::{Selector, Sensitivity},
    principal::{Authentication, AuthenticationStrength, PrincipalKind},
    time::Timestamp,
};
use serde::Deserialize;

use self::expected::Expected;
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

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
