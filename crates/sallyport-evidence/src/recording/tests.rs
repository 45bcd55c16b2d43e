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
    Frame {
        at_us,
        channel: 0,
        kind: FrameKind::Output(bytes),
    }
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
                pty: Some(Pty {
                    term: "xterm",
                    columns: 80,
                    rows: 24,
                }),
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
    Sample {
        bytes,
        ends,
        anchors,
    }
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

/// RE-11, RE-14
#[test]
fn given_idle_and_long_stretches_when_sealed_then_chunks_hold_what_was_pending() {
    let (mut sealer, _) = Sealer::new(&header(), key()).unwrap();
    assert_eq!(sealer.seal().unwrap(), None);
    sealer.push(&output(5, b"x")).unwrap();
    assert!(sealer.pending_bytes() > 0);
    let first = sealer.seal().unwrap().unwrap();
    assert_eq!((first.index, sealer.pending_bytes()), (0, 0));
    assert_eq!(first.chain, sealer.chain());
    assert_eq!(sealer.finish().unwrap().index, 1);
}

#[test]
fn given_a_full_chunk_when_pushed_then_the_frame_is_refused_until_sealed() {
    let (mut sealer, mut file) = Sealer::new(&header(), key()).unwrap();
    let bytes = vec![b'x'; MAX_FRAME_BYTES - 64];
    for _ in 0..8 {
        sealer.push(&output(1, &bytes)).unwrap();
    }
    let pending = sealer.pending_bytes();
    assert!(matches!(
        sealer.push(&output(2, &bytes)),
        Err(SealError::ChunkFull { index: 0 })
    ));
    assert_eq!(sealer.pending_bytes(), pending);
    file.extend(sealer.seal().unwrap().unwrap().bytes);
    sealer.push(&output(2, &bytes)).unwrap();
    file.extend(sealer.finish().unwrap().bytes);
    assert_eq!(read(&file).0.len(), 9);
}

#[test]
fn given_a_late_frame_when_pushed_then_it_takes_its_predecessors_time() {
    let (mut sealer, mut file) = Sealer::new(&header(), key()).unwrap();
    sealer.push(&output(100, b"a")).unwrap();
    sealer.push(&output(99, b"b")).unwrap();
    file.extend(sealer.seal().unwrap().unwrap().bytes);
    sealer.push(&output(98, b"c")).unwrap();
    file.extend(sealer.finish().unwrap().bytes);
    assert_eq!(read(&file).0, [100, 100, 100]);
}

proptest! {
    /// RE-11, RE-14
    #[test]
    fn given_any_frames_and_chunk_sizes_when_read_then_all_come_back_in_order(
        frames in prop::collection::vec((any::<u32>(), 0_u64..1000, frame::tests::any_kind(), any::<bool>()), 0..24)
    ) {
        let (mut sealer, mut file) = Sealer::new(&header(), key()).unwrap();
        let mut expected = Vec::new();
        let mut at_us = 0;
        for (channel, gap_us, kind, seals) in &frames {
            at_us += gap_us;
            let frame = Frame { at_us, channel: *channel, kind: kind.kind() };
            sealer.push(&frame).unwrap();
            expected.push(frame);
            if *seals {
                file.extend(sealer.seal().unwrap().unwrap().bytes);
            }
        }
        file.extend(sealer.finish().unwrap().bytes);

        let mut opener = Opener::new(ContainerReader::open(&file[..]).unwrap(), key()).unwrap();
        let mut chunks = Vec::new();
        while let Some(chunk) = opener.next_chunk().unwrap() {
            chunks.push(chunk);
        }
        let read: Vec<_> = chunks.iter().flat_map(OpenedChunk::frames).collect();
        prop_assert_eq!(read, expected);
        prop_assert_eq!(opener.completeness(), Some(Completeness::Complete));
    }

    #[test]
    fn given_random_bytes_when_read_then_nothing_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..400), keeps_header in any::<bool>()
    ) {
        let sample = sample();
        let start = if keeps_header { &sample.bytes[..sample.ends[0]] } else { &[] };
        let file = [start, &bytes].concat();
        prop_assert!(read(&file).0.is_empty());
        let _ = verify::chain(&file[..], &[]);
    }
}

/// The chunk that holds byte `at`; `None` for the header.
fn chunk_at(sample: &Sample, at: usize) -> Option<u64> {
    sample
        .ends
        .iter()
        .rposition(|end| *end <= at)
        .map(|chunk| chunk as u64)
}

