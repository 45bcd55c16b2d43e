//! The end of a session: within a second, whatever it is doing, and the person is told why.

use std::process::Stdio;

use sallyport_core::session::{EndReason, OperationKind, OperationOutcome};
use tokio::io::AsyncReadExt as _;

use super::world::{PROMPTLY, World, text, within};
use crate::control::PATIENCE;

/// GW-12, AC-6
#[tokio::test(flavor = "multi_thread")]
async fn an_ended_session_stops_mid_output_and_says_why() {
    let world = World::new().await;
    let mut ssh = world.ssh(&[], &["cat /dev/zero"]).spawn().unwrap();
    let mut stdout = ssh.stdout.take().unwrap();
    let mut first = vec![0; 1024 * 1024];
    within(PATIENCE, stdout.read_exact(&mut first))
        .await
        .unwrap();
    let reading = async {
        let mut rest = vec![0; 1024 * 1024];
        while stdout.read(&mut rest).await.unwrap() > 0 {}
    };
    let ending = async {
        world
            .control
            .end_session(EndReason::GrantEnded, "\u{1b}[31mticket closed")
            .await;
    };
    let (ran, (), ()) = within(PROMPTLY, async {
        tokio::join!(ssh.wait_with_output(), reading, ending)
    })
    .await;
    let ran = ran.unwrap();
    let told = text(&ran.stderr);
    assert!(told.contains("(grant-ended)"), "{told}");
    assert!(told.contains("ticket closed"), "{told}");
    assert!(!told.contains('\u{1b}'), "{told}");
    assert_eq!(ran.status.code(), Some(255));
    let records = world.operations(OperationKind::Exec, 1).await;
    assert_eq!(records[0].outcome, OperationOutcome::Interrupted);
    let recorded = world.recorded().await;
    assert!(recorded.output.len() >= first.len());
    let reason = world.control.told(|told| told.closed[0].reason);
    assert_eq!(reason, EndReason::GrantEnded);
}

/// GW-12: an idle shell, and a client that reads nothing, end as promptly.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_shell_and_a_client_that_does_not_read_end_too() {
    for command in ["exec sleep 600", "cat /dev/zero"] {
        let world = World::new().await;
        let mut ssh = world
            .ssh(&["-tt"], &[command])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        world
            .control
            .until(|told| (!told.opens.is_empty()).then_some(()))
            .await;
        // The end may come before or after the command has begun; both must be cut.
        within(PROMPTLY, async {
            world.control.end_session(EndReason::Locked, "").await;
            world
                .control
                .until(|told| told.closed.first().map(|_| ()))
                .await;
        })
        .await;
        let reason = world.control.told(|told| told.closed[0].reason);
        assert_eq!(reason, EndReason::Locked);
        ssh.kill().await.unwrap();
    }
}
