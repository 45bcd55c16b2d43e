//! Secrets on the screen: the person gets them, the recording does not.

use std::{collections::BTreeSet, process::Stdio};

use sallyport_core::{
    policy::{Constraint, RedactionRule},
    session::OperationKind,
};
use sallyport_evidence::recording::{ContainerReader, Opener, RecordingKey, TranscriptWriter};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::ChildStdout,
};

use super::world::{World, output, text, walk, within};
use crate::control::{PATIENCE, RECORDING_KEY};

/// A target on which keys, tokens and one pattern of our own are redacted.
async fn world() -> World {
    let named = |name: &str, pattern: Option<&str>| RedactionRule {
        name: name.to_owned(),
        pattern: pattern.map(str::to_owned),
    };
    let redact = BTreeSet::from([
        named("private_keys", None),
        named("tokens", None),
        named("acme-badge", Some("acme-[0-9]{6}")),
    ]);
    World::with(|rules| rules.constraints = vec![Constraint::Redact { rules: redact }]).await
}

/// Everything that was kept of the session: the recording's frames, its transcript, and the operations
/// that control was told.
async fn everything_kept(world: &World) -> String {
    let recorded = world.recorded().await;
    let files = walk(&world.path("gateway").join("recordings"));
    let bytes = std::fs::read(&files[0]).unwrap();
    let container = ContainerReader::open(&bytes[..]).unwrap();
    let mut opener = Opener::new(container, RecordingKey::new(RECORDING_KEY)).unwrap();
    let mut transcript = TranscriptWriter::new(Vec::new());
    while let Some(chunk) = opener.next_chunk().unwrap() {
        for frame in chunk.frames() {
            transcript.frame(&frame).unwrap();
        }
    }
    let transcript = text(&transcript.finish().unwrap());
    let told = world.control.told(|told| format!("{:?}", told.operations));
    format!(
        "{}\n{}\n{}\n{}\n{transcript}\n{told}",
        text(&recorded.input),
        text(&recorded.output),
        text(&recorded.error_output),
        recorded.events.join("\n")
    )
}

fn lines_of(key: &str) -> impl Iterator<Item = &str> {
    key.lines().filter(|line| !line.starts_with("-----"))
}

/// Reads until the terminal has shown `word`.
async fn until(out: &mut ChildStdout, shown: &mut Vec<u8>, word: &str) {
    while !text(shown).contains(word) {
        let read = out.read_buf(shown).await.unwrap();
        assert!(read > 0, "{}", text(shown));
    }
}

/// RE-8, R15: a private key printed by a command, whole and a piece at a time.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_private_key_printed_by_a_command_then_the_person_gets_it_and_nothing_kept_holds_it()
 {
    let world = world().await;
    let path = world.path("secret_key");
    let key = world.person.private_key.clone();
    std::fs::write(&path, &key).unwrap();
    let command = format!(
        "cat {0}; dd if={0} bs=7 2>/dev/null; echo ghp_{1} >&2; echo acme-123456 acme-12345",
        path.display(),
        "Ab1".repeat(12),
    );
    let ran = world.run(&[&command]).await;
    let shown = text(&ran.stdout);
    assert_eq!(
        shown.matches(key.trim_end()).count(),
        2,
        "{}",
        text(&ran.stderr)
    );
    assert!(shown.contains("acme-123456"));

    world.operations(OperationKind::Exec, 1).await;
    let kept = everything_kept(&world).await;
    for line in lines_of(&key) {
        assert!(!kept.contains(line), "{line}");
    }
    assert!(
        !kept.contains("ghp_Ab1") && !kept.contains("acme-123456"),
        "{kept}"
    );
    assert!(kept.contains("acme-12345"), "{kept}");
    for mark in [
        "rule: \"pem-private-key\"",
        "rule: \"github-token\"",
        "rule: \"acme-badge\"",
        "[redacted pem-private-key: ",
        "echo [redacted github-token: 40 bytes] >&2",
    ] {
        assert!(kept.contains(mark), "{mark}: {kept}");
    }
}

/// RE-8, R15, K6: the same at a terminal, where a password is typed without echo too.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_key_and_a_password_at_a_terminal_then_neither_is_kept_and_commands_are() {
    let world = world().await;
    let path = world.path("secret_key");
    let key = world.person.private_key.clone();
    std::fs::write(&path, &key).unwrap();
    let mut ssh = world
        .ssh(&["-tt"], &["sh"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = ssh.stdin.take().unwrap();
    let mut out = ssh.stdout.take().unwrap();
    let mut shown = Vec::new();
    within(PATIENCE, async {
        let ask = "stty -echo; printf 'Pass''word: '; read p; stty echo; echo got-$((40+2))\n";
        input.write_all(ask.as_bytes()).await.unwrap();
        until(&mut out, &mut shown, "Password: ").await;
        input.write_all(b"correct horse\n").await.unwrap();
        until(&mut out, &mut shown, "got-42").await;
        let print = format!("cat {}; echo end-$((40+2))\n", path.display());
        input.write_all(print.as_bytes()).await.unwrap();
        until(&mut out, &mut shown, "end-42").await;
        input.write_all(b"exit\n").await.unwrap();
        let mut rest = Vec::new();
        out.read_to_end(&mut rest).await.unwrap();
    })
    .await;
    drop(input);
    within(PATIENCE, ssh.wait()).await.unwrap();
    let shown = text(&shown).replace("\r\n", "\n");
    assert!(shown.contains(key.trim_end()), "{shown}");

    world.operations(OperationKind::TypedCommand, 2).await;
    let kept = everything_kept(&world).await;
    for line in lines_of(&key) {
        assert!(!kept.contains(line), "{line}");
    }
    assert!(!kept.contains("correct horse"), "{kept}");
    assert!(kept.contains("rule: \"not-echoed\", bytes: 13"), "{kept}");
    assert!(kept.contains("got-42") && kept.contains("end-42"), "{kept}");
    let print = format!("cat {}; echo end-$((40+2))", path.display());
    let typed = world.operations(OperationKind::TypedCommand, 2).await;
    assert!(
        typed.iter().any(|record| record.operation.detail == print),
        "{typed:?}"
    );
}

/// RE-14: without rules a session is recorded as it was, secrets included.
#[tokio::test(flavor = "multi_thread")]
async fn given_no_rules_then_content_is_recorded_as_it_passed() {
    let world = World::new().await;
    let token = format!("ghp_{}", "Ab1".repeat(12));
    let ran = output(&mut world.ssh(&[], &[&format!("echo {token}")])).await;
    assert_eq!(text(&ran.stdout).trim_end(), token);
    assert_eq!(text(&world.recorded().await.output).trim_end(), token);
}
