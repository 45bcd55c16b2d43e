//! Samples, by what was measured and on which path: kept, summed up, printed and written down.
//!
//! INVARIANT: a sample that failed is shown beside those that did not, with its reason.
//!
//! Not here: what is measured and in which unit, which every measure says with its [`Row`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path as FilePath,
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::{cores::Cores, path::Path};

/// The file that results are kept in, an object a line.
pub const FILE: &str = "results.jsonl";

/// One thing that is measured, on every path.
#[derive(Clone, Debug)]
pub struct Row {
    /// Stable: results of different days are compared by it.
    pub key: String,
    /// For people.
    pub label: String,
    /// Of the samples.
    pub unit: String,
}

impl Row {
    /// A row called `key` among those of its measure.
    pub fn new(key: impl Into<String>, label: impl Into<String>, unit: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            label: label.into(),
            unit: unit.into(),
        }
    }
}

/// The samples of one row on one path.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Series {
    /// The measure's name, the row's key and the cores, with dots between.
    pub key: String,
    pub measure: String,
    pub label: String,
    pub unit: String,
    /// When, on what and from which source it was measured.
    pub run: String,
    /// A path's name, or `-` for what has none.
    pub path: String,
    pub samples: Vec<f64>,
    /// Why samples are missing.
    pub failures: Vec<String>,
}

impl Series {
    /// The middle sample; none when all failed.
    pub fn median(&self) -> Option<f64> {
        percentile(&self.samples, 0.5)
    }

    /// The last word of the key, if it names cores.
    pub fn cores(&self) -> &'static str {
        [Cores::One(0), Cores::All]
            .map(Cores::word)
            .into_iter()
            .find(|word| self.key.rsplit('.').next() == Some(*word))
            .unwrap_or_default()
    }

    /// `201 (169–284)`, or what failed.
    pub fn cell(&self) -> String {
        let mut text = match (
            self.median(),
            percentile(&self.samples, 0.0),
            percentile(&self.samples, 1.0),
        ) {
            (Some(median), Some(min), Some(max)) if self.samples.len() > 1 => {
                format!("{} ({}–{})", short(median), short(min), short(max))
            }
            (Some(median), _, _) => short(median),
            _ => String::new(),
        };
        if let Some(reason) = self.failures.first() {
            let all = self.samples.len() + self.failures.len();
            let _ = write!(text, " FAILED {} of {all}: {reason}", self.failures.len());
        }
        text.trim_start().to_owned()
    }
}

/// Everything that is measured in one run.
#[derive(Debug)]
pub struct Figures {
    run: String,
    series: Vec<Series>,
    measure: &'static str,
    cores: Option<Cores>,
}

impl Figures {
    /// Nothing yet; `run` says when, on what and from which source.
    pub const fn new(run: String) -> Self {
        Self {
            run,
            series: Vec::new(),
            measure: "",
            cores: None,
        }
    }

    /// From here on, samples are of this measure and these cores.
    pub fn begin(&mut self, measure: &'static str, cores: Option<Cores>) {
        self.measure = measure;
        self.cores = cores;
    }

    /// Keeps a sample.
    pub fn add(&mut self, row: &Row, path: Option<Path>, sample: f64) {
        self.of(row, path).samples.push(sample);
    }

    /// Keeps the reason why there is no sample.
    pub fn fail(&mut self, row: &Row, path: Option<Path>, error: &anyhow::Error) {
        let reason = format!("{error:#}").replace('\n', " ");
        println!("    failed: {} {}: {reason}", row.key, name(path));
        self.of(row, path).failures.push(reason);
    }

    /// Keeps the reason why a whole measure is missing.
    pub fn broke(&mut self, error: &anyhow::Error) {
        self.fail(&Row::new("measure", "the measure itself", ""), None, error);
    }

    /// Whether a reason is kept.
    pub fn any_failed(&self) -> bool {
        self.series.iter().any(|series| !series.failures.is_empty())
    }

    fn of(&mut self, row: &Row, path: Option<Path>) -> &mut Series {
        let cores = self
            .cores
            .map_or_else(String::new, |cores| format!(".{}", cores.word()));
        let key = format!("{}.{}{cores}", self.measure, row.key);
        let at = self
            .series
            .iter()
            .position(|series| series.key == key && series.path == name(path))
            .unwrap_or_else(|| {
                self.series.push(Series {
                    run: self.run.clone(),
                    key,
                    measure: self.measure.to_owned(),
                    label: row.label.clone(),
                    unit: row.unit.clone(),
                    path: name(path).to_owned(),
                    samples: Vec::new(),
                    failures: Vec::new(),
                });
                self.series.len() - 1
            });
        #[expect(clippy::indexing_slicing, reason = "found or pushed just above")]
        &mut self.series[at]
    }

    /// Writes the samples into `folder`, in place of earlier ones of the same rows; returns all.
    pub fn write(self, folder: &FilePath) -> anyhow::Result<Results> {
        fs::create_dir_all(folder).with_context(|| format!("make `{}`", folder.display()))?;
        let path = folder.join(FILE);
        let earlier = match fs::read_to_string(&path) {
            Ok(text) => Results::parse(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Results::default()),
            Err(error) => Err(error.into()),
        };
        let mut results = earlier.with_context(|| format!("read `{}`", path.display()))?;
        results.take(self.series);
        fs::write(&path, results.to_lines()?)
            .with_context(|| format!("write `{}`", path.display()))?;
        Ok(results)
    }
}

