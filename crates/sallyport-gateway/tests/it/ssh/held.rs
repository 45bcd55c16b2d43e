//! Commands that wait for other people: nothing of them reaches the target before they are released.

use std::{
    process::{Output, Stdio},
    time::Duration,
};

use sallyport_api::gateway::{HeldProgress, Keystrokes, Push};
use sallyport_core::{
    authz::Reason,
    id::{PersonId, WatcherId},
    policy::{Constraint, RedactionRule},
    session::{EndReason, OperationKind, OperationOutcome, oversight::Watcher},
    time::Timestamp,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdin, ChildStdout},
};

use super::world::{PROMPTLY, World, output, text, within};
use crate::control::PATIENCE;

/// Files made and removed wait for one person.
const HOLD_TOUCH: &str =
    r#"@id("hold") @command_approval("1: touch * | rm *") permit (principal, action, resource);"#;

async fn world() -> World {
    World::with(|rules| rules.require = HOLD_TOUCH.to_owned()).await
}

pub(super) fn released() -> HeldProgress {
    HeldProgress::Released {
        approved_by: vec!["bob".parse().unwrap()],
    }
}

pub(super) fn denied() -> HeldProgress {
    HeldProgress::Refused {
        reason: Reason::CommandDenied,
        comment: "not on\u{1b}[2J Friday".to_owned(),
    }
}

/// E2, RE-2: held, released by another, then run with its output on the same connection.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_held_command_when_it_is_released_then_it_runs_on_the_same_connection() {
    let world = world().await;
    let mark = world.path("mark");
    let command = format!("touch {}; cat", mark.display());
    let mut ssh = world
        .ssh(&[], &[&command])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = ssh.stdin.take().unwrap();
    input.write_all(b"sent while it waited").await.unwrap();
    drop(input);

    let held = world.control.until(|told| told.held.first().cloned()).await;
    assert_eq!(held.operation.detail, command);
    assert_eq!(held.operation.kind, OperationKind::Exec);
    assert_eq!(held.terms.within_s, 600);
    assert!(!mark.exists(), "it ran before anybody agreed");
    world.control.settle(1, released()).await;

    let ran = within(PATIENCE, ssh.wait_with_output()).await.unwrap();
    assert!(mark.exists(), "{ran:?}");
    assert_eq!(text(&ran.stdout), "sent while it waited");
    assert_eq!(ran.status.code(), Some(0));
    let said = text(&ran.stderr);
    assert!(said.contains("waits for 1 approval"), "{said}");
    assert!(said.contains(held.operation_id.as_str()), "{said}");
    assert!(said.contains("approved by bob"), "{said}");
    let record = &world.operations(OperationKind::Exec, 1).await[0];
    assert_eq!(record.id, held.operation_id, "one id from asking to record");
    assert_eq!(record.outcome, OperationOutcome::Completed);
}

/// E2, K5: denied, nothing reaches the target, and the words of whoever denied it control no terminal.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_held_command_when_it_is_denied_then_nothing_reaches_the_target() {
    let world = world().await;
    let mark = world.path("mark");
    let command = format!("touch {}", mark.display());
    let mut ssh = world.ssh(&[], &[&command]);
    let running = output(&mut ssh);
    let (ran, held) = tokio::join!(running, world.control.settle(1, denied()));
    assert_eq!(ran.status.code(), Some(126), "{ran:?}");
    let said = text(&ran.stderr);
    assert!(
        said.contains("(command-denied)") && said.contains("Friday"),
        "{said}"
    );
    assert!(!said.contains('\u{1b}'), "{said:?}");
    assert!(!mark.exists());
    let record = &world.operations(OperationKind::Exec, 1).await[0];
    assert_eq!(record.id, held.operation_id);
    assert_eq!(record.outcome, OperationOutcome::Refused);
    assert_eq!(record.reason.as_deref(), Some("command-denied"));
}

