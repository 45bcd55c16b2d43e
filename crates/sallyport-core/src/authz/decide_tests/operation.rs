//! What is asked again within a session: commands, files, features, statements.

use super::*;

/// PO-3
#[test]
fn an_operation_without_a_grant_or_without_a_description_is_denied() {
    let mut without_grant = question(Action::OperationRun);
    without_grant.grant = None;
    assert_eq!(
        denied(&Policies::permitting(), &without_grant),
        Reason::GrantNotLive
    );
    let mut undescribed = question(Action::OperationRun);
    undescribed.operation = None;
    assert_eq!(
        denied(&Policies::permitting(), &undescribed),
        Reason::GrantNotLive
    );
}

/// PO-3: what cannot be recorded whole is not decided by its beginning.
#[test]
fn an_operation_too_long_to_record_is_denied_not_cut() {
    let mut question = question(Action::OperationRun);
    question.operation.as_mut().unwrap().detail = "x".repeat(OPERATION_DETAIL_BYTES_MAX);
    permitted(&Policies::permitting(), &question);
    question.operation.as_mut().unwrap().detail.push('x');
    assert_eq!(
        denied(&Policies::permitting(), &question),
        Reason::OperationTooLong
    );
}

/// PO-3: the sign-in was checked when the session opened; nobody is asked at each keystroke.
#[test]
fn an_operation_does_not_ask_for_a_fresh_sign_in() {
    let required = mfa(AuthenticationStrength::PhishingResistant, Some(1));
    let policies = Policies::requiring(vec![required]);
    let mut question = question(Action::OperationRun);
    question.now = at(1_800);
    permitted(&policies, &question);
}

/// PO-2, PO-3
#[test]
fn files_move_only_in_the_directions_that_policy_leaves_open() {
    use OperationKind::{Exec, FileChange, FileDownload, FileUpload, Shell};
    for (up, down, refused) in [
        (true, true, vec![]),
        (true, false, vec![(FileDownload, Reason::DownloadRefused)]),
        (
            false,
            true,
            vec![
                (FileUpload, Reason::UploadRefused),
                (FileChange, Reason::UploadRefused),
            ],
        ),
        (
            false,
            false,
            vec![
                (FileUpload, Reason::UploadRefused),
                (FileChange, Reason::UploadRefused),
                (FileDownload, Reason::DownloadRefused),
            ],
        ),
    ] {
        let policies = Policies::limiting(Constraint::FileTransfer { up, down });
        for kind in [Exec, FileChange, FileDownload, FileUpload, Shell] {
            let mut question = question(Action::OperationRun);
            question.operation.as_mut().unwrap().kind = kind;
            let expected = refused.iter().find(|(other, _)| *other == kind);
            match expected {
                Some((_, reason)) => assert_eq!(denied(&policies, &question), *reason),
                None => drop(permitted(&policies, &question)),
            }
        }
    }
}

/// PO-3
#[test]
fn an_operation_is_decided_on_the_facts_of_its_session() {
    let session = question(Action::SessionOpen);
    let operation = Operation {
        kind: OperationKind::Exec,
        detail: "uptime".into(),
        facts: None,
    };
    let asked = session.about_operation(operation.clone(), at(5));
    assert_eq!(asked.action, Action::OperationRun);
    assert_eq!(asked.now, at(5));
    assert_eq!(asked.operation, Some(operation));
    assert_eq!(asked.grant, session.grant);
    permitted(&Policies::permitting(), &asked);
}

/// PO-3: what only the other action permits is not let in by asking under that one.
#[test]
fn an_operation_asked_about_under_another_action_is_refused() {
    for (kind, action) in [
        (OperationKind::ForwardLocal, Action::OperationRun),
        (OperationKind::Exec, Action::FeatureUse),
    ] {
        let mut question = question(action);
        question.operation = Some(Operation {
            kind,
            detail: "db-1:5432".into(),
            facts: None,
        });
        assert_eq!(
            denied(&Policies::permitting(), &question),
            Reason::FeatureRefused
        );
    }
}

/// PO-3: two sessions are told from each other by every fact, and what an operation brings itself is none.
#[test]
fn the_digest_of_a_session_changes_with_every_fact_of_it_and_with_nothing_else() {
    let digest = |edit: fn(&mut Question)| {
        let mut question = question(Action::SessionOpen);
        edit(&mut question);
        *SessionQuestion::new(&question).digest().unwrap()
    };
    let base = digest(|_| {});
    let edits: [fn(&mut Question); 10] = [
        |q| q.principal.groups.push("sre".into()),
        |q| q.principal.name = "bob".parse().unwrap(),
        |q| q.authentication.strength = AuthenticationStrength::SingleFactor,
        |q| q.authentication.at = at(5),
        |q| q.network.ip = "192.0.2.11".parse().unwrap(),
        |q| drop(q.target.labels.insert("env".into(), "prod".into())),
        |q| q.account.name = "app".parse().unwrap(),
        |q| q.grant = None,
        |q| q.locks.push(lock(LockScope::Everything)),
        |q| q.history.open_reviews = 1,
    ];
    for (place, edit) in edits.into_iter().enumerate() {
        assert_ne!(digest(edit), base, "edit {place}");
    }
    assert_eq!(digest(|q| q.action = Action::OperationRun), base);
    assert_eq!(digest(|q| q.now = at(7)), base);
}

