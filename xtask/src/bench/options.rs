//! What `cargo xtask bench` is asked to do, in words.

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};

use super::cores::Cores;

/// What the words mean.
pub const HELP: &str = "\
cargo xtask bench [OPTIONS]

  --only NAMES      measures, separated by commas; without it all of them
  --quick           few rounds of little: that it works, not what it costs
  --rounds N        samples of each figure (5; with --quick 1)
  --size MIB        bytes of one bulk transfer, MiB (256; with --quick 16)
  --stall-runs N    transfers of the measure `stalls` (200; with --quick 4)
  --pin CPU         only with all parties of a path on this core
  --no-pin          only with all parties on all cores; without either on core 0, then on all
  --binary PATH     this `sallyport` instead of building one (`cargo build --release --workspace`)
  --output DIR      where results go (docs/performance; with --quick target/bench)
";

/// Parsed.
#[derive(Clone, Debug)]
pub struct Options {
    pub is_quick: bool,
    pub rounds: usize,
    pub size_mib: u64,
    pub stall_runs: usize,
    pub binary: Option<PathBuf>,
    pub output: PathBuf,
    only: Vec<String>,
    pin: Option<usize>,
    is_unpinned: bool,
}

impl Options {
    /// Reads the words; `measures` are the names there are.
    pub fn parse(words: &[String], measures: &[&str]) -> anyhow::Result<Self> {
        let (mut only, mut rounds, mut size_mib, mut stall_runs) = (Vec::new(), None, None, None);
        let (mut pin, mut binary, mut output) = (None, None, None);
        let (mut is_quick, mut is_unpinned) = (false, false);
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .with_context(|| format!("`{word}` needs a value"))
            };
            match word.as_str() {
                "--quick" => is_quick = true,
                "--no-pin" => is_unpinned = true,
                "--only" => only.extend(value()?.split(',').map(str::to_owned)),
                "--rounds" => rounds = Some(number(value()?)?),
                "--size" => size_mib = Some(number(value()?)?),
                "--stall-runs" => stall_runs = Some(number(value()?)?),
                "--pin" => pin = Some(number(value()?)?),
                "--binary" => binary = Some(PathBuf::from(value()?)),
                "--output" => output = Some(PathBuf::from(value()?)),
                other => bail!("`{other}` means nothing here\n\n{HELP}"),
            }
        }
        for name in &only {
            ensure!(
                measures.contains(&name.as_str()),
                "no measure is called `{name}`; there are {}",
                measures.join(", ")
            );
        }
        ensure!(
            pin.is_none() || !is_unpinned,
            "`--pin` and `--no-pin` exclude each other"
        );
        let rounds = rounds.unwrap_or(if is_quick { 1 } else { 5 });
        let size_mib = size_mib.unwrap_or(if is_quick { 16 } else { 256 });
        let stall_runs = stall_runs.unwrap_or(if is_quick { 4 } else { 200 });
        ensure!(
            rounds > 0 && size_mib > 0 && stall_runs > 0,
            "nothing would be measured"
        );
        let folder = if is_quick {
            "target/bench"
        } else {
            "docs/performance"
        };
        Ok(Self {
            is_quick,
            rounds,
            size_mib: u64::try_from(size_mib).context("read `--size`")?,
            stall_runs,
            binary,
            output: output.unwrap_or_else(|| crate::process::root().join(folder)),
            only,
            pin,
            is_unpinned,
        })
    }

    /// Whether this measure is to be taken.
    pub fn wants(&self, measure: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == measure)
    }

    /// The cores to measure on, in turn.
    pub fn cores(&self) -> Vec<Cores> {
        match (self.pin, self.is_unpinned) {
            (Some(cpu), _) => vec![Cores::One(cpu)],
            (None, true) => vec![Cores::All],
            (None, false) => vec![Cores::One(0), Cores::All],
        }
    }

    /// `full` things, or `few` in a quick run.
    pub const fn count(&self, full: usize, few: usize) -> usize {
        if self.is_quick { few } else { full }
    }
}

fn number(word: &str) -> anyhow::Result<usize> {
    word.parse()
        .with_context(|| format!("`{word}` is not a whole number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> anyhow::Result<Options> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Options::parse(&words, &["bulk", "echo"])
    }

    #[test]
    fn given_no_words_then_everything_is_measured_on_one_core_and_on_all() {
        let options = parse(&[]).unwrap();
        assert!(options.wants("bulk") && options.wants("echo"));
        assert_eq!(options.cores(), [Cores::One(0), Cores::All]);
    }

    #[test]
    fn given_names_then_only_they_are_measured() {
        let options = parse(&["--only", "echo", "--pin", "1"]).unwrap();
        assert!(!options.wants("bulk") && options.wants("echo"));
        assert_eq!(options.cores(), [Cores::One(1)]);
    }

    #[test]
    fn given_words_that_make_no_sense_then_nothing_is_measured() {
        for words in [
            &["--only", "speed"][..],
            &["--fast"],
            &["--rounds"],
            &["--rounds", "many"],
            &["--rounds", "0"],
            &["--pin", "0", "--no-pin"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }
}
