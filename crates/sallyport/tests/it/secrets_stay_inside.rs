//! Secrets stay where they belong: canaries are planted in a run of the main job, then everything that
//! the node wrote, said and showed is searched for them, in every spelling.
//!
//! Not searched: the homes of the people, who own what they hold.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use sallyport_testkit::targets::sshd::make_key_pair;
use serde_json::Value;

use crate::{
    node::{Node, Role, Setup, files_under, get},
    person::{PASSWORD, Person},
    world::{ROOT, World},
};

/// A secret, and the one file that may hold it.
struct Canary {
    name: String,
    secret: Vec<u8>,
    home: Option<PathBuf>,
}

impl Canary {
    fn new(name: impl Into<String>, secret: impl AsRef<[u8]>) -> Self {
        let (name, secret) = (name.into(), secret.as_ref().to_vec());
        assert!(secret.len() >= 8, "{name} would be found by chance");
        Self {
            name,
            secret,
            home: None,
        }
    }

    /// Every way to write it down: as it is, hexadecimal, in URLs, in JSON, and base64 at every offset.
    fn spellings(&self) -> Vec<Vec<u8>> {
        let secret = &self.secret;
        let mut spellings = vec![
            secret.clone(),
            hex::encode(secret).into_bytes(),
            hex::encode_upper(secret).into_bytes(),
            secret.iter().flat_map(|byte| percent(*byte)).collect(),
            secret
                .iter()
                .flat_map(|byte| format!("%{byte:02X}").into_bytes())
                .collect(),
            secret
                .iter()
                .flat_map(|byte| format!("\\u{byte:04x}").into_bytes())
                .collect(),
        ];
        if let Ok(text) = std::str::from_utf8(secret) {
            let quoted = serde_json::to_string(text).unwrap();
            spellings.push(quoted.trim_matches('"').as_bytes().to_vec());
        }
        for url_safe in [false, true] {
            for offset in 0..3 {
                spellings.push(base64_inside(secret, offset, url_safe));
            }
        }
        spellings.sort();
        spellings.dedup();
        spellings
    }
}

fn percent(byte: u8) -> Vec<u8> {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => vec![byte],
        _ => format!("%{byte:02X}").into_bytes(),
    }
}

/// The characters of base64 that only `secret` decides when it begins `offset` bytes into something.
fn base64_inside(secret: &[u8], offset: usize, url_safe: bool) -> Vec<u8> {
    let last = if url_safe { "-_" } else { "+/" };
    let alphabet = format!("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789{last}")
        .into_bytes();
    let bits: Vec<u8> = std::iter::repeat_n(0, offset)
        .chain(secret.iter().copied())
        .flat_map(|byte| (0..8).rev().map(move |bit| (byte >> bit) & 1))
        .collect();
    let sextets = bits.chunks_exact(6).map(|bits| {
        let value = bits
            .iter()
            .fold(0, |value, bit| value << 1 | usize::from(*bit));
        alphabet[value]
    });
    // The first characters are shared with what stands before.
    sextets.skip((offset * 8).div_ceil(6)).collect()
}

