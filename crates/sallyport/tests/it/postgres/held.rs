//! Statements held for approval.

use std::fs;

use serde_json::Value;

use super::database::{APP, Shop};
use crate::{node::finished, waiting::eventually};

/// Tables are dropped, and rows removed, with a second person's word only.
const POLICIES: &str = r#"
@id("destruction-waits")
@command_approval("1: DROP * | DELETE *")
permit (principal, action, resource);

@id("renaming-waits")
@command_approval("1: *")
permit (principal, action == Action::"operation.run", resource)
when { context.operation.detail == "UPDATE item SET name = $1 WHERE id = $2" };
"#;

/// Binds values by the protocol, as drivers do.
const RENAMES: &str = r#"
import psycopg
with psycopg.connect(autocommit=True) as connection:
    connection.execute("UPDATE item SET name = %s WHERE id = %s", ("throne", 2))
    print("renamed")
"#;

fn shop() -> Shop {
    let shop = Shop::new();
    let carol = &shop.world.carol;
    let folder = carol.folder.join("policies");
    let path = folder.display().to_string();
    carol.say(&["policy", "init", &path]);
    fs::write(folder.join("require/statements.cedar"), POLICIES).unwrap();
    // They expect nothing to demand it.
    fs::remove_dir_all(folder.join("tests")).unwrap();
    carol.say(&["policy", "apply", &path]);
    shop.world.grant(APP, "1h");
    shop
}

pub fn vote(shop: &Shop, verb: &str) -> Value {
    let held = eventually("a statement waits", || {
        let waiting = ["operation", "list", "--state", "waiting"];
        shop.world.bob.list(&waiting).into_iter().next()
    });
    let id = held["id"].as_str().unwrap();
    let hash = held["content_hash"].as_str().unwrap();
    let words = [
        "operation",
        verb,
        id,
        "--content-hash",
        hash,
        "--comment",
        "as agreed",
    ];
    shop.world.bob.json(&words);
    held
}

/// PO-2, PO-3, GW-2: a statement waits for another person on the connection it came on, and runs there or is
/// refused there; a person who gives up by Ctrl-C is not asked again.
#[test]
fn given_a_statement_that_waits_when_somebody_votes_then_it_runs_or_fails_on_the_same_connection() {
    let shop = shop();
    let pass = shop.pass(APP);
    let mut psql = shop.start(&pass, &[]);
    psql.type_line("DELETE FROM item WHERE id = 3;");
    psql.until("waits for 1 approval");
    assert_eq!(shop.execute("shop", "SELECT count(*) FROM item"), "3");
    let held = vote(&shop, "approve");
    assert_eq!(held["command"], "DELETE FROM item WHERE id = 3;");
    psql.type_line("SELECT 'left ' || count(*) FROM item;");
    psql.until("left 2");

    psql.type_line("DROP TABLE item;");
    psql.until("waits for 1 approval");
    vote(&shop, "deny");
    psql.until("ERROR:  sallyport:");
    psql.until("as agreed");

    psql.type_line("DROP TABLE item;");
    psql.until("waits for 1 approval");
    crate::node::send("-INT", psql.pid());
    psql.until("ERROR:  sallyport:");
    // A script that is interrupted ends; what it waited for has reached nobody.
    psql.end();
    assert_eq!(shop.query(&pass, "SELECT count(*) FROM item"), "2");
    assert!(
        !shop.server.log().contains("DROP"),
        "the target has seen it"
    );
}

/// PO-3, G4: a statement waits by what it says, and whoever agrees sees its values too: that they are shown does not
/// make another statement of it that need not wait.
#[test]
fn given_a_rule_for_a_whole_statement_when_values_are_bound_to_it_then_it_waits_and_they_are_shown()
{
    let shop = shop();
    let pass = shop.pass(APP);
    let mut driver = shop.command(&crate::clients::venv("python"), APP, &pass);
    driver.args(["-P", "-c", RENAMES]);
    let driver = driver.spawn().unwrap();
    let held = vote(&shop, "approve");
    let shown = held["command"].as_str().unwrap();
    assert!(
        shown.starts_with("UPDATE item SET name = $1 WHERE id = $2\n-- $1 = \"throne\""),
        "{shown}"
    );
    let output = finished(driver);
    assert_eq!(output.stdout, b"renamed\n", "{output:?}");
    assert_eq!(
        shop.execute("shop", "SELECT name FROM item WHERE id = 2"),
        "throne"
    );
}
