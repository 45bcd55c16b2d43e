//! What the audit log costs: an append with its root, and verifying an export.
//!
//! With `-- --figures` it prints how fast an export is verified instead, as `cargo xtask bench` reads
//! it: a line `figure KEY VALUE UNIT` for each of five runs.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark reads the clock, prints, and stops at the first surprise"
)]

use std::{hint::black_box, time::Instant};

use criterion::{BatchSize, Criterion, Throughput};
use sallyport_evidence::log::checkpoint::SigningKey;
use sallyport_evidence::log::entry::{self, EntryHeader};
use sallyport_evidence::log::export::{ExportWriter, MemoryExport};
use sallyport_evidence::log::tree::{Frontier, TreeHash};
use sallyport_evidence::log::verify::verify;
use serde_json::json;

const ENTRIES: u64 = 100_000;

fn entry(seq: u64) -> Vec<u8> {
    let header = EntryHeader {
        seq,
        at: "2026-01-02T03:04:05.678Z".into(),
        event: "session.operation-recorded".into(),
        actor: "per_01JH8Z0Q4S7T5V9X2Y3W6A8B1C".into(),
        subject: "ses_01JH8Z0Q4S7T5V9X2Y3W6A8B1D".into(),
    };
    let data = json!({
        "account": "root", "bytes_in": 1024, "bytes_out": 65_536, "command": "systemctl restart web",
        "decision": {"bundle": "a".repeat(64), "policies": ["ops-may-restart"]}, "target": "web-1",
    });
    entry::encode(&header, data.as_object().expect("an object")).expect("an entry")
}

/// An export of [`ENTRIES`] entries, and the key that its checkpoint is signed with.
fn export() -> (MemoryExport, SigningKey) {
    let key = SigningKey::from_seed("log.example/bench", &[7; 32].into()).expect("a key");
    let mut export = MemoryExport::default();
    let mut frontier = Frontier::new();
    let mut writer = ExportWriter::new(&mut export).expect("an export");
    for seq in 0..ENTRIES {
        let entry = entry(seq);
        writer.append(&entry).expect("an entry");
        frontier.append(TreeHash::of_leaf(&entry), &mut |_, _| {});
    }
    let checkpoint = key.sign(ENTRIES, frontier.root()).expect("a checkpoint");
    writer
        .finish(&checkpoint, key.verifier())
        .expect("an export");
    (export, key)
}

fn print_figures() {
    let (export, key) = export();
    for _ in 0..5 {
        let start = Instant::now();
        verify(&export, key.verifier(), None).expect("a good export");
        let rate = ENTRIES as f64 / start.elapsed().as_secs_f64();
        println!("figure export-of-100000 {rate:.0} entries per s");
    }
}

fn main() {
    if std::env::args().any(|word| word == "--figures") {
        return print_figures();
    }
    let mut criterion = Criterion::default().configure_from_args();
    let leaf = TreeHash::of_leaf(&entry(0));

    let mut group = criterion.benchmark_group("log");
    group.throughput(Throughput::Elements(1));
    group.bench_function("encode", |bencher| bencher.iter(|| entry(black_box(7))));
    group.bench_function("append and root", |bencher| {
        bencher.iter_batched_ref(
            Frontier::new,
            |frontier| {
                frontier.append(leaf, &mut |_, _| {});
                frontier.root()
            },
            BatchSize::NumIterations(100_000),
        );
    });

    let (export, key) = export();
    group
        .sample_size(10)
        .throughput(Throughput::Elements(ENTRIES));
    group.bench_function("verify 100k entries", |bencher| {
        bencher.iter(|| verify(&export, key.verifier(), None).expect("a good export"));
    });
    group.finish();
    criterion.final_summary();
}
