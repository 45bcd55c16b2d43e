//! Facts for the tests of this crate: everything harmless, so that a test names only what it is about.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use crate::{
    access::{Asked, Grant},
    authz::{
        AccountFacts, Action, Authorisation, Decision, Evaluation, GrantFacts, HistoryFacts,
        NetworkFacts, PolicyEngine, PolicyError, PrincipalFacts, Question, RequestFacts,
        TargetFacts, decide,
    },
    id::{AccountId, GrantId, PersonId, RequestId, TargetId},
    inventory::Sensitivity,
    policy::{BundleHash, Constraint, Constraints, Demand, Requirement},
    principal::{AdminRole, Authentication, AuthenticationStrength, Person, PrincipalKind},
    session::{Operation, OperationKind},
    time::Timestamp,
};

/// `seconds` after noon, 22 November 2026.
pub(crate) fn at(seconds: u64) -> Timestamp {
    let noon: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
    noon.plus(Duration::from_secs(seconds))
}

/// A person whose id comes from the name, with the approver role.
pub(crate) fn person(name: &str, groups: &[&str]) -> Person {
    let mut entropy = [0; 10];
    for (slot, byte) in entropy.iter_mut().zip(name.bytes()) {
        *slot = byte;
    }
    Person {
        id: PersonId::new(Timestamp::EPOCH, entropy),
        name: name.parse().unwrap(),
        display_name: name.to_owned(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        admin_roles: vec![AdminRole::Approver],
        is_enabled: true,
    }
}

pub(crate) fn target_id() -> TargetId {
    TargetId::new(Timestamp::EPOCH, [1; 10])
}

pub(crate) fn account_id() -> AccountId {
    AccountId::new(Timestamp::EPOCH, [2; 10])
}

/// A live grant of alice for `root@web-1`.
pub(crate) fn grant(from: Timestamp, until: Timestamp) -> Grant {
    Grant {
        id: GrantId::new(Timestamp::EPOCH, [3; 10]),
        request_id: RequestId::new(Timestamp::EPOCH, [4; 10]),
        person_id: person("alice", &[]).id,
        target_id: target_id(),
        account_id: account_id(),
        from,
        until,
        ended: None,
        constraints: Constraints::default(),
        is_break_glass: false,
    }
}

pub(crate) fn grant_facts() -> GrantFacts {
    grant(at(0), at(3_600)).facts()
}

/// Alice asks about `root@web-1` at noon, signed in with two factors just now.
pub(crate) fn question(action: Action) -> Question {
    let alice = person("alice", &[]);
    Question {
        action,
        now: at(0),
        principal: PrincipalFacts {
            kind: PrincipalKind::Person,
            id: alice.id,
            name: alice.name,
            groups: vec![],
            is_enabled: true,
        },
        authentication: Authentication {
            strength: AuthenticationStrength::MultiFactor,
            at: at(0),
            methods: vec!["ssh_key".into(), "totp".into()],
        },
        network: NetworkFacts {
            ip: "192.0.2.10".parse().unwrap(),
        },
        target: TargetFacts {
            id: target_id(),
            name: "web-1".parse().unwrap(),
            protocol: "ssh".into(),
            labels: BTreeMap::new(),
            sensitivity: Sensitivity::Medium,
        },
        account: AccountFacts {
            id: account_id(),
            name: "root".parse().unwrap(),
        },
        request: (action == Action::RequestCreate).then(|| RequestFacts {
            id: None,
            reason: "rotate the certificates".into(),
            ticket: None,
            duration_s: 3_600,
            is_break_glass: false,
        }),
        grant: (action != Action::RequestCreate).then(grant_facts),
        operation: match action {
            Action::RequestCreate | Action::SessionOpen => None,
            Action::OperationRun => Some(Operation {
                kind: OperationKind::Exec,
                detail: "id".into(),
                facts: None,
            }),
            Action::FeatureUse => Some(Operation {
                kind: OperationKind::ForwardLocal,
                detail: "db-1:5432".into(),
                facts: None,
            }),
        },
        locks: vec![],
        history: HistoryFacts::default(),
    }
}

/// Exactly what alice asks for in [`question`].
pub(crate) fn asked() -> Asked {
    let alice = person("alice", &[]);
    Asked {
        requester_id: alice.id,
        requester: alice.name,
        target_id: target_id(),
        target: "web-1".parse().unwrap(),
        account_id: account_id(),
        account: "root".parse().unwrap(),
        reason: "rotate the certificates".into(),
        ticket: None,
        duration_s: 3_600,
        is_break_glass: false,
        bundle: bundle(),
    }
}

pub(crate) fn bundle() -> BundleHash {
    BundleHash("b".repeat(64))
}

/// Policies with a fixed answer, which count how often they are asked.
#[derive(Debug)]
pub(crate) struct Policies {
    pub(crate) evaluation: Result<Evaluation, String>,
    pub(crate) asked: Mutex<u32>,
}

impl Policies {
    /// Permits, with these demands, each a policy of its own: `r0`, `r1`, …
    pub(crate) fn demanding(demands: Vec<(Vec<Requirement>, Vec<Constraint>)>) -> Self {
        let demands = demands.into_iter().enumerate();
        Self {
            evaluation: Ok(Evaluation {
                bundle: bundle(),
                is_authorised: true,
                determining: vec!["permit".into()],
                is_forbidden: false,
                demands: demands
                    .map(|(n, (requirements, constraints))| Demand {
                        policy: format!("r{n}"),
                        requirements,
                        constraints,
                    })
                    .collect(),
            }),
            asked: Mutex::new(0),
        }
    }

    pub(crate) fn requiring(requirements: Vec<Requirement>) -> Self {
        Self::demanding(vec![(requirements, vec![])])
    }

    pub(crate) fn limiting(constraint: Constraint) -> Self {
        Self::demanding(vec![(vec![], vec![constraint])])
    }

    pub(crate) fn permitting() -> Self {
        Self::demanding(vec![])
    }

    pub(crate) fn failing() -> Self {
        Self {
            evaluation: Err("overflow".into()),
            asked: Mutex::new(0),
        }
    }

    pub(crate) fn times_asked(&self) -> u32 {
        *self.asked.lock().unwrap()
    }
}

impl PolicyEngine for Policies {
    fn evaluate(&self, _: &Question) -> Result<Evaluation, PolicyError> {
        *self.asked.lock().unwrap() += 1;
        self.evaluation.clone().map_err(|message| PolicyError {
            bundle: bundle(),
            policies: vec!["faulty".into()],
            message,
        })
    }
}

/// The yes to a question that these policies permit.
pub(crate) fn authorisation(policies: &Policies, question: &Question) -> Authorisation {
    match decide(policies, question) {
        Decision::Permit(authorisation) => *authorisation,
        other => panic!("not permitted: {other:?}"),
    }
}
