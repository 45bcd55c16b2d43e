//! The target's side: its identity, its credential, and targets that misbehave.

use std::fs;

use russh::ChannelMsg;
use sallyport_core::session::{EndReason, OperationKind, OperationOutcome};
use sallyport_testkit::targets::sshd::make_key_pair;

use super::{
    odd_target::{OddTarget, Oddity},
    world::{RawClient, World, output, text, within},
};
use crate::control::{PATIENCE, PERMIT_ALL};

/// F6: a changed host key is refused before the credential is used, reported, and said.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_host_key_ends_the_session_before_the_credential_is_used() {
    let mut world = World::new().await;
    world.sshd.change_host_key().unwrap();
    let ran = world.run(&["true"]).await;
    assert!(text(&ran.stderr).contains("(host-key-changed)"), "{ran:?}");
    assert_eq!(ran.status.code(), Some(126));
    let closed = world
        .control
        .until(|told| told.closed.first().cloned())
        .await;
    assert_eq!(closed.reason, EndReason::HostKeyChanged);
    let reported = world.control.told(|told| told.reported.clone());
    assert_eq!(reported, [world.sshd.host_key()]);
    assert!(!world.sshd.log().unwrap().contains("Accepted"));
}

/// F6: the first key is pinned only where that is allowed, and before logging in.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_host_key_is_pinned_or_refused() {
    let world = World::with(|rules| {
        rules.host_keys.clear();
        rules.pins_first_host_key = true;
    })
    .await;
    assert!(world.run(&["true"]).await.status.success());
    let pinned = world.control.told(|told| told.pinned.clone());
    assert_eq!(pinned, [world.sshd.host_key()]);

    let world = World::with(|rules| rules.host_keys.clear()).await;
    let ran = world.run(&["true"]).await;
    assert!(text(&ran.stderr).contains("(host-key-unknown)"), "{ran:?}");
    assert!(world.control.told(|told| told.pinned.is_empty()));
    assert!(!world.sshd.log().unwrap().contains("Accepted"));
}

/// A target that is not there is said to be so.
#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_target_is_said_to_be_so() {
    let world = World::with(|rules| rules.address = "127.0.0.1:1".to_owned()).await;
    let ran = world.run(&["true"]).await;
    assert!(
        text(&ran.stderr).contains("(target-unreachable)"),
        "{ran:?}"
    );
    let closed = world
        .control
        .until(|told| told.closed.first().cloned())
        .await;
    assert_eq!(closed.reason, EndReason::TargetUnreachable);
}

/// GW-11: nothing the client can show contains the credential.
#[tokio::test(flavor = "multi_thread")]
async fn the_credential_stays_in_the_gateway() {
    let world = World::new().await;
    let mut ssh = world.ssh(&["-vvv", "-A"], &["env; ssh-add -L"]);
    let ran = output(&mut ssh).await;
    let shown = text(&ran.stdout) + &text(&ran.stderr);
    let secret: Vec<&str> = world
        .credential
        .private_key
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    assert!(!secret.is_empty());
    let public = world.credential.public_key.split(' ').nth(1).unwrap();
    for part in secret.into_iter().chain([public]) {
        assert!(!shown.contains(part), "{part} was shown");
    }
    // Neither do the gateway's own files.
    for file in super::world::walk(&world.path("gateway")) {
        let bytes = fs::read(&file).unwrap();
        let needle = world.credential.private_key.lines().nth(2).unwrap();
        assert!(!text(&bytes).contains(needle), "{}", file.display());
    }
}

/// VA-3: a key with a certificate logs in where only the authority is trusted.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_logs_in_where_only_its_authority_is_trusted() {
    use sallyport_testkit::targets::sshd::{Sshd, SshdSetup};

    let folder = tempfile::tempdir().unwrap();
    let key = |name: &str| make_key_pair(&folder.path().join(name), "ed25519", None).unwrap();
    let (authority, key) = (key("authority"), key("key"));
    let signed = std::process::Command::new("ssh-keygen")
        .args(["-q", "-s"])
        .arg(&authority.private_path)
        .args(["-I", "lease", "-n", "root", "-V", "-1m:+5m"])
        .arg(key.private_path.with_extension("pub"))
        .status()
        .unwrap();
    assert!(signed.success());
    let certificate = fs::read_to_string(folder.path().join("key-cert.pub")).unwrap();
    let sshd = Sshd::start(&SshdSetup {
        user_authority: Some(authority.public_key),
        ..SshdSetup::default()
    })
    .unwrap();
    let world = World::with(|rules| {
        rules.address = sshd.address().to_string();
        rules.host_keys = vec![sshd.host_key().to_owned()];
        rules.credential = serde_json::json!({
            "kind": "private_key",
            "private_key": key.private_key,
            "certificate": certificate.trim(),
        })
        .to_string();
    })
    .await;
    let ran = world.run(&["echo", "in"]).await;
    assert_eq!(text(&ran.stdout), "in\n", "{}", text(&ran.stderr));
    assert!(sshd.log().unwrap().contains("Accepted publickey"));
}

