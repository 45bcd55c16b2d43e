//! What statements do, decided: reading only, definitions that wait, budgets; and that none is missing in
//! the evidence.

use std::{collections::BTreeMap, fs, path::Path, process::Stdio, time::Duration};

use super::{
    database::{APP, Live, Shop, complaint},
    held::vote,
};
use crate::node::finished_within;

/// A shop whose bundle demands this besides.
fn shop(require: &str) -> Shop {
    let shop = Shop::new();
    demand(&shop, require);
    shop
}

/// Has the bundle demand this besides, and Alice her grant.
pub fn demand(shop: &Shop, require: &str) {
    let carol = &shop.world.carol;
    let folder = carol.folder.join("policies");
    let path = folder.display().to_string();
    carol.say(&["policy", "init", &path]);
    fs::write(folder.join("require/statements.cedar"), require).unwrap();
    // They expect nothing to demand it.
    fs::remove_dir_all(folder.join("tests")).unwrap();
    carol.say(&["policy", "apply", &path]);
    shop.world.grant(APP, "1h");
}

/// PO-2, PO-3: what waits is a definition, however it is written; then it runs or is refused.
#[test]
fn given_definitions_that_wait_when_a_table_is_dropped_then_a_second_person_decides() {
    let shop = shop(
        "@id(\"definitions-wait\")\n@command_approval(\"1: *\")\n\
         permit (principal, action == Action::\"operation.run\", resource)\n\
         when { context.operation.verb_rank >= 4 };\n",
    );
    let pass = shop.pass(APP);
    let mut psql = shop.start(&pass, &[]);
    psql.type_line("SELECT 'DROP TABLE item' AS harmless;");
    psql.until("DROP TABLE item");
    psql.type_line("dRoP /* all */ TaBlE item;");
    psql.until("waits for 1 approval");
    vote(&shop, "deny");
    psql.until("ERROR:  sallyport:");
    assert_eq!(shop.execute("shop", "SELECT count(*) FROM item"), "3");

    psql.type_line("SELECT 1\\; DROP TABLE item;");
    psql.until("waits for 1 approval");
    vote(&shop, "approve");
    let is_there = "SELECT count(*) FROM pg_class WHERE relname = 'item'";
    crate::waiting::eventually("it has run", || {
        (shop.execute("shop", is_there) == "0").then_some(())
    });
    psql.end();
}

/// Each is refused before it reaches the server, where nothing may be written.
const SMUGGLED: &[&str] = &[
    "DELETE FROM item;",
    "SELECT 1\\; DELETE FROM item;",
    "SELECT 1 /* /* */ ; */ \\; DELETE FROM item;",
    "SELECT '/*'\\; DELETE FROM item\\; SELECT '*/';",
    "SELECT $$/*$$\\; DELETE FROM item\\; SELECT $$*/$$;",
    "SELECT '\\'''\\; DELETE FROM item;",
    "WITH gone AS (DELETE FROM item RETURNING *) SELECT * FROM gone;",
    "EXPLAIN ANALYZE DELETE FROM item;",
    "EXPLAIN (COSTS off, ANALYZE) DELETE FROM item;",
    "PREPARE p AS DELETE FROM item;",
    "EXECUTE p;",
    "SELECT * INTO copy_of_item FROM item;",
    "CREATE TABLE copy_of_item AS SELECT * FROM item;",
    "CREATE TEMP TABLE t (a int);",
    "SELECT * FROM item FOR UPDATE;",
    "DO $$ BEGIN DELETE FROM item; END $$;",
    "CALL empty();",
    "SELECT empty_it();",
    "SELECT count(*) FROM item WHERE empty_it() IS NULL;",
    "SELECT * FROM empty_it();",
    "COPY item FROM PROGRAM 'id';",
    "COPY (SELECT 1) TO PROGRAM 'id';",
    "COPY item TO '/tmp/sallyport-smuggled';",
    "SELECT pg_read_file('/etc/passwd');",
    "SELECT lo_import('/etc/passwd');",
    "SELECT query_to_xml('DELETE FROM item', true, true, '');",
    "SET ROLE postgres;",
    "SET SESSION AUTHORIZATION postgres;",
    "SET default_transaction_read_only = off;",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE;",
    "BEGIN READ WRITE;",
    "START TRANSACTION READ/**/WRITE;",
    "SELECT set_config('default_transaction_read_only', 'off', false);",
    "SELECT set_config('default_' || 'transaction_read_only', 'off', false);",
    "SELECT U&\"d\\0061t\\+000061\" FROM item;",
    "LISTEN x\\; NOTIFY x;",
    "VACUUM;",
    "TRUNCATE item;",
];