/// The chunk that an error names, and where it says that chunk begins.
fn place(error: &OpenError) -> Option<(u64, u64)> {
    match error {
        OpenError::ChunkLength { index, offset, .. }
        | OpenError::ChunkHead { index, offset }
        | OpenError::ChunkOrder { index, offset, .. }
        | OpenError::NotAuthentic { index, offset }
        | OpenError::Decompress { index, offset }
        | OpenError::Frames { index, offset, .. }
        | OpenError::Trailing { index, offset } => Some((*index, *offset)),
        OpenError::Read { .. }
        | OpenError::NotARecording
        | OpenError::UnsupportedVersion { .. }
        | OpenError::HeaderCut
        | OpenError::Header(_) => None,
    }
}

/// RE-11
#[test]
fn given_any_one_byte_changed_when_read_with_the_key_then_it_is_found_and_its_chunk_named() {
    let sample = sample();
    for at in 0..sample.bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = sample.bytes.clone();
            bytes[at] ^= flip;
            let (times, end) = read(&bytes);
            let hit = chunk_at(&sample, at);
            let sound_before = [0, 0, 2, 3][hit.map_or(0, |chunk| chunk as usize + 1)];
            match (&end, hit) {
                (Err(error), Some(chunk)) => {
                    let start = sample.ends[chunk as usize] as u64;
                    assert_eq!(place(error), Some((chunk, start)), "byte {at}");
                    assert_eq!(times.len(), sound_before, "byte {at}");
                }
                // A length that reaches beyond the end of the file looks like a cut, after
                // exactly the chunks that are sound.
                (Ok(end), Some(chunk)) => {
                    assert_eq!(*end, Completeness::CutAfter { chunks: chunk }, "byte {at}");
                    assert_eq!(times.len(), sound_before, "byte {at}");
                }
                // A changed but well-formed header is found at the first chunk, which is bound
                // to it.
                (Err(error), None) => {
                    let first = (0, sample.ends[0] as u64);
                    assert!(place(error).is_none_or(|place| place == first), "byte {at}");
                    assert!(times.is_empty());
                }
                (Ok(_), None) => panic!("changed header byte {at} went unseen"),
            }
        }
    }
}

/// RE-11
#[test]
fn given_any_one_byte_changed_when_verified_without_the_key_then_the_anchors_show_it() {
    let sample = sample();
    for at in 0..sample.bytes.len() {
        let mut bytes = sample.bytes.clone();
        bytes[at] ^= 1;
        let error = verify::chain(&bytes[..], &sample.anchors).unwrap_err();
        let index = match &error {
            verify::VerifyError::AnchorMismatch { index, .. }
            | verify::VerifyError::Missing { index, .. } => Some(*index),
            verify::VerifyError::Damaged(error) => place(error).map(|(index, _)| index),
            verify::VerifyError::AnchorsContradict { .. } => panic!("byte {at}: {error}"),
        };
        assert_eq!(
            index.unwrap_or(0),
            chunk_at(&sample, at).unwrap_or(0),
            "byte {at}"
        );
    }
}

/// RE-11
#[test]
fn given_a_cut_at_any_byte_when_read_then_all_whole_chunks_are_recovered() {
    let sample = sample();
    let frames_after = [0, 2, 3, 4];
    for length in 0..sample.bytes.len() {
        let (times, end) = read(&sample.bytes[..length]);
        match sample.ends.iter().rposition(|end| *end <= length) {
            Some(chunks) => {
                assert_eq!(
                    end.unwrap(),
                    Completeness::CutAfter {
                        chunks: chunks as u64
                    }
                );
                assert_eq!(times.len(), frames_after[chunks]);
            }
            None => assert!(
                matches!(end.unwrap_err(), OpenError::HeaderCut),
                "length {length}"
            ),
        }
    }
}

/// RE-11
#[test]
fn given_chunks_dropped_repeated_or_swapped_when_read_then_the_first_wrong_one_is_named() {
    let sample = sample();
    let part = |index: usize| &sample.bytes[sample.ends[index]..sample.ends[index + 1]];
    let head = &sample.bytes[..sample.ends[0]];
    for (parts, expected) in [
        (vec![part(1), part(2)], 0),
        (vec![part(0), part(2)], 1),
        (vec![part(0), part(0), part(1)], 1),
        (vec![part(1), part(0), part(2)], 0),
        (vec![part(0), part(1), part(2), part(2)], 3),
    ] {
        let bytes = [head, &parts.concat()].concat();
        let error = read(&bytes).1.unwrap_err();
        assert_eq!(place(&error).unwrap().0, expected, "{error}");
    }
}

