//! Targets that are not what they should be: each is a clear error for the client, and learns nothing.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::database::{APP, SECRET, Shop};
use crate::{postgres::database::complaint, waiting::eventually};

/// What a target has heard on all its connections.
type Heard = Arc<Mutex<Vec<u8>>>;

fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
    [&length[..3], &[sequence], payload].concat()
}

/// What a server says first: everything it can do but these, and this way of proving passwords.
fn greeting_without(without: u32, plugin: &str) -> Vec<u8> {
    let can = 0x01ff_feff_u32 & !without;
    let [a, b, c, d] = can.to_le_bytes();
    let mut payload = b"\x0a11.4.0-MariaDB\0\x07\0\0\0challeng\0".to_vec();
    payload.extend([a, b, 45, 2, 0, c, d, 21]);
    payload.extend([0; 10]);
    payload.extend(b"echallengech\0");
    payload.extend(plugin.as_bytes());
    payload.push(0);
    packet(0, &payload)
}

fn switch(plugin: &str) -> Vec<u8> {
    let payload = [b"\xfe", plugin.as_bytes(), b"\0challengechallengech\0"].concat();
    packet(2, &payload)
}

/// A target that says the first of these, and answers each thing it hears with the next.
fn target(answers: Vec<Vec<u8>>) -> (String, Heard) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let heard = Heard::default();
    let hears = Arc::clone(&heard);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(30)))
                .unwrap();
            let mut answers = answers.iter();
            if let Some(first) = answers.next() {
                let _ = stream.write_all(first);
            }
            let mut buffer = [0; 4_096];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                hears.lock().unwrap().extend(&buffer[..count]);
                if let Some(answer) = answers.next() {
                    let _ = stream.write_all(answer);
                }
            }
        }
    });
    (address, heard)
}

