//! Power loss, simulated on the store of a real node.
//!
//! `strace` writes down what control does to its database files: each write with its bytes, each sync when
//! it returned. From that, any moment can be made again as a disk may have kept it: everything up to the
//! last sync of each file, and of the writes after it any part, in any order, torn at any sector. What a
//! client had been told by then must be in every one of these states.
//!
//! Chosen over a file system of our own, because it watches the real binary with the real SQLite, and over
//! a kill, because a kill loses nothing that the kernel holds.

use std::{collections::BTreeMap, fs};

use sallyport_control::kernel::{
    clock::SystemClock,
    database::{Database, StoreLocation},
    statement::Sql as _,
};
use sallyport_evidence::log::{entry::EntryHeader, tree::TreeHash};
use sallyport_testkit::effort;

use crate::{
    ledger::Ledger,
    node::{Node, Role, Traced},
    waiting::eventually,
    world::World,
};

/// What a disk keeps or loses as a whole.
const SECTOR: usize = 512;
const FILES: [&str; 2] = ["sallyport.db", "sallyport.db-wal"];

/// What control did to a file.
#[derive(Debug)]
enum Deed {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate { size: usize },
    Sync,
}

/// One deed: when it began (a sync: when it was over), in microseconds since the epoch, and to which file.
#[derive(Debug)]
struct Step {
    at_us: u64,
    file: usize,
    deed: Deed,
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }
}

/// The end of a path as `strace -y -xx` writes it.
fn path_end(name: &str) -> String {
    let hex: String = format!("/{name}")
        .bytes()
        .map(|byte| format!("\\x{byte:02x}"))
        .collect();
    format!("{hex}>")
}

/// Reads what `strace -f -ttt -y -xx` wrote: `PID TIME call(fd<path>, "\x..", length, offset) = result`,
/// or in two lines when another thread came between.
fn steps(trace: &str) -> Vec<Step> {
    let ends = FILES.map(path_end);
    let mut steps = Vec::new();
    let mut syncing: BTreeMap<&str, usize> = BTreeMap::new();
    for line in trace.lines() {
        let Some((pid, rest)) = line.split_once(' ') else {
            continue;
        };
        let Some((time, call)) = rest.trim_start().split_once(' ') else {
            continue;
        };
        let at_us: u64 = time.replace('.', "").parse().unwrap_or(0);
        if call.starts_with("<... f") && call.contains("resumed") {
            if let Some(file) = syncing.remove(pid)
                && call.ends_with("= 0")
            {
                steps.push(Step {
                    at_us,
                    file,
                    deed: Deed::Sync,
                });
            }
            continue;
        }
        let file = ends.iter().position(|end| call.contains(end));
        let Some(file) = file else { continue };
        if call.starts_with("fdatasync(") || call.starts_with("fsync(") {
            if call.contains("unfinished") {
                syncing.insert(pid, file);
            } else if call.ends_with("= 0") {
                steps.push(Step {
                    at_us,
                    file,
                    deed: Deed::Sync,
                });
            }
        } else if call.starts_with("pwrite64(") {
            let mut parts = call.split('"');
            let bytes = parts.nth(1).unwrap();
            assert!(
                !parts.clone().next().unwrap().starts_with("..."),
                "cut off: {call:.80}"
            );
            let hex: String = bytes.split("\\x").collect();
            let tail = parts.next().unwrap();
            let numbers: Vec<usize> = tail
                .split([',', ')', ' '])
                .filter_map(|word| word.parse().ok())
                .collect();
            let deed = Deed::Write {
                offset: numbers[1],
                bytes: unhex(&hex),
            };
            steps.push(Step { at_us, file, deed });
        } else if call.starts_with("ftruncate(") {
            let size = call
                .split([',', ')'])
                .nth(1)
                .unwrap()
                .trim()
                .parse()
                .unwrap();
            steps.push(Step {
                at_us,
                file,
                deed: Deed::Truncate { size },
            });
        }
    }
    steps
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap())
        .collect()
}

fn put(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if file.len() < offset + bytes.len() {
        file.resize(offset + bytes.len(), 0);
    }
    file[offset..offset + bytes.len()].copy_from_slice(bytes);
}

fn apply(file: &mut Vec<u8>, deed: &Deed) {
    match deed {
        Deed::Write { offset, bytes } => put(file, *offset, bytes),
        Deed::Truncate { size } => file.resize(*size, 0),
        Deed::Sync => {}
    }
}

