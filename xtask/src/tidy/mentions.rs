//! ARCHITECTURE.md is the map: it shows every crate, slice and protocol, and no place that is not
//! there.

use super::Finding;
use super::tree::Tree;

const MAP: &str = "ARCHITECTURE.md";

const LINES_MAX: usize = 300;

/// Folders each of whose folders is on the map.
const SHOWN: &[(&str, &str)] = &[
    ("crates/", "crate"),
    ("crates/sallyport-control/src/", "slice"),
    ("crates/sallyport-gateway/src/protocols/", "protocol"),
];

/// See the module.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let Some(map) = tree.files.get(MAP) else {
        return vec![finding(1, format!("`{MAP}` is missing"), "write it".into())];
    };
    let mut findings = Vec::new();
    for (folder, kind) in SHOWN {
        for name in tree.folders_in(folder) {
            if !map.contains(&format!("`{name}`")) && !map.contains(&format!("{name}/")) {
                let what = format!("the {kind} `{name}` is not mentioned");
                findings.push(finding(
                    1,
                    what,
                    format!("add `{name}` where {kind}s are listed"),
                ));
            }
        }
    }
    for (at, line) in map.lines().enumerate() {
        for path in quoted_paths(line).filter(|path| !is_there(tree, path)) {
            let what = format!("`{path}` does not exist");
            findings.push(finding(
                at + 1,
                what,
                "name the file that does this now".into(),
            ));
        }
    }
    let lines = map.lines().count();
    if lines > LINES_MAX {
        let what = format!("{lines} lines");
        findings.push(finding(
            lines,
            what,
            format!("at most {LINES_MAX}: details go to module docs"),
        ));
    }
    findings
}

fn finding(line: usize, what: String, remedy: String) -> Finding {
    Finding {
        file: MAP.to_owned(),
        line,
        what,
        why: "a newcomer trusts the map; a place it hides or invents costs them the trust",
        remedy,
    }
}

/// Words in backticks that are paths of at least two parts, ending in `/` or in a known ending. What
/// follows `::` is an item in the file.
fn quoted_paths(line: &str) -> impl Iterator<Item = &str> {
    line.split('`')
        .skip(1)
        .step_by(2)
        .map(|quoted| quoted.split("::").next().unwrap_or(quoted))
        .filter(|word| word.trim_end_matches('/').contains('/') && !word.starts_with('/'))
        .filter(|word| !word.contains([' ', '<', '*', '{', ':']))
        .filter(|word| {
            [".rs", ".md", ".toml", "/"]
                .iter()
                .any(|ending| word.ends_with(ending))
        })
}

/// Paths are written from the root, or from `crates/`.
fn is_there(tree: &Tree, path: &str) -> bool {
    [path.to_owned(), format!("crates/{path}")]
        .iter()
        .any(|path| {
            tree.files.contains_key(path)
                || (path.ends_with('/') && tree.files.keys().any(|file| file.starts_with(path)))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::of_files;

    fn found(map: &str) -> Vec<String> {
        let tree = of_files([
            (MAP, map),
            ("crates/sallyport-control/src/access/mod.rs", ""),
            ("crates/sallyport-gateway/src/protocols/ssh/mod.rs", ""),
        ]);
        check(&tree)
            .into_iter()
            .map(|f| format!("{}: {}", f.line, f.what))
            .collect()
    }

    #[test]
    fn a_complete_map_has_no_findings() {
        let map = "`sallyport-control/src/access/mod.rs::submit` and `sallyport-gateway`,\n`ssh`";
        assert_eq!(found(map), [""; 0]);
    }

    #[test]
    fn what_the_map_hides_is_found() {
        assert_eq!(
            found("`sallyport-control` and `sallyport-gateway`"),
            [
                "1: the slice `access` is not mentioned",
                "1: the protocol `ssh` is not mentioned"
            ]
        );
    }

    #[test]
    fn what_the_map_invents_is_found_at_its_line() {
        let map = "`sallyport-control` `sallyport-gateway` `access` `ssh`\n\
                   `sallyport-control/src/access/gone.rs` `docs/gone/` `docs/adr/NNNN-<title>.md`";
        assert_eq!(
            found(map),
            [
                "2: `sallyport-control/src/access/gone.rs` does not exist",
                "2: `docs/gone/` does not exist"
            ]
        );
    }

    #[test]
    fn a_map_as_long_as_the_land_is_found() {
        let map = format!(
            "`sallyport-control` `sallyport-gateway` `access` `ssh`{}",
            "\n.".repeat(300)
        );
        assert_eq!(found(&map), ["301: 301 lines"]);
    }
}
