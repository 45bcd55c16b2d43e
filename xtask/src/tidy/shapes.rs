//! The outliers in size, for a reader to look at. Never a finding: splitting what belongs together
//! to please a number is worse than the number.

use super::tree::{RustFile, Tree};
use std::fmt::Write as _;

const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 70;

/// The longest files and functions, tests left out; empty when there are none.
pub fn report(tree: &Tree) -> String {
    let mut outliers: Vec<(usize, String)> = Vec::new();
    for file in tree.rust_files() {
        let lines = file.production_lines();
        if lines > FILE_LINES {
            outliers.push((lines, file.path.to_owned()));
        }
        for (at, name, lines) in functions(&file) {
            if lines > FUNCTION_LINES {
                outliers.push((lines, format!("{}:{at} fn {name}", file.path)));
            }
        }
    }
    if outliers.is_empty() {
        return String::new();
    }
    outliers.sort_by(|a, b| b.cmp(a));
    let mut text = format!(
        "lines of files over {FILE_LINES} and functions over {FUNCTION_LINES} (to look at, no finding)\n"
    );
    for (lines, place) in outliers {
        let _ = writeln!(text, "{lines:6}  {place}");
    }
    text
}

/// First line, name and length of each function with a body, tests left out.
fn functions(file: &RustFile<'_>) -> Vec<(usize, String, usize)> {
    let end = file.production_lines();
    let lines: Vec<&str> = file.code.lines().take(end).collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let mut words = line.split_whitespace().skip_while(|word| *word != "fn");
        let name = words
            .nth(1)
            .map(|word| word.split(['(', '<']).next().unwrap_or(word));
        let Some(name) = name else { continue };
        if let Some(length) = body_lines(lines.iter().skip(at).copied()) {
            found.push((at + 1, name.to_owned(), length));
        }
    }
    found
}

/// How many lines pass until the first brace closes; none for a declaration without a body.
fn body_lines<'a>(lines: impl Iterator<Item = &'a str>) -> Option<usize> {
    let mut depth = 0_i64;
    for (at, line) in lines.enumerate() {
        for c in line.chars() {
            match c {
                '{' => depth += 1,
                '}' => {
                    depth -= 1;
                    if depth == 0 {
                        return Some(at + 1);
                    }
                }
                ';' if depth == 0 && !line.contains('[') => return None,
                _ => {}
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::of_files;

    #[test]
    fn only_outliers_are_reported_longest_first_and_tests_never() {
        let long_function = format!("pub async fn long() {{\n{}}}\n", "    a();\n".repeat(70));
        let declared = "trait T {\n    fn short(&self);\n}\n";
        let long_file = format!("{declared}{long_function}{}", "// x\n".repeat(500));
        let tests = format!("#[cfg(test)]\nmod tests {{\n{long_function}}}\n");
        let tree = of_files([
            ("crates/a/src/a.rs", &long_file),
            ("crates/a/src/b.rs", &tests),
        ]);
        let report = report(&tree);
        let lines: Vec<&str> = report.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "   575  crates/a/src/a.rs",
                "    72  crates/a/src/a.rs:4 fn long"
            ]
        );
    }

    #[test]
    fn a_tidy_tree_has_an_empty_report() {
        assert_eq!(
            report(&of_files([("crates/a/src/a.rs", "fn a() {}\n")])),
            ""
        );
    }
}
