//! A file that does not fit on a screen begins with what it owns, who calls it and what it promises.

use super::Finding;
use super::tree::Tree;

const LINES_WITHOUT: usize = 50;

/// See the module.
pub fn check(tree: &Tree) -> Vec<Finding> {
    tree.rust_files()
        .filter(|file| file.text.lines().count() > LINES_WITHOUT)
        .filter(|file| !file.text.trim_start().starts_with("//!"))
        .map(|file| Finding {
            file: file.path.to_owned(),
            line: 1,
            what: format!("over {LINES_WITHOUT} lines without a module doc"),
            why: "a reader must learn whether this is the file they look for before reading it",
            remedy:
                "begin it with `//!`: what it owns, who calls it, its invariant, what is not here"
                    .into(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::of_files;

    #[test]
    fn only_a_long_file_that_begins_with_something_else_is_found() {
        let bare = "fn a() {}\n".repeat(51);
        let documented = format!("//! What it owns.\n{bare}");
        let short = "fn a() {}\n".repeat(50);
        let tree = of_files([
            ("crates/a/src/bare.rs", &bare),
            ("crates/a/src/documented.rs", &documented),
            ("crates/a/src/short.rs", &short),
        ]);
        let files: Vec<String> = check(&tree)
            .into_iter()
            .map(|finding| finding.file)
            .collect();
        assert_eq!(files, ["crates/a/src/bare.rs"]);
    }
}