/// E2, RE-8: who votes sees the exact command; what is for records and notices is redacted.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_held_command_with_a_token_then_only_its_voters_see_the_token() {
    let tokens = RedactionRule {
        name: "tokens".to_owned(),
        pattern: None,
    };
    let world = World::with(|rules| {
        rules.require = HOLD_TOUCH.to_owned();
        rules.constraints = vec![Constraint::Redact {
            rules: [tokens].into(),
        }];
    })
    .await;
    let token = format!("ghp_{}", "Ab1".repeat(12));
    let command = format!("touch /nowhere/{token}");
    let mut ssh = world.ssh(&[], &[&command]);
    let running = output(&mut ssh);
    let (_, held) = tokio::join!(running, world.control.settle(1, denied()));
    assert_eq!(held.operation.detail, command);
    assert!(
        held.recorded.starts_with("touch /nowhere/[redacted"),
        "{}",
        held.recorded
    );
    assert!(!held.recorded.contains(&token));
    let record = &world.operations(OperationKind::Exec, 1).await[0];
    assert_eq!(record.operation.detail, held.recorded);
}

/// E2: what policies demand changed while it waited, so the approval is of something else.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_policy_change_while_a_command_waits_then_its_release_runs_nothing() {
    let world = world().await;
    let mark = world.path("mark");
    let command = format!("touch {}", mark.display());
    let mut ssh = world.ssh(&[], &[&command]);
    let running = output(&mut ssh);
    let settling = async {
        world.control.until(|told| told.held.first().cloned()).await;
        let stricter = HOLD_TOUCH.replace("\"1: ", "\"2: ");
        world.control.change_bundle(&stricter).await;
        world.control.settle(1, released()).await
    };
    let (ran, _) = tokio::join!(running, settling);
    assert_eq!(ran.status.code(), Some(126), "{ran:?}");
    assert!(text(&ran.stderr).contains("(command-changed)"), "{ran:?}");
    assert!(!mark.exists());
}

/// GW-12: the end of the session ends the wait, and a late release runs nothing.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_held_command_when_the_session_ends_then_it_never_runs() {
    let world = world().await;
    let mark = world.path("mark");
    let command = format!("touch {}", mark.display());
    let mut ssh = world.ssh(&[], &[&command]);
    let running = output(&mut ssh);
    let ending = async {
        world.control.until(|told| told.held.first().cloned()).await;
        world
            .control
            .end_session(EndReason::GrantEnded, "enough")
            .await;
    };
    let (ran, ()) = within(PATIENCE, async { tokio::join!(running, ending) }).await;
    assert_ne!(ran.status.code(), Some(0));
    assert!(text(&ran.stderr).contains("(grant-ended)"), "{ran:?}");
    world.control.settle(1, released()).await;
    let record = &world.operations(OperationKind::Exec, 1).await[0];
    assert_eq!(record.outcome, OperationOutcome::Refused);
    assert_eq!(record.reason.as_deref(), Some("command-withdrawn"));
    assert!(!mark.exists());
}

/// RE-13, E2: a release does not lift a pause.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_paused_session_when_its_command_is_released_then_it_runs_only_after_the_pause() {
    let world = world().await;
    let mark = world.path("mark");
    let command = format!("touch {}", mark.display());
    let pause = |is_paused: bool| {
        world.control.push(move |session_id| Push::Paused {
            session_id,
            by: is_paused.then(|| "bob".parse().unwrap()),
        })
    };
    let mut ssh = world
        .ssh(&[], &[&command])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(ssh.stderr.take().unwrap()).lines();
    until(&mut said, "waits for 1 approval").await;
    pause(true).await;
    until(&mut said, "bob paused the session").await;
    world.control.settle(1, released()).await;
    assert!(
        tokio::time::timeout(Duration::from_secs(2), ssh.wait())
            .await
            .is_err(),
        "it ran while the session was paused"
    );
    assert!(!mark.exists(), "it ran while the session was paused");
    pause(false).await;
    until(&mut said, "approved by bob").await;
    let status = within(PATIENCE, ssh.wait()).await.unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(mark.exists());
}

/// Waits for a line of standard error that says this.
async fn until(said: &mut Lines<BufReader<ChildStderr>>, part: &str) {
    within(PATIENCE, async {
        loop {
            let line = said.next_line().await.unwrap();
            if line
                .unwrap_or_else(|| panic!("never said: {part}"))
                .contains(part)
            {
                return;
            }
        }
    })
    .await;
}

/// E2: a person who leaves takes the command back.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_held_command_when_its_person_leaves_then_control_hears_of_it() {
    let world = world().await;
    let mut ssh = world.ssh(&[], &["touch /nowhere/at/all"]).spawn().unwrap();
    let held = world.control.until(|told| told.held.first().cloned()).await;
    ssh.kill().await.unwrap();
    let withdrawn = world
        .control
        .until(|told| told.withdrawn.first().cloned())
        .await;
    assert_eq!(withdrawn, held.operation_id);
}

