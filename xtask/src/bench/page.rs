//! `docs/performance.md`: its tables, made from results; the words around them are people's.
//!
//! A table stands between `<!-- bench: NAME -->` and `<!-- bench: end -->`, where NAME is a measure or
//! `goals`.
//!
//! INVARIANT: every measure has its place on the page; what is between the marks comes from results
//! only.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path as FilePath};

use anyhow::{Context as _, bail, ensure};

use super::{
    chart,
    figures::{Results, Series},
    goals,
    path::Path,
};

const GOALS: &str = "goals";
const BEGIN: &str = "<!-- bench: ";
const END: &str = "<!-- bench: end -->";

/// Writes the charts into `folder`.
pub fn draw(folder: &FilePath, measures: &[&str], results: &Results) -> anyhow::Result<()> {
    for measure in measures {
        if let Some(svg) = chart::draw(measure, results) {
            let path = folder.join(format!("{measure}.svg"));
            fs::write(&path, svg).with_context(|| format!("write `{}`", path.display()))?;
        }
    }
    Ok(())
}

/// Writes the tables of `page`.
pub fn write(page: &FilePath, measures: &[&str], results: &Results) -> anyhow::Result<()> {
    let text = fs::read_to_string(page).with_context(|| format!("read `{}`", page.display()))?;
    let text = filled(&text, measures, results)
        .with_context(|| format!("fill the tables of `{}`", page.display()))?;
    fs::write(page, text).with_context(|| format!("write `{}`", page.display()))
}

/// The page with its tables made anew.
fn filled(page: &str, measures: &[&str], results: &Results) -> anyhow::Result<String> {
    let mut text = String::new();
    let mut rest = page;
    let mut seen = BTreeSet::new();
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let (name, after) = after.split_once(" -->").context("a mark does not end")?;
        let (_, after) = after
            .split_once(END)
            .with_context(|| format!("the table `{name}` does not end"))?;
        let table = match name {
            GOALS => goals::to_markdown(results),
            _ if measures.contains(&name) => section(name, results),
            _ => bail!("`{name}` is no measure"),
        };
        let _ = write!(text, "{before}{BEGIN}{name} -->\n\n{table}\n{END}");
        seen.insert(name);
        rest = after;
    }
    text.push_str(rest);
    for name in measures.iter().chain([&GOALS]) {
        ensure!(seen.contains(name), "the page has no place for `{name}`");
    }
    Ok(text)
}

/// Everything of one measure: a table for what has no cores, for one core, and for all.
fn section(measure: &str, results: &Results) -> String {
    let series: Vec<&Series> = results.of_measure(measure).collect();
    if series.is_empty() {
        return "Not measured yet.\n".to_owned();
    }
    let runs: BTreeSet<&str> = series.iter().map(|series| series.run.as_str()).collect();
    let mut text = String::new();
    for run in runs {
        let _ = writeln!(text, "*{run}*\n");
    }
    for (cores, title) in [
        ("one-core", "All parties on one core:\n\n"),
        ("all-cores", "All parties on all cores:\n\n"),
        ("", ""),
    ] {
        let rows: Vec<&Series> = series
            .iter()
            .copied()
            .filter(|series| series.cores() == cores)
            .collect();
        if !rows.is_empty() {
            text.push_str(title);
            text.push_str(&table(&rows, results));
            text.push('\n');
        }
    }
    if chart::draw(measure, results).is_some() {
        let _ = writeln!(text, "![{measure} by direct](performance/{measure}.svg)");
    }
    text.trim_end().to_owned() + "\n"
}

fn table(series: &[&Series], results: &Results) -> String {
    let columns: Vec<&str> = Path::ALL
        .iter()
        .map(|path| path.name())
        .chain(["-"])
        .filter(|name| series.iter().any(|series| series.path == *name))
        .collect();
    let mut text = "| | unit |".to_owned();
    for column in &columns {
        let title = if *column == "-" { "measured" } else { column };
        let _ = write!(text, " {title} |");
    }
    text.push_str(&format!(
        "\n| --- | --- |{}\n",
        " --- |".repeat(columns.len())
    ));
    let mut key = "";
    for row in series {
        if row.key == key {
            continue;
        }
        key = &row.key;
        let _ = write!(text, "| {} | {} |", row.label, row.unit);
        for column in &columns {
            let cell = results.get(key, column).map_or_else(
                || "–".to_owned(),
                |series| match results.ratio(series) {
                    Some(ratio) => format!("{}, **{ratio:.2}×**", series.cell()),
                    None => series.cell(),
                },
            );
            // A reason for a failure may hold anything.
            let _ = write!(text, " {} |", cell.replace('|', "/"));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{
        cores::Cores,
        figures::{Figures, Row},
    };

    const PAGE: &str = "# Page\n<!-- bench: goals -->\n<!-- bench: end -->\nwords\n<!-- bench: bulk \
                        -->\nold\n<!-- bench: end -->\nmore words\n";

    fn results() -> Results {
        let mut figures = Figures::new("today, this machine".to_owned());
        figures.begin("bulk", Some(Cores::One(0)));
        let row = Row::new("down", "down", "MiB/s");
        figures.add(&row, Some(Path::Direct), 100.0);
        figures.add(&row, Some(Path::Sallyport), 60.0);
        Results::of(&figures)
    }

    #[test]
    fn tables_are_made_anew_and_words_stay() {
        let text = filled(PAGE, &["bulk"], &results()).unwrap();
        assert!(
            text.contains("| down | MiB/s | 100 | 60.0, **0.60×** |"),
            "{text}"
        );
        assert!(text.contains("*today, this machine*"), "{text}");
        assert!(text.contains("\nwords\n") && text.ends_with("\nmore words\n"));
        assert!(!text.contains("old"));
        assert_eq!(filled(&text, &["bulk"], &results()).unwrap(), text);
    }

    #[test]
    fn a_measure_without_a_place_and_a_place_without_a_measure_are_errors() {
        assert!(filled(PAGE, &["bulk", "echo"], &results()).is_err());
        assert!(filled(PAGE, &[], &results()).is_err());
    }

    #[test]
    fn the_page_has_a_place_for_every_measure() {
        let page = crate::process::root().join("docs/performance.md");
        let page = fs::read_to_string(page).unwrap();
        let measures: Vec<&str> = crate::bench::MEASURES
            .iter()
            .map(|measure| measure.name)
            .collect();
        filled(&page, &measures, &Results::default()).unwrap();
    }
}
