//! Who is not let in, and what is not let through.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
    time::Duration,
};

use super::database::{APP, Shop};
use crate::{node::Setup, postgres::database::complaint};

/// Answers of a client in clear: capabilities, longest packet, set of characters, and nothing.
fn tls_request() -> Vec<u8> {
    let mut payload = 0x00ff_aa85_u32.to_le_bytes().to_vec();
    payload.extend((1_u32 << 24).to_le_bytes());
    payload.push(45);
    payload.extend([0; 23]);
    packet(1, &payload)
}

fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
    [&length[..3], &[sequence], payload].concat()
}

fn dial(shop: &Shop) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", shop.world.node.mysql_port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut header = [0; 4];
    stream.read_exact(&mut header).unwrap();
    let mut greeting = vec![0; usize::from(header[0])];
    stream.read_exact(&mut greeting).unwrap();
    assert_eq!(greeting[0], 10);
    stream
}

/// G1, GW-3: no session without TLS, and nothing in clear is taken for something inside it.
#[test]
fn given_a_client_in_clear_then_it_is_told_to_use_tls_and_nothing_before_tls_counts() {
    let shop = Shop::new();
    shop.world.grant(APP, "1h");
    let pass = shop.pass(APP);
    // What verifies also insists on TLS, so this one is not told to verify.
    let output = Command::new("mariadb")
        .args(["--no-defaults", "--skip-ssl", "--protocol=TCP"])
        .args(["--host=127.0.0.1", "-e", "SELECT 1"])
        .arg(format!("--port={}", shop.world.node.mysql_port))
        .arg(format!("--user={APP}"))
        .env("MYSQL_PWD", &pass)
        .output()
        .unwrap();
    assert!(!output.status.success());
    let told = complaint(&output);
    assert!(told.contains("over TLS only"), "{told}");

    // A command right behind the request for TLS, in the same segment.
    let mut stream = dial(&shop);
    let bytes = [tls_request(), packet(0, b"\x03SELECT 1")].concat();
    stream.write_all(&bytes).unwrap();
    let mut answer = Vec::new();
    // Closed, or reset because something was left unread; a TLS alert at most.
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer[0] == 0x15, "{answer:?}");
}

/// G3, GW-3: lengths at their limits, and packets out of their order, end the connection and nothing else.
#[test]
fn given_lengths_at_their_limits_before_login_then_the_connection_ends_and_others_go_on() {
    let shop = Shop::new();
    shop.world.grant(APP, "1h");
    for bytes in [
        packet(1, &[]),
        packet(7, &[0; 32]),
        vec![0xff, 0xff, 0xff, 1],
        vec![0x01, 0x40, 0x00, 1],
        packet(1, &[0xff; 31]),
        packet(1, &[0xff; 33]),
    ] {
        let mut stream = dial(&shop);
        stream.write_all(&bytes).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let is_told = String::from_utf8_lossy(&answer).contains("over TLS only");
        assert!(answer.is_empty() || is_told, "{bytes:?}: {answer:?}");
    }
    assert_eq!(shop.query(&shop.pass(APP), "SELECT 42"), "42");
}

/// GW-3, ID-5: what proves nobody is refused, the same whatever it is.
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
    let mut told = Vec::new();
    for wrong in [other.as_str(), "", "x"] {
        let output = shop.mariadb(wrong, &["-e", "SELECT 1"]);
        assert!(!output.status.success(), "{wrong}");
        told.push(complaint(&output));
    }
    assert!(told[0].contains("this password proves nobody"), "{told:?}");
    assert!(told.iter().all(|one| *one == told[0]), "{told:?}");
    // A pass is for one account.
    let other_account = shop.command("mariadb", "root@shop", &pass);
    let mut other_account = other_account;
    other_account.args(["-e", "SELECT 1"]);
    let output = crate::node::finished(other_account.spawn().unwrap());
    assert_eq!(complaint(&output), told[0]);
    let is_barred = (0..6).any(|_| {
        let output = shop.mariadb(&other, &["-e", "SELECT 1"]);
        complaint(&output).contains("too many failed attempts")
    });
    assert!(is_barred, "an address may try for ever");
    assert!(
        !shop.server.statements().contains("app@127.0.0.1"),
        "the target was reached"
    );
}

/// PO-3, GW-3: a refused statement is an error of its own with its code; it changes nothing, in a
/// transaction neither, and the connection goes on.
#[test]
fn given_a_forbidden_statement_then_it_fails_and_the_target_never_sees_it() {
    let shop = Shop::new();
    let forbid = "@id(\"no-drop\")\nforbid (principal, action == Action::\"operation.run\", resource)\n\
                  when { context.operation.kind == OperationKind::\"statement\" && \
                  context.operation.detail like \"*DROP*\" };\n";
    shop.world.add_policies("no-drop", forbid);
    shop.world.grant(APP, "1h");
    let pass = shop.pass(APP);
    let script = "BEGIN;\nINSERT INTO item VALUES (4, 'bed');\nDROP TABLE item;\nCOMMIT;\n\
                  SELECT CONCAT('rows ', count(*)) FROM item;";
    let output = shop.script(&pass, &[], script);
    let told = complaint(&output);
    assert!(
        told.contains("ERROR 1227 (42000) at line 3: sallyport: a policy forbids this (forbidden)"),
        "{told}"
    );
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("rows 4"), "{said}");

    // The same where it is only prepared: it never comes to run.
    let python = crate::clients::venv("python");
    let script = shop.file("prepared.py");
    std::fs::write(
        &script,
        "import os, mysql.connector\n\
         c = mysql.connector.connect(host='127.0.0.1', port=int(os.environ['MYSQL_PORT']), \
         user=os.environ['MYSQL_USER'], password=os.environ['MYSQL_PWD'], database='shop', \
         ssl_ca=os.environ['MYSQL_CA'], use_pure=True, collation='utf8mb4_general_ci')\n\
         p = c.cursor(prepared=True)\n\
         try:\n    p.execute('DROP TABLE item')\n\
         except mysql.connector.Error as error:\n    print(error)\n\
         try:\n    c.cmd_change_user('other', 'word')\n\
         except mysql.connector.Error as error:\n    print(error)\n\
         q = c.cursor()\nq.execute('SELECT 40 + 2')\nprint(q.fetchall())\n",
    )
    .unwrap();
    let child = super::drivers::program(&shop, &python, &script, &pass).spawn();
    let output = crate::node::finished(child.unwrap());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("(forbidden)"), "{said} {output:?}");
    assert!(said.contains("COM_CHANGE_USER is not passed on"), "{said}");
    assert!(said.contains("[(42,)]"), "{said}");

    assert!(
        !shop.server.statements().contains("DROP"),
        "the target has seen it"
    );
    let refused: Vec<_> = shop
        .world
        .events("operation.recorded")
        .into_iter()
        .filter(|event| event["data"]["outcome"] == "refused")
        .collect();
    assert_eq!(refused.len(), 3, "{refused:#?}");
}

