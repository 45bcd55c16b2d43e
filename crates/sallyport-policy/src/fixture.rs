//! Questions and bundles for the tests of this crate, each naming only what the test is about.

use std::time::Duration;

use sallyport_core::{
    authz::{
        AccountFacts, Action, GrantFacts, HistoryFacts, NetworkFacts, PrincipalFacts, Question,
        RequestFacts, TargetFacts,
    },
    id::{AccountId, GrantId, PersonId, TargetId},
    inventory::Sensitivity,
    principal::{Authentication, AuthenticationStrength, PrincipalKind},
    session::{Operation, OperationKind},
    time::Timestamp,
};

use crate::bundle::{Bundle, BundleError};

/// Monday, 2 March 2026, 10:00 UTC.
pub(crate) fn monday_10h() -> Timestamp {
    "2026-03-02T10:00:00Z".parse().unwrap()
}

/// `alice`, in group `sre`, with one factor, on `root@web-1`; with what the action needs besides.
pub(crate) fn question(action: Action) -> Question {
    let now = monday_10h();
    let person_id = PersonId::new(Timestamp::EPOCH, [1; 10]);
    let account_id = AccountId::new(Timestamp::EPOCH, [2; 10]);
    let grant = GrantFacts {
        id: GrantId::new(Timestamp::EPOCH, [4; 10]),
        person_id: person_id.clone(),
        account_id: account_id.clone(),
        from: now,
        until: now.plus(Duration::from_secs(3_600)),
        is_open: true,
        is_break_glass: false,
    };
    Question {
        action,
        now,
        principal: PrincipalFacts {
            kind: PrincipalKind::Person,
            id: person_id,
            name: "alice".parse().unwrap(),
            groups: vec!["sre".into()],
            is_enabled: true,
        },
        authentication: Authentication {
            strength: AuthenticationStrength::SingleFactor,
            at: now,
            methods: vec!["ssh_key".into()],
        },
        network: NetworkFacts {
            ip: "192.0.2.10".parse().unwrap(),
        },
        target: TargetFacts {
            id: TargetId::new(Timestamp::EPOCH, [3; 10]),
            name: "web-1".parse().unwrap(),
            protocol: "ssh".into(),
            labels: [("env".to_owned(), "prod".to_owned())].into(),
            sensitivity: Sensitivity::Medium,
        },
        account: AccountFacts {
            id: account_id,
            name: "root".parse().unwrap(),
        },
        request: (action == Action::RequestCreate).then(|| RequestFacts {
            id: None,
            reason: "rotate the certificates".into(),
            ticket: None,
            duration_s: 3_600,
            is_break_glass: false,
        }),
        grant: action.is_within_session().then_some(grant),
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

/// A bundle of these files.
pub(crate) fn load(files: &[(&str, &str)]) -> Result<Bundle, BundleError> {
    let files = files
        .iter()
        .map(|(path, content)| ((*path).to_owned(), (*content).to_owned()));
    Bundle::load(&files.collect())
}

/// A bundle with one file in each set.
pub(crate) fn bundle(authorise: &str, require: &str) -> Bundle {
    load(&[
        ("authorise/all.cedar", authorise),
        ("require/all.cedar", require),
    ])
    .unwrap()
}

/// Permits everything.
pub(crate) const PERMIT_ALL: &str = "@id(\"all\") permit (principal, action, resource);";
