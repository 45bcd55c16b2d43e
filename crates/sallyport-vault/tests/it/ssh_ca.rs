//! The `ssh_ca` engine: what its certificates say, read by us and by OpenSSH.

use std::process::Command;

use russh::keys::ssh_key::{Certificate, HashAlg, PrivateKey, PublicKey, certificate::CertType};
use sallyport_core::time::Timestamp;
use sallyport_vault::{
    CertificateError, SshAuthority,
    engines::{self, CredentialMaterial, EngineError, Issued},
};
use serde_json::{Value, json};

use crate::fixture::{NOW, after_s, context, permit, permit_for, stored_secrets, unsealed_vault};

struct Made {
    issued: Issued,
    key: PrivateKey,
    certificate: Certificate,
    text: String,
    authority: PublicKey,
}

async fn make(until: Timestamp, settings: Value) -> Result<Made, EngineError> {
    let vault = unsealed_vault();
    let engine = engines::by_kind("ssh_ca").unwrap();
    let secrets = stored_secrets(&vault, engine);
    let seed = vault.open_secret(&secrets[0]).unwrap();
    let authority = SshAuthority::from_secret(&seed)
        .unwrap()
        .public_key()
        .unwrap();
    let issued = engine
        .issue(&permit(until), context(&vault, &settings, &secrets))
        .await?;
    let CredentialMaterial::PrivateKey {
        pem,
        certificate: Some(text),
    } = &issued.content
    else {
        panic!("no key and certificate: {issued:?}");
    };
    Ok(Made {
        key: PrivateKey::from_openssh(pem.expose_secret()).unwrap(),
        certificate: Certificate::from_openssh(text).unwrap(),
        text: text.clone(),
        authority: PublicKey::from_openssh(&authority).unwrap(),
        issued,
    })
}

/// VA-3
#[tokio::test]
async fn given_a_permit_when_issued_then_the_certificate_says_exactly_this() {
    let made = make(after_s(3_600), json!({})).await.unwrap();
    let certificate = &made.certificate;

    assert_eq!(certificate.cert_type(), CertType::User);
    assert_eq!(certificate.valid_principals(), ["root"]);
    let session_id = permit(after_s(1)).terms().session_id.clone();
    assert_eq!(
        certificate.key_id(),
        format!("sallyport:{session_id}:alice")
    );
    assert_eq!(certificate.valid_after(), NOW.unix_s() - 60);
    assert_eq!(certificate.valid_before(), NOW.unix_s() + 300);
    assert!(certificate.critical_options().is_empty());
    let extensions: Vec<_> = certificate.extensions().keys().collect();
    assert_eq!(
        extensions,
        [
            "permit-agent-forwarding",
            "permit-port-forwarding",
            "permit-pty"
        ],
        "and no X11, no user rc"
    );
    assert_eq!(certificate.public_key(), made.key.public_key().key_data());
    assert_eq!(made.issued.handle, Some(certificate.serial().to_string()));
    assert_eq!(
        made.issued.expires_at.unix_ms(),
        1_000 * (NOW.unix_s() as i64 + 300)
    );
    let fingerprint = made.authority.fingerprint(HashAlg::Sha256);
    certificate
        .validate_at(NOW.unix_s(), [&fingerprint])
        .unwrap();
}

/// VA-3: the certificate dies with the grant.
#[tokio::test]
async fn given_a_grant_that_ends_before_the_ttl_when_issued_then_the_certificate_ends_with_it() {
    let made = make(after_s(42), json!({ "ttl_s": "3600" })).await.unwrap();
    assert_eq!(made.certificate.valid_before(), after_s(42).unix_s());
    let made = make(after_s(4_200), json!({ "ttl_s": 90 })).await.unwrap();
    assert_eq!(made.certificate.valid_before(), after_s(90).unix_s());
    // A grant that ends within this second leaves no whole second to be valid in.
    let refused = make(NOW.plus(std::time::Duration::from_millis(499)), json!({})).await;
    assert!(matches!(refused, Err(EngineError::PermitEnded { .. })));
}

/// VA-3
#[tokio::test]
async fn given_two_sessions_when_issued_then_keys_and_serials_differ() {
    let first = make(after_s(60), json!({})).await.unwrap();
    let second = make(after_s(60), json!({})).await.unwrap();
    assert_ne!(first.key.public_key(), second.key.public_key());
    assert_ne!(first.certificate.serial(), second.certificate.serial());
    assert_ne!(first.certificate.nonce(), second.certificate.nonce());
}

/// VA-3, and security class A17: no principal that could mean another name, several, or all.
#[tokio::test]
async fn given_a_principal_with_a_special_meaning_when_set_then_it_is_refused() {
    for principal in [
        "",
        ",",
        "root,admin",
        "*",
        "ro*t",
        "a/b",
        "/",
        "ro ot",
        " root",
        "root\t",
        "root\n",
        "root\0",
        "root\u{7f}",
        "a\u{a0}b",
        "a\u{2028}b",
        &"a".repeat(256),
    ] {
        let refused = make(after_s(60), json!({ "principal": principal })).await;
        assert!(
            matches!(refused, Err(EngineError::Settings { .. })),
            "{principal:?}"
        );
    }
    let made = make(after_s(60), json!({ "principal": "web-admins" }))
        .await
        .unwrap();
    assert_eq!(made.certificate.valid_principals(), ["web-admins"]);
}

