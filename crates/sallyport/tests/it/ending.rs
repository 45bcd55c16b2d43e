//! What ends a live session, and how fast.

use std::time::Duration;

use crate::{
    waiting::{eventually, timed},
    world::{ROOT, World},
};

/// Starts a session that would last, lets `act` end it, and returns what the person read.
fn cut_off(world: &World, act: impl FnOnce(&World)) -> String {
    let mut live = world.ssh().start(ROOT, "echo started; sleep 600");
    live.until_line("started");
    assert!(live.is_live());
    let session = world.live_session();
    act(world);
    let ((status, complaint), took) = timed(|| live.ended_within(Duration::from_secs(5)));
    assert!(!status.success());
    // AC-6 asks for a second; a loaded test machine gets two.
    assert!(took < Duration::from_secs(2), "{took:?}");
    let ended = world.ended_session(session["id"].as_str().unwrap());
    let reason = ended["end_reason"].as_str().unwrap();
    assert!(complaint.contains(&format!("({reason})")), "{complaint}");
    world.until_no_lease();
    complaint
}

/// GW-12, AC-6
#[test]
fn session_end_cuts_it_off_at_once_and_says_why() {
    let world = World::new();
    world.grant(ROOT, "1h");
    let complaint = cut_off(&world, |world| {
        let session = world.live_session();
        let id = session["id"].as_str().unwrap();
        world
            .bob
            .say(&["session", "end", id, "--reason", "window is over"]);
    });
    assert!(complaint.contains("(ended-by-operator)"), "{complaint}");
    assert!(complaint.contains("window is over"), "{complaint}");
    // The grant still stands: ending a session is not taking access away.
    assert!(world.ssh().run(ROOT, "true").status.success());
}

/// AC-6
#[test]
fn grant_end_cuts_off_its_sessions_and_opens_no_more() {
    let world = World::new();
    let grant = world.grant(ROOT, "1h");
    let complaint = cut_off(&world, |world| {
        world.bob.say(&["grant", "end", &grant, "--reason", "done"]);
    });
    assert!(complaint.contains("(grant-ended)"), "{complaint}");
    let mut again = world.ssh().start(ROOT, "true");
    world.pending();
    assert!(again.is_live(), "let in without a grant");
}

/// AC-5
#[test]
fn a_grant_that_runs_out_ends_its_session() {
    let world = World::new();
    // The shortest there is.
    world.grant(ROOT, "30s");
    let live = world.ssh().start(ROOT, "echo started; sleep 600");
    live.until_line("started");
    let (status, complaint) = live.ended_within(Duration::from_secs(35));
    assert!(!status.success());
    assert!(complaint.contains("(grant-expired)"), "{complaint}");
    let grants = world.alice.list(&["grant", "list"]);
    assert_eq!(grants[0]["state"], "ended");
    // The gateway cuts off at the exact moment; control writes it down when it next looks.
    eventually("the end of the grant is on record", || {
        (world.events("grant.ended").len() == 1).then_some(())
    });
}

/// AC-6, MO-6 (lock)
#[test]
fn a_lock_ends_what_is_live_and_refuses_what_is_new_until_it_is_removed() {
    let world = World::new();
    world.grant(ROOT, "1h");
    let complaint = cut_off(&world, |world| {
        world.carol.say(&[
            "lock",
            "add",
            "--target",
            "web-1",
            "--reason",
            "incident 12",
        ]);
    });
    assert!(complaint.contains("(locked)"), "{complaint}");
    let refused = world.ssh().run(ROOT, "true");
    let said = crate::ssh::said(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("(locked)"),
        "{said}"
    );

    let locks = world.carol.list(&["lock", "list"]);
    world
        .carol
        .say(&["lock", "remove", locks[0]["id"].as_str().unwrap()]);
    assert!(world.ssh().run(ROOT, "true").status.success());
}

/// AC-6, ID-3 (the local part)
#[test]
fn disabling_a_person_ends_sessions_tokens_and_grants() {
    let world = World::new();
    world.grant(ROOT, "1h");
    let complaint = cut_off(&world, |world| {
        world
            .olga
            .say(&["person", "disable", "alice", "--reason", "left the company"]);
    });
    assert!(complaint.contains("(person-disabled)"), "{complaint}");
    assert_eq!(
        world.alice.attempt(&["whoami"]).code,
        4,
        "her token still works"
    );
    let again = world.ssh().run(ROOT, "true");
    assert!(!again.status.success());
    assert!(world.carol.list(&["grant", "list", "--live"]).is_empty());
    world.olga.say(&["person", "enable", "alice"]);
    assert!(
        world.carol.list(&["grant", "list", "--live"]).is_empty(),
        "a grant came back"
    );
}

/// GW-12: transfers are cut off as well, and the evidence says so.
#[test]
fn a_transfer_is_cut_off_in_the_middle() {
    let world = World::new();
    world.grant(ROOT, "1h");
    // Output that never ends: the target goes on sending as long as it is read.
    let live = world.ssh().start(ROOT, "echo started; cat /dev/zero");
    live.until_line("started");
    let session = world.live_session();
    let id = session["id"].as_str().unwrap();
    world
        .bob
        .say(&["session", "end", id, "--reason", "too much"]);
    let (status, _) = live.ended_within(Duration::from_secs(5));
    assert!(!status.success());
    world.ended_session(id);
    let operation = world.operation(id, "exec");
    assert_eq!(operation["outcome"], "interrupted", "{operation}");
    let verified = world.carol.json(&["recording", "verify", id]);
    assert_eq!(verified["is_verified"], true, "{verified}");
}
