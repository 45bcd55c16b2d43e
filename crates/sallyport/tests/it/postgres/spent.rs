//! What statements under one grant have taken, over its connections.

use super::{
    database::{APP, Shop, complaint},
    statement::demand,
};

/// A policy that limits this of a grant.
fn limited(limit: &str) -> Shop {
    let shop = Shop::new();
    let policy = format!("@id(\"so-much\")\n{limit}\npermit (principal, action, resource);\n");
    demand(&shop, &policy);
    shop
}

/// What a client says of a query on a connection of its own.
fn told(shop: &Shop, pass: &str, sql: &str) -> String {
    let output = shop.psql(pass, &["-c", sql]);
    complaint(&output)
}

/// PO-2: rows that people take on several connections add up to the grant's budget; beyond it each further row is
/// refused, on whatever connection; another grant begins anew.
#[test]
fn given_a_budget_of_rows_for_a_grant_when_connections_take_them_then_they_add_up() {
    let shop = limited("@grant_rows(\"7\")");
    let pass = shop.pass(APP);
    for _ in 0..2 {
        assert_eq!(
            shop.query(&pass, "SELECT name FROM item ORDER BY id"),
            "lamp\nchair\ndesk"
        );
    }
    let beyond = told(&shop, &pass, "SELECT name FROM item");
    assert!(beyond.contains("(row-budget)"), "{beyond}");
    let another = told(&shop, &pass, "SELECT 1");
    assert!(another.contains("(row-budget)"), "{another}");

    let grants = shop.world.carol.list(&["grant", "list"]);
    for grant in grants {
        let id = grant["id"].as_str().unwrap();
        shop.world
            .carol
            .say(&["grant", "end", id, "--reason", "enough"]);
    }
    shop.world.grant(APP, "1h");
    assert_eq!(shop.query(&pass, "SELECT count(*) FROM item"), "3");
}

/// PO-2: the same of bytes.
#[test]
fn given_a_budget_of_bytes_for_a_grant_when_connections_take_them_then_they_add_up() {
    let shop = limited("@grant_bytes(\"64KiB\")");
    let pass = shop.pass(APP);
    let most = "SELECT length(repeat('x', 40000)), repeat('x', 40000)";
    assert!(shop.query(&pass, most).starts_with("40000|x"));
    let beyond = told(&shop, &pass, most);
    assert!(beyond.contains("(byte-budget)"), "{beyond}");
}
