//! The decision itself: what no policy can switch off, then the policies, then what is still missing
//! (`demands`).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    Action, Question, Reason, SessionQuestion,
    demands::{strictest, unmet},
};
use crate::{
    access::HoldTerms,
    policy::{BundleHash, CommandRule, Constraint, Constraints, Demand, Pattern, Requirement},
    principal::AuthenticationStrength,
    session::{OPERATION_DETAIL_BYTES_MAX, Operation, OperationKind},
    time::Timestamp,
};

/// What the policies said about one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// The bundle asked.
    pub bundle: BundleHash,
    /// Whether the authorise set permits.
    pub is_authorised: bool,
    /// Ids of the policies that decided: the permits, or the forbids that overrode them.
    pub determining: Vec<String>,
    /// Whether a forbid policy matched.
    pub is_forbidden: bool,
    /// What the require set demands.
    pub demands: Vec<Demand>,
}

/// Why policies could not be evaluated. Always a denial.
#[derive(Debug, thiserror::Error)]
#[error("evaluate policies {policies:?} of bundle `{bundle}`: {message}")]
pub struct PolicyError {
    /// The bundle.
    pub bundle: BundleHash,
    /// The policies at fault, as far as known.
    pub policies: Vec<String>,
    /// What went wrong.
    pub message: String,
}

/// Answers questions from a policy bundle. Cedar in production.
pub trait PolicyEngine: Send + Sync {
    /// Evaluates both sets of the bundle.
    ///
    /// # Errors
    /// [`PolicyError`] when any policy could not be evaluated, even one that would not have mattered.
    fn evaluate(&self, question: &Question) -> Result<Evaluation, PolicyError>;

    /// Evaluates both sets on an operation of an open session: what [`PolicyEngine::evaluate`] answers to
    /// the whole question, which an engine may have remembered.
    ///
    /// # Errors
    /// As [`PolicyEngine::evaluate`].
    fn evaluate_operation(
        &self,
        session: &SessionQuestion,
        operation: &Operation,
        now: Timestamp,
    ) -> Result<Arc<Evaluation>, PolicyError> {
        self.evaluate(&session.about(operation, now)).map(Arc::new)
    }
}

/// How a decision came about: enough to explain and replay it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// Bundle asked; absent when the decision fell before any policy was asked.
    pub bundle: Option<BundleHash>,
    /// Policies that decided.
    pub determining: Vec<String>,
    /// Policies of the require set that were satisfied.
    pub demanding: Vec<String>,
    /// Hash of the facts.
    pub facts_hash: String,
}

/// What is missing before the answer can be yes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Unmet {
    /// A live grant: access must be asked for.
    Grant,
    /// A stronger or fresher sign-in.
    Mfa {
        /// Least strength.
        strength: AuthenticationStrength,
        /// Greatest age in seconds.
        max_age_s: Option<u64>,
    },
    /// A reason in words.
    Justification {
        /// Least number of characters.
        min_chars: u64,
    },
    /// A ticket.
    Ticket {
        /// What it must begin with.
        prefix: String,
    },
    /// Other people's votes.
    Approval {
        /// How many.
        count: u64,
        /// From which group.
        from: Option<String>,
    },
    /// Other people's votes on this one command.
    CommandApproval(HoldTerms),
}

/// A yes, and the only thing a permit can be made from. Made by [`decide`] alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorisation {
    pub(super) question: Question,
    pub(super) constraints: Constraints,
    pub(super) trace: Trace,
    pub(super) approvals: Vec<Requirement>,
}

impl Authorisation {
    /// Limits that hold.
    #[must_use]
    pub const fn constraints(&self) -> &Constraints {
        &self.constraints
    }

    /// How it came about.
    #[must_use]
    pub const fn trace(&self) -> &Trace {
        &self.trace
    }

    /// For [`Action::RequestCreate`]: the votes that turn the request into a grant. Empty means at
    /// once.
    #[must_use]
    pub fn approvals(&self) -> &[Requirement] {
        &self.approvals
    }

    /// The facts it rests on.
    #[must_use]
    pub const fn question(&self) -> &Question {
        &self.question
    }
}

/// The answer to a question.
#[expect(
    clippy::large_enum_variant,
    reason = "a decision is looked at and let go, never kept in numbers"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes, within constraints.
    Permit(Box<Authorisation>),
    /// Not yet: this is missing.
    Challenge {
        /// What is missing, each once.
        unmet: Vec<Unmet>,
        /// Limits that would hold.
        constraints: Constraints,
        /// How it came about.
        trace: Trace,
    },
    /// No.
    Deny {
        /// Why, at least one.
        reasons: Vec<Reason>,
        /// How it came about.
        trace: Trace,
    },
}

