//! The test vectors of `docs/formats/audit-log.md`: written here, compared with on each run.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sallyport_evidence::log::checkpoint::{Checkpoint, SigningKey};
use sallyport_evidence::log::entry::{self, EntryHeader};
use sallyport_evidence::log::export::{CHECKPOINT_NAME, ENTRIES_NAME, ExportTiles, MemoryExport};
use sallyport_evidence::log::proof::{ConsistencyProof, InclusionProof};
use sallyport_evidence::log::tile::NodeReader;
use sallyport_evidence::log::tree::{Frontier, TreeHash};
use serde_json::{Value, json};

use crate::damage::{blob, edit_lines};
use crate::log_verify::verdict;
use crate::{golden, sample};

/// Entries of the export in the test data.
const SIZE: u64 = 300;

/// Texts that are not entries, each with why.
pub fn bad_entries() -> Vec<(Vec<u8>, &'static str)> {
    let good = String::from_utf8(sample::entry(0)).unwrap();
    let data = |data: &str| good.replacen("\"data\":{}", &format!("\"data\":{data}"), 1);
    let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    let texts = [
        (String::new(), "empty"),
        ("{}".to_owned(), "no members"),
        ("[]".to_owned(), "not an object"),
        (good.replacen(':', ": ", 1), "a space between tokens"),
        (format!("{good} "), "a space at the end"),
        (format!("{good}\r"), "a carriage return at the end"),
        (format!("\u{feff}{good}"), "a byte order mark"),
        (good.replacen("\"v\":1", "\"v\":2", 1), "another version"),
        (
            good.replacen("\"v\":1", "\"v\":true", 1),
            "a version that is not an integer",
        ),
        (good.replacen(",\"v\":1", "", 1), "a missing member"),
        (
            good.replacen("\"v\":1", "\"v\":1,\"w\":1", 1),
            "a member too many",
        ),
        (
            good.replacen("\"v\":1", "\"v\":1,\"v\":1", 1),
            "a member of the envelope twice",
        ),
        (
            good.replacen("\"seq\":0", "\"seq\":-1", 1),
            "a negative number",
        ),
        (
            good.replacen("\"seq\":0", "\"seq\":-0", 1),
            "a negative zero",
        ),
        (good.replacen("\"seq\":0", "\"seq\":0.0", 1), "a fraction"),
        (
            good.replacen("\"seq\":0", "\"seq\":00", 1),
            "a leading zero",
        ),
        (
            good.replacen("\"seq\":0", "\"seq\":\"0\"", 1),
            "a number in a string",
        ),
        (
            good.replacen("\"seq\":0", "\"seq\":9007199254740992", 1),
            "a number above 2^53 - 1",
        ),
        (
            good.replacen("2026-01-02", "2026-02-29", 1),
            "a day that does not exist",
        ),
        (
            good.replacen("2026-01-02", "0000-01-02", 1),
            "a year that does not exist",
        ),
        (
            good.replacen("T03:00:00", "T24:00:00", 1),
            "an hour that does not exist",
        ),
        (good.replacen("T03:00:00", "T03:00:60", 1), "a leap second"),
        (good.replacen(".000Z", "Z", 1), "no milliseconds"),
        (good.replacen(".000Z", ".000+00:00", 1), "an offset"),
        (
            good.replacen("session.opened", "session", 1),
            "an event of one word",
        ),
        (
            good.replacen("session.opened", "session.", 1),
            "an event with an empty word",
        ),
        (
            good.replacen("session.opened", "Session.opened", 1),
            "an upper-case event",
        ),
        (
            good.replacen("session.opened", &format!("s.{}", "x".repeat(63)), 1),
            "an event of 65 bytes",
        ),
        (good.replacen("per_alice", "", 1), "an empty actor"),
        (
            good.replacen("per_alice", &"é".repeat(257), 1),
            "an actor of 514 bytes",
        ),
        (
            good.replacen("per_alice", "per\\u005falice", 1),
            "an escape that is not needed",
        ),
        (data("[]"), "data that is not an object"),
        (data("null"), "data that is null"),
        (data("{\"b\":1,\"a\":1}"), "members out of order"),
        (data("{\"a\":1,\"a\":1}"), "a member twice"),
        (
            data("{\"\u{fb33}\":1,\"\u{1f600}\":1}"),
            "members in the order of code points, not UTF-16",
        ),
        (data("{\"a\":1e2}"), "an exponent"),
        (data("{\"a\":1.5}"), "a fraction in data"),
        (data("{\"a\":NaN}"), "not a number"),
        (data("{\"a\":\"\\/\"}"), "an escaped slash"),
        (data("{\"a\":\"\\u001F\"}"), "an upper-case escape"),
        (
            data("{\"a\":\"\\u000a\"}"),
            "a long escape where a short one exists",
        ),
        (data("{\"a\":\"\t\"}"), "a bare control character"),
        (data("{\"a\":\"\\u007f\"}"), "an escaped delete character"),
        (
            data("{\"a\":\"\\ud83d\\ude00\"}"),
            "an escaped surrogate pair",
        ),
        (data("{\"a\":\"\\ud83d\"}"), "a lone surrogate"),
        (data("{\"a\":tru}"), "a cut literal"),
        (data("{\"a\":[1,]}"), "a trailing comma"),
        (data(&nested(15)), "nesting 17 deep"),
        (
            data(&format!(
                "{{\"a\":\"{}\"}}",
                "x".repeat(entry::ENTRY_SIZE_MAX - good.len() - 5)
            )),
            "one byte above the largest size",
        ),
    ];
    let mut bad: Vec<_> = texts
        .into_iter()
        .map(|(text, why)| (text.into_bytes(), why))
        .collect();
    let mut latin = good.into_bytes();
    latin[11] = 0xe9;
    bad.push((latin, "not UTF-8"));
    bad
}

