//! Frames, as they are and as they may not be; and any frame, for the tests of what is made of them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use proptest::prelude::*;

use super::*;

/// A frame that owns its parts, so that proptest can make one.
#[derive(Debug, Clone)]
pub(in crate::recording) enum Owned {
    Opened(String, Option<(String, u32, u32)>, Option<String>),
    Input(Vec<u8>),
    Output(Vec<u8>),
    ErrorOutput(Vec<u8>),
    Resized(u32, u32),
    Signal(String),
    ExitStatus(u32),
    ExitSignal(String, bool, String),
    Closed,
    Operation(Vec<u8>),
    Note(String),
    Omitted(Direction, u64, [u8; 32]),
    Redacted(Direction, String, u64, [u8; 32]),
}

impl Owned {
    pub(in crate::recording) fn kind(&self) -> FrameKind<'_> {
        match self {
            Self::Opened(kind, pty, command) => FrameKind::ChannelOpened {
                kind,
                pty: pty.as_ref().map(|(term, columns, rows)| Pty {
                    term,
                    columns: *columns,
                    rows: *rows,
                }),
                command: command.as_deref(),
            },
            Self::Input(bytes) => FrameKind::Input(bytes),
            Self::Output(bytes) => FrameKind::Output(bytes),
            Self::ErrorOutput(bytes) => FrameKind::ErrorOutput(bytes),
            Self::Resized(columns, rows) => FrameKind::Resized {
                columns: *columns,
                rows: *rows,
            },
            Self::Signal(name) => FrameKind::Signal(name),
            Self::ExitStatus(status) => FrameKind::ExitStatus(*status),
            Self::ExitSignal(name, core_dumped, message) => FrameKind::ExitSignal {
                name,
                core_dumped: *core_dumped,
                message,
            },
            Self::Closed => FrameKind::ChannelClosed,
            Self::Operation(json) => FrameKind::Operation(json),
            Self::Note(text) => FrameKind::Note(text),
            Self::Omitted(direction, bytes, sha256) => FrameKind::Omitted {
                direction: *direction,
                bytes: *bytes,
                sha256: *sha256,
            },
            Self::Redacted(direction, rule, bytes, digest) => FrameKind::Redacted {
                direction: *direction,
                rule,
                bytes: *bytes,
                digest: *digest,
            },
        }
    }
}

pub(in crate::recording) fn any_kind() -> impl Strategy<Value = Owned> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..300);
    let direction = || {
        prop_oneof![
            Just(Direction::Input),
            Just(Direction::Output),
            Just(Direction::ErrorOutput)
        ]
    };
    prop_oneof![
        (
            ".{0,20}",
            prop::option::of((".{0,20}", any::<u32>(), any::<u32>())),
            prop::option::of(".{0,200}")
        )
            .prop_map(|(kind, pty, command)| Owned::Opened(kind, pty, command)),
        bytes().prop_map(Owned::Input),
        bytes().prop_map(Owned::Output),
        bytes().prop_map(Owned::ErrorOutput),
        (any::<u32>(), any::<u32>()).prop_map(|(columns, rows)| Owned::Resized(columns, rows)),
        ".{0,20}".prop_map(Owned::Signal),
        any::<u32>().prop_map(Owned::ExitStatus),
        (".{0,20}", any::<bool>(), ".{0,100}")
            .prop_map(|(name, dumped, message)| Owned::ExitSignal(name, dumped, message)),
        Just(Owned::Closed),
        bytes().prop_map(Owned::Operation),
        ".{0,100}".prop_map(Owned::Note),
        (direction(), any::<u64>(), any::<[u8; 32]>())
            .prop_map(|(direction, bytes, sha256)| Owned::Omitted(direction, bytes, sha256)),
        (direction(), ".{0,20}", any::<u64>(), any::<[u8; 32]>()).prop_map(
            |(direction, rule, bytes, digest)| Owned::Redacted(direction, rule, bytes, digest)
        ),
    ]
}

/// The fuzz body: whatever decodes encodes to the same bytes, and nothing panics.
fn decode_any(bytes: &[u8]) {
    let mut encoded = Vec::new();
    let mut is_sound = true;
    for frame in decode_frames(bytes) {
        match frame {
            Ok(frame) => frame.encode(&mut encoded).unwrap(),
            Err(_) => is_sound = false,
        }
    }
    assert!(bytes.starts_with(&encoded));
    assert_eq!(is_sound, encoded == bytes);
}

