//! Reading only, and budgets: as with PostgreSQL, by the same policies.

use std::{fs, path::Path, process::Stdio};

use super::{
    database::{APP, Shop},
    drivers::program,
};
use crate::{node::finished, postgres::database::Live};

/// A shop whose bundle demands this besides.
pub fn shop(require: &str) -> Shop {
    let shop = Shop::new();
    let carol = &shop.world.carol;
    let folder = carol.folder.join("policies");
    let path = folder.display().to_string();
    carol.say(&["policy", "init", &path]);
    fs::write(folder.join("require/statements.cedar"), require).unwrap();
    // They expect nothing to demand it.
    fs::remove_dir_all(folder.join("tests")).unwrap();
    carol.say(&["policy", "apply", &path]);
    shop.world.grant(APP, "1h");
    shop
}

/// A program with a driver, which does this.
fn run(shop: &Shop, pass: &str, what: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/mysql/limits.py");
    let mut program = program(shop, &crate::clients::venv("python"), &script, pass);
    let output = finished(program.arg(what).spawn().unwrap());
    assert!(output.stdout.ends_with(b"done\n"), "{output:?}");
}

/// Each is refused before it reaches the server, where nothing may be written.
const SMUGGLED: &[&str] = &[
    "DELETE FROM item;",
    "/*!50000 DELETE FROM item */;",
    "SELECT 1 INTO OUTFILE '/tmp/sallyport-smuggled';",
    "SELECT * FROM item FOR UPDATE;",
    "SELECT empty_it();",
    "CALL empty();",
    "PREPARE p FROM 'DELETE FROM item';",
    "SET SESSION TRANSACTION READ WRITE;",
    "SET transaction_read_only = 0;",
    "SET @@session.tx_read_only = OFF;",
    "START TRANSACTION READ WRITE;",
    "SET STATEMENT tx_read_only = 0 FOR DELETE FROM item;",
    "LOCK TABLES item WRITE;",
    "CREATE TEMPORARY TABLE t (a int);",
    "TRUNCATE item;",
];

/// PO-2, PO-3, GW-11, G4: where only reading is allowed, nothing that hides a change passes, the server would
/// refuse what did, also after the client has had its session made anew, and people read as before.
#[test]
fn given_reading_only_when_changes_are_smuggled_then_none_passes_and_the_server_would_refuse_it() {
    let shop =
        shop("@id(\"reads\")\n@read_only(\"enforced\")\npermit (principal, action, resource);\n");
    shop.execute(
        "DELIMITER //\nCREATE FUNCTION shop.empty_it() RETURNS int MODIFIES SQL DATA \
         BEGIN DELETE FROM shop.item; RETURN 1; END//\nDELIMITER ;\n",
    );
    shop.execute("CREATE PROCEDURE shop.empty() DELETE FROM shop.item");
    shop.execute("CREATE SQL SECURITY INVOKER VIEW shop.innocent AS SELECT shop.empty_it() AS n");
    let pass = shop.pass(APP);
    let mut client = shop.start(&pass);
    for (number, statement) in SMUGGLED.iter().enumerate() {
        client.type_line(statement);
        let from = client.seen.len();
        client.type_line(&format!("SELECT concat('after ', {number});"));
        client.until(&format!("after {number}"));
        let said = client.seen[from..].join("\n");
        assert!(said.contains("(read-only)"), "{statement}: {said}");
    }
    // What no text shows, the server refuses.
    client.type_line("SELECT * FROM innocent;");
    client.until("ERROR 1792");
    client.type_line("SELECT concat('has ', count(*)) FROM shop.item;");
    client.until("has 3");
    client.end();
    run(&shop, &pass, "reads");
    assert_eq!(shop.execute("SELECT count(*) FROM shop.item"), "3");
}

/// PO-2: a result beyond the budget stops with a code, the server does not go on, and the connection does.
#[test]
fn given_budgets_when_a_result_is_larger_or_takes_longer_then_it_is_cut_off_cleanly() {
    let shop = shop(
        "@id(\"little-at-once\")\n@statement_rows(\"2\")\n@statement_bytes(\"64KiB\")\n\
         permit (principal, action, resource);\n\
         @id(\"not-for-long\")\n@statement_time(\"2s\")\n\
         permit (principal, action, resource == Account::\"app@hasty\");\n",
    );
    let pass = shop.pass(APP);
    let mut client = shop.start(&pass);
    let mut says = |line: &str, expected: &str| {
        client.type_line(line);
        client.until(expected)
    };
    says("SELECT name FROM item WHERE id < 3 ORDER BY id;", "chair");
    // All of it has come before anything could be stopped; what the server was asked to stop is not the next one.
    says("SELECT name FROM item;", "(row-budget)");
    says("SELECT concat('still ', 'here');", "still here");
    says(
        "SELECT a.id FROM item a, seq_1_to_1000000000;",
        "(row-budget)",
    );
    says("SELECT repeat('x', 70000);", "(byte-budget)");
    // The error of a statement ends none but that.
    says(
        "START TRANSACTION; UPDATE item SET name = 'kept' WHERE id = 1; SELECT 'changed';",
        "changed",
    );
    says("SELECT name FROM item;", "(row-budget)");
    says("COMMIT; SELECT name FROM item WHERE id = 1;", "kept");
    client.end();
    let cut: Vec<_> = shop
        .statements(&shop.newest())
        .into_iter()
        .filter(|statement| statement["reason"] == "row-budget")
        .collect();
    assert_eq!(cut.len(), 3, "{cut:#?}");
    assert!(
        cut.iter().all(|one| one["outcome"] == "interrupted"),
        "{cut:#?}"
    );

    // Prepared statements, with cursors and without.
    run(&shop, &pass, "budgets");

    let authority = shop.server.authority().display().to_string();
    shop.add_target("hasty", &authority);
    shop.world.grant("app@hasty", "1h");
    let mut hasty = shop.command("mariadb", "app@hasty", &shop.pass("app@hasty"));
    hasty
        .args([
            "--batch",
            "--unbuffered",
            "--force",
            "--skip-column-names",
            "--database=shop",
        ])
        .stdin(Stdio::piped());
    let mut hasty = Live::of(hasty);
    hasty.type_line("SELECT * FROM seq_1_to_10 WHERE sleep(600);");
    hasty.until("(time-budget)");
    hasty.end();
    let running = "SELECT count(*) FROM information_schema.processlist WHERE user = 'app' AND command = 'Query'";
    assert_eq!(shop.execute(running), "0");
}