/// Signed checkpoints that are to be refused, with the code.
pub fn bad_checkpoints() -> Vec<(Vec<u8>, &'static str, &'static str)> {
    let good = sample::note(&sample::good(1));
    let (text, block) = good.split_once("\n\n").unwrap();
    let root = text.lines().last().unwrap();
    let log = sample::LOG_NAME;
    let sign = |text: &str| sign_text(text, log);
    let other_key = SigningKey::from_seed(log, &[9; 32].into()).unwrap();
    let other = String::from_utf8(
        sample::export_of(&sample::entries(1), &other_key).blobs[CHECKPOINT_NAME].clone(),
    )
    .unwrap();
    let other_line = other.split_once("\n\n").unwrap().1;
    // The last character before the padding holds two unused bits.
    let loose_root = root.replace("=", "").split_at(42).0.to_owned()
        + &char::from(root.as_bytes()[42] + 1).to_string()
        + "=";
    let cases = [
        (String::new(), "checkpoint-malformed", "empty"),
        (
            text.to_owned() + "\n",
            "checkpoint-malformed",
            "no signature block",
        ),
        (
            good.replace("\n\n", "\n"),
            "checkpoint-malformed",
            "no empty line",
        ),
        (
            good.trim_end().to_owned(),
            "checkpoint-malformed",
            "no line end at the end",
        ),
        (
            format!("{good}\n"),
            "checkpoint-malformed",
            "an empty line at the end",
        ),
        (
            good.replace('\n', "\r\n"),
            "checkpoint-malformed",
            "carriage returns",
        ),
        (
            format!("{good}comment\n"),
            "checkpoint-malformed",
            "a line that is no signature",
        ),
        (
            good.replace('\u{2014}', "-"),
            "checkpoint-malformed",
            "a hyphen for the dash",
        ),
        (
            sign(&format!("{log}\n1\n{}\n", root.replace('=', ""))),
            "checkpoint-malformed",
            "a root without its padding, signed",
        ),
        (
            format!("{good}\u{2014} witness.example AAAAAA==\n"),
            "checkpoint-malformed",
            "a signature of no bytes",
        ),
        (
            format!("{good}\u{2014} wit+ness AAAAAAA=\n"),
            "checkpoint-malformed",
            "a plus sign in a key name",
        ),
        (
            format!("{good}\u{2014} wit\u{a0}ness AAAAAAA=\n"),
            "checkpoint-malformed",
            "white space in a key name",
        ),
        (
            format!("{good}{}", "\u{2014} witness.example AAAAAAA=\n".repeat(16)),
            "checkpoint-malformed",
            "17 signatures",
        ),
        (
            format!("{good}{}", "x".repeat(65_536)),
            "checkpoint-malformed",
            "too long",
        ),
        (
            format!("{text}\n\n{other_line}"),
            "checkpoint-signature",
            "signed by another key only",
        ),
        (
            other,
            "checkpoint-signature",
            "another key of the same name",
        ),
        (
            good.replacen("\n1\n", "\n2\n", 1),
            "checkpoint-signature",
            "another size",
        ),
        (
            format!(
                "{good}{}",
                sign(&format!("{log}\n2\n{root}\n"))
                    .split_once("\n\n")
                    .unwrap()
                    .1
            ),
            "checkpoint-signature",
            "a second signature by the key, over another text",
        ),
        (
            good.replacen(log, "log.example/other", 1),
            "checkpoint-signature",
            "another log name",
        ),
        (
            sign(&format!("log.example/other\n1\n{root}\n")),
            "checkpoint-origin",
            "a checkpoint of another log, signed by the key",
        ),
        (
            sign(&format!("{log}\n01\n{root}\n")),
            "checkpoint-malformed",
            "a leading zero, signed",
        ),
        (
            sign(&format!("{log}\n+1\n{root}\n")),
            "checkpoint-malformed",
            "a plus sign, signed",
        ),
        (
            sign(&format!("{log}\n9007199254740993\n{root}\n")),
            "checkpoint-malformed",
            "a size above 2^53, signed",
        ),
        (
            sign(&format!("{log}\n99999999999999999999999\n{root}\n")),
            "checkpoint-malformed",
            "a size above 2^64, signed",
        ),
        (
            sign(&format!("{log}\n1\n{loose_root}\n")),
            "checkpoint-malformed",
            "unused bits set in the root, signed",
        ),
        (
            sign(&format!("{log}\n1\nAAAA\n")),
            "checkpoint-malformed",
            "a root of 3 bytes, signed",
        ),
        (
            sign(&format!("{log}\n1\n")),
            "checkpoint-malformed",
            "no root, signed",
        ),
        (
            sign(&format!("{log}\n1\n{root}\n\nextension\n")),
            "checkpoint-malformed",
            "an empty extension line, signed",
        ),
        (
            sign(&format!("{log}\n1\n{root}")),
            "checkpoint-signature",
            "signed without the last line end",
        ),
    ];
    assert_eq!(block.lines().count(), 1);
    cases
        .into_iter()
        .map(|(note, code, why)| (note.into_bytes(), code, why))
        .collect()
}

