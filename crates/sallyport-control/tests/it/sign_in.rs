//! Enrolment, sign-in, tokens: what is used once is used once, what locks locks everywhere, and nobody
//! learns who exists.

use std::{fs, time::Duration};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{
    home::Home,
    node::{Node, PASSWORD, Person, one_time_code},
};
use sallyport_core::time::Clock as _;

async fn node_on(home: &Home) -> Node {
    Node::start_with(|config| {
        home.configure(config);
        // So many that the lock-out does not hide a code that works twice.
        config.sign_in.failures_max = 20;
    })
    .await
}

fn sign_in_body(name: &str, password: &str, code: &str) -> Value {
    json!({ "name": name, "password": password, "code": code })
}

async fn sign_in(node: &Node, name: &str, password: &str, code: &str) -> (u16, Value) {
    let body = sign_in_body(name, password, code);
    node.call("", "POST", "/v1/sign-in", Some(body)).await
}

/// Makes the same request many times at once; returns how many succeeded.
async fn at_once(node: &Node, times: usize, path: &'static str, body: Value) -> usize {
    let mut attempts = JoinSet::new();
    for _ in 0..times {
        let (node, body) = (node.shared(), body.clone());
        attempts.spawn(async move { node.call("", "POST", path, Some(body)).await.0 });
    }
    attempts
        .join_all()
        .await
        .iter()
        .filter(|status| **status < 300)
        .count()
}

/// ID-5: a one-time code is used once, however many submit it at the same moment.
#[tokio::test(flavor = "multi_thread")]
async fn given_50_sign_ins_with_one_code_at_once_then_one_succeeds() {
    for home in Home::both() {
        let node = node_on(&home).await;
        let owner = node.owner().await;
        for _ in 0..3 {
            let code = node.next_code(&owner);
            let body = sign_in_body("olga", PASSWORD, &code);
            let succeeded = at_once(&node, 50, "/v1/sign-in", body).await;
            assert_eq!(succeeded, 1, "{}", home.kind());
            node.clock.advance(Duration::from_secs(900));
        }
    }
}

/// ID-5: every spelling of a used code is the used code, and codes before it are used too.
#[tokio::test]
async fn given_a_used_code_then_no_spelling_of_it_and_no_earlier_one_works() {
    let home = Home::sqlite();
    let node = node_on(&home).await;
    let owner = node.owner().await;
    let earlier = node.next_code(&owner);
    let used = node.next_code(&owner);
    assert_eq!(sign_in(&node, "olga", PASSWORD, &used).await.0, 200);
    let spaced = format!("{} {}", &used[..3], &used[3..]);
    for spelling in [&used, &spaced, &format!(" {used}"), &earlier] {
        assert_eq!(
            sign_in(&node, "olga", PASSWORD, spelling).await.0,
            401,
            "{spelling:?}"
        );
    }
    let next = node.next_code(&owner);
    assert_eq!(sign_in(&node, "Olga ", PASSWORD, &next).await.0, 200);
}

/// ID-1: an enrolment code makes one account, however many submit it at the same moment.
#[tokio::test(flavor = "multi_thread")]
async fn given_50_enrolments_with_one_code_at_once_then_one_succeeds() {
    for home in Home::both() {
        let node = node_on(&home).await;
        let code = sallyport_control::authn::first_owner_code(&node.control)
            .await
            .unwrap()
            .unwrap();
        let enrol = |code: &str| json!({ "code": code, "password": PASSWORD, "name": "olga" });
        let succeeded = at_once(&node, 50, "/v1/enrol", enrol(code.expose_secret())).await;
        assert_eq!(succeeded, 1, "{}: the first owner", home.kind());

        let people = home.count("SELECT count(*) FROM person").await;
        assert_eq!(people, 1, "{}", home.kind());
        let again = sallyport_control::authn::first_owner_code(&node.control)
            .await
            .unwrap();
        assert!(again.is_none(), "there is an owner");
    }
}

