//! Which tests stand for which requirement: `docs/requirements-coverage.md`, generated.
//!
//! A test says what it stands for in its doc comment (`/// GW-1: …`). The requirements this release
//! promises are the rows of `docs/requirements.md`.
//!
//! INVARIANT: a requirement without a test is a finding, and so is a generated file that does not
//! say what the tests say.

use super::Finding;
use super::tree::{RustFile, Tree};
use crate::process;
use anyhow::Context as _;
use std::collections::BTreeMap;
use std::fmt::Write as _;

const REQUIREMENTS: &str = "docs/requirements.md";
const COVERAGE: &str = "docs/requirements-coverage.md";

/// The areas of requirement ids; they keep `AES-256` and the like from being taken for one.
const AREAS: &[&str] = &[
    "AC", "AI", "AU", "DI", "DV", "GW", "ID", "MO", "OP", "PO", "RE", "VA",
];

/// See the module.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let requirements = requirements(tree);
    let cited = cited(tree);
    let mut findings = Vec::new();
    for requirement in &requirements {
        if !cited.contains_key(&requirement.id) {
            findings.push(Finding {
                file: REQUIREMENTS.into(),
                line: requirement.line,
                what: format!("{} has no test", requirement.id),
                why: "what no test holds does not hold for long",
                remedy: format!(
                    "write `/// {}` above the test that fails when it breaks",
                    requirement.id
                ),
            });
        }
    }
    for (id, tests) in &cited {
        if let Some(test) = tests.first()
            && !requirements.iter().any(|requirement| requirement.id == *id)
        {
            findings.push(Finding {
                file: test.file.clone(),
                line: test.line,
                what: format!("{id} is not in {REQUIREMENTS}"),
                why: "a reader cannot look up what the test stands for",
                remedy: format!("correct the id, or add its row to {REQUIREMENTS}"),
            });
        }
    }
    if requirements.is_empty() {
        findings.push(Finding {
            file: REQUIREMENTS.into(),
            line: 1,
            what: "no requirement can be read".into(),
            why: "a check of nothing always passes",
            remedy: "rows are `| ID-1 | what it is |`".into(),
        });
    }
    if tree.files.get(COVERAGE) != Some(&document(&requirements, &cited)) {
        findings.push(Finding {
            file: COVERAGE.into(),
            line: 1,
            what: "not what the tests say".into(),
            why: "whoever relies on it would rely on tests that are gone",
            remedy: "run `cargo xtask tidy --write`".into(),
        });
    }
    findings
}

/// Writes the document anew.
///
/// # Errors
///
/// The file cannot be written.
pub fn write(tree: &Tree) -> anyhow::Result<()> {
    let path = process::root().join(COVERAGE);
    std::fs::write(&path, document(&requirements(tree), &cited(tree)))
        .with_context(|| format!("write `{}`", path.display()))
}

struct Requirement {
    id: String,
    title: String,
    line: usize,
}

/// A test, where its `fn` stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Test {
    file: String,
    line: usize,
    name: String,
}

/// The rows of the requirements' tables, in their order.
fn requirements(tree: &Tree) -> Vec<Requirement> {
    let text = tree
        .files
        .get(REQUIREMENTS)
        .map(String::as_str)
        .unwrap_or_default();
    let rows = text.lines().enumerate().filter_map(|(at, line)| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let id = cells.next()?;
        let title = cells.next()?.trim_end_matches(" |");
        let row = Requirement {
            id: id.to_owned(),
            title: title.to_owned(),
            line: at + 1,
        };
        is_id(id).then_some(row)
    });
    rows.collect()
}

/// Whether `word` has the form of a requirement's id.
fn is_id(word: &str) -> bool {
    word.split_once('-').is_some_and(|(area, number)| {
        AREAS.contains(&area) && !number.is_empty() && number.chars().all(|c| c.is_ascii_digit())
    })
}

/// The tests that cite each id.
fn cited(tree: &Tree) -> BTreeMap<String, Vec<Test>> {
    let mut cited: BTreeMap<String, Vec<Test>> = BTreeMap::new();
    // The tests of this program hold no requirement; their examples cite some.
    for file in tree
        .rust_files()
        .filter(|file| !file.path.starts_with("xtask/"))
    {
        for (test, ids) in cited_by(&file) {
            for id in ids {
                cited.entry(id).or_default().push(test.clone());
            }
        }
    }
    cited
}

