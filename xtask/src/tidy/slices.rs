//! Inside the control plane and the gateway: who may speak SQL, who may speak HTTP, and that one
//! protocol knows nothing of another.

use super::Finding;
use super::rust_text::{has_word, words};
use super::tree::{RustFile, Tree};

const CONTROL: &str = "crates/sallyport-control/src/";
const PROTOCOLS: &str = "crates/sallyport-gateway/src/protocols/";

/// A library that one kind of file in each slice may name.
struct Door {
    library: &'static str,
    file: &'static str,
    why: &'static str,
}

const DOORS: &[Door] = &[
    Door {
        library: "sqlx",
        file: "store",
        why: "a statement outside `store.rs` is one nobody looks for when a table changes",
    },
    Door {
        library: "axum",
        file: "api",
        why: "a rule that knows HTTP cannot be asked by anything but HTTP",
    },
];

/// See the module.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust_files() {
        if let Some(inside) = file.path.strip_prefix(CONTROL) {
            findings.extend(
                DOORS
                    .iter()
                    .flat_map(|door| past_the_door(&file, inside, door)),
            );
        }
        if let Some(inside) = file.path.strip_prefix(PROTOCOLS) {
            findings.extend(foreign_protocols(tree, &file, inside));
        }
    }
    findings
}

/// Uses of the door's library in `file`, which is not one that may.
fn past_the_door(file: &RustFile<'_>, inside: &str, door: &Door) -> Vec<Finding> {
    let may = inside.starts_with("kernel/")
        || inside
            .trim_end_matches(".rs")
            .split('/')
            .any(|part| part == door.file);
    if may {
        return Vec::new();
    }
    let lines = file
        .code
        .lines()
        .enumerate()
        .filter(|(_, line)| has_word(line, door.library));
    lines
        .map(|(at, _)| Finding {
            file: file.path.to_owned(),
            line: at + 1,
            what: format!(
                "`{}` outside `{}.rs` and the kernel",
                door.library, door.file
            ),
            why: door.why,
            remedy: format!(
                "move it to the slice's `{}.rs` and call it from here",
                door.file
            ),
        })
        .collect()
}

/// Paths in a protocol's folder that lead into the folder of another.
fn foreign_protocols(tree: &Tree, file: &RustFile<'_>, inside: &str) -> Vec<Finding> {
    let Some((own, _)) = inside.split_once('/') else {
        return Vec::new();
    };
    let all = tree.folders_in(PROTOCOLS);
    let mut findings = Vec::new();
    for (at, line) in file.code.lines().enumerate() {
        let words: Vec<&str> = words(line).collect();
        let pairs = words.iter().zip(words.iter().skip(1));
        for (before, name) in pairs {
            let path = matches!(*before, "protocols" | "super");
            if path && *name != own && all.contains(name) {
                findings.push(Finding {
                    file: file.path.to_owned(),
                    line: at + 1,
                    what: format!("the protocol `{own}` uses the protocol `{name}`"),
                    why: "a protocol is added, reviewed and switched off alone",
                    remedy: "move what both need up to the gateway, out of `protocols/`".into(),
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

    fn found(tree: &Tree) -> Vec<String> {
        check(tree)
            .into_iter()
            .map(|f| format!("{}:{}: {}", f.file, f.line, f.what))
            .collect()
    }

    #[test]
    fn each_library_is_named_behind_its_door_only() {
        let tree = of_files([
            (
                "crates/sallyport-control/src/access/api.rs",
                "use axum::Json;",
            ),
            (
                "crates/sallyport-control/src/access/store.rs",
                "use sqlx::Row;",
            ),
            (
                "crates/sallyport-control/src/access/store/grant.rs",
                "use sqlx::Row;",
            ),
            (
                "crates/sallyport-control/src/access/workflow.rs",
                "\nuse sqlx::Row;\n// axum",
            ),
            (
                "crates/sallyport-control/src/access/jobs.rs",
                "fn f(j: axum::Json<u8>) {}",
            ),
            (
                "crates/sallyport-control/src/kernel/db.rs",
                "use sqlx::Row; use axum::Json;",
            ),
        ]);
        assert_eq!(
            found(&tree),
            [
                "crates/sallyport-control/src/access/jobs.rs:1: `axum` outside `api.rs` and the kernel",
                "crates/sallyport-control/src/access/workflow.rs:2: `sqlx` outside `store.rs` and the kernel",
            ]
        );
    }

    #[test]
    fn a_protocol_that_uses_another_is_found() {
        let tree = of_files([
            (
                "crates/sallyport-gateway/src/protocols/mod.rs",
                "mod ssh; mod http;\nuse self::ssh::Ssh;",
            ),
            (
                "crates/sallyport-gateway/src/protocols/ssh/mod.rs",
                "use crate::protocols::http::head;\nuse super::ssh::codec;\nuse super::super::http;",
            ),
            (
                "crates/sallyport-gateway/src/protocols/http/mod.rs",
                "use crate::relay;",
            ),
        ]);
        assert_eq!(
            found(&tree),
            [
                "crates/sallyport-gateway/src/protocols/ssh/mod.rs:1: the protocol `ssh` uses the protocol `http`",
                "crates/sallyport-gateway/src/protocols/ssh/mod.rs:3: the protocol `ssh` uses the protocol `http`",
            ]
        );
    }
}
