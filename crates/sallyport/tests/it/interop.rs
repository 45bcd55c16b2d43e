//! Programs of others that judge what ours speaks and writes: `ssh-audit` and `asciinema`.

use std::process::{Command, Stdio};

use crate::{
    clients::venv,
    node::{Node, Setup, finished},
    ssh::said,
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
    assert_eq!(remarks(&node), REMARKS);
}

/// GW-11: a gateway for clients of today offers nothing at all that could be remarked on. Who cannot do that is
/// told by their own client.
#[test]
fn given_a_gateway_that_is_post_quantum_when_ssh_audit_looks_then_it_is_clean() {
    let node = Node::with(Setup {
        gateway: "ssh_key_exchange = \"post-quantum\"".to_owned(),
        ..Setup::default()
    });
    assert_eq!(remarks(&node), Vec::<String>::new());
    let old = Command::new("ssh")
        .args(["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"])
        .args(["-o", "UserKnownHostsFile=/dev/null"])
        .args(["-o", "KexAlgorithms=curve25519-sha256"])
        .args(["-p", &node.ssh_port.to_string(), "root@web-1@127.0.0.1"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let complaint = said(&old.stderr);
    assert!(
        complaint.contains("no matching key exchange method"),
        "{complaint}"
    );
}

/// Each warning and failure that `ssh-audit` prints, without the place it stands at.
fn remarks(node: &Node) -> Vec<String> {
    let mut audit = Command::new(venv("ssh-audit"));
    audit
        .args(["--no-colors", "--skip-rate-test", "--verbose", "--port"])
        .args([&node.ssh_port.to_string(), "127.0.0.1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = finished(audit.spawn().unwrap());
    let report = said(&output.stdout);
    assert!(
        report.contains("(kex) mlkem768x25519-sha256"),
        "it did not see the gateway: {report}"
    );
    report
        .lines()
        .filter(|line| line.contains("[fail]") || line.contains("[warn]"))
        .map(str::to_owned)
        .collect()
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
