//! The main job with a database.

use super::database::{APP, SECRET, Shop, complaint};
use crate::waiting::{eventually, within};
use std::time::Duration;

/// GW-2, GW-11, GW-15, RE-3: a stock client with a pass reads and writes; each statement is on record with
/// its values, rows and end; the target knows the session, and nobody else the password.
#[test]
fn given_a_grant_when_psql_queries_then_it_works_and_each_statement_is_evidence() {
    let shop = Shop::new();
    shop.world.grant(APP, "1h");
    let pass = shop.pass(APP);

    assert_eq!(
        shop.query(&pass, "SELECT name FROM item ORDER BY id"),
        "lamp\nchair\ndesk"
    );
    let id = shop.newest();
    let application = shop.query(&pass, "SELECT current_setting('application_name')");
    assert!(application.starts_with("sallyport:ses_"), "{application}");

    let statements = shop.statements(&id);
    assert_eq!(statements.len(), 1, "{statements:#?}");
    let select = &statements[0];
    assert_eq!(select["detail"], "SELECT name FROM item ORDER BY id");
    assert_eq!(select["outcome"], "completed");
    assert_eq!(select["statement"]["tag"], "SELECT 3");
    assert_eq!(select["statement"]["rows"], 3);

    // The extended protocol, by a client that prepares: `\bind` is newer than this psql, pgbench is not.
    let script = shop.file("bench.sql");
    std::fs::write(
        &script,
        "\\set id 2\nSELECT name FROM item WHERE id = :id;\n",
    )
    .unwrap();
    let mut bench = shop.command("pgbench", APP, &pass);
    bench
        .args(["-n", "-M", "prepared", "-t", "3", "-f"])
        .arg(&script);
    let output = crate::node::finished(bench.spawn().unwrap());
    assert!(output.status.success(), "{output:?}");
    let statements = shop.statements(&shop.newest());
    let bound: Vec<_> = statements
        .iter()
        .filter(|statement| statement["detail"] == "SELECT name FROM item WHERE id = $1;")
        .collect();
    assert_eq!(bound.len(), 3, "{statements:#?}");
    for statement in bound {
        assert_eq!(statement["statement"]["parameters"][0], "2", "{statement}");
        assert_eq!(statement["statement"]["rows"], 1, "{statement}");
    }

    // What the recording must not hold, the evidence of values does not either.
    let token = format!("ghp_{}", "a1B2".repeat(9));
    std::fs::write(&script, format!("\\set id 2\nSELECT '{token}', :id;\n")).unwrap();
    let mut bench = shop.command("pgbench", APP, &pass);
    bench
        .args(["-n", "-M", "simple", "-t", "1", "-f"])
        .arg(&script);
    assert!(
        crate::node::finished(bench.spawn().unwrap())
            .status
            .success()
    );
    let statements = shop.statements(&shop.newest());
    assert!(
        !format!("{statements:?}").contains(&token),
        "{statements:#?}"
    );

    let failed = shop.psql(&pass, &["-c", "SELECT * FROM nothing"]);
    assert!(complaint(&failed).contains("does not exist"), "{failed:?}");
    let statements = shop.statements(&shop.newest());
    assert_eq!(statements[0]["outcome"], "failed_at_target");
    assert_eq!(statements[0]["statement"]["sqlstate"], "42P01");

    let log = shop.world.node.log();
    assert!(
        !log.contains(SECRET) && !log.contains(&pass),
        "a secret is in the log"
    );
    let verified = shop.world.carol.json(&["recording", "verify", &id]);
    assert_eq!(verified["is_verified"], true, "{verified}");
}

/// GW-12, AC-6: the end of a grant ends the session inside a transaction, with its reason, and the target
/// rolls back at once.
#[test]
fn given_a_transaction_when_the_grant_ends_then_the_client_hears_why_and_nothing_stays() {
    let shop = Shop::new();
    let grant = shop.world.grant(APP, "1h");
    let pass = shop.pass(APP);
    let mut psql = shop.start(&pass, &[]);
    psql.type_line("BEGIN; DELETE FROM item; SELECT 'deleted';");
    psql.until("deleted");
    shop.world
        .carol
        .say(&["grant", "end", &grant, "--reason", "enough"]);
    within(Duration::from_secs(5), "the target has rolled back", || {
        let open = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'";
        (shop.execute("postgres", open) == "0").then_some(())
    });
    psql.type_line("SELECT 1;");
    psql.until("your grant was ended (grant-ended): enough");
    psql.end();
    assert_eq!(shop.execute("shop", "SELECT count(*) FROM item"), "3");
    let session = shop.world.ended_session(&shop.newest());
    assert_eq!(session["end_reason"], "grant-ended", "{session}");
}

