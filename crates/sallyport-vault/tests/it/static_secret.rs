//! The `static` engine: what may be stored, and that exactly this is injected.

use std::process::Command;

use sallyport_core::secret::Secret;
use sallyport_vault::engines::{self, CredentialMaterial, EngineError, SecretKind, check_secret};
use serde_json::json;

use crate::fixture::{account_id, after_s, context, permit, printed, unsealed_vault};

fn check(kind: SecretKind, value: &str) -> Result<(), String> {
    check_secret(kind, &Secret::new(value.to_owned())).map_err(|error| error.to_string())
}

/// A key as OpenSSH makes it.
fn ssh_keygen(arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    let output = Command::new("ssh-keygen")
        .args(["-q", "-C", "", "-f"])
        .arg(&file)
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    std::fs::read_to_string(file).unwrap()
}

/// VA-1
#[test]
fn given_a_password_when_checked_then_one_to_1024_characters_on_one_line_are_accepted() {
    for accepted in ["x", " ", "pä\tß✓", "a,b*c/d", &"ü".repeat(1_024)] {
        assert_eq!(check(SecretKind::Password, accepted), Ok(()));
    }
    for refused in ["", "a\nb", "a\n", "a\r", "a\0b", &"x".repeat(1_025)] {
        assert!(check(SecretKind::Password, refused).is_err(), "{refused:?}");
    }
}

/// VA-1
#[test]
fn given_keys_of_openssh_when_checked_then_strong_ones_without_passphrase_are_accepted() {
    for accepted in [
        ["-t", "ed25519", "-N", ""].as_slice(),
        &["-t", "ecdsa", "-b", "256", "-N", ""],
        &["-t", "ecdsa", "-b", "384", "-N", ""],
        &["-t", "rsa", "-b", "3072", "-N", ""],
    ] {
        assert_eq!(
            check(SecretKind::PrivateKey, &ssh_keygen(accepted)),
            Ok(()),
            "{accepted:?}"
        );
    }
    for (arguments, expected) in [
        (
            ["-t", "ed25519", "-N", "passphrase"].as_slice(),
            "passphrase",
        ),
        (&["-t", "rsa", "-b", "2048", "-N", ""], "3072"),
        (&["-t", "rsa", "-b", "3071", "-N", ""], "3072"),
        (
            &["-t", "rsa", "-b", "3072", "-m", "PEM", "-N", ""],
            "OpenSSH's format",
        ),
    ] {
        let refused = check(SecretKind::PrivateKey, &ssh_keygen(arguments)).unwrap_err();
        assert!(refused.contains(expected), "{arguments:?}: {refused}");
    }
}

/// VA-1
#[test]
fn given_a_damaged_key_when_checked_then_it_is_refused_and_not_quoted() {
    let key = ssh_keygen(&["-t", "ed25519", "-N", ""]);
    let middle = key.lines().nth(2).unwrap();
    let swapped: String = middle.chars().rev().collect();
    for damaged in [
        key.replace(middle, &swapped),
        key.replace(middle, ""),
        key.replace("BEGIN", "BEGINN"),
        key.lines().skip(1).collect::<Vec<_>>().join("\n"),
        middle.to_owned(),
        String::new(),
        "x".repeat(40_000),
    ] {
        let value = Secret::new(damaged.clone());
        let refused = check_secret(SecretKind::PrivateKey, &value).unwrap_err();
        assert!(!printed(&refused).contains(&swapped) && !printed(&refused).contains(middle));
    }
}

/// GW-11: what was stored is what the gateway logs in with.
#[tokio::test]
async fn given_a_stored_secret_when_issued_then_exactly_it_is_injected() {
    let engine = engines::by_kind("static").unwrap();
    let key = ssh_keygen(&["-t", "ed25519", "-N", ""]);
    for (kind, value) in [("password", "pä ss".to_owned()), ("private_key", key)] {
        let vault = unsealed_vault();
        let (path, secret) = engine
            .accept_secret(&account_id(), kind, &Secret::new(value.clone()))
            .unwrap();
        let secrets = [vault.seal_secret(&path, 1, &secret).unwrap()];
        let permit = permit(after_s(60));
        let issued = engine
            .issue(&permit, context(&vault, &json!({}), &secrets))
            .await
            .unwrap();
        let injected = match &issued.content {
            CredentialMaterial::Password { password, .. } if kind == "password" => password,
            CredentialMaterial::PrivateKey {
                pem,
                certificate: None,
            } if kind == "private_key" => pem,
            other => panic!("{kind} became {other:?}"),
        };
        assert_eq!(injected.expose_secret(), &value);
        assert_eq!(issued.expires_at, after_s(60));
    }
}

#[tokio::test]
async fn given_stored_bytes_that_are_no_credential_when_issued_then_it_is_refused() {
    let engine = engines::by_kind("static").unwrap();
    let vault = unsealed_vault();
    for bytes in [vec![], vec![0, b'x'], vec![3, b'x'], vec![1, 0xff]] {
        let path = &engine.secret_paths(&account_id())[0];
        let secrets = [vault.seal_secret(path, 1, &bytes.into()).unwrap()];
        let permit = permit(after_s(60));
        let refused = engine
            .issue(&permit, context(&vault, &json!({}), &secrets))
            .await;
        assert!(matches!(refused, Err(EngineError::SecretForm { .. })));
    }
}

#[test]
fn given_a_secret_of_an_unknown_kind_when_stored_then_the_kinds_are_named() {
    let engine = engines::by_kind("static").unwrap();
    let refused = engine.accept_secret(&account_id(), "to\nken", &Secret::new("x".to_owned()));
    let refused = refused.map(|_| ()).unwrap_err().to_string();
    assert!(
        refused.contains("`token`") && refused.contains("`private_key`"),
        "{refused}"
    );
}