/// Signs any text with the sample key, also such as the product would not sign.
fn sign_text(text: &str, name: &str) -> String {
    let pair = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&sample::SEED).unwrap();
    let signature = [
        &sample::KEY.verifier().id()[..],
        pair.sign(text.as_bytes()).as_ref(),
    ]
    .concat();
    let text = text.strip_suffix('\n').unwrap_or(text);
    format!("{text}\n\n\u{2014} {name} {}\n", BASE64.encode(signature))
}

/// One damaged export: how, with which kept checkpoint, and what is to be found.
pub struct Case {
    pub name: &'static str,
    pub export: MemoryExport,
    pub saved: Option<String>,
    pub verdict: &'static str,
}

fn case(name: &'static str, verdict: &'static str, damage: impl FnOnce(&mut MemoryExport)) -> Case {
    let mut export = sample::good(SIZE);
    damage(&mut export);
    Case {
        name,
        export,
        saved: None,
        verdict,
    }
}

fn with_saved(saved_size: u64, case: Case) -> Case {
    Case {
        saved: Some(sample::note(&sample::good(saved_size))),
        ..case
    }
}

/// AU-1: every fault of the format, by hand.
pub fn cases() -> Vec<Case> {
    let replace = |from: &'static str, to: &'static str| {
        move |export: &mut MemoryExport| {
            edit_lines(export, |lines| {
                let text = String::from_utf8(lines[260].clone()).unwrap();
                assert!(text.contains(from));
                lines[260] = text.replacen(from, to, 1).into_bytes();
            });
        }
    };
    let resigned = |edit: fn(&mut Vec<Vec<u8>>)| {
        move |export: &mut MemoryExport| {
            let mut lines = sample::entries(SIZE);
            edit(&mut lines);
            *export = sample::export_of(&lines, &sample::KEY);
        }
    };
    vec![
        case("good", "verified 300", |_| {}),
        with_saved(
            0,
            case(
                "good, checkpoint of the empty log kept",
                "verified 300",
                |_| {},
            ),
        ),
        with_saved(
            299,
            case("good, older checkpoint kept", "verified 300", |_| {}),
        ),
        with_saved(
            300,
            case("good, same checkpoint kept", "verified 300", |_| {}),
        ),
        case(
            "a file that is not of the export",
            "verified 300",
            |export| {
                export
                    .blobs
                    .insert("tile/0/000.p/7".into(), vec![0; 7 * 32]);
            },
        ),
        case("a cosignature beside ours", "verified 300", |export| {
            blob(export, CHECKPOINT_NAME).extend("\u{2014} witness.example AAAAAAA=\n".bytes());
        }),
        case("no checkpoint", "file-missing checkpoint", |export| {
            export.blobs.remove(CHECKPOINT_NAME);
        }),
        case("no entries", "file-missing entries.jsonl", |export| {
            export.blobs.remove(ENTRIES_NAME);
        }),
        case("no full tile", "file-missing tile/0/000", |export| {
            export.blobs.remove("tile/0/000");
        }),
        case("no last tile", "file-missing tile/0/001.p/44", |export| {
            export.blobs.remove("tile/0/001.p/44");
        }),
        case(
            "the checkpoint of a smaller log",
            "file-missing tile/0/000.p/200",
            |export| {
                let note = sample::note(&sample::good(200)).into_bytes();
                export.blobs.insert(CHECKPOINT_NAME.into(), note);
            },
        ),
        case(
            "the checkpoint of a smaller log whose tiles are there",
            "entries-trailing entry 256",
            |export| {
                let note = sample::note(&sample::good(256)).into_bytes();
                export.blobs.insert(CHECKPOINT_NAME.into(), note);
            },
        ),
        case(
            "the checkpoint of another history",
            "root-mismatch checkpoint",
            |export| {
                let note = sample::note(&sample::forked(SIZE, 7)).into_bytes();
                export.blobs.insert(CHECKPOINT_NAME.into(), note);
            },
        ),
        case(
            "a word changed",
            "entry-altered entry 260",
            replace("per_bob", "per_bot"),
        ),
        case(
            "a number changed",
            "entry-altered entry 260",
            replace("\"seq\":260", "\"seq\":261"),
        ),
        case(
            "a space added, the meaning the same",
            "entry-altered entry 260",
            replace(",\"v\"", ", \"v\""),
        ),
        case(
            "the first entry changed",
            "entry-altered entry 0",
            |export| {
                blob(export, ENTRIES_NAME)[3] ^= 1;
            },
        ),
        case("a line end replaced", "entry-altered entry 9", |export| {
            let text = blob(export, ENTRIES_NAME);
            let end = text
                .iter()
                .enumerate()
                .filter(|(_, byte)| **byte == b'\n')
                .nth(9)
                .unwrap()
                .0;
            text[end] = b' ';
        }),
        case(
            "a line end added within an entry",
            "entry-altered entry 0",
            |export| {
                blob(export, ENTRIES_NAME).insert(5, b'\n');
            },
        ),
        case("an empty line", "entry-inserted entry 17", |export| {
            edit_lines(export, |lines| lines.insert(17, Vec::new()));
        }),
        case(
            "an entry made up and put in",
            "entry-inserted entry 17",
            |export| {
                edit_lines(export, |lines| lines.insert(17, sample::entry(5000)));
            },
        ),
        case("an entry taken out", "entry-missing entry 17", |export| {
            edit_lines(export, |lines| drop(lines.remove(17)));
        }),
        case(
            "the first entries taken out",
            "entry-missing entry 0",
            |export| {
                edit_lines(export, |lines| drop(lines.drain(..280)));
            },
        ),
        case(
            "an entry put in a second time",
            "entry-duplicated entry 18",
            |export| {
                edit_lines(export, |lines| lines.insert(18, lines[17].clone()));
            },
        ),
        case(
            "two entries swapped",
            "entry-out-of-order entry 17",
            |export| {
                edit_lines(export, |lines| lines.swap(17, 280));
            },
        ),
        case(
            "all entries in reverse",
            "entry-out-of-order entry 0",
            |export| {
                edit_lines(export, |lines| lines.reverse());
            },
        ),
        case(
            "the last entry taken out",
            "entries-truncated entry 299",
            |export| {
                edit_lines(export, |lines| drop(lines.pop()));
            },
        ),
        case(
            "cut within an entry",
            "entries-truncated entry 299",
            |export| {
                let text = blob(export, ENTRIES_NAME);
                text.truncate(text.len() - 9);
            },
        ),
        case(
            "all entries taken out",
            "entries-truncated entry 0",
            |export| {
                blob(export, ENTRIES_NAME).clear();
            },
        ),
        case(
            "the last line end taken out",
            "entry-unterminated entry 299",
            |export| {
                blob(export, ENTRIES_NAME).pop();
            },
        ),
        case("an entry added", "entries-trailing entry 300", |export| {
            edit_lines(export, |lines| lines.push(sample::entry(300)));
        }),
        case(
            "a line end added at the end",
            "entries-trailing entry 300",
            |export| {
                blob(export, ENTRIES_NAME).push(b'\n');
            },
        ),
        case(
            "a hash changed in a full tile",
            "tile-altered tile/0/000",
            |export| {
                blob(export, "tile/0/000")[40] ^= 1;
            },
        ),
        case(
            "a hash changed in the last tile",
            "tile-altered tile/0/001.p/44",
            |export| {
                blob(export, "tile/0/001.p/44")[40] ^= 1;
            },
        ),
        case(
            "a hash changed in the highest tile",
            "tile-altered tile/1/000.p/1",
            |export| {
                blob(export, "tile/1/000.p/1")[31] ^= 0x80;
            },
        ),
        case("a tile cut", "tile-altered tile/0/000", |export| {
            blob(export, "tile/0/000").pop();
        }),
        case("a tile longer", "tile-altered tile/0/001.p/44", |export| {
            blob(export, "tile/0/001.p/44").push(0);
        }),
        case(
            "an entry and its tile changed together",
            "tile-altered tile/0/000",
            |export| {
                for (name, bytes) in sample::forked(SIZE, 7).blobs {
                    if name == ENTRIES_NAME || name == "tile/0/000" {
                        export.blobs.insert(name, bytes);
                    }
                }
            },
        ),
        case(
            "everything but the checkpoint rewritten",
            "root-mismatch checkpoint",
            |export| {
                let note = export.blobs[CHECKPOINT_NAME].clone();
                *export = sample::forked(SIZE, 7);
                export.blobs.insert(CHECKPOINT_NAME.into(), note);
            },
        ),
        case(
            "an entry and the last tile changed, each in its way",
            "root-mismatch checkpoint",
            |export| {
                blob(export, "tile/0/001.p/44")[40] ^= 1;
                blob(export, ENTRIES_NAME)[3] ^= 1;
            },
        ),
        with_saved(
            300,
            case(
                "rolled back to an earlier state",
                "rollback size 290",
                |export| {
                    *export = sample::good(290);
                },
            ),
        ),
        case(
            "rolled back, and no checkpoint kept: cannot be known",
            "verified 290",
            |export| {
                *export = sample::good(290);
            },
        ),
        with_saved(
            300,
            case(
                "another history of the same size",
                "fork size 300",
                |export| {
                    *export = sample::forked(SIZE, 7);
                },
            ),
        ),
        with_saved(
            290,
            case("another history that went on", "fork size 290", |export| {
                *export = sample::forked(SIZE, 7);
            }),
        ),
        with_saved(
            290,
            case(
                "another history since the kept checkpoint: cannot be known",
                "verified 300",
                |export| {
                    *export = sample::forked(SIZE, 295);
                },
            ),
        ),
        case(
            "signed, but in another spelling",
            "entry-malformed entry 260",
            resigned(|lines| {
                let text = String::from_utf8(lines[260].clone()).unwrap();
                lines[260] = text.replacen(",\"v\"", ", \"v\"", 1).into_bytes();
            }),
        ),
        case(
            "signed, but under the number of another entry",
            "entry-misnumbered entry 260",
            resigned(|lines| {
                lines[260] = sample::entry(261);
            }),
        ),
        case(
            "signed, with a number left out",
            "entry-misnumbered entry 261",
            resigned(|lines| {
                lines.remove(261);
            }),
        ),
    ]
}

