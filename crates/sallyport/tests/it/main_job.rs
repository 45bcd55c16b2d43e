//! The main job, end to end.

use std::fs;

use sallyport_testkit::targets::postgres::Postgres;

use crate::{
    node::Setup,
    ssh::{REASON, said},
    waiting::eventually,
    world::{ROOT, World},
};

/// AC-1, AC-3, AC-4, GW-1, GW-11, RE-1, RE-2, RE-12, AU-1, VA-3: told what is missing, asked in band,
/// approved by a second person from the command line, in on the same connection, everything on record.
fn main_job(world: &World) {
    let ssh = world.ssh();
    let mut live = ssh.start_with(&["-tt"], ROOT, "");

    let request = world.pending();
    assert_eq!(request["requester"], "alice");
    assert_eq!(request["reason"], REASON);
    assert_eq!(request["approvals_missing"], 1);
    assert!(ssh.asked().contains("Reason:"), "{}", ssh.asked());
    assert_eq!(
        world.sshd.connections(),
        0,
        "the target was reached without a grant"
    );
    let granted = world.approve_next();
    assert_eq!(granted["state"], "granted");

    live.type_line("echo I am $(id -un), $((6 * 7))");
    live.until_line("I am root, 42");
    live.type_line("exit 7");
    let (status, complaint) = live.end();
    assert_eq!(status.code(), Some(7), "{complaint}");
    let request_id = request["id"].as_str().unwrap();
    assert!(complaint.contains(request_id), "{complaint}");
    assert!(
        complaint.contains("needs"),
        "told nothing of what is missing: {complaint}"
    );

    let session = world.ended_session(world.newest_session()["id"].as_str().unwrap());
    let id = session["id"].as_str().unwrap();
    assert_eq!(session["grant_id"], granted["grant_id"]);
    let typed = world.operation(id, "typed_command");
    assert!(
        typed["detail"].as_str().unwrap().contains("6 * 7"),
        "{typed}"
    );

    let verified = world.carol.json(&["recording", "verify", id]);
    assert_eq!(verified["is_verified"], true, "{verified}");
    assert_eq!(verified["is_complete"], true, "{verified}");
    let transcript = world
        .carol
        .say(&["recording", "export", id, "--format", "transcript"]);
    assert!(transcript.contains("I am root, 42"), "{transcript}");
    let cast = world
        .carol
        .say(&["recording", "export", id, "--format", "asciicast-v2"]);
    assert!(
        cast.starts_with("{\"") && cast.contains("I am root, 42"),
        "{cast}"
    );

    for noun in ["session", "recording"] {
        let listed = world.carol.say(&[noun, "list"]);
        assert_eq!(listed.lines().count(), 2, "{listed}");
    }

    world.until_no_lease();
    let folder = world.verified_export();
    let log = fs::read_to_string(folder.join("entries.jsonl")).unwrap();
    for event in [
        "request.created",
        "request.approved",
        "grant.opened",
        "session.opened",
        "lease.issued",
        "operation.recorded",
        "recording.completed",
        "session.ended",
        "lease.revoked",
    ] {
        assert!(
            log.contains(&format!("\"event\":\"{event}\"")),
            "no {event}"
        );
    }
}

#[test]
fn a_person_with_nothing_but_a_key_is_let_in_on_the_same_connection() {
    main_job(&World::new());
}

/// OP-1: the same story with the other store.
#[test]
fn the_main_job_is_done_on_postgresql_as_well() {
    let postgres = Postgres::start().unwrap();
    let url = postgres.create_database("sallyport").unwrap();
    let shelf = tempfile::tempdir().unwrap();
    let url_file = shelf.path().join("url");
    fs::write(&url_file, url).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&url_file, mode).unwrap();
    main_job(&World::with(Setup {
        store: format!("postgres_url_file = \"{}\"", url_file.display()),
        ..Setup::default()
    }));
}