#[test]
fn given_a_chunk_of_another_recording_under_the_same_key_when_read_then_it_is_refused() {
    let sample = sample();
    let (mut sealer, other) = Sealer::new(
        &Header {
            session_id: "ses_02".into(),
            ..header()
        },
        key(),
    )
    .unwrap();
    sealer.push(&output(10, b"$ ")).unwrap();
    let chunk = sealer.seal().unwrap().unwrap();
    let bytes = [&sample.bytes[..sample.ends[0]], &chunk.bytes].concat();
    assert!(matches!(
        read(&bytes).1,
        Err(OpenError::NotAuthentic { index: 0, .. })
    ));
    assert!(read(&[other, chunk.bytes].concat()).1.is_ok());
}

#[test]
fn given_a_wrong_key_when_read_then_nothing_is_handed_out_and_completeness_is_unknown() {
    let sample = sample();
    let container = ContainerReader::open(&sample.bytes[..]).unwrap();
    let mut opener = Opener::new(container, RecordingKey::new([8; 32])).unwrap();
    assert!(matches!(
        opener.next_chunk(),
        Err(OpenError::NotAuthentic { index: 0, .. })
    ));
    assert!(opener.next_chunk().unwrap().is_none());
    assert_eq!(opener.completeness(), None);
}

/// RE-11
#[test]
fn given_a_sound_recording_when_verified_then_the_report_says_what_was_covered() {
    let sample = sample();
    let report = verify::frames(&sample.bytes[..], key(), &sample.anchors).unwrap();
    assert_eq!(
        (report.chunks, report.frames, report.last_at_us),
        (3, 4, 30)
    );
    assert_eq!(report.completeness, Completeness::Complete);
    assert_eq!(report.anchored_chunks, 3);
    assert_eq!(report.bytes, sample.bytes.len() as u64);
    assert_eq!(report.header, header());

    let without_key = verify::chain(&sample.bytes[..], &sample.anchors[..1]).unwrap();
    assert_eq!(
        without_key,
        verify::Report {
            anchored_chunks: 1,
            ..report
        }
    );
}

/// RE-11
#[test]
fn given_a_cut_recording_when_verified_then_missing_anchored_chunks_are_named() {
    let sample = sample();
    let cut = &sample.bytes[..sample.ends[2]];
    let report = verify::chain(cut, &sample.anchors[..2]).unwrap();
    assert_eq!(report.completeness, Completeness::CutAfter { chunks: 2 });
    let error = verify::chain(cut, &sample.anchors).unwrap_err();
    assert!(matches!(
        error,
        verify::VerifyError::Missing {
            index: 2,
            chunks: 2
        }
    ));
}

#[test]
fn given_anchors_that_contradict_each_other_when_verified_then_the_log_is_blamed() {
    let sample = sample();
    let mut anchors = sample.anchors.clone();
    anchors.push(anchors[1]);
    assert!(verify::chain(&sample.bytes[..], &anchors).is_ok());
    anchors.push(Anchor {
        index: 1,
        chain: ChainValue([0; 32]),
    });
    let error = verify::chain(&sample.bytes[..], &anchors).unwrap_err();
    assert!(matches!(
        error,
        verify::VerifyError::AnchorsContradict { index: 1 }
    ));
}

#[test]
fn given_a_header_beyond_its_limits_when_sealing_starts_then_the_field_is_named() {
    let cases: [(&str, Header); 5] = [
        (
            "recording_id",
            Header {
                recording_id: String::new(),
                ..header()
            },
        ),
        (
            "session_id",
            Header {
                session_id: "a b".into(),
                ..header()
            },
        ),
        (
            "key_id",
            Header {
                key_id: "k".repeat(129),
                ..header()
            },
        ),
        (
            "started_at_ms",
            Header {
                started_at_ms: 1 << 53,
                ..header()
            },
        ),
        (
            "wrapped_key",
            Header {
                wrapped_key: vec![0; 4097],
                ..header()
            },
        ),
    ];
    for (expected, header) in cases {
        let error = Sealer::new(&header, key()).unwrap_err();
        let SealError::Header(HeaderError::Field { name }) = error else {
            panic!("{error:?}");
        };
        assert_eq!(name, expected);
    }
}

