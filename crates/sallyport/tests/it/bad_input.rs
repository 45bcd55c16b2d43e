//! What an operator gets wrong, and what breaks: each has its message, and leaves nothing half-done.

use std::{fs, path::Path, process::Command};

use crate::{
    node::{Node, Setup},
    ssh::said,
    waiting::eventually,
    world::{ROOT, World},
};

/// OP-1
#[test]
fn an_unknown_configuration_key_is_named_and_nothing_is_made() {
    let node = Node::prepare(Setup {
        sign_in: "failures_maximum = 3".to_owned(),
        ..Setup::default()
    });
    for role in ["server", "control", "gateway"] {
        let output = node.refuse_to_start(role);
        assert_eq!(output.status.code(), Some(1), "{role}");
        let complaint = said(&output.stderr);
        assert!(
            complaint.contains("failures_maximum"),
            "{role}: {complaint}"
        );
        assert!(complaint.contains("next: "), "{role}: {complaint}");
    }
    assert!(
        !node.data().exists(),
        "a mistake left a data directory behind"
    );
}

/// OP-1
#[test]
fn a_second_node_on_the_same_data_directory_is_refused_and_the_first_goes_on() {
    let node = Node::start();
    let second = node.refuse_to_start("control");
    assert_eq!(second.status.code(), Some(1));
    let complaint = said(&second.stderr);
    assert!(
        complaint.contains("in use by another control process"),
        "{complaint}"
    );
    let second = node.refuse_to_start("gateway");
    assert_eq!(second.status.code(), Some(1), "{}", said(&second.stderr));
    let second = node.refuse_to_start("server");
    assert_eq!(second.status.code(), Some(1), "{}", said(&second.stderr));
    node.until_health_says(&node.health(), "ready", true);
}

/// OP-1, AU-1
#[test]
fn a_damaged_database_is_refused_with_a_remedy() {
    let mut world = World::new();
    world.node.stop();
    let database = world.node.data().join("sallyport.db");
    move_everything_into(&database);
    let mut bytes = fs::read(&database).unwrap();
    assert!(bytes.len() > 300_000, "{}", bytes.len());
    for byte in bytes.iter_mut().skip(4096).take(200_000) {
        *byte ^= 0x55;
    }
    fs::write(&database, &bytes).unwrap();
    let output = world.node.refuse_to_start("control");
    assert_eq!(output.status.code(), Some(1));
    let complaint = said(&output.stderr);
    assert!(
        complaint.contains("error: ") && complaint.contains("next: "),
        "{complaint}"
    );
    assert!(!complaint.contains("panicked"), "{complaint}");
    assert_eq!(
        fs::read(&database).unwrap(),
        bytes,
        "the evidence of damage was touched"
    );
}

/// What SQLite still keeps beside the database goes into it.
fn move_everything_into(database: &Path) {
    let script = "import sqlite3, sys\nsqlite3.connect(sys.argv[1]).execute('PRAGMA wal_checkpoint(TRUNCATE)').fetchall()";
    let status = Command::new("python3")
        .args(["-c", script])
        .arg(database)
        .status()
        .unwrap();
    assert!(status.success(), "python3: {status}");
}

/// R7: a clock that is set back brings nothing back to life, and is on record.
#[test]
fn a_clock_that_went_back_is_on_record_and_revives_no_grant() {
    let mut world = World::new();
    world.grant(ROOT, "30s");
    eventually("the grant has run out", || {
        world
            .alice
            .list(&["grant", "list", "--live"])
            .is_empty()
            .then_some(())
    });
    world.node.stop();
    world
        .node
        .change(|setup| setup.clock_behind = Some("-10m".to_owned()));
    world.node.run();
    assert_eq!(world.events("control.clock_went_back").len(), 1);
    assert!(world.alice.list(&["grant", "list", "--live"]).is_empty());
    let mut live = world.ssh().start(ROOT, "true");
    world.pending();
    assert!(live.is_live(), "let in by a grant that had run out");
}

/// PO-4: policies that do not load or fail their own tests change nothing.
#[test]
fn malformed_policies_are_refused_and_the_ones_in_force_stay() {
    let world = World::new();
    let dir = world.carol.folder.join("policies");
    let path = dir.display().to_string();
    world.carol.say(&["policy", "init", &path]);
    world.carol.say(&["policy", "check", &path]);
    let before = world.carol.json(&["policy", "show"]);
    let file = dir.join("authorise/access.cedar");
    let text = fs::read_to_string(&file).unwrap();

    fs::write(&file, format!("{text}\npermit (principal, action")).unwrap();
    let checked = world.carol.attempt(&["policy", "check", &path]);
    assert_eq!(checked.code, 5, "{checked:?}");
    assert!(
        checked.stderr.contains("authorise/access.cedar"),
        "{checked:?}"
    );
    assert_ne!(world.carol.attempt(&["policy", "apply", &path]).code, 0);

    // It loads, and everybody may do everything: its own tests say no.
    let lax = "\n@id(\"everybody\")\npermit (principal, action, resource);\n";
    fs::write(&file, format!("{text}{lax}")).unwrap();
    let tested = world.carol.attempt(&["policy", "test", &path]);
    assert_eq!(tested.code, 5, "{tested:?}");
    assert_ne!(world.carol.attempt(&["policy", "apply", &path]).code, 0);
    assert_eq!(world.carol.json(&["policy", "show"]), before);

    let harmless =
        "\n@id(\"no-interns\")\nforbid (principal in Group::\"interns\", action, resource);\n";
    fs::write(&file, format!("{text}{harmless}")).unwrap();
    world.carol.say(&["policy", "apply", &path]);
    assert_ne!(world.carol.json(&["policy", "show"]), before);
    world.carol.say(&["policy", "rollback"]);
    assert_eq!(world.carol.json(&["policy", "show"]), before);
}