/// Series of one run or several: the newest of each row and path.
#[derive(Debug, Default)]
pub struct Results {
    series: BTreeMap<(String, String), Series>,
}

impl Results {
    /// Of one run.
    pub fn of(figures: &Figures) -> Self {
        let mut results = Self::default();
        results.take(figures.series.clone());
        results
    }

    /// Takes series in place of all earlier ones of the same measures on the same cores: a row that
    /// is there no more, or a failure, would otherwise stay for ever.
    fn take(&mut self, newer: Vec<Series>) {
        let taken: BTreeSet<(String, &str)> = newer
            .iter()
            .map(|series| (series.measure.clone(), series.cores()))
            .collect();
        self.series
            .retain(|_, series| !taken.contains(&(series.measure.clone(), series.cores())));
        for series in newer {
            self.series
                .insert((series.key.clone(), series.path.clone()), series);
        }
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut results = Self::default();
        let lines = text.lines().map(|line| Ok(serde_json::from_str(line)?));
        results.take(lines.collect::<anyhow::Result<_>>()?);
        Ok(results)
    }

    fn to_lines(&self) -> anyhow::Result<String> {
        let mut text = String::new();
        for series in self.series.values() {
            text.push_str(&serde_json::to_string(series).context("write a result")?);
            text.push('\n');
        }
        Ok(text)
    }

    /// In the order of keys.
    pub fn of_measure(&self, measure: &str) -> impl Iterator<Item = &Series> {
        self.series
            .values()
            .filter(move |series| series.measure == measure)
    }

    /// One row on one path.
    pub fn get(&self, key: &str, path: &str) -> Option<&Series> {
        self.series.get(&(key.to_owned(), path.to_owned()))
    }

    /// The middle sample by that of `direct`; none where there is no such thing.
    pub fn ratio(&self, series: &Series) -> Option<f64> {
        let direct = Path::Direct.name();
        if series.path == direct {
            return None;
        }
        let base = self.get(&series.key, direct)?.median()?;
        (base > 0.0).then_some(series.median()? / base)
    }

    /// For a terminal: a row a paragraph, a path a line, with the ratio to `direct`.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let mut key = "";
        for series in self.series.values() {
            if series.key != key {
                key = &series.key;
                let _ = writeln!(text, "{key}  [{}]", series.unit);
            }
            let ratio = self
                .ratio(series)
                .map_or_else(String::new, |ratio| format!("  {ratio:.2}x"));
            let _ = writeln!(text, "    {:10} {}{ratio}", series.path, series.cell());
        }
        text
    }
}

fn name(path: Option<Path>) -> &'static str {
    path.map_or("-", Path::name)
}

/// The sample at this place of the sorted ones: 0 the smallest, 0.5 the middle, 1 the largest.
pub fn percentile(samples: &[f64], place: f64) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    // Nearest rank; the cast is of a number between 0 and `last`.
    let at = (place * last as f64).round() as usize;
    sorted.get(at.min(last)).copied()
}

/// Three digits that matter.
pub fn short(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 || size == 0.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate() -> Row {
        Row::new("down", "download", "MiB/s")
    }

    #[test]
    fn percentiles_are_samples_that_were_taken() {
        let samples = [5.0, 1.0, 3.0, 2.0, 4.0];
        assert_eq!(percentile(&samples, 0.0), Some(1.0));
        assert_eq!(percentile(&samples, 0.5), Some(3.0));
        assert_eq!(percentile(&samples, 1.0), Some(5.0));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn a_failed_sample_stands_beside_the_others_with_its_reason() {
        let mut figures = Figures::new("now, here".to_owned());
        figures.begin("bulk", Some(Cores::All));
        figures.add(&rate(), Some(Path::Direct), 100.0);
        figures.add(&rate(), Some(Path::Sallyport), 60.0);
        figures.fail(
            &rate(),
            Some(Path::Sallyport),
            &anyhow::anyhow!("it stalled"),
        );
        let text = Results::of(&figures).to_text();
        assert!(text.contains("bulk.down.all-cores"), "{text}");
        assert!(text.contains("0.60x"), "{text}");
        assert!(text.contains("FAILED 1 of 2: it stalled"), "{text}");
        assert!(figures.any_failed());
    }

    #[test]
    fn results_replace_earlier_ones_of_the_same_measure_and_keep_the_others() {
        let folder = std::env::temp_dir().join(format!("figures-test-{}", std::process::id()));
        let run = |key: &'static str, sample: f64| {
            let mut figures = Figures::new("now, here".to_owned());
            figures.begin(key, None);
            figures.add(&rate(), None, sample);
            if sample < 2.0 {
                figures.broke(&anyhow::anyhow!("it broke"));
            }
            figures.write(&folder).unwrap();
        };
        run("bulk", 1.0);
        run("echo", 2.0);
        run("bulk", 3.0);
        let text = fs::read_to_string(folder.join(FILE)).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert!(text.contains("3.0") && text.contains("2.0") && !text.contains("1.0"));
    }
}