/// GW-12: what runs at the target when the session ends does not run on.
#[test]
fn given_a_statement_that_runs_when_the_session_is_locked_out_then_the_target_stops_it() {
    let shop = Shop::new();
    shop.world.grant(APP, "1h");
    let pass = shop.pass(APP);
    let mut psql = shop.start(&pass, &[]);
    psql.type_line("SELECT pg_sleep(600);");
    let running =
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state = 'active'";
    eventually("it runs", || {
        (shop.execute("postgres", running) == "1").then_some(())
    });
    shop.world
        .carol
        .say(&["lock", "add", "--target", "orders", "--reason", "incident"]);
    psql.until("access is locked (locked)");
    within(Duration::from_secs(5), "the target has stopped", || {
        let open = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'";
        (shop.execute("postgres", open) == "0").then_some(())
    });
    psql.end();
}

/// GW-2: what a person types is stopped by the person, and the target hears of it.
#[test]
fn given_a_long_query_when_psql_is_interrupted_then_the_target_cancels_it() {
    let shop = Shop::new();
    shop.world.grant(APP, "1h");
    let pass = shop.pass(APP);
    let mut psql = shop.start(&pass, &[]);
    psql.type_line("SELECT pg_sleep(600);");
    let running =
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state = 'active'";
    eventually("it runs", || {
        (shop.execute("postgres", running) == "1").then_some(())
    });
    crate::node::send("-INT", psql.pid());
    psql.until("canceling statement due to user request");
    psql.end();
}

/// AC-1, GW-2: without a grant the client is let in so far as to read what is missing and where to ask; it
/// waits, and goes on by itself once somebody else has approved.
#[test]
fn given_no_grant_when_psql_connects_then_it_is_told_what_is_missing_and_waits_for_approval() {
    let shop = Shop::new();
    shop.world
        .olga
        .say(&["target", "edit", "orders", "--sensitivity", "high"]);
    let pass = shop.pass(APP);
    let mut psql = shop.start(&pass, &["-c", "SELECT 'in ' || count(*) FROM item"]);
    psql.until("app@orders needs");
    psql.until("sallyport request create app@orders --reason");
    assert!(
        !shop.server.log().contains("app|app"),
        "the target was reached without a grant"
    );
    shop.world.alice.say(&[
        "request",
        "create",
        APP,
        "--for",
        "1h",
        "--reason",
        "order 4711 is stuck",
    ]);
    psql.until("is waiting for 1 approval");
    shop.world.approve_next();
    psql.until("in 3");
    assert_eq!(psql.end(), 0);
}

