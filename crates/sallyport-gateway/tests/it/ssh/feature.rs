//! What is offered beside commands and files: signals and several channels. And what is not: every
//! other channel type and request, refused and on record.

use std::process::Stdio;

use russh::{ChannelMsg, Sig};
use sallyport_core::session::{OperationKind, OperationOutcome};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    odd_target::{OddTarget, Oddity},
    world::{RawClient, World, output, text, within},
};
use crate::control::PATIENCE;

/// GW-1: a signal reaches the process; how it ended reaches the client.
#[tokio::test(flavor = "multi_thread")]
async fn signals_go_in_and_exit_signals_come_out() {
    let target = OddTarget::start(Oddity::Signals).await;
    let world = World::with(|rules| target.serve(rules)).await;
    let client = RawClient::signed_in(&world).await;
    let mut channel = client.handle.channel_open_session().await.unwrap();
    channel.exec(true, "anything").await.unwrap();
    channel.signal(Sig::USR1).await.unwrap();
    let (mut seen, mut signal) = (String::new(), None);
    within(PATIENCE, async {
        while let Some(message) = channel.wait().await {
            match message {
                ChannelMsg::Data { data } => seen.push_str(&text(&data)),
                ChannelMsg::ExitSignal { signal_name, .. } => signal = Some(signal_name),
                _ => {}
            }
        }
    })
    .await;
    assert_eq!(seen, "got USR1");
    assert!(matches!(signal, Some(Sig::KILL)), "{signal:?}");
    drop((channel, client));
    let recorded = world.recorded().await;
    assert!(recorded.has_event("Signal(\"USR1\")"), "{recorded:?}");
    assert!(recorded.has_event("ExitSignal"), "{recorded:?}");
}

