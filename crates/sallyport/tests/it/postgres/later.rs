//! Limits that policies put on a session that lives.

use std::fs;

use super::database::{APP, Live, Shop};
use crate::{mysql, waiting::eventually, world::World};

const READS_LITTLE: &str = "@id(\"reads-little\")\n@read_only(\"enforced\")\n@statement_rows(\"2\")\n\
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

/// PO-2, PO-3, GW-11: reading only, a budget and a mask hold for the next statement of a session that was opened
/// without them.
#[test]
fn given_a_live_session_when_policies_begin_to_limit_it_then_its_next_statements_are_limited() {
    let shop = Shop::new();
    shop.world.grant(APP, "1h");
    let pass = shop.pass(APP);
    let echo = |text: &str| format!("\\echo {text}");
    let mut psql = shop.start(&pass, &[]);
    psql.type_line("SELECT name FROM item ORDER BY id;");
    psql.until("desk");
    demand(&shop.world, READS_LITTLE);
    until_answered(&mut psql, echo, "SELECT name FROM item;", "(row-budget)");
    until_answered(&mut psql, echo, "DELETE FROM item;", "(read-only)");
    demand(&shop.world, MASKED);
    // It is not known what is masked where the session did not begin with it.
    let said = until_answered(
        &mut psql,
        echo,
        "SELECT 'name ' || name FROM item WHERE id = 1;",
        "(masked-column)",
    );
    assert!(!said.contains("lamp"), "{said}");
    psql.end();
    assert_eq!(shop.execute("shop", "SELECT count(*) FROM item"), "3");
}

/// PO-2, PO-3, GW-11: the same of MySQL, without masks.
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
    demand(&shop.world, READS_LITTLE);
    until_answered(&mut client, echo, "SELECT name FROM item;", "(row-budget)");
    until_answered(&mut client, echo, "DELETE FROM item;", "(read-only)");
    client.end();
    assert_eq!(shop.execute("SELECT count(*) FROM shop.item"), "3");
}
