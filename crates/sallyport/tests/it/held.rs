//! Commands held for approval, from the policy to the output on the same connection.

use std::{fs, time::Duration};

use serde_json::Value;

use crate::{
    ssh::Live,
    waiting::eventually,
    world::{ROOT, World},
};

/// Removals wait for one person, truncations for ten seconds only.
const POLICIES: &str = r#"
@id("removals-wait")
@command_approval("1: rm *")
@shell_prompt("*#")
permit (principal, action, resource);

@id("truncations-wait-briefly")
@command_approval("1, within=10s: truncate *")
permit (principal, action, resource);
"#;

/// A world under these policies, with a grant for Alice.
fn world() -> World {
    let world = World::new();
    let folder = world.carol.folder.join("policies");
    let path = folder.display().to_string();
    world.carol.say(&["policy", "init", &path]);
    fs::write(folder.join("require/commands.cedar"), POLICIES).unwrap();
    // They expect removals to run at once.
    fs::remove_dir_all(folder.join("tests")).unwrap();
    world.carol.say(&["policy", "apply", &path]);
    world.grant(ROOT, "1h");
    world
}

impl World {
    /// Waits for a command that waits; returns it as Bob sees it.
    fn waiting_operation(&self) -> Value {
        eventually("a command waits for approval", || {
            self.bob
                .list(&["operation", "list", "--state", "waiting"])
                .into_iter()
                .next()
        })
    }

    fn vote_on(&self, held: &Value, verb: &str) -> Value {
        let id = held["id"].as_str().unwrap();
        let hash = held["content_hash"].as_str().unwrap();
        let words = ["operation", verb, id, "--content-hash", hash];
        self.bob
            .json(&[&words[..], &["--comment", "on behalf of the team"]].concat())
    }
}

/// A folder at the target that a command would remove.
fn doomed(world: &World, name: &str) -> (std::path::PathBuf, String) {
    let path = world.sshd.directory().join(name);
    fs::create_dir_all(&path).unwrap();
    let command = format!("rm -rf {}", path.display());
    (path, command)
}

/// GW-12, PO-2, E1, E2: held, seen exactly, approved by a second person and by nobody else, run once with
/// its output on the same connection; all of it in a log that verifies.
#[test]
fn an_exec_waits_for_a_second_person_and_runs_on_the_same_connection() {
    let world = world();
    let (path, command) = doomed(&world, "first");
    let (other, second_command) = doomed(&world, "second");
    let live = world.ssh().start(ROOT, &format!("{command} && echo gone"));
    let held = world.waiting_operation();
    assert_eq!(held["command"], format!("{command} && echo gone"));
    assert_eq!(held["requester"], "alice");
    assert!(path.exists(), "it ran before anybody agreed");

    let id = held["id"].as_str().unwrap();
    let own = world.alice.attempt(&["operation", "approve", id, "--yes"]);
    assert_ne!(own.code, 0, "she approved her own command: {own:?}");
    // The approval of this one serves no other, however alike.
    let second = world.ssh().start(ROOT, &second_command);
    let other_held = eventually("the other command waits", || {
        let waiting = world.bob.list(&["operation", "list", "--state", "waiting"]);
        waiting.into_iter().find(|found| found["id"] != held["id"])
    });
    let swapped = world.bob.attempt(&[
        "operation",
        "approve",
        other_held["id"].as_str().unwrap(),
        "--content-hash",
        held["content_hash"].as_str().unwrap(),
    ]);
    assert_ne!(swapped.code, 0, "an approval of another command counted");

    world.vote_on(&held, "approve");
    live.until_line("gone");
    let (status, complaint) = live.end();
    assert!(status.success(), "{complaint}");
    assert!(complaint.contains("waits for 1 approval"), "{complaint}");
    assert!(complaint.contains("approved by bob"), "{complaint}");
    assert!(!path.exists());
    assert!(
        other.exists(),
        "the other command ran on this one's approval"
    );
    let again = world.bob.attempt(&["operation", "approve", id, "--yes"]);
    assert_ne!(again.code, 0, "approved again after it ran");

    world.vote_on(&other_held, "deny");
    let (status, complaint) = second.end();
    assert_eq!(status.code(), Some(126), "{complaint}");
    assert!(complaint.contains("(command-denied)"), "{complaint}");
    assert!(complaint.contains("on behalf of the team"), "{complaint}");
    assert!(other.exists());

    let log = fs::read_to_string(world.verified_export().join("entries.jsonl")).unwrap();
    for event in [
        "operation.held",
        "operation.approved",
        "operation.released",
        "operation.denied",
    ] {
        assert!(
            log.contains(&format!("\"event\":\"{event}\"")),
            "no {event}"
        );
    }
}

/// E4, GW-12: nobody answers, or the session ends first: the command does not reach the target.
#[test]
fn a_command_that_nobody_answers_or_whose_session_ends_never_runs() {
    let world = world();
    let file = world.sshd.directory().join("kept");
    fs::write(&file, "content").unwrap();
    let late = world
        .ssh()
        .start(ROOT, &format!("truncate -s 0 {}", file.display()));
    let (path, command) = doomed(&world, "ended");
    let mut ended = world.ssh().start(ROOT, &command);
    let held = eventually("the removal waits", || {
        let waiting = world.bob.list(&["operation", "list", "--state", "waiting"]);
        waiting
            .into_iter()
            .find(|found| found["command"] == command.as_str())
    });
    assert!(ended.is_live());
    let session = held["session_id"].as_str().unwrap();
    world
        .bob
        .say(&["session", "end", session, "--reason", "window is over"]);
    let (status, complaint) = ended.ended_within(Duration::from_secs(10));
    assert!(!status.success());
    assert!(complaint.contains("(ended-by-operator)"), "{complaint}");
    eventually("what waited is given up", || {
        let shown = world
            .bob
            .json(&["operation", "show", held["id"].as_str().unwrap()]);
        (shown["state"] == "withdrawn").then_some(())
    });
    assert!(path.exists());

    let (status, complaint) = late.end();
    assert_eq!(status.code(), Some(126), "{complaint}");
    assert!(complaint.contains("(command-not-approved)"), "{complaint}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "content");
}

/// K4: typed at a known prompt, the Enter waits with the person.
#[test]
fn a_line_typed_at_a_known_prompt_waits_for_a_second_person() {
    let world = world();
    let (path, command) = doomed(&world, "typed");
    let mut live: Live = world.ssh().start_with(&["-tt"], ROOT, "");
    live.type_line("echo before-$((1 + 1))");
    live.until_line("before-2");
    live.type_line(&command);
    let held = world.waiting_operation();
    assert_eq!(held["command"], command.as_str());
    assert_eq!(held["kind"], "typed_command");
    assert!(path.exists(), "it ran before anybody agreed");
    let shown = world
        .bob
        .say(&["operation", "show", held["id"].as_str().unwrap()]);
    assert!(shown.contains(&command), "{shown}");
    world.vote_on(&held, "approve");
    eventually("the line ran", || (!path.exists()).then_some(()));
    live.type_line("exit 4");
    let (status, complaint) = live.end();
    assert_eq!(status.code(), Some(4), "{complaint}");
    assert!(complaint.contains("approved by bob"), "{complaint}");
}