impl Decision {
    /// `permit`, `challenge` or `deny`, as metrics and records spell it.
    #[must_use]
    pub const fn outcome(&self) -> &'static str {
        match self {
            Self::Permit(_) => "permit",
            Self::Challenge { .. } => "challenge",
            Self::Deny { .. } => "deny",
        }
    }

    /// How it came about.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        match self {
            Self::Permit(authorisation) => &authorisation.trace,
            Self::Challenge { trace, .. } | Self::Deny { trace, .. } => trace,
        }
    }
}

/// Decides. Pure: the same question and bundle give the same answer for ever.
///
/// What no policy can switch off comes first: a disabled person, a lock, a grant that is not live or
/// not this person's, an unreviewed break-glass, an operation too long to record. Then the policies;
/// an error there denies. Then what the require set still misses.
#[must_use]
pub fn decide(engine: &dyn PolicyEngine, question: &Question) -> Decision {
    let mut trace = Trace {
        bundle: None,
        determining: Vec::new(),
        demanding: Vec::new(),
        facts_hash: question.facts_hash(),
    };
    let asked = Asked::of(question);
    if let Some(reason) = refused_before_policy(asked) {
        return Decision::Deny {
            reasons: vec![reason],
            trace,
        };
    }
    let evaluation = match engine.evaluate(question) {
        Ok(evaluation) => evaluation,
        Err(error) => {
            trace.bundle = Some(error.bundle);
            trace.determining = error.policies;
            return Decision::Deny {
                reasons: vec![Reason::PolicyError],
                trace,
            };
        }
    };
    let weighed = weigh(asked, &evaluation);
    trace.bundle = Some(evaluation.bundle);
    trace.determining = evaluation.determining;
    trace.demanding = evaluation
        .demands
        .iter()
        .map(|demand| demand.policy.clone())
        .collect();
    let Weighed {
        constraints,
        requirements,
        unmet,
    } = match weighed {
        Ok(weighed) => weighed,
        Err(reason) => {
            return Decision::Deny {
                reasons: vec![reason],
                trace,
            };
        }
    };
    if !unmet.is_empty() {
        return Decision::Challenge {
            unmet,
            constraints,
            trace,
        };
    }
    let approvals = match question.request {
        Some(ref request) if request.is_break_glass => Vec::new(),
        _ => requirements
            .into_iter()
            .filter(|r| matches!(r, Requirement::Approval { .. }))
            .collect(),
    };
    Decision::Permit(Box::new(Authorisation {
        question: question.clone(),
        constraints,
        trace,
        approvals,
    }))
}

/// The answer to a question about an operation of an open session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperationAnswer {
    /// Yes. Whoever opened the session has its permit; this makes none.
    Permit,
    /// Not yet: this is missing, by the policies of this bundle.
    Challenge(Vec<Unmet>, BundleHash),
    /// No.
    Deny(Reason),
}

/// Decides one operation of an open session: what [`decide`] decides about the whole question, without the
/// trace of how it came about.
#[must_use]
pub fn decide_operation(
    engine: &dyn PolicyEngine,
    session: &SessionQuestion,
    operation: &Operation,
    now: Timestamp,
) -> OperationAnswer {
    let asked = Asked {
        question: session.facts(),
        action: operation.action(),
        now,
        operation: Some(operation),
    };
    if let Some(reason) = refused_before_policy(asked) {
        return OperationAnswer::Deny(reason);
    }
    let Ok(evaluation) = engine.evaluate_operation(session, operation, now) else {
        return OperationAnswer::Deny(Reason::PolicyError);
    };
    match weigh(asked, &evaluation) {
        Err(reason) => OperationAnswer::Deny(reason),
        Ok(weighed) if weighed.unmet.is_empty() => OperationAnswer::Permit,
        Ok(weighed) => OperationAnswer::Challenge(weighed.unmet, evaluation.bundle.clone()),
    }
}

/// A question as it is asked now: one about an operation shares the other facts with its session.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) question: &'a Question,
    pub(super) action: Action,
    pub(super) now: Timestamp,
    pub(super) operation: Option<&'a Operation>,
}

impl<'a> Asked<'a> {
    const fn of(question: &'a Question) -> Self {
        Self {
            question,
            action: question.action,
            now: question.now,
            operation: question.operation.as_ref(),
        }
    }
}