/// ID-1: so does the code of somebody who exists, where no second check stands behind it.
#[tokio::test(flavor = "multi_thread")]
async fn given_50_enrolments_of_one_person_at_once_then_one_succeeds() {
    for home in Home::both() {
        let node = node_on(&home).await;
        let owner = node.owner().await;
        let alice = json!({ "name": "alice" });
        let created = node.ok(&owner, "POST", "/v1/people", Some(alice)).await;
        let enrol = json!({ "code": created["code"], "password": PASSWORD });
        let succeeded = at_once(&node, 50, "/v1/enrol", enrol).await;
        assert_eq!(succeeded, 1, "{}", home.kind());
        let used = "SELECT count(*) FROM audit_entry WHERE entry LIKE '%enrolment.used%'";
        assert_eq!(
            home.count(used).await,
            2,
            "{}: hers and the owner's",
            home.kind()
        );
    }
}

/// ID-1
#[tokio::test]
async fn given_an_enrolment_code_then_it_ends_after_a_day_and_when_a_new_one_is_issued() {
    let home = Home::sqlite();
    let node = node_on(&home).await;
    let owner = node.owner().await;
    let created = node
        .ok(
            &owner,
            "POST",
            "/v1/people",
            Some(json!({ "name": "alice" })),
        )
        .await;
    let first = created["code"].as_str().unwrap().to_owned();
    let issued = node
        .ok(&owner, "POST", "/v1/people/alice/enrolment", None)
        .await;
    let second = issued["code"].as_str().unwrap().to_owned();

    let enrol = |code: &str| json!({ "code": code, "password": PASSWORD });
    let (status, _) = node
        .call("", "POST", "/v1/enrol", Some(enrol(&first)))
        .await;
    assert_eq!(status, 400, "a newer code replaces it");
    node.clock.advance(Duration::from_secs(24 * 3600));
    let (status, answer) = node
        .call("", "POST", "/v1/enrol", Some(enrol(&second)))
        .await;
    assert_eq!(
        (status, answer["field"].as_str()),
        (400, Some("code")),
        "{answer}"
    );
}

/// ID-1: enrolling again replaces everything that proved the person before.
#[tokio::test]
async fn given_a_second_enrolment_then_nothing_from_before_proves_the_person() {
    let home = Home::sqlite();
    let node = node_on(&home).await;
    let owner = node.owner().await;
    let alice = node.person(&owner, "alice", &[], &[]).await;
    let key = json!({ "public_key": KEY, "label": "laptop" });
    node.ok(&alice, "POST", "/v1/self/keys", Some(key)).await;
    let wanted = json!({ "label": "ci", "scopes": ["self.show"], "ttl_s": 3600 });
    let token = node
        .ok(&alice, "POST", "/v1/self/tokens", Some(wanted))
        .await;
    let token = token["token"].as_str().unwrap().to_owned();
    let issued = node
        .ok(&owner, "POST", "/v1/people/alice/enrolment", None)
        .await;

    let again = node.enrol("alice", issued["code"].as_str().unwrap()).await;
    for (old, what) in [(&alice.token, "the sign-in"), (&token, "the API token")] {
        assert_eq!(
            node.call(old, "GET", "/v1/whoami", None).await.0,
            401,
            "{what}"
        );
    }
    let keys = node.ok(&again, "GET", "/v1/self/keys", None).await;
    assert_eq!(keys["items"], json!([]));
    let old_code = node.next_code(&alice);
    assert_eq!(
        sign_in(&node, "alice", PASSWORD, &old_code).await.0,
        401,
        "the old secret"
    );
}

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g";

