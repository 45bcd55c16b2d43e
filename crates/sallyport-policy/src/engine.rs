//! Cedar behind [`PolicyEngine`]: a question becomes a request and entities, both sets are asked, the
//! answers become an [`Evaluation`].
//!
//! Entities are known to policies by their names (`Person::"alice"`, `Account::"root@web-1"`), which
//! are unique and canonical; that is what people write in policies.
//!
//! INVARIANT: values are built by typed constructors, never by parsing text that somebody else chose.
//! A question that does not fit the schema, and an error in any selected policy of either set, is a
//! [`PolicyError`].

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicyId,
    PolicySet, Request, Response, RestrictedExpression,
};
use sallyport_core::{
    authz::{
        Action, Evaluation, GrantFacts, OperationFacts, PolicyEngine, PolicyError, Question,
        RequestFacts, SessionQuestion,
    },
    policy::Demand,
    principal::PrincipalKind,
    session::{Operation, OperationKind, StatementFacts, Verb},
    time::Timestamp,
};

use crate::{
    bundle::Bundle,
    memory,
    schema::{NO_VERB, SENSITIVITIES, STRENGTHS, rank, schema},
    selection::{PolicyIndex, Scope},
};

/// Most values that one question brings as labels or groups. Core bounds both far below; a question
/// beyond is damaged.
const NAMES_MAX: usize = 4_096;

impl PolicyEngine for Bundle {
    fn evaluate(&self, question: &Question) -> Result<Evaluation, PolicyError> {
        self.evaluate_with(question, PolicyIndex::select)
    }

    fn evaluate_operation(
        &self,
        session: &SessionQuestion,
        operation: &Operation,
        now: Timestamp,
    ) -> Result<Arc<Evaluation>, PolicyError> {
        let kind = operation.kind;
        let sets = [&self.inner.authorise, &self.inner.require];
        let reads_text = sets.iter().any(|set| set.text_readers().reads(kind));
        let keys = memory::Keys::new(session, operation, now, reads_text);
        if let Some(answer) = keys
            .as_ref()
            .and_then(|keys| self.inner.memory.recall(keys))
        {
            return Ok(answer);
        }
        let question = session.about(operation, now);
        let asked = self.ask(&question)?;
        let answer = Arc::new(self.evaluate_asked(&question, &asked, PolicyIndex::select)?);
        if let Some(keys) = keys {
            let read_text = reads_text
                && sets
                    .iter()
                    .any(|set| set.text_readers_of(&asked.scope).reads(kind));
            self.inner.memory.keep(keys, read_text, &answer);
        }
        Ok(answer)
    }
}

impl Bundle {
    /// Evaluates with another way to select policies; tests ask the whole set.
    pub(crate) fn evaluate_with(
        &self,
        question: &Question,
        select: impl Fn(&PolicyIndex, &Scope) -> Result<Arc<PolicySet>, String>,
    ) -> Result<Evaluation, PolicyError> {
        self.evaluate_asked(question, &self.ask(question)?, select)
    }

    fn ask(&self, question: &Question) -> Result<Asked, PolicyError> {
        Asked::new(question).map_err(|message| self.error(Vec::new(), message))
    }

    fn evaluate_asked(
        &self,
        question: &Question,
        asked: &Asked,
        select: impl Fn(&PolicyIndex, &Scope) -> Result<Arc<PolicySet>, String>,
    ) -> Result<Evaluation, PolicyError> {
        let answer = |index: &PolicyIndex| -> Result<Response, PolicyError> {
            let set =
                select(index, &asked.scope).map_err(|message| self.error(Vec::new(), message))?;
            self.answer(asked, &set)
        };
        let authorise = answer(&self.inner.authorise)?;
        let require = answer(&self.inner.require)?;

        let mut determining = sorted_ids(&authorise);
        let is_allowed = authorise.decision() == Decision::Allow;
        // Cedar names determining policies of a denial only when a forbid was satisfied.
        let is_forbidden = !is_allowed && !determining.is_empty();
        if is_allowed && question.action == Action::FeatureUse {
            // Features are off until a policy names them: one written for every action, maybe before
            // there were features, means none.
            determining.retain(|id| !self.inner.authorise.is_for_every_action(id));
        }
        Ok(Evaluation {
            bundle: self.inner.hash.clone(),
            is_authorised: is_allowed && !determining.is_empty(),
            is_forbidden,
            determining,
            demands: self.demands(&require)?,
        })
    }

    fn answer(&self, asked: &Asked, set: &PolicySet) -> Result<Response, PolicyError> {
        let response = Authorizer::new().is_authorized(&asked.request, set, &asked.entities);
        let mut policies = Vec::new();
        let mut messages = Vec::new();
        for error in response.diagnostics().errors() {
            let cedar_policy::AuthorizationError::PolicyEvaluationError(error) = error;
            policies.push(error.policy_id().to_string());
            messages.push(error.to_string());
        }
        if messages.is_empty() {
            return Ok(response);
        }
        policies.sort();
        messages.sort();
        Err(self.error(policies, messages.join("; ")))
    }

