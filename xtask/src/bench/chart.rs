//! Bars beside the tables: each path's middle sample by that of `direct`, as SVG.
//!
//! INVARIANT: a chart shows what its table shows, ranges included; nothing is drawn that was not
//! measured.

use std::fmt::Write as _;

use super::{
    figures::{Results, Series, percentile, short},
    path::Path,
};

/// Units of which rows are drawn: what a person notices. CPU and shares stand in the tables.
const DRAWN: [&str; 4] = ["MiB/s", "per s", "ms", "µs"];

const LABEL_WIDTH: f64 = 330.0;
const BARS_WIDTH: f64 = 420.0;
const VALUE_WIDTH: f64 = 170.0;
const BAR: f64 = 13.0;
const GAP: f64 = 10.0;
const TOP: f64 = 52.0;

/// The chart of a measure; none when it has nothing to compare.
pub fn draw(measure: &str, results: &Results) -> Option<String> {
    let rows = rows(measure, results);
    let most = rows
        .iter()
        .flatten()
        .filter_map(|series| share(results, series, 1.0))
        .fold(1.0_f64, f64::max);
    if rows.is_empty() {
        return None;
    }
    let scale = BARS_WIDTH / most;
    let mut body = String::new();
    let mut y = TOP;
    for row in &rows {
        let label = row.first().map_or("", |series| series.label.as_str());
        let cores = row.first().map_or("", |series| series.cores());
        let _ = writeln!(
            body,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{} ({})</text>",
            LABEL_WIDTH - 8.0,
            y + BAR,
            escaped(label),
            cores,
        );
        for series in row {
            bar(&mut body, results, series, y, scale);
            y += BAR;
        }
        y += GAP;
    }
    let one = LABEL_WIDTH + scale;
    let _ = writeln!(
        body,
        "<line x1=\"{one:.1}\" y1=\"{:.0}\" x2=\"{one:.1}\" y2=\"{y:.0}\" stroke=\"#333\" \
         stroke-dasharray=\"3 3\"/>",
        TOP - 6.0
    );
    let width = LABEL_WIDTH + BARS_WIDTH + VALUE_WIDTH;
    Some(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{y:.0}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" \
         fill=\"#fff\"/>\n<text x=\"8\" y=\"18\" font-weight=\"bold\">{measure}: each path by direct \
         (dashed: 1.0); lines from least to most</text>\n{}{body}</svg>\n",
        legend()
    ))
}

/// What is drawn together: one key on every path that has it.
fn rows<'r>(measure: &str, results: &'r Results) -> Vec<Vec<&'r Series>> {
    let mut rows: Vec<Vec<&Series>> = Vec::new();
    let drawn = results.of_measure(measure).filter(|series| {
        DRAWN.contains(&series.unit.as_str())
            && results.get(&series.key, Path::Direct.name()).is_some()
    });
    for series in drawn {
        match rows.last_mut() {
            Some(row) if row.first().is_some_and(|first| first.key == series.key) => {
                row.push(series);
            }
            _ => rows.push(vec![series]),
        }
    }
    rows
}

/// A sample, at this place of the sorted ones, by the middle one of `direct`.
fn share(results: &Results, series: &Series, place: f64) -> Option<f64> {
    let base = results.get(&series.key, Path::Direct.name())?.median()?;
    let share = percentile(&series.samples, place)? / base;
    share.is_finite().then_some(share)
}

fn bar(body: &mut String, results: &Results, series: &Series, y: f64, scale: f64) {
    let at = |place: f64| share(results, series, place).map(|share| share * scale);
    let (Some(least), Some(middle), Some(most)) = (at(0.0), at(0.5), at(1.0)) else {
        let _ = writeln!(
            body,
            "<text x=\"{LABEL_WIDTH:.0}\" y=\"{:.0}\" fill=\"#b00\">{} failed</text>",
            y + BAR - 3.0,
            series.path
        );
        return;
    };
    let center = y + BAR / 2.0;
    let _ = writeln!(
        body,
        "<rect x=\"{LABEL_WIDTH:.0}\" y=\"{:.1}\" width=\"{middle:.1}\" height=\"{:.1}\" fill=\"{}\"/>\n\
         <line x1=\"{:.1}\" y1=\"{center:.1}\" x2=\"{:.1}\" y2=\"{center:.1}\" stroke=\"#d9822b\"/>\n\
         <text x=\"{:.1}\" y=\"{:.1}\" font-size=\"10\">{} {}</text>",
        y + 1.0,
        BAR - 2.0,
        colour(&series.path),
        LABEL_WIDTH + least,
        LABEL_WIDTH + most,
        LABEL_WIDTH + most.max(middle) + 5.0,
        y + BAR - 3.0,
        series.median().map_or_else(String::new, short),
        escaped(&series.unit),
    );
}

fn legend() -> String {
    let mut text = String::new();
    let mut x = LABEL_WIDTH;
    for path in Path::ALL {
        let _ = writeln!(
            text,
            "<rect x=\"{x:.0}\" y=\"27\" width=\"11\" height=\"11\" fill=\"{}\"/><text x=\"{:.0}\" \
             y=\"37\">{path}</text>",
            colour(path.name()),
            x + 16.0
        );
        x += 90.0;
    }
    text
}

/// Told apart by brightness too.
fn colour(path: &str) -> &'static str {
    match path {
        "direct" => "#b8c4ce",
        "relay" => "#6c8ebf",
        _ => "#1f3d6b",
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{
        cores::Cores,
        figures::{Figures, Row},
    };

    #[test]
    fn a_bar_is_as_long_as_its_share_of_direct() {
        let mut figures = Figures::new("now, here".to_owned());
        figures.begin("bulk", Some(Cores::One(0)));
        let row = Row::new("down", "down & out", "MiB/s");
        figures.add(&row, Some(Path::Direct), 100.0);
        figures.add(&row, Some(Path::Sallyport), 50.0);
        figures.add(&Row::new("cpu", "cpu", "s/GiB"), Some(Path::Direct), 1.0);
        let svg = draw("bulk", &Results::of(&figures)).unwrap();
        assert!(svg.contains("width=\"420.0\""), "{svg}");
        assert!(svg.contains("width=\"210.0\""), "{svg}");
        assert!(svg.contains("down &amp; out (one-core)"), "{svg}");
        assert!(!svg.contains("cpu"), "{svg}");
    }

    #[test]
    fn what_has_nothing_to_compare_has_no_chart() {
        let figures = Figures::new("now, here".to_owned());
        assert!(draw("bulk", &Results::of(&figures)).is_none());
    }
}