/// GW-2, RE-3, RE-14: rows are copied both ways as they are, counted and hashed; a dump restores.
#[test]
fn given_copied_rows_and_a_dump_then_they_arrive_whole_and_are_counted_and_hashed() {
    let shop = Shop::new();
    shop.world.grant(APP, "1h");
    let pass = shop.pass(APP);
    let rows: String = (0..20_000)
        .map(|n| format!("{n}\trow number {n}\n"))
        .collect();
    let (up, back) = (shop.file("up.tsv"), shop.file("back.tsv"));
    std::fs::write(&up, &rows).unwrap();
    let copy = |words: &str| {
        let output = shop.psql(&pass, &["-c", words]);
        assert!(output.status.success(), "{words}: {output:?}");
        let statements = shop.statements(&shop.newest());
        statements.into_iter().next().unwrap()
    };
    shop.query(&pass, "CREATE TABLE big (id int, name text)");
    let copied_in = copy(&format!("\\copy big FROM '{}'", up.display()));
    let copied_out = copy(&format!(
        "\\copy (SELECT * FROM big ORDER BY id) TO '{}'",
        back.display()
    ));
    assert_eq!(std::fs::read_to_string(&back).unwrap(), rows);
    for evidence in [copied_in, copied_out] {
        assert_eq!(evidence["statement"]["rows"], 20_000, "{evidence}");
        assert_eq!(evidence["size_bytes"], rows.len(), "{evidence}");
        let sum = std::process::Command::new("sha256sum")
            .arg(&up)
            .output()
            .unwrap();
        let sum = String::from_utf8(sum.stdout).unwrap();
        assert_eq!(
            evidence["sha256"],
            sum.split(' ').next().unwrap(),
            "{evidence}"
        );
    }

    let dump = shop.file("shop.dump");
    let mut dumping = shop.command("pg_dump", APP, &pass);
    dumping.args(["-Fc", "-f"]).arg(&dump);
    let output = crate::node::finished(dumping.spawn().unwrap());
    assert!(output.status.success(), "{output:?}");
    shop.query(&pass, "DROP TABLE big; DROP TABLE item");
    let mut restoring = shop.command("pg_restore", APP, &pass);
    restoring.args(["--no-owner", "-d", "shop"]).arg(&dump);
    let output = crate::node::finished(restoring.spawn().unwrap());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        shop.query(&pass, "SELECT count(*), sum(id) FROM big"),
        "20000|199990000"
    );
}

/// RE-3, G4: whatever form statements come in, those in the server's own log are those in the evidence, each
/// as often.
#[test]
fn given_statements_in_every_form_then_the_evidence_has_each_that_the_server_logged() {
    let shop = Shop::new();
    shop.world.grant(APP, "1h");
    let pass = shop.pass(APP);
    let rounds = sallyport_testkit::effort::rounds(20);
    let mut script = String::new();
    for n in 0..rounds {
        script.push_str(&format!(
            "SELECT {n};\nSELECT {n} \\; SELECT 'two of {n}';\nBEGIN;\nSELECT $a$quoted {n}; DROP$a$;\nROLLBACK;\n\
             PREPARE p{n} AS SELECT $1::int + {n};\nEXECUTE p{n}(1);\nDEALLOCATE p{n};\n\
             DO $$ BEGIN PERFORM {n}; END $$;\n/* {n} */ SELECT E'\\\\'';{n}';\nSELECT nonsense_{n};\n"
        ));
    }
    let file = shop.file("forms.sql");
    std::fs::write(&file, &script).unwrap();
    shop.psql(&pass, &["-f", &file.display().to_string()]);
    let simple = shop.newest();
    std::fs::write(
        &file,
        "\\set a random(1, 9)\nSELECT :a;\nSELECT name FROM item WHERE id = :a;\n",
    )
    .unwrap();
    for mode in ["extended", "prepared"] {
        let mut bench = shop.command("pgbench", APP, &pass);
        bench
            .args(["-n", "-M", mode, "-t", &rounds.to_string(), "-f"])
            .arg(&file);
        let output = crate::node::finished(bench.spawn().unwrap());
        assert!(output.status.success(), "{output:?}");
    }

    // One line of the log begins each statement; what it says after the second colon is its text.
    let mut logged: Vec<String> = Vec::new();
    for line in shop.server.log().lines() {
        let marks = ["LOG:  statement: ", "LOG:  execute "];
        for mark in marks {
            if let Some((head, text)) = line.split_once(mark)
                && head.contains("|app|")
            {
                let text = match mark {
                    "LOG:  execute " => text.split_once(": ").unwrap().1,
                    _ => text,
                };
                logged.push(text.to_owned());
            }
        }
    }
    shop.world.ended_session(&shop.newest());
    shop.world.ended_session(&simple);
    let sessions = shop.world.carol.list(&["session", "list", "--limit", "10"]);
    let mut recorded: Vec<String> = Vec::new();
    for session in sessions {
        let id = session["id"].as_str().unwrap();
        for statement in shop.statements(id) {
            if statement["outcome"] != "refused" {
                let text = statement["detail"].as_str().unwrap();
                recorded.push(text.lines().next().unwrap_or_default().to_owned());
            }
        }
    }
    // A name that SQL prepared and a message executes stands in the log by its text; none does here.
    logged.sort();
    recorded.sort();
    assert!(logged.len() > 200, "{}", logged.len());
    assert_eq!(recorded, logged);
}
