//! Signing in, and asking for access at the keyboard of a plain `ssh`.

use sallyport_api::gateway::RequestProgress;
use sallyport_core::{
    authz::{Reason, Unmet},
    principal::AuthenticationStrength,
};
use sallyport_testkit::targets::sshd::{SshKeyPair, make_key_pair};

use super::world::{RawClient, World, output, prompts, text, within};
use crate::control::PATIENCE;

fn grant_missing() -> Vec<Unmet> {
    vec![
        Unmet::Grant,
        Unmet::Justification { min_chars: 5 },
        Unmet::Approval {
            count: 1,
            from: Some("sre".to_owned()),
        },
    ]
}

/// AC-1: told what is missing, the reason typed, approved by somebody else, in, on one connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_person_asks_at_the_keyboard_waits_and_is_let_in() {
    let world = World::with(|rules| rules.unmet = grant_missing()).await;
    let mut ssh = world.ssh_at_keyboard(
        "root@web-1",
        &["echo", "in"],
        &[("Reason", "disk full on web-1")],
    );
    let (ran, request_id) = tokio::join!(output(&mut ssh), world.control.approve());
    let told = text(&ran.stderr);
    assert_eq!(text(&ran.stdout), "in\n", "{told}");
    assert!(
        told.contains("root@web-1 needs a reason of at least 5 characters, 1 approval from sre")
    );
    assert!(told.contains(&format!("request {request_id} is waiting for 1 approval")));
    let (submissions, opens, proofs) = world.control.told(|told| {
        (
            told.submissions.clone(),
            told.opens.clone(),
            told.proofs.len(),
        )
    });
    assert_eq!(submissions.len(), 1);
    assert_eq!(submissions[0].reason, "disk full on web-1");
    assert_eq!(prompts(&world).len(), 1, "{:?}", prompts(&world));
    // One proof, one connection: nothing was signed twice.
    assert_eq!(proofs, 1);
    assert!(
        opens
            .iter()
            .all(|open| open.connection == opens[0].connection)
    );
}

/// ID-5: only the code is asked for when only the code is missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_factor_is_asked_for_alone() {
    let world = World::with(|rules| {
        rules.unmet = vec![Unmet::Mfa {
            strength: AuthenticationStrength::MultiFactor,
            max_age_s: None,
        }];
        let secrets = ("hunter2 hunter2".to_owned(), "123456".to_owned());
        rules.secrets.insert("alice".parse().unwrap(), secrets);
    })
    .await;
    let mut ssh = world.ssh_at_keyboard("root@web-1", &["echo", "in"], &[("code", "123456")]);
    let ran = output(&mut ssh).await;
    assert_eq!(text(&ran.stdout), "in\n", "{}", text(&ran.stderr));
    assert_eq!(prompts(&world).len(), 1);
    assert!(world.control.told(|told| told.submissions.is_empty()));

    let mut wrong = world.ssh_at_keyboard("root@web-1", &["echo", "in"], &[("code", "654321")]);
    let ran = output(&mut wrong).await;
    assert_eq!(ran.status.code(), Some(255));
    assert_eq!(text(&ran.stdout), "");
}

/// ID-1, A9: password and code, for the person the selector names.
#[tokio::test(flavor = "multi_thread")]
async fn a_person_without_a_key_signs_in_with_password_and_code() {
    let world = World::with(|rules| {
        rules.keys.clear();
        let secrets = ("hunter2 hunter2".to_owned(), "123456".to_owned());
        rules.secrets.insert("alice".parse().unwrap(), secrets);
    })
    .await;
    let answers = [("Password", "hunter2 hunter2"), ("code", "123456")];
    let mut ssh = world.ssh_at_keyboard("alice:root@web-1", &["echo", "in"], &answers);
    let ran = output(&mut ssh).await;
    assert_eq!(text(&ran.stdout), "in\n", "{}", text(&ran.stderr));

    // Unknown people are asked the same and refused the same.
    for (person, password) in [("mallory", "x"), ("alice", "wrong")] {
        let answers = [("Password", password), ("code", "123456")];
        let user = format!("{person}:root@web-1");
        let ran = output(&mut world.ssh_at_keyboard(&user, &["true"], &answers)).await;
        assert_eq!(ran.status.code(), Some(255));
        assert!(text(&ran.stderr).contains("Permission denied"), "{ran:?}");
    }
    let unnamed = output(&mut world.ssh_at_keyboard("root@web-1", &["true"], &answers)).await;
    assert!(
        text(&unnamed.stderr).contains("name yourself: ssh NAME:root@web-1@"),
        "{unnamed:?}"
    );
}

