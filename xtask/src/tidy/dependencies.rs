//! Every dependency is a decision: it stands in docs/dependencies.md with what it replaces.
//!
//! Also here: packages no build may contain, and versions written anywhere but in the root
//! manifest.

use super::Finding;
use super::tree::Tree;
use std::collections::BTreeMap;

const LIST: &str = "docs/dependencies.md";

const BANNED: &[(&str, &str)] = &[
    ("native-tls", "rustls, on aws-lc-rs"),
    ("openssl-sys", "aws-lc-rs"),
    ("ring", "aws-lc-rs"),
];

/// See the module.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let declared = tree
        .files
        .get("Cargo.toml")
        .map(|text| declared(text))
        .unwrap_or_default();
    let listed = tree
        .files
        .get(LIST)
        .map(|text| listed(text))
        .unwrap_or_default();

    for (name, line) in declared
        .iter()
        .filter(|(name, _)| !listed.contains_key(*name))
    {
        findings.push(Finding {
            file: "Cargo.toml".into(),
            line: *line,
            what: format!("`{name}` has no line in {LIST}"),
            why: "each dependency is code we answer for; someone must have said why it is here",
            remedy: format!("give it a row in {LIST}: what it is for, and instead of what"),
        });
    }
    for (name, line) in declared.iter().filter(|(name, _)| !is_used(tree, name)) {
        findings.push(Finding {
            file: "Cargo.toml".into(),
            line: *line,
            what: format!("no crate uses `{name}`"),
            why: "what is declared for later is never removed",
            remedy: "remove it here and from the list".into(),
        });
    }
    for (name, line) in listed
        .iter()
        .filter(|(name, _)| !declared.contains_key(*name))
    {
        findings.push(Finding {
            file: LIST.into(),
            line: *line,
            what: format!("`{name}` is not a dependency of the workspace"),
            why: "a list that is not kept is not read",
            remedy: "remove the line".into(),
        });
    }
    for (name, instead) in BANNED
        .iter()
        .filter(|(name, _)| tree.packages.contains(*name))
    {
        findings.push(Finding {
            file: "Cargo.lock".into(),
            line: line_in_lock(tree, name),
            what: format!("a build contains `{name}`"),
            why: "two providers of cryptography are twice the code to watch, and one of them unwatched",
            remedy: format!("use {instead}; `cargo tree --workspace -i {name}` shows the way in"),
        });
    }
    findings.extend(versions_in_members(tree));
    findings
}

/// Names and lines of the third-party entries of `[workspace.dependencies]`.
fn declared(manifest: &str) -> BTreeMap<String, usize> {
    let mut section = false;
    let mut names = BTreeMap::new();
    for (at, line) in manifest.lines().enumerate() {
        if line.starts_with('[') {
            section = line.trim() == "[workspace.dependencies]";
        } else if section
            && let Some((name, _)) = line.split_once(" = ")
            && !name.starts_with(['#', ' '])
            && !name.starts_with("sallyport")
        {
            names.insert(name.trim().to_owned(), at + 1);
        }
    }
    names
}

/// Names and lines of the rows of the tables in the list.
fn listed(text: &str) -> BTreeMap<String, usize> {
    let rows = text.lines().enumerate().filter_map(|(at, line)| {
        let name = line.strip_prefix("| `")?.split('`').next()?;
        Some((name.to_owned(), at + 1))
    });
    rows.collect()
}

fn is_used(tree: &Tree, name: &str) -> bool {
    tree.crates
        .values()
        .any(|krate| krate.direct.contains(name) || krate.for_tests.contains(name))
}

fn line_in_lock(tree: &Tree, name: &str) -> usize {
    tree.files
        .get("Cargo.lock")
        .and_then(|lock| {
            lock.lines()
                .position(|line| line == format!("name = \"{name}\""))
        })
        .map_or(1, |at| at + 1)
}

/// Dependencies of members that do not take the workspace's version.
fn versions_in_members(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let members = tree
        .files
        .iter()
        .filter(|(path, _)| path.ends_with("/Cargo.toml"))
        .filter(|(path, _)| path.starts_with("crates/") || path.starts_with("xtask/"));
    for (path, text) in members {
        let mut section = false;
        for (at, line) in text.lines().enumerate() {
            if line.starts_with('[') {
                section = line.trim_end_matches(']').ends_with("dependencies");
            } else if section
                && line.contains('=')
                && !line.starts_with('#')
                && !line.contains("workspace = true")
            {
                findings.push(Finding {
                    file: path.clone(),
                    line: at + 1,
                    what: format!("`{}` has a version of its own", line.trim()),
                    why: "two members would build two versions of one package",
                    remedy: "declare it in the root manifest, and here `NAME.workspace = true`"
                        .into(),
                });
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::{self, Crate};
    use std::collections::BTreeSet;

    const MANIFEST: &str = "[workspace]\nresolver = \"3\"\n\n[workspace.dependencies]\n\
        sallyport-core = { path = \"crates/sallyport-core\" }\n# time\njiff = \"0.2\"\n\n[profile.dev]\ndebug = 1\n";

    fn found(tree: &Tree) -> Vec<String> {
        check(tree)
            .into_iter()
            .map(|f| format!("{}:{}: {}", f.file, f.line, f.what))
            .collect()
    }

    /// With a crate that uses `jiff`.
    fn of_files<const N: usize>(files: [(&str, &str); N]) -> Tree {
        let mut tree = tree::of_files(files);
        let direct = BTreeSet::from(["jiff".to_owned()]);
        tree.crates.insert(
            "a".into(),
            Crate {
                direct,
                ..Crate::default()
            },
        );
        tree
    }

    #[test]
    fn a_dependency_nobody_uses_is_found() {
        let mut tree = of_files([("Cargo.toml", MANIFEST), (LIST, "| `jiff` | time |\n")]);
        assert_eq!(found(&tree), [""; 0]);
        tree.crates.clear();
        assert_eq!(found(&tree), ["Cargo.toml:7: no crate uses `jiff`"]);
    }

    #[test]
    fn a_dependency_with_its_line_has_no_findings() {
        let tree = of_files([
            ("Cargo.toml", MANIFEST),
            (
                LIST,
                "# Dependencies\n\n| crate | why |\n| --- | --- |\n| `jiff` | time |\n",
            ),
            (
                "crates/a/Cargo.toml",
                "[package]\nname = \"a\"\n\n[dependencies]\njiff.workspace = true\n",
            ),
        ]);
        assert_eq!(found(&tree), [""; 0]);
    }

    #[test]
    fn a_dependency_without_a_line_and_a_line_without_a_dependency_are_found() {
        let tree = of_files([("Cargo.toml", MANIFEST), (LIST, "| `chrono` | time |\n")]);
        assert_eq!(
            found(&tree),
            [
                "Cargo.toml:7: `jiff` has no line in docs/dependencies.md",
                "docs/dependencies.md:1: `chrono` is not a dependency of the workspace",
            ]
        );
    }

    #[test]
    fn a_banned_package_in_any_build_is_found() {
        let mut tree = of_files([("Cargo.lock", "[[package]]\nname = \"ring\"\n")]);
        tree.packages.insert("ring".into());
        assert_eq!(found(&tree), ["Cargo.lock:2: a build contains `ring`"]);
    }

    #[test]
    fn a_version_in_a_member_is_found() {
        let tree = of_files([("crates/a/Cargo.toml", "[dev-dependencies]\nhex = \"0.4\"\n")]);
        assert_eq!(
            found(&tree),
            ["crates/a/Cargo.toml:2: `hex = \"0.4\"` has a version of its own"]
        );
    }
}
