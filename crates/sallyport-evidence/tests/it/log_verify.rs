//! What verification of an export finds, case by case and at random.

use std::collections::BTreeSet;

use sallyport_evidence::log::checkpoint::Checkpoint;
use sallyport_evidence::log::entry;
use sallyport_evidence::log::export::{
    CHECKPOINT_NAME, ENTRIES_NAME, ExportError, ExportWriter, MemoryExport,
};
use sallyport_evidence::log::verify::{Verified, verify};

use crate::damage::{Random, damage, edit_lines};
use crate::{golden, sample};

/// The verdict in the words that both verifiers use.
pub fn verdict(export: &MemoryExport, saved: Option<&str>) -> String {
    let key = sample::KEY.verifier();
    let saved = saved.map(|note| Checkpoint::open(note.as_bytes(), key).unwrap().checkpoint);
    match verify(export, key, saved.as_ref()) {
        Ok(Verified { checkpoint, .. }) => format!("verified {}", checkpoint.size),
        Err(fault) => format!("{} {}", fault.code(), fault.place()),
    }
}

/// AU-1
#[test]
fn given_a_good_log_of_any_size_when_verified_then_it_is_accepted_with_every_earlier_checkpoint() {
    for size in [0, 1, 2, 3, 255, 256, 257, 511, 512, 513, 700] {
        let export = sample::good(size);
        let verified = format!("verified {size}");
        assert_eq!(verdict(&export, None), verified);
        for saved_size in [0, 1, size / 3, size / 2, size]
            .into_iter()
            .filter(|saved| *saved <= size)
        {
            let saved = sample::note(&sample::good(saved_size));
            assert_eq!(
                verdict(&export, Some(&saved)),
                verified,
                "saved {saved_size}"
            );
        }
    }
}

/// AU-1: three levels of tiles, which no small log has.
#[test]
fn given_a_log_with_three_levels_of_tiles_when_one_part_is_damaged_then_that_part_is_named() {
    let size = 65_536 + 300;
    let good = sample::good(size);
    assert!(good.blobs.contains_key("tile/2/000.p/1"));
    assert_eq!(
        verdict(&good, Some(&sample::note(&sample::good(65_537)))),
        "verified 65836"
    );

    for name in [
        "tile/0/000",
        "tile/0/255",
        "tile/0/256",
        "tile/0/257.p/44",
        "tile/1/000",
        "tile/1/001.p/1",
        "tile/2/000.p/1",
    ] {
        let mut export = good.clone();
        export.blobs.get_mut(name).unwrap()[17] ^= 0x40;
        assert_eq!(verdict(&export, None), format!("tile-altered {name}"));
    }
    let mut export = good.clone();
    edit_lines(&mut export, |lines| lines.swap(3, 65_600));
    assert_eq!(verdict(&export, None), "entry-out-of-order entry 3");
    let mut export = good;
    edit_lines(&mut export, |lines| drop(lines.remove(65_536)));
    assert_eq!(verdict(&export, None), "entry-missing entry 65536");
}

/// Every kind of damage there is; what the goal names is among them.
const KINDS: [&str; 18] = [
    "bit flipped",
    "byte removed",
    "byte replaced",
    "bytes inserted",
    "entry renumbered",
    "file removed",
    "file truncated",
    "forked",
    "garbage appended",
    "line moved",
    "line repeated",
    "lines removed",
    "lines swapped",
    "older checkpoint",
    "piece copied",
    "rolled back",
    "signed by another key",
    "time changed",
];

/// R2, L4, AU-1: 2,000 cases, and 100,000 with `SALLYPORT_TEST_EFFORT=50`.
#[test]
fn given_random_damage_when_verified_then_it_is_always_found_and_placed() {
    let mut undetected = Vec::new();
    let mut tried = BTreeSet::new();
    for (index, size, damaged) in random_damage(golden::mutations(), 0x5a11_9047) {
        tried.insert(damaged.kind);
        let saved = damaged
            .saved_size
            .map(|size| sample::note(&sample::good(size)));
        let found = verdict(&damaged.export, saved.as_deref());
        let (code, place) = found.split_once(' ').unwrap();
        let placed = damaged.places.is_empty() || damaged.places.iter().any(|known| known == place);
        if code == "verified" || !placed {
            undetected.push(format!(
                "#{index} size {size} {}: {found}, not {:?}",
                damaged.kind, damaged.places
            ));
        }
    }
    assert_eq!(undetected, Vec::<String>::new());
    let missed: Vec<&str> = KINDS
        .into_iter()
        .filter(|kind| !tried.contains(kind))
        .collect();
    assert_eq!(missed, Vec::<&str>::new(), "not tried");
}

