//! What people read who are not let in, or may not do what they ask for: reason, remedy, reference,
//! in any stock client, without a prompt.

use sallyport_core::{
    authz::Reason,
    session::{OperationKind, OperationOutcome},
};

use super::world::{World, output, text};
use crate::control::PERMIT_ALL;

/// PO-9: a refused person is told why, in batch mode too.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_person_reads_reason_remedy_and_reference_and_the_target_hears_nothing() {
    let world = World::with(|rules| rules.refuses = Some(Reason::NotPermitted)).await;
    let ran = world.run(&["true"]).await;
    let told = text(&ran.stderr);
    assert_eq!(ran.status.code(), Some(126), "{told}");
    for part in [
        "root@web-1",
        "(not-permitted)",
        Reason::NotPermitted.remedy(),
        "ses_of_the_test",
    ] {
        assert!(told.contains(part), "{part:?} is missing: {told}");
    }
    assert_eq!(world.sshd.connections(), 0);

    let copied = output(
        world
            .client("scp")
            .args(["known_hosts", &world.remote("/tmp/never")]),
    )
    .await;
    assert!(
        text(&copied.stderr).contains("(not-permitted)"),
        "{copied:?}"
    );
}

/// PO-3, GW-1: a refused command never reaches the target, the session goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_command_is_on_record_and_never_reaches_the_target() {
    let policy = format!(
        r#"{PERMIT_ALL}
        @id("no-touch") forbid (principal, action == Action::"operation.run", resource)
        when {{ context.operation.kind == OperationKind::"exec" && context.operation.detail like "touch *" }};
        @id("no-shell") forbid (principal, action == Action::"operation.run", resource)
        when {{ context.operation.kind == OperationKind::"shell" }};"#
    );
    let world = World::with(move |rules| rules.bundle = policy).await;
    let far = world.sshd.directory().join("never");
    let command = format!("touch {}", far.display());
    let ran = world.run(&[&command]).await;
    assert_eq!(ran.status.code(), Some(126));
    assert!(text(&ran.stderr).contains("(forbidden)"), "{ran:?}");
    assert!(!far.exists());
    assert_eq!(world.sshd.connections(), 0);
    let records = world.operations(OperationKind::Exec, 1).await;
    assert_eq!(records[0].outcome, OperationOutcome::Refused);
    assert_eq!(records[0].operation.detail, command);
    assert_eq!(records[0].reason.as_deref(), Some("forbidden"));

    let shell = output(&mut world.ssh(&["-tt"], &[])).await;
    assert_eq!(shell.status.code(), Some(126));
    assert!(text(&shell.stderr).contains("(forbidden)"), "{shell:?}");
    let fine = world.run(&["echo", "fine"]).await;
    assert_eq!(text(&fine.stdout), "fine\n");
}

/// A selector that cannot be read is explained to whoever proved a key.
#[tokio::test(flavor = "multi_thread")]
async fn a_selector_that_cannot_be_read_is_explained() {
    let world = World::new().await;
    for selector in ["root", "root@web-1@x", ".root@web-1", "a:b:c@web-1"] {
        let ran = output(&mut world.ssh_as(selector, &[], &["true"])).await;
        let told = text(&ran.stderr);
        assert!(told.contains("(selector-invalid)"), "{selector}: {told}");
        assert_eq!(ran.status.code(), Some(126));
    }
    assert!(world.control.told(|told| told.opens.is_empty()));
}

/// A4: an unknown key, and a key of somebody else than the selector names, get the same nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_person_learns_nothing() {
    let world = World::with(|rules| {
        rules.keys.clear();
    })
    .await;
    let unknown = world.run(&["true"]).await;
    world.control.rule(|rules| {
        let key = world.person.public_key.clone();
        rules.keys.insert(key, "alice".parse().unwrap());
    });
    let other = output(&mut world.ssh_as("bob:root@web-1", &[], &["true"])).await;
    for ran in [&unknown, &other] {
        assert_eq!(ran.status.code(), Some(255));
        assert!(text(&ran.stderr).contains("Permission denied (publickey,keyboard-interactive)"));
    }
    assert!(world.control.told(|told| told.opens.is_empty()));
}