/// The changes that turn one export into another, as `faults.json` writes them.
fn changes(from: &MemoryExport, to: &MemoryExport) -> Vec<Value> {
    let removed = from
        .blobs
        .keys()
        .filter(|name| !to.blobs.contains_key(*name))
        .map(|name| json!({"file": name, "delete": true}));
    let changed = to.blobs.iter().filter_map(|(name, after)| {
        let before = from.blobs.get(name).map_or(&[][..], Vec::as_slice);
        let same = |pairs: &mut dyn Iterator<Item = (&u8, &u8)>| {
            pairs.take_while(|(left, right)| left == right).count()
        };
        let head = same(&mut before.iter().zip(after));
        let tail = same(&mut before[head..].iter().rev().zip(after[head..].iter().rev()));
        let insert = &after[head..after.len() - tail];
        let remove = before.len() - head - tail;
        let unchanged = from.blobs.contains_key(name) && remove == 0 && insert.is_empty();
        (!unchanged).then(|| {
            json!({"file": name, "offset": head, "remove": remove, "insert": BASE64.encode(insert)})
        })
    });
    removed.chain(changed).collect()
}

fn root_of(size: u64) -> TreeHash {
    let mut frontier = Frontier::new();
    for entry in sample::entries(size) {
        frontier.append(TreeHash::of_leaf(&entry), &mut |_, _| {});
    }
    frontier.root()
}

