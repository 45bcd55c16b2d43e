//! What the checks look at: the text of the repository's files, and what cargo says of its crates.
//!
//! Checks get one [`Tree`] and read nothing else, so that their tests make one by hand.

use super::rust_text;
use crate::process;
use anyhow::Context as _;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The repository as the checks see it.
#[derive(Debug, Default)]
pub struct Tree {
    /// Text files by their path from the root, with `/`.
    pub files: BTreeMap<String, String>,
    /// The crates of the workspace, by name.
    pub crates: BTreeMap<String, Crate>,
    /// Every package that any build of the workspace compiles, tests included.
    pub packages: BTreeSet<String>,
}

/// One crate of the workspace.
#[derive(Debug, Default, Clone)]
pub struct Crate {
    /// Packages its manifest names for a build.
    pub direct: BTreeSet<String>,
    /// Packages its manifest names for tests alone.
    pub for_tests: BTreeSet<String>,
    /// All packages that a build of it compiles, with the features that build has.
    pub reaches: BTreeSet<String>,
}

/// One Rust file.
#[derive(Debug)]
pub struct RustFile<'a> {
    /// From the root, with `/`.
    pub path: &'a str,
    /// As written.
    pub text: &'a str,
    /// The same lines with comments and the content of literals blanked.
    pub code: String,
}

impl RustFile<'_> {
    /// How many lines from the start are not tests; tests stand last in a file.
    pub fn production_lines(&self) -> usize {
        if self.is_test() {
            return 0;
        }
        self.code
            .lines()
            .position(|line| line.trim_start().starts_with("#[cfg(test)]"))
            .unwrap_or_else(|| self.code.lines().count())
    }

    fn is_test(&self) -> bool {
        self.path.ends_with("tests.rs")
            || self.path.contains("/tests/")
            || self.path.contains("/benches/")
    }
}

const TEXT_ENDINGS: &[&str] = &[".rs", ".toml", ".md", ".svg", ".jsonl", ".lock", "LICENSE"];

impl Tree {
    /// Reads the repository.
    ///
    /// # Errors
    ///
    /// A file or folder cannot be read, or cargo cannot make sense of the workspace.
    pub fn load() -> anyhow::Result<Self> {
        let root = process::root();
        let mut tree = Self::default();
        tree.read_folder(&root, "", false)?;
        for folder in ["crates", "docs", "xtask"] {
            tree.read_folder(&root.join(folder), &format!("{folder}/"), true)?;
        }
        tree.read_crates()?;
        Ok(tree)
    }

    /// The Rust files, in the order of their paths.
    pub fn rust_files(&self) -> impl Iterator<Item = RustFile<'_>> {
        self.files
            .iter()
            .filter(|(path, _)| path.ends_with(".rs"))
            .map(|(path, text)| RustFile {
                path,
                text,
                code: rust_text::blank(text),
            })
    }

    /// The folders directly inside `folder` (written with its last `/`), without slashes.
    pub fn folders_in(&self, folder: &str) -> BTreeSet<&str> {
        self.files
            .keys()
            .filter_map(|path| path.strip_prefix(folder)?.split_once('/'))
            .map(|(name, _)| name)
            .collect()
    }

    fn read_folder(&mut self, folder: &Path, prefix: &str, deep: bool) -> anyhow::Result<()> {
        let entries =
            fs::read_dir(folder).with_context(|| format!("list `{}`", folder.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("list `{}`", folder.display()))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = entry.path();
            if path.is_dir() {
                if deep && name != "target" {
                    self.read_folder(&path, &format!("{prefix}{name}/"), true)?;
                }
            } else if TEXT_ENDINGS.iter().any(|ending| name.ends_with(ending)) {
                let text = fs::read_to_string(&path)
                    .with_context(|| format!("read `{}`", path.display()))?;
                self.files.insert(format!("{prefix}{name}"), text);
            }
        }
        Ok(())
    }

    fn read_crates(&mut self) -> anyhow::Result<()> {
        let args = ["metadata", "--format-version", "1", "--no-deps"];
        let text = process::output(&mut process::cargo(args))?;
        let metadata: Metadata = serde_json::from_str(&text).context("read `cargo metadata`")?;
        for package in metadata.packages {
            let mut this = Crate::default();
            for dependency in package.dependencies {
                if dependency.kind.as_deref() == Some("dev") {
                    this.for_tests.insert(dependency.name);
                } else {
                    this.direct.insert(dependency.name);
                }
            }
            this.reaches = compiled(&["--package", &package.name, "--edges", "normal,build"])?;
            this.reaches.remove(&package.name);
            self.crates.insert(package.name, this);
        }
        self.packages = compiled(&["--workspace", "--edges", "normal,build,dev"])?;
        Ok(())
    }
}

/// The packages that a build of `selection` compiles. `cargo tree` resolves features as the build
/// does; `cargo metadata` would also list what an optional dependency could bring.
fn compiled(selection: &[&str]) -> anyhow::Result<BTreeSet<String>> {
    let args = ["tree", "--prefix", "none", "--format", "{p}"];
    let text = process::output(process::cargo(args).args(selection))?;
    Ok(text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect())
}

#[derive(serde::Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(serde::Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(serde::Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

/// A tree of these files alone, for the checks' own tests.
#[cfg(test)]
pub fn of_files<const N: usize>(files: [(&str, &str); N]) -> Tree {
    let files = files.map(|(path, text)| (path.to_owned(), text.to_owned()));
    Tree {
        files: BTreeMap::from(files),
        ..Tree::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn production_ends_where_the_tests_begin() {
        let tree = of_files([
            (
                "crates/a/src/lib.rs",
                "fn a() {}\n\n#[cfg(test)]\nmod tests {}\n",
            ),
            ("crates/a/src/b_tests.rs", "fn b() {}\n"),
            ("crates/a/src/tests.rs", "fn c() {}\n"),
        ]);
        let lines: Vec<usize> = tree
            .rust_files()
            .map(|file| file.production_lines())
            .collect();
        assert_eq!(lines, [0, 2, 0]);
    }

    #[test]
    fn folders_are_those_one_level_down() {
        let tree = of_files([("s/a/mod.rs", ""), ("s/a/b/c.rs", ""), ("s/lib.rs", "")]);
        assert_eq!(tree.folders_in("s/"), BTreeSet::from(["a"]));
    }

    #[test]
    fn the_repository_itself_can_be_read() {
        let tree = Tree::load().unwrap();
        assert!(tree.files.contains_key("Cargo.toml"));
        assert!(tree.crates["xtask"].direct.contains("anyhow"));
        assert!(
            tree.crates["sallyport-vault"]
                .reaches
                .contains("sallyport-core")
        );
    }
}
