//! Evidence in the hands of somebody who trusts nothing but the log's public key.

use std::fs;

use crate::{
    node::files_under,
    world::{ROOT, World},
};

/// AU-1: any change of an export is found with its place; a rollback is found with a saved checkpoint.
#[test]
fn a_changed_export_is_reported_with_its_place() {
    let world = World::new();
    let saved = world.carol.folder.join("saved-checkpoint");
    let saved = saved.display().to_string();
    let earlier = world.verified_export();
    world.grant(ROOT, "1h");
    let export = world.verified_export();
    world.carol.say(&["audit", "checkpoint", "--file", &saved]);
    let key = world.carol.say(&["audit", "key"]);
    let path = export.display().to_string();
    let verify = |words: &[&str]| world.carol.attempt(&[&["audit", "verify"], words].concat());

    // With nothing but the key, by somebody who never signed in.
    let stranger = crate::person::Person::stranger(&world.node, "auditor");
    let verdict = stranger.attempt(&["audit", "verify", &path, "--key", key.trim()]);
    assert_eq!(verdict.code, 0, "{verdict:?}");
    assert_eq!(
        stranger.attempt(&["audit", "verify", &path]).code,
        2,
        "verified without a key"
    );

    let entries = export.join("entries.jsonl");
    let whole = fs::read_to_string(&entries).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let damages = [
        (
            "entry 3",
            lines[3].replacen("\"v\":1", "\"v\":1 ", 1),
            3_usize,
        ),
        ("entry 5", lines[6].to_owned(), 5),
    ];
    for (place, line, at) in damages {
        let mut changed: Vec<&str> = lines.clone();
        changed[at] = &line;
        fs::write(&entries, changed.join("\n") + "\n").unwrap();
        let verdict = verify(&[&path]);
        assert_eq!(verdict.code, 5, "{verdict:?}");
        assert!(verdict.stderr.contains(place), "{verdict:?}");
    }
    fs::write(&entries, lines[..lines.len() - 1].join("\n") + "\n").unwrap();
    assert_eq!(verify(&[&path]).code, 5);
    fs::write(&entries, &whole).unwrap();
    assert_eq!(verify(&[&path]).code, 0);

    // An older export is genuine, and only the saved checkpoint tells that it is not the newest.
    let earlier = earlier.display().to_string();
    assert_eq!(verify(&[&earlier]).code, 0);
    let rolled_back = verify(&[&earlier, "--checkpoint", &saved]);
    assert_eq!(rolled_back.code, 5);
    assert!(rolled_back.stderr.contains("rollback"), "{rolled_back:?}");
}

/// RE-11: a recording that was touched is reported, by the node and by somebody who has only the file,
/// the exported log and its public key.
#[test]
fn a_damaged_recording_is_reported() {
    let world = World::new();
    world.grant(ROOT, "1h");
    assert!(world.ssh().run(ROOT, "echo evidence").status.success());
    let session = world.newest_session();
    let id = session["id"].as_str().unwrap();
    world.ended_session(id);
    crate::waiting::eventually("the recording is complete", || {
        Some(world.carol.attempt(&["recording", "verify", id])).filter(|ended| ended.code == 0)
    });
    let recording = session["recording_id"].as_str().unwrap();
    let container = world.carol.folder.join("recording.bin");
    let container = container.display().to_string();
    world.carol.say(&[
        "recording",
        "export",
        id,
        "--format",
        "container",
        "--file",
        &container,
    ]);
    let log = world.verified_export().display().to_string();
    let key = world.carol.say(&["audit", "key"]);
    let stranger = crate::person::Person::stranger(&world.node, "auditor");
    let verify_offline = || {
        stranger.attempt(&[
            "recording",
            "verify",
            "--file",
            &container,
            "--log",
            &log,
            "--key",
            key.trim(),
        ])
    };
    let verdict = verify_offline();
    assert_eq!(verdict.code, 0, "{verdict:?}");
    assert!(verdict.stdout.starts_with("verified: "), "{verdict:?}");
    let whole = fs::read(&container).unwrap();
    fs::write(&container, &whole[..whole.len() - 1]).unwrap();
    assert_eq!(verify_offline().code, 5, "a shortened file was verified");
    let mut touched = whole.clone();
    touched[whole.len() / 2] ^= 1;
    fs::write(&container, touched).unwrap();
    assert_eq!(verify_offline().code, 5, "a touched file was verified");

    let file = files_under(&world.node.data())
        .into_iter()
        .find(|path| path.display().to_string().contains(recording))
        .expect("the recording's file");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();

    let verdict = world.carol.attempt(&["recording", "verify", id]);
    assert_eq!(verdict.code, 5, "{verdict:?}");
    let played = world
        .carol
        .attempt(&["recording", "export", id, "--format", "transcript"]);
    assert_ne!(played.code, 0, "a damaged recording was played: {played:?}");
}