/// Bytes as text in which everything can be found.
fn latin(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// Everything that can be searched, by what it is.
#[derive(Default)]
struct Artefacts(Vec<(String, Option<PathBuf>, String)>);

impl Artefacts {
    fn add(&mut self, what: impl Into<String>, bytes: &[u8]) {
        self.0.push((what.into(), None, latin(bytes)));
    }

    fn add_file(&mut self, path: PathBuf) {
        let bytes = fs::read(&path).unwrap();
        let what = path.display().to_string();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            self.add(format!("{what}, unpacked"), &unpacked(&bytes));
        }
        self.0.push((what, Some(path), latin(&bytes)));
    }

    fn add_folder(&mut self, folder: &std::path::Path) {
        for path in files_under(folder) {
            self.add_file(path);
        }
    }

    /// What a node's processes show to everybody on its machine.
    fn add_processes(&mut self, node: &Node) {
        for role in [Role::Control, Role::Gateway] {
            let pid = node.pid(role);
            for part in ["cmdline", "environ"] {
                let bytes = fs::read(format!("/proc/{pid}/{part}")).unwrap();
                self.add(format!("{part} of {role:?}"), &bytes);
            }
        }
        for (name, address) in [
            ("control", node.health()),
            ("gateway", node.gateway_health()),
        ] {
            for path in ["/metrics", "/readyz", "/livez"] {
                let answer = get(&address, path).unwrap_or_default();
                self.add(format!("{path} of {name}"), answer.as_bytes());
            }
        }
        self.add("the log", node.log().as_bytes());
    }

    /// What a command answers, whether it succeeds or complains.
    fn add_answer(&mut self, person: &Person, words: &[&str]) {
        let ended = person.attempt(words);
        let both = ended.stdout + &ended.stderr;
        self.add(
            format!("`{}` of {}", words.join(" "), person.name),
            both.as_bytes(),
        );
    }

    /// Where a canary is that should not be there.
    fn find(&self, canaries: &[Canary]) -> Vec<String> {
        let mut found = Vec::new();
        for canary in canaries {
            let spellings: Vec<String> = canary.spellings().iter().map(|one| latin(one)).collect();
            for (what, path, text) in &self.0 {
                let is_home = path.is_some() && *path == canary.home;
                if !is_home && spellings.iter().any(|spelling| text.contains(spelling)) {
                    found.push(format!("{} in {what}", canary.name));
                }
            }
        }
        found
    }
}

fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = Command::new("gzip")
        .args(["-dc"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = gzip.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let feeding = std::thread::spawn(move || {
        let _ = input.write_all(&bytes);
    });
    let output = gzip.wait_with_output().unwrap();
    feeding.join().unwrap();
    output.stdout
}

/// A line of a PEM that is the key itself.
fn key_line(pem: &str) -> &str {
    let mut lines = pem.lines().filter(|line| !line.contains("-----"));
    // The first line says what kind of key it is and is the same in all.
    lines
        .find(|line| line.len() > 30 && !line.starts_with("b3BlbnNza"))
        .unwrap_or_default()
}

/// The private keys that a node makes for itself: each may be in its own file and nowhere else.
fn keys_of_the_node(node: &Node) -> Vec<Canary> {
    let mut canaries = Vec::new();
    for path in files_under(node.folder.path()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let is_home = path
            .components()
            .any(|part| part.as_os_str().to_string_lossy().starts_with("home-"));
        if is_home || !(name.ends_with("key") || name.ends_with(".pem")) {
            continue;
        }
        let content = fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&content);
        let secret = match text.contains("PRIVATE KEY") {
            true => key_line(&text).as_bytes().to_vec(),
            false if text.contains("CERTIFICATE") => continue,
            false => text.trim().as_bytes().to_vec(),
        };
        if secret.len() < 16 {
            continue;
        }
        canaries.push(Canary {
            home: Some(path),
            ..Canary::new(name, secret)
        });
    }
    canaries
}

fn code(made: &Value) -> String {
    made["code"].as_str().unwrap().to_owned()
}