/// GW-1, GW-13, RE-14: files by scp and sftp, both ways, with the hashes of what was moved.
#[test]
fn files_moved_by_scp_and_sftp_are_in_the_evidence_with_their_hashes() {
    let world = World::new();
    world.grant(ROOT, "1h");
    let ssh = world.ssh();
    let content: Vec<u8> = (0..200_003_u32)
        .flat_map(|n| n.wrapping_mul(n).to_le_bytes())
        .collect();
    let up = world.alice.folder.join("up.bin");
    let back = world.alice.folder.join("back.bin");
    let there = world
        .sshd
        .directory()
        .join("there.bin")
        .display()
        .to_string();
    fs::write(&up, &content).unwrap();

    let remote = format!("{ROOT}@127.0.0.1:{there}");
    for (program, words, input) in [
        ("scp", vec!["-q", "up.bin", &remote], String::new()),
        ("scp", vec!["-q", "-O", &remote, "back.bin"], String::new()),
        (
            "sftp",
            vec!["-q", "-b", "-", "root@web-1@127.0.0.1"],
            format!("put up.bin {there}\nget {there} back.bin\n"),
        ),
    ] {
        let _ = fs::remove_file(&back);
        let output = ssh.run_program(program, &words, &input);
        assert!(
            output.status.success(),
            "{program}: {}",
            said(&output.stderr)
        );
        assert_eq!(fs::read(&there).unwrap(), content, "{program}");
        let session = world.ended_session(world.newest_session()["id"].as_str().unwrap());
        let id = session["id"].as_str().unwrap();
        let kinds: &[&str] = match (program, words.contains(&"-O")) {
            ("scp", false) => &["file_upload"],
            ("scp", true) => &["file_download"],
            _ => &["file_upload", "file_download"],
        };
        for kind in kinds {
            let moved = world.operation(id, kind);
            assert_eq!(moved["sha256"], sha256(&up), "{program} {kind}");
            assert_eq!(moved["size_bytes"], content.len(), "{program} {kind}");
            assert_eq!(moved["outcome"], "completed", "{program} {kind}");
            assert!(
                moved["detail"].as_str().unwrap().contains("there.bin"),
                "{moved}"
            );
        }
        if kinds.contains(&"file_download") {
            assert_eq!(fs::read(&back).unwrap(), content, "{program}");
        }
    }
}

fn sha256(path: &std::path::Path) -> String {
    let output = std::process::Command::new("sha256sum")
        .arg(path)
        .output()
        .unwrap();
    said(&output.stdout).split(' ').next().unwrap().to_owned()
}

/// ID-5, PO-2: a critical target wants a second factor and two people; each is told what is left.
#[test]
fn a_critical_target_takes_a_second_factor_and_two_approvals() {
    let world = World::new();
    world.add_target("ca-1", "critical");
    world
        .olga
        .say(&["account", "create", "root@ca-1", "--engine", "ssh_ca"]);
    let made = world
        .olga
        .json(&["person", "create", "dave", "--role", "approver"]);
    let dave = crate::person::Person::enrol(&world.node, "dave", made["code"].as_str().unwrap());

    let ssh = world.ssh().with_code(world.alice.code());
    let live = ssh.start("root@ca-1", "echo in; id -un");
    let request = world.pending();
    let id = request["id"].as_str().unwrap();
    assert!(ssh.asked().contains("code:"), "{}", ssh.asked());
    assert_eq!(request["approvals_missing"], 2);
    assert_eq!(world.approve_next()["approvals_missing"], 1);
    let again = world.bob.attempt(&["request", "approve", id, "--yes"]);
    assert_eq!(again.code, 1, "one person voted twice: {again:?}");
    let own = world.alice.attempt(&["request", "approve", id, "--yes"]);
    assert_eq!(own.code, 1, "she approved her own request: {own:?}");
    dave.say(&["request", "approve", id, "--yes"]);
    live.until_line("in");
    assert_eq!(live.until_line("root"), "root");
    let (status, complaint) = live.end();
    assert!(status.success(), "{complaint}");
}

/// ID-5: a sign-in certificate proves the person with both factors; nothing is asked for again.
#[test]
fn a_certificate_from_login_is_a_second_factor_at_the_gateway() {
    let world = World::new();
    world.add_target("db-1", "high");
    world
        .olga
        .say(&["account", "create", "root@db-1", "--engine", "ssh_ca"]);
    // Not registered: only the certificate says whose key it is.
    let key = world.alice.make_key("certified");
    let written = world
        .alice
        .sign_in(&["--ssh-key", &key.display().to_string()]);
    let certificate = written["ssh_certificate"].as_str().unwrap();
    assert_eq!(certificate, format!("{}-cert.pub", key.display()));
    // What was written is all that a stock client needs, and it believes no key on first sight.
    let config = written["ssh_config"].as_str().unwrap();
    world.grant("root@db-1", "1h");
    let output = std::process::Command::new("ssh")
        .args([
            "-F",
            config,
            "-o",
            "BatchMode=yes",
            "root@db-1@127.0.0.1",
            "id -un",
        ])
        .env_remove("SSH_AUTH_SOCK")
        .env("HOME", &world.alice.folder)
        .output()
        .unwrap();
    assert_eq!(said(&output.stdout), "root\n", "{}", said(&output.stderr));

    let ssh = crate::ssh::Ssh::new(&world.node, &world.alice, &key);
    let output = ssh.run("root@db-1", "id -un");
    assert!(output.status.success(), "{}", said(&output.stderr));
    assert_eq!(said(&output.stdout), "root\n");
    assert_eq!(ssh.asked(), "", "asked for what the certificate proves");

    world.alice.say(&["logout"]);
    assert!(
        !std::path::Path::new(certificate).exists(),
        "left after signing out"
    );
    let output = ssh.run("root@db-1", "id -un");
    assert!(!output.status.success(), "in without a certificate");
}

