//! Who is not let in, and what is not let through.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use super::database::{APP, Shop, complaint};
use crate::node::Setup;

/// G1, GW-2: no session without TLS, and nothing in clear is taken for something inside it.
#[test]
fn given_a_client_in_clear_then_it_is_told_to_use_tls_and_nothing_before_tls_counts() {
    let shop = Shop::new();
    shop.world.grant(APP, "1h");
    let pass = shop.pass(APP);
    let mut plain = shop.command("psql", APP, &pass);
    plain
        .env("PGSSLMODE", "disable")
        .args(["-X", "-c", "SELECT 1"]);
    let output = crate::node::finished(plain.spawn().unwrap());
    assert!(!output.status.success());
    assert!(complaint(&output).contains("sslmode=require"), "{output:?}");

    let mut stream = TcpStream::connect(("127.0.0.1", shop.world.node.postgres_port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut bytes = vec![0, 0, 0, 8, 4, 210, 22, 47];
    bytes.extend(b"Q\0\0\0\x0dSELECT 1\0");
    stream.write_all(&bytes).unwrap();
    let mut answer = Vec::new();
    // Closed, or reset because something was left unread.
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty(), "{answer:?}");
}

/// GW-2, ID-5: what proves nobody is refused, the same whatever it is.
#[test]
fn given_a_password_that_is_no_pass_then_nobody_is_let_in_and_the_target_hears_nothing() {
    let shop = Shop::with(Setup {
        // This machine's own address stands for many people otherwise.
        sign_in: "penalties_exempt = []".to_owned(),
        ..Setup::default()
    });
    shop.world.grant(APP, "1h");
    let pass = shop.pass(APP);
    let mut other = pass.clone();
    other.pop();
    other.push(if pass.ends_with('A') { 'B' } else { 'A' });
    for wrong in [other.as_str(), "", "x", crate::person::PASSWORD] {
        let output = shop.psql(wrong, &["-w", "-c", "SELECT 1"]);
        assert!(!output.status.success(), "{wrong}");
    }
    let is_barred = (0..6).any(|_| {
        let output = shop.psql(&other, &["-c", "SELECT 1"]);
        complaint(&output).contains("too many failed attempts")
    });
    assert!(is_barred, "an address may try for ever");
    assert!(
        !shop.server.log().contains("app|app"),
        "the target was reached"
    );
}

/// PO-3, GW-2: a refused statement is an error of its own with its code, the transaction it stands in fails
/// as it would by any error, and the connection goes on.
#[test]
fn given_a_forbidden_statement_then_it_fails_like_any_other_and_the_target_never_sees_it() {
    let shop = Shop::new();
    let carol = &shop.world.carol;
    let bundle = carol.folder.join("bundle").display().to_string();
    carol.say(&["policy", "init", &bundle]);
    let forbid = "@id(\"no-drop\")\nforbid (principal, action == Action::\"operation.run\", resource)\n\
                  when { context.operation.kind == OperationKind::\"statement\" && \
                  context.operation.detail like \"*DROP*\" };\n";
    std::fs::write(
        std::path::Path::new(&bundle).join("authorise/no-drop.cedar"),
        forbid,
    )
    .unwrap();
    carol.say(&["policy", "apply", &bundle]);
    shop.world.grant(APP, "1h");
    let pass = shop.pass(APP);

    let script = "\\set VERBOSITY verbose\nBEGIN;\nINSERT INTO item VALUES (4, 'bed');\nDROP TABLE item;\n\
                  SELECT 1;\nCOMMIT;\nSELECT 'rows ' || count(*) FROM item;\n";
    let file = shop.file("refused.sql");
    std::fs::write(&file, script).unwrap();
    let output = shop.psql(&pass, &["-f", &file.display().to_string()]);
    let complaint = complaint(&output);
    assert!(
        complaint.contains("ERROR:  42501: sallyport: a policy forbids this (forbidden)"),
        "{complaint}"
    );
    assert!(
        complaint.contains("25P02"),
        "the transaction went on: {complaint}"
    );
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("rows 3"),
        "what was refused half committed: {said}"
    );

    // The same with prepared statements: the batch fails, and the client may go on.
    let file = shop.file("prepared.sql");
    std::fs::write(&file, "DROP TABLE item;\n").unwrap();
    let mut bench = shop.command("pgbench", APP, &pass);
    bench
        .args(["-n", "-M", "extended", "-t", "1", "-f"])
        .arg(&file);
    let output = crate::node::finished(bench.spawn().unwrap());
    assert!(
        super::database::complaint(&output).contains("(forbidden)"),
        "{output:?}"
    );
    assert_eq!(shop.query(&pass, "SELECT count(*) FROM item"), "3");

    assert!(
        !shop.server.log().contains("DROP"),
        "the target has seen it"
    );
    let refused: Vec<_> = shop
        .world
        .events("operation.recorded")
        .into_iter()
        .filter(|event| event["data"]["outcome"] == "refused")
        .collect();
    assert_eq!(refused.len(), 2, "{refused:#?}");
}

/// G5, GW-2: what would change who runs a statement, or with what names, is refused before anybody asks.
#[test]
fn given_connection_parameters_that_could_change_what_runs_then_the_client_is_refused() {
    let shop = Shop::new();
    shop.world.grant(APP, "1h");
    let pass = shop.pass(APP);
    for options in ["-c search_path=evil", "-c role=postgres"] {
        let mut psql = shop.command("psql", APP, &pass);
        psql.env("PGOPTIONS", options)
            .args(["-X", "-c", "SELECT 1"]);
        let output = crate::node::finished(psql.spawn().unwrap());
        let told = complaint(&output);
        assert!(
            told.contains("connection parameter `options` is not accepted"),
            "{told}"
        );
    }
    let mut psql = shop.command("psql", APP, &pass);
    psql.args([
        "-X",
        "dbname=shop replication=database",
        "-c",
        "IDENTIFY_SYSTEM",
    ]);
    let output = crate::node::finished(psql.spawn().unwrap());
    assert!(complaint(&output).contains("(not-permitted)"), "{output:?}");
}

/// GW-2: what is wrong with the target is told as far as a person can do something about it.
#[test]
fn given_a_target_that_cannot_be_used_then_the_client_hears_what_it_may() {
    let shop = Shop::new();
    shop.world.grant(APP, "1h");
    let pass = shop.pass(APP);
    let mut psql = shop.command("psql", APP, &pass);
    psql.env("PGDATABASE", "nowhere")
        .args(["-X", "-c", "SELECT 1"]);
    let output = crate::node::finished(psql.spawn().unwrap());
    assert!(
        complaint(&output).contains("the target has no such database"),
        "{output:?}"
    );

    // Another server answers at the same address: not the key that is known.
    let other = "ab".repeat(32);
    shop.add_target("imposter", &format!("key-sha256:{other}"));
    shop.world.grant("app@imposter", "1h");
    let pass = shop.pass("app@imposter");
    let mut psql = shop.command("psql", "app@imposter", &pass);
    psql.args(["-X", "-c", "SELECT 1"]);
    let output = crate::node::finished(psql.spawn().unwrap());
    assert!(
        complaint(&output).contains("(host-key-changed)"),
        "{output:?}"
    );
    assert_eq!(shop.world.events("target.host_key_mismatched").len(), 1);
}
