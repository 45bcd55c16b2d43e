//! Processes that stop, die and come back.

use std::{fs, time::Duration};

use crate::{
    node::{Role, is_running, send},
    waiting::{eventually, within},
    world::{ROOT, World},
};

/// GW-1, OP-1: control is restarted under a live session, which goes on and stays recorded.
#[test]
fn restarting_control_leaves_live_sessions_running() {
    let world = World::new();
    world.grant(ROOT, "1h");
    let mut live = world.ssh().start_with(&["-tt"], ROOT, "");
    live.type_line("echo before-$((1 + 1))");
    live.until_line("before-2");
    let id = world.live_session()["id"].as_str().unwrap().to_owned();

    world.node.restart(Role::Control);
    live.type_line("echo after-$((2 + 2))");
    live.until_line("after-4");
    assert_eq!(world.live_session()["id"], id.as_str());
    live.type_line("exit");
    let (status, complaint) = live.end();
    assert!(status.success(), "{complaint}");

    let ended = world.ended_session(&id);
    assert_eq!(ended["end_reason"], "client-closed");
    let verified = world.carol.json(&["recording", "verify", &id]);
    assert_eq!(verified["is_verified"], true, "{verified}");
    assert_eq!(verified["is_complete"], true, "{verified}");
    let transcript = world
        .carol
        .say(&["recording", "export", &id, "--format", "transcript"]);
    assert!(
        transcript.contains("before-2") && transcript.contains("after-4"),
        "{transcript}"
    );
}

/// AU-1, AU-6, R1: what was acknowledged before `kill -9` of control is in the log afterwards, and the
/// log verifies; a session that still has its grant goes on, and ends with it.
#[test]
fn killing_control_loses_no_acknowledged_entry() {
    let world = World::new();
    let grant = world.grant(ROOT, "1h");
    let live = world.ssh().start(ROOT, "echo started; sleep 600");
    live.until_line("started");
    let session = world.live_session();
    let mut acknowledged = Vec::new();
    for number in 0..5 {
        let reason = format!("acknowledged before the crash, number {number}");
        let request = world
            .alice
            .json(&["request", "create", ROOT, "--reason", &reason]);
        acknowledged.push(request["id"].as_str().unwrap().to_owned());
        world.node.crash(Role::Control);
    }
    let log = fs::read_to_string(world.verified_export().join("entries.jsonl")).unwrap();
    for id in &acknowledged {
        let count = log
            .lines()
            .filter(|line| line.contains("\"event\":\"request.created\"") && line.contains(id))
            .count();
        assert_eq!(count, 1, "{id}");
    }
    assert_eq!(world.live_session()["id"], session["id"]);
    world.bob.say(&["grant", "end", &grant, "--reason", "done"]);
    let (status, _) = live.ended_within(Duration::from_secs(5));
    assert!(!status.success());
    world.ended_session(session["id"].as_str().unwrap());
}

/// RE-11, RE-12, VA-4: after `kill -9` of the gateway the recording is whole up to its last flushed
/// chunk and says that it was cut off; the session is over and its credential is gone.
#[test]
fn killing_the_gateway_leaves_a_recording_that_verifies_as_cut_off_and_no_lease() {
    let world = World::new();
    world.grant(ROOT, "1h");
    let mut live = world.ssh().start_with(&["-tt"], ROOT, "");
    live.type_line("echo flushed-$((1 + 1))");
    live.until_line("flushed-2");
    let session = world.live_session();
    let id = session["id"].as_str().unwrap();
    eventually("the chunk is durable and anchored", || {
        let seen = world
            .carol
            .attempt(&["recording", "export", id, "--format", "transcript"]);
        (seen.code == 0 && seen.stdout.contains("flushed-2")).then_some(())
    });

    world.node.crash(Role::Gateway);
    let (status, _) = live.ended_within(Duration::from_secs(5));
    assert!(!status.success(), "the client outlived its gateway");
    let ended = world.ended_session(id);
    assert_eq!(ended["end_reason"], "gateway-stopped");
    let recording = session["recording_id"].as_str().unwrap();
    let view = eventually("the recording is settled", || {
        Some(world.carol.json(&["recording", "show", recording]))
            .filter(|view| view["state"] != "live")
    });
    assert_eq!(view["state"], "cut_off");
    let verified = world.carol.json(&["recording", "verify", id]);
    assert_eq!(verified["is_verified"], true, "{verified}");
    assert_eq!(verified["is_complete"], false, "{verified}");
    let transcript = world
        .carol
        .say(&["recording", "export", id, "--format", "transcript"]);
    assert!(transcript.contains("flushed-2"), "{transcript}");
    world.until_no_lease();
    world.verified_export();
    // The grant still stands, and the gateway is back.
    assert!(world.ssh().run(ROOT, "true").status.success());
}

/// AC-5, OP-2 (first part): a gateway that control no longer answers ends a session with its grant, by
/// itself.
#[test]
fn a_grant_ends_its_session_though_control_does_not_answer() {
    let world = World::new();
    // The shortest there is.
    world.grant(ROOT, "30s");
    let live = world.ssh().start(ROOT, "echo started; sleep 600");
    live.until_line("started");
    let session = world.live_session();
    let control = world.node.pid(Role::Control);
    send("-STOP", control);
    let (status, complaint) = live.ended_within(Duration::from_secs(40));
    send("-CONT", control);
    assert!(!status.success());
    assert!(complaint.contains("(grant-expired)"), "{complaint}");
    let ended = world.ended_session(session["id"].as_str().unwrap());
    assert_eq!(ended["state"], "ended");
    world.until_no_lease();
}

/// OP-1: no process of a node outlives it, even when the one that watches them is killed.
#[test]
fn children_end_with_the_process_that_watches_them() {
    let mut world = World::new();
    let children = world.node.kill_supervisor();
    within(Duration::from_secs(30), "both children end", || {
        children.iter().all(|pid| !is_running(*pid)).then_some(())
    });
    world.node.run();
    assert_eq!(world.olga.attempt(&["whoami"]).code, 0);
}

/// OP-1: stopping in order tells the person and keeps everything.
#[test]
fn stopping_the_node_ends_sessions_in_order_and_keeps_their_records() {
    let mut world = World::new();
    world.grant(ROOT, "1h");
    let live = world.ssh().start(ROOT, "echo started; sleep 600");
    live.until_line("started");
    let session = world.live_session();
    let id = session["id"].as_str().unwrap();
    world.node.stop();
    let (status, complaint) = live.ended_within(Duration::from_secs(5));
    assert!(!status.success());
    assert!(complaint.contains("(gateway-stopped)"), "{complaint}");
    world.node.run();
    let ended = world.ended_session(id);
    assert_eq!(ended["end_reason"], "gateway-stopped");
    let verified = world.carol.json(&["recording", "verify", id]);
    assert_eq!(verified["is_complete"], true, "{verified}");
    world.verified_export();
}