/// E2: Ctrl-C at a terminal gives up, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_held_command_on_a_terminal_when_ctrl_c_is_typed_then_it_is_given_up() {
    let world = world().await;
    let mark = world.path("mark");
    let command = format!("touch {}", mark.display());
    let mut ssh = world
        .ssh(&["-tt"], &[&command])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = ssh.stdin.take().unwrap();
    let held = world.control.until(|told| told.held.first().cloned()).await;
    input.write_all(b"x\x03").await.unwrap();
    let ran = within(PATIENCE, ssh.wait_with_output()).await.unwrap();
    assert_eq!(ran.status.code(), Some(126), "{ran:?}");
    assert!(text(&ran.stderr).contains("(command-withdrawn)"), "{ran:?}");
    let withdrawn = world
        .control
        .until(|told| told.withdrawn.first().cloned())
        .await;
    assert_eq!(withdrawn, held.operation_id);
    assert!(!mark.exists());
}

/// Fail closed: control is gone, so nobody can have agreed.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_held_command_when_control_is_lost_then_it_is_refused() {
    let world = world().await;
    let mark = world.path("mark");
    let command = format!("touch {}", mark.display());
    let mut ssh = world.ssh(&[], &[&command]);
    let running = output(&mut ssh);
    let stopping = async {
        world.control.until(|told| told.held.first().cloned()).await;
        world.control.stop().await;
    };
    let (ran, ()) = within(PATIENCE, async { tokio::join!(running, stopping) }).await;
    assert_eq!(ran.status.code(), Some(126), "{ran:?}");
    assert!(
        text(&ran.stderr).contains("(control-unavailable)"),
        "{ran:?}"
    );
    assert!(!mark.exists());
}

/// E2: what cannot be shown exactly cannot be agreed to.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_command_that_is_no_text_then_it_is_refused_rather_than_held() {
    use std::os::unix::ffi::OsStrExt as _;
    let world = world().await;
    let mut ssh = world.ssh(&[], &[]);
    ssh.arg(std::ffi::OsStr::from_bytes(b"touch /tmp/\xff\xfe"));
    let ran = within(PROMPTLY.saturating_mul(10), output(&mut ssh)).await;
    assert_eq!(ran.status.code(), Some(126), "{ran:?}");
    assert!(
        text(&ran.stderr).contains("(command-unreadable)"),
        "{ran:?}"
    );
    assert!(world.control.told(|told| told.held.is_empty()));
}

/// A shell at the target that shows this prompt, under rules that hold removals.
pub(super) async fn shell_world(options: &str, prompt: &str, startup: &str) -> World {
    let require = format!(
        r#"@id("hold") @command_approval("1{options}: rm *") {prompt}
           permit (principal, action, resource);"#
    );
    let settings = vec![format!("ForceCommand {startup}")];
    World::with_target(settings, |rules| rules.require = require).await
}

/// bash with a prompt of its own and nothing of this machine's settings; `PS1` says what it shows.
pub(super) fn bash(ps1: &str) -> String {
    format!(
        "env -i TERM=xterm HOME=/nonexistent PATH=/usr/bin:/bin PS1='{ps1}' bash --norc --noprofile -i"
    )
}

/// The shell's prompt, ended by the mark of shell integration.
const MARKED: &str = r"marked \[\e]133;B\a\]";

/// A person at a terminal.
pub(super) struct Typing {
    pub(super) ssh: Child,
    input: ChildStdin,
    output: ChildStdout,
    pub(super) seen: Vec<u8>,
}