/// G4, GW-3: a session is refused, and ends, in a set of characters in which statements are not what they
/// seem.
#[test]
fn given_a_set_of_characters_that_hides_backslashes_then_it_is_refused_from_the_start_and_later() {
    let shop = Shop::new();
    shop.world.grant(APP, "1h");
    let pass = shop.pass(APP);
    let output = shop.mariadb(&pass, &["--default-character-set=gbk", "-e", "SELECT 1"]);
    assert!(
        complaint(&output).contains("ERROR 1115 (42000): sallyport:"),
        "{output:?}"
    );
    let words = ["--skip-reconnect"];
    shop.script(&pass, &words, "SET NAMES gbk;\nSELECT 'later';\n");
    let session = shop.world.ended_session(&shop.newest());
    assert_eq!(session["end_reason"], "target-closed", "{session}");
    assert!(
        !shop.server.statements().contains("'later'"),
        "a statement was passed on in it"
    );
    let hidden = "SET session_track_system_variables = ''";
    let output = shop.mariadb(&pass, &["-e", hidden]);
    assert!(
        complaint(&output).contains("(feature-refused)"),
        "{output:?}"
    );
}

/// G8, GW-3: a file of the client's goes to the target where policy says so, counted and hashed, and nowhere
/// else.
#[test]
fn given_a_statement_that_loads_a_file_then_policy_says_whether_the_target_gets_it() {
    let shop = Shop::new();
    shop.world.grant(APP, "1h");
    let pass = shop.pass(APP);
    let file = shop.file("rows.csv");
    let rows: String = (10..5_000).map(|n| format!("{n}\trow {n}\n")).collect();
    std::fs::write(&file, &rows).unwrap();
    let load = format!(
        "LOAD DATA LOCAL INFILE '{}' INTO TABLE item;\nSELECT CONCAT('rows ', count(*)) FROM item;",
        file.display()
    );
    let output = shop.script(&pass, &["--local-infile=1"], &load);
    assert!(complaint(&output).contains("(not-permitted)"), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("rows 3"),
        "{output:?}"
    );

    let permit = format!(
        "@id(\"local\")\npermit (principal, action == Action::\"feature.use\", resource)\nwhen {{ \
         context.operation.kind == OperationKind::\"local_file\" && context.operation.detail like \"{}*\" }};\n",
        shop.world.alice.folder.display()
    );
    shop.world.add_policies("local", &permit);
    let output = shop.script(&pass, &["--local-infile=1"], &load);
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("rows 4993"),
        "{output:?}"
    );
    let operations = shop.operations(&shop.newest());
    let sent = operations.iter().find(|one| one["kind"] == "local_file");
    let sent = sent.unwrap_or_else(|| panic!("{operations:#?}"));
    assert_eq!(sent["detail"], file.display().to_string());
    assert_eq!(sent["size_bytes"], rows.len(), "{sent}");
    let sum = std::process::Command::new("sha256sum")
        .arg(&file)
        .output()
        .unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap();
    assert_eq!(sent["sha256"], sum.split(' ').next().unwrap(), "{sent}");
}

/// GW-3: what is wrong with the target is told as far as a person can do something about it.
#[test]
fn given_a_target_that_cannot_be_used_then_the_client_hears_what_it_may() {
    let shop = Shop::new();
    shop.world.grant(APP, "1h");
    let pass = shop.pass(APP);
    let mut nowhere = shop.command("mariadb", APP, &pass);
    nowhere.args(["--database=nowhere", "-e", "SELECT 1"]);
    let output = crate::node::finished(nowhere.spawn().unwrap());
    // The account is not allowed to know more.
    assert!(
        complaint(&output).contains("ERROR 1044 (42000): sallyport: the account may not use"),
        "{output:?}"
    );

    // Another server answers at the same address: not the key that is known.
    let other = "ab".repeat(32);
    shop.add_target("imposter", &format!("key-sha256:{other}"));
    shop.world.grant("app@imposter", "1h");
    let pass = shop.pass("app@imposter");
    let mut client = shop.command("mariadb", "app@imposter", &pass);
    client.args(["-e", "SELECT 1"]);
    let output = crate::node::finished(client.spawn().unwrap());
    assert!(
        complaint(&output).contains("(host-key-changed)"),
        "{output:?}"
    );
    assert_eq!(shop.world.events("target.host_key_mismatched").len(), 1);
}
