//! Limits that policies put on a session that lives.

use std::fs;

use super::database::{APP, Live, Shop};
use crate::{mysql, waiting::eventually, world::World};

const LITTLE: &str = "@id(\"little\")\n@statement_rows(\"2\")\n\
    permit (principal, action, resource);\n";
const READS: &str = "@id(\"reads\")\n@read_only(\"enforced\")\n\
    permit (principal, action, resource);\n";
const MASKED: &str = "@id(\"masked\")\n@mask(\"shop.*.item.name = token\")\n\
    permit (principal, action, resource);\n";

/// Has the bundle in force demand this.
fn demand(world: &World, require: &str) {
    let folder = world.carol.folder.join("policies");
    let path = folder.display().to_string();
    if !folder.exists() {
        world.carol.say(&["policy", "init", &path]);
        // They expect nothing to demand it.
        fs::remove_dir_all(folder.join("tests")).unwrap();
    }
    fs::write(folder.join("require/later.cedar"), require).unwrap();
    world.carol.say(&["policy", "apply", &path]);
}

/// Types a statement again and again until its answer holds this; `echo` is how this client is made to say a text
/// behind it.
fn until_answered(
    client: &mut Live,
    echo: fn(&str) -> String,
    statement: &str,
    wanted: &str,
) -> String {
    let mut turn = 0;
    eventually("the gateway has heard of the new policies", || {
        turn += 1;
        client.type_line(statement);
        let mark = format!("turn {turn}");
        client.type_line(&echo(&mark));
        let from = client.seen.len();
        client.until(&mark);
        let said = client.seen[from..].join("\n");
        said.contains(wanted).then_some(said)
    })
}

/// The live session ends as policies begin to demand this, and nothing of its table is changed: its target was told
/// otherwise when it began.
fn ends_when(world: &World, require: &str) {
    let id = world.live_session()["id"].as_str().unwrap().to_owned();
    demand(world, require);
    let ended = world.ended_session(&id);
    assert_eq!(ended["end_reason"], "policy-changed", "{ended}");
}

/// PO-2, PO-3, GW-11: a budget holds for the next statement of a session that was opened without it; reading only and
/// masks begin with the next session.
#[test]
fn given_a_live_session_when_policies_begin_to_limit_it_then_its_next_statements_are_limited() {
    let shop = Shop::new();
    shop.world.grant(APP, "1h");
    let pass = shop.pass(APP);
    let echo = |text: &str| format!("\\echo {text}");
    let mut psql = shop.start(&pass, &[]);
    psql.type_line("SELECT name FROM item ORDER BY id;");
    psql.until("desk");
    demand(&shop.world, LITTLE);
    until_answered(&mut psql, echo, "SELECT name FROM item;", "(row-budget)");
    ends_when(&shop.world, READS);
    psql.end();
    let mut psql = shop.start(&pass, &[]);
    psql.type_line("SELECT name FROM item ORDER BY id;");
    psql.until("desk");
    psql.type_line("DELETE FROM item;");
    psql.until("(read-only)");
    ends_when(&shop.world, MASKED);
    psql.end();
    let mut psql = shop.start(&pass, &[]);
    psql.type_line("SELECT 'name ' || name FROM item WHERE id = 1;");
    let said = psql.until("(masked-column)");
    assert!(!said.contains("lamp"), "{said}");
    psql.end();
    assert_eq!(shop.execute("shop", "SELECT count(*) FROM item"), "3");
}

/// PO-2, PO-3, GW-11: the same of MySQL.
#[test]
fn given_a_live_mysql_session_when_policies_begin_to_limit_it_then_its_next_statements_are_limited()
{
    let shop = mysql::database::Shop::new();
    shop.world.grant(mysql::database::APP, "1h");
    let pass = shop.pass(mysql::database::APP);
    let echo = |text: &str| format!("SELECT '{text}';");
    let mut client = shop.start(&pass);
    client.type_line("SELECT name FROM item ORDER BY id;");
    client.until("desk");
    demand(&shop.world, LITTLE);
    until_answered(&mut client, echo, "SELECT name FROM item;", "(row-budget)");
    ends_when(&shop.world, READS);
    client.end();
    let mut client = shop.start(&pass);
    client.type_line("SELECT name FROM item ORDER BY id;");
    client.until("desk");
    client.type_line("DELETE FROM item;");
    client.until("(read-only)");
    ends_when(&shop.world, MASKED);
    client.end();
    assert_eq!(shop.execute("SELECT count(*) FROM shop.item"), "3");
}