fn encoded(kind: FrameKind<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    Frame {
        at_us: 300,
        channel: 1,
        kind,
    }
    .encode(&mut bytes)
    .unwrap();
    bytes
}

fn first_error(bytes: &[u8]) -> FrameError {
    decode_frames(bytes).find_map(Result::err).unwrap()
}

proptest! {
    /// RE-14
    #[test]
    fn given_any_frames_when_encoded_and_decoded_then_they_are_the_same(
        frames in prop::collection::vec((any::<u64>(), any::<u32>(), any_kind()), 0..8)
    ) {
        let frames: Vec<Frame<'_>> = frames
            .iter()
            .map(|(at_us, channel, kind)| Frame {
                at_us: *at_us, channel: *channel, kind: kind.kind(),
            })
            .collect();
        let mut bytes = Vec::new();
        for frame in &frames {
            frame.encode(&mut bytes).unwrap();
        }
        let decoded: Result<Vec<_>, _> = decode_frames(&bytes).collect();
        prop_assert_eq!(decoded.unwrap(), frames);
    }

    #[test]
    fn given_random_bytes_when_decoded_then_only_what_we_would_write_is_accepted(
        bytes in prop::collection::vec(any::<u8>(), 0..200)
    ) {
        decode_any(&bytes);
    }

    #[test]
    fn given_a_frame_with_one_byte_changed_when_decoded_then_it_stays_canonical(
        kind in any_kind(), at in any::<prop::sample::Index>(), to in any::<u8>()
    ) {
        let mut bytes = encoded(kind.kind());
        let at = at.index(bytes.len());
        if let Some(byte) = bytes.get_mut(at) {
            *byte = to;
        }
        decode_any(&bytes);
    }
}

#[test]
fn given_a_frame_above_one_mebibyte_when_encoded_then_it_is_refused_and_nothing_is_written() {
    let bytes = vec![0; MAX_FRAME_BYTES];
    let mut out = vec![9];
    let frame = Frame {
        at_us: 0,
        channel: 0,
        kind: FrameKind::Output(&bytes),
    };
    let result = frame.encode(&mut out);
    assert!(matches!(
        result,
        Err(FrameError::TooLong { part: "whole", .. })
    ));
    assert_eq!(out, [9]);
}

#[test]
fn given_a_length_above_the_limit_when_decoded_then_it_is_refused_before_reading_on() {
    let error = first_error(&[0x81, 0x80, 0x40]);
    assert_eq!(
        error,
        FrameError::TooLong {
            part: "whole",
            length: 1024 * 1024 + 1
        }
    );
}

#[test]
fn given_malformed_frames_when_decoded_then_each_error_says_what_is_wrong() {
    let cases: [(&[u8], FrameError); 9] = [
        (&[3, 9, 1], FrameError::Truncated),
        (&[0], FrameError::Truncated),
        (&[4, 9, 0x81, 0x00, 0], FrameError::Number),
        (&[7, 9, 0xff, 0xff, 0xff, 0xff, 0x1f, 0], FrameError::Number),
        (&[4, 9, 0, 0, 7], FrameError::Trailing { bytes: 1 }),
        (&[3, 99, 0, 0], FrameError::UnknownKind { kind: 99 }),
        (
            &[5, 1, 0, 0, 0, 4],
            FrameError::Meaningless {
                part: "channel flags",
                value: 4,
            },
        ),
        (&[4, 11, 0, 0, 0xff], FrameError::NotText { part: "note" }),
        (
            &[5, 8, 0, 0, 0, 2],
            FrameError::Meaningless {
                part: "core dump",
                value: 2,
            },
        ),
    ];
    for (bytes, expected) in cases {
        assert_eq!(first_error(bytes), expected, "{bytes:?}");
    }
}

#[test]
fn given_an_error_when_asked_for_more_then_decoding_has_ended() {
    let mut bytes = vec![3, 99, 0, 0];
    bytes.extend(encoded(FrameKind::ChannelClosed));
    assert_eq!(decode_frames(&bytes).count(), 1);
}
