//! Words that name nothing: they may not be part of the name of a file, module or type.
//!
//! A thing called `SessionManager` may do anything with sessions; a name from the glossary says
//! which thing it does.

use super::Finding;
use super::rust_text::words;
use super::tree::Tree;

const BANNED: &[&str] = &[
    "common", "data", "handler", "helper", "helpers", "impl", "info", "manager", "misc", "service",
    "types", "util", "utils",
];

const DEFINES: &[&str] = &["enum", "mod", "struct", "trait", "type", "union"];

/// See the module.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust_files() {
        let path = file.path.trim_end_matches(".rs");
        if let Some(word) = path
            .split(['/', '_', '-'])
            .find(|word| BANNED.contains(word))
        {
            findings.push(finding(
                file.path,
                1,
                format!("`{word}` in the name of a file"),
                word,
            ));
        }
        for (at, line) in file.code.lines().enumerate() {
            for (name, word) in defined_names(line) {
                let what = format!("`{word}` in the name `{name}`");
                findings.push(finding(file.path, at + 1, what, &word));
            }
        }
    }
    findings
}

fn finding(file: &str, line: usize, what: String, word: &str) -> Finding {
    Finding {
        file: file.to_owned(),
        line,
        what,
        why: "a word that fits everything tells a reader nothing, and gathers what belongs elsewhere",
        remedy: format!("a noun of docs/glossary.md in place of `{word}`"),
    }
}

/// Names that `line` defines, each with the banned word in it.
fn defined_names(line: &str) -> Vec<(String, String)> {
    let words: Vec<&str> = words(line).collect();
    words
        .iter()
        .zip(words.iter().skip(1))
        .filter(|(keyword, _)| DEFINES.contains(*keyword))
        .filter_map(|(_, name)| {
            let word = parts(name)
                .into_iter()
                .find(|part| BANNED.contains(&part.as_str()))?;
            Some(((*name).to_owned(), word))
        })
        .collect()
}

/// The words of a name, `HTTPServer` as `httpserver`, `AuthInfo` as `auth` and `info`.
fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut after_lower = false;
    for c in name.chars() {
        if c == '_' || (c.is_uppercase() && after_lower) {
            parts.push(String::new());
        }
        after_lower = c.is_lowercase() || c.is_ascii_digit();
        if c != '_'
            && let Some(part) = parts.last_mut()
        {
            part.extend(c.to_lowercase());
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::of_files;

    #[test]
    fn empty_words_are_found_in_files_types_and_modules() {
        let tree = of_files([
            ("crates/a/src/string_utils.rs", ""),
            (
                "crates/a/src/lib.rs",
                "pub struct SessionManager;\nmod common {}\ntype HostInfo = u8;",
            ),
        ]);
        let whats: Vec<String> = check(&tree)
            .into_iter()
            .map(|finding| finding.what)
            .collect();
        assert_eq!(
            whats,
            [
                "`manager` in the name `SessionManager`",
                "`common` in the name `common`",
                "`info` in the name `HostInfo`",
                "`utils` in the name of a file",
            ]
        );
    }

    #[test]
    fn a_use_of_somebody_elses_name_or_a_longer_word_is_not_found() {
        let tree = of_files([(
            "crates/a/src/metadata.rs",
            "// struct Manager\nimpl russh::server::Handler for X {}\nstruct Metadata;\nfn data() {}",
        )]);
        assert_eq!(check(&tree), []);
    }
}
