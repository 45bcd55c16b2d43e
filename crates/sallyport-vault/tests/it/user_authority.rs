//! Certificates that prove people to our gateways: what is accepted and, mostly, what is not.

use std::process::Command;

use russh::keys::ssh_key::{
    Certificate, PrivateKey, PublicKey,
    certificate::{Builder, CertType},
    private::Ed25519Keypair,
    public::KeyData,
};
use sallyport_core::{secret::Secret, time::Timestamp};
use sallyport_vault::{
    CertificateError, SshAuthority, SystemEntropy,
    authority::{UserCertificate, VerifyError, verify_user_certificate},
};

use crate::fixture::{NOW, after_s};

fn key(byte: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[byte; 32]))
}

fn authority(byte: u8) -> SshAuthority {
    SshAuthority::from_secret(&Secret::new(vec![byte; 32])).unwrap()
}

fn line(key: &PrivateKey) -> String {
    key.public_key().to_openssh().unwrap()
}

fn wanted(public_key: String) -> UserCertificate {
    UserCertificate {
        person: "alice".parse().unwrap(),
        key_id: "aun_1".to_owned(),
        public_key,
        now: NOW,
        valid_until: after_s(600),
    }
}

fn issue(public_key: String) -> Result<String, CertificateError> {
    let issued = authority(1).issue_user_certificate(&wanted(public_key), &SystemEntropy)?;
    Ok(issued.certificate)
}

fn verify(certificate: &str, now: Timestamp) -> Result<String, VerifyError> {
    let trusted = authority(1).public_key().unwrap();
    verify_user_certificate(certificate, &trusted, now).map(|it| it.person.to_string())
}

/// A certificate as somebody with an authority's key could make it; by default a sound one.
struct Forgery<'a> {
    principals: &'a [&'a str],
    cert_type: CertType,
    critical_option: Option<&'a str>,
}

const SOUND: Forgery<'static> = Forgery {
    principals: &["alice"],
    cert_type: CertType::User,
    critical_option: None,
};

impl Forgery<'_> {
    fn sign(&self, signer: &PrivateKey) -> String {
        let public_key = key(9).public_key().key_data().clone();
        let from = NOW.unix_s();
        let mut builder = Builder::new([7; 16], public_key, from, from + 60).unwrap();
        builder
            .key_id("x")
            .unwrap()
            .cert_type(self.cert_type)
            .unwrap();
        if self.principals.is_empty() {
            builder.all_principals_valid().unwrap();
        }
        for principal in self.principals {
            builder.valid_principal(*principal).unwrap();
        }
        if let Some(name) = self.critical_option {
            builder.critical_option(name, "192.0.2.0/24").unwrap();
        }
        builder.sign(signer).unwrap().to_openssh().unwrap()
    }
}

/// ID-5
#[test]
fn given_an_issued_certificate_when_verified_then_it_proves_the_person_until_its_end() {
    let wanted = wanted(line(&key(9)));
    let issued = authority(1)
        .issue_user_certificate(&wanted, &SystemEntropy)
        .unwrap();
    let trusted = authority(1).public_key().unwrap();
    let proven = verify_user_certificate(&issued.certificate, &trusted, NOW).unwrap();
    assert_eq!(proven.person, wanted.person);
    assert_eq!(proven.key_id, "aun_1");
    assert_eq!(proven.public_key, line(&key(9)));
    assert_eq!(
        (proven.serial, &proven.fingerprint),
        (issued.serial, &issued.fingerprint)
    );
    assert_eq!(
        (proven.expires_at, issued.expires_at.unix_s()),
        (issued.expires_at, after_s(600).unix_s())
    );

    let first = Timestamp::from_unix_ms(1_000 * (NOW.unix_s() as i64 - 60));
    for (now, is_valid) in [
        (first, true),
        (Timestamp::from_unix_ms(first.unix_ms() - 1), false),
        (
            Timestamp::from_unix_ms(issued.expires_at.unix_ms() - 1),
            true,
        ),
        (issued.expires_at, false),
        (after_s(1_000_000), false),
    ] {
        assert_eq!(verify(&issued.certificate, now).is_ok(), is_valid, "{now}");
    }
    assert!(matches!(
        verify(&issued.certificate, after_s(601)),
        Err(VerifyError::Expired { .. })
    ));
    assert!(matches!(
        verify(&issued.certificate, Timestamp::EPOCH),
        Err(VerifyError::NotYetValid { .. })
    ));
}

