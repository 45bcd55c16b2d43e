//! How fast frames become sealed chunks: the part of recording that every session pays for.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]
#![allow(clippy::expect_used, reason = "a benchmark fails by panicking")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use sallyport_evidence::recording::{Frame, FrameKind, Header, RecordingKey, Sealer};

const FRAME_BYTES: usize = 32 * 1024;
const CHUNK_FRAMES: usize = 32;

/// Bytes that zstd cannot shrink (xorshift64).
fn incompressible(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// What a busy terminal prints: lines of a log.
fn text(length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 128);
    let mut line = 0_u64;
    while bytes.len() < length {
        let number = line.wrapping_mul(2_654_435_761) % 1_000_003;
        bytes.extend_from_slice(
            format!(
                "Nov 22 14:00:{:02} web-1 app[{number}]: GET /item/{line} 200\r\n",
                line % 60
            )
            .as_bytes(),
        );
        line += 1;
    }
    bytes.truncate(length);
    bytes
}

fn sealer() -> Sealer {
    let header = Header {
        recording_id: "rec_1".into(),
        session_id: "ses_1".into(),
        started_at_ms: 0,
        key_id: "key_1".into(),
        wrapped_key: vec![0; 64],
    };
    Sealer::new(&header, RecordingKey::new([7; 32]))
        .expect("valid header")
        .0
}

fn seal(bench: &mut Criterion) {
    let mut group = bench.benchmark_group("recording/seal 1 MiB");
    let length = FRAME_BYTES * CHUNK_FRAMES;
    group.throughput(Throughput::Bytes(length as u64));
    for (name, bytes) in [
        ("incompressible", incompressible(length)),
        ("text", text(length)),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                sealer,
                |mut sealer| {
                    for part in bytes.chunks(FRAME_BYTES) {
                        let frame = Frame {
                            at_us: 1_000_000,
                            channel: 0,
                            kind: FrameKind::Output(part),
                        };
                        sealer.push(&frame).expect("frame fits");
                    }
                    sealer.seal().expect("seal")
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, seal);
criterion_main!(benches);