/// AC-3: a denied person reads the approver's comment and the request's id.
#[tokio::test(flavor = "multi_thread")]
async fn a_denied_request_ends_with_reason_and_comment() {
    let world = World::with(|rules| rules.unmet = grant_missing()).await;
    let mut ssh = world.ssh_at_keyboard("root@web-1", &["true"], &[("Reason", "because I can")]);
    let denied = RequestProgress::Ended {
        reason: Reason::RequestDenied,
        comment: "not \u{1b}[2Jtoday".to_owned(),
    };
    let (ran, request_id) = tokio::join!(output(&mut ssh), world.control.decide_request(denied));
    let told = text(&ran.stderr);
    assert_eq!(ran.status.code(), Some(255));
    assert!(told.contains(request_id.as_str()), "{told}");
    assert!(told.contains("(request-denied)"), "{told}");
    assert!(told.contains("today") && !told.contains('\u{1b}'), "{told}");
    assert!(world.control.told(|told| told.cancelled.is_empty()));
}

/// AC-1: nobody approves for somebody who has left.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_taken_back_when_the_person_leaves() {
    let world = World::with(|rules| rules.unmet = grant_missing()).await;
    let mut ssh = world
        .ssh_at_keyboard("root@web-1", &["true"], &[("Reason", "never mind")])
        .spawn()
        .unwrap();
    world
        .control
        .until(|told| (!told.submissions.is_empty()).then_some(()))
        .await;
    ssh.kill().await.unwrap();
    world
        .control
        .until(|told| (!told.cancelled.is_empty()).then_some(()))
        .await;
}

/// A7: an offer is answered the same for every key, and asks control nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_offered_key_tells_nothing_and_proves_nothing() {
    let world = World::new().await;
    let stranger = make_key_pair(&world.path("stranger"), "ed25519", None).unwrap();
    let mut answers = Vec::new();
    for key in [&world.person, &stranger] {
        // `ssh` with only the public half offers the key and cannot sign.
        let public = world.path("offer.pub");
        std::fs::write(&public, &key.public_key).unwrap();
        let mut ssh = tokio::process::Command::new("ssh");
        ssh.args([
            "-F",
            "none",
            "-v",
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "BatchMode=yes",
        ])
        .args([
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
        ])
        .args(["-i", public.to_str().unwrap(), "-p"])
        .arg(world.gateway.port().to_string())
        .args(["-l", "root@web-1", "127.0.0.1", "true"])
        .env_remove("SSH_AUTH_SOCK");
        let ran = output(&mut ssh).await;
        answers.push(text(&ran.stderr).contains("Server accepts key"));
    }
    assert_eq!(answers, [true, true]);
    assert!(world.control.told(|told| told.proofs.is_empty()));
}

/// A8, A9: what was proven under one name proves nothing under another.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_selector_starts_from_nothing() {
    let world = World::with(|rules| {
        rules.unmet = vec![Unmet::Mfa {
            strength: AuthenticationStrength::MultiFactor,
            max_age_s: None,
        }];
        let secrets = ("hunter2 hunter2".to_owned(), "123456".to_owned());
        rules.secrets.insert("alice".parse().unwrap(), secrets);
    })
    .await;
    let mut client = RawClient::connect(world.gateway).await;
    let key = russh::keys::PrivateKey::from_openssh(&world.person.private_key).unwrap();
    let first = client.offer("root@web-1", key).await;
    assert!(
        matches!(
            first,
            russh::client::AuthResult::Failure {
                partial_success: true,
                ..
            }
        ),
        "{first:?}"
    );
    // The second factor of Alice, for another selector: it adds to nothing.
    let started = within(
        PATIENCE,
        client
            .handle
            .authenticate_keyboard_interactive_start("app@web-1", None),
    )
    .await
    .unwrap();
    let russh::client::KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } = started
    else {
        panic!("{started:?}");
    };
    assert!(prompts.is_empty(), "{prompts:?}");
    let answered = client
        .handle
        .authenticate_keyboard_interactive_respond(Vec::new())
        .await
        .unwrap();
    assert!(
        matches!(
            answered,
            russh::client::KeyboardInteractiveAuthResponse::Failure { .. }
        ),
        "{answered:?}"
    );
    assert_eq!(world.control.told(|told| told.proofs.len()), 1);
}

/// F3: attempts are counted on the connection, whatever name they use.
#[tokio::test(flavor = "multi_thread")]
async fn failed_proofs_are_bounded_on_a_connection() {
    let world = World::new().await;
    let mut client = RawClient::connect(world.gateway).await;
    for attempt in 0..8 {
        let user = format!("person-{attempt}:root@web-1");
        let key = russh::keys::PrivateKey::random(
            &mut russh::keys::key::safe_rng(),
            russh::keys::Algorithm::Ed25519,
        )
        .unwrap();
        let key = russh::keys::PrivateKeyWithHashAlg::new(std::sync::Arc::new(key), None);
        let _ = client.handle.authenticate_publickey(user, key).await;
    }
    assert_eq!(world.control.told(|told| told.proofs.len()), 6);
}