    fn demands(&self, require: &Response) -> Result<Vec<Demand>, PolicyError> {
        sorted_ids(require)
            .into_iter()
            .map(|id| {
                let demand = self.inner.demands.get(&PolicyId::new(&id)).cloned();
                demand.ok_or_else(|| {
                    self.error(vec![id], String::from("the policy's demand is unknown"))
                })
            })
            .collect()
    }

    fn error(&self, policies: Vec<String>, message: String) -> PolicyError {
        PolicyError {
            bundle: self.inner.hash.clone(),
            policies,
            message,
        }
    }
}

fn sorted_ids(response: &Response) -> Vec<String> {
    let mut ids: Vec<String> = response
        .diagnostics()
        .reason()
        .map(ToString::to_string)
        .collect();
    ids.sort();
    ids
}

/// A question in Cedar's terms.
pub(crate) struct Asked {
    pub(crate) request: Request,
    pub(crate) entities: Entities,
    pub(crate) scope: Scope,
}

impl Asked {
    /// Translates; the error says what does not fit.
    pub(crate) fn new(question: &Question) -> Result<Self, String> {
        let schema = schema()?;
        if question.principal.groups.len() > NAMES_MAX || question.target.labels.len() > NAMES_MAX {
            return Err(format!(
                "the question has more than {NAMES_MAX} groups or labels"
            ));
        }
        let action = uid("Action", question.action.as_str())?;
        let kind = match question.principal.kind {
            PrincipalKind::Person => "Person",
            PrincipalKind::Workload => "Workload",
            PrincipalKind::Agent => "Agent",
        };
        let principal = uid(kind, question.principal.name.as_str())?;
        let groups = question
            .principal
            .groups
            .iter()
            .map(|group| uid("Group", group))
            .collect::<Result<Vec<_>, _>>()?;
        let target = uid("Target", question.target.name.as_str())?;
        let account = uid(
            "Account",
            &format!("{}@{}", question.account.name, question.target.name),
        )?;

        let entities = Entities::from_entities(
            [
                person_entity(question, &principal, &groups)?,
                target_entity(question, &target)?,
                account_entity(question, &account, &target)?,
            ],
            None,
        )
        .map_err(|error| error.to_string())?;
        let request = Request::new(
            principal.clone(),
            action.clone(),
            account.clone(),
            context(question)?,
            Some(schema),
        )
        .map_err(|error| error.to_string())?;
        let mut principals = vec![principal];
        principals.extend(groups);
        Ok(Self {
            request,
            entities,
            scope: Scope {
                action,
                principals,
                resources: vec![account, target],
            },
        })
    }
}

/// Names an entity. Type names are ours and parse; the id is taken as it is.
fn uid(type_name: &str, id: &str) -> Result<EntityUid, String> {
    let type_name: EntityTypeName = type_name
        .parse()
        .map_err(|error| format!("name the entity type {type_name}: {error}"))?;
    Ok(EntityUid::from_type_name_and_id(
        type_name,
        EntityId::new(id),
    ))
}

fn person_entity(
    question: &Question,
    principal: &EntityUid,
    groups: &[EntityUid],
) -> Result<Entity, String> {
    let name = text(question.principal.name.as_str());
    Entity::new_with_tags(
        principal.clone(),
        [(String::from("name"), name)],
        groups.iter().cloned(),
        [],
    )
    .map_err(|error| error.to_string())
}

fn target_entity(question: &Question, target: &EntityUid) -> Result<Entity, String> {
    let facts = &question.target;
    let attributes = fields([
        ("name", text(facts.name.as_str())),
        ("protocol", text(&facts.protocol)),
        (
            "sensitivity",
            word("Sensitivity", facts.sensitivity.as_str())?,
        ),
        (
            "sensitivity_rank",
            RestrictedExpression::new_long(rank(&SENSITIVITIES, &facts.sensitivity)),
        ),
    ]);
    let tags = facts
        .labels
        .iter()
        .map(|(label, value)| (label.clone(), text(value)));
    Entity::new_with_tags(target.clone(), attributes, [], tags).map_err(|error| error.to_string())
}

fn account_entity(
    question: &Question,
    account: &EntityUid,
    target: &EntityUid,
) -> Result<Entity, String> {
    let attributes = fields([
        ("name", text(question.account.name.as_str())),
        (
            "target",
            RestrictedExpression::new_entity_uid(target.clone()),
        ),
    ]);
    Entity::new_with_tags(account.clone(), attributes, [target.clone()], [])
        .map_err(|error| error.to_string())
}

