//! Drivers that speak the protocol by themselves, or use all of it.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use super::database::{APP, Shop};
use crate::node::finished_within;

/// A program of Alice's in Python, told how to connect by its environment.
pub fn program(shop: &Shop, python: &str, script: &Path, pass: &str) -> Command {
    let mut command = Command::new(python);
    command
        .arg(script)
        .env("MYSQL_PORT", shop.world.node.mysql_port.to_string())
        .env("MYSQL_USER", APP)
        .env("MYSQL_PWD", pass)
        .env("MYSQL_CA", shop.world.node.ca())
        .env("HOME", &shop.world.alice.folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// GW-3: text and binary protocol, prepared statements, cursors, values in pieces, several statements and
/// results, large values and rows, transactions and procedures work with the drivers that programs use,
/// without a flag for the password.
#[test]
fn given_programs_with_their_drivers_then_everything_they_use_of_the_protocol_works() {
    let python = crate::clients::venv("python");
    let shop = Shop::new();
    shop.world.grant(APP, "1h");
    let pass = shop.pass(APP);
    for script in ["pymysql_client.py", "connector_client.py"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/it/mysql")
            .join(script);
        let child = program(&shop, &python, &path, &pass).spawn().unwrap();
        let output = finished_within(Duration::from_secs(120), child);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            said.ends_with("done\n"),
            "{script}: {said} {} {}",
            String::from_utf8_lossy(&output.stderr),
            shop.world.node.log()
        );
    }
    let mut bound = Vec::new();
    for session in shop.world.carol.list(&["session", "list", "--limit", "20"]) {
        for statement in shop.statements(session["id"].as_str().unwrap()) {
            if statement["detail"] == "SELECT ?, ?, ?, name FROM item WHERE id = ?" {
                bound.push(statement);
            }
        }
    }
    let values = &bound[0]["statement"]["parameters"];
    assert_eq!(
        *values,
        serde_json::json!(["text", null, "7", "2"]),
        "{bound:#?}"
    );
    assert_eq!(bound[0]["statement"]["rows"], 1, "{bound:#?}");
}

/// GW-3: what loads a server with prepared statements works unchanged.
#[test]
fn given_sysbench_then_its_prepared_statements_run() {
    let shop = Shop::new();
    shop.world.grant(APP, "1h");
    let pass = shop.pass(APP);
    // It takes its password as a word of its own, and its authority and a certificate by these names.
    let folder = &shop.world.alice.folder;
    std::fs::copy(shop.world.node.ca(), folder.join("cacert.pem")).unwrap();
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ])
        .args([
            "-subj",
            "/CN=alice",
            "-keyout",
            "client-key.pem",
            "-out",
            "client-cert.pem",
        ])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let run = |verb: &str, words: &[&str]| {
        let mut command = Command::new("sysbench");
        command
            .args([
                "oltp_read_write",
                "--db-driver=mysql",
                "--mysql-host=127.0.0.1",
            ])
            .arg(format!("--mysql-port={}", shop.world.node.mysql_port))
            .arg(format!("--mysql-user={APP}"))
            .arg(format!("--mysql-password={pass}"))
            .args([
                "--mysql-db=shop",
                "--mysql-ssl=on",
                "--tables=1",
                "--table-size=200",
            ])
            .args(words)
            .arg(verb)
            .current_dir(&shop.world.alice.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let output = finished_within(Duration::from_secs(120), command.spawn().unwrap());
        assert!(output.status.success(), "{verb}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    run("prepare", &[]);
    let said = run("run", &["--threads=1", "--events=40", "--time=0"]);
    assert!(
        said.contains("ignored errors:                      0"),
        "{said}"
    );
}