/// ID-5, and security class A17
#[test]
fn given_a_certificate_of_another_authority_when_verified_then_it_is_refused() {
    for other in [key(2), key(9)] {
        assert!(matches!(
            verify(&SOUND.sign(&other), NOW),
            Err(VerifyError::OtherAuthority)
        ));
    }
}

/// ID-5, and security class A17: each of these was some product's hole.
#[test]
fn given_a_certificate_that_says_more_or_less_than_ours_when_verified_then_it_is_refused() {
    type Expected = fn(&VerifyError) -> bool;
    let cases: [(&str, Forgery<'_>, Expected); 7] = [
        (
            "for everybody",
            Forgery {
                principals: &[],
                ..SOUND
            },
            |error| matches!(error, VerifyError::Principals { count: 0 }),
        ),
        (
            "for two people",
            Forgery {
                principals: &["alice", "bob"],
                ..SOUND
            },
            |error| matches!(error, VerifyError::Principals { count: 2 }),
        ),
        (
            "two people in one name",
            Forgery {
                principals: &["alice,bob"],
                ..SOUND
            },
            |error| matches!(error, VerifyError::Person(_)),
        ),
        (
            "another spelling",
            Forgery {
                principals: &["Alice "],
                ..SOUND
            },
            |error| matches!(error, VerifyError::Spelling { .. }),
        ),
        (
            "for a host",
            Forgery {
                cert_type: CertType::Host,
                ..SOUND
            },
            |error| matches!(error, VerifyError::NotForAUser),
        ),
        (
            "a command we would not force",
            Forgery {
                critical_option: Some("force-command"),
                ..SOUND
            },
            |error| matches!(error, VerifyError::CriticalOption { .. }),
        ),
        (
            "networks we would not check",
            Forgery {
                critical_option: Some("source-address"),
                ..SOUND
            },
            |error| matches!(error, VerifyError::CriticalOption { .. }),
        ),
    ];
    for (what, forgery, is_expected) in cases {
        let refused = verify(&forgery.sign(&key(1)), NOW).unwrap_err();
        assert!(is_expected(&refused), "{what}: {refused:?}");
    }
    let sound = verify(&SOUND.sign(&key(1)), NOW).unwrap();
    assert_eq!(sound, "alice", "each case differs from this in one thing");
}

/// ID-5: a certificate is neither an authority nor a key (security class A17).
#[test]
fn given_a_certificate_in_the_place_of_a_key_when_verified_or_issued_then_it_is_refused() {
    let certificate = issue(line(&key(9))).unwrap();
    let inner = Certificate::from_openssh(&certificate).unwrap();
    let nested = PublicKey::from(KeyData::Certificate(Box::new(inner)))
        .to_openssh()
        .unwrap();
    for in_place_of_a_key in [&certificate, &nested] {
        assert!(issue(in_place_of_a_key.clone()).is_err());
        assert!(verify_user_certificate(&certificate, in_place_of_a_key, NOW).is_err());
    }
    let trusted = authority(1).public_key().unwrap();
    assert!(verify_user_certificate(&trusted, &trusted, NOW).is_err());
}

/// ID-5
#[test]
fn given_a_certificate_with_any_one_byte_changed_when_verified_then_it_is_refused() {
    let issued = Certificate::from_openssh(&issue(line(&key(9))).unwrap()).unwrap();
    let bytes = issued.to_bytes().unwrap();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        if let Ok(changed) = Certificate::from_bytes(&changed) {
            let text = changed.to_openssh().unwrap();
            assert!(verify(&text, NOW).is_err(), "byte {at}");
        }
    }
}