impl Typing {
    pub(super) fn start(world: &World) -> Self {
        let mut ssh = world
            .ssh(&["-tt"], &[])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            input: ssh.stdin.take().unwrap(),
            output: ssh.stdout.take().unwrap(),
            ssh,
            seen: Vec::new(),
        }
    }

    pub(super) async fn type_in(&mut self, keys: &str) {
        self.input.write_all(keys.as_bytes()).await.unwrap();
        self.input.flush().await.unwrap();
    }

    /// Waits until the terminal has shown this.
    pub(super) async fn until(&mut self, part: &str) {
        let showing = async {
            while !text(&self.seen).contains(part) {
                let read = self.output.read_buf(&mut self.seen).await.unwrap();
                assert_ne!(read, 0, "never shown: {part}; {}", text(&self.seen));
            }
        };
        within(PATIENCE, showing).await;
    }

    /// Types this, again and again, until the terminal has shown `part`: a shell that was interrupted may
    /// throw away what was typed behind the interrupt.
    pub(super) async fn insist(&mut self, keys: &str, part: &str) {
        let deadline = tokio::time::sleep(PATIENCE);
        let mut deadline = std::pin::pin!(deadline);
        while !text(&self.seen).contains(part) {
            self.type_in(keys).await;
            let again = tokio::time::sleep(Duration::from_secs(2));
            let mut again = std::pin::pin!(again);
            while !text(&self.seen).contains(part) {
                tokio::select! {
                    read = self.output.read_buf(&mut self.seen) => assert_ne!(read.unwrap(), 0),
                    () = &mut again => break,
                    () = &mut deadline => panic!("never shown: {part}; {}", text(&self.seen)),
                }
            }
        }
    }

    /// Waits until this is the last that the terminal has shown, but for an order to clear what is
    /// behind it.
    pub(super) async fn until_last(&mut self, part: &str) {
        let showing = async {
            while !text(&self.seen)
                .trim_end_matches("\u{1b}[K")
                .ends_with(part)
            {
                let read = self.output.read_buf(&mut self.seen).await.unwrap();
                assert_ne!(read, 0, "never last: {part}; {}", text(&self.seen));
            }
        };
        let shown = tokio::time::timeout(PATIENCE, showing).await;
        assert!(
            shown.is_ok(),
            "never last: {part:?}; {:?}",
            text(&self.seen)
        );
    }

    /// Looks on until it has taken too long.
    pub(super) async fn never(&mut self, patience: Duration) {
        let showing = async {
            while self.output.read_buf(&mut self.seen).await.unwrap_or(0) > 0 {}
            std::future::pending().await
        };
        let _: Result<(), _> = tokio::time::timeout(patience, showing).await;
    }

    /// Forgets what was shown so far.
    pub(super) fn forget(&mut self) {
        self.seen.clear();
    }

    /// Waits for the end, the keyboard still there.
    pub(super) async fn end(mut self) -> Output {
        let _ = within(PATIENCE, self.output.read_to_end(&mut self.seen)).await;
        let mut ran = within(PATIENCE, self.ssh.wait_with_output()).await.unwrap();
        drop(self.input);
        ran.stdout = self.seen;
        ran
    }
}

/// K4, E2: the Enter that would send a line is kept back until a second person agreed, at a prompt known
/// by a pattern and at one known by its mark.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_line_typed_at_a_known_prompt_when_it_is_released_then_it_runs_and_else_not() {
    for (prompt, ps1, shown) in [
        (r#"@shell_prompt("*here>")"#, "here> ", "here> "),
        ("", MARKED, "marked \u{1b}]133;B\u{7}"),
    ] {
        let world = shell_world("", prompt, &bash(ps1)).await;
        let mark = world.path("mark");
        std::fs::write(&mark, "x").unwrap();
        let mut typing = Typing::start(&world);
        typing.until_last(shown).await;
        typing.type_in("echo first-$((1+1))\r").await;
        typing.until("first-2").await;
        typing.until_last(shown).await;
        typing.type_in(&format!("rm {}\r", mark.display())).await;
        let held = world.control.until(|told| told.held.first().cloned()).await;
        assert_eq!(held.operation.kind, OperationKind::TypedCommand);
        assert_eq!(held.operation.detail, format!("rm {}", mark.display()));
        // Typed while it waits: goes nowhere, not even to the line.
        typing.type_in(" -rf /nowhere\r").await;
        assert!(mark.exists(), "it ran before anybody agreed");
        world.control.settle(1, denied()).await;
        let refused = held.operation_id.clone();
        let record = world
            .control
            .until(|told| {
                let mut records = told.operations.iter();
                records.find(|record| record.id == refused).cloned()
            })
            .await;
        assert_eq!(record.reason.as_deref(), Some("command-denied"));

        typing.until_last(shown).await;
        let command = format!("rm -f {}; echo done-$((2+2))", mark.display());
        typing.type_in(&format!("{command}\r")).await;
        let again = world.control.until(|told| told.held.get(1).cloned()).await;
        assert!(mark.exists(), "the denied line ran");
        assert_eq!(again.operation.detail, command);
        world.control.settle(2, released()).await;
        // Keys are dropped until the line was sent.
        typing.until("done-4").await;
        typing.until_last(shown).await;
        typing.type_in("exit 5\r").await;
        let ran = typing.end().await;
        assert!(!mark.exists(), "{prompt}: {ran:?}");
        assert_eq!(ran.status.code(), Some(5), "{prompt}: {ran:?}");
        assert!(text(&ran.stdout).contains("first-2"), "{ran:?}");
        let said = text(&ran.stderr);
        assert!(
            said.contains("(command-denied)") && said.contains("approved by bob"),
            "{said}"
        );
    }
}

