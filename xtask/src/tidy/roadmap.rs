//! Work left for later stands in docs/roadmap.md, where it is weighed with the rest; a remark in
//! the code alone is forgotten. A test that is switched off is such work too, and not allowed.

use super::Finding;
use super::rust_text::words;
use super::tree::Tree;

const ROADMAP: &str = "docs/roadmap.md";

const MARKS: &[&str] = &["FIXME", "TODO"];

/// See the module.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let roadmap = tree
        .files
        .get(ROADMAP)
        .map(String::as_str)
        .unwrap_or_default();
    let mut findings = Vec::new();
    for file in tree
        .rust_files()
        .filter(|file| !file.path.starts_with("xtask/src/tidy/"))
    {
        for (at, (line, code)) in file.text.lines().zip(file.code.lines()).enumerate() {
            let marked = words(line).any(|word| MARKS.contains(&word));
            if marked && !roadmap.contains(&format!("`{}`", file.path)) {
                findings.push(Finding {
                    file: file.path.to_owned(),
                    line: at + 1,
                    what: line.trim().to_owned(),
                    why: "nobody searches the code for what is still to be done",
                    remedy: format!(
                        "do it now, or give it a line with `{}` in {ROADMAP}",
                        file.path
                    ),
                });
            }
            if code.trim_start().starts_with("#[ignore") {
                findings.push(Finding {
                    file: file.path.to_owned(),
                    line: at + 1,
                    what: "a test that is switched off".into(),
                    why: "it looks like cover and is none",
                    remedy: "assert what happens today, or remove the test".into(),
                });
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::of_files;

    #[test]
    fn a_mark_needs_its_line_in_the_roadmap() {
        let tree = of_files([
            ("crates/a/src/known.rs", "// FIXME: slow"),
            (
                "crates/a/src/new.rs",
                "fn a() {}\n// TODO: later\n// TODOS are fine",
            ),
            (ROADMAP, "- `crates/a/src/known.rs`: make it fast"),
        ]);
        let places: Vec<(String, usize)> = check(&tree)
            .into_iter()
            .map(|finding| (finding.file, finding.line))
            .collect();
        assert_eq!(places, [("crates/a/src/new.rs".to_owned(), 2)]);
    }

    #[test]
    fn a_test_that_is_switched_off_is_found() {
        let tree = of_files([(
            "crates/a/src/a.rs",
            "#[test]\n#[ignore = \"slow\"]\nfn a() {}",
        )]);
        assert_eq!(check(&tree).first().unwrap().line, 2);
    }
}
