//! The container as a whole: what goes in comes out, and nothing can be changed unseen.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use proptest::prelude::*;

use super::*;

fn header() -> Header {
    Header {
        recording_id: "rec_01".into(),
        session_id: "ses_01".into(),
        started_at_ms: 1_795_000_000_000,
        key_id: "key_7".into(),
        wrapped_key: b"wrapped".to_vec(),
    }
}

fn key() -> RecordingKey {
    RecordingKey::new([7; 32])
}

fn output(at_us: u64, bytes: &[u8]) -> Frame<'_> {
    Frame { at_us, channel: 0, kind: FrameKind::Output(bytes) }
}

struct Sample {
    bytes: Vec<u8>,
    /// Where the header and each chunk end.
    ends: Vec<usize>,
    anchors: Vec<Anchor>,
}

/// Three chunks, the last of them final.
fn sample() -> Sample {
    let (mut sealer, mut bytes) = Sealer::new(&header(), key()).unwrap();
    let mut ends = vec![bytes.len()];
    let mut anchors = Vec::new();
    let mut add = |chunk: SealedChunk| {
        bytes.extend_from_slice(&chunk.bytes);
        ends.push(bytes.len());
        anchors.push(chunk.anchor());
    };
    sealer
        .push(&Frame {
            at_us: 0,
            channel: 0,
            kind: FrameKind::ChannelOpened {
                kind: "session",
                pty: Some(Pty { term: "xterm", columns: 80, rows: 24 }),
                command: None,
            },
        })
        .unwrap();
    sealer.push(&output(10, b"$ ")).unwrap();
    add(sealer.seal().unwrap().unwrap());
    sealer.push(&output(20, b"ls\r\n")).unwrap();
    add(sealer.seal().unwrap().unwrap());
    sealer.push(&output(30, b"bye\r\n")).unwrap();
    add(sealer.finish().unwrap());
    Sample { bytes, ends, anchors }
}

/// Frames read before the end or the first error, and how reading ended.
fn read(bytes: &[u8]) -> (Vec<u64>, Result<Completeness, OpenError>) {
    let mut times = Vec::new();
    let opened = ContainerReader::open(bytes).and_then(|container| Opener::new(container, key()));
    let mut opener = match opened {
        Ok(opener) => opener,
        Err(error) => return (times, Err(error)),
    };
    loop {
        match opener.next_chunk() {
            Ok(Some(chunk)) => times.extend(chunk.frames().map(|frame| frame.at_us)),
            Ok(None) => return (times, Ok(opener.completeness().unwrap())),
            Err(error) => return (times, Err(error)),
        }
    }
}

/// RE-11
#[test]
fn given_a_finished_recording_when_read_then_frames_and_end_are_as_sealed() {
    let (times, end) = read(&sample().bytes);
    assert_eq!(times, [0, 10, 20, 30]);
    assert_eq!(end.unwrap(), Completeness::Complete);
}
