//! Our verifier against an independent one: the same verdict on every log, good or damaged.
//!
//! `second_verifier/verify_audit_log.py` was written from `docs/formats/audit-log.md` alone.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sallyport_evidence::log::export::{CHECKPOINT_NAME, MemoryExport};
use tempfile::TempDir;

use crate::damage::Random;
use crate::log_vectors::{bad_checkpoints, bad_entries, cases};
use crate::log_verify::{random_damage, verdict};
use crate::{golden, sample};

/// Damaged logs to compare verdicts on; each is written to disk, unlike those of `log_verify`.
const RANDOM_CASES: usize = 300;

/// Exports that wait for the other verifier's verdict, each with ours.
#[derive(Default)]
struct Comparison {
    exports: Vec<(String, MemoryExport, Option<String>)>,
}

impl Comparison {
    fn add(&mut self, name: String, export: MemoryExport, saved: Option<String>) {
        self.exports.push((name, export, saved));
    }

    /// Runs the other verifier once over all of them, and asserts agreement.
    fn run(self) {
        let directory = TempDir::new().unwrap();
        let mut requests = String::new();
        for (index, (_, export, saved)) in self.exports.iter().enumerate() {
            let path = directory.path().join(index.to_string());
            write(&path, export);
            requests += path.to_str().unwrap();
            if let Some(saved) = saved {
                let note = directory.path().join(format!("{index}.saved"));
                std::fs::write(&note, saved).unwrap();
                requests = requests + "\t" + note.to_str().unwrap();
            }
            requests.push('\n');
        }
        let theirs = ask(&requests);
        assert_eq!(theirs.len(), self.exports.len());
        let disagreements: Vec<String> = self
            .exports
            .iter()
            .zip(theirs)
            .filter_map(|((name, export, saved), theirs)| {
                let ours = verdict(export, saved.as_deref());
                (ours != theirs).then(|| format!("{name}: ours `{ours}`, theirs `{theirs}`"))
            })
            .collect();
        assert_eq!(disagreements, Vec::<String>::new());
    }
}

/// AU-1
#[test]
fn given_the_cases_by_hand_then_both_verifiers_name_the_same_fault_and_place() {
    let mut comparison = Comparison::default();
    for case in cases() {
        comparison.add(case.name.to_owned(), case.export, case.saved);
    }
    for size in [0, 1, 2, 255, 256, 257, 512, 700] {
        comparison.add(format!("good log of {size}"), sample::good(size), None);
    }
    comparison.run();
}

/// AU-1
#[test]
fn given_entries_and_checkpoints_out_of_form_then_both_verifiers_refuse_them() {
    let mut comparison = Comparison::default();
    for (bytes, why) in bad_entries() {
        // A line end within would make it two lines, and a line too long has no hash.
        let export = sample::export_of(&[bytes], &sample::KEY);
        assert!(verdict(&export, None).starts_with("entry-"), "{why}");
        comparison.add(why.to_owned(), export, None);
    }
    for (note, code, why) in bad_checkpoints() {
        let mut export = sample::good(1);
        export.blobs.insert(CHECKPOINT_NAME.into(), note);
        assert_eq!(
            verdict(&export, None),
            format!("{code} checkpoint"),
            "{why}"
        );
        comparison.add(why.to_owned(), export, None);
    }
    comparison.run();
}

/// AU-1
#[test]
fn given_random_damage_then_both_verifiers_name_the_same_fault_and_place() {
    let mut comparison = Comparison::default();
    for (index, size, damaged) in random_damage(RANDOM_CASES, 0x0dd5_eed5) {
        let saved = damaged
            .saved_size
            .map(|size| sample::note(&sample::good(size)));
        comparison.add(
            format!("#{index} size {size} {}", damaged.kind),
            damaged.export,
            saved,
        );
    }
    comparison.run();
}

/// AU-1: what one calls an entry, the other must, or a log could be read in two ways.
#[test]
fn given_signed_entries_with_random_changes_then_both_verifiers_agree_on_what_an_entry_is() {
    let alphabet = b"\"\\{}[]:,0123456789-+.eEu \tabdfnrtz\x00\x1f\x7f\xc3\xa9";
    let mut random = Random(0xc0de);
    let mut comparison = Comparison::default();
    for index in 0..600 {
        let mut line = sample::entry(u64::try_from(random.below(4)).unwrap());
        for _ in 0..=random.below(2) {
            let at = random.below(line.len());
            let byte = alphabet[random.below(alphabet.len())];
            match random.below(3) {
                0 => line[at] = byte,
                1 => line.insert(at, byte),
                _ => drop(line.remove(at)),
            }
        }
        comparison.add(
            format!("#{index} {}", String::from_utf8_lossy(&line)),
            sample::export_of(&[line], &sample::KEY),
            None,
        );
    }
    comparison.run();
}

fn write(directory: &Path, export: &MemoryExport) {
    std::fs::create_dir(directory).unwrap();
    for (name, bytes) in &export.blobs {
        let path = directory.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// Asks the other verifier, one line of `requests` for each line of its answer.
fn ask(requests: &str) -> Vec<String> {
    let python = golden::setting("SALLYPORT_TEST_PYTHON").unwrap_or_else(|| "python3".into());
    let found = Command::new(&python)
        .args(["-c", "import cryptography"])
        .output()
        .is_ok_and(|output| output.status.success());
    assert!(
        found,
        "`{python}` cannot import `cryptography`, which the second verifier needs: `cargo xtask \
         test` prepares it, or set SALLYPORT_TEST_PYTHON to a Python 3 that has it"
    );
    let script: PathBuf = [
        env!("CARGO_MANIFEST_DIR"),
        "tests/second_verifier/verify_audit_log.py",
    ]
    .iter()
    .collect();
    let mut child = Command::new(&python)
        .arg(script)
        .arg(sample::KEY.verifier().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It reads all requests before it answers, so this cannot block against its answers.
    child
        .stdin
        .take()
        .unwrap()
        .write_all(requests.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "the second verifier failed: {}",
        output.status
    );
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}
