//! Ways of getting a line that must wait past the guard of a terminal, with real shells: each is held, or
//! refused, and never runs.

use std::{process::Stdio, time::Duration};

use futures_util::future::join_all;
use sallyport_core::session::OperationKind;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use super::{
    held::{Typing, bash, denied, released, shell_world},
    world::{World, output, text, within},
};
use crate::control::PATIENCE;

/// One way. `PATH` stands for the file that must stay.
struct Way {
    name: &'static str,
    /// Typed before, line by line.
    before: &'static [&'static str],
    /// The packets it is sent in.
    keys: &'static [&'static str],
    /// What must become of it.
    fate: Fate,
}

#[derive(Clone, Copy)]
enum Fate {
    /// Others see this command.
    Held(&'static str),
    /// Others see this command; or the Enter is kept back without a word, until more is typed.
    HeldOrUnsent(&'static str),
    /// Any of these codes is said.
    Refused(&'static [&'static str]),
}

use Fate::{Held, HeldOrUnsent, Refused};

/// A machine that is too slow to show a line in time has it refused instead.
const SLOW: &[&str] = &["(command-unreadable)", "(prompt-unknown)"];

const UNREADABLE: Fate = Refused(&["(command-unreadable)"]);
const UNKNOWN: Fate = Refused(&["(prompt-unknown)", "(command-unreadable)"]);

const fn way(
    name: &'static str,
    before: &'static [&'static str],
    keys: &'static [&'static str],
    fate: Fate,
) -> Way {
    Way {
        name,
        before,
        keys,
        fate,
    }
}

