//! The main job with a database.

use std::time::Duration;

use super::{
    database::{APP, SECRET, Shop},
    many::{executed_for, first_line},
};
use crate::{
    postgres::database::complaint,
    waiting::{eventually, within},
};

/// GW-3, GW-11, GW-15, RE-3: a stock client with a pass and without a flag reads and writes; each statement
/// is on record with its rows and end; the target knows the session, and nobody else the password.
#[test]
fn given_a_grant_when_mariadb_queries_then_it_works_and_each_statement_is_evidence() {
    let shop = Shop::new();
    shop.world.grant(APP, "1h");
    let pass = shop.pass(APP);

    assert_eq!(
        shop.query(&pass, "SELECT name FROM item ORDER BY id"),
        "lamp\nchair\ndesk"
    );
    let id = shop.newest();
    let statements = shop.statements(&id);
    assert_eq!(statements.len(), 1, "{statements:#?}");
    assert_eq!(statements[0]["detail"], "SELECT name FROM item ORDER BY id");
    assert_eq!(statements[0]["outcome"], "completed");
    assert_eq!(statements[0]["statement"]["rows"], 3);

    let attributes = "SELECT ATTR_VALUE FROM performance_schema.session_connect_attrs \
                      WHERE PROCESSLIST_ID = CONNECTION_ID() AND ATTR_NAME = 'program_name'";
    let program = shop.query(&pass, attributes);
    assert!(program.starts_with("sallyport:ses_"), "{program}");

    let changed = shop.query(&pass, "UPDATE item SET name = 'table' WHERE id > 1");
    assert_eq!(changed, "");
    let statements = shop.statements(&shop.newest());
    assert_eq!(statements[0]["statement"]["rows"], 2, "{statements:#?}");
    let tag = statements[0]["statement"]["tag"].as_str().unwrap();
    assert!(tag.starts_with("Rows matched: 2"), "{tag}");

    let failed = shop.mariadb(&pass, &["-e", "SELECT * FROM nothing"]);
    assert!(complaint(&failed).contains("doesn't exist"), "{failed:?}");
    let statements = shop.statements(&shop.newest());
    assert_eq!(statements[0]["outcome"], "failed_at_target");
    assert_eq!(statements[0]["statement"]["sqlstate"], "42S02");

    // What the recording must not hold, the evidence does not either.
    let token = format!("ghp_{}", "a1B2".repeat(9));
    shop.query(&pass, &format!("SELECT '{token}'"));
    let statements = shop.statements(&shop.newest());
    assert!(
        !format!("{statements:?}").contains(&token),
        "{statements:#?}"
    );

    let log = shop.world.node.log();
    assert!(
        !log.contains(SECRET) && !log.contains(&pass),
        "a secret is in the log"
    );
    let verified = shop.world.carol.json(&["recording", "verify", &id]);
    assert_eq!(verified["is_verified"], true, "{verified}");
}

/// GW-3: what a person types is one command; the client is MariaDB's or MySQL's by what is there.
#[test]
fn given_a_grant_when_somebody_connects_by_the_command_line_then_the_stock_client_runs() {
    let shop = Shop::new();
    shop.world.grant(APP, "1h");
    let words = [
        "db",
        "connect",
        APP,
        "--database",
        "shop",
        "--",
        "--batch",
        "--skip-column-names",
        "-e",
        "SELECT count(*) FROM item",
    ];
    assert_eq!(shop.world.alice.say(&words).trim(), "3");
    let dumped = shop.world.alice.say(&[
        "db",
        "connect",
        APP,
        "--program",
        "mariadb-dump",
        "--",
        "--no-tablespaces",
        "shop",
    ]);
    assert!(dumped.contains("INSERT INTO `item`"), "{dumped}");
}

