//! What many connections under one grant leave in lists: a line, and everything for those who ask.

use crate::{
    ssh::said,
    waiting::eventually,
    world::{ROOT, World},
};

/// Where the items of a table begin: neither its heading, nor what did not fit into a line.
fn rows(table: &str) -> Vec<&str> {
    let lines = table.lines().skip(1);
    lines.filter(|line| !line.starts_with(' ')).collect()
}

/// RE-1, AU-1: a loop of `ssh` commands is one line of each list, with how many there are;
/// each is there for those who ask, and for programs always.
#[test]
fn given_a_loop_of_commands_under_one_grant_when_sessions_are_listed_then_they_are_one_line() {
    let world = World::new();
    world.add_target("web-2", "medium");
    let account = ["account", "create", "root@web-2", "--engine", "ssh_ca"];
    world.olga.say(&account);
    let grant = world.grant(ROOT, "1h");
    for number in 0..4 {
        let output = world.ssh().run(ROOT, &format!("echo {number}"));
        assert!(output.status.success(), "{}", said(&output.stderr));
    }
    world.grant("root@web-2", "1h");
    assert!(world.ssh().run("root@web-2", "true").status.success());
    let single = world.newest_session();
    for session in world.carol.list(&["session", "list"]) {
        world.ended_session(session["id"].as_str().unwrap());
    }
    eventually("no recording is written any more", || {
        let recordings = world.carol.list(&["recording", "list"]);
        (!recordings.iter().any(|one| one["state"] == "live")).then_some(())
    });

    for (noun, id) in [("session", "id"), ("recording", "recording_id")] {
        let table = world.carol.say(&[noun, "list"]);
        let lines = rows(&table);
        assert_eq!(lines.len(), 2, "{table}");
        assert_eq!(table.lines().count(), 3, "all fits: {table}");
        assert!(
            table.lines().all(|line| line.chars().count() <= 80),
            "{table}"
        );
        // One alone is named itself: what is done next is to show it.
        assert!(
            lines[0].starts_with(single[id].as_str().unwrap()),
            "{table}"
        );
        assert!(lines[1].starts_with(&grant), "{table}");
        assert!(lines[1].contains("root@web-1  4 "), "{table}");

        assert_eq!(rows(&world.carol.say(&[noun, "list", "--all"])).len(), 5);
        let of_grant = world.carol.say(&[noun, "list", "--grant", &grant]);
        assert_eq!(rows(&of_grant).len(), 4, "{of_grant}");
        assert!(!of_grant.contains("web-2"), "{of_grant}");
        assert_eq!(world.carol.list(&[noun, "list"]).len(), 5);
        assert_eq!(
            world.carol.list(&[noun, "list", "--grant", &grant]).len(),
            4
        );
        let first = rows(&world.carol.say(&[noun, "list", "--limit", "1"])).len();
        assert_eq!(first, 1, "the limit is of lines");
    }
    // Whoever may not see everybody's sees their own.
    assert_eq!(rows(&world.alice.say(&["session", "list"])).len(), 2);
    assert_eq!(world.bob.attempt(&["session", "list", "--mine"]).stdout, "");
}
