//! Transcripts: what was shown is what is read, and nothing recorded can act on the reader.

use proptest::prelude::*;

use super::*;

const SESSION: FrameKind<'_> = FrameKind::ChannelOpened {
    kind: "session",
    pty: Some(Pty {
        term: "xterm",
        columns: 20,
        rows: 4,
    }),
    command: None,
};

fn transcribe(frames: &[(u64, u32, FrameKind<'_>)]) -> String {
    let mut writer = TranscriptWriter::new(Vec::new());
    for (at_us, channel, kind) in frames {
        writer
            .frame(&Frame {
                at_us: *at_us,
                channel: *channel,
                kind: *kind,
            })
            .unwrap();
    }
    String::from_utf8(writer.finish().unwrap()).unwrap()
}

/// RE-1
#[test]
fn given_a_terminal_session_when_transcribed_then_it_reads_as_it_was_shown() {
    let text = transcribe(&[
        (0, 0, SESSION),
        (1_000_000, 0, FrameKind::Output(b"$ sl\x08\x08\x1b[Kls\r\n")),
        (2_500_000, 0, FrameKind::Input(b"secret")),
        (
            3_000_000,
            0,
            FrameKind::Output(b"\x1b[32ma.txt\x1b[0m\r\nb.txt\r\n$ "),
        ),
        (4_000_000, 0, FrameKind::ExitStatus(0)),
        (3_723_004_000, 0, FrameKind::ChannelClosed),
    ]);
    expect_test::expect![[r"
        00:00:00.000 0 - opened: session, terminal xterm 20x4
        00:00:04.000 0 - ended with status 0
        01:02:03.004 0 | $ ls
        01:02:03.004 0 | a.txt
        01:02:03.004 0 | b.txt
        01:02:03.004 0 | $
        01:02:03.004 0 - closed
    "]]
    .assert_eq(&text);
}

/// RE-1: lines get the time at which they left the screen; a full-screen program is not lost.
#[test]
fn given_scrolling_and_a_full_screen_program_when_transcribed_then_both_are_kept() {
    let text = transcribe(&[
        (0, 0, SESSION),
        (1000, 0, FrameKind::Output(b"1\r\n2\r\n3\r\n4\r\n5\r\n$ vi")),
        (
            2000,
            0,
            FrameKind::Output(b"\x1b[?1049h\x1b[Hroot:x\r\n~\r\n:q"),
        ),
        (3000, 0, FrameKind::Output(b"\x1b[?1049l\r\n$ ")),
    ]);
    expect_test::expect![[r"
        00:00:00.000 0 - opened: session, terminal xterm 20x4
        00:00:00.001 0 | 1
        00:00:00.001 0 | 2
        00:00:00.003 0 | 3
        00:00:00.003 0 # root:x
        00:00:00.003 0 # ~
        00:00:00.003 0 # :q
        00:00:00.003 0 | 4
        00:00:00.003 0 | 5
        00:00:00.003 0 | $ vi
        00:00:00.003 0 | $
    "]]
    .assert_eq(&text);
}

/// RE-1, RE-14: a channel without a terminal is kept byte for byte, both ways, cut anywhere.
#[test]
fn given_a_command_without_terminal_when_transcribed_then_streams_are_joined_to_lines() {
    let text = transcribe(&[
        (
            0,
            0,
            FrameKind::ChannelOpened {
                kind: "session",
                pty: None,
                command: Some("sort -u"),
            },
        ),
        (1, 0, FrameKind::Input(b"b\na")),
        (2, 0, FrameKind::Input(b"\xc3")),
        (3, 0, FrameKind::Input(b"\xa4\n")),
        (4, 0, FrameKind::ErrorOutput(b"sort: warn\r\n")),
        (5, 0, FrameKind::Output(b"a\x00\x1b[2J\xff\nlast")),
        (
            6,
            0,
            FrameKind::Omitted {
                direction: Direction::Output,
                bytes: 9,
                sha256: [0xab; 32],
            },
        ),
        (
            7,
            SESSION_CHANNEL,
            FrameKind::Note("ended by bob: done\r\nforged"),
        ),
    ]);
    expect_test::expect![[r"
        00:00:00.000 0 - opened: session, command sort -u
        00:00:00.000 0 < b
        00:00:00.000 0 < aä
        00:00:00.000 0 ! sort: warn
        00:00:00.000 0 > a\u{0}\u{1b}[2J�
        00:00:00.000 0 - 9 bytes of output not kept, sha256 abababababababababababababababababababababababababababababababab
        00:00:00.000 session - note: ended by bob: done\r\nforged
        00:00:00.000 0 > last
    "]]
    .assert_eq(&text);
}

/// Security K5: the transcript of anything is lines with a time, and no control in them.
fn assert_harmless(text: &str) {
    for line in text.split_inclusive('\n') {
        let line = line.strip_suffix('\n').unwrap();
        assert!(!line.contains(char::is_control), "{line:?}");
        assert!(line.get(2..3) == Some(":"), "{line:?}");
    }
}

/// Pseudo-random bytes (xorshift64), with a control sequence begun now and then if `hostile`.
fn garbage(length: usize, hostile: bool) -> Vec<u8> {
    let mut state = 0x1234_5678_9abc_def1_u64;
    let mut bytes = Vec::with_capacity(length + 16);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
        if hostile && state.is_multiple_of(7) {
            bytes.extend_from_slice(b"\x1b[");
        }
    }
    bytes
}

/// Security K5
#[test]
fn given_ten_megabytes_of_garbage_when_transcribed_then_it_survives_in_bounded_size() {
    let bytes = garbage(10 << 20, false);
    let mut frames = vec![(0, 0, SESSION)];
    frames.extend(
        bytes
            .chunks(32 * 1024)
            .map(|piece| (0, 0, FrameKind::Output(piece))),
    );
    let text = transcribe(&frames);
    assert_harmless(&text);
    assert!(text.len() < 20 * bytes.len());
}

/// Security K5
#[test]
fn given_hostile_sequences_and_sizes_when_read_then_transcript_and_commands_survive() {
    let bytes = garbage(256 << 10, true);
    let mut frames = vec![(0, 0, SESSION)];
    for (turn, piece) in bytes.chunks(4 * 1024).enumerate() {
        frames.push((0, 0, FrameKind::Output(piece)));
        if turn % 8 == 0 {
            frames.push((0, 0, FrameKind::Input(piece)));
            let columns = u32::try_from(turn * 37).unwrap();
            frames.push((0, 0, FrameKind::Resized { columns, rows: 60 }));
        }
    }
    assert_harmless(&transcribe(&frames));
    let mut commands = crate::recording::CommandTracker::new();
    for (at_us, channel, kind) in &frames {
        commands.frame(&Frame {
            at_us: *at_us,
            channel: *channel,
            kind: *kind,
        });
    }
    let _ = commands.finish();
}

/// Security K5: a few bytes that ask for a lot of work or output.
#[test]
fn given_bytes_that_demand_much_when_transcribed_then_output_stays_in_proportion() {
    for (name, bomb) in [
        ("repeat", "x\u{1b}[65535b"),
        ("clear", "\u{1b}[9999HX\u{1b}[2J"),
        ("scroll", "\u{1b}[65535S"),
        ("reset", "\u{1b}[9999HX\u{1b}c"),
        ("window", "\u{1b}[8;65535;65535t"),
    ] {
        let bytes = bomb.repeat(2000);
        let opened = FrameKind::ChannelOpened {
            kind: "session",
            pty: Some(Pty {
                term: "xterm",
                columns: u32::MAX,
                rows: 50,
            }),
            command: None,
        };
        let text = transcribe(&[(0, 0, opened), (0, 0, FrameKind::Output(bytes.as_bytes()))]);
        assert_harmless(&text);
        assert!(
            text.len() < 200 * bytes.len(),
            "{name}: {} from {}",
            text.len(),
            bytes.len()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Security K5
    #[test]
    fn given_any_frames_when_transcribed_then_the_text_is_harmless(
        frames in prop::collection::vec((0_u32..3, crate::recording::frame::tests::any_kind()), 0..40)
    ) {
        let frames: Vec<_> =
            frames.iter().map(|(channel, kind)| (0, *channel, kind.kind())).collect();
        assert_harmless(&transcribe(&frames));
    }
}
