//! A link from one document of the repository to another leads somewhere.

use super::Finding;
use super::tree::Tree;

/// See the module.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, text) in tree.files.iter().filter(|(path, _)| path.ends_with(".md")) {
        for (at, line) in text.lines().enumerate() {
            for target in targets(line).filter(|target| !leads_somewhere(tree, file, target)) {
                findings.push(Finding {
                    file: file.clone(),
                    line: at + 1,
                    what: format!("a link to `{target}`, which is not there"),
                    why: "a reader who is sent nowhere stops reading",
                    remedy: "correct the path, relative to the file it stands in".into(),
                });
            }
        }
    }
    findings
}

/// Where the links of `line` lead, addresses on other machines and anchors left out.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', '#']).next())
        .filter(|target| !target.is_empty() && !target.contains("://"))
}

fn leads_somewhere(tree: &Tree, file: &str, target: &str) -> bool {
    let mut parts: Vec<&str> = file.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." => {}
            ".." => {
                if parts.pop().is_none() {
                    return false;
                }
            }
            _ => parts.push(part),
        }
    }
    let path = parts.join("/");
    let folder = format!("{}/", path.trim_end_matches('/'));
    tree.files.contains_key(&path) || tree.files.keys().any(|file| file.starts_with(&folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::of_files;

    #[test]
    fn only_links_that_lead_nowhere_are_found() {
        let tree = of_files([
            (
                "README.md",
                "[a](docs/a.md#part) [adr](docs/adr/) [x](https://x.example/y) [p](#part)",
            ),
            (
                "docs/a.md",
                "[up](../README.md)\n[gone](gone.md), [out](../../etc/passwd)",
            ),
            ("docs/adr/0001.md", ""),
        ]);
        let found: Vec<String> = check(&tree)
            .into_iter()
            .map(|f| format!("{}:{}: {}", f.file, f.line, f.what))
            .collect();
        assert_eq!(
            found,
            [
                "docs/a.md:2: a link to `gone.md`, which is not there",
                "docs/a.md:2: a link to `../../etc/passwd`, which is not there",
            ]
        );
    }
}