/// ID-5
#[test]
fn given_weak_or_strange_keys_when_issued_then_they_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let keygen = |kind: &str, bits: &str| {
        let file = folder.path().join(format!("{kind}-{bits}"));
        let output = Command::new("ssh-keygen")
            .args(["-q", "-N", "", "-C", "", "-t", kind, "-b", bits, "-f"])
            .arg(&file)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        std::fs::read_to_string(file.with_extension("pub")).unwrap()
    };
    for (kind, bits) in [
        ("rsa", "3072"),
        ("ecdsa", "256"),
        ("ecdsa", "521"),
        ("ed25519", "256"),
    ] {
        let certificate = issue(keygen(kind, bits)).unwrap();
        assert_eq!(verify(&certificate, NOW).unwrap(), "alice", "{kind} {bits}");
    }
    assert!(matches!(
        issue(keygen("rsa", "2048")),
        Err(CertificateError::Key { .. })
    ));
    for text in [
        "",
        "ssh-ed25519",
        "ssh-ed25519 AAAA",
        "\0",
        &"x".repeat(100_000),
    ] {
        assert!(issue(text.to_owned()).is_err(), "{text:?}");
    }
}

#[test]
fn given_an_end_in_the_past_or_a_key_id_that_breaks_a_log_line_when_issued_then_it_is_refused() {
    let mut ended = wanted(line(&key(9)));
    ended.valid_until = NOW;
    let refused = authority(1).issue_user_certificate(&ended, &SystemEntropy);
    assert!(matches!(refused, Err(CertificateError::Ended { .. })));
    for key_id in [
        String::new(),
        "a\nb".to_owned(),
        "\u{1b}[0m".to_owned(),
        "x".repeat(256),
    ] {
        let wanted = UserCertificate {
            key_id,
            ..wanted(line(&key(9)))
        };
        assert!(
            authority(1)
                .issue_user_certificate(&wanted, &SystemEntropy)
                .is_err()
        );
    }
}

/// Nothing a client sends makes the check panic or take long: nested certificates included.
#[test]
fn given_hostile_text_when_verified_then_it_is_refused() {
    let name = b"ssh-ed25519-cert-v01@openssh.com";
    let field = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
    // Each certificate names another certificate as the key that signed it.
    let mut nested = Vec::new();
    while nested.len() < 11_000 {
        let head = [field(name), field(&[0; 16]), field(&[0; 32])].concat();
        let fixed = [&[0; 8][..], &1_u32.to_be_bytes(), &field(b""), &field(b"")].concat();
        let times = [[0; 8], [0xff; 8]].concat();
        let rest = [field(b""), field(b""), field(b""), field(&nested)].concat();
        nested = [head, fixed, times, rest].concat();
    }
    let encoded = encode_base64(&nested);
    let hostile = format!("ssh-ed25519-cert-v01@openssh.com {encoded}");
    assert!(hostile.len() < 16 * 1024);
    for text in [
        hostile.as_str(),
        "",
        " ",
        "ssh-ed25519-cert-v01@openssh.com AAAA",
        "\u{0}",
    ] {
        assert!(
            matches!(verify(text, NOW), Err(VerifyError::Read(_))),
            "{:.40}",
            text
        );
    }
    let sound = issue(line(&key(9))).unwrap();
    for end in 0..sound.len() {
        let cut: String = sound.chars().take(end).collect();
        assert!(verify(&cut, NOW).is_err());
    }
}

fn encode_base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let value = group
            .iter()
            .fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte))
            << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = DIGITS[(value >> (18 - 6 * place) & 0x3f) as usize];
            text.push(if place <= group.len() {
                char::from(digit)
            } else {
                '='
            });
        }
    }
    text
}
