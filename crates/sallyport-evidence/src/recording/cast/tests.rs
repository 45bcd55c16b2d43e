//! Casts: lines that players of both versions take, whatever was recorded.

use proptest::prelude::*;

use super::*;

fn header() -> Header {
    Header {
        recording_id: "rec_1".into(),
        session_id: "ses_1".into(),
        started_at_ms: 1_795_000_000_500,
        key_id: "key_1".into(),
        wrapped_key: vec![1],
    }
}

const OPENED: FrameKind<'_> = FrameKind::ChannelOpened {
    kind: "session",
    pty: Some(Pty {
        term: "xterm",
        columns: 80,
        rows: 24,
    }),
    command: Some("top"),
};

fn export(
    version: CastVersion,
    input: CastInput,
    frames: &[(u64, u32, FrameKind<'_>)],
) -> Result<String, CastError> {
    let mut writer = CastWriter::new(Vec::new(), &header(), 1, version, input);
    for (at_us, channel, kind) in frames {
        writer.frame(&Frame {
            at_us: *at_us,
            channel: *channel,
            kind: *kind,
        })?;
    }
    Ok(String::from_utf8(writer.finish()?).unwrap())
}

fn sample() -> Vec<(u64, u32, FrameKind<'static>)> {
    vec![
        (100, 0, FrameKind::Output(b"another channel")),
        (500_000, 1, OPENED),
        (1_500_000, 1, FrameKind::Output(b"caf\xc3")),
        (
            1_750_000,
            1,
            FrameKind::Resized {
                columns: 100,
                rows: 0,
            },
        ),
        (2_000_000, 1, FrameKind::Output(b"\xa9 \x1b[1m\xff")),
        (2_000_007, 1, FrameKind::Input(b"q")),
        (
            2_500_000,
            SESSION_CHANNEL,
            FrameKind::Note("watched by \u{1b}bob"),
        ),
        (3_000_000, 1, FrameKind::ExitStatus(3)),
        (3_000_000, 1, FrameKind::ChannelClosed),
    ]
}

/// RE-1
#[test]
fn given_a_terminal_channel_when_exported_as_v3_then_times_are_intervals() {
    let cast = export(CastVersion::V3, CastInput::Included, &sample()).unwrap();
    expect_test::expect![[r#"
        {"version":3,"term":{"cols":80,"rows":24,"type":"xterm"},"timestamp":1795000001,"title":"ses_1","command":"top"}
        [1.000000, "o", "caf"]
        [0.250000, "r", "100x24"]
        [0.250000, "o", "é \u001b[1m�"]
        [0.000007, "i", "q"]
        [0.499993, "m", "watched by \\u{1b}bob"]
        [0.500000, "x", "3"]
    "#]]
    .assert_eq(&cast);
}

/// RE-1
#[test]
fn given_a_terminal_channel_when_exported_as_v2_then_times_count_from_its_opening() {
    let cast = export(CastVersion::V2, CastInput::Omitted, &sample()).unwrap();
    expect_test::expect![[r#"
        {"version":2,"width":80,"height":24,"timestamp":1795000001,"title":"ses_1","env":{"TERM":"xterm"},"command":"top"}
        [1.000000, "o", "caf"]
        [1.250000, "r", "100x24"]
        [1.500000, "o", "é \u001b[1m�"]
        [2.000000, "m", "watched by \\u{1b}bob"]
    "#]]
    .assert_eq(&cast);
}

#[test]
fn given_no_terminal_or_no_such_channel_when_exported_then_the_error_says_which() {
    let opened = FrameKind::ChannelOpened {
        kind: "session",
        pty: None,
        command: None,
    };
    let result = export(CastVersion::V3, CastInput::Omitted, &[(0, 1, opened)]);
    assert!(matches!(
        result,
        Err(CastError::NotATerminal { channel: 1 })
    ));
    let result = export(CastVersion::V3, CastInput::Omitted, &[(0, 0, OPENED)]);
    assert!(matches!(
        result,
        Err(CastError::NoSuchChannel { channel: 1 })
    ));
}

/// RE-1, RE-14: the stock player prints exactly what the terminal was sent, in a real session of
/// `bash` with a full-screen program in it.
#[test]
fn given_a_real_session_when_played_by_asciinema_then_it_prints_what_the_target_sent() {
    let fixture = include_str!("../../../testdata/recording/bash-session.jsonl");
    let events: Vec<(u64, String, String)> = fixture
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut frames = vec![(0, 1, OPENED)];
    frames.extend(events.iter().map(|(at_us, code, text)| {
        let kind = match code.as_str() {
            "i" => FrameKind::Input(text.as_bytes()),
            _ => FrameKind::Output(text.as_bytes()),
        };
        (*at_us, 1, kind)
    }));
    let sent: String = events
        .iter()
        .filter(|(_, code, _)| code == "o")
        .map(|(.., text)| text.as_str())
        .collect();

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("session.cast");
    let cast = export(CastVersion::V2, CastInput::Included, &frames).unwrap();
    std::fs::write(&path, cast).unwrap();
    // The player wants a terminal for its keyboard, which `script` gives it.
    let output = std::process::Command::new("script")
        .args(["-qec", "asciinema cat session.cast > printed", "/dev/null"])
        .current_dir(directory.path())
        .env("ASCIINEMA_CONFIG_HOME", directory.path())
        .env("LC_ALL", "C.UTF-8")
        .stdin(std::process::Stdio::null())
        .output()
        .expect("script is installed");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert_eq!(
        std::fs::read_to_string(directory.path().join("printed")).unwrap(),
        sent
    );
}

proptest! {
    /// RE-1, RE-14: however output was cut into frames, the cast's text is the same, and every
    /// line is JSON.
    #[test]
    fn given_any_output_cut_anywhere_when_exported_then_the_text_is_that_of_the_whole(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..12),
        text in ".{0,60}", cut in any::<prop::sample::Index>(),
    ) {
        let cut = cut.index(text.len() + 1);
        let (head, tail) = text.as_bytes().split_at(cut);
        let mut all: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        all.extend([head, tail]);
        let mut frames = vec![(0, 1, OPENED)];
        frames.extend(all.iter().zip(1..).map(|(piece, at)| (at, 1, FrameKind::Output(piece))));

        let cast = export(CastVersion::V2, CastInput::Omitted, &frames).unwrap();
        let mut shown = String::new();
        for line in cast.lines().skip(1) {
            let (_, code, text): (f64, String, String) = serde_json::from_str(line).unwrap();
            prop_assert_eq!(code, "o");
            shown.push_str(&text);
        }
        let whole = all.concat();
        prop_assert_eq!(shown, String::from_utf8_lossy(&whole));
    }
}