/// ID-5: who exists cannot be told from what is answered.
#[tokio::test]
async fn given_wrong_sign_ins_of_every_kind_then_the_answers_are_the_same_to_the_byte() {
    let home = Home::sqlite();
    let node = node_on(&home).await;
    let owner = node.owner().await;
    let alice = node.person(&owner, "alice", &[], &[]).await;
    node.ok(
        &owner,
        "POST",
        "/v1/people",
        Some(json!({ "name": "not-enrolled" })),
    )
    .await;
    node.person(&owner, "disabled", &[], &[]).await;
    let reason = json!({ "reason": "left" });
    node.ok(&owner, "POST", "/v1/people/disabled/disable", Some(reason))
        .await;
    let code = node.next_code(&alice);

    let wrong_code = if code == "000000" { "000001" } else { "000000" };
    let mut answers = Vec::new();
    for (name, password, code) in [
        ("alice", "not the password!", code.as_str()),
        ("alice", PASSWORD, wrong_code),
        ("alice", "not the password!", wrong_code),
        ("alice", "short", &code),
        ("alice", PASSWORD, ""),
        ("nobody", PASSWORD, &code),
        ("no such name!", PASSWORD, &code),
        ("not-enrolled", PASSWORD, &code),
        ("disabled", PASSWORD, &code),
    ] {
        answers.push((
            format!("{name} {password}"),
            sign_in(&node, name, password, code).await,
        ));
    }
    let (_, first) = &answers[0];
    assert_eq!(first.0, 401);
    for (attempt, answer) in &answers {
        assert_eq!(answer, first, "{attempt}");
    }
    assert_eq!(
        sign_in(&node, "alice", PASSWORD, &code).await.0,
        200,
        "and the right one works"
    );
}

/// ID-5: what is missing, null or of another type is no credential.
#[tokio::test]
async fn given_fields_that_are_missing_or_of_another_type_then_the_field_is_named_and_nobody_signed_in()
 {
    let home = Home::sqlite();
    let node = node_on(&home).await;
    let owner = node.owner().await;
    let code = node.next_code(&owner);
    let good = sign_in_body("olga", PASSWORD, &code);
    for field in ["name", "password", "code"] {
        let mut missing = good.clone();
        missing.as_object_mut().unwrap().remove(field);
        let (status, answer) = node.call("", "POST", "/v1/sign-in", Some(missing)).await;
        assert_eq!(
            (status, answer["field"].as_str()),
            (400, Some(field)),
            "{answer}"
        );
        for value in [
            Value::Null,
            json!(0),
            json!([PASSWORD]),
            json!({}),
            json!(true),
        ] {
            let mut other = good.clone();
            other[field] = value;
            let (status, answer) = node
                .call("", "POST", "/v1/sign-in", Some(other.clone()))
                .await;
            assert_eq!(
                (status, answer["code"].as_str()),
                (400, Some("bad-field")),
                "{other}"
            );
        }
    }
    let mut unknown = good;
    unknown["admin"] = json!(true);
    let (status, answer) = node.call("", "POST", "/v1/sign-in", Some(unknown)).await;
    assert_eq!(
        (status, answer["field"].as_str()),
        (400, Some("admin")),
        "{answer}"
    );
}

/// ID-1: a token is itself only: shortened, extended or altered by one character it is nobody's.
#[tokio::test]
async fn given_a_token_changed_in_any_place_then_it_proves_nobody() {
    let home = Home::sqlite();
    let node = node_on(&home).await;
    let owner = node.owner().await;
    let token = owner.token.as_str();
    let who = |token: String| {
        let node = node.shared();
        async move { node.call(&token, "GET", "/v1/whoami", None).await.0 }
    };
    assert_eq!(who(token.to_owned()).await, 200);
    for place in 0..token.len() {
        let mut altered = token.as_bytes().to_vec();
        altered[place] = if altered[place] == b'A' { b'B' } else { b'A' };
        assert_eq!(
            who(String::from_utf8(altered).unwrap()).await,
            401,
            "altered at {place}"
        );
        if place > 0 {
            assert_eq!(who(token[..place].to_owned()).await, 401, "cut at {place}");
        }
    }
    for other in [
        format!("{token}A"),
        format!("{token}="),
        token.to_uppercase(),
        "spt_".to_owned(),
    ] {
        assert_eq!(who(other.clone()).await, 401, "{other}");
    }
}

