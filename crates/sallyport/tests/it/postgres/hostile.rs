//! Targets that are not what they should be: each is a clear error for the client, and learns nothing.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::database::{APP, SECRET, Shop, complaint};
use crate::waiting::eventually;

/// What a target has heard on all its connections.
type Heard = Arc<Mutex<Vec<u8>>>;

/// A message of a server.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[kind][..], &length.to_be_bytes(), body].concat()
}

fn authentication(code: u32, body: &[u8]) -> Vec<u8> {
    message(b'R', &[&code.to_be_bytes()[..], body].concat())
}

/// What a target says next.
enum Says {
    This(Vec<u8>),
    /// That it wants the password hashed so many times, under the client's own nonce.
    Challenge(u32),
}

impl Says {
    fn bytes(&self, heard: &[u8]) -> Vec<u8> {
        match self {
            Self::This(bytes) => bytes.clone(),
            Self::Challenge(rounds) => {
                let heard = String::from_utf8_lossy(heard);
                let (_, nonce) = heard.rsplit_once("r=").unwrap();
                authentication(11, format!("r={nonce}x,s=AAAA,i={rounds}").as_bytes())
            }
        }
    }
}

/// A target that answers each thing it hears with the next of these, and then listens on.
fn target(answers: Vec<Says>) -> (String, Heard) {
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
            let mut buffer = [0; 4_096];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                hears.lock().unwrap().extend(&buffer[..count]);
                if let Some(answer) = answers.next() {
                    let answer = answer.bytes(&hears.lock().unwrap());
                    let _ = stream.write_all(&answer);
                }
            }
        }
    });
    (address, heard)
}

/// G1, G2, G3, G9, G10, GW-11
#[test]
fn given_a_hostile_target_then_the_client_gets_an_error_and_no_credential_leaves() {
    use Says::{Challenge, This};
    let shop = Shop::new();
    let pinned = format!("key-sha256:{}", "ab".repeat(32));
    let scram = authentication(10, b"SCRAM-SHA-256\0\0");
    let ok = authentication(0, b"");
    let ready = message(b'Z', b"I");
    let told_password = format!("SFATAL\0VFATAL\0C28P01\0Mno password but {SECRET}\0\0");
    let cases: Vec<(&str, &str, Vec<Says>)> = vec![
        ("tls-refused", &pinned, vec![This(b"N".to_vec())]),
        (
            "tls-stripped",
            &pinned,
            vec![This([&b"N"[..], &ok, &ready].concat())],
        ),
        (
            "no-certificate",
            &pinned,
            vec![This(b"S".to_vec()), This(ok.clone())],
        ),
        (
            "asks-in-clear",
            "plaintext",
            vec![This(authentication(3, b""))],
        ),
        (
            "asks-for-md5",
            "plaintext",
            vec![This(authentication(5, b"salt"))],
        ),
        (
            "asks-for-gss",
            "plaintext",
            vec![This(authentication(7, b""))],
        ),
        (
            "other-mechanism",
            "plaintext",
            vec![This(authentication(10, b"PLAIN\0\0"))],
        ),
        (
            "hashing-without-end",
            "plaintext",
            vec![This(scram.clone()), Challenge(1_000_001)],
        ),
        (
            "of-another-exchange",
            "plaintext",
            vec![
                This(scram.clone()),
                This(authentication(11, b"r=x,s=AAAA,i=4096")),
            ],
        ),
        (
            "unproven",
            "plaintext",
            vec![This(scram.clone()), This(ok.clone())],
        ),
        (
            "unproven-at-the-end",
            "plaintext",
            vec![
                This(scram.clone()),
                Challenge(4_096),
                This([&ok[..], &ready].concat()),
            ],
        ),
        (
            "says-the-password",
            "plaintext",
            vec![This(message(b'E', told_password.as_bytes()))],
        ),
        ("length-0", "plaintext", vec![This(vec![b'R', 0, 0, 0, 0])]),
        ("length-3", "plaintext", vec![This(vec![b'R', 0, 0, 0, 3])]),
        (
            "length-max",
            "plaintext",
            vec![This(vec![b'R', 255, 255, 255, 255])],
        ),
        (
            "too-long",
            "plaintext",
            vec![This(vec![b'S', 0x7f, 255, 255, 255])],
        ),
        ("odd-kind", "plaintext", vec![This(message(b'?', b""))]),
        (
            "asks-again-inside",
            "plaintext",
            vec![
                This([&ok[..], &ready].concat()),
                This(authentication(3, b"")),
            ],
        ),
        (
            "rows-for-nobody",
            "plaintext",
            vec![This([&ok[..], &ready, &message(b'D', b"\0\0")].concat())],
        ),
    ];
    for (name, identity, answers) in cases {
        let (address, heard) = target(answers);
        shop.add_target_at(name, identity, &address);
        let on = format!("app@{name}");
        shop.world.grant(&on, "1h");
        let pass = shop.pass(&on);
        let mut psql = shop.command("psql", &on, &pass);
        psql.args(["-X", "-c", "SELECT 1"]);
        let output = crate::node::finished(psql.spawn().unwrap());
        assert!(!output.status.success(), "{name}: {output:?}");
        let told = complaint(&output);
        assert!(told.contains("sallyport:"), "{name}: {told}");
        assert!(
            !told.contains(SECRET) && !told.contains(&pass),
            "{name}: {told}"
        );
        // What a client reads once it has a session.
        let is_let_in = matches!(name, "asks-again-inside" | "rows-for-nobody");
        assert_eq!(told.contains("is recorded"), is_let_in, "{name}: {told}");
        eventually("the target was reached", || {
            (!heard.lock().unwrap().is_empty()).then_some(())
        });
        let heard = heard.lock().unwrap().clone();
        let text = String::from_utf8_lossy(&heard);
        assert!(!text.contains(SECRET), "{name} has the password");
        // A proof is made of the password, hashed as often as was asked for.
        assert_eq!(
            text.contains(",p="),
            name == "unproven-at-the-end",
            "{name}"
        );
        if identity != "plaintext" {
            assert!(
                !text.contains("app"),
                "{name} heard of somebody without proving itself"
            );
        }
        let session = shop.world.ended_session(&shop.newest());
        let reason = session["end_reason"].as_str().unwrap();
        assert!(reason.starts_with("target-"), "{name}: {session}");
    }
    // None of it did anything to anybody else.
    shop.world.grant(APP, "1h");
    assert_eq!(shop.query(&shop.pass(APP), "SELECT 42"), "42");
}