/// VA-3
#[tokio::test]
async fn given_networks_when_set_then_the_certificate_is_bound_to_them() {
    let networks = "192.0.2.0/24,198.51.100.7,2001:db8::/32";
    let made = make(after_s(60), json!({ "source_address": networks }))
        .await
        .unwrap();
    let options: Vec<_> = made.certificate.critical_options().iter().collect();
    assert_eq!(
        options,
        [(&"source-address".to_owned(), &networks.to_owned())]
    );

    for wrong in [
        "",
        ",",
        "192.0.2.0/24,",
        "192.0.2.1/24",
        "192.0.2.0/33",
        "example.org",
        "*",
        "192.0.2.0 /24",
        "!192.0.2.0/24",
        "2001:DB8::/32",
        "0192.0.2.0/24",
    ] {
        let refused = make(after_s(60), json!({ "source_address": wrong })).await;
        assert!(
            matches!(refused, Err(EngineError::Settings { .. })),
            "{wrong:?}"
        );
    }
}

#[tokio::test]
async fn given_a_ttl_out_of_bounds_when_set_then_it_is_refused() {
    for ttl_s in ["0", "9", "3601", "-1", "5m", "", "18446744073709551616"] {
        let refused = make(after_s(60), json!({ "ttl_s": ttl_s })).await;
        assert!(
            matches!(refused, Err(EngineError::Settings { .. })),
            "{ttl_s:?}"
        );
    }
}

/// VA-3: the authority's secret must be a key.
#[tokio::test]
async fn given_a_damaged_authority_when_issued_then_it_is_refused() {
    let vault = unsealed_vault();
    let path = sallyport_vault::SecretPath::ssh_authority();
    let secrets = [vault.seal_secret(&path, 1, &vec![1; 31].into()).unwrap()];
    let engine = engines::by_kind("ssh_ca").unwrap();
    let refused = engine
        .issue(&permit(after_s(60)), context(&vault, &json!({}), &secrets))
        .await;
    assert!(matches!(
        refused,
        Err(EngineError::Certificate(CertificateError::Authority(_)))
    ));
}

#[tokio::test]
async fn given_any_valid_account_name_when_issued_then_it_is_the_one_principal() {
    let vault = unsealed_vault();
    let engine = engines::by_kind("ssh_ca").unwrap();
    let secrets = stored_secrets(&vault, engine);
    for name in ["root", "Administrator", "_svc.backup-1", &"a".repeat(63)] {
        let permit = permit_for(after_s(60), |terms| {
            terms.question.account.name = name.parse().unwrap();
        });
        let issued = engine
            .issue(&permit, context(&vault, &json!({}), &secrets))
            .await
            .unwrap();
        let CredentialMaterial::PrivateKey {
            certificate: Some(text),
            ..
        } = issued.content
        else {
            panic!("no certificate");
        };
        assert_eq!(
            Certificate::from_openssh(&text).unwrap().valid_principals(),
            [name]
        );
    }
}

/// VA-3: OpenSSH reads what we wrote.
#[tokio::test]
async fn given_a_certificate_when_read_by_ssh_keygen_then_it_says_the_same() {
    let settings = json!({ "source_address": "192.0.2.0/24" });
    let made = make(after_s(3_600), settings).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key-cert.pub");
    std::fs::write(&file, &made.text).unwrap();
    let output = Command::new("ssh-keygen")
        .arg("-L")
        .arg("-f")
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let said: Vec<&str> = said.lines().skip(1).map(str::trim).collect();
    assert!(output.status.success());

    let session_id = permit(after_s(1)).terms().session_id.clone();
    assert_eq!(
        said[0],
        "Type: ssh-ed25519-cert-v01@openssh.com user certificate"
    );
    let fingerprint = made.key.fingerprint(HashAlg::Sha256);
    assert_eq!(said[1], format!("Public key: ED25519-CERT {fingerprint}"));
    let authority = made.authority.fingerprint(HashAlg::Sha256);
    assert_eq!(
        said[2],
        format!("Signing CA: ECDSA {authority} (using ecdsa-sha2-nistp256)")
    );
    assert_eq!(said[3], format!("Key ID: \"sallyport:{session_id}:alice\""));
    assert_eq!(said[4], format!("Serial: {}", made.certificate.serial()));
    assert!(said[5].starts_with("Valid: from "), "{}", said[5]);
    let rest = [
        "Principals:",
        "root",
        "Critical Options:",
        "source-address 192.0.2.0/24",
        "Extensions:",
        "permit-agent-forwarding",
        "permit-port-forwarding",
        "permit-pty",
    ];
    assert_eq!(said[6..], rest);
}