/// Further channels get connections of their own only while the first is in use.
#[tokio::test(flavor = "multi_thread")]
async fn commands_one_after_the_other_share_one_connection_to_the_target() {
    let world = World::new().await;
    let client = RawClient::signed_in(&world).await;
    // More than may be open at one time.
    for n in 0..25 {
        let mut channel = client.handle.channel_open_session().await.unwrap();
        channel.exec(true, format!("echo {n}")).await.unwrap();
        let mut seen = String::new();
        while let Some(message) = channel.wait().await {
            if let ChannelMsg::Data { data } = message {
                seen.push_str(&text(&data));
            }
        }
        assert_eq!(seen, format!("{n}\n"));
    }
    assert_eq!(world.sshd.connections(), 1);
}

/// VA-3: a credential that is good for logging in once still serves several channels.
#[tokio::test(flavor = "multi_thread")]
async fn channels_share_a_connection_when_the_target_lets_nobody_in_any_more() {
    let target = OddTarget::start(Oddity::LetsInOnce).await;
    let world = World::with(|rules| target.serve(rules)).await;
    let client = RawClient::signed_in(&world).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut channel = client.handle.channel_open_session().await.unwrap();
        channel.exec(true, "anything").await.unwrap();
        let said = within(PATIENCE, async {
            loop {
                match channel.wait().await {
                    Some(ChannelMsg::Data { data }) => return text(&data),
                    Some(_) => {}
                    None => panic!("the channel was closed"),
                }
            }
        });
        assert_eq!(said.await, "in");
        open.push(channel);
    }
}

/// F8: a target that sends without end to a client that does not read is held back.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_floods_a_client_that_does_not_read_is_held_back() {
    let mut target = OddTarget::start(Oddity::Floods).await;
    let world = World::with(|rules| target.serve(rules)).await;
    let client = RawClient::signed_in(&world).await;
    let channel = client.handle.channel_open_session().await.unwrap();
    channel.exec(true, "anything").await.unwrap();
    let taken = target.flooded().await;
    // The client's window, what waits in the gateway, and the buffers of two sockets.
    assert!(taken < 32 * 1024 * 1024, "{taken} bytes were taken");
    drop(channel);
}

/// F5: a target cannot reach through the gateway for what the client never offered.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_opens_channels_to_us_gets_none() {
    let target = OddTarget::start(Oddity::OpensChannels).await;
    let world = World::with(|rules| target.serve(rules)).await;
    let ran = world.run(&["anything"]).await;
    assert_eq!(text(&ran.stdout), "refused refused refused", "{ran:?}");
    let records = world.operations(OperationKind::Unsupported, 3).await;
    let mut seen: Vec<_> = records
        .iter()
        .map(|record| (record.outcome, record.operation.detail.as_str()))
        .collect();
    seen.sort_by_key(|(_, detail)| *detail);
    let refused = OperationOutcome::Refused;
    assert_eq!(
        seen,
        [
            (refused, "from the target: auth-agent"),
            (refused, "from the target: forwarded-tcpip 127.0.0.1:22"),
            (refused, "from the target: session"),
        ]
    );
}

/// F5: a target that goes on is cut off, and its attempts do not flood the evidence.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_opens_channels_without_end_is_cut_off() {
    let mut target = OddTarget::start(Oddity::OpensWithoutEnd).await;
    let world = World::with(|rules| target.serve(rules)).await;
    let ran = world.run(&["anything"]).await;
    assert_eq!(target.opened().await, "refused 16");
    assert!(text(&ran.stderr).contains("(target-closed)"), "{ran:?}");
    let records = world.operations(OperationKind::Unsupported, 16).await;
    assert_eq!(records.len(), 16);
}

/// F5, PO-3: asked to listen in one place, a target may open channels for that place and no other.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_listens_may_open_channels_for_that_place_alone() {
    let mut target = OddTarget::start(Oddity::Listens).await;
    let world = World::with(|rules| {
        target.serve(rules);
        rules.bundle = format!(
            "{PERMIT_ALL} @id(\"it\") permit (principal, action == Action::\"feature.use\", resource)
               when {{ context.operation.kind == OperationKind::\"forward_remote\" }}
               when {{ context.operation.detail == \"localhost:8080\" }};"
        );
    })
    .await;
    let far = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let spec = format!("8080:{}", far.local_addr().unwrap());
    let ssh = world.ssh(&["-N", "-R", &spec], &[]).spawn().unwrap();
    assert_eq!(
        target.opened().await,
        "refused refused refused refused refused refused opened"
    );
    within(PATIENCE, far.accept()).await.unwrap();
    let refused = world.operations(OperationKind::Unsupported, 6).await;
    assert_eq!(refused.len(), 6);
    drop(ssh);
    // Listening, and the connection that came in.
    let records = world.operations(OperationKind::ForwardRemote, 2).await;
    for record in &records {
        assert_eq!(record.operation.detail, "localhost:8080");
        assert_ne!(record.outcome, OperationOutcome::Refused, "{record:?}");
    }
}

/// GW-11: many targets ask for the password in a prompt of their own.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_answers_one_hidden_prompt_and_no_other() {
    for (oddity, is_in) in [
        (Oddity::AsksForPassword, true),
        (Oddity::AsksOpenly, false),
        (Oddity::AsksTwice, false),
    ] {
        let target = OddTarget::start(oddity).await;
        let world = World::with(|rules| target.serve(rules)).await;
        let ran = world.run(&["anything"]).await;
        assert_eq!(ran.status.success(), is_in, "{oddity:?}: {ran:?}");
        if !is_in {
            assert!(
                text(&ran.stderr).contains("(target-unreachable)"),
                "{ran:?}"
            );
        }
        assert!(!text(&ran.stderr).contains("correct horse"));
    }
}