/// The files as a disk may have them when power is lost before step `count`.
fn lost_power(base: &[Vec<u8>], steps: &[Step], count: usize, random: &mut Random) -> Vec<Vec<u8>> {
    let mut files = base.to_vec();
    for (number, file) in files.iter_mut().enumerate() {
        let own: Vec<&Deed> = steps[..count]
            .iter()
            .filter(|step| step.file == number)
            .map(|step| &step.deed)
            .collect();
        let synced = own
            .iter()
            .rposition(|deed| matches!(deed, Deed::Sync))
            .map_or(0, |last| last + 1);
        for deed in &own[..synced] {
            apply(file, deed);
        }
        let mut open: Vec<&Deed> = own[synced..].to_vec();
        let kind = random.below(5);
        if kind == 0 {
            continue;
        }
        if kind >= 2 {
            open.retain(|_| random.below(2) == 0);
            for at in (1..open.len()).rev() {
                open.swap(at, random.below(at + 1));
            }
        }
        for deed in open {
            match deed {
                Deed::Write { offset, bytes } if kind == 4 => {
                    for (piece, sector) in bytes.chunks(SECTOR).enumerate() {
                        if random.below(2) == 0 {
                            put(file, offset + piece * SECTOR, sector);
                        }
                    }
                }
                deed => apply(file, deed),
            }
        }
    }
    files
}

/// Opens the store as a node would; returns its log, which must be whole. Each in a folder of its own: the
/// connections to the one before close in threads that nobody waits for, and the last one tidies up.
fn log_of(files: &[Vec<u8>]) -> String {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    for (name, bytes) in FILES.iter().zip(files) {
        fs::write(folder.join(name), bytes).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let location = StoreLocation::Sqlite(folder.join(FILES[0]));
        let clock = std::sync::Arc::new(SystemClock::default());
        let db = Database::open(&location, clock).await.unwrap();
        let mut reader = db.read().await.unwrap();
        let sql = "SELECT seq, entry, leaf FROM audit_entry ORDER BY seq";
        let rows = reader.all(sql, vec![]).await.unwrap();
        let mut log = String::new();
        for (number, row) in (0_u64..).zip(&rows) {
            let entry = row.text("entry").unwrap();
            assert_eq!(EntryHeader::parse(entry.as_bytes()).unwrap().seq, number);
            let leaf = row.bytes("leaf").unwrap();
            assert_eq!(leaf, TreeHash::of_leaf(entry.as_bytes()).as_bytes());
            log.push_str(&entry);
            log.push('\n');
        }
        assert_eq!(u64::try_from(rows.len()).unwrap(), *db.log_size().borrow());
        drop(reader);
        db.close().await.unwrap();
        log
    })
}

fn files_of(node: &Node) -> Vec<Vec<u8>> {
    FILES
        .iter()
        .map(|name| fs::read(node.data().join(name)).unwrap_or_default())
        .collect()
}

/// The files, and the trace of all that is done to them from then on. What control writes by itself between
/// the two would be in neither, and the log would end where it is missing.
fn traced_from(node: &Node) -> (Vec<Vec<u8>>, Traced) {
    loop {
        let base = files_of(node);
        let traced = node.trace(Role::Control, "pwrite64,ftruncate,fdatasync,fsync");
        if files_of(node) == base {
            return (base, traced);
        }
        traced.finish();
    }
}

/// R1, L5, AU-1, AU-6: whenever the power goes, whatever the disk kept of what was not synced, everything
/// that a client was told by then is in the log, once and in order.
#[test]
fn losing_power_at_any_moment_loses_nothing_that_a_client_was_told() {
    let world = World::new();
    world.verified_export();
    let wanted = effort::rounds(40);
    let (base, traced) = traced_from(&world.node);
    let ledger = Ledger::start(&world.node, &world.olga);
    eventually("clients were told of enough", || {
        (ledger.acknowledged().len() >= wanted).then_some(())
    });
    let told = ledger.finish_with_times();
    let steps = steps(&traced.finish());

    let seed = 0xdead_c0de;
    let mut random = Random(seed);
    let mut needed = 0;
    for state in 0..effort::rounds(40) {
        let count = 1 + random.below(steps.len());
        let moment = steps[count - 1].at_us;
        let files = lost_power(&base, &steps, count, &mut random);
        let log = log_of(&files);
        for (name, _) in told.iter().filter(|(_, told_at_us)| *told_at_us < moment) {
            let entry = format!("\"name\":\"{name}\"");
            let found = log
                .lines()
                .filter(|line| line.contains(&entry) && line.contains("person.created"));
            assert_eq!(
                found.count(),
                1,
                "seed {seed}, state {state}, power lost before step {count} of {}: {name}",
                steps.len()
            );
            needed += 1;
        }
    }
    assert!(needed > 0, "no state had anything to lose");
    let is_sync = |step: &&Step| matches!(step.deed, Deed::Sync);
    let syncs = steps.iter().filter(is_sync).count();
    assert!(syncs >= 10, "only {syncs} syncs in {} steps", steps.len());
}