/// PO-2, PO-3, GW-11, G4: where only reading is allowed, nothing that hides a change passes, the server would
/// refuse what did, and people read as before.
#[test]
fn given_reading_only_when_changes_are_smuggled_then_none_passes_and_the_server_would_refuse_it() {
    let shop =
        shop("@id(\"reads\")\n@read_only(\"enforced\")\npermit (principal, action, resource);\n");
    shop.execute(
        "shop",
        "SET ROLE app; \
         CREATE FUNCTION empty_it() RETURNS int LANGUAGE sql AS 'DELETE FROM item; SELECT 1'; \
         CREATE PROCEDURE empty() LANGUAGE sql AS 'DELETE FROM item'; \
         CREATE VIEW innocent AS SELECT empty_it(); \
         CREATE VIEW turning AS SELECT set_config('default_transaction_read_only', 'off', false)",
    );
    let pass = shop.pass(APP);
    let mut psql = shop.start(&pass, &[]);
    for (number, statement) in SMUGGLED.iter().enumerate() {
        psql.type_line(statement);
        psql.type_line(&format!("SELECT 'after ' || {number};"));
        let from = psql.seen.len();
        psql.until(&format!("after {number}"));
        let said = psql.seen[from..].join("\n");
        assert!(said.contains("(read-only)"), "{statement}: {said}");
    }
    let log = shop.server.log();
    let seen = log
        .lines()
        .filter(|line| line.contains("|app|shop: LOG:  statement:") && line.contains("item"));
    assert_eq!(seen.count(), 0, "the server has seen one: {log}");

    // What no text shows, the server refuses.
    psql.type_line("SELECT * FROM innocent;");
    psql.until("cannot execute DELETE in a read-only transaction");
    psql.type_line("SHOW default_transaction_read_only;");
    psql.until("on");
    psql.type_line("DISCARD ALL;");
    psql.type_line("SELECT * FROM innocent;");
    psql.until("cannot execute DELETE in a read-only transaction");

    // People read as before: catalogues, transactions, cursors, copies.
    psql.type_line("\\d item");
    psql.until("id|integer||not null|");
    psql.type_line(
        "BEGIN; DECLARE c CURSOR FOR SELECT name FROM item ORDER BY id; FETCH 2 FROM c; COMMIT;",
    );
    psql.until("chair");
    psql.type_line("COPY (SELECT name FROM item WHERE id = 3) TO STDOUT;");
    psql.until("desk");
    psql.end();
    assert_eq!(shop.execute("shop", "SELECT count(*) FROM item"), "3");
    let made = "SELECT count(*) FROM pg_class WHERE relname = 'copy_of_item'";
    assert_eq!(shop.execute("shop", made), "0");
    assert!(!Path::new("/tmp/sallyport-smuggled").exists());

    // A server that lets the session write, because something behind a view told it to, has no session any more.
    let turned = shop.psql(
        &pass,
        &[
            "-c",
            "SELECT * FROM turning",
            "-c",
            "SELECT * FROM innocent",
        ],
    );
    assert!(!turned.status.success(), "{turned:?}");
    let session = shop.world.ended_session(&shop.newest());
    assert_eq!(session["end_reason"], "target-closed", "{session}");
    assert_eq!(shop.execute("shop", "SELECT count(*) FROM item"), "3");

    // A client that asks for it otherwise is not heard.
    let mut other = shop.command("psql", APP, &pass);
    other.env("PGOPTIONS", "").args([
        "-X",
        "-q",
        "-A",
        "-t",
        "-c",
        "SHOW default_transaction_read_only",
    ]);
    let output = crate::node::finished(other.spawn().unwrap());
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "on",
        "{output:?}"
    );
}

/// PO-2: a result beyond the budget stops with a code, its transaction fails as by any error, the server does
/// not go on, and the connection does.
#[test]
fn given_budgets_when_a_result_is_larger_or_takes_longer_then_it_is_cut_off_cleanly() {
    let shop = shop(
        "@id(\"little-at-once\")\n@statement_rows(\"2\")\n@statement_bytes(\"64KiB\")\n\
         permit (principal, action, resource);\n\
         @id(\"not-for-long\")\n@statement_time(\"2s\")\n\
         permit (principal, action, resource == Account::\"app@hasty\");\n",
    );
    let pass = shop.pass(APP);
    let mut psql = shop.start(&pass, &["-v", "VERBOSITY=verbose"]);
    let mut says = |line: &str, expected: &[&str]| {
        psql.type_line(line);
        for what in expected {
            psql.until(what);
        }
    };
    // Where the server compiles what it thinks is long, its first row is a while in coming.
    says("SET jit = off;", &[]);
    says(
        "SELECT name FROM item WHERE id < 3 ORDER BY id;",
        &["lamp", "chair"],
    );
    // All of it has come before anything could be stopped, and it has not.
    says(
        "SELECT name FROM item;",
        &["ERROR:  53400: sallyport: the result has more rows"],
    );
    says("SELECT generate_series(1, 1000000000);", &["(row-budget)"]);
    says("SELECT repeat('x', 70000);", &["(byte-budget)"]);
    says("COPY item TO STDOUT;", &["(row-budget)"]);
    says("SELECT 'still ' || 'here';", &["still here"]);
    // In a transaction, whether the server was done or not.
    for large in [
        "SELECT name FROM item",
        "SELECT generate_series(1, 1000000000)",
    ] {
        says("BEGIN;", &[]);
        says("UPDATE item SET name = 'changed' WHERE id = 1;", &[]);
        says(&format!("{large};"), &["(row-budget)"]);
        says("SELECT 'goes on';", &["current transaction is aborted"]);
        says("COMMIT;", &[]);
        says("SELECT name FROM item WHERE id = 1;", &["lamp"]);
    }
    psql.end();
    let session = shop.newest();

    let authority = shop.server.authority().display().to_string();
    shop.add_target("hasty", &authority);
    shop.world.grant("app@hasty", "1h");
    let mut hasty = shop.command("psql", "app@hasty", &shop.pass("app@hasty"));
    hasty
        .args(["-X", "-v", "VERBOSITY=verbose"])
        .stdin(Stdio::piped());
    let mut hasty = Live::of(hasty);
    hasty.type_line("SELECT pg_sleep(600);");
    hasty.until("ERROR:  57014: sallyport: the statement ran longer");
    hasty.end();

    let active = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state = 'active'";
    assert_eq!(shop.execute("postgres", active), "0");
    let cut: Vec<_> = shop
        .statements(&session)
        .into_iter()
        .filter(|statement| statement["reason"] == "row-budget")
        .collect();
    assert_eq!(cut.len(), 5, "{cut:#?}");

    // The extended protocol, in one piece and in pieces, with what comes behind in the same pipeline.
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/postgres/budgets.py");
    let mut program = shop.command(&crate::clients::venv("python"), APP, &pass);
    program.arg("-P").arg(script);
    let output = finished_within(Duration::from_secs(120), program.spawn().unwrap());
    assert!(output.stdout.ends_with(b"done\n"), "{}", complaint(&output));
    assert_eq!(
        shop.execute("shop", "SELECT name FROM item WHERE id = 2"),
        "chair"
    );
}