/// What an evaluation comes to that forbids nothing.
struct Weighed {
    constraints: Constraints,
    requirements: Vec<Requirement>,
    unmet: Vec<Unmet>,
}

fn weigh(asked: Asked<'_>, evaluation: &Evaluation) -> Result<Weighed, Reason> {
    if evaluation.is_forbidden {
        return Err(Reason::Forbidden);
    }
    if !evaluation.is_authorised {
        return Err(Reason::NotPermitted);
    }
    let constraints = evaluation
        .demands
        .iter()
        .flat_map(|demand| &demand.constraints)
        .fold(Constraints::default(), Constraints::tightened);
    let requirements = strictest(
        evaluation
            .demands
            .iter()
            .flat_map(|demand| &demand.requirements),
    );
    if let Some(reason) = refused_by_constraints(asked, &constraints) {
        return Err(reason);
    }
    let unmet = unmet(asked, &requirements);
    Ok(Weighed {
        constraints,
        requirements,
        unmet,
    })
}

/// What holds for commands typed in the terminals of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TerminalRules {
    /// Commands that other people must approve one by one.
    pub rules: Vec<CommandRule>,
    /// What prompts look like.
    pub prompts: Vec<Pattern>,
}

/// What holds for commands typed in a shell of the session that `question` is about.
///
/// # Errors
/// [`PolicyError`]; no terminal may open then.
pub fn terminal_rules(
    engine: &dyn PolicyEngine,
    question: &Question,
) -> Result<TerminalRules, PolicyError> {
    let shell = Operation {
        kind: OperationKind::Shell,
        detail: String::new(),
        facts: None,
    };
    let evaluation = engine.evaluate(&question.about_operation(shell, question.now))?;
    let mut found = TerminalRules::default();
    for demand in &evaluation.demands {
        for requirement in &demand.requirements {
            if let Requirement::CommandApproval(rule) = requirement {
                found.rules.push(rule.clone());
            }
        }
        for constraint in &demand.constraints {
            if let Constraint::ShellPrompt { patterns } = constraint {
                found.prompts.extend_from_slice(patterns);
            }
        }
    }
    Ok(found)
}

fn refused_before_policy(asked: Asked<'_>) -> Option<Reason> {
    let question = asked.question;
    if !question.principal.is_enabled {
        return Some(Reason::PersonDisabled);
    }
    let is_locked = question.locks.iter().any(|lock| {
        lock.stops(
            &question.principal.id,
            &question.account.id,
            &question.target.id,
            asked.now,
        )
    });
    if is_locked {
        return Some(Reason::Locked);
    }
    if let Some(grant) = &question.grant {
        let is_live = grant.is_open && grant.from <= asked.now && asked.now < grant.until;
        let is_theirs =
            grant.person_id == question.principal.id && grant.account_id == question.account.id;
        if !is_live || !is_theirs {
            return Some(Reason::GrantNotLive);
        }
    }
    let is_break_glass = question
        .request
        .as_ref()
        .is_some_and(|request| request.is_break_glass);
    if asked.action == Action::RequestCreate && is_break_glass && question.history.open_reviews > 0
    {
        return Some(Reason::ReviewOutstanding);
    }
    let is_within = asked.action.is_within_session();
    match (asked.operation, &question.grant) {
        // An operation without a grant or without a description is a fault of the caller; deny. So is
        // one that is asked about as something else than it is.
        (None, _) | (_, None) if is_within => Some(Reason::GrantNotLive),
        (Some(operation), _) if is_within && operation.action() != asked.action => {
            Some(Reason::FeatureRefused)
        }
        (Some(operation), _) if operation.detail.len() > OPERATION_DETAIL_BYTES_MAX => {
            Some(Reason::OperationTooLong)
        }
        _ => None,
    }
}

fn refused_by_constraints(asked: Asked<'_>, constraints: &Constraints) -> Option<Reason> {
    match (asked.action, &asked.question.request, asked.operation) {
        (Action::RequestCreate, Some(request), _)
            if request.duration_s > constraints.max_duration_s =>
        {
            Some(Reason::DurationTooLong)
        }
        (_, _, Some(operation)) if constraints.read_only && operation.may_write() => {
            Some(Reason::ReadOnly)
        }
        (Action::OperationRun, _, Some(operation)) => match operation.kind {
            OperationKind::FileUpload if !constraints.upload => Some(Reason::UploadRefused),
            OperationKind::FileChange if !constraints.upload => Some(Reason::UploadRefused),
            OperationKind::FileDownload if !constraints.download => Some(Reason::DownloadRefused),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
#[path = "decide_tests/mod.rs"]
mod tests;
