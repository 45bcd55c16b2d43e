//! Others at a live session, as control's pushes bring them; each test with a node of its own.

use std::{fs::File, pin::pin, sync::Arc, time::Duration};

use sallyport_api::gateway::Push;
use sallyport_core::session::{EndReason, Operation, OperationKind};
use sallyport_evidence::recording::{
    ContainerReader, FrameKind, Opener, Pty, RecordingKey, redaction_mark,
};

use super::*;
use crate::{
    session::{ChannelOpening, ChannelRecord, Content, OperationStart, Session},
    testing::{Harness, RECORDING_KEY, START, ended, question, recording_id, session_id},
};

const TERMINAL: ChannelOpening<'static> = ChannelOpening {
    kind: "shell",
    pty: Some(Pty {
        term: "xterm",
        columns: 80,
        rows: 24,
    }),
    command: None,
    content: Content::Full,
};

fn watcher(number: u8, has_keyboard: bool) -> Watcher {
    Watcher {
        id: WatcherId::new(START, [number; 10]),
        person_id: PersonId::new(START, [number; 10]),
        person: "bob".parse().unwrap(),
        has_keyboard,
    }
}

fn push(harness: &Harness, push: Push) {
    harness.node.directives.pushed(push, harness.clock.now());
}

fn watched(harness: &Harness, watchers: Vec<Watcher>) {
    let session_id = session_id(1);
    push(
        harness,
        Push::Watched {
            session_id,
            watchers,
        },
    );
}

fn paused(harness: &Harness, by: Option<&str>) {
    let by = by.map(|by| by.parse().unwrap());
    let session_id = session_id(1);
    push(harness, Push::Paused { session_id, by });
}

fn typed(harness: &Harness, watcher: &Watcher, text: &[u8]) {
    let typed = Push::Typed {
        session_id: session_id(1),
        watcher_id: watcher.id.clone(),
        channel: 0,
        keystrokes: Keystrokes::new(text.to_vec()),
    };
    push(harness, typed);
}

/// A session with a terminal, under these policies.
async fn with_terminal(policies: &str) -> (Harness, Arc<Session>, ChannelRecord) {
    let harness = Harness::start();
    harness.welcome(policies, Duration::from_secs(60));
    let session = harness.open(1).await;
    let channel = session.open_channel(TERMINAL).await.unwrap();
    (harness, session, channel)
}

/// Notes and input of the recording of session 1, in order.
fn recorded(harness: &Harness) -> Vec<String> {
    let path = harness
        .directory
        .path()
        .join(format!("recordings/{}.spr", recording_id(1)));
    let container = ContainerReader::open(File::open(path).unwrap()).unwrap();
    let mut opener = Opener::new(container, RecordingKey::new(RECORDING_KEY)).unwrap();
    let mut frames = Vec::new();
    while let Some(chunk) = opener.next_chunk().unwrap() {
        frames.extend(chunk.frames().filter_map(|frame| match frame.kind {
            FrameKind::Input(bytes) => Some(format!("< {}", String::from_utf8_lossy(bytes))),
            FrameKind::Redacted { rule, bytes, .. } => {
                Some(format!("< {}", redaction_mark(rule, bytes)))
            }
            FrameKind::Note(text) => Some(text.to_owned()),
            _ => None,
        }));
    }
    frames
}

/// MO-6: both directions and new operations stand still, and go on where they stood.
#[tokio::test]
async fn given_a_pause_then_nothing_passes_and_after_it_everything_does() {
    let (harness, session, channel) = with_terminal("permit").await;
    paused(&harness, Some("bob"));
    let operation = Operation {
        kind: OperationKind::FileUpload,
        detail: "/etc/motd".to_owned(),
        facts: None,
    };
    let mut up = pin!(channel.input(b"up"));
    let mut down = pin!(channel.output(b"down"));
    let mut begun = pin!(session.begin_operation(0, operation));
    assert!(futures_util::poll!(&mut up).is_pending());
    assert!(futures_util::poll!(&mut down).is_pending());
    assert!(futures_util::poll!(&mut begun).is_pending());

    paused(&harness, None);
    up.await.unwrap();
    down.await.unwrap();
    assert!(matches!(begun.await, OperationStart::Begun(_)));
}

