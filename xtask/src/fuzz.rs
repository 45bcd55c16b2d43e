//! `cargo xtask fuzz [BODY…] [--seconds N]`: looks for inputs that break a parser, guided by coverage.
//!
//! Builds `fuzz/`, which is outside the workspace, with the compiler's coverage counters and AddressSanitizer,
//! on the stable toolchain that everything is built with; then runs libFuzzer on each body of
//! `fuzz/src/bodies.rs` in turn. What it found new is kept in `target/fuzz/corpus`, what breaks in
//! `target/fuzz/crashes`: copy that into `fuzz/corpus`, where the tests run it for ever.
//!
//! INVARIANT: a body that crashes, hangs for more than ten seconds or takes more than 1 GiB makes the
//! command fail, after all others had their turn.
//!
//! Not here: the bodies, and the tests that run them on every change.

use std::{collections::BTreeSet, fs, path::PathBuf};

use anyhow::{Context as _, bail};

use crate::{Command, process};

/// See the module.
pub const COMMAND: Command = Command {
    name: "fuzz",
    about: "looks for inputs that break a parser: `fuzz [BODY...] [--seconds N]`, 60 s each unless said",
    run,
};

/// Of `-C` and `-Z`: counters for each edge and comparison, and the sanitizer.
const CODE_GENERATION: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=address -Cdebug-assertions \
    -Coverflow-checks -Ccodegen-units=4";
/// Named, so that build scripts and procedural macros are built without the counters.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

fn run(words: &[String]) -> anyhow::Result<()> {
    let (wanted, seconds) = read(words)?;
    let root = process::root();
    let corpus = root.join("fuzz/corpus");
    let known = bodies(&corpus)?;
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(*name)) {
        bail!("no body `{unknown}`; there are {known:?}");
    }
    let target = target_folder(&root);
    build(&target)?;
    let fuzzer = target.join(PLATFORM).join("release/fuzz");
    let mut broken = Vec::new();
    for name in known {
        if !wanted.is_empty() && !wanted.contains(&name) {
            continue;
        }
        let (found, crashes) = (target.join("corpus").join(&name), target.join("crashes"));
        fs::create_dir_all(&found).context("make the folder of what is found")?;
        fs::create_dir_all(&crashes).context("make the folder of what breaks")?;
        let mut command = std::process::Command::new(&fuzzer);
        command
            .env("SALLYPORT_FUZZ_BODY", &name)
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-artifact_prefix={}/{name}-", crashes.display()))
            .args([
                "-timeout=10",
                "-rss_limit_mb=1024",
                "-max_len=16384",
                "-print_final_stats=1",
                "-verbosity=0",
            ])
            .arg(&found)
            .arg(corpus.join(&name));
        if process::run(&mut command).is_err() {
            broken.push(name);
        }
    }
    if !broken.is_empty() {
        bail!(
            "broken: {broken:?}; inputs are in `{}`",
            target.join("crashes").display()
        );
    }
    Ok(())
}

/// Bodies asked for, all when none is, and seconds for each.
fn read(words: &[String]) -> anyhow::Result<(BTreeSet<String>, u64)> {
    let (mut wanted, mut seconds) = (BTreeSet::new(), 60);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--seconds" {
            let number = words.next().context("`--seconds` needs a number")?;
            seconds = number.parse().context("read the number of `--seconds`")?;
        } else {
            wanted.insert(word.clone());
        }
    }
    Ok((wanted, seconds))
}

/// Every body has a corpus; the tests see to that.
fn bodies(corpus: &std::path::Path) -> anyhow::Result<BTreeSet<String>> {
    let entries = fs::read_dir(corpus).with_context(|| format!("read `{}`", corpus.display()))?;
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

fn target_folder(root: &std::path::Path) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| root.join("target")).join("fuzz")
}

fn build(target: &std::path::Path) -> anyhow::Result<()> {
    // The counters are options that only a nightly compiler offers under its own name.
    process::run(
        process::cargo(["build", "--release", "--manifest-path", "fuzz/Cargo.toml"])
            .args(["--target", PLATFORM])
            .arg("--target-dir")
            .arg(target)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTFLAGS", CODE_GENERATION),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_bodies_and_how_long() {
        let words = ["scp", "--seconds", "5", "sftp"].map(str::to_owned);
        let (wanted, seconds) = read(&words).unwrap();
        assert_eq!(wanted.len(), 2);
        assert_eq!(seconds, 5);
        assert!(read(&["--seconds".to_owned()]).is_err());
        assert_eq!(read(&[]).unwrap(), (BTreeSet::new(), 60));
    }
}
