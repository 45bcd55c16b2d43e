//! Programs of others that judge what ours speaks and writes: `ssh-audit`, `asciinema`, and a client that
//! changes keys all the time.

use std::{fs, process::Command};

use sallyport_testkit::effort;

use crate::{
    clients::{sha256, venv},
    node::{Node, finished},
    ssh::said,
    waiting::eventually,
    world::{ROOT, World},
};

/// What `ssh-audit` warns of all the same. Clients before OpenSSH 9.9, and today's paramiko, have no key
/// exchange that is safe from quantum computers and that we have; who has one uses it.
const REMARKS: &[&str] = &[
    "(kex) curve25519-sha256              -- [warn] does not provide protection against post-quantum attacks",
    "(kex) curve25519-sha256@libssh.org   -- [warn] does not provide protection against post-quantum attacks",
];

/// GW-11: nothing weak is offered to clients, by the judgement of a stranger.
#[test]
fn given_a_gateway_when_ssh_audit_looks_then_nothing_fails_and_the_only_warnings_are_known() {
    let node = Node::start();
    let mut audit = Command::new(venv("ssh-audit"));
    audit
        .args(["--no-colors", "--skip-rate-test", "--verbose", "--port"])
        .args([&node.ssh_port.to_string(), "127.0.0.1"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let output = finished(audit.spawn().unwrap());
    let report = said(&output.stdout);
    assert!(
        report.contains("(kex) mlkem768x25519-sha256"),
        "it did not see the gateway: {report}"
    );
    let found: Vec<&str> = report
        .lines()
        .filter(|line| line.contains("[fail]") || line.contains("[warn]"))
        .filter(|line| !REMARKS.iter().any(|remark| line.contains(remark)))
        .collect();
    assert_eq!(found, Vec::<&str>::new(), "{report}");
}

/// RE-1: what is exported is played by the player people have.
#[test]
fn given_an_exported_session_when_asciinema_plays_it_then_it_shows_what_the_person_saw() {
    let world = World::new();
    world.grant(ROOT, "1h");
    let mut live = world.ssh().start_with(&["-tt"], ROOT, "");
    live.type_line("echo played-$((40 + 2))");
    live.until_line("played-42");
    live.type_line("exit");
    let (status, complaint) = live.end();
    assert!(status.success(), "{complaint}");
    let id = world.newest_session()["id"].as_str().unwrap().to_owned();
    world.ended_session(&id);
    let cast = world.carol.folder.join("session.cast");
    world.carol.say(&[
        "recording",
        "export",
        &id,
        "--format",
        "asciicast-v2",
        "--file",
        &cast.display().to_string(),
    ]);
    // It plays to a terminal only.
    let mut script = Command::new("script");
    script
        .args([
            "-qec",
            "asciinema play --speed 100 session.cast",
            "/dev/null",
        ])
        .env("TERM", "xterm")
        .env("HOME", &world.carol.folder)
        .current_dir(&world.carol.folder)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let played = finished(script.spawn().unwrap());
    assert!(played.status.success(), "{}", said(&played.stdout));
    assert!(
        said(&played.stdout).contains("played-42"),
        "{}",
        said(&played.stdout)
    );
}

/// How much is moved at effort 1. The rekey limit is 1 MiB, so keys change some sixty times each way.
const MIB: usize = 64;

/// GW-1, RE-14: keys change in the middle of a transfer, again and again, and what arrives,
/// what was recorded and what was sent have one hash.
#[test]
fn given_a_client_that_rekeys_every_mebibyte_when_it_moves_much_then_every_hash_is_the_same() {
    let world = World::new();
    world.grant(ROOT, "1h");
    let mib = effort::rounds(MIB);
    let up = world.alice.folder.join("up.bin");
    let status = Command::new("dd")
        .args(["if=/dev/urandom", "bs=1M", "status=none"])
        .arg(format!("count={mib}"))
        .arg(format!("of={}", up.display()))
        .status()
        .unwrap();
    assert!(status.success());
    let there = world.sshd.directory().join("there.bin");
    let batch = world.alice.folder.join("batch");
    let text = format!("put up.bin {0}\nget {0} back.bin\n", there.display());
    fs::write(batch, text).unwrap();
    let mut sftp = world.ssh().client("sftp");
    sftp.args(["-v", "-o", "RekeyLimit=1M", "-b", "batch"]);
    sftp.arg(format!("{ROOT}@127.0.0.1"));
    let output = finished(sftp.spawn().unwrap());
    let complaint = said(&output.stderr);
    assert!(output.status.success(), "{complaint}");

    let rekeys = complaint.matches("SSH2_MSG_NEWKEYS received").count();
    assert!(rekeys >= mib, "keys changed {rekeys} times only");
    let session = world.newest_session();
    let id = session["id"].as_str().unwrap();
    world.ended_session(id);
    let sent = sha256(&up);
    assert_eq!(sha256(&there), sent);
    assert_eq!(sha256(&world.alice.folder.join("back.bin")), sent);
    for kind in ["file_upload", "file_download"] {
        let moved = world.operation(id, kind);
        assert_eq!(moved["sha256"], sent.as_str(), "{moved}");
        assert_eq!(moved["size_bytes"], mib * 1024 * 1024, "{moved}");
    }
    eventually("the recording holds what was moved", || {
        let verified = world.carol.attempt(&["recording", "verify", id]);
        (verified.code == 0).then_some(())
    });
    let recorded = world
        .carol
        .say(&["recording", "export", id, "--format", "transcript"]);
    assert!(recorded.matches(&sent).count() >= 2, "{recorded}");
}