/// MO-6, GW-12, AC-5: a pause keeps nothing alive.
#[tokio::test]
async fn given_a_pause_then_ends_and_clocks_go_on() {
    let (harness, session, channel) = with_terminal("permit idle:60").await;
    paused(&harness, Some("bob"));
    let mut down = pin!(channel.output(b"down"));
    assert!(futures_util::poll!(&mut down).is_pending());
    harness.clock.advance(Duration::from_secs(60));
    harness.node.directives.sweep(harness.clock.now());
    assert_eq!(ended(&session).await.reason, EndReason::IdleTimeout);
    assert!(down.await.is_err(), "bytes passed after the end");
}

/// MO-6: what control says when it is back holds, also what it could not say while it was away.
#[tokio::test]
async fn given_a_welcome_then_exactly_the_sessions_it_names_are_paused() {
    let (harness, _session, channel) = with_terminal("permit").await;
    paused(&harness, Some("bob"));
    harness.welcome("permit", Duration::from_secs(60));
    channel.output(b"it goes on").await.unwrap();
}

/// RE-13: every way of having nobody there stops it at once.
#[tokio::test]
async fn given_a_demanded_watcher_then_nothing_passes_without_another_person() {
    let (harness, _session, channel) = with_terminal("permit watcher:60").await;
    let own = question().principal.id;
    for (watchers, passes) in [
        (vec![], false),
        (
            vec![Watcher {
                person_id: own,
                ..watcher(8, true)
            }],
            false,
        ),
        (vec![watcher(2, false)], true),
        (vec![], false),
        (vec![watcher(3, false)], true),
    ] {
        watched(&harness, watchers.clone());
        let mut down = pin!(channel.output(b"x"));
        let is_through = futures_util::poll!(&mut down).is_ready();
        assert_eq!(is_through, passes, "{watchers:?}");
    }
    // The connection to control is what says that somebody is there.
    harness.node.directives.lost(harness.clock.now());
    let mut down = pin!(channel.output(b"x"));
    assert!(futures_util::poll!(&mut down).is_pending());
}

/// RE-13
#[tokio::test]
async fn given_a_demanded_watcher_who_does_not_come_then_the_session_ends_within_the_time() {
    let (harness, session, _channel) = with_terminal("permit watcher:60").await;
    let sweep = |seconds| {
        harness.clock.advance(Duration::from_secs(seconds));
        harness.node.directives.sweep(harness.clock.now());
    };
    sweep(59);
    watched(&harness, vec![watcher(2, false)]);
    sweep(600);
    assert_eq!(session.end_if_over(), None);
    watched(&harness, Vec::new());
    sweep(59);
    assert_eq!(session.end_if_over(), None);
    sweep(1);
    assert_eq!(ended(&session).await.reason, EndReason::Unwatched);
}

/// RE-13, PO-3: a policy that demands a watcher from now on holds what is live already.
#[tokio::test]
async fn given_a_new_bundle_that_demands_a_watcher_then_live_sessions_stop_until_there_is_one() {
    let (harness, _session, channel) = with_terminal("permit").await;
    channel.output(b"x").await.unwrap();
    let bundle = "permit watcher:60".to_owned();
    push(&harness, Push::Bundle { bundle });
    let mut down = pin!(channel.output(b"x"));
    assert!(futures_util::poll!(&mut down).is_pending());
    watched(&harness, vec![watcher(2, false)]);
    down.await.unwrap();
}