/// A source that fails half way: the recording is not blamed, and not called complete.
#[test]
fn given_a_source_that_fails_when_read_then_the_error_is_the_sources() {
    struct Failing<'a>(&'a [u8]);
    impl std::io::Read for Failing<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(std::io::Error::other("gone")),
                count => Ok(count),
            }
        }
    }
    let sample = sample();
    let mut reader = ContainerReader::open(Failing(&sample.bytes[..sample.ends[1] + 9])).unwrap();
    assert!(reader.next_chunk().unwrap().is_some());
    assert!(matches!(reader.next_chunk(), Err(OpenError::Read { .. })));
    assert_eq!(reader.completeness(), None);
}

/// The golden recording's frames: one of each kind.
fn golden_frames() -> Vec<Frame<'static>> {
    let pty = Some(Pty {
        term: "xterm-256color",
        columns: 80,
        rows: 24,
    });
    let kinds: [(u64, u32, FrameKind<'static>); 13] = [
        (
            0,
            0,
            FrameKind::ChannelOpened {
                kind: "session",
                pty,
                command: Some("top"),
            },
        ),
        (1_000, 0, FrameKind::Output("grüße\r\n".as_bytes())),
        (2_000, 0, FrameKind::Input(b"q")),
        (
            3_000,
            0,
            FrameKind::Resized {
                columns: 132,
                rows: 43,
            },
        ),
        (4_000, 0, FrameKind::Signal("INT")),
        (5_000, 0, FrameKind::ErrorOutput(b"\xff\x00")),
        (500_000, 0, FrameKind::Operation(br#"{"action":"exec"}"#)),
        (600_000, SESSION_CHANNEL, FrameKind::Note("ended by bob")),
        (
            u64::from(u32::MAX),
            0,
            FrameKind::Omitted {
                direction: Direction::Output,
                bytes: 1 << 40,
                sha256: [0xab; 32],
            },
        ),
        (
            u64::from(u32::MAX),
            0,
            FrameKind::Redacted {
                direction: Direction::Output,
                rule: "pem-private-key",
                bytes: 1_704,
                digest: [0xcd; 32],
            },
        ),
        (5_000_000_000, 0, FrameKind::ExitStatus(255)),
        (
            5_000_000_000,
            0,
            FrameKind::ExitSignal {
                name: "KILL",
                core_dumped: true,
                message: "killed",
            },
        ),
        (5_000_000_001, 0, FrameKind::ChannelClosed),
    ];
    kinds
        .into_iter()
        .map(|(at_us, channel, kind)| Frame {
            at_us,
            channel,
            kind,
        })
        .collect()
}

fn testdata(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata/recording")
        .join(name)
}

/// Writes the vectors anew when `UPDATE_EXPECT` is set. Compression may change with zstd's
/// version, so that recordings are compared by what they say, not byte for byte.
fn golden() -> (Vec<u8>, serde_json::Value) {
    #[expect(
        clippy::disallowed_methods,
        reason = "the same switch as expect-test's"
    )]
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        let key_bytes: [u8; 32] = std::array::from_fn(|at| at as u8);
        let (mut sealer, mut bytes) = Sealer::new(&header(), RecordingKey::new(key_bytes)).unwrap();
        let start = sealer.chain().to_string();
        let mut ends = vec![bytes.len()];
        let mut chain = Vec::new();
        for frames in golden_frames().chunks(6) {
            frames.iter().for_each(|frame| sealer.push(frame).unwrap());
            let chunk = sealer.seal().unwrap().unwrap();
            bytes.extend(&chunk.bytes);
            ends.push(bytes.len());
            chain.push(chunk.chain.to_string());
        }
        let chunk = sealer.finish().unwrap();
        bytes.extend(&chunk.bytes);
        ends.push(bytes.len());
        chain.push(chunk.chain.to_string());
        let mut frames = Vec::new();
        golden_frames()
            .iter()
            .for_each(|frame| frame.encode(&mut frames).unwrap());
        let vectors = serde_json::json!({
            "key": hex::encode(key_bytes),
            "chain_start": start,
            "chain": chain,
            "ends": ends,
            "frames": hex::encode(frames),
            "failures": failures(&bytes, &ends),
        });
        std::fs::write(testdata("golden.sprec"), &bytes).unwrap();
        let text = format!("{vectors:#}\n");
        std::fs::write(testdata("golden.json"), text).unwrap();
    }
    let vectors = std::fs::read(testdata("golden.json")).unwrap();
    (
        std::fs::read(testdata("golden.sprec")).unwrap(),
        serde_json::from_slice(&vectors).unwrap(),
    )
}

