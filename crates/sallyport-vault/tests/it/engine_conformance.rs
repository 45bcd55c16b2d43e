//! What every secrets engine promises, checked for each one in the registry.

use sallyport_core::{lease::Lease, time::Timestamp};
use sallyport_vault::{
    VaultError,
    engines::{self, CredentialMaterial, Engine, EngineError, Issued},
    lease,
};
use serde_json::{Value, json};

use crate::fixture::{
    CANARY, NOW, account_id, after_s, context, lease_id, permit, permit_for, printed, revocation,
    stored_secrets, unsealed_vault,
};

/// Engines that act at no target. What the others promise is tested at their servers.
fn away_from_targets() -> Vec<&'static dyn Engine> {
    engines::all()
        .iter()
        .copied()
        .filter(|engine| engine.protocol().is_none())
        .collect()
}

async fn issue(
    engine: &dyn Engine,
    until: Timestamp,
    settings: &Value,
) -> Result<Issued, EngineError> {
    let vault = unsealed_vault();
    let secrets = stored_secrets(&vault, engine);
    engine
        .issue(&permit(until), context(&vault, settings, &secrets))
        .await
}

fn intent(engine: &dyn Engine, until: Timestamp) -> Lease {
    lease::intend(
        lease_id(),
        &permit(until),
        &engine.describe().kind,
        &unsealed_vault(),
        NOW,
    )
}

fn secret_texts(issued: &Issued) -> Vec<String> {
    match &issued.content {
        CredentialMaterial::Password { password, .. } => vec![password.expose_secret().clone()],
        CredentialMaterial::PrivateKey { pem, .. } => pem
            .expose_secret()
            .lines()
            .filter(|line| !line.starts_with("---"))
            .map(str::to_owned)
            .collect(),
    }
}

/// VA-3, GW-11
#[tokio::test]
async fn given_a_permit_when_issued_then_the_credential_ends_with_the_grant_or_sooner() {
    for engine in &away_from_targets() {
        for seconds in [1, 2, 59, 300, 301, 86_400] {
            let until = after_s(seconds);
            let issued = issue(*engine, until, &json!({})).await.unwrap();
            assert!(issued.expires_at <= until, "{engine:?}");
            assert!(issued.expires_at > NOW, "{engine:?}");
            assert!(issued.handle.is_none_or(|handle| handle.len() <= 4096));
        }
    }
}

/// VA-3
#[tokio::test]
async fn given_a_permit_that_has_ended_when_issued_then_nothing_is_made() {
    for engine in &away_from_targets() {
        let vault = unsealed_vault();
        let secrets = stored_secrets(&vault, *engine);
        let permit = permit(after_s(10));
        let settings = json!({});
        for seconds in [10, 11, 100_000] {
            let mut context = context(&vault, &settings, &secrets);
            context.now = after_s(seconds);
            let refused = engine.issue(&permit, context).await;
            assert!(
                matches!(refused, Err(EngineError::PermitEnded { .. })),
                "{engine:?}"
            );
        }
    }
}

/// VA-1
#[tokio::test]
async fn given_a_sealed_vault_when_issued_then_it_is_refused() {
    for engine in &away_from_targets() {
        let vault = unsealed_vault();
        let secrets = stored_secrets(&vault, *engine);
        vault.seal();
        let refused = engine
            .issue(&permit(after_s(60)), context(&vault, &json!({}), &secrets))
            .await;
        assert!(
            matches!(refused, Err(EngineError::Vault(VaultError::Sealed))),
            "{engine:?}"
        );
    }
}

/// VA-3
#[tokio::test]
async fn given_no_stored_secret_or_anothers_when_issued_then_it_is_refused() {
    for engine in &away_from_targets() {
        let vault = unsealed_vault();
        let settings = json!({});
        let refused = engine
            .issue(&permit(after_s(60)), context(&vault, &settings, &[]))
            .await;
        assert!(
            matches!(refused, Err(EngineError::NoSecret { .. })),
            "{engine:?}"
        );

        // Sealed by another vault.
        let foreign = stored_secrets(&unsealed_vault(), *engine);
        let refused = engine
            .issue(&permit(after_s(60)), context(&vault, &settings, &foreign))
            .await;
        assert!(matches!(refused, Err(EngineError::Vault(_))), "{engine:?}");
    }
}