/// R15, D3: passwords, keys, tokens, seeds and codes of a whole run of the main job.
#[test]
fn given_a_run_of_the_main_job_then_no_secret_is_in_anything_that_was_written_or_shown() {
    let shelf = tempfile::tempdir().unwrap();
    let webhook_secret = "webhook-canary-0c7e1d5a9b";
    let secret_file = shelf.path().join("webhook");
    fs::write(&secret_file, webhook_secret).unwrap();
    fs::set_permissions(&secret_file, fs::Permissions::from_mode(0o600)).unwrap();
    let world = World::with(Setup {
        sign_in: format!(
            "[control.webhook]\nurl = \"http://127.0.0.1:9/\"\nsecret_file = \"{}\"\n",
            secret_file.display()
        ),
        ..Setup::default()
    });
    let mut canaries = vec![
        Canary::new("everybody's password", PASSWORD),
        Canary::new("the webhook's secret", webhook_secret),
    ];

    // A person whose every secret is known here.
    let dora_code = code(
        &world
            .olga
            .json(&["person", "create", "dora", "--group", "operators"]),
    );
    canaries.push(Canary::new("an enrolment code", &dora_code));
    let dora = Person::stranger(&world.node, "dora");
    let own_password = "dora's \"own\" pass/word canary";
    let words = ["enrol", "--name", "dora", "--stdin"];
    let enrolled = dora.json_with(&words, &format!("{dora_code}\n{own_password}\n"));
    canaries.push(Canary::new("a person's password", own_password));
    let uri = enrolled["totp_uri"].as_str().unwrap();
    let seed = uri
        .split("secret=")
        .nth(1)
        .unwrap()
        .split('&')
        .next()
        .unwrap();
    canaries.push(Canary::new("a seed of one-time codes", seed));
    let totp = totp_rs::Totp::from_url(uri).unwrap();
    canaries.push(Canary::new("the seed's bytes", totp.secret().as_bytes()));
    let wrong_password = "not-it-but-for-another-site-canary";
    let words = ["login", "--name", "dora", "--stdin", "--no-ssh"];
    assert_ne!(
        dora.try_with(&words, &format!("{wrong_password}\n000000\n"))
            .code,
        0
    );
    canaries.push(Canary::new("a mistyped password", wrong_password));

    // Tokens.
    let words = [
        "token",
        "create",
        "--label",
        "ci",
        "--scope",
        "request.list",
        "--for",
        "1h",
    ];
    for person in [&world.olga, &world.bob, &world.carol] {
        let made = person.json(&words);
        let name = format!("an API token of {}", person.name);
        canaries.push(Canary::new(name, made["token"].as_str().unwrap()));
    }
    for name in ["erin", "greg"] {
        let unused = code(&world.olga.json(&["person", "create", name]));
        canaries.push(Canary::new("a code that was never used", unused));
    }
    let nobodys = "a password of nobody here, a canary";
    let words = ["login", "--name", "nobody", "--stdin", "--no-ssh"];
    assert_ne!(
        dora.try_with(&words, &format!("{nobodys}\n000000\n")).code,
        0
    );
    canaries.push(Canary::new("a password of nobody", nobodys));
    for person in [&world.olga, &world.bob, &world.alice, &world.carol] {
        for file in files_under(&person.folder.join("profiles")) {
            if file.ends_with("token") {
                let token = fs::read_to_string(&file).unwrap();
                canaries.push(Canary::new(
                    format!("{}'s token", person.name),
                    token.trim(),
                ));
            }
        }
    }

    // Credentials of targets.
    let stored_password = "stored-password-canary-4f1b";
    let pair = make_key_pair(&shelf.path().join("target-key"), "ed25519", None).unwrap();
    canaries.push(Canary::new("a stored password", stored_password));
    let replaced_password = "replaced-password-canary-77aa";
    canaries.push(Canary::new("a replaced password", replaced_password));
    canaries.push(Canary::new(
        "a stored private key",
        key_line(&pair.private_key),
    ));
    world.add_target("web-2", "low");
    for account in ["root@web-2", "daemon@web-2"] {
        let words = ["account", "create", account, "--engine", "static"];
        world.olga.say(&words);
    }
    for (account, kind, secret) in [
        ("root@web-2", "password", replaced_password),
        ("root@web-2", "password", stored_password),
        ("daemon@web-2", "private_key", pair.private_key.as_str()),
    ] {
        let file = shelf.path().join(kind);
        fs::write(&file, secret).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let file = file.display().to_string();
        let words = [
            "account",
            "set-secret",
            account,
            "--kind",
            kind,
            "--file",
            &file,
        ];
        world.olga.say(&words);
    }

    // The main job, with every kind of credential, and failures.
    world.grant(ROOT, "1h");
    assert!(world.ssh().run(ROOT, "true").status.success());
    for account in ["root@web-2", "daemon@web-2"] {
        world.grant(account, "1h");
        // The target knows neither: both are tried, both fail.
        assert!(!world.ssh().run(account, "true").status.success());
    }
    let mut guess = world.ssh().client("ssh");
    guess.args([
        "-o",
        "PubkeyAuthentication=no",
        "-l",
        "alice:root@web-1",
        "127.0.0.1",
        "true",
    ]);
    assert!(
        !crate::node::finished(guess.spawn().unwrap())
            .status
            .success()
    );
    let session = world.newest_session();
    let id = session["id"].as_str().unwrap().to_owned();

    canaries.extend(keys_of_the_node(&world.node));
    assert!(canaries.len() >= 25, "{} canaries", canaries.len());
    let mut artefacts = Artefacts::default();
    artefacts.add_folder(&world.verified_export());
    artefacts.add_folder(&world.node.data());
    artefacts.add_file(world.node.config());
    artefacts.add_processes(&world.node);
    for words in [
        &["account", "show", "root@web-2", "--output", "json"][..],
        &["account", "list", "--output", "json"],
        &["person", "list", "--output", "json"],
        &["person", "show", "dora", "--output", "json"],
        &["token", "list", "--output", "json"],
        &["target", "list", "--output", "json"],
        &["whoami"],
        &["account", "show", "nobody@web-2"],
    ] {
        artefacts.add_answer(&world.olga, words);
    }
    for words in [
        &["session", "list", "--output", "json"][..],
        &["session", "show", &id, "--output", "json"],
        &["session", "operations", &id, "--output", "json"],
        &["recording", "list", "--output", "json"],
        &["lease", "list", "--output", "json"],
        &["audit", "tail", "-n", "1000", "--output", "json"],
    ] {
        artefacts.add_answer(&world.carol, words);
    }
    assert!(artefacts.0.len() > 30, "{} artefacts", artefacts.0.len());
    assert_eq!(artefacts.find(&canaries), Vec::<String>::new());

    // The search finds what is there, however it is spelled.
    for canary in &canaries {
        for spelling in canary.spellings() {
            let mut planted = Artefacts::default();
            planted.add("a place", &[b"before ", &spelling[..], b" after"].concat());
            let found = planted.find(std::slice::from_ref(canary));
            assert_eq!(found.len(), 1, "{}", canary.name);
        }
    }
}