/// ID-1
#[tokio::test]
async fn given_a_sign_in_then_it_ends_by_itself_and_when_its_person_says_so() {
    for home in Home::both() {
        let node = node_on(&home).await;
        let owner = node.owner().await;
        let code = node.next_code(&owner);
        let (_, second) = sign_in(&node, "olga", PASSWORD, &code).await;
        let second = second["token"].as_str().unwrap().to_owned();

        node.ok(&owner, "POST", "/v1/sign-out", None).await;
        assert_eq!(
            node.call(&owner.token, "GET", "/v1/whoami", None).await.0,
            401
        );
        assert_eq!(
            node.call(&second, "GET", "/v1/whoami", None).await.0,
            200,
            "only the one"
        );
        node.clock.advance(Duration::from_secs(8 * 3600));
        assert_eq!(
            node.call(&second, "GET", "/v1/whoami", None).await.0,
            401,
            "{}",
            home.kind()
        );
    }
}

async fn api_token(node: &Node, person: &Person, scopes: &[&str]) -> (u16, Value) {
    let body = json!({ "label": "ci", "scopes": scopes, "ttl_s": 3600 });
    node.call(&person.token, "POST", "/v1/self/tokens", Some(body))
        .await
}

/// ID-1: an API token does what its scopes say and its person may, and never more.
#[tokio::test]
async fn given_an_api_token_then_it_never_does_more_than_its_scopes_and_its_person() {
    let home = Home::sqlite();
    let node = node_on(&home).await;
    let owner = node.owner().await;
    let audrey = node.person(&owner, "audrey", &[], &["auditor"]).await;

    for scopes in [
        &["person.edit"][..],
        &["self.edit"],
        &["no.such"],
        &["*"],
        &[],
        &["self.show"; 2],
    ] {
        let (status, answer) = api_token(&node, &audrey, scopes).await;
        assert_eq!(
            (status, answer["field"].as_str()),
            (400, Some("scopes")),
            "{scopes:?}: {answer}"
        );
    }
    let (status, made) = api_token(&node, &audrey, &["audit.read"]).await;
    assert_eq!(status, 201, "{made}");
    let token = made["token"].as_str().unwrap();
    assert_eq!(
        node.call(token, "GET", "/v1/audit/checkpoint", None)
            .await
            .0,
        200
    );
    for (method, path) in [
        ("GET", "/v1/whoami"),
        ("GET", "/v1/people"),
        ("POST", "/v1/self/tokens"),
        ("POST", "/v1/self/keys"),
        ("POST", "/v1/sign-out"),
    ] {
        let (status, answer) = node.call(token, method, path, None).await;
        assert_eq!(
            (status, answer["code"].as_str()),
            (403, Some("missing-right")),
            "{method} {path}"
        );
    }

    let roles = json!({ "admin_roles": [] });
    node.ok(&owner, "PATCH", "/v1/people/audrey", Some(roles))
        .await;
    assert_eq!(
        node.call(token, "GET", "/v1/audit/checkpoint", None)
            .await
            .0,
        403,
        "what its person may not, it may not either"
    );
    let id = made["api_token"]["id"].as_str().unwrap();
    node.ok(&audrey, "DELETE", &format!("/v1/self/tokens/{id}"), None)
        .await;
    assert_eq!(
        node.call(token, "GET", "/v1/audit/checkpoint", None)
            .await
            .0,
        401
    );
}