const WAYS: &[Way] = &[
    way("line feed", &[], &["rm PATH\n"], Held("rm PATH")),
    way(
        "carriage return and line feed",
        &[],
        &["rm PATH\r\n"],
        Held("rm PATH"),
    ),
    way("Ctrl-O", &[], &["rm PATH\x0f"], Held("rm PATH")),
    way(
        "ahead of a prompt",
        &[],
        &["sleep 1\rrm PATH\r"],
        Held("rm PATH"),
    ),
    way(
        "behind other lines",
        &[],
        &["true\rtrue\recho x; rm PATH\rtrue\r"],
        Held("echo x; rm PATH"),
    ),
    way(
        "in pieces",
        &[],
        &["r", "m", " ", "PATH", "\r"],
        Held("rm PATH"),
    ),
    way(
        "edited by words",
        &[],
        &["rm PATH x\x17\r"],
        Held("rm PATH"),
    ),
    way(
        "edited as a whole",
        &[],
        &["ls\x15rm PATH\r"],
        Held("rm PATH"),
    ),
    way("yanked back", &[], &["rm PATH\x15\x19\r"], Held("rm PATH")),
    way(
        "completed",
        &["cd DIRECTORY"],
        &["rm goa\t\r"],
        Held("rm goal-NUMBER"),
    ),
    way("with an accent", &[], &["rm PATH é\r"], Held("rm PATH é")),
    way(
        "split within a character",
        &[],
        &["rm PATH é\x7f", "\r"],
        Held("rm PATH"),
    ),
    way(
        "from the history by an arrow",
        &["history -s 'rm PATH'"],
        &["\x1b[A\r"],
        Held("rm PATH"),
    ),
    way(
        "from the history by a search",
        &["history -s 'rm PATH'"],
        &["\x12rm\r"],
        Held("rm PATH"),
    ),
    way(
        "from the history by a mark",
        &["history -s 'rm PATH'"],
        &["!rm\r"],
        UNREADABLE,
    ),
    way(
        "from the history by fc",
        &["history -s 'rm PATH'"],
        &["fc -s rm\r"],
        UNREADABLE,
    ),
    way("continued", &[], &["r\\\r", "m PATH\r"], Held("rm PATH")),
    way(
        "pasted",
        &[],
        &["\x1b[200~rm PATH\nls\x1b[201~\r"],
        Held("rm PATH\nls"),
    ),
    way(
        "behind a paste that was quoted",
        &[],
        &["rm PATH \x16\x1b[200~\r"],
        Held("rm PATH ^[[200~"),
    ),
    way(
        "behind an escape in vi mode",
        &["set -o vi"],
        &["rm PATH\x1b\r"],
        Held("rm PATH"),
    ),
    way(
        "within what looks like an answer",
        &[],
        &["\x1b]rm PATH\r"],
        HeldOrUnsent("rm PATH"),
    ),
    way(
        "behind a quoted Enter",
        &[],
        &["true x;rm \x16\r PATH\r"],
        Held("true x;rm ^M PATH"),
    ),
    way("without echo", &["stty -echo"], &["rm PATH\r"], UNREADABLE),
    way(
        "recalled without echo",
        &["history -s 'rm PATH'", "stty -echo"],
        &["\x1b[A\r"],
        UNKNOWN,
    ),
    way(
        "in a shell with another prompt",
        &["PS1='? ' bash --norc"],
        &["rm PATH\x01\x05\r"],
        UNKNOWN,
    ),
    way(
        "through an editor of the line",
        &["export EDITOR=true"],
        &["rm PATH\x18\x05"],
        UNREADABLE,
    ),
    way(
        "through a macro",
        &[],
        &["\x18(x\x18)\x7frm PATH \x18e"],
        UNREADABLE,
    ),
    way(
        "through a comment",
        &[],
        &["#rm PATH\x1b1\x1b#"],
        UNREADABLE,
    ),
    way(
        "at the end of input",
        &["exec dash"],
        &["rm PATH\x04\x04"],
        Held("rm PATH"),
    ),
    way(
        "on the other screen",
        &["printf '\\033[?1049h'"],
        &["rm PATH\r"],
        Refused(&["(screen-unreadable)"]),
    ),
    way(
        "behind a key that a program takes",
        &[],
        &["read -n1 x\rqrm PATH\r"],
        Held("rm PATH"),
    ),
    way(
        "behind a key that a program takes in its own time",
        &["read -sn1 x; sleep 1"],
        &["qrm PATH\r"],
        Held("rm PATH"),
    ),
    way(
        "behind a pager",
        &["less /etc/passwd"],
        &["qrm PATH\x0f"],
        Held("rm PATH"),
    ),
    way(
        "behind the end of a pager",
        &["less /etc/passwd"],
        &["q", "rm PATH", "\r"],
        Held("rm PATH"),
    ),
];