/// RE-13, RE-2: the person is told before anything is typed, and the recording says who typed what.
#[tokio::test]
async fn given_somebody_with_the_keyboard_then_their_typing_is_recorded_as_theirs() {
    let (harness, session, channel) = with_terminal("permit").await;
    let mut words = session.words();
    let bob = watcher(2, true);
    watched(&harness, vec![bob.clone()]);
    assert_eq!(&*words.next().await, "sallyport: bob joined and can type");
    typed(&harness, &bob, b"id\r");
    let typing = channel.typed().await;
    assert_eq!(typing.bytes(), b"id\r");
    assert!(channel.typed_input(&typing).await.unwrap());
    channel.output(b"id\r\n").await.unwrap();
    // A password, say: nothing shows it.
    channel.input(b"own").await.unwrap();
    typed(&harness, &bob, b"his");
    let typing = channel.typed().await;
    assert!(channel.typed_input(&typing).await.unwrap());
    watched(&harness, Vec::new());
    assert_eq!(&*words.next().await, "sallyport: bob left");
    drop((channel, session));
    harness.closed(1).await;
    assert_eq!(
        recorded(&harness)[..7],
        [
            "sallyport: bob joined and can type",
            "typed by bob: 3 bytes",
            "< id\r",
            "< [redacted not-echoed: 3 bytes]",
            "typed by bob: 3 bytes",
            "< [redacted not-echoed: 3 bytes]",
            "sallyport: bob left",
        ]
    );
}

/// RE-13, AC-6: neither who watches only, nor who left, nor who policy keeps from it types; not even
/// what was on its way.
#[tokio::test]
async fn given_no_right_to_type_any_more_then_what_was_typed_before_is_dropped() {
    let (harness, _session, channel) = with_terminal("permit").await;
    let (bob, quiet) = (watcher(2, true), watcher(3, false));
    watched(&harness, vec![bob.clone(), quiet.clone()]);
    typed(&harness, &quiet, b"no");
    {
        let mut typing = pin!(channel.typed());
        assert!(futures_util::poll!(&mut typing).is_pending());
    }
    typed(&harness, &bob, b"rm");
    let typing = channel.typed().await;
    watched(&harness, vec![quiet]);
    assert!(!channel.typed_input(&typing).await.unwrap());

    watched(&harness, vec![bob.clone()]);
    let bundle = "permit own-keyboard".to_owned();
    push(&harness, Push::Bundle { bundle });
    assert!(!channel.typed_input(&typing).await.unwrap());
}

/// RE-13, security K5, R22: a message cannot act on a terminal, and a flood of typing is bounded.
#[tokio::test]
async fn messages_are_escaped_and_typing_that_nobody_takes_is_dropped_and_said() {
    let (harness, session, channel) = with_terminal("permit").await;
    let mut words = session.words();
    let message = Push::Message {
        session_id: session_id(1),
        from: "bob".parse().unwrap(),
        text: "stop\u{1b}[2J\r\nnow".to_owned(),
    };
    push(&harness, message);
    let line = words.next().await;
    assert!(line.starts_with("sallyport: bob says: stop"), "{line:?}");
    assert!(!line.contains(char::is_control), "{line:?}");

    let bob = watcher(2, true);
    watched(&harness, vec![bob.clone()]);
    for _ in 0..=TYPED_MAX {
        typed(&harness, &bob, b"x");
    }
    let joined = words.next().await;
    let dropped = words.next().await;
    assert!(joined.contains("joined"), "{joined:?}");
    assert!(dropped.contains("was dropped"), "{dropped:?}");
    drop((channel, session));
    harness.closed(1).await;
}

/// RE-13: who begins to look later reads what still holds.
#[tokio::test]
async fn given_a_channel_that_opens_later_then_it_is_told_who_is_there_and_why_nothing_passes() {
    let (harness, session, _channel) = with_terminal("permit watcher:60").await;
    assert!(session.standing_words()[0].contains("waiting"));
    watched(&harness, vec![watcher(2, true)]);
    paused(&harness, Some("carol"));
    let standing = session.standing_words();
    assert_eq!(standing[0], "sallyport: bob joined and can type");
    assert!(standing[1].contains("carol paused"), "{standing:?}");
}