fn context(question: &Question) -> Result<Context, String> {
    let mut facts = fields([
        ("mfa", mfa(question)?),
        ("network", network(question.network.ip)?),
        ("time", time(question)?),
        (
            "history",
            record([("open_reviews", whole(question.history.open_reviews))])?,
        ),
    ]);
    if let Some(request) = &question.request {
        facts.push((String::from("request"), request_record(request)?));
    }
    if let Some(grant) = &question.grant {
        facts.push((String::from("grant"), grant_record(grant)?));
    }
    if let Some(operation) = &question.operation {
        facts.push((String::from("operation"), operation_record(operation)?));
    }
    Context::from_pairs(facts).map_err(|error| error.to_string())
}

fn mfa(question: &Question) -> Result<RestrictedExpression, String> {
    let authentication = &question.authentication;
    let strength = authentication.strength;
    record([
        (
            "strength",
            word("AuthenticationStrength", strength.as_str())?,
        ),
        (
            "strength_rank",
            RestrictedExpression::new_long(rank(&STRENGTHS, &strength)),
        ),
        (
            "age_s",
            whole(question.now.since(authentication.at).as_secs()),
        ),
    ])
}

fn network(ip: IpAddr) -> Result<RestrictedExpression, String> {
    // A listener for both families shows an IPv4 client as ::ffff:192.0.2.1, which no IPv4 range of a
    // policy would contain.
    let ip = ip.to_canonical().to_string();
    record([("ip", RestrictedExpression::new_ip(ip))])
}

fn time(question: &Question) -> Result<RestrictedExpression, String> {
    let unix_s = question.now.unix_s();
    let day = unix_s / 86_400;
    record([
        ("unix_s", whole(unix_s)),
        ("hour", whole((unix_s % 86_400) / 3_600)),
        // The epoch was a Thursday, three days after a Monday.
        ("weekday", whole(day.saturating_add(3) % 7)),
    ])
}

fn request_record(request: &RequestFacts) -> Result<RestrictedExpression, String> {
    let mut facts = fields([
        ("reason", text(&request.reason)),
        (
            "has_ticket",
            RestrictedExpression::new_bool(request.ticket.is_some()),
        ),
        ("duration_s", whole(request.duration_s)),
        (
            "is_break_glass",
            RestrictedExpression::new_bool(request.is_break_glass),
        ),
    ]);
    if let Some(ticket) = &request.ticket {
        facts.push((String::from("ticket"), text(ticket)));
    }
    RestrictedExpression::new_record(facts).map_err(|error| error.to_string())
}

fn grant_record(grant: &GrantFacts) -> Result<RestrictedExpression, String> {
    record([(
        "is_break_glass",
        RestrictedExpression::new_bool(grant.is_break_glass),
    )])
}

fn operation_record(operation: &OperationFacts) -> Result<RestrictedExpression, String> {
    let facts = match (&operation.facts, operation.kind) {
        (Some(facts), _) => Some(Cow::Borrowed(facts.as_ref())),
        // Nobody read it; it may do anything.
        (None, OperationKind::Statement) => Some(Cow::Owned(StatementFacts::unknown())),
        (None, _) => None,
    };
    let verb = facts.as_ref().map(|facts| facts.verb());
    let facts = facts.unwrap_or_default();
    let verbs = facts.verbs.iter().map(|verb| word("Verb", verb.as_str()));
    let verbs = verbs.collect::<Result<Vec<_>, _>>()?;
    record([
        ("kind", word("OperationKind", operation.kind.as_str())?),
        ("detail", text(&operation.detail)),
        ("verb", word("Verb", verb.map_or(NO_VERB, Verb::as_str))?),
        (
            "verb_rank",
            RestrictedExpression::new_long(verb.map_or(0, |verb| rank(&Verb::ALL, &verb))),
        ),
        ("verbs", RestrictedExpression::new_set(verbs)),
        (
            "relations",
            RestrictedExpression::new_set(facts.relations.iter().map(|name| text(name))),
        ),
        (
            "is_unfiltered",
            RestrictedExpression::new_bool(facts.is_unfiltered),
        ),
        (
            "reaches_server",
            RestrictedExpression::new_bool(facts.reaches_server),
        ),
    ])
}

fn fields<const N: usize>(
    pairs: [(&str, RestrictedExpression); N],
) -> Vec<(String, RestrictedExpression)> {
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn record<const N: usize>(
    pairs: [(&str, RestrictedExpression); N],
) -> Result<RestrictedExpression, String> {
    RestrictedExpression::new_record(fields(pairs)).map_err(|error| error.to_string())
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

/// A word of a closed set.
fn word(type_name: &str, value: &str) -> Result<RestrictedExpression, String> {
    Ok(RestrictedExpression::new_entity_uid(uid(type_name, value)?))
}

/// A whole number. Cedar's are signed; one beyond is as large as can be.
fn whole(value: u64) -> RestrictedExpression {
    RestrictedExpression::new_long(i64::try_from(value).unwrap_or(i64::MAX))
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
