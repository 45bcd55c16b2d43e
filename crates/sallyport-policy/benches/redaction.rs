//! How fast a stream is searched for what recordings must not hold.
//!
//! The recorder's writer asks so for every frame, off the relay's path: what counts is the share of a
//! core that a transfer recorded in full takes.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark fails by panicking"
)]

use std::{collections::BTreeSet, hint::black_box};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sallyport_core::policy::RedactionRule;
use sallyport_policy::{Found, Place, RuleSet, TextEnd};

/// The recorder's pieces.
const PIECE_BYTES: usize = 32 * 1024;
const TOTAL_BYTES: usize = 4 * 1024 * 1024;

fn rules(names: &[&str]) -> RuleSet {
    let wanted: BTreeSet<_> = names
        .iter()
        .map(|name| RedactionRule {
            name: (*name).to_owned(),
            pattern: None,
        })
        .collect();
    RuleSet::compile(&wanted).unwrap()
}

/// Bytes that do not repeat within the run, from a fixed seed.
fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..TOTAL_BYTES)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}

fn lines(line: &str) -> Vec<u8> {
    line.bytes().cycle().take(TOTAL_BYTES).collect()
}

/// Searches all of `content` and counts what was found.
fn search(rules: &RuleSet, content: &[u8], start: Place) -> usize {
    let mut found = 0;
    for piece in content.chunks(PIECE_BYTES) {
        let mut place = start;
        let mut rest = piece;
        while let Found::Match { end, .. } = rules.scan(rest, place, TextEnd::Whole) {
            found += 1;
            let (passed, left) = rest.split_at(end);
            place.pass(passed);
            rest = left;
        }
    }
    found
}

fn redaction(criterion: &mut Criterion) {
    let log = lines(
        "2026-03-02T10:00:00Z web-1 sshd[4711]: Accepted publickey for alice from 192.0.2.10 port 52022\n",
    );
    let colours = lines(
        "\x1b[0m\x1b[01;34msrc\x1b[0m  \x1b[01;32mrun.sh\x1b[0m  Cargo.toml  README.md  target\r\n",
    );
    let tokens = lines("token ghp_Ab1Ab1Ab1Ab1Ab1Ab1Ab1Ab1Ab1Ab1Ab1Ab1 of AKIAIOSFODNN7EXAMPLE\n");
    let (usual, all) = (
        rules(&["private_keys", "tokens"]),
        rules(&["private_keys", "tokens", "cards"]),
    );
    let mut group = criterion.benchmark_group("redaction");
    group.throughput(Throughput::Bytes(TOTAL_BYTES as u64));
    for (name, rules, content, place) in [
        ("log, no match", &usual, &log, Place::of_bytes()),
        ("noise, no match", &usual, &noise(), Place::of_bytes()),
        ("log, no match, cards too", &all, &log, Place::of_bytes()),
        ("terminal, plain", &usual, &log, Place::of_terminal()),
        ("terminal, colours", &usual, &colours, Place::of_terminal()),
        ("two matches a line", &usual, &tokens, Place::of_bytes()),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| search(black_box(rules), black_box(content), place));
        });
    }
    group.finish();
}

criterion_group!(benches, redaction);
criterion_main!(benches);