/// RE-3, G4: statements of every form of the protocol, each with a mark of its own: what the server says it
/// executed is what the evidence has, no more and no less, and it is Alice's.
#[test]
fn given_many_statements_in_every_form_then_the_evidence_is_what_the_server_says_it_executed() {
    let shop = Shop::new();
    shop.world.permit_forwarding("function_call", "oid 1397");
    shop.world.grant(APP, "1h");
    let pass = shop.pass(APP);
    let connections = sallyport_testkit::effort::rounds(3);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/postgres/many.py");
    let mut program = shop.command(&crate::clients::venv("python"), APP, &pass);
    program.arg("-P").arg(script).arg(connections.to_string());
    let patience = Duration::from_secs(120).saturating_mul(u32::try_from(connections).unwrap());
    let output = finished_within(patience, program.spawn().unwrap());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.ends_with("done\n"), "{said} {}", complaint(&output));

    // A connection of the driver's, and one of single messages, each time.
    let listed = shop
        .world
        .carol
        .list(&["session", "list", "--limit", "1000"]);
    let sessions: Vec<&str> = listed
        .iter()
        .filter_map(|session| session["id"].as_str())
        .collect();
    assert_eq!(sessions.len(), 2 * connections);
    let mut evidence = BTreeMap::<String, usize>::new();
    for session in sessions {
        let shown = shop.world.ended_session(session);
        assert_eq!(shown["person"], "alice", "{shown}");
        for operation in shop.operations(session) {
            // What comes behind a failure in the same batch, the server skips.
            if operation["outcome"] == "interrupted" {
                continue;
            }
            for mark in marks_of(&operation) {
                *evidence.entry(mark).or_default() += 1;
            }
        }
    }
    let mut executed = BTreeMap::<String, usize>::new();
    for line in shop.server.log().lines() {
        if line.contains("LOG:  statement:") || line.contains("LOG:  execute ") {
            for mark in marks(line) {
                *executed.entry(mark).or_default() += 1;
            }
        }
        if line.contains("LOG:  fastpath function call:") && line.contains("(OID 1397)") {
            *executed.entry(CALL.to_owned()).or_default() += 1;
        }
    }
    assert!(executed.len() >= connections * 100, "{}", executed.len());
    let differing: Vec<_> = executed
        .keys()
        .chain(evidence.keys())
        .filter(|mark| executed.get(*mark) != evidence.get(*mark))
        .collect();
    assert!(differing.is_empty(), "{differing:?}");
    let statements: usize = executed.values().sum();
    println!("{statements} statements executed, each in the evidence as often, none missing");
}

/// Stands for a call of the function 1397 by its number, which has no text to be marked.
const CALL: &str = "a call of 1397";

/// The marks of one operation of the evidence.
fn marks_of(operation: &serde_json::Value) -> Vec<String> {
    let detail = operation["detail"].as_str().unwrap();
    match (operation["kind"].as_str().unwrap(), detail) {
        ("statement", text) => marks(text),
        ("function_call", "oid 1397") => vec![CALL.to_owned()],
        _ => Vec::new(),
    }
}

/// The marks in a text: `m` and digits between two `~`.
fn marks(text: &str) -> Vec<String> {
    let is_mark = |piece: &&str| {
        piece.strip_prefix('m').is_some_and(|digits| {
            !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    text.split('~').filter(is_mark).map(str::to_owned).collect()
}
