//! Which crate may use which: the table of ARCHITECTURE.md, enforced.
//!
//! Cargo already refuses what a manifest does not name. This refuses the manifest, and what comes
//! in behind a dependency: that the gateway cannot reach the vault or SQL holds over any number of
//! steps.

use super::Finding;
use super::tree::{Crate, Tree};

/// What one crate of the workspace may use.
struct Rule {
    krate: &'static str,
    /// Crates of the workspace its manifest may name.
    ours: &'static [&'static str],
    /// Packages no build of it may contain, at any distance.
    never: &'static [&'static str],
}

/// `cc` stands for anything that compiles C.
const RULES: &[Rule] = &[
    Rule {
        krate: "sallyport-core",
        ours: &[],
        never: &["aws-lc-rs", "cc", "cedar-policy", "sqlx", "tokio"],
    },
    Rule {
        krate: "sallyport-policy",
        ours: &["sallyport-core"],
        never: &["sqlx", "tokio"],
    },
    Rule {
        krate: "sallyport-evidence",
        ours: &[],
        never: &["cedar-policy", "sallyport-core", "sqlx", "tokio"],
    },
    Rule {
        krate: "sallyport-vault",
        ours: &["sallyport-core", "sallyport-wire"],
        never: &["axum", "sallyport-control", "sallyport-gateway", "sqlx"],
    },
    Rule {
        krate: "sallyport-api",
        ours: &["sallyport-core"],
        never: &["axum", "sqlx", "tokio"],
    },
    Rule {
        krate: "sallyport-wire",
        ours: &[],
        never: &["axum", "cedar-policy", "sallyport-core", "sqlx", "tokio"],
    },
    Rule {
        krate: "sallyport-control",
        ours: &[
            "sallyport-api",
            "sallyport-core",
            "sallyport-evidence",
            "sallyport-policy",
            "sallyport-vault",
        ],
        never: &["sallyport-gateway"],
    },
    Rule {
        krate: "sallyport-gateway",
        ours: &[
            "sallyport-api",
            "sallyport-core",
            "sallyport-evidence",
            "sallyport-policy",
            "sallyport-wire",
        ],
        never: &["axum", "sallyport-control", "sallyport-vault", "sqlx"],
    },
    Rule {
        krate: "sallyport",
        ours: &[
            "sallyport-api",
            "sallyport-control",
            "sallyport-core",
            "sallyport-evidence",
            "sallyport-gateway",
            "sallyport-policy",
            "sallyport-vault",
        ],
        never: &["sallyport-testkit"],
    },
    Rule {
        krate: "sallyport-testkit",
        ours: &["sallyport-api", "sallyport-core", "sallyport-evidence"],
        never: &["sallyport-control", "sallyport-gateway"],
    },
    Rule {
        krate: "xtask",
        ours: &[],
        never: &["tokio"],
    },
];

/// Where an error may lose its type: the edges of the program, where only a person reads it.
const MAY_USE_ANYHOW: &[&str] = &["sallyport", "sallyport-testkit", "xtask"];

/// See the module.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, krate) in &tree.crates {
        match RULES.iter().find(|rule| rule.krate == name) {
            Some(rule) => check_crate(tree, rule, krate, &mut findings),
            None => findings.push(Finding {
                file: manifest(name),
                line: 1,
                what: format!("the crate `{name}` has no rule"),
                why: "a crate is a boundary; one without a rule bounds nothing",
                remedy: "say what it may use in xtask/src/tidy/edges.rs, and why in an ADR".into(),
            }),
        }
    }
    for rule in RULES
        .iter()
        .filter(|rule| !tree.crates.contains_key(rule.krate))
    {
        findings.push(Finding {
            file: "xtask/src/tidy/edges.rs".into(),
            line: 1,
            what: format!("a rule for `{}`, which is not in the workspace", rule.krate),
            why: "a rule that binds nothing reads as if it did",
            remedy: "remove it, or give the crate its name back".into(),
        });
    }
    findings
}