/// K4, RE-13: who joined might approve what they type in another's name, so where lines are held they
/// type nothing.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_terminal_where_lines_are_held_then_who_joined_types_nothing() {
    let world = shell_world("", r#"@shell_prompt("*here>")"#, &bash("here> ")).await;
    let mark = world.path("mark");
    let mut typing = Typing::start(&world);
    let mut said = BufReader::new(typing.ssh.stderr.take().unwrap()).lines();
    typing.type_in("echo first-$((1+1))\r").await;
    typing.until("first-2").await;
    let bob = Watcher {
        id: WatcherId::new(Timestamp::EPOCH, [7; 10]),
        person_id: PersonId::new(Timestamp::EPOCH, [7; 10]),
        person: "bob".parse().unwrap(),
        has_keyboard: true,
    };
    world
        .control
        .push(|session_id| Push::Watched {
            session_id,
            watchers: vec![bob.clone()],
        })
        .await;
    let line = format!("touch {}\r", mark.display());
    world
        .control
        .push(|session_id| Push::Typed {
            session_id,
            watcher_id: bob.id.clone(),
            channel: 0,
            keystrokes: Keystrokes::new(line.clone().into_bytes()),
        })
        .await;
    until(&mut said, "what bob typed was dropped").await;
    typing.type_in("exit 3\r").await;
    let ran = typing.end().await;
    assert_eq!(ran.status.code(), Some(3), "{ran:?}");
    assert!(!mark.exists());
}

/// K4: the whole line in one packet, edited, behind others: the detector sees them. Nothing here claims
/// that it sees everything.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_line_sent_in_other_ways_then_it_is_still_held() {
    let world = shell_world("", r#"@shell_prompt("*here>")"#, &bash("here> ")).await;
    let mark = world.path("mark");
    std::fs::write(&mark, "x").unwrap();
    let path = mark.display();
    for (number, keys) in [
        format!("true && rm {path}\r"),
        format!("rm {path}x\x7f\r"),
        format!("sudo rm {path}\r"),
    ]
    .iter()
    .enumerate()
    {
        let mut typing = Typing::start(&world);
        typing.type_in(keys).await;
        let held = world
            .control
            .until(|told| told.held.get(number).cloned())
            .await;
        assert!(held.operation.detail.contains("rm "), "{held:?}");
        typing.type_in("\x03").await;
        let given_up = held.operation_id.clone();
        world
            .control
            .until(|told| told.withdrawn.contains(&given_up).then_some(()))
            .await;
        typing.type_in("exit\r").await;
        typing.end().await;
        assert!(mark.exists(), "{keys:?}");
    }
}

/// K4: a shell whose prompt is not known is refused, and let in where policy says so.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_shell_whose_prompt_is_not_known_then_policy_says_what_becomes_of_it() {
    let world = shell_world("", "", &bash("plain> ")).await;
    let without_terminal = output(&mut world.ssh(&["-T"], &[])).await;
    assert_eq!(
        without_terminal.status.code(),
        Some(126),
        "{without_terminal:?}"
    );
    assert_eq!(world.sshd.connections(), 0, "the target was reached");
    let mut typing = Typing::start(&world);
    typing.type_in("touch /nowhere/never\r").await;
    let ran = typing.end().await;
    assert_eq!(ran.status.code(), Some(126), "{ran:?}");
    assert!(text(&ran.stderr).contains("(prompt-unknown)"), "{ran:?}");
    assert!(
        !text(&ran.stdout).contains("touch"),
        "keys reached the target: {ran:?}"
    );

    let allowing = shell_world(", unknown_prompt=allow", "", &bash("plain> ")).await;
    let mut typing = Typing::start(&allowing);
    typing.type_in("exit 6\r").await;
    assert_eq!(typing.end().await.status.code(), Some(6));
}