/// ID-1, A17: a certificate of the authority signs in; one that says anything else than who does not.
#[tokio::test(flavor = "multi_thread")]
async fn only_a_plain_user_certificate_of_the_authority_signs_in() {
    let folder = tempfile::tempdir().unwrap();
    let authority = make_key_pair(&folder.path().join("authority"), "ed25519", None).unwrap();
    let stranger = make_key_pair(&folder.path().join("stranger"), "ed25519", None).unwrap();
    let world = World::with(|rules| {
        rules.keys.clear();
        rules.authorities = vec![authority.public_key.clone()];
    })
    .await;
    let cases: [(&SshKeyPair, &[&str], bool); 6] = [
        (&authority, &["-n", "alice"], true),
        (&stranger, &["-n", "alice"], false),
        (
            &authority,
            &["-n", "alice", "-O", "force-command=true"],
            false,
        ),
        (&authority, &["-n", "alice", "-V", "-2d:-1d"], false),
        (&authority, &["-n", "alice", "-h"], false),
        (&authority, &[], false),
    ];
    for (signer, arguments, is_in) in cases {
        let certificate = world.path("person-cert.pub");
        let _ = std::fs::remove_file(&certificate);
        let signed = std::process::Command::new("ssh-keygen")
            .args(["-q", "-I", "alice", "-s"])
            .arg(&signer.private_path)
            .args(arguments)
            .arg(world.path("person.pub"))
            .status()
            .unwrap();
        assert!(signed.success());
        world.control.forget_proofs();
        let ran = world.run(&["echo", "in"]).await;
        assert_eq!(ran.status.success(), is_in, "{arguments:?}: {ran:?}");
        let proofs = world.control.told(|told| told.proofs.clone());
        let by_certificate = proofs.iter().any(|proof| proof == "certificate");
        assert_eq!(by_certificate, is_in, "{arguments:?}: {proofs:?}");
    }
}

/// ID-1: the kinds of key that are strong enough, and one that is not.
#[tokio::test(flavor = "multi_thread")]
async fn keys_of_every_strong_kind_sign_in_and_short_rsa_does_not() {
    let kinds: [(&str, Option<u32>, bool); 6] = [
        ("ed25519", None, true),
        ("ecdsa", Some(256), true),
        ("ecdsa", Some(384), true),
        ("ecdsa", Some(521), true),
        ("rsa", Some(3_072), true),
        ("rsa", Some(2_048), false),
    ];
    let mut world = World::new().await;
    for (kind, bits, is_in) in kinds {
        let name = format!("{kind}-{}", bits.unwrap_or(0));
        let key = make_key_pair(&world.path(&name), kind, bits).unwrap();
        world.control.rule(|rules| {
            let person = "alice".parse().unwrap();
            rules.keys.insert(key.public_key.clone(), person);
        });
        world.person = key;
        let ran = world.run(&["echo", "in"]).await;
        assert_eq!(ran.status.success(), is_in, "{name}: {ran:?}");
    }
}

/// PO-9: a control plane that is away is named as the reason, not the key.
#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_told_when_the_control_plane_is_away() {
    let world = World::new().await;
    world.control.stop().await;
    let ran = output(&mut world.ssh_at_keyboard("root@web-1", &["true"], &[])).await;
    assert_eq!(ran.status.code(), Some(255));
    assert!(
        text(&ran.stderr).contains("(control-unavailable)"),
        "{ran:?}"
    );
}

/// F2: a client that insists on something weak does not get in at all.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_weak_is_agreed_on() {
    let world = World::new().await;
    for option in [
        "KexAlgorithms=diffie-hellman-group14-sha256",
        "KexAlgorithms=ecdh-sha2-nistp256",
        "Ciphers=aes128-ctr",
        "Ciphers=aes256-cbc",
        "HostKeyAlgorithms=rsa-sha2-512",
        "HostKeyAlgorithms=ecdsa-sha2-nistp256",
    ] {
        let ran = output(&mut world.ssh(&["-o", option], &["true"])).await;
        assert_eq!(ran.status.code(), Some(255), "{option}");
        assert!(
            world.control.told(|told| told.proofs.is_empty()),
            "{option}"
        );
    }
    for option in [
        "KexAlgorithms=curve25519-sha256",
        "Ciphers=aes256-gcm@openssh.com",
        "Ciphers=aes128-gcm@openssh.com",
        "Ciphers=chacha20-poly1305@openssh.com",
    ] {
        let ran = output(&mut world.ssh(&["-o", option], &["true"])).await;
        assert!(ran.status.success(), "{option}: {ran:?}");
    }
}

/// F3: what is no SSH at all ends its own connection and no other.
#[tokio::test(flavor = "multi_thread")]
async fn garbage_ends_its_own_connection_and_no_other() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let world = World::new().await;
    for garbage in [
        vec![0xff; 1024 * 1024],
        b"GET / HTTP/1.1\r\n\r\n".repeat(1_000),
        [&b"SSH-2.0-x\r\n"[..], &[0xff; 70_000]].concat(),
    ] {
        let mut stream = tokio::net::TcpStream::connect(world.gateway).await.unwrap();
        // The gateway may hang up before it was sent everything.
        let _ = stream.write_all(&garbage).await;
        let mut answered = Vec::new();
        let ended = within(PATIENCE, stream.read_to_end(&mut answered)).await;
        assert!(ended.is_err() || answered.starts_with(b"SSH-2.0-Sallyport\r\n"));
        assert!(!text(&answered).contains(env!("CARGO_PKG_VERSION")));
    }
    assert!(world.run(&["true"]).await.status.success());
}
