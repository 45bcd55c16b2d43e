//! `decide`, `audit`, `verify`: what benchmarks of single crates print as `figure KEY VALUE UNIT`.
//!
//! They stand in their crates (`benches/`), because this program may not depend on what it measures.

use anyhow::{Context as _, ensure};

use super::figures::{Figures, Row};
use crate::process;

/// `cargo bench` of this benchmark.
pub fn take(bench: &str, figures: &mut Figures) -> anyhow::Result<()> {
    let printed = process::output(&mut process::cargo([
        "bench",
        "--workspace",
        "--locked",
        "--bench",
        bench,
        "--",
        "--figures",
    ]))?;
    let mut count = 0;
    for line in printed.lines() {
        let Some(figure) = line.strip_prefix("figure ") else {
            continue;
        };
        let (key, value, unit) = parse(figure).with_context(|| format!("read `{line}`"))?;
        figures.add(&Row::new(key, key, unit), None, value);
        count += 1;
    }
    ensure!(count > 0, "`{bench}` printed no figure");
    Ok(())
}

fn parse(figure: &str) -> Option<(&str, f64, &str)> {
    let (key, rest) = figure.split_once(' ')?;
    let (value, unit) = rest.split_once(' ')?;
    Some((key, value.parse().ok()?, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_a_key_a_number_and_a_unit_that_may_have_blanks() {
        assert_eq!(
            parse("sqlite.writers-64 8123.4 per s"),
            Some(("sqlite.writers-64", 8123.4, "per s"))
        );
        assert_eq!(parse("sqlite.writers-64 many per s"), None);
        assert_eq!(parse("sqlite.writers-64"), None);
    }
}
