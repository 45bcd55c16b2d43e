//! Command capture against byte streams as shells and clients really send them.

use Confidence::{Partial, Seen};
use proptest::prelude::*;

use super::*;

const PTY: Pty<'_> = Pty {
    term: "xterm-256color",
    columns: 80,
    rows: 24,
};

/// One piece of a session: bytes to (`i`) or from (`o`) the target.
type Piece<'a> = (char, &'a str);

/// Whether and when screens rest must make no difference.
fn capture_on(pty: Pty<'_>, pieces: &[Piece<'_>]) -> Vec<(String, Confidence)> {
    let rested = follow(pty, pieces, CommandTracker::rest);
    let awake = follow(pty, pieces, |_| {});
    assert_eq!(rested, awake);
    awake
}

fn follow(
    pty: Pty<'_>,
    pieces: &[Piece<'_>],
    after_each: fn(&mut CommandTracker),
) -> Vec<(String, Confidence)> {
    let mut tracker = CommandTracker::new();
    let opened = FrameKind::ChannelOpened {
        kind: "session",
        pty: Some(pty),
        command: None,
    };
    let mut commands = tracker.frame(&Frame {
        at_us: 0,
        channel: 3,
        kind: opened,
    });
    for (step, (direction, text)) in pieces.iter().enumerate() {
        let kind = match direction {
            'i' => FrameKind::Input(text.as_bytes()),
            _ => FrameKind::Output(text.as_bytes()),
        };
        let at_us = step as u64 * 1000;
        commands.extend(tracker.frame(&Frame {
            at_us,
            channel: 3,
            kind,
        }));
        after_each(&mut tracker);
    }
    commands.extend(tracker.finish());
    commands
        .into_iter()
        .map(|command| (command.text, command.confidence))
        .collect()
}

fn capture(pieces: &[Piece<'_>]) -> Vec<(String, Confidence)> {
    capture_on(PTY, pieces)
}

fn seen(text: &str) -> (String, Confidence) {
    (text.to_owned(), Seen)
}

/// RE-2: every way of entering a line that a real `bash` was given; see the fixture's own order.
#[test]
fn given_a_session_of_real_bash_when_followed_then_each_command_is_read_as_it_was_run() {
    let fixture = include_str!("../../../testdata/recording/bash-session.jsonl");
    let events: Vec<(u64, String, String)> = fixture
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let pieces: Vec<Piece<'_>> = events
        .iter()
        .map(|(_, code, text)| (if code == "i" { 'i' } else { 'o' }, text.as_str()))
        .collect();
    let long = format!("echo {}end", "long-".repeat(20));
    assert_eq!(
        capture(&pieces),
        [
            seen("echo hello"),
            seen("echo world"),
            seen("cat invoice-2026.txt"),
            seen("echo hello"),
            seen("cat invoice-2026.txt"),
            seen(r#"read -s -p "Password: " answer"#),
            // Found by Ctrl-R on a line that still showed `Password: `; bash drew over it.
            ("alice@web-1:~$ echo hello".to_owned(), Partial),
            seen(&long),
            seen("pwd >/dev/null"),
            seen("less notes.txt"),
            seen("sleep 0.6"),
            seen("echo ahead"),
            seen(r"echo pasted one\necho pasted two"),
            seen("echo grüße ✓"),
            seen("exit"),
        ]
    );
}

/// RE-2
#[test]
fn given_an_echo_that_comes_after_enter_when_followed_then_the_line_is_read_once_shown() {
    let commands = capture(&[
        ('o', "$ "),
        ('i', "uptime\r"),
        ('o', "uptime\r\n up 3 days\r\n$ "),
    ]);
    assert_eq!(commands, [seen("uptime")]);
}

/// RE-2
#[test]
fn given_typing_before_the_prompt_is_shown_when_followed_then_the_command_is_still_found() {
    let commands = capture(&[
        ('i', "id\r"),
        ('o', "Welcome\r\n"),
        ('o', "$ "),
        ('o', "id\r\nuid=0\r\n"),
    ]);
    assert_eq!(commands, [seen("id")]);
}

/// RE-2, security K6
#[test]
fn given_a_password_without_echo_when_followed_then_nothing_of_it_is_captured() {
    for (name, pieces) in [
        (
            "plain",
            vec![('o', "Password: "), ('i', "hunter2\r"), ('o', "\r\n$ ")],
        ),
        (
            "edited",
            vec![
                ('o', "Password: "),
                ('i', "hunx\u{7f}ter2\r"),
                ('o', "\r\n$ "),
            ],
        ),
        (
            "masked",
            vec![
                ('o', "Password: "),
                ('i', "hunter2\r"),
                ('o', "*******\r\n$ "),
            ],
        ),
        (
            "later shown by chance",
            vec![
                ('o', "Password: "),
                ('i', "hunter2\r"),
                ('o', "\r\n$ ls\r\nhunter2\r\n$ "),
            ],
        ),
        (
            "never answered",
            vec![('o', "Password: "), ('i', "hunter2\r")],
        ),
        (
            "no new line",
            vec![
                ('o', "Password: "),
                ('i', "hunter2\r"),
                ('o', "\rDone.\u{1b}[K"),
            ],
        ),
    ] {
        assert_eq!(capture(&pieces), [], "{name}");
    }
}

/// RE-2: a person is cut off while the target has not answered yet.
#[test]
fn given_a_session_cut_after_enter_when_finished_then_the_shown_command_is_captured() {
    let commands = capture(&[('o', "# "), ('i', "reboot"), ('o', "reboot"), ('i', "\r")]);
    assert_eq!(commands, [seen("reboot")]);
}

/// RE-2
#[test]
fn given_completion_and_history_when_followed_then_the_screen_decides() {
    let commands = capture(&[
        ('o', "$ "),
        ('i', "cat /etc/ho"),
        ('o', "cat /etc/ho"),
        ('i', "\t"),
        ('o', "stname "),
        ('i', "\r"),
        ('o', "\r\nweb-1\r\n$ "),
        ('i', "\u{1b}[A"),
        ('o', "cat /etc/hostname "),
        ('i', "\r"),
        ('o', "\r\nweb-1\r\n$ "),
    ]);
    assert_eq!(
        commands,
        [seen("cat /etc/hostname"), seen("cat /etc/hostname")]
    );
}

/// RE-2
#[test]
fn given_an_expanded_abbreviation_when_followed_then_what_was_shown_counts_as_partial() {
    let commands = capture(&[
        ('o', "> "),
        ('i', "gco main"),
        ('o', "git checkout main"),
        ('i', "\r"),
        ('o', "\r\n"),
    ]);
    assert_eq!(commands.len(), 1);
    assert_eq!(commands[0].1, Partial);
}

/// RE-2
#[test]
fn given_a_right_hand_prompt_when_followed_then_it_is_not_part_of_the_command() {
    let commands = capture(&[
        ('o', "web-1% \u{1b}[70C12:00\r\u{1b}[7C"),
        ('i', "ls -l"),
        ('o', "ls -l"),
        ('i', "\r"),
        ('o', "\r\r\ntotal 0\r\n"),
    ]);
    assert_eq!(commands, [seen("ls -l")]);
}

/// RE-2
#[test]
fn given_a_full_screen_program_when_keys_are_typed_in_it_then_they_are_no_commands() {
    let commands = capture(&[
        ('o', "$ "),
        ('i', "vi x"),
        ('o', "vi x"),
        ('i', "\r"),
        ('o', "\r\n\u{1b}[?1049h~\r\n~"),
        ('i', "iroot\r:wq\r"),
        ('o', "root\r\n:wq\r\n\u{1b}[?1049l$ "),
        ('i', "ls"),
        ('o', "ls"),
        ('i', "\r"),
        ('o', "\r\n"),
    ]);
    assert_eq!(commands, [seen("vi x"), seen("ls")]);
}

/// RE-2: terminals answer queries on the same stream as keys.
#[test]
fn given_answers_of_the_terminal_when_followed_then_they_do_not_count_as_typing() {
    let commands = capture(&[
        ('o', "\u{1b}[6n"),
        (
            'i',
            "\u{1b}[1;1R\u{1b}[?62c\u{1b}]11;rgb:0/0/0\u{1b}\\\u{1b}[I",
        ),
        ('o', "$ "),
        ('i', "w"),
        ('o', "w"),
        ('i', "\r"),
        ('o', "\r\n"),
    ]);
    assert_eq!(commands, [seen("w")]);
}

/// RE-2
#[test]
fn given_a_narrow_window_resized_while_typing_when_followed_then_the_whole_line_is_read() {
    let mut tracker = CommandTracker::new();
    let pty = Some(Pty {
        columns: 10,
        rows: 4,
        ..PTY
    });
    let mut commands = Vec::new();
    for kind in [
        FrameKind::ChannelOpened {
            kind: "session",
            pty,
            command: None,
        },
        FrameKind::Output(b"$ "),
        FrameKind::Input(b"echo one two"),
        FrameKind::Output(b"echo one two"),
        FrameKind::Resized {
            columns: 30,
            rows: 4,
        },
        FrameKind::Output(b" three"),
        FrameKind::Input(b" three\r"),
        FrameKind::Output(b"\r\n"),
        FrameKind::ChannelClosed,
    ] {
        commands.extend(tracker.frame(&Frame {
            at_us: 7,
            channel: 0,
            kind,
        }));
    }
    let expected = TypedCommand {
        channel: 0,
        at_us: 7,
        text: "echo one two three".into(),
        confidence: Seen,
    };
    assert_eq!(commands, [expected]);
}

/// RE-2, security K4: not prevention, yet the plain evasions are all on the record.
#[test]
fn given_evasions_of_command_filters_when_followed_then_the_line_is_recorded_as_shown() {
    for line in [
        "ls;rm -rf x",
        "r\\m -rf x",
        "$(echo cm0gLXJmIHg= | base64 -d)",
        "eval \"$(printf '\\162m') x\"",
        "x=rm; $x -rf y",
        "bash <<'E'",
    ] {
        let typed = format!("{line}\r");
        let echo = format!("{line}\r\n$ ");
        let commands = capture(&[('o', "$ "), ('i', typed.as_str()), ('o', echo.as_str())]);
        assert_eq!(commands, [seen(line)]);
    }
}

/// Security K5
#[test]
fn given_escapes_in_a_shown_line_when_captured_then_the_text_has_no_controls() {
    let commands = capture(&[
        ('o', "$ "),
        ('i', "a\u{202e}b\r"),
        ('o', "a\u{202e}b\u{1b}]0;title\u{7}\r\n"),
    ]);
    assert!(
        commands
            .iter()
            .all(|(text, _)| !text.contains(['\u{202e}', '\u{1b}', '\u{7}']))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn given_any_session_when_followed_then_nothing_panics_and_texts_are_clean(
        pieces in prop::collection::vec(
            (any::<bool>(), prop::collection::vec(any::<u8>(), 0..80)), 0..40),
        columns in any::<u32>(), rows in 0_u32..60,
    ) {
        let mut tracker = CommandTracker::new();
        let pty = Some(Pty { term: "", columns, rows });
        let opened = FrameKind::ChannelOpened { kind: "session", pty, command: None };
        let mut commands = tracker.frame(&Frame { at_us: 0, channel: 0, kind: opened });
        for (is_input, bytes) in &pieces {
            let kind = if *is_input { FrameKind::Input(bytes) } else { FrameKind::Output(bytes) };
            commands.extend(tracker.frame(&Frame { at_us: 0, channel: 0, kind }));
        }
        commands.extend(tracker.finish());
        prop_assert!(commands.iter().all(|command| !command.text.contains(char::is_control)));
    }
}
