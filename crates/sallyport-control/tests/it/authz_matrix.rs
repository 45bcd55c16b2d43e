//! Who gets past the guard of which route: every declared route as every kind of caller, as a table that
//! people review. And the OpenAPI document, which must describe exactly those routes.
//!
//! `UPDATE_EXPECT=1` writes the golden files anew.

use std::{collections::BTreeSet, fmt::Write as _};

use expect_test::expect_file;
use sallyport_control::{kernel::http::OPENAPI_PATH, routes};
use serde_json::{Value, json};

use crate::support::node::{Node, Person};

/// What the guard did: let pass, or refused and how.
fn outcome(status: u16, answer: &Value) -> &'static str {
    match (status, answer["code"].as_str()) {
        (401, Some("unauthenticated")) => "401",
        (403, Some("missing-right")) => "403",
        _ => "yes",
    }
}

/// A path with something in place of its parameters that there is nowhere.
fn filled(path: &str) -> String {
    let fill = |part: &str| match part {
        "{name}" => "nobody".to_owned(),
        "{selector}" => "nobody@nowhere".to_owned(),
        other if other.starts_with('{') => "req_00000000000000000000000000".to_owned(),
        other => other.to_owned(),
    };
    path.split('/').map(fill).collect::<Vec<_>>().join("/")
}

/// Callers, one column each: what they are called, and their token.
async fn callers(node: &Node, owner: &Person) -> Vec<(&'static str, String)> {
    let mut callers = vec![
        ("anonymous", String::new()),
        ("unknown", format!("spt_{}", "A".repeat(43))),
    ];
    let leaver = node
        .person(owner, "leaver", &[], &["security", "auditor"])
        .await;
    let reason = json!({ "reason": "left" });
    node.ok(owner, "POST", "/v1/people/leaver/disable", Some(reason))
        .await;
    callers.push(("disabled", leaver.token));
    for role in ["member", "auditor", "approver", "security"] {
        let person = node.person(owner, role, &[], &[role]).await;
        callers.push((role, person.token));
    }
    callers.push(("owner", owner.token.clone()));
    let both = node
        .person(
            owner,
            "all-roles",
            &[],
            &["owner", "security", "auditor", "approver"],
        )
        .await;
    let wanted = json!({ "label": "narrow", "scopes": ["self.show"], "ttl_s": 3600 });
    let made = node
        .ok(&both, "POST", "/v1/self/tokens", Some(wanted))
        .await;
    callers.push((
        "self.show token",
        made["token"].as_str().unwrap().to_owned(),
    ));
    callers
}

/// ID-1, AC-1: nobody passes a guard that the table does not let them pass.
#[tokio::test]
async fn given_every_route_and_every_kind_of_caller_then_the_table_is_the_reviewed_one() {
    let node = Node::start().await;
    let owner = node.owner().await;
    let callers = callers(&node, &owner).await;
    let declared = routes::all();
    // Signing out comes last: the caller is nobody afterwards.
    let mut names: Vec<_> = declared.declared().keys().cloned().collect();
    names.sort_by_key(|name| (name.path == "/v1/sign-out", name.clone()));

    let mut rows = Vec::new();
    for name in &names {
        let mut row = vec![format!("{:6} {}", name.method, name.path)];
        for (_, token) in &callers {
            let (status, answer) = node
                .call(token, &name.method, &filled(&name.path), None)
                .await;
            row.push(outcome(status, &answer).to_owned());
        }
        rows.push(row);
    }
    rows.sort();
    let mut header = vec!["route".to_owned()];
    header.extend(callers.iter().map(|(name, _)| (*name).to_owned()));
    expect_file!["authz_matrix.golden"].assert_eq(&table(header, rows));
}

fn table(header: Vec<String>, rows: Vec<Vec<String>>) -> String {
    let lines: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
    let width = |column: usize| {
        lines
            .iter()
            .map(|line| line[column].len())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let mut row = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            write!(row, "{cell:width$}  ").unwrap();
        }
        writeln!(text, "{}", row.trim_end()).unwrap();
    }
    text
}

/// ID-1: a route that the document knows and the table does not, or the other way round, is uncovered.
#[tokio::test]
async fn given_the_document_and_the_table_then_no_route_is_only_in_one_of_them() {
    let node = Node::start().await;
    let (status, document) = node.call("", "GET", OPENAPI_PATH, None).await;
    assert_eq!(status, 200);
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let names_rule =
                operation["x-sallyport-action"].is_string() || operation["security"] == json!([]);
            assert!(names_rule, "{method} {path} says who may use it");
            documented.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    let declared: BTreeSet<String> = routes::all()
        .declared()
        .keys()
        .map(|name| format!("{} {}", name.method, name.path))
        .collect();
    let uncovered: String = documented
        .symmetric_difference(&declared)
        .map(|route| format!("{route}\n"))
        .collect();
    expect_file!["uncovered_routes.golden"].assert_eq(&uncovered);
    assert_eq!(uncovered, "", "the list stays empty");
}

/// The document is part of the API: a change to it is seen and meant.
#[tokio::test]
async fn given_the_openapi_document_then_it_is_the_reviewed_one() {
    let node = Node::start().await;
    let (_, document) = node.call("", "GET", OPENAPI_PATH, None).await;
    let text = serde_json::to_string_pretty(&document).unwrap();
    expect_file!["openapi.golden.json"].assert_eq(&format!("{text}\n"));
}

/// ID-1: a path says no more by another method, or by not being there.
#[tokio::test]
async fn given_an_unknown_path_or_method_then_the_answer_is_the_same() {
    let node = Node::start().await;
    let owner = node.owner().await;
    let unknown = node
        .call(&owner.token, "GET", "/v1/no-such-route", None)
        .await;
    assert_eq!(
        (unknown.0, unknown.1["code"].as_str()),
        (404, Some("not-found"))
    );
    for (method, path) in [
        ("DELETE", "/v1/people"),
        ("PUT", "/v1/sign-in"),
        ("TRACE", "/v1/people"),
        ("POST", "/v1/openapi.json"),
        ("GET", "/v1/people/"),
        ("GET", "/V1/people"),
        ("GET", "//v1/people"),
        ("GET", "/v1/people/../audit/checkpoint"),
    ] {
        assert_eq!(
            node.call(&owner.token, method, path, None).await,
            unknown,
            "{method} {path}"
        );
    }
}