/// GW-12, AC-6: the end of a grant ends the session inside a transaction, with its reason, and the target
/// rolls back at once.
#[test]
fn given_a_transaction_when_the_grant_ends_then_the_client_hears_why_and_nothing_stays() {
    let shop = Shop::new();
    let grant = shop.world.grant(APP, "1h");
    let pass = shop.pass(APP);
    let mut client = shop.start(&pass);
    client.type_line("BEGIN; DELETE FROM item; SELECT 'deleted';");
    client.until("deleted");
    shop.world
        .carol
        .say(&["grant", "end", &grant, "--reason", "enough"]);
    within(Duration::from_secs(5), "the target has rolled back", || {
        (shop.connections() == "0").then_some(())
    });
    client.type_line("SELECT 1;");
    client.until("your grant was ended (grant-ended): enough");
    client.end();
    assert_eq!(shop.execute("SELECT count(*) FROM shop.item"), "3");
    let session = shop.world.ended_session(&shop.newest());
    assert_eq!(session["end_reason"], "grant-ended", "{session}");
}

/// GW-12: what runs at the target when the session ends does not run on.
#[test]
fn given_a_statement_that_runs_when_the_session_is_locked_out_then_the_target_stops_it() {
    let shop = Shop::new();
    shop.world.grant(APP, "1h");
    let pass = shop.pass(APP);
    let mut client = shop.start(&pass);
    // Unlike a sleep, it does not notice that its client is gone.
    client.type_line("SELECT BENCHMARK(1000000000000, MD5('busy'));");
    eventually("it runs", || {
        let running = "SELECT count(*) FROM information_schema.processlist \
                       WHERE user = 'app' AND info LIKE 'SELECT BENCHMARK%'";
        (shop.execute(running) == "1").then_some(())
    });
    shop.world
        .carol
        .say(&["lock", "add", "--target", "shop", "--reason", "incident"]);
    client.until("access is locked (locked)");
    within(Duration::from_secs(5), "the target has stopped", || {
        (shop.connections() == "0").then_some(())
    });
    client.end();
}

fn is_running(shop: &Shop) -> bool {
    let running = "SELECT count(*) FROM information_schema.processlist \
                   WHERE user = 'app' AND info LIKE 'SELECT SLEEP%'";
    shop.execute(running) == "1"
}

/// GW-3, G7: what a person runs is stopped by the person, by Ctrl-C as by `KILL` from another connection;
/// nothing stops what belongs to somebody else.
#[test]
fn given_a_long_query_when_its_person_stops_it_then_the_target_does_and_nothing_else_can_be_stopped()
 {
    let shop = Shop::new();
    shop.world.grant(APP, "1h");
    let pass = shop.pass(APP);
    let mut client = shop.start(&pass);
    client.type_line("SELECT CONCAT('i am ', CONNECTION_ID());");
    let number = client.until("i am ").replace("i am ", "");
    client.type_line("SELECT 'woke', SLEEP(600);");
    eventually("it runs", || {
        let running = "SELECT count(*) FROM information_schema.processlist WHERE info LIKE '%woke%' \
                       AND user = 'app'";
        (shop.execute(running) == "1").then_some(())
    });

    // The superuser's connection, and one that does not exist.
    let foreign = shop.execute("SELECT CONNECTION_ID()");
    for other in [foreign.as_str(), "4000000000"] {
        let refused = shop.mariadb(&pass, &["-e", &format!("KILL QUERY {other}")]);
        assert!(
            complaint(&refused).contains("ERROR 1094 (HY000)"),
            "{refused:?}"
        );
    }
    shop.query(&pass, &format!("KILL QUERY {number}"));
    client.until("ERROR 1317 (70100)");

    client.type_line("SELECT SLEEP(600);");
    eventually("it runs", || is_running(&shop).then_some(()));
    crate::node::send("-INT", client.pid());
    within(Duration::from_secs(20), "the target has stopped", || {
        (!is_running(&shop)).then_some(())
    });
    client.end();
}

/// AC-1, GW-3: without a grant the client is told what is missing, where to ask, and what to do then; once
/// somebody else has approved, it is let in.
#[test]
fn given_no_grant_when_mariadb_connects_then_it_is_told_what_to_do_and_gets_in_after_approval() {
    let shop = Shop::new();
    shop.world
        .olga
        .say(&["target", "edit", "shop", "--sensitivity", "high"]);
    let pass = shop.pass(APP);
    let told = complaint(&shop.mariadb(&pass, &["-e", "SELECT 1"]));
    for expected in [
        "ERROR 1045 (28000)",
        "app@shop needs",
        "sallyport request create app@shop --reason",
        "connect again",
    ] {
        assert!(told.contains(expected), "{told}");
    }
    shop.world.alice.say(&[
        "request",
        "create",
        APP,
        "--for",
        "1h",
        "--reason",
        "order 4711 is stuck",
    ]);
    let told = complaint(&shop.mariadb(&pass, &["-e", "SELECT 1"]));
    assert!(told.contains("is waiting for 1 approval"), "{told}");
    assert!(
        !shop.server.statements().contains("app@127.0.0.1"),
        "the target was reached without a grant"
    );
    shop.world.approve_next();
    assert_eq!(
        shop.query(&pass, "SELECT CONCAT('in ', count(*)) FROM item"),
        "in 3"
    );
}