/// ID-1: a token that may edit people gives no roles: it must not make somebody who can do more than it.
#[tokio::test]
async fn given_an_api_token_that_edits_people_then_it_gives_no_roles_and_resets_nobody_with_roles()
{
    let home = Home::sqlite();
    let node = node_on(&home).await;
    let owner = node.owner().await;
    let (_, made) = api_token(&node, &owner, &["person.edit"]).await;
    let token = made["token"].as_str().unwrap();
    let call = async |method: &str, path: &str, body: Value| {
        node.call(token, method, path, Some(body)).await.0
    };
    assert_eq!(
        call(
            "POST",
            "/v1/people",
            json!({ "name": "bob", "admin_roles": ["owner"] })
        )
        .await,
        403
    );
    assert_eq!(
        call("POST", "/v1/people/olga/enrolment", json!({})).await,
        403
    );
    assert_eq!(
        call("POST", "/v1/people", json!({ "name": "bob" })).await,
        201
    );
    assert_eq!(
        call(
            "PATCH",
            "/v1/people/bob",
            json!({ "admin_roles": ["auditor"] })
        )
        .await,
        403
    );
    assert_eq!(
        call("PATCH", "/v1/people/bob", json!({ "groups": ["sre"] })).await,
        200
    );
}

/// ID-5: one key proves one person, and what is no key is refused.
#[tokio::test]
async fn given_a_registered_key_then_nobody_else_registers_it_under_any_spelling() {
    for home in Home::both() {
        let node = node_on(&home).await;
        let owner = node.owner().await;
        let alice = node.person(&owner, "alice", &[], &[]).await;
        let key = |text: &str| Some(json!({ "public_key": text, "label": "laptop" }));
        node.ok(&alice, "POST", "/v1/self/keys", key(KEY)).await;
        for spelling in [
            KEY.to_owned(),
            format!("{KEY} olga@desk"),
            format!("  {KEY}\n"),
        ] {
            let (status, _) = node
                .call(&owner.token, "POST", "/v1/self/keys", key(&spelling))
                .await;
            assert_eq!(status, 409, "{}: {spelling:?}", home.kind());
        }
        let (status, answer) = node
            .call(&owner.token, "POST", "/v1/self/keys", key("ssh-dss AAAA"))
            .await;
        assert_eq!(
            (status, answer["field"].as_str()),
            (400, Some("public_key"))
        );
        assert_eq!(home.count("SELECT count(*) FROM ssh_key").await, 1);
    }
}

/// ID-1: nothing that proves somebody can be read out of the database.
#[tokio::test]
async fn given_the_database_then_no_password_code_token_or_secret_is_in_it() {
    let home = Home::sqlite();
    let node = node_on(&home).await;
    let first = sallyport_control::authn::first_owner_code(&node.control)
        .await
        .unwrap()
        .unwrap();
    let owner = node.enrol("olga", first.expose_secret()).await;
    let (_, made) = api_token(&node, &owner, &["self.show"]).await;
    let api_token = made["token"].as_str().unwrap().to_owned();
    let created = node
        .ok(&owner, "POST", "/v1/people", Some(json!({ "name": "bob" })))
        .await;
    let code = created["code"].as_str().unwrap().to_owned();
    let secret = owner
        .totp_uri
        .split("secret=")
        .nth(1)
        .unwrap()
        .split('&')
        .next()
        .unwrap()
        .to_owned();
    let raw_secret = totp_rs::Secret::try_from_base32(&secret).unwrap();

    let wal = home.database_file().with_extension("db-wal");
    let stored = [
        fs::read(home.database_file()).unwrap(),
        fs::read(wal).unwrap(),
    ]
    .concat();
    let has = |bytes: &[u8]| stored.windows(bytes.len()).any(|window| window == bytes);
    assert!(has(b"olga"), "the search finds what is there");
    for (canary, what) in [
        (PASSWORD.as_bytes(), "the password"),
        (first.expose_secret().as_bytes(), "the first enrolment code"),
        (code.as_bytes(), "an enrolment code"),
        (owner.token.as_bytes(), "the sign-in token"),
        (
            &owner.token.as_bytes()[4..],
            "the sign-in token without its prefix",
        ),
        (api_token.as_bytes(), "the API token"),
        (secret.as_bytes(), "the one-time-code secret"),
        (raw_secret.as_bytes(), "the one-time-code secret, raw"),
    ] {
        assert!(!has(canary), "{what}");
    }
}