/// Damage to the golden recording and what a reader with the key must say of it.
fn failures(bytes: &[u8], ends: &[usize]) -> serde_json::Value {
    let at = |name: &str, at: usize, xor: u8| {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= xor;
        serde_json::json!({ "name": name, "at": at, "xor": xor, "says": says(&damaged) })
    };
    let cut = |name: &str, length: usize| serde_json::json!({ "name": name, "cut_to": length, "says": says(&bytes[..length]) });
    let session_id = bytes.windows(6).position(|part| part == b"ses_01").unwrap();
    serde_json::Value::Array(vec![
        at("magic", 0, 1),
        at("version", 9, 1),
        at("session id", session_id + 5, 1),
        at("length of chunk 1 beyond limit", ends[1], 0x80),
        at("index of chunk 1", ends[1] + 11, 1),
        at("frame count of chunk 0", ends[0] + 16, 1),
        at("sealed part of chunk 1", ends[1] + 45, 1),
        at("tag of chunk 2", ends[3] - 1, 1),
        cut("within the header", ends[0] - 1),
        cut("after the header", ends[0]),
        cut("within chunk 1", ends[1] + 20),
        cut("before the final chunk", ends[2]),
    ])
}

/// What reading ends with, in the words of `docs/formats/recording.md`.
fn says(bytes: &[u8]) -> String {
    let key = RecordingKey::new(std::array::from_fn(|at| at as u8));
    match verify::frames(bytes, key, &[]) {
        Ok(report) => match report.completeness {
            Completeness::Complete => "complete".to_owned(),
            Completeness::CutAfter { chunks } => format!("cut after {chunks}"),
        },
        Err(verify::VerifyError::Damaged(error)) => error.to_string(),
        Err(error) => error.to_string(),
    }
}

/// RE-11, RE-14: the frozen recording still reads as it did when it was written.
#[test]
fn given_the_golden_recording_when_read_then_frames_chain_and_failures_are_as_published() {
    let (bytes, vectors) = golden();
    let key = RecordingKey::new(std::array::from_fn(|at| at as u8));
    let container = ContainerReader::open(&bytes[..]).unwrap();
    assert_eq!(vectors["chain_start"], container.chain().to_string());
    let mut opener = Opener::new(container, key).unwrap();
    let (mut encoded, mut chain) = (Vec::new(), Vec::new());
    while let Some(chunk) = opener.next_chunk().unwrap() {
        chunk
            .frames()
            .for_each(|frame| frame.encode(&mut encoded).unwrap());
        chain.push(chunk.anchor().chain.to_string());
    }
    assert_eq!(opener.completeness(), Some(Completeness::Complete));
    assert_eq!(vectors["chain"], serde_json::json!(chain));
    assert_eq!(vectors["frames"], hex::encode(&encoded));
    let decoded: Vec<_> = decode_frames(&encoded).map(Result::unwrap).collect();
    assert_eq!(decoded, golden_frames());

    let ends: Vec<usize> = serde_json::from_value(vectors["ends"].clone()).unwrap();
    assert_eq!(vectors["failures"], failures(&bytes, &ends));
}

/// RE-11: a second implementation, written from `docs/formats/recording.md` with Python's standard
/// library alone, follows the same chain, and finds one changed byte.
#[test]
fn given_an_independent_chain_checker_when_run_then_it_agrees_on_good_and_damaged_recordings() {
    let (bytes, vectors) = golden();
    let check = |path: &std::path::Path| {
        let output = std::process::Command::new("python3")
            .arg(testdata("check_chain.py"))
            .arg(path)
            .output()
            .expect("python3 is installed");
        String::from_utf8(output.stdout).unwrap()
    };
    let lines = check(&testdata("golden.sprec"));
    let chain: Vec<String> = serde_json::from_value(vectors["chain"].clone()).unwrap();
    let expected: String = chain
        .iter()
        .enumerate()
        .map(|(index, value)| format!("{index} {value}\n"))
        .collect();
    assert_eq!(lines, format!("{expected}complete\n"));

    let mut damaged = bytes;
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &damaged).unwrap();
    let found = check(file.path());
    let without_last: String = expected
        .lines()
        .take(chain.len() - 1)
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(found.starts_with(&without_last) && !found.contains(&chain[chain.len() - 1]));
}