/// GW-1, F4: nobody gets a forwarding or another subsystem under the permission to run things.
#[test]
fn forwarding_other_subsystems_and_environment_are_features_and_the_rest_is_not() {
    let action = |kind, detail: &str| {
        let detail = detail.to_owned();
        Operation {
            kind,
            detail,
            facts: None,
        }
        .action()
    };
    for kind in OperationKind::ALL {
        let expected = match kind {
            OperationKind::ForwardLocal
            | OperationKind::ForwardLocalSocket
            | OperationKind::ForwardRemote
            | OperationKind::ForwardRemoteSocket
            | OperationKind::ForwardAgent
            | OperationKind::Environment
            | OperationKind::Subsystem
            | OperationKind::FunctionCall
            | OperationKind::Replication
            | OperationKind::LocalFile
            | OperationKind::Unsupported => Action::FeatureUse,
            _ => Action::OperationRun,
        };
        assert_eq!(action(kind, "anything"), expected, "{kind:?}");
    }
    let sftp = action(OperationKind::Subsystem, "sftp");
    assert_eq!(sftp, Action::OperationRun);
}

fn command_rule(count: u64, from: Option<&str>, within_s: u64, pattern: &str) -> Requirement {
    Requirement::CommandApproval(crate::policy::CommandRule {
        count,
        from: from.map(str::to_owned),
        within_s,
        allows_unknown_prompt: false,
        allows_full_screen: false,
        patterns: vec![pattern.parse().unwrap()],
    })
}

fn about(kind: OperationKind, detail: &str) -> Question {
    let mut question = question(Action::OperationRun);
    question.operation = Some(crate::session::Operation {
        kind,
        detail: detail.to_owned(),
        facts: None,
    });
    question
}

/// PO-2, E3: a command that matches waits, of each group the most votes, of all times the shortest.
#[test]
fn a_command_that_matches_waits_for_the_strictest_of_what_is_demanded() {
    let policies = Policies::requiring(vec![
        command_rule(1, None, 600, "rm *"),
        command_rule(2, None, 300, "*srv*"),
        command_rule(1, Some("sre"), 900, "rm *"),
        command_rule(9, None, 60, "shutdown*"),
    ]);
    for kind in [OperationKind::Exec, OperationKind::TypedCommand] {
        let unmet = missing(&policies, &about(kind, "rm -rf /srv"));
        let quorum = |count, from: Option<&str>| Quorum {
            count,
            from: from.map(str::to_owned),
        };
        let [Unmet::CommandApproval(terms)] = unmet.as_slice() else {
            panic!("{unmet:?}");
        };
        assert_eq!(terms.within_s, 300);
        assert_eq!(terms.quorums.len(), 2);
        assert!(terms.quorums.contains(&quorum(2, None)), "{terms:?}");
        assert!(terms.quorums.contains(&quorum(1, Some("sre"))), "{terms:?}");
        permitted(&policies, &about(kind, "ls"));
    }
}

/// PO-2: what is no command waits for nobody, and a shell says what may not be typed in it.
#[test]
fn only_commands_wait_and_a_shell_carries_the_rules_for_what_is_typed_in_it() {
    let policies = Policies::requiring(vec![command_rule(1, None, 600, "*")]);
    permitted(&policies, &question(Action::SessionOpen));
    for kind in OperationKind::ALL {
        let is_command = matches!(
            kind,
            OperationKind::Exec | OperationKind::TypedCommand | OperationKind::Statement
        );
        let decision = decide(&policies, &about(kind, "x"));
        match decision {
            Decision::Permit(_) => assert!(!is_command, "{kind:?} did not wait"),
            Decision::Challenge { .. } => assert!(is_command, "{kind:?} waits"),
            // Features that no policy names are refused, and wait for nobody.
            Decision::Deny { reasons, .. } => {
                assert_eq!(reasons, [Reason::FeatureRefused], "{kind:?}");
            }
        }
    }
    let found = terminal_rules(&policies, &question(Action::SessionOpen)).unwrap();
    assert_eq!(found.rules.len(), 1);
    assert!(terminal_rules(&Policies::failing(), &question(Action::SessionOpen)).is_err());
}
