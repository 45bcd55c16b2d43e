//! Commands and shells: what goes in reaches the target, what comes out reaches the person, and both
//! stand in the recording.

use std::process::Stdio;

use sallyport_core::session::{EndReason, OperationKind, OperationOutcome};
use tokio::io::AsyncWriteExt as _;

use super::world::{World, output, text, within};
use crate::control::PATIENCE;

/// GW-1, GW-11, RE-12
#[tokio::test(flavor = "multi_thread")]
async fn a_command_runs_with_its_output_and_exit_status_and_is_on_record() {
    let world = World::new().await;
    let ran = world.run(&["echo out; echo err >&2; exit 7"]).await;
    assert_eq!(text(&ran.stdout), "out\n", "{}", text(&ran.stderr));
    assert_eq!(text(&ran.stderr), "err\n");
    assert_eq!(ran.status.code(), Some(7));

    let records = world.operations(OperationKind::Exec, 1).await;
    assert_eq!(
        records[0].operation.detail,
        "echo out; echo err >&2; exit 7"
    );
    assert_eq!(records[0].outcome, OperationOutcome::Completed);
    assert_eq!(records[0].exit_status, Some(7));

    let recorded = world.recorded().await;
    assert_eq!(text(&recorded.output), "out\n");
    assert_eq!(text(&recorded.error_output), "err\n");
    assert!(recorded.has_event("ExitStatus(7)"), "{recorded:?}");
    let reason = world.control.told(|told| told.closed[0].reason);
    assert_eq!(reason, EndReason::ClientClosed);
}

/// K1: bytes at the target = bytes recorded, both ways, with half-close.
#[tokio::test(flavor = "multi_thread")]
async fn a_mebibyte_goes_both_ways_and_is_recorded_byte_for_byte() {
    let world = World::new().await;
    let sent: Vec<u8> = (0..1024 * 1024_u32).map(|n| (n * 31 % 251) as u8).collect();
    let mut ssh = world
        .ssh(&[], &["cat"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = ssh.stdin.take().unwrap();
    let writing = async {
        input.write_all(&sent).await.unwrap();
        drop(input);
    };
    let (ran, ()) = tokio::join!(
        tokio::time::timeout(PATIENCE, ssh.wait_with_output()),
        writing
    );
    let ran = ran.unwrap().unwrap();
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    assert!(ran.stdout == sent, "{} bytes came back", ran.stdout.len());
    let recorded = world.recorded().await;
    assert!(recorded.input == sent, "{} bytes in", recorded.input.len());
    assert!(
        recorded.output == sent,
        "{} bytes out",
        recorded.output.len()
    );
}

/// GW-1, RE-1, RE-2
#[tokio::test(flavor = "multi_thread")]
async fn a_shell_under_a_terminal_is_recorded_with_its_size_and_what_was_typed() {
    let world = World::with(|rules| {
        rules.notice = "everything you do here is recorded".to_owned();
    })
    .await;
    let mut ssh = world
        .ssh(&["-tt"], &[])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = ssh.stdin.take().unwrap();
    input
        .write_all(b"stty size; echo typed-$((40+2))\nexit 3\n")
        .await
        .unwrap();
    let ran = tokio::time::timeout(PATIENCE, ssh.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    drop(input);
    assert!(text(&ran.stdout).contains("typed-42"), "{ran:?}");
    assert!(
        text(&ran.stderr).contains("everything you do here is recorded\r\n"),
        "{ran:?}"
    );
    assert_eq!(ran.status.code(), Some(3));
    world.operations(OperationKind::Shell, 1).await;
    let recorded = world.recorded().await;
    assert!(recorded.has_event("Pty"), "{:?}", recorded.events);
    // A target that answers late is taken for one that does not show what is typed.
    let is_masked = recorded.has_event("not-echoed");
    assert!(is_masked || text(&recorded.input).contains("echo typed"));
    assert!(text(&recorded.output).contains("typed-42"));
}

/// GW-1, F4
#[tokio::test(flavor = "multi_thread")]
async fn language_passes_and_other_environment_does_not() {
    let world = World::new().await;
    let ran = output(
        world
            .ssh(
                &["-o", "SendEnv=LC_TIME BASH_ENV LANGUAGE"],
                &["env | grep -E '^(LC_TIME|BASH_ENV|LANGUAGE)=' | sort"],
            )
            .env("LC_TIME", "de_DE.UTF-8")
            .env("BASH_ENV", "/tmp/evil")
            .env("LANGUAGE", "de"),
    )
    .await;
    assert_eq!(text(&ran.stdout), "LC_TIME=de_DE.UTF-8\n", "{ran:?}");
}

/// F1: keys are exchanged again in the middle of a stream, by the client and by the target, and no
/// byte is lost or recorded twice.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_survive_many_key_exchanges_on_both_sides() {
    let settings = vec!["RekeyLimit 1M".to_owned()];
    let world = World::with_target(settings, |_| {}).await;
    let sent: Vec<u8> = (0..8 * 1024 * 1024_u32)
        .map(|n| (n * 17 % 253) as u8)
        .collect();
    let mut ssh = world
        .ssh(&["-o", "RekeyLimit=1M"], &["cat"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = ssh.stdin.take().unwrap();
    let writing = async {
        input.write_all(&sent).await.unwrap();
        drop(input);
    };
    let (ran, ()) = within(PATIENCE, async {
        tokio::join!(ssh.wait_with_output(), writing)
    })
    .await;
    assert!(ran.unwrap().stdout == sent);
    let recorded = world.recorded().await;
    assert!(recorded.input == sent);
    assert!(recorded.output == sent);
}
