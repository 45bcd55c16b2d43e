//! Others at a live session of a real client on a real target: pausing, watching, typing.

use std::{process::Stdio, time::Duration};

use sallyport_api::gateway::{Keystrokes, Push};
use sallyport_core::{
    id::{PersonId, WatcherId},
    policy::Constraint,
    session::{EndReason, OperationKind, oversight::Watcher},
    time::Timestamp,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader, Lines},
    process::Child,
};

use super::world::{World, text, within};
use crate::control::PATIENCE;

fn bob(has_keyboard: bool) -> Watcher {
    Watcher {
        id: WatcherId::new(Timestamp::EPOCH, [7; 10]),
        person_id: PersonId::new(Timestamp::EPOCH, [7; 10]),
        person: "bob".parse().unwrap(),
        has_keyboard,
    }
}

async fn watched(world: &World, watchers: &[Watcher]) {
    world
        .control
        .push(|session_id| Push::Watched {
            session_id,
            watchers: watchers.to_vec(),
        })
        .await;
}

async fn paused(world: &World, is_paused: bool) {
    world
        .control
        .push(|session_id| Push::Paused {
            session_id,
            by: is_paused.then(|| "bob".parse().unwrap()),
        })
        .await;
}

async fn until<R: AsyncRead + Unpin>(lines: &mut Lines<BufReader<R>>, part: &str) -> String {
    within(PATIENCE, async {
        loop {
            let line = lines.next_line().await.unwrap();
            let line = line.unwrap_or_else(|| panic!("no line with `{part}` came"));
            if line.contains(part) {
                return line;
            }
        }
    })
    .await
}

fn lines<R: AsyncRead + Unpin>(stream: Option<R>) -> Lines<BufReader<R>> {
    BufReader::new(stream.unwrap()).lines()
}

fn start(world: &World, arguments: &[&str], command: &[&str]) -> Child {
    world
        .ssh(arguments, command)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap()
}

/// RE-13, RE-2: what somebody else types reaches the target and stands in the recording under their
/// name, after the person was told.
#[tokio::test(flavor = "multi_thread")]
async fn given_somebody_who_joined_with_the_keyboard_then_they_type_under_their_name() {
    let world = World::new().await;
    let mut ssh = start(&world, &["-tt"], &[]);
    let mut keyboard = ssh.stdin.take().unwrap();
    let (mut out, mut err) = (lines(ssh.stdout.take()), lines(ssh.stderr.take()));
    keyboard.write_all(b"echo own-$((1+1))\n").await.unwrap();
    until(&mut out, "own-2").await;

    watched(&world, &[bob(true)]).await;
    until(&mut err, "bob joined and can type").await;
    let line = b"echo typed-$((40+2))\n";
    let seen = until(&mut out, "typed-42");
    let typing = async {
        loop {
            // As control does: who is joined is said again, because a connection that broke meanwhile
            // leaves nobody joined.
            watched(&world, &[bob(true)]).await;
            world
                .control
                .push(|session_id| Push::Typed {
                    session_id,
                    watcher_id: bob(true).id,
                    channel: 0,
                    keystrokes: Keystrokes::new(line.to_vec()),
                })
                .await;
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    };
    tokio::select! {
        _ = seen => {}
        () = typing => {}
    }
    watched(&world, &[]).await;
    until(&mut err, "bob left").await;
    keyboard.write_all(b"exit\n").await.unwrap();
    within(PATIENCE, ssh.wait()).await.unwrap();

    let recorded = world.recorded().await;
    // A target that answers late is taken for one that does not show what is typed.
    let is_masked = recorded.has_event("not-echoed");
    assert!(is_masked || text(&recorded.input).contains("typed-$((40+2))"));
    let note = format!("typed by bob: {} bytes", line.len());
    assert!(recorded.has_event(&note), "{:?}", recorded.events);
}

/// MO-6: nothing passes while it is paused, in either direction, and afterwards not a byte is missing.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_pause_then_nothing_passes_and_after_it_nothing_is_missing() {
    let world = World::new().await;
    let marker = world.path("reached");
    let command = format!(
        "echo up; read line; touch {}; seq 1 60000",
        marker.display()
    );
    let mut ssh = start(&world, &[], &[&command]);
    let mut keyboard = ssh.stdin.take().unwrap();
    let (mut out, mut err) = (lines(ssh.stdout.take()), lines(ssh.stderr.take()));
    until(&mut out, "up").await;
    paused(&world, true).await;
    until(&mut err, "bob paused the session").await;
    keyboard.write_all(b"go\n").await.unwrap();
    // Nothing tells that something does not come; what is looked for took a few milliseconds before.
    let nothing = tokio::time::timeout(Duration::from_millis(700), out.next_line()).await;
    assert!(nothing.is_err(), "{nothing:?} passed");
    assert!(!marker.exists(), "what she typed reached the target");

    paused(&world, false).await;
    until(&mut err, "no longer paused").await;
    for number in 1..=60_000_u32 {
        let line = within(PATIENCE, out.next_line()).await.unwrap();
        assert_eq!(line, Some(number.to_string()));
    }
    assert!(within(PATIENCE, ssh.wait()).await.unwrap().success());
}

/// MO-6, GW-12: a pause does not keep a session from being ended.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_pause_then_an_end_ends_it_at_once() {
    let world = World::new().await;
    let mut ssh = start(&world, &[], &["echo up; cat"]);
    let mut out = lines(ssh.stdout.take());
    let mut err = lines(ssh.stderr.take());
    until(&mut out, "up").await;
    paused(&world, true).await;
    until(&mut err, "bob paused the session").await;
    world
        .control
        .end_session(EndReason::EndedByOperator, "enough")
        .await;
    until(&mut err, "(ended-by-operator): enough").await;
    within(PATIENCE, ssh.wait()).await.unwrap();
}

/// RE-13: a command does not run before somebody watches, stops when nobody does any more, and the
/// session ends when nobody comes back.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_demanded_watcher_then_nothing_runs_without_one() {
    let world = World::with(|rules| {
        rules.constraints = vec![Constraint::Watcher { wait_s: 5 }];
    })
    .await;
    let marker = world.path("ran");
    let command = format!(
        "touch {}; while true; do echo tick; sleep 0.05; done",
        marker.display()
    );
    let mut ssh = start(&world, &[], &[&command]);
    let (mut out, mut err) = (lines(ssh.stdout.take()), lines(ssh.stderr.take()));
    until(&mut err, "policy demands that somebody watches").await;
    assert!(!marker.exists(), "it ran unwatched");
    watched(&world, &[bob(false)]).await;
    until(&mut err, "somebody watches").await;
    until(&mut out, "tick").await;
    watched(&world, &[]).await;
    until(&mut err, "policy demands that somebody watches").await;
    until(&mut err, "(unwatched)").await;
    within(PATIENCE, ssh.wait()).await.unwrap();
    let closed = world
        .control
        .until(|told| told.closed.first().cloned())
        .await;
    assert_eq!(closed.reason, EndReason::Unwatched);
    let records = world.operations(OperationKind::Exec, 1).await;
    assert_eq!(records.len(), 1);
}