/// AU-1
#[test]
fn given_the_cases_by_hand_when_verified_then_each_has_its_fault_and_the_vectors_say_so() {
    let good = sample::good(SIZE);
    let mut listed = Vec::new();
    for case in cases() {
        let found = verdict(&case.export, case.saved.as_deref());
        assert_eq!(found, case.verdict, "{}", case.name);
        listed.push(json!({
            "name": case.name, "verdict": case.verdict, "saved": case.saved,
            "changes": changes(&good, &case.export),
        }));
    }
    golden::check("faults.json", &pretty(&Value::from(listed)));
    for (name, bytes) in &good.blobs {
        golden::check(&format!("export/{name}"), bytes);
    }
}

/// AU-1
#[test]
fn given_the_sample_log_then_its_vectors_are_those_in_the_test_data() {
    let hashes = |path: &[TreeHash]| path.iter().map(ToString::to_string).collect::<Vec<_>>();
    let export = sample::good(SIZE);
    let tiles = ExportTiles(&export);
    let mut nodes = NodeReader::new(&tiles, SIZE);
    let inclusion = [0, 1, 255, 256, 299].map(|index| {
        let proof = InclusionProof::prove(&mut nodes, index).unwrap();
        json!({"index": index, "size": SIZE, "path": hashes(&proof.path)})
    });
    let consistency = [0, 1, 128, 255, 256, 257, 299, 300].map(|from| {
        let proof = ConsistencyProof::prove(&mut nodes, from).unwrap();
        assert_eq!(proof.verify(&root_of(from), &root_of(SIZE)), Ok(()));
        json!({"from": from, "to": SIZE, "path": hashes(&proof.path)})
    });
    let entries: Vec<Value> = (0..8)
        .map(|seq| {
            let (
                EntryHeader {
                    at,
                    event,
                    actor,
                    subject,
                    ..
                },
                bytes,
            ) = (sample::header(seq), sample::entry(seq));
            json!({
                "seq": seq, "at": at, "event": event, "actor": actor, "subject": subject,
                "data": sample::content(seq), "leaf": TreeHash::of_leaf(&bytes).to_string(),
                "bytes": String::from_utf8(bytes).unwrap(),
            })
        })
        .collect();
    let bad_entries: Vec<Value> = bad_entries()
        .into_iter()
        .filter(|(bytes, _)| bytes.len() <= 4096)
        .map(|(bytes, why)| {
            assert!(entry::check(&bytes).is_err(), "{why}");
            json!({"why": why, "bytes": BASE64.encode(bytes)})
        })
        .collect();
    let bad_checkpoints: Vec<Value> = bad_checkpoints()
        .into_iter()
        .filter(|(note, ..)| note.len() <= 4096)
        .map(|(note, code, why)| {
            let opened = Checkpoint::open(&note, sample::KEY.verifier());
            assert!(opened.is_err(), "{why}");
            json!({"why": why, "code": code, "bytes": BASE64.encode(note)})
        })
        .collect();
    let roots: Vec<Value> = [0, 1, 2, 3, 4, 5, 6, 7, 8, 128, 255, 256, 257, 299, 300]
        .map(|size| json!({"size": size, "root": root_of(size).to_string()}))
        .to_vec();
    let vectors = json!({
        "vkey": sample::KEY.verifier().to_string(), "seed": hex::encode(sample::SEED),
        "entries": entries, "not_entries": bad_entries, "roots": roots,
        "inclusion": inclusion, "consistency": consistency,
        "checkpoint": sample::note(&export), "not_checkpoints": bad_checkpoints,
    });
    golden::check("vectors.json", &pretty(&vectors));
}

fn pretty(value: &Value) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).unwrap();
    bytes.push(b'\n');
    bytes
}