/// PO-3, RE-2: a command that policy forbids is refused with its reason and never reaches the target.
#[test]
fn a_forbidden_command_is_refused_with_its_reason_and_the_session_goes_on() {
    let world = World::new();
    world.grant(ROOT, "1h");
    let output = world.ssh().run(ROOT, "rm -rf / --no-preserve-root");
    assert_eq!(output.status.code(), Some(126));
    assert!(
        said(&output.stderr).contains("(forbidden)"),
        "{}",
        said(&output.stderr)
    );
    let id = world.newest_session()["id"].as_str().unwrap().to_owned();
    let refused = world.operation(&id, "exec");
    assert_eq!(refused["outcome"], "refused");
    assert_eq!(refused["reason"], "forbidden");
    let allowed = world.ssh().run(ROOT, "echo still here");
    assert_eq!(said(&allowed.stdout), "still here\n");
}

/// RE-1, security K5: a recording is played in a terminal, and nothing the target sent to hers acts on
/// the terminal of whoever plays it.
#[test]
fn a_recording_is_played_in_a_terminal_without_obeying_it() {
    let world = World::new();
    world.grant(ROOT, "1h");
    let mut live = world.ssh().start_with(&["-tt"], ROOT, "");
    live.type_line(r"printf '\033]52;c;ZXZpbA==\007\033[6n\033]0;owned\007shown-\033[31m%s\n' red");
    live.until_line("shown-");
    live.type_line("exit");
    let (status, complaint) = live.end();
    assert!(status.success(), "{complaint}");
    let id = world.newest_session()["id"].as_str().unwrap().to_owned();
    world.ended_session(&id);

    let playing = in_terminal(&world.carol, &["recording", "play", &id, "--speed", "100"]);
    let played = said(&crate::node::finished(playing).stdout);
    assert!(played.contains("shown-"), "{played:?}");
    assert!(
        played.contains("\u{1b}[0;38;5;1mred"),
        "no colour: {played:?}"
    );
    for sequence in ["\u{1b}]52", "\u{1b}[6n", "\u{1b}]0;"] {
        assert!(!played.contains(sequence), "{sequence:?} in {played:?}");
    }
    let piped = world.carol.attempt(&["recording", "play", &id]);
    assert_eq!(piped.code, 2, "played into a pipe: {piped:?}");
}

/// Starts a command of a person's in a terminal; what is written there comes out of its standard output.
fn in_terminal(person: &crate::person::Person, words: &[&str]) -> std::process::Child {
    let inner = person.command(words);
    let command = [crate::node::BINARY]
        .into_iter()
        .chain(words.iter().copied())
        .collect::<Vec<_>>()
        .join(" ");
    let mut script = std::process::Command::new("script");
    script.args(["-q", "-e", "-c", &command, "/dev/null"]);
    for (name, value) in inner.get_envs() {
        script.env(name, value.unwrap());
    }
    script
        .env("TERM", "xterm")
        .current_dir(&person.folder)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap()
}

/// RE-13 (first part): a live session is watched by somebody who may, until it ends.
#[test]
fn a_live_session_can_be_watched_until_it_ends() {
    let world = World::new();
    world.grant(ROOT, "1h");
    let mut live = world.ssh().start_with(&["-tt"], ROOT, "");
    live.type_line("echo early-$((1 + 1))");
    live.until_line("early-2");
    let session = world.live_session();
    let id = session["id"].as_str().unwrap();
    let watching = in_terminal(&world.carol, &["session", "watch", id]);
    eventually("the watch is on record", || {
        (!world.events("recording.played").is_empty()).then_some(())
    });
    live.type_line("echo late-$((2 + 2))");
    live.until_line("late-4");
    live.type_line("exit");
    let watched = said(&crate::node::finished(watching).stdout);
    assert!(
        watched.contains("early-2") && watched.contains("late-4"),
        "{watched:?}"
    );
}

/// RE-13 (first part): what is recorded can be read while the session still runs.
#[test]
fn a_live_recording_can_be_read() {
    let world = World::new();
    world.grant(ROOT, "1h");
    let mut live = world.ssh().start_with(&["-tt"], ROOT, "");
    live.type_line("echo first-$((1 + 1))");
    live.until_line("first-2");
    let session = world.live_session();
    let recording = session["recording_id"].as_str().unwrap();
    let seen = eventually("what was shown is in the recording", || {
        Some(
            world
                .carol
                .attempt(&["recording", "export", recording, "--format", "asciicast-v3"]),
        )
        .filter(|ended| ended.code == 0 && ended.stdout.contains("first-2"))
    });
    assert!(seen.stdout.starts_with("{\""));
    let plays = world.events("recording.played");
    assert!(!plays.is_empty(), "somebody looked and it is not on record");
}
