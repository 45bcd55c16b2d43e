//! The command line as people and scripts use it.

use std::{fs, process::Command};

use crate::{
    node::{BINARY, Node},
    person::Person,
    world::{ROOT, World},
};

/// Exit codes are a contract with scripts.
#[test]
fn every_kind_of_failure_has_its_exit_code() {
    let node = Node::start();
    let stranger = Person::stranger(&node, "stranger");
    let code = |words: &[&str]| stranger.attempt(words).code;
    assert_eq!(code(&["status"]), 0);
    assert_eq!(code(&["request", "show"]), 2, "usage");
    assert_eq!(code(&["request", "create", "nonsense"]), 2, "usage");
    assert_eq!(
        code(&["status", "--server", "https://127.0.0.1:1"]),
        3,
        "unreachable"
    );
    assert_eq!(
        code(&["status", "--server", "http://127.0.0.1"]),
        2,
        "no server"
    );
    assert_eq!(code(&["whoami"]), 4, "not signed in");
    let told = stranger.attempt(&["whoami", "--output", "json"]);
    let problem: serde_json::Value = serde_json::from_str(&told.stderr).unwrap();
    assert_eq!(problem["exit"], 4);
    assert!(
        problem["remedy"].as_str().unwrap().contains("login"),
        "{problem}"
    );

    // Another authority than the pinned one does not vouch for the server.
    let other = Node::start();
    let ca = other.ca().display().to_string();
    let refused = stranger.attempt(&["status", "--ca", &ca]);
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.stderr.contains("ertificate"), "{refused:?}");
}

/// A wrong password or code says the same for everybody, and five of them lock the name (R8).
#[test]
fn wrong_sign_ins_say_nothing_and_lock_the_name() {
    let world = World::new();
    let attempt = |name: &str| {
        let words = ["login", "--name", name, "--no-ssh", "--stdin"];
        world.bob.try_with(&words, "wrong password here\n000000\n")
    };
    let unknown = attempt("nobody-here");
    let known = attempt("alice");
    assert_eq!((unknown.code, known.code), (4, 4), "{unknown:?} {known:?}");
    assert_eq!(unknown.stderr, known.stderr);
    // One was made above; five lock it.
    for _ in 0..4 {
        attempt("alice");
    }
    let locked = attempt("alice");
    assert!(locked.stderr.contains("too-many-attempts"), "{locked:?}");
    assert_eq!(locked.code, 1);
    assert!(!world.events("authentication.locked").is_empty());
    assert_eq!(
        world.alice.attempt(&["whoami"]).code,
        0,
        "a stranger signed her out"
    );
}

/// An API token does what its scopes say and nothing else.
#[test]
fn an_api_token_is_limited_to_its_scopes() {
    let world = World::new();
    let file = world.bob.folder.join("token");
    let path = file.display().to_string();
    world.bob.say(&[
        "token",
        "create",
        "--label",
        "ci",
        "--scope",
        "request.create",
        "--for",
        "1h",
        "--file",
        &path,
    ]);
    let with_token = |words: &[&str]| {
        world
            .bob
            .attempt(&[words, &["--token-file", &path]].concat())
    };
    assert_eq!(with_token(&["request", "list"]).code, 0);
    let refused = with_token(&[
        "request",
        "approve",
        "req_00000000000000000000000000",
        "--yes",
    ]);
    assert_eq!(refused.code, 1, "{refused:?}");
    let tokens = world.bob.list(&["token", "list"]);
    world
        .bob
        .say(&["token", "revoke", tokens[0]["id"].as_str().unwrap()]);
    assert_eq!(with_token(&["request", "list"]).code, 4);
}

/// PO-4, OP-1: everything as files: a dry run changes nothing, a second run finds nothing to do.
#[test]
fn apply_shows_what_changes_and_then_changes_it_once() {
    let world = World::new();
    let dir = world.olga.folder.join("wanted");
    for (name, text) in [
        (
            "targets/db-1.toml",
            "name = \"db-1\"\nprotocol = \"ssh\"\naddress = \"127.0.0.1:22\"\nsensitivity = \"high\"\n",
        ),
        (
            "accounts/app.json",
            r#"{"target": "db-1", "name": "app", "engine": "ssh_ca"}"#,
        ),
        (
            "people/grace.toml",
            "name = \"grace\"\ngroups = [\"operators\"]\n",
        ),
    ] {
        fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
        fs::write(dir.join(name), text).unwrap();
    }
    let path = dir.display().to_string();
    let dry = world.olga.say(&["apply", "-f", &path, "--dry-run"]);
    assert!(
        dry.contains("+ target db-1") && dry.contains("+ person grace"),
        "{dry}"
    );
    assert_eq!(
        world.olga.attempt(&["target", "show", "db-1"]).code,
        1,
        "a dry run did it"
    );
    let done = world.olga.json(&["apply", "-f", &path]);
    assert_eq!(done["is_applied"], true);
    assert_eq!(
        world.olga.json(&["target", "show", "db-1"])["sensitivity"],
        "high"
    );
    let again = world.olga.say(&["apply", "-f", &path]);
    assert_eq!(again.trim(), "nothing changes");

    fs::write(
        dir.join("targets/db-1.toml"),
        "name = \"db-1\"\nprotocol = \"ssh\"\naddress = \"127.0.0.1:22\"\nsensitivity = \"low\"\n",
    )
    .unwrap();
    let changed = world.olga.say(&["apply", "-f", &path]);
    assert!(
        changed.contains("~ target db-1") && changed.contains("high"),
        "{changed}"
    );
}

/// PO-9: what would be decided, by which policies, and what would change it.
#[test]
fn explain_says_what_decides_and_what_would_change_it() {
    let world = World::new();
    let words = [
        "policy",
        "explain",
        "alice",
        ROOT,
        "--action",
        "session.open",
    ];
    let explained = world.carol.json(&words);
    assert_eq!(explained["outcome"], "challenge");
    assert!(
        !explained["determining"].as_array().unwrap().is_empty(),
        "{explained}"
    );
    assert!(
        !explained["unmet"].as_array().unwrap().is_empty(),
        "{explained}"
    );
}

#[test]
fn completion_scripts_know_every_noun() {
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(BINARY)
            .args(["completion", shell])
            .output()
            .unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(script.contains("break-glass"), "{shell}");
    }
    let bash = Command::new("bash")
        .args([
            "-c",
            &format!("source <('{BINARY}' completion bash) && complete -p sallyport"),
        ])
        .output()
        .unwrap();
    assert!(bash.status.success(), "{bash:?}");
}
