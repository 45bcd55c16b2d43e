//! All facts a decision may read. Each is a field here, loaded by its owner, so a decision can be
//! explained and replayed from its record.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    id::{AccountId, GrantId, PersonId, RequestId, TargetId},
    inventory::{AccountName, Sensitivity, TargetName},
    lock::Lock,
    principal::{Authentication, PersonName, PrincipalKind},
    session::Operation,
    time::Timestamp,
};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// May this be asked for, and what does it take? (`request.create`)
    RequestCreate,
    /// May this session open now? (`session.open`)
    SessionOpen,
    /// May this operation run in this session? (`operation.run`)
    OperationRun,
    /// May this feature of the protocol be used in this session? (`feature.use`) A policy that means
    /// every action does not mean this one: features are off until a policy names them.
    FeatureUse,
}

impl Action {
    /// As policies and the audit log spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RequestCreate => "request.create",
            Self::SessionOpen => "session.open",
            Self::OperationRun => "operation.run",
            Self::FeatureUse => "feature.use",
        }
    }

    /// Whether it is asked about something within a session that is open.
    #[must_use]
    pub const fn is_within_session(self) -> bool {
        matches!(self, Self::OperationRun | Self::FeatureUse)
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrincipalFacts {
    /// Kind.
    pub kind: PrincipalKind,
    /// Id.
    pub id: PersonId,
    /// Canonical name.
    pub name: PersonName,
    /// Canonical group names.
    pub groups: Vec<String>,
    /// False once disabled.
    pub is_enabled: bool,
}

/// What is acted on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetFacts {
    /// Id.
    pub id: TargetId,
    /// Name.
    pub name: TargetName,
    /// Protocol kind.
    pub protocol: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Sensitivity.
    pub sensitivity: Sensitivity,
}

/// As whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountFacts {
    /// Id.
    pub id: AccountId,
    /// Name.
    pub name: AccountName,
}

/// From where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkFacts {
    /// The client's address as the listener saw it; never a forwarded header.
    pub ip: IpAddr,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestFacts {
    /// Id, once the request exists.
    pub id: Option<RequestId>,
    /// Reason given; empty when none.
    pub reason: String,
    /// Ticket given.
    pub ticket: Option<String>,
    /// Duration asked for, in seconds.
    pub duration_s: u64,
    /// Whether it is break-glass.
    pub is_break_glass: bool,
}

/// The grant a session would run under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantFacts {
    /// Id.
    pub id: GrantId,
    /// Holder.
    pub person_id: PersonId,
    /// Account it opens.
    pub account_id: AccountId,
    /// First moment.
    pub from: Timestamp,
    /// First moment after.
    pub until: Timestamp,
    /// False once ended before its time.
    pub is_open: bool,
    /// Whether it came from break-glass.
    pub is_break_glass: bool,
}

/// What the person did before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryFacts {
    /// Break-glass uses not reviewed yet.
    pub open_reviews: u64,
}

/// What is about to be done within a session.
pub type OperationFacts = Operation;

/// A question to the policy decision point, with every fact it may read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// What is asked.
    pub action: Action,
    /// When.
    pub now: Timestamp,
    /// Who.
    pub principal: PrincipalFacts,
    /// How strongly that was proven.
    pub authentication: Authentication,
    /// From where.
    pub network: NetworkFacts,
    /// On what.
    pub target: TargetFacts,
    /// As whom.
    pub account: AccountFacts,
    /// The request, when there is one or one is being made.
    pub request: Option<RequestFacts>,
    /// The grant, when there is one.
    pub grant: Option<GrantFacts>,
    /// The operation, for [`Action::OperationRun`] and [`Action::FeatureUse`].
    pub operation: Option<OperationFacts>,
    /// Locks that could matter.
    pub locks: Vec<Lock>,
    /// What happened before.
    pub history: HistoryFacts,
}

impl Question {
    /// SHA-256 over the facts, lower-case hex: ties a record to exactly what was decided on.
    #[must_use]
    pub fn facts_hash(&self) -> String {
        // Serialising plain structs of strings and numbers cannot fail; an empty text would only make
        // the hash useless, never the decision different.
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        let digest = Sha256::digest(&bytes);
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The same facts asked about one operation of the session they opened.
    #[must_use]
    pub fn about_operation(&self, operation: Operation, now: Timestamp) -> Self {
        Self {
            action: operation.action(),
            now,
            operation: Some(operation),
            ..self.clone()
        }
    }
}

/// What every operation of one open session is asked with: the facts its permit was given on.
///
/// A session asks thousands of times; what never changes meanwhile is named once, so that a policy engine
/// can tell the same question from another without reading all of it again.
#[derive(Clone, Debug)]
pub struct SessionQuestion {
    question: Question,
    digest: Option<[u8; 32]>,
}

impl SessionQuestion {
    /// Of a session that was opened on these facts.
    #[must_use]
    pub fn new(question: &Question) -> Self {
        // What an operation brings itself is no fact of the session.
        let question = Question {
            action: Action::OperationRun,
            now: Timestamp::EPOCH,
            operation: None,
            ..question.clone()
        };
        let digest = serde_json::to_vec(&question)
            .ok()
            .map(|bytes| Sha256::digest(bytes).into());
        Self { question, digest }
    }

    /// The facts. Their action, time and operation mean nothing.
    pub(super) const fn facts(&self) -> &Question {
        &self.question
    }

    /// SHA-256 over every fact of the session; none if that could not be made, and then nothing about it may
    /// be remembered.
    #[must_use]
    pub const fn digest(&self) -> Option<&[u8; 32]> {
        self.digest.as_ref()
    }

    /// When the strongest factor of the person was checked.
    #[must_use]
    pub const fn authenticated_at(&self) -> Timestamp {
        self.question.authentication.at
    }

    /// The whole question about one operation.
    #[must_use]
    pub fn about(&self, operation: &Operation, now: Timestamp) -> Question {
        self.question.about_operation(operation.clone(), now)
    }
}