/// GW-1, F8: five channels on one connection; a stalled one stalls nobody, in either direction.
#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_channel_does_not_stall_another() {
    let world = World::new().await;
    let socket = world.path("master");
    let control_path = format!("ControlPath={}", socket.display());
    let shared = ["-o", control_path.as_str()];
    let mut master = world
        .ssh(&["-M", "-o", &control_path], &["echo up; exec cat"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut up = [0; 3];
    let mut master_output = master.stdout.take().unwrap();
    within(PATIENCE, master_output.read_exact(&mut up))
        .await
        .unwrap();

    // Nobody reads what this one sends, ...
    let unread = world.ssh(&shared, &["cat /dev/zero"]).spawn().unwrap();
    // ... and this target reads nothing of what it is sent.
    let mut deaf = world
        .ssh(&shared, &["echo deaf; exec sleep 600"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut deaf_output = deaf.stdout.take().unwrap();
    within(PATIENCE, deaf_output.read_exact(&mut [0; 5]))
        .await
        .unwrap();
    let mut deaf_input = deaf.stdin.take().unwrap();
    let mut flooded = 0_usize;
    let flooding = async {
        let zeros = vec![0; 64 * 1024];
        while deaf_input.write_all(&zeros).await.is_ok() {
            flooded += zeros.len();
        }
    };
    let working = async {
        for _ in 0..3 {
            let ran = output(&mut world.ssh(&shared, &["head -c 8000000 /dev/zero | wc -c"])).await;
            assert_eq!(text(&ran.stdout), "8000000\n", "{}", text(&ran.stderr));
            let down = output(&mut world.ssh(&shared, &["head -c 8000000 /dev/zero"])).await;
            assert_eq!(down.stdout.len(), 8_000_000);
        }
    };
    tokio::select! {
        () = within(PATIENCE, working) => {}
        () = flooding => panic!("the flood ended by itself"),
    }
    // Two windows of the gateway's, the target's own, and the buffers of two sockets.
    assert!(flooded < 24 * 1024 * 1024, "{flooded} bytes were taken");
    assert_eq!(world.control.told(|told| told.opens.len()), 1);
    drop((unread, deaf, master));
}

/// The deadlock that queues make: a filter that gives far more than it takes, both directions full.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_answers_more_than_it_is_told_never_locks_up() {
    let world = World::new().await;
    let mut ssh = world
        .ssh(&[], &["tee /dev/stderr"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = ssh.stdin.take().unwrap();
    let sent = vec![b'x'; 12 * 1024 * 1024];
    let writing = async {
        input.write_all(&sent).await.unwrap();
        drop(input);
    };
    let (ran, ()) = within(PATIENCE, async {
        tokio::join!(ssh.wait_with_output(), writing)
    })
    .await;
    let ran = ran.unwrap();
    assert_eq!(ran.stdout.len(), sent.len());
    assert_eq!(ran.stderr.len(), sent.len());
}

/// F4, K1: nothing but sessions opens, and each attempt is on record.
#[tokio::test(flavor = "multi_thread")]
async fn every_other_channel_and_forwarding_is_refused_and_on_record() {
    let world = World::new().await;
    let mut client = RawClient::signed_in(&world).await;
    let handle = &mut client.handle;
    assert!(
        handle
            .channel_open_direct_tcpip("10.0.0.1", 22, "127.0.0.1", 1)
            .await
            .is_err()
    );
    assert!(
        handle
            .channel_open_direct_streamlocal("/run/docker.sock")
            .await
            .is_err()
    );
    assert!(handle.channel_open_x11("127.0.0.1", 6_000).await.is_err());
    assert!(handle.tcpip_forward("127.0.0.1", 8_080).await.is_err());
    assert!(handle.streamlocal_forward("/tmp/socket").await.is_err());
    let channel = handle.channel_open_session().await.unwrap();
    channel.agent_forward(true).await.unwrap();
    channel
        .request_x11(true, false, "MIT-MAGIC-COOKIE-1", "00", 0)
        .await
        .unwrap();
    // The bundle permits every action and names no feature.
    for (kind, reason, details) in [
        (
            OperationKind::ForwardLocal,
            "not-permitted",
            &["10.0.0.1:22"][..],
        ),
        (
            OperationKind::ForwardLocalSocket,
            "not-permitted",
            &["/run/docker.sock"],
        ),
        (
            OperationKind::ForwardRemote,
            "not-permitted",
            &["127.0.0.1:8080"],
        ),
        (
            OperationKind::ForwardRemoteSocket,
            "not-permitted",
            &["/tmp/socket"],
        ),
        (
            OperationKind::ForwardAgent,
            "not-permitted",
            &["auth-agent-req"],
        ),
        (
            OperationKind::Unsupported,
            "feature-refused",
            &["x11 127.0.0.1:6000", "x11-req"],
        ),
    ] {
        let records = world.operations(kind, details.len()).await;
        let seen: Vec<_> = records
            .iter()
            .map(|record| record.operation.detail.as_str())
            .collect();
        assert_eq!(seen, details);
        for record in &records {
            assert_eq!(record.outcome, OperationOutcome::Refused);
            assert_eq!(record.reason.as_deref(), Some(reason), "{kind:?}");
        }
    }
    assert_eq!(world.sshd.connections(), 0);
}

/// F4: a stock client that asks for forwarding or another subsystem reads why not.
#[tokio::test(flavor = "multi_thread")]
async fn forwarding_and_another_subsystem_are_refused_in_words() {
    let world = World::new().await;
    let mut forwarding = world.ssh_at_keyboard("root@web-1", &[], &[]);
    let ran = output(forwarding.args(["-W", "10.0.0.1:22"])).await;
    assert!(text(&ran.stderr).contains("(not-permitted)"), "{ran:?}");
    let ran = output(&mut world.ssh(&["-s"], &["netconf"])).await;
    assert_eq!(ran.status.code(), Some(126));
    assert!(text(&ran.stderr).contains("(not-permitted)"), "{ran:?}");
    let records = world.operations(OperationKind::Subsystem, 1).await;
    assert_eq!(records[0].operation.detail, "netconf");
    assert_eq!(records[0].outcome, OperationOutcome::Refused);
}

/// F8: a connection has a bounded number of channels.
#[tokio::test(flavor = "multi_thread")]
async fn the_eleventh_channel_is_refused_until_one_is_closed() {
    let world = World::new().await;
    let client = RawClient::signed_in(&world).await;
    let mut open = Vec::new();
    for _ in 0..10 {
        open.push(client.handle.channel_open_session().await.unwrap());
    }
    assert!(client.handle.channel_open_session().await.is_err());
    let closed = open.pop().unwrap();
    closed.close().await.unwrap();
    assert!(client.handle.channel_open_session().await.is_ok());
}