fn check_crate(tree: &Tree, rule: &Rule, krate: &Crate, findings: &mut Vec<Finding>) {
    let ours = krate
        .direct
        .iter()
        .filter(|name| name.starts_with("sallyport"));
    for name in ours.filter(|name| !rule.ours.contains(&name.as_str())) {
        findings.push(Finding {
            file: manifest(rule.krate),
            line: line_of(tree, rule.krate, name),
            what: format!("`{}` uses `{name}`", rule.krate),
            why: "the direction of dependencies is what keeps secrets, state and hostile bytes apart",
            remedy: "move what is needed down to a crate both may use (see ARCHITECTURE.md)".into(),
        });
    }
    for name in rule
        .never
        .iter()
        .filter(|name| krate.reaches.contains(**name))
    {
        findings.push(Finding {
            file: manifest(rule.krate),
            line: line_of(tree, rule.krate, name),
            what: format!("a build of `{}` contains `{name}`", rule.krate),
            why: "what cannot be named cannot be misused; this crate's promise is that it cannot",
            remedy: format!("`cargo tree -p {} -i {name}` shows the way in", rule.krate),
        });
    }
    if krate.direct.contains("anyhow") && !MAY_USE_ANYHOW.contains(&rule.krate) {
        findings.push(Finding {
            file: manifest(rule.krate),
            line: line_of(tree, rule.krate, "anyhow"),
            what: format!("`{}` uses `anyhow`", rule.krate),
            why: "a caller must be able to tell whose fault an error is",
            remedy: "an enum of what was attempted, with `thiserror`".into(),
        });
    }
}

fn manifest(krate: &str) -> String {
    if krate == "xtask" {
        "xtask/Cargo.toml".into()
    } else {
        format!("crates/{krate}/Cargo.toml")
    }
}

/// The line of the crate's manifest that names `package`; the first when it comes in from behind.
fn line_of(tree: &Tree, krate: &str, package: &str) -> usize {
    tree.files
        .get(&manifest(krate))
        .and_then(|text| {
            text.lines()
                .position(|line| line.starts_with(&format!("{package}.")))
        })
        .map_or(1, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::of_files;
    use std::collections::BTreeSet;

    /// A workspace that keeps every rule.
    fn tree() -> Tree {
        let mut tree = of_files([(
            "crates/sallyport-gateway/Cargo.toml",
            "[dependencies]\nsallyport-vault.workspace = true\n",
        )]);
        for rule in RULES {
            tree.crates.insert(rule.krate.to_owned(), Crate::default());
        }
        tree
    }

    fn found(tree: &Tree) -> Vec<String> {
        check(tree)
            .into_iter()
            .map(|f| format!("{}:{}: {}", f.file, f.line, f.what))
            .collect()
    }

    #[test]
    fn a_workspace_that_keeps_the_rules_has_no_findings() {
        assert_eq!(found(&tree()), [""; 0]);
    }

    #[test]
    fn a_forbidden_crate_of_ours_in_a_manifest_is_found_at_its_line() {
        let mut tree = tree();
        let gateway = tree.crates.get_mut("sallyport-gateway").unwrap();
        gateway.direct = BTreeSet::from(["sallyport-vault".into()]);
        assert_eq!(
            found(&tree),
            ["crates/sallyport-gateway/Cargo.toml:2: `sallyport-gateway` uses `sallyport-vault`"]
        );
    }

    #[test]
    fn a_forbidden_package_is_found_however_far_away_it_comes_in() {
        let mut tree = tree();
        let core = tree.crates.get_mut("sallyport-core").unwrap();
        core.reaches = BTreeSet::from(["serde".into(), "tokio".into()]);
        assert_eq!(
            found(&tree),
            ["crates/sallyport-core/Cargo.toml:1: a build of `sallyport-core` contains `tokio`"]
        );
    }

    #[test]
    fn untyped_errors_stay_at_the_edges_of_the_program() {
        let mut tree = tree();
        tree.crates.get_mut("sallyport-control").unwrap().direct =
            BTreeSet::from(["anyhow".into()]);
        tree.crates.get_mut("sallyport").unwrap().direct = BTreeSet::from(["anyhow".into()]);
        assert_eq!(
            found(&tree),
            ["crates/sallyport-control/Cargo.toml:1: `sallyport-control` uses `anyhow`"]
        );
    }

    #[test]
    fn a_crate_without_a_rule_and_a_rule_without_a_crate_are_found() {
        let mut tree = tree();
        tree.crates.remove("sallyport-api");
        tree.crates.insert("sallyport-new".into(), Crate::default());
        assert_eq!(
            found(&tree),
            [
                "crates/sallyport-new/Cargo.toml:1: the crate `sallyport-new` has no rule",
                "xtask/src/tidy/edges.rs:1: a rule for `sallyport-api`, which is not in the workspace",
            ]
        );
    }
}