/// Each test of a file with the ids its doc comment cites.
///
/// Doc comments and attributes are gathered until the `fn` they belong to; anything else in
/// between means they belonged to something else.
fn cited_by(file: &RustFile<'_>) -> Vec<(Test, Vec<String>)> {
    let mut found = Vec::new();
    let mut ids: Vec<String> = Vec::new();
    let mut is_test = false;
    let mut open_attribute = false;
    for (at, (line, code)) in file.text.lines().zip(file.code.lines()).enumerate() {
        let line = line.trim_start();
        let code = code.trim();
        if let Some(doc) = line.strip_prefix("///") {
            ids.extend(ids_in(doc));
        } else if open_attribute || code.starts_with("#[") {
            is_test |= !open_attribute && is_test_attribute(code);
            open_attribute = !code.contains(']');
        } else if !code.is_empty() {
            if let Some(name) = function_name(code)
                && is_test
            {
                let test = Test {
                    file: file.path.to_owned(),
                    line: at + 1,
                    name: name.to_owned(),
                };
                ids.dedup();
                found.push((test, std::mem::take(&mut ids)));
            }
            ids.clear();
            is_test = false;
        }
    }
    found
}

/// `#[test]`, `#[tokio::test]`, `#[tokio::test(…)]`.
fn is_test_attribute(code: &str) -> bool {
    let path = code
        .trim_start_matches("#[")
        .split(['(', ']'])
        .next()
        .unwrap_or_default();
    path == "test" || path.ends_with("::test")
}

fn function_name(code: &str) -> Option<&str> {
    let mut words = code.split_whitespace().skip_while(|word| *word != "fn");
    words
        .nth(1)
        .map(|word| word.split(['(', '<']).next().unwrap_or(word))
}

fn ids_in(doc: &str) -> impl Iterator<Item = String> {
    doc.split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
        .filter(|word| is_id(word))
        .map(str::to_owned)
}

/// The text of the generated file.
fn document(requirements: &[Requirement], cited: &BTreeMap<String, Vec<Test>>) -> String {
    let mut text = String::from(
        "# Requirements and the tests that hold them\n\n\
         Generated from the tests by `cargo xtask tidy --write`; what each requirement means stands in\n\
         [requirements.md](requirements.md).\n",
    );
    for requirement in requirements {
        let tests = cited
            .get(&requirement.id)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let _ = write!(text, "\n## {} {}\n\n", requirement.id, requirement.title);
        if tests.is_empty() {
            text.push_str("No test.\n");
        }
        let mut tests = tests.to_vec();
        tests.sort();
        for test in tests {
            let _ = writeln!(text, "- `{}` in `{}`", test.name, test.file);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::of_files;

    const ROWS: &str =
        "| id | what |\n| --- | --- |\n| GW-1 | SSH |\n| AU-6 | no record, no action |\n";

    const TESTS: &str = r#"
/// GW-1: not a test.
fn plain() {}

/// A shell, as in GW-1 and AU-6.
#[tokio::test(
    flavor = "multi_thread"
)]
async fn a_shell_opens() {}

#[test]
/// AES-256 is no requirement; "GW-12" would be.
fn nothing_cited() { let _ = "/// GW-1"; }
"#;

    fn with_document(text: &str) -> Tree {
        of_files([(REQUIREMENTS, ROWS), ("crates/a/src/a.rs", text)])
    }

    #[test]
    fn a_test_is_known_by_its_attribute_and_cites_in_its_doc_comment() {
        let tree = with_document(TESTS);
        let file = tree.rust_files().next().unwrap();
        let found: Vec<(String, usize, Vec<String>)> = cited_by(&file)
            .into_iter()
            .map(|(test, ids)| (test.name, test.line, ids))
            .collect();
        assert_eq!(
            found,
            [
                (
                    "a_shell_opens".to_owned(),
                    9,
                    vec!["GW-1".to_owned(), "AU-6".to_owned()]
                ),
                ("nothing_cited".to_owned(), 13, vec!["GW-12".to_owned()]),
            ]
        );
    }

    #[test]
    fn a_written_document_has_no_findings_and_a_stale_one_has() {
        let mut tree = with_document(&TESTS.replace("GW-12", "GW-1"));
        let text = document(&requirements(&tree), &cited(&tree));
        assert!(
            text.contains("## GW-1 SSH\n\n- `a_shell_opens` in `crates/a/src/a.rs`\n"),
            "{text}"
        );
        tree.files.insert(COVERAGE.into(), text.clone());
        assert_eq!(check(&tree), []);

        tree.files
            .insert(COVERAGE.into(), text.replace("a_shell_opens", "gone"));
        assert_eq!(check(&tree).first().unwrap().what, "not what the tests say");
    }

    #[test]
    fn a_requirement_without_a_test_and_an_unknown_id_are_found() {
        let tree = with_document("#[test]\n/// GW-1 VA-9\nfn a() {}\n");
        let whats: Vec<String> = check(&tree)
            .into_iter()
            .map(|finding| finding.what)
            .collect();
        assert_eq!(
            whats,
            [
                "AU-6 has no test",
                "VA-9 is not in docs/requirements.md",
                "not what the tests say"
            ]
        );
    }

    #[test]
    fn without_requirements_the_check_does_not_pass() {
        let whats: Vec<String> = check(&of_files([]))
            .into_iter()
            .map(|finding| finding.what)
            .collect();
        assert!(whats.contains(&"no requirement can be read".to_owned()));
    }
}
