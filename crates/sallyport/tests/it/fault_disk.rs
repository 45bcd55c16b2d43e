//! Disks that are full, break, or hang: nothing privileged happens unrecorded, and the node works again by
//! itself when the disk does.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    time::Duration,
};

use sallyport_testkit::effort;

use crate::{
    ledger::Ledger,
    node::{Role, Setup},
    waiting::{eventually, within},
    world::{ROOT, World},
};

/// How long a recorded session may outlive its disk, and the node take to recover (R6).
const SOON: Duration = Duration::from_secs(10);

/// Takes all the space that is left.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    let piece = vec![b'x'; 64 * 1024];
    while file.write_all(&piece).is_ok() {}
    // What did not fit in one piece still fits in small ones.
    while file.write_all(b"x").is_ok() {}
}

fn log_of(world: &World) -> String {
    fs::read_to_string(world.verified_export().join("entries.jsonl")).unwrap()
}

/// R6, L1, AU-6, RE-12: on a full disk nothing is granted and no session opens, the one that is recorded
/// ends within ten seconds; space makes everything work again without a restart.
#[test]
fn a_full_disk_stops_everything_privileged_and_space_brings_it_back() {
    let world = World::with(Setup {
        disk_mib: Some(48),
        ..Setup::default()
    });
    world.grant(ROOT, "1h");
    let mut live = world.ssh().start_with(&["-tt"], ROOT, "");
    live.type_line("echo before-$((1 + 1))");
    live.until_line("before-2");
    let id = world.live_session()["id"].as_str().unwrap().to_owned();
    let control = world.node.pid(Role::Control);
    let filler = world.node.data().join("filler");
    fill(&filler);

    live.type_line("while :; do echo unrecorded; done");
    let (status, _) = live.ended_within(SOON);
    assert!(!status.success(), "it went on without a record");
    for attempt in 0..effort::rounds(2) {
        let ask = ["request", "create", ROOT, "--reason", "on a full disk"];
        let asked = world.alice.attempt(&ask);
        assert_ne!(asked.code, 0, "attempt {attempt}: {asked:?}");
        assert!(!world.ssh().run(ROOT, "echo let in").status.success());
    }

    fs::remove_file(&filler).unwrap();
    within(SOON, "the node works again", || {
        let made = world.olga.attempt(&["person", "create", "newcomer"]);
        (made.code == 0).then_some(())
    });
    assert_eq!(world.node.pid(Role::Control), control, "without a restart");
    assert!(world.ssh().run(ROOT, "true").status.success());
    world.ended_session(&id);
    let log = log_of(&world);
    assert!(
        !log.contains("on a full disk"),
        "refused, and yet on record as asked"
    );
    let opened = log
        .lines()
        .filter(|line| line.contains("\"event\":\"session.opened\""));
    assert_eq!(opened.count(), 2, "before it was full, and after");
}

/// R1, R6, L5, AU-6: from the k-th write on the disk of control fails. Whatever was acknowledged is in the
/// log; nothing is acknowledged while it fails; control gives up, is started anew and works.
#[test]
fn a_disk_that_fails_at_the_kth_write_loses_nothing_and_the_node_recovers() {
    let world = World::new();
    for round in 0..effort::rounds(3) {
        let kth = 1 + round * 7 % 50;
        let (error, calls) = match round % 3 {
            0 => ("EIO", "pwrite64,fdatasync,fsync"),
            1 => ("EROFS", "pwrite64,ftruncate"),
            _ => ("EIO", "fdatasync,fsync"),
        };
        let before = world.node.pid(Role::Control);
        let ledger = Ledger::start(&world.node, &world.olga);
        ledger.until_it_grows();
        let disturbed = world
            .node
            .disturb(Role::Control, &format!("{calls}:error={error}:when={kth}+"));
        eventually("control gives up, and another takes its place", || {
            (world.node.pid(Role::Control) != before).then_some(())
        });
        drop(disturbed);
        within(SOON, "the node works again", || {
            let status = world.olga.attempt(&["person", "list"]);
            (status.code == 0).then_some(())
        });
        ledger.until_it_grows();
        let acknowledged = ledger.finish();
        let log = log_of(&world);
        for name in &acknowledged {
            let entry = format!("\"name\":\"{name}\"");
            let is_there = log
                .lines()
                .any(|line| line.contains("person.created") && line.contains(&entry));
            assert!(
                is_there,
                "round {round}, {error} from write {kth} on: {name} is lost"
            );
        }
    }
}

/// R6, AU-6: while control's disk hangs nothing is acknowledged; afterwards it works again.
#[test]
fn a_disk_that_hangs_delays_acknowledgements_and_loses_none() {
    let world = World::new();
    let disturbed = world
        .node
        .disturb(Role::Control, "fdatasync,fsync:delay_enter=6000000");
    let before = world.node.pid(Role::Control);
    let ledger = Ledger::start(&world.node, &world.olga);
    let early = crate::waiting::try_within(Duration::from_secs(4), || {
        (!ledger.acknowledged().is_empty()).then_some(())
    });
    assert!(early.is_none(), "acknowledged before it was on disk");
    drop(disturbed);
    within(SOON, "changes are acknowledged again", || {
        (!ledger.acknowledged().is_empty()).then_some(())
    });
    assert_eq!(world.node.pid(Role::Control), before, "without a restart");
    let acknowledged = ledger.finish();
    let log = log_of(&world);
    assert!(acknowledged.iter().all(|name| log.contains(name.as_str())));
}

/// R6, RE-12: a gateway whose disk hangs ends what it cannot record within ten seconds.
#[test]
fn a_recording_disk_that_hangs_ends_the_session() {
    let world = World::new();
    world.grant(ROOT, "1h");
    let mut live = world.ssh().start_with(&["-tt"], ROOT, "");
    live.type_line("echo before-$((1 + 1))");
    live.until_line("before-2");
    let id = world.live_session()["id"].as_str().unwrap().to_owned();
    let disturbed = world
        .node
        .disturb(Role::Gateway, "fdatasync,fsync:delay_enter=60000000");
    live.type_line("while :; do echo unrecorded; sleep 0.1; done");
    let (status, _) = live.ended_within(SOON);
    assert!(!status.success());
    drop(disturbed);
    let ended = world.ended_session(&id);
    assert_eq!(ended["end_reason"], "recorder-failed", "{ended}");
    within(SOON, "sessions open again", || {
        world.ssh().run(ROOT, "true").status.success().then_some(())
    });
    world.verified_export();
}
