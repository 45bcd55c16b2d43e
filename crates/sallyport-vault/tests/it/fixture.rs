//! What the tests begin with: a permit, an unsealed vault, a settable time.

use std::{path::Path, sync::Arc, time::Duration};

use sallyport_core::{
    authz::{
        AccountFacts, Action, GrantFacts, HistoryFacts, NetworkFacts, Permit, PermitTerms,
        PrincipalFacts, Question, SignedPermit, TargetFacts,
    },
    id::{
        AccountId, GatewayId, GrantId, LeaseId, PermitId, PersonId, RecordingId, SessionId,
        TargetId,
    },
    inventory::Sensitivity,
    policy::{BundleHash, Constraints},
    principal::{Authentication, AuthenticationStrength, PrincipalKind},
    secret::Secret,
    time::Timestamp,
};
use sallyport_vault::{
    SealedSecret, SecretPath, SshAuthority, SystemEntropy, Vault,
    engines::{Engine, IssueContext, RevokeContext},
};
use serde_json::{Value, json};

/// 2026-11-22T13:44:00.500Z: not a whole second, as in life.
pub(crate) const NOW: Timestamp = Timestamp::from_unix_ms(1_795_355_040_500);

pub(crate) fn after_s(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

pub(crate) fn account_id() -> AccountId {
    AccountId::new(NOW, [2; 10])
}

pub(crate) fn lease_id() -> LeaseId {
    LeaseId::new(NOW, [9; 10])
}

/// alice's permit for root@web-1, under a grant that ends at `until`.
pub(crate) fn permit(until: Timestamp) -> Permit {
    permit_for(until, |_| {})
}

pub(crate) fn permit_for(until: Timestamp, change: impl FnOnce(&mut PermitTerms)) -> Permit {
    permit_made(NOW, until, change)
}

pub(crate) fn permit_made(
    now: Timestamp,
    until: Timestamp,
    change: impl FnOnce(&mut PermitTerms),
) -> Permit {
    let mut terms = PermitTerms {
        version: 1,
        id: PermitId::new(NOW, [4; 10]),
        session_id: SessionId::new(NOW, [5; 10]),
        recording_id: RecordingId::new(NOW, [6; 10]),
        gateway_id: GatewayId::new(NOW, [7; 10]),
        grant_id: GrantId::new(NOW, [3; 10]),
        issued_at: now,
        expires_at: until,
        bundle: BundleHash("00".repeat(32)),
        constraints: Constraints::default(),
        question: question(until),
    };
    change(&mut terms);
    // A permit comes from a decision or from a verified signature; here the verifier accepts all.
    let signed = json!({ "terms": serde_json::to_string(&terms).unwrap(), "signature": [] });
    let signed: SignedPermit = serde_json::from_value(signed).unwrap();
    signed.open(|_, _| true, &terms.gateway_id, now).unwrap()
}

fn question(until: Timestamp) -> Question {
    let person_id = PersonId::new(NOW, [1; 10]);
    Question {
        action: Action::SessionOpen,
        now: NOW,
        principal: PrincipalFacts {
            kind: PrincipalKind::Person,
            id: person_id.clone(),
            name: "alice".parse().unwrap(),
            groups: vec![],
            is_enabled: true,
        },
        authentication: Authentication {
            strength: AuthenticationStrength::MultiFactor,
            at: NOW,
            methods: vec![],
        },
        network: NetworkFacts {
            ip: [192, 0, 2, 1].into(),
        },
        target: TargetFacts {
            id: TargetId::new(NOW, [8; 10]),
            name: "web-1".parse().unwrap(),
            protocol: "ssh".to_owned(),
            labels: [].into(),
            sensitivity: Sensitivity::High,
        },
        account: AccountFacts {
            id: account_id(),
            name: "root".parse().unwrap(),
        },
        request: None,
        grant: Some(GrantFacts {
            id: GrantId::new(NOW, [3; 10]),
            person_id,
            account_id: account_id(),
            from: NOW,
            until,
            is_open: true,
            is_break_glass: false,
        }),
        operation: None,
        locks: vec![],
        history: HistoryFacts::default(),
    }
}

pub(crate) fn new_vault() -> Vault {
    Vault::new(Arc::new(SystemEntropy), None)
}

/// An unsealed vault.
pub(crate) fn unsealed_vault() -> Vault {
    let vault = new_vault();
    vault.adopt(vault.initialise_shamir(1, 1).unwrap()).unwrap();
    vault
}

/// The password stored for accounts of the `static` engine: looked for wherever it must not be.
pub(crate) const CANARY: &str = "canary-7f3a9c-correct-horse";

/// What an engine needs stored, sealed.
pub(crate) fn stored_secrets(vault: &Vault, engine: &dyn Engine) -> Vec<SealedSecret> {
    let seal = |path: &SecretPath, secret| vault.seal_secret(path, 1, &secret).unwrap();
    engine
        .secret_paths(&account_id())
        .iter()
        .map(|path| {
            let password = Secret::new(CANARY.to_owned());
            match engine.accept_secret(&account_id(), "password", &password) {
                Ok((accepted, secret)) => {
                    assert_eq!(&accepted, path, "an engine reads where it stores");
                    seal(path, secret)
                }
                Err(_) => seal(path, SshAuthority::new_secret(&SystemEntropy)),
            }
        })
        .collect()
}

pub(crate) fn context<'a>(
    vault: &'a Vault,
    settings: &'a Value,
    secrets: &'a [SealedSecret],
) -> IssueContext<'a> {
    IssueContext {
        vault,
        settings,
        secrets,
        site: None,
        handle: None,
        now: NOW,
    }
}

/// What engines that act at no target are given to revoke with.
pub(crate) fn revocation(vault: &Vault, now: Timestamp) -> RevokeContext<'_> {
    RevokeContext {
        vault,
        settings: &Value::Null,
        site: None,
        now,
    }
}

/// Settings that make each kind of seal work.
pub(crate) fn seal_settings(kind: &str, folder: &Path) -> Value {
    match kind {
        "key_file" => json!({ "path": folder.join("seal.key") }),
        "shamir" => json!({ "shares": 3, "threshold": 2 }),
        _ => panic!("say here which settings make seal `{kind}` work"),
    }
}

/// An error and everything under it, as a log would print it, and as `{:?}` does.
pub(crate) fn printed(error: &dyn std::error::Error) -> String {
    let mut text = format!("{error:?}\n{error}");
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
