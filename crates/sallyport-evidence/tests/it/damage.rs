//! Ways to damage an export on purpose, by hand and at random.

use sallyport_evidence::log::export::{CHECKPOINT_NAME, ENTRIES_NAME, MemoryExport};

use crate::sample;

/// The lines of the entries, without their ends.
pub fn lines(export: &MemoryExport) -> Vec<Vec<u8>> {
    let text = &export.blobs[ENTRIES_NAME];
    let mut lines: Vec<Vec<u8>> = text
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    assert_eq!(lines.pop(), Some(Vec::new()), "the last line is ended");
    lines
}

pub fn set_lines(export: &mut MemoryExport, lines: &[Vec<u8>]) {
    let text = lines
        .iter()
        .flat_map(|line| [line.as_slice(), b"\n"].concat())
        .collect();
    export.blobs.insert(ENTRIES_NAME.into(), text);
}

pub fn edit_lines(export: &mut MemoryExport, edit: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let mut lines = lines(export);
    edit(&mut lines);
    set_lines(export, &lines);
}

pub fn blob<'a>(export: &'a mut MemoryExport, name: &str) -> &'a mut Vec<u8> {
    export
        .blobs
        .get_mut(name)
        .unwrap_or_else(|| panic!("no `{name}` in the export"))
}

/// SplitMix64: enough to choose damage, and the same on every machine for a seed.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// A damaged export, and what a verifier may say about it.
pub struct Damaged {
    pub export: MemoryExport,
    pub kind: &'static str,
    /// Places that may be named; empty where only the detection counts.
    pub places: Vec<String>,
    /// Size of the saved checkpoint that is needed to notice, if one is.
    pub saved_size: Option<u64>,
}

/// Damages one part of the sample log of `size` entries.
pub fn damage(good: &MemoryExport, size: u64, random: &mut Random) -> Damaged {
    loop {
        let mut export = good.clone();
        let names: Vec<String> = good.blobs.keys().cloned().collect();
        let name = names[random.below(names.len())].clone();
        let kind = random.below(20);
        let mut saved_size = None;
        let (kind, places) = match kind {
            0..=8 => damage_bytes(&mut export, &name, kind, size, random),
            9..=14 if size > 1 => damage_lines(&mut export, kind, random),
            15 => {
                export.blobs.remove(&name);
                ("file removed", vec![name])
            }
            16 if size > 0 => {
                let older = u64::try_from(random.below(usize::try_from(size).unwrap())).unwrap();
                let note = sample::note(&sample::good(older)).into_bytes();
                export.blobs.insert(CHECKPOINT_NAME.into(), note);
                ("older checkpoint", Vec::new())
            }
            17 if size > 0 => {
                let older = u64::try_from(random.below(usize::try_from(size).unwrap())).unwrap();
                export = sample::good(older);
                saved_size = Some(size);
                ("rolled back", vec![format!("size {older}")])
            }
            18 if size > 0 => {
                let at = u64::try_from(random.below(usize::try_from(size).unwrap())).unwrap();
                export = sample::forked(size, at);
                saved_size = Some(at + 1);
                ("forked", vec![format!("size {}", at + 1)])
            }
            19 => {
                let other = sallyport_evidence::log::checkpoint::SigningKey::from_seed(
                    sample::LOG_NAME,
                    &[9; 32].into(),
                );
                export = sample::export_of(&lines(&export), &other.unwrap());
                ("signed by another key", vec![CHECKPOINT_NAME.into()])
            }
            _ => continue,
        };
        if export != *good {
            return Damaged {
                export,
                kind,
                places,
                saved_size,
            };
        }
    }
}

/// Damages a file as bytes, whatever it is.
fn damage_bytes(
    export: &mut MemoryExport,
    name: &str,
    kind: usize,
    size: u64,
    random: &mut Random,
) -> (&'static str, Vec<String>) {
    let before = blob(export, name).clone();
    let bytes = blob(export, name);
    let at = random.below(bytes.len());
    let mut exact = true;
    let kind = match kind {
        0 | 1 if !bytes.is_empty() => {
            bytes[at] ^= 1 << random.below(8);
            "bit flipped"
        }
        2 | 3 if !bytes.is_empty() => {
            bytes[at] = random.bytes(1)[0];
            "byte replaced"
        }
        4 if !bytes.is_empty() => {
            bytes.remove(at);
            "byte removed"
        }
        5 => {
            let length = 1 + random.below(40);
            let inserted = random.bytes(length);
            bytes.splice(at..at, inserted);
            "bytes inserted"
        }
        6 => {
            bytes.truncate(at);
            "file truncated"
        }
        7 => {
            let length = 1 + random.below(3);
            bytes.extend(std::iter::repeat_n(
                *b" \n0x".get(random.below(4)).unwrap(),
                length,
            ));
            "garbage appended"
        }
        _ => {
            let from = random.below(bytes.len());
            let piece = bytes[from..bytes.len().min(from + 1 + random.below(300))].to_vec();
            bytes.splice(at..at, piece);
            exact = false;
            "piece copied"
        }
    };
    let places = if name != ENTRIES_NAME {
        vec![name.to_owned()]
    } else if exact {
        // The first byte that differs belongs to the line that is to be named.
        let same = before
            .iter()
            .zip(bytes.iter())
            .take_while(|(left, right)| left == right)
            .count();
        let line = before[..same].iter().filter(|byte| **byte == b'\n').count();
        vec![format!("entry {line}")]
    } else {
        (0..=size).map(|line| format!("entry {line}")).collect()
    };
    (kind, places)
}

/// Damages the entries as lines that are all genuine, or almost.
fn damage_lines(
    export: &mut MemoryExport,
    kind: usize,
    random: &mut Random,
) -> (&'static str, Vec<String>) {
    let mut all = lines(export);
    let (one, other) = (random.below(all.len()), random.below(all.len()));
    let (first, last) = (one.min(other), one.max(other));
    let (kind, place) = match kind {
        9 => {
            all.drain(first..=last);
            ("lines removed", first)
        }
        10 => {
            all.insert(last, all[first].clone());
            (
                "line repeated",
                if first == last { first + 1 } else { last },
            )
        }
        11 => {
            all.swap(first, last);
            ("lines swapped", first)
        }
        12 => {
            let moved = all.remove(first);
            all.insert(last, moved);
            ("line moved", first)
        }
        13 => {
            let text = String::from_utf8(all[first].clone()).unwrap();
            let seq = format!("\"seq\":{first},");
            all[first] = text
                .replace(&seq, &format!("\"seq\":{},", first + 1))
                .into_bytes();
            ("entry renumbered", first)
        }
        _ => {
            let text = String::from_utf8(all[first].clone()).unwrap();
            all[first] = text.replace("T03:", "T04:").into_bytes();
            ("time changed", first)
        }
    };
    set_lines(export, &all);
    (kind, vec![format!("entry {place}")])
}