/// VA-3: an engine takes the account from the permit, whatever else it is handed.
#[tokio::test]
async fn given_the_secrets_of_another_account_when_issued_then_they_are_not_used() {
    for engine in &away_from_targets() {
        let other = sallyport_core::id::AccountId::new(NOW, [0xee; 10]);
        if engine.secret_paths(&other) == engine.secret_paths(&account_id()) {
            continue; // One secret for all accounts: the permit's account goes into the credential.
        }
        let vault = unsealed_vault();
        let secrets = stored_secrets(&vault, *engine);
        let permit = permit_for(after_s(60), |terms| {
            terms.question.account.id = other.clone()
        });
        let refused = engine
            .issue(&permit, context(&vault, &json!({}), &secrets))
            .await;
        assert!(
            matches!(refused, Err(EngineError::NoSecret { .. })),
            "{engine:?}"
        );
    }
}

#[tokio::test]
async fn given_settings_an_engine_does_not_describe_when_checked_or_used_then_they_are_refused() {
    for engine in &away_from_targets() {
        assert!(engine.check_settings(&json!({})).is_ok(), "{engine:?}");
        assert!(engine.check_settings(&Value::Null).is_ok(), "{engine:?}");
        for refused in [json!({ "no_such": "x" }), json!("text"), json!([])] {
            let checked = engine.check_settings(&refused);
            assert!(
                matches!(checked, Err(EngineError::Settings { .. })),
                "{engine:?} {refused}"
            );
            let issued = issue(*engine, after_s(60), &refused).await;
            assert!(
                matches!(issued, Err(EngineError::Settings { .. })),
                "{engine:?} {refused}"
            );
        }
        for setting in engine.describe().settings {
            for refused in [json!({}), json!([]), json!(true), json!("x".repeat(2_000))] {
                let settings = json!({ setting.name.as_str(): refused });
                assert!(
                    engine.check_settings(&settings).is_err(),
                    "{engine:?} {settings}"
                );
            }
        }
    }
}

/// VA-3
#[tokio::test]
async fn given_a_lease_when_revoked_twice_or_never_issued_then_revoking_succeeds() {
    for engine in &away_from_targets() {
        let vault = unsealed_vault();
        let mut lease = intent(*engine, after_s(60));
        engine
            .revoke(&lease, revocation(&vault, NOW))
            .await
            .unwrap();
        let issued = issue(*engine, after_s(60), &json!({})).await.unwrap();
        lease.issued(issued.handle).unwrap();
        engine
            .revoke(&lease, revocation(&vault, NOW))
            .await
            .unwrap();
        engine
            .revoke(&lease, revocation(&vault, after_s(100_000)))
            .await
            .unwrap();
    }
}

/// GW-11
#[tokio::test]
async fn given_a_credential_when_printed_then_its_secret_is_not_there() {
    for engine in &away_from_targets() {
        let issued = issue(*engine, after_s(60), &json!({})).await.unwrap();
        let printed = format!("{issued:?} {:?}", issued.handle);
        for secret in secret_texts(&issued) {
            assert!(!printed.contains(&secret), "{engine:?}");
        }
    }
}

/// GW-11
#[tokio::test]
async fn given_a_refusal_when_printed_then_no_secret_is_there() {
    for engine in &away_from_targets() {
        let vault = unsealed_vault();
        let secrets = stored_secrets(&vault, *engine);
        let bad_settings = json!({ "no_such": "x" });
        let no_settings = json!({});
        let mut errors = vec![
            engine
                .issue(
                    &permit(after_s(60)),
                    context(&vault, &bad_settings, &secrets),
                )
                .await,
            engine
                .issue(&permit(after_s(60)), context(&vault, &no_settings, &[]))
                .await,
            engine
                .issue(
                    &permit(after_s(60)),
                    context(&unsealed_vault(), &no_settings, &secrets),
                )
                .await,
        ];
        for kind in ["password", "private_key", "token"] {
            for value in [format!("{CANARY}\n"), format!("{CANARY}\0")] {
                let refused = engine.accept_secret(&account_id(), kind, &value.into());
                errors.push(refused.map(|_| panic!("a line break was accepted")));
            }
        }
        for error in errors {
            assert!(!printed(&error.unwrap_err()).contains(CANARY), "{engine:?}");
        }
    }
}

#[test]
fn given_an_engine_when_described_then_it_is_listed_once_in_order_and_has_a_page() {
    let kinds: Vec<String> = engines::all()
        .iter()
        .map(|engine| engine.describe().kind)
        .collect();
    assert!(kinds.is_sorted_by(|left, right| left < right), "{kinds:?}");
    for kind in kinds {
        let engine = engines::by_kind(&kind).unwrap();
        let page = format!(
            "{}/../../docs/plugins/secrets-engine/{kind}.md",
            env!("CARGO_MANIFEST_DIR")
        );
        let page = std::fs::read_to_string(page).unwrap();
        for setting in engine.describe().settings {
            assert!(
                page.contains(&format!("`{}`", setting.name)),
                "{kind}: {}",
                setting.name
            );
        }
    }
    assert!(engines::by_kind("no_such").is_none());
}