/// GW-3, RE-3: a dump restores.
#[test]
fn given_a_dump_then_it_restores() {
    let shop = Shop::new();
    shop.world.grant(APP, "1h");
    let pass = shop.pass(APP);
    let rows: Vec<String> = (10..3_000)
        .map(|n| format!("({n}, 'row ''{n}''')"))
        .collect();
    let file = shop.file("rows.sql");
    let insert = format!("INSERT INTO item VALUES {};\n", rows.join(", "));
    std::fs::write(&file, insert).unwrap();
    shop.query(&pass, &format!("source {}", file.display()));
    let mut dump = shop.command("mariadb-dump", APP, &pass);
    dump.args(["--no-tablespaces", "--routines", "--triggers", "shop"]);
    let dumped = crate::node::finished(dump.spawn().unwrap());
    assert!(dumped.status.success(), "{dumped:?}");
    std::fs::write(&file, &dumped.stdout).unwrap();
    shop.query(&pass, "DROP TABLE item");
    shop.query(&pass, &format!("source {}", file.display()));
    assert_eq!(
        shop.query(&pass, "SELECT count(*), sum(id) FROM item"),
        format!("2993\t{}", 6 + (10..3_000).sum::<u64>())
    );
}

/// RE-3, G4: whatever form statements come in, those in the server's own log are those in the evidence, each
/// as often.
#[test]
fn given_statements_in_every_form_then_the_evidence_has_each_that_the_server_logged() {
    let python = crate::clients::venv("python");
    let shop = Shop::new();
    shop.world.grant(APP, "1h");
    let pass = shop.pass(APP);
    let rounds = sallyport_testkit::effort::rounds(15);
    let mut script = String::new();
    for n in 0..rounds {
        script.push_str(&format!(
            "SELECT {n};\nBEGIN;\nSELECT 'quoted; {n}';\nROLLBACK;\nPREPARE p{n} FROM 'SELECT {n} + ?';\n\
             SET @a = {n};\nEXECUTE p{n} USING @a;\nDEALLOCATE PREPARE p{n};\n/*!50000 SELECT {n} */;\n\
             DO SLEEP(0);\nUSE shop;\nSHOW TABLES;\nEXPLAIN SELECT {n};\nSELECT \"it''s \\\" {n}\";\n\
             SELECT nonsense_{n};\n"
        ));
    }
    shop.script(&pass, &[], &script);
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/mysql/forms.py");
    let mut program = super::drivers::program(&shop, &python, &path, &pass);
    program.arg(rounds.to_string());
    let output = crate::node::finished(program.spawn().unwrap());
    assert!(output.status.success(), "{output:?}");

    let mut recorded: Vec<String> = Vec::new();
    shop.world.ended_session(&shop.newest());
    for session in shop.world.carol.list(&["session", "list", "--limit", "10"]) {
        for statement in shop.statements(session["id"].as_str().unwrap()) {
            if statement["outcome"] != "refused" {
                recorded.push(first_line(statement["detail"].as_str().unwrap()));
            }
        }
    }
    let mut logged = logged(&shop.server.statements());
    logged.sort();
    recorded.sort();
    assert!(logged.len() > 200, "{}", logged.len());
    assert_eq!(recorded, logged);
}

/// The statements of the account in a general log, in its words.
fn logged(log: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in executed_for("app", log) {
        match entry.command.as_str() {
            "Query" | "Execute" => found.push(first_line(&entry.argument)),
            "Field List" => {
                let table = entry.argument.trim_end();
                found.push(format!("SHOW FIELDS FROM `{table}`"));
            }
            _ => {}
        }
    }
    found
}
