//! Sample logs for the tests: the same bytes on every run, and every part that a log can have.

use std::sync::LazyLock;

use sallyport_evidence::log::checkpoint::SigningKey;
use sallyport_evidence::log::entry::{self, EntryHeader};
use sallyport_evidence::log::export::{CHECKPOINT_NAME, ENTRIES_NAME, MemoryExport};
use sallyport_evidence::log::tile::TileBuilder;
use sallyport_evidence::log::tree::TreeHash;
use serde_json::{Value, json};

pub const LOG_NAME: &str = "log.example/audit";

/// Seed of the sample key: RFC 8032 section 7.1, test 1.
pub const SEED: [u8; 32] = [
    0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
    0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
];

pub static KEY: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::from_seed(LOG_NAME, &SEED.into()).unwrap());

pub fn header(seq: u64) -> EntryHeader {
    let minute = seq / 60 % 60;
    EntryHeader {
        seq,
        at: format!(
            "2026-01-02T03:{minute:02}:{:02}.{:03}Z",
            seq % 60,
            seq % 1000
        ),
        event: [
            "session.opened",
            "session.operation-recorded",
            "session.ended",
        ][usize::try_from(seq % 3).unwrap()]
        .into(),
        actor: ["per_alice", "per_bob", "per_zoë"][usize::try_from(seq % 7 % 3).unwrap()].into(),
        subject: format!("ses_{:04}", seq / 3),
    }
}

pub fn content(seq: u64) -> Value {
    match seq % 4 {
        0 => json!({}),
        1 => json!({"command": "printf '\\t\"%s\"\\n' \u{1}\u{7f}", "exit_status": null}),
        2 => {
            json!({"bytes": 9_007_199_254_740_991_i64, "delta": -1, "ok": true, "path": ["/tmp/é", "\u{1f600}"]})
        }
        _ => json!({"\u{fb33}": 1, "\u{1f600}": 2, "nested": {"b": [], "a": {"x": [false, 0]}}}),
    }
}

pub fn entry(seq: u64) -> Vec<u8> {
    entry::encode(&header(seq), content(seq).as_object().unwrap()).unwrap()
}

pub fn entries(size: u64) -> Vec<Vec<u8>> {
    (0..size).map(entry).collect()
}

/// Exports any lines, also such as no log would write.
pub fn export_of(lines: &[Vec<u8>], key: &SigningKey) -> MemoryExport {
    let mut export = MemoryExport::default();
    let mut tiles = TileBuilder::new();
    let mut text = Vec::new();
    for line in lines {
        text.extend_from_slice(line);
        text.push(b'\n');
        for tile in tiles.append(TreeHash::of_leaf(line)) {
            export.blobs.insert(tile.address.to_string(), tile.bytes);
        }
    }
    for tile in tiles.partial() {
        export.blobs.insert(tile.address.to_string(), tile.bytes);
    }
    let note = key
        .sign(tiles.frontier().size(), tiles.frontier().root())
        .unwrap();
    export.blobs.insert(ENTRIES_NAME.into(), text);
    export
        .blobs
        .insert(CHECKPOINT_NAME.into(), note.into_bytes());
    export
}

pub fn good(size: u64) -> MemoryExport {
    export_of(&entries(size), &KEY)
}

/// The sample log in which entry `at` says something else, and all else follows from that.
pub fn forked(size: u64, at: u64) -> MemoryExport {
    let mut lines = entries(size);
    let header = EntryHeader {
        actor: "per_mallory".into(),
        ..header(at)
    };
    lines[usize::try_from(at).unwrap()] =
        entry::encode(&header, content(at).as_object().unwrap()).unwrap();
    export_of(&lines, &KEY)
}

pub fn note(export: &MemoryExport) -> String {
    String::from_utf8(export.blobs[CHECKPOINT_NAME].clone()).unwrap()
}