/// The same damage for the same seed: `count` cases over logs of several sizes.
pub fn random_damage(
    count: usize,
    seed: u64,
) -> impl Iterator<Item = (usize, u64, crate::damage::Damaged)> {
    println!("seed {seed:#x}");
    let logs = [0, 1, 2, 7, 255, 256, 257, 300, 600].map(|size| (size, sample::good(size)));
    let mut random = Random(seed);
    (0..count).map(move |index| {
        let (size, good) = &logs[random.below(logs.len())];
        (index, *size, damage(good, *size, &mut random))
    })
}

#[test]
fn given_files_that_are_not_of_the_export_when_verified_then_they_are_named_as_not_covered() {
    let mut export = sample::good(5);
    for name in [
        "tile/0/000.p/4",
        "tile/0/000",
        "README",
        "entries.jsonl.bak",
    ] {
        export.blobs.insert(name.into(), b"not signed".to_vec());
    }
    let verified = verify(&export, sample::KEY.verifier(), None).unwrap();
    assert_eq!(
        verified.uncovered,
        [
            "README",
            "entries.jsonl.bak",
            "tile/0/000",
            "tile/0/000.p/4"
        ]
    );
}

#[test]
fn given_a_line_longer_than_any_entry_when_verified_then_it_is_placed_in_bounded_memory() {
    let long = vec![b'x'; entry::ENTRY_SIZE_MAX * 3];
    for (place, found) in [
        (2, "entry-inserted entry 2"),
        (5, "entries-trailing entry 5"),
    ] {
        let mut export = sample::good(5);
        edit_lines(&mut export, |lines| lines.insert(place, long.clone()));
        assert_eq!(verdict(&export, None), found);
    }
    let mut export = sample::good(5);
    edit_lines(&mut export, |lines| lines[2].clone_from(&long));
    assert_eq!(verdict(&export, None), "entry-altered entry 2");
    export.blobs.insert(ENTRIES_NAME.into(), long);
    assert_eq!(verdict(&export, None), "entries-truncated entry 0");
}

#[test]
fn given_a_fault_when_printed_then_it_says_what_and_where_without_its_source() {
    let mut export = sample::good(5);
    edit_lines(&mut export, |lines| drop(lines.drain(1..3)));
    let fault = verify(&export, sample::KEY.verifier(), None).unwrap_err();
    assert_eq!(fault.to_string(), "entry 1: missing, up to entry 2");

    export
        .blobs
        .insert(CHECKPOINT_NAME.into(), b"nonsense".to_vec());
    let fault = verify(&export, sample::KEY.verifier(), None).unwrap_err();
    let source = std::error::Error::source(&fault).unwrap();
    assert_eq!(fault.to_string(), "checkpoint is not believed");
    assert_eq!(
        source.to_string(),
        "read checkpoint: signature block is malformed"
    );
}

#[test]
fn given_the_export_writer_when_it_writes_the_entries_then_the_export_is_the_sample() {
    for size in [0, 1, 256, 300] {
        let good = sample::good(size);
        let mut export = MemoryExport::default();
        let mut writer = ExportWriter::new(&mut export).unwrap();
        for entry in sample::entries(size) {
            writer.append(&entry).unwrap();
        }
        writer
            .finish(&sample::note(&good), sample::KEY.verifier())
            .unwrap();
        assert_eq!(export, good);
    }
}

#[test]
fn given_entries_or_a_checkpoint_that_do_not_belong_when_exported_then_the_export_is_abandoned() {
    let mut export = MemoryExport::default();
    let mut writer = ExportWriter::new(&mut export).unwrap();
    assert!(matches!(
        writer.append(&sample::entry(1)),
        Err(ExportError::Sequence { seq: 0, found: 1 })
    ));
    assert!(matches!(
        writer.append(b"{}"),
        Err(ExportError::Entry { seq: 0, .. })
    ));
    writer.append(&sample::entry(0)).unwrap();
    let of_two = sample::note(&sample::good(2));
    assert!(matches!(
        writer.finish(&of_two, sample::KEY.verifier()),
        Err(ExportError::Root {
            size: 1,
            signed_size: 2,
            ..
        })
    ));
    assert!(!export.blobs.contains_key(CHECKPOINT_NAME));
}