/// K4: none of these ways sends a line unheld.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_line_sent_in_any_known_way_then_it_never_runs_unheld() {
    let world = shell_world("", r#"@shell_prompt("*here>")"#, &bash("here> ")).await;
    let mut failures = Vec::new();
    for batch in WAYS.chunks(8) {
        let first = WAYS
            .iter()
            .position(|way| way.name == batch[0].name)
            .unwrap();
        let tries = batch
            .iter()
            .enumerate()
            .map(|(number, way)| attempt(&world, first + number, way));
        let results = join_all(tries).await;
        failures.extend(results.into_iter().filter_map(Result::err));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

async fn attempt(world: &World, number: usize, way: &Way) -> Result<(), String> {
    let directory = world.path("goals");
    let _ = std::fs::create_dir(&directory);
    let goal = directory.join(format!("goal-{number}"));
    std::fs::write(&goal, "x").unwrap();
    let number = number.to_string();
    let spell = |text: &str| {
        text.replace("PATH", &goal.display().to_string())
            .replace("DIRECTORY", &directory.display().to_string())
            .replace("goa\t", &format!("goal-{number}\t"))
            .replace("NUMBER", &number)
    };
    let mut typing = Typing::start(world);
    let mut said = BufReader::new(typing.ssh.stderr.take().unwrap()).lines();
    for line in way.before {
        typing.until_last("here> ").await;
        typing.forget();
        typing.type_in(&format!("{}\r", spell(line))).await;
        typing.until("\n").await;
    }
    match way.before.last() {
        Some(line) if line.contains("less") => typing.until("root:").await,
        // It is never seen to begin; that it began late is one way more.
        Some(line) if line.contains("read") => {}
        Some(line) if line.contains("PS1=") => typing.until_last("? ").await,
        _ => typing.until_last("here> ").await,
    }
    for packet in way.keys {
        typing.type_in(&spell(packet)).await;
        tokio::task::yield_now().await;
    }
    let path = goal.display().to_string();
    let name = way.name;
    let (command, codes) = match way.fate {
        Held(command) | HeldOrUnsent(command) => (Some(spell(command)), SLOW),
        Refused(codes) => (None, codes),
    };
    let holding = world.control.until(|told| {
        let mut held = told.held.iter().map(|held| &held.operation);
        held.find(|operation| {
            operation.kind == OperationKind::TypedCommand
                && (operation.detail.contains(&path) || Some(&operation.detail) == command.as_ref())
        })
        .cloned()
    });
    let refusal = async {
        loop {
            let line = said.next_line().await.unwrap();
            let line = line.unwrap_or_else(|| panic!("{name}: ended without a word"));
            if line.contains("(command-") || line.contains("-unknown)") || line.contains("(screen-")
            {
                return line;
            }
        }
    };
    tokio::select! {
        held = holding => {
            // What was erased last may still be on the screen of a slow machine.
            let is_it = command.as_deref().is_some_and(|command| held.detail.starts_with(command));
            if !is_it {
                return Err(format!("{name}: {:?} was held", held.detail));
            }
        }
        line = refusal => {
            if !codes.iter().any(|code| line.contains(code)) {
                return Err(format!("{name}: {line}"));
            }
        }
        () = typing.never(Duration::from_secs(20)) => if !matches!(way.fate, HeldOrUnsent(_)) {
            return Err(format!("{name}: nothing became of it; {}", text(&typing.seen)));
        }
    }
    typing.ssh.kill().await.unwrap();
    match goal.exists() {
        true => Ok(()),
        false => Err(format!("{name}: it ran")),
    }
}

/// K4: bash mixes keys that come while it handles an interrupt with the line that it abandons, its first
/// character left out, and runs that.
#[tokio::test(flavor = "multi_thread")]
async fn given_an_interrupted_line_when_an_enter_follows_at_once_then_no_part_of_it_runs() {
    let world = shell_world("", r#"@shell_prompt("*here>")"#, &bash("here> ")).await;
    let goal = world.path("goal");
    std::fs::write(&goal, "x").unwrap();
    for interrupt in ["\x03", "\x03\x03", "\x03y\x7f"] {
        let mut typing = Typing::start(&world);
        typing.until_last("here> ").await;
        typing.type_in(&format!("Xrm {}", goal.display())).await;
        typing.until("goal").await;
        typing.type_in(&format!("{interrupt}\r")).await;
        typing.insist("echo end-$((1+1))\r", "end-2").await;
        assert!(goal.exists(), "{}", text(&typing.seen));
        typing.ssh.kill().await.unwrap();
    }
}

/// E2, K4: every command of a shared connection waits by itself, and shells of it have guards of their own.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_shared_connection_then_each_command_on_it_waits_for_its_own_approval() {
    let hold = r#"@id("hold") @command_approval("1: rm *") permit (principal, action, resource);"#;
    let world = World::with(|rules| rules.require = hold.to_owned()).await;
    let socket = format!("ControlPath={}", world.path("master").display());
    let goals = [world.path("goal-1"), world.path("goal-2")];
    for goal in &goals {
        std::fs::write(goal, "x").unwrap();
    }
    let mut master = world
        .ssh(&["-M", "-o", &socket], &["echo up; exec cat"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(master.stdout.take().unwrap()).lines();
    within(PATIENCE, lines.next_line()).await.unwrap();
    let command = |number: usize| format!("rm {}", goals[number].display());
    let run = async |number: usize| {
        let mut ssh = world.ssh(&["-o", &socket], &[&command(number)]);
        output(&mut ssh).await
    };
    let both = async { tokio::join!(run(0), run(1)) };
    let deciding = async {
        let found = world
            .control
            .until(|told| (told.held.len() == 2).then(|| told.held.clone()))
            .await;
        let first = found
            .iter()
            .position(|held| held.operation.detail == command(0))
            .unwrap();
        world.control.settle(first + 1, released()).await;
        world.control.settle(2 - first, denied()).await;
    };
    let deciding = Box::pin(async { tokio::join!(Box::pin(both), deciding) });
    let ((first, second), ()) = within(PATIENCE, deciding).await;
    assert_eq!(first.status.code(), Some(0), "{first:?}");
    assert_eq!(second.status.code(), Some(126), "{second:?}");
    assert!(!goals[0].exists() && goals[1].exists());
    master.kill().await.unwrap();
}

/// K4, E2: a shell that is given its commands on standard input shows nobody what it runs.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_shell_without_a_terminal_then_it_is_refused_however_it_is_spelt() {
    let hold = r#"@id("hold") @command_approval("1: rm *") permit (principal, action, resource);"#;
    let world = World::with(|rules| rules.require = hold.to_owned()).await;
    let goal = world.path("goal");
    std::fs::write(&goal, "x").unwrap();
    for command in [
        "bash",
        "/bin/sh -s",
        "exec bash --norc",
        "cat | sh",
        "env sh",
        "sh < /dev/stdin",
    ] {
        let mut ssh = world
            .ssh(&["-T"], &[command])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = ssh.stdin.take().unwrap();
        let line = format!("rm {}\n", goal.display());
        // It may be refused before this is read.
        let _ = input.write_all(line.as_bytes()).await;
        drop(input);
        let ran = within(PATIENCE, ssh.wait_with_output()).await.unwrap();
        assert_eq!(ran.status.code(), Some(126), "{command}: {ran:?}");
        let said = text(&ran.stderr);
        assert!(said.contains("(prompt-unknown)"), "{command}: {said}");
        assert!(goal.exists(), "{command}");
    }
    let ran = output(&mut world.ssh(&["-T"], &["sh -c 'echo ran'"])).await;
    assert_eq!(text(&ran.stdout).trim(), "ran", "{ran:?}");
}

/// K4: what is no command goes where it is meant to: a password, an answer, a program with the screen.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_program_that_reads_then_plain_answers_reach_it_and_the_screen_when_policy_says_so()
{
    let options = ", full_screen=allow";
    let world = shell_world(options, r#"@shell_prompt("*here>")"#, &bash("here> ")).await;
    let mut typing = Typing::start(&world);
    typing.until_last("here> ").await;
    typing
        .type_in("read -sp 'secret? ' x; echo; ech\x7fho got-${#x}-$((1+1))\r")
        .await;
    typing.until("secret? ").await;
    typing.type_in("rum!x\r").await;
    typing.until("got-5-2").await;
    typing
        .type_in("read -p 'sure? ' x; echo is-$x-$((1+1))\r")
        .await;
    typing.until("sure? ").await;
    typing.type_in("y\r").await;
    typing.until("is-y-2").await;
    typing.until_last("here> ").await;
    // Another program's lines are read again after one that could not be.
    typing.type_in("PS1='else? ' bash --norc\r").await;
    typing.until_last("else? ").await;
    typing.type_in("ec\x01\x05\r").await;
    typing.until("^C").await;
    typing.until_last("else? ").await;
    typing.type_in("exit\r").await;
    typing.until_last("here> ").await;
    // The screen goes on line by line with Enter, and ends with the pager.
    typing.type_in("seq -f line-%g 1 99 | less\r").await;
    typing.until("line-9").await;
    typing.forget();
    typing.type_in("\r").await;
    typing.until("line-2").await;
    typing.type_in("q").await;
    typing.until_last("here> ").await;
    typing.type_in("exit 7\r").await;
    assert_eq!(typing.end().await.status.code(), Some(7));
}
