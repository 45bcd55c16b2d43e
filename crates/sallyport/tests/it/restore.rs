//! A store that was lost or put back, as an operator meets it.

use std::{fs, path::Path};

use crate::{
    node::Node,
    person::Person,
    ssh::said,
    world::{ROOT, World},
};

const STORE: [&str; 3] = ["sallyport.db", "sallyport.db-wal", "sallyport.db-shm"];

fn remove_store(data: &Path) {
    for name in STORE {
        let _ = fs::remove_file(data.join(name));
    }
}

/// R1, L4, AU-1: a node whose store is gone does not offer itself to a first owner.
#[test]
fn a_lost_store_is_refused_and_no_first_owner_code_is_printed() {
    let mut node = Node::start();
    Person::enrol(&node, "olga", &node.first_owner_code());
    node.stop();
    remove_store(&node.data());

    let refused = node.refuse_to_start("server");
    let (out, complaint) = (said(&refused.stdout), said(&refused.stderr));
    assert!(!refused.status.success());
    assert!(
        complaint.contains("its store was lost") && complaint.contains("restore a backup"),
        "{complaint}"
    );
    assert!(!out.contains("code"), "{out}");
}

/// R2, L4, AU-1, OP-1: after an orderly stop a copy of the database file is a backup; putting it back later
/// is noticed, accepted by word of the operator, and everything stays locked until somebody has looked.
#[test]
fn a_restored_backup_is_refused_until_accepted_and_then_everything_is_locked() {
    let mut world = World::new();
    world.grant(ROOT, "1h");
    world.node.stop();
    let data = world.node.data();
    let backup = world.node.folder.path().join("backup.db");
    fs::copy(data.join("sallyport.db"), &backup).unwrap();
    world.node.run();
    world.olga.say(&["person", "create", "mallory"]);
    world.node.stop();
    remove_store(&data);
    fs::copy(&backup, data.join("sallyport.db")).unwrap();

    let refused = world.node.refuse_to_start("control");
    let complaint = said(&refused.stderr);
    assert!(complaint.contains("older than this node"), "{complaint}");
    assert!(complaint.contains("accept-restore"), "{complaint}");

    let config = world.node.config().display().to_string();
    let words = ["operator", "accept-restore", "--config", &config];
    let accepted = world
        .olga
        .say(&[&words[..], &["--reason", "the disk died"]].concat());
    assert!(accepted.contains("everything is locked"), "{accepted}");
    world.node.run();
    assert!(!world.ssh().run(ROOT, "true").status.success());
    assert_eq!(world.events("audit.restore_accepted").len(), 1);

    let locks = world.carol.list(&["lock", "list"]);
    let lock = locks[0]["id"].as_str().unwrap();
    world.carol.say(&["lock", "remove", lock]);
    assert!(world.ssh().run(ROOT, "true").status.success());
}