/// G1, G2, G3, G8, GW-11: a target that strips TLS, asks for the password in clear, never ends its login, or
/// says what has no place there.
#[test]
fn given_a_hostile_target_then_the_client_gets_an_error_and_no_credential_leaves() {
    const TLS: u32 = 1 << 11;
    let shop = Shop::new();
    let pinned = format!("key-sha256:{}", "ab".repeat(32));
    let greeting = greeting_without(0, "mysql_native_password");
    let ok = packet(2, &[0, 0, 0, 2, 0, 0, 0]);
    let more = |n: u8| packet(n, b"\x01\x03");
    let endless: Vec<u8> = (2..200).flat_map(more).collect();
    let say = |answers: &[&[u8]]| answers.iter().map(|answer| answer.to_vec()).collect();
    let cases: Vec<(&str, &str, Vec<Vec<u8>>)> = vec![
        (
            "tls-stripped",
            &pinned,
            say(&[&greeting_without(TLS, "mysql_native_password")]),
        ),
        ("no-certificate", &pinned, say(&[&greeting, &ok, &ok])),
        (
            "early-answer",
            &pinned,
            say(&[&[&greeting[..], &ok].concat()]),
        ),
        (
            "asks-in-clear",
            "plaintext",
            say(&[&greeting, &switch("mysql_clear_password")]),
        ),
        (
            "asks-for-rsa",
            "plaintext",
            say(&[&greeting, &switch("sha256_password")]),
        ),
        (
            "asks-fully",
            "plaintext",
            say(&[
                &greeting_without(0, "caching_sha2_password"),
                &packet(2, b"\x01\x04"),
            ]),
        ),
        (
            "asks-of-old",
            "plaintext",
            say(&[&greeting, &packet(2, b"\xfe")]),
        ),
        (
            "asks-for-pam",
            "plaintext",
            say(&[&greeting, &switch("dialog")]),
        ),
        (
            "endless",
            "plaintext",
            say(&[&greeting_without(0, "caching_sha2_password"), &endless]),
        ),
        (
            "too-old",
            "plaintext",
            say(&[&greeting_without(1 << 24, "mysql_native_password")]),
        ),
        (
            "other-version",
            "plaintext",
            say(&[&packet(0, b"\x09old\0")]),
        ),
        ("too-long", "plaintext", say(&[&[0xff, 0xff, 0xff, 0]])),
        ("empty", "plaintext", say(&[&packet(0, b"")])),
        (
            "out-of-order",
            "plaintext",
            say(&[&greeting, &packet(9, &[0, 0, 0, 2, 0, 0, 0])]),
        ),
        (
            "other-characters",
            "plaintext",
            say(&[
                &greeting,
                &packet(
                    2,
                    b"\x00\x00\x00\x02\x40\x00\x00\x00\x1c\x00\x1a\x14character_set_client\x04sjis",
                ),
            ]),
        ),
        (
            "file-unasked",
            "plaintext",
            say(&[&greeting, &ok, &packet(1, b"\xfb/etc/passwd")]),
        ),
        (
            "rows-for-nobody",
            "plaintext",
            say(&[
                &greeting,
                &ok,
                &[packet(1, &[0, 0, 0, 2, 0, 0, 0]), packet(2, b"\x01")].concat(),
            ]),
        ),
        (
            "columns-without-end",
            "plaintext",
            say(&[
                &greeting,
                &ok,
                &packet(1, b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f"),
            ]),
        ),
        (
            "huge-error",
            "plaintext",
            say(&[
                &greeting,
                &ok,
                &[&[0xff, 0xff, 0x10, 1, 0xff][..], &[b'x'; 70_000]].concat(),
            ]),
        ),
    ];
    for (name, identity, answers) in cases {
        let (address, heard) = target(answers);
        shop.add_target_at(name, identity, &address);
        let on = format!("app@{name}");
        shop.world.grant(&on, "1h");
        let pass = shop.pass(&on);
        let mut client = shop.command("mariadb", &on, &pass);
        client.args([
            "--local-infile=1",
            "--skip-auto-rehash",
            "-e",
            "SELECT 1; SELECT 2",
        ]);
        let output = crate::node::finished(client.spawn().unwrap());
        assert!(!output.status.success(), "{name}: {output:?}");
        let told = complaint(&output);
        assert!(told.contains("ERROR"), "{name}: {told}");
        assert!(
            !told.contains(SECRET) && !told.contains(&pass),
            "{name}: {told}"
        );
        let session = shop.world.ended_session(&shop.newest());
        let reason = session["end_reason"].as_str().unwrap();
        assert!(reason.starts_with("target-"), "{name}: {session}");
        let heard = heard.lock().unwrap().clone();
        let text = String::from_utf8_lossy(&heard);
        assert!(!text.contains(SECRET), "{name} has the password");
        assert!(!text.contains("root:"), "{name} has a file");
        if identity != "plaintext" {
            assert!(
                !text.contains("app"),
                "{name} heard of somebody without proving itself"
            );
        }
    }
    // None of it did anything to anybody else.
    shop.world.grant(APP, "1h");
    assert_eq!(shop.query(&shop.pass(APP), "SELECT 42"), "42");
}

/// G8: a target that is to get one file and asks for another gets neither, whatever files policy permits.
#[test]
fn given_a_statement_that_names_a_file_when_the_target_asks_for_another_then_it_gets_none() {
    let shop = Shop::new();
    shop.world.permit_forwarding("local_file", "*");
    let greeting = greeting_without(0, "mysql_native_password");
    let ok = packet(2, &[0, 0, 0, 2, 0, 0, 0]);
    let wish = packet(1, b"\xfb/etc/passwd");
    let (address, heard) = target(vec![greeting, ok, wish]);
    shop.add_target_at("greedy", "plaintext", &address);
    shop.world.grant("app@greedy", "1h");
    let pass = shop.pass("app@greedy");
    let mut client = shop.command("mariadb", "app@greedy", &pass);
    let load = "LOAD DATA LOCAL INFILE '/etc/hostname' INTO TABLE item";
    client.args(["--local-infile=1", "--skip-auto-rehash", "-e", load]);
    let output = crate::node::finished(client.spawn().unwrap());
    assert!(!output.status.success(), "{output:?}");
    let session = shop.world.ended_session(&shop.newest());
    assert_eq!(session["end_reason"], "target-closed", "{session}");
    let heard = heard.lock().unwrap().clone();
    let text = String::from_utf8_lossy(&heard);
    assert!(text.contains("LOAD DATA"), "it was asked: {text}");
    assert!(!text.contains("root:"), "it has a file: {text}");
}

/// GW-3: a server that goes away in the middle of an answer is an error, and a record.
#[test]
fn given_a_target_that_dies_in_an_answer_then_the_client_is_told() {
    let shop = Shop::new();
    shop.world.grant(APP, "1h");
    let pass = shop.pass(APP);
    let mut client = shop.start(&pass);
    client.type_line("SELECT SLEEP(600);");
    let id = eventually("it runs", || {
        let running =
            "SELECT id FROM information_schema.processlist WHERE info = 'SELECT SLEEP(600)'";
        Some(shop.execute(running)).filter(|id| !id.is_empty())
    });
    shop.execute(&format!("KILL CONNECTION {id}"));
    client.until("ERROR");
    client.end();
    let session = shop.world.ended_session(&shop.newest());
    assert_eq!(session["end_reason"], "target-closed", "{session}");
}