/// R15, VA-1: shares of the unseal key are printed once and kept nowhere.
#[test]
fn given_shares_of_the_unseal_key_then_the_node_keeps_none_of_them() {
    let node = Node::with(Setup {
        is_sealed: true,
        ..Setup::default()
    });
    let olga = Person::enrol(&node, "olga", &node.first_owner_code());
    let operator = Person::stranger(&node, "operator");
    let made = olga.json(&["operator", "init", "--shares", "3", "--threshold", "2"]);
    let shares: Vec<&str> = made["shares"]
        .as_array()
        .unwrap()
        .iter()
        .map(|share| share.as_str().unwrap())
        .collect();
    olga.say(&["operator", "seal"]);
    let words = ["operator", "unseal", "--stdin"];
    let damaged: String = shares[0].chars().rev().collect();
    assert_eq!(operator.try_with(&words, &format!("{damaged}\n")).code, 1);
    for share in &shares {
        // The last one is of no use any more, and is not kept either.
        operator.try_with(&words, &format!("{share}\n"));
    }

    let mut canaries: Vec<Canary> = Vec::new();
    for share in shares {
        // What every share begins with is no secret.
        let secret: String = share.chars().rev().take(24).collect();
        let secret: String = secret.chars().rev().collect();
        canaries.push(Canary::new("a share", secret));
    }
    let damaged: String = damaged.chars().take(24).collect();
    canaries.push(Canary::new("a mistyped share", damaged));
    let mut artefacts = Artefacts::default();
    artefacts.add_folder(&node.data());
    artefacts.add_processes(&node);
    artefacts.add_answer(&operator, &["operator", "status"]);
    assert_eq!(artefacts.find(&canaries), Vec::<String>::new());
}