/// ID-5: failures are counted over every spelling and every door, whoever exists.
#[tokio::test]
async fn given_five_failures_over_spellings_then_the_name_is_locked_in_every_spelling_for_fifteen_minutes()
 {
    for home in Home::both() {
        let node = Node::start_with(|config| home.configure(config)).await;
        let owner = node.owner().await;
        let spellings = [
            "olga",
            "Olga",
            "OLGA",
            "oLGA",
            "olGA",
            "olgA",
            "OLga",
            "OlGa",
            "OlgA",
            "oLgA",
            " olga",
            "olga ",
            "\tolga",
            "olga\n",
            " OLGA ",
            "\r\nolga",
            "Olga\t",
            " oLga",
            "OLGa ",
            "olga\u{c}",
        ];
        for (attempt, spelling) in spellings.iter().enumerate() {
            let (status, answer) = sign_in(&node, spelling, "not the password!", "000000").await;
            let expected = if attempt < 5 { 401 } else { 429 };
            assert_eq!(
                status,
                expected,
                "{}: attempt {attempt} {spelling:?} {answer}",
                home.kind()
            );
        }
        let code = one_time_code(&owner.totp_uri, node.clock.now());
        let (status, answer) = sign_in(&node, "olga", PASSWORD, &code).await;
        assert_eq!(
            (status, answer["code"].as_str()),
            (429, Some("too-many-attempts"))
        );

        for _ in 0..5 {
            assert_eq!(sign_in(&node, "nobody", PASSWORD, "000000").await.0, 401);
        }
        assert_eq!(
            sign_in(&node, "NOBODY", PASSWORD, "000000").await.0,
            429,
            "like those who exist"
        );

        node.clock.advance(Duration::from_secs(15 * 60));
        let code = node.next_code(&owner);
        assert_eq!(
            sign_in(&node, "olga", PASSWORD, &code).await.0,
            200,
            "{}",
            home.kind()
        );
    }
}

/// ID-5: the count survives a restart, and a success takes it back.
#[tokio::test]
async fn given_failures_then_a_restart_forgets_none_and_a_success_forgets_all() {
    let home = Home::sqlite();
    let node = Node::start_with(|config| home.configure(config)).await;
    let owner = node.owner().await;
    for _ in 0..4 {
        assert_eq!(
            sign_in(&node, "olga", "not the password!", "000000")
                .await
                .0,
            401
        );
    }
    let node = node.restart_with(|_| {}).await;
    let code = node.next_code(&owner);
    assert_eq!(
        sign_in(&node, "olga", PASSWORD, &code).await.0,
        200,
        "the fifth is right"
    );
    for attempt in 0..6 {
        let expected = if attempt < 5 { 401 } else { 429 };
        assert_eq!(
            sign_in(&node, "olga", "not the password!", "000000")
                .await
                .0,
            expected
        );
    }
    let node = node.restart_with(|_| {}).await;
    let code = node.next_code(&owner);
    assert_eq!(
        sign_in(&node, "olga", PASSWORD, &code).await.0,
        429,
        "still locked"
    );
}

/// ID-5: fifty guesses at once are no more than five.
#[tokio::test(flavor = "multi_thread")]
async fn given_50_guesses_at_once_then_five_are_checked() {
    for home in Home::both() {
        let node = Node::start_with(|config| home.configure(config)).await;
        node.owner().await;
        let mut guesses = JoinSet::new();
        for guess in 0..50 {
            let node = node.shared();
            guesses.spawn(async move {
                sign_in(&node, "olga", &format!("guess number {guess}"), "000000")
                    .await
                    .0
            });
        }
        let statuses = guesses.join_all().await;
        let checked = statuses.iter().filter(|status| **status == 401).count();
        assert_eq!(checked, 5, "{}: {statuses:?}", home.kind());
        let locked = "SELECT count(*) FROM audit_entry WHERE entry LIKE '%authentication.locked%'";
        assert_eq!(home.count(locked).await, 1, "{}", home.kind());
    }
}
