//! Guessing, over every door and spelling; and the lock-out as a weapon.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use sallyport_api::{
    gateway::{AuthenticationAnswer, AuthenticationFacts, PasswordProof, SshKeyProof},
    sensitive::Sensitive,
};
use sallyport_control::authn;
use sallyport_core::{
    authz::Reason,
    id::{AuthenticationId, GatewayId},
    principal::{AuthenticationStrength::MultiFactor, PersonName},
    time::Timestamp,
};
use sallyport_testkit::effort;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{
    home::Home,
    node::{Node, PASSWORD},
};

const ALICE_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g";
const WRONG: &str = "not the password!";

async fn node_on(home: &Home) -> Node {
    Node::start_with(|config| home.configure(config)).await
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

async fn sign_in(node: &Node, from: &str, name: &str, password: &str, code: &str) -> (u16, Value) {
    let body = json!({ "name": name, "password": password, "code": code });
    node.call_from(address(from), "", "POST", "/v1/sign-in", Some(body))
        .await
}

fn facts(
    from: &str,
    claimed: Option<PersonName>,
    beside: Option<&AuthenticationId>,
) -> AuthenticationFacts {
    AuthenticationFacts {
        ip: address(from),
        claimed,
        connection: 1,
        adds_to: beside.cloned(),
    }
}

async fn type_at_gateway(
    node: &Node,
    facts: AuthenticationFacts,
    password: Option<&str>,
    code: Option<&str>,
) -> AuthenticationAnswer {
    let secret = |text: &str| Sensitive::new(text.to_owned());
    let proof = PasswordProof {
        facts,
        password: password.map(secret),
        code: code.map(secret),
    };
    let gateway = GatewayId::new(Timestamp::EPOCH, [1; 10]);
    authn::prove_password(&node.control, &gateway, &proof)
        .await
        .unwrap()
}

async fn prove_key(node: &Node) -> AuthenticationId {
    let proof = SshKeyProof {
        facts: facts("127.0.0.1", None, None),
        public_key: ALICE_KEY.to_owned(),
    };
    let gateway = GatewayId::new(Timestamp::EPOCH, [1; 10]);
    match authn::prove_ssh_key(&node.control, &gateway, &proof)
        .await
        .unwrap()
    {
        AuthenticationAnswer::Proven {
            authentication_id, ..
        } => authentication_id,
        refused @ AuthenticationAnswer::Refused { .. } => panic!("{refused:?}"),
    }
}

const LOCKED: AuthenticationAnswer = AuthenticationAnswer::Refused {
    reason: Some(Reason::TooManyAttempts),
};

/// Ways to write `alice` that are hers, look like hers, or read like hers to some other program.
fn spellings() -> BTreeSet<String> {
    let cases = (0_u32..32).map(|bits| {
        let letter = |(at, letter): (usize, char)| {
            let is_upper = bits >> at & 1 == 1;
            if is_upper {
                letter.to_ascii_uppercase()
            } else {
                letter
            }
        };
        "alice".chars().enumerate().map(letter).collect::<String>()
    });
    let others = [
        " alice",
        "alice ",
        "\talice",
        "alice\n",
        "\r\nalice\r\n",
        " ALICE ",
        "alice\u{a0}",
        "\u{ff41}\u{ff4c}\u{ff49}\u{ff43}\u{ff45}",
        "\u{ff21}LICE",
        "al\u{131}ce",
        "al\u{130}ce",
        "\u{430}lice",
        "a\u{301}lice",
        "alice\0",
        "alice\u{200b}",
        "\u{feff}alice",
        "alice@example.com",
        "alice@web-1",
        "EXAMPLE\\alice",
        "alice/admin",
        "alice:root@web-1",
        "alice,bob",
        "alice;",
        "alice.",
        "alice\u{85}",
    ];
    cases.chain(others.map(str::to_owned)).collect()
}

/// R8, A1, ID-5: fifty spellings at every door, before and after a restart, are five guesses.
#[tokio::test]
async fn given_fifty_spellings_at_every_door_then_five_guesses_are_checked_in_fifteen_minutes() {
    for home in Home::both() {
        let mut node = node_on(&home).await;
        let owner = node.owner().await;
        let alice = node.person(&owner, "alice", &[], &[]).await;
        let spellings = spellings();
        assert!(spellings.len() >= 50, "{}", spellings.len());
        for (number, spelling) in spellings.iter().enumerate() {
            if number == 3 {
                node = node.restart_with(|_| {}).await;
            }
            let (status, answer) = sign_in(&node, "127.0.0.1", spelling, WRONG, "000000").await;
            assert!(
                matches!(status, 401 | 429),
                "{spelling:?}: {status} {answer}"
            );
            // A gateway reads the name as we do, and says nothing of what is none.
            if let Ok(name) = spelling.parse::<PersonName>() {
                let facts = facts("127.0.0.1", Some(name), None);
                let answer = type_at_gateway(&node, facts, Some(WRONG), Some("000000")).await;
                assert!(matches!(answer, AuthenticationAnswer::Refused { .. }));
            }
        }
        let checked = "SELECT count(*) FROM audit_entry WHERE entry LIKE '%\"claimed\":\"alice\"%'
             AND entry LIKE '%authentication.failed%'";
        assert_eq!(home.count(checked).await, 5, "{}", home.kind());

        // Not even what is right is told from what is wrong.
        let code = node.next_code(&alice);
        let (status, _) = sign_in(&node, "127.0.0.1", "alice", PASSWORD, &code).await;
        assert_eq!(status, 429, "{}", home.kind());
        node.clock.advance(Duration::from_secs(15 * 60));
        let code = node.next_code(&alice);
        let (status, _) = sign_in(&node, "127.0.0.1", "alice", PASSWORD, &code).await;
        assert_eq!(status, 200, "{}: it ends by itself", home.kind());
    }
}

/// R8, O5: three wrong guesses in a row bar their source for a while, whatever name they were about, and
/// nothing of it is charged to the name it then tries.
#[tokio::test]
async fn given_a_source_that_guesses_then_it_is_barred_and_nobody_else_is() {
    let home = Home::sqlite();
    let node = node_on(&home).await;
    let owner = node.owner().await;
    let guesser = "2001:db8::bad:1";
    for name in ["nobody", "somebody", "anybody"] {
        assert_eq!(sign_in(&node, guesser, name, WRONG, "000000").await.0, 401);
    }
    for same_host in [guesser, "2001:db8::bad:2"] {
        for _ in 0..10 {
            let (status, answer) = sign_in(&node, same_host, "olga", WRONG, "000000").await;
            assert_eq!(
                (status, answer["code"].as_str()),
                (429, Some("too-many-attempts")),
                "{same_host}"
            );
        }
        let enrol = json!({ "code": "0000-0000", "password": PASSWORD });
        let answer = node.call_from(address(same_host), "", "POST", "/v1/enrol", Some(enrol));
        assert_eq!(answer.await.0, 429, "{same_host}");
        let claimed = Some("olga".parse().unwrap());
        let facts = facts(same_host, claimed, None);
        let answer = type_at_gateway(&node, facts, Some(WRONG), Some("000000")).await;
        assert_eq!(answer, LOCKED);
    }
    let code = node.next_code(&owner);
    let elsewhere = "2001:db8:0:1::1";
    let (status, answer) = sign_in(&node, elsewhere, "olga", PASSWORD, &code).await;
    assert_eq!(status, 200, "she was not locked: {answer}");
    assert_eq!(
        node.call_from(address(guesser), &owner.token, "GET", "/v1/whoami", None)
            .await
            .0,
        200,
        "who is signed in at the same address goes on"
    );
    // Thirty seconds have passed for the code, and so has the penalty.
    assert_eq!(
        sign_in(&node, guesser, "olga", WRONG, "000000").await.0,
        401
    );
}

/// R8: an address that stands for many people is not penalised; which ones do, the operator says.
#[tokio::test]
async fn given_an_exempt_network_then_its_guesses_count_for_names_only() {
    let home = Home::sqlite();
    let node = Node::start_with(|config| {
        home.configure(config);
        config.sign_in.penalties_exempt = vec!["10.0.0.0/8".parse().unwrap()];
    })
    .await;
    node.owner().await;
    for attempt in 0..20 {
        let name = format!("nobody-{attempt}");
        assert_eq!(sign_in(&node, "10.1.2.3", &name, WRONG, "0").await.0, 401);
    }
    for attempt in 0..4 {
        let expected = if attempt < 3 { 401 } else { 429 };
        let (status, _) = sign_in(&node, "127.0.0.1", "nobody", WRONG, "0").await;
        assert_eq!(status, expected, "this machine is exempt no more");
    }
}

/// O5, R8, ID-5, AC-7: a stranger who locks a name on purpose stops neither its key with a one-time code,
/// nor what is signed in, nor break-glass.
#[tokio::test]
async fn given_a_name_locked_by_a_stranger_then_its_person_still_gets_in_and_breaks_glass() {
    for home in [Home::sqlite()] {
        let node = node_on(&home).await;
        let owner = node.owner().await;
        node.target(&owner, "medium").await;
        let groups = &["operators", "break-glass"];
        let alice = node.person(&owner, "alice", groups, &[]).await;
        let key = json!({ "public_key": ALICE_KEY, "label": "laptop" });
        node.ok(&alice, "POST", "/v1/self/keys", Some(key)).await;
        for guess in 0..6 {
            let from = format!("203.0.113.{guess}");
            sign_in(&node, &from, "alice", WRONG, "000000").await;
        }
        let claimed = Some("alice".parse().unwrap());
        let stranger = facts("203.0.113.99", claimed, None);
        let answer = type_at_gateway(&node, stranger, Some(WRONG), Some("000000")).await;
        assert_eq!(answer, LOCKED, "{}: the name is locked", home.kind());

        let key = prove_key(&node).await;
        let code = node.next_code(&alice);
        let beside = facts("203.0.113.1", None, Some(&key));
        match type_at_gateway(&node, beside, None, Some(&code)).await {
            AuthenticationAnswer::Proven { strength, .. } => assert_eq!(strength, MultiFactor),
            refused @ AuthenticationAnswer::Refused { .. } => {
                panic!("{}: {refused:?}", home.kind())
            }
        }
        let ask = json!({ "account": "root", "target": "web-1", "reason": "the site is down" });
        let granted = node.ok(&alice, "POST", "/v1/break-glass", Some(ask)).await;
        assert_eq!(granted["state"], "granted", "{}", home.kind());
    }
}

/// R8: who stole a key gets five guesses at the code beside it, and they lock the other doors too.
#[tokio::test]
async fn given_guesses_beside_a_stolen_key_then_five_are_checked_and_the_name_is_locked() {
    let home = Home::sqlite();
    let node = node_on(&home).await;
    let owner = node.owner().await;
    let alice = node.person(&owner, "alice", &[], &[]).await;
    let key = json!({ "public_key": ALICE_KEY, "label": "laptop" });
    node.ok(&alice, "POST", "/v1/self/keys", Some(key)).await;
    let key = prove_key(&node).await;
    let mut guesses = JoinSet::new();
    for guess in 0..50 {
        let node = node.shared();
        let beside = facts("192.0.2.1", None, Some(&key));
        guesses.spawn(async move {
            let code = format!("{guess:06}");
            type_at_gateway(&node, beside, None, Some(&code)).await
        });
    }
    guesses.join_all().await;
    let checked = "SELECT count(*) FROM audit_entry WHERE entry LIKE '%wrong-code%'";
    assert_eq!(home.count(checked).await, 5);
    let code = node.next_code(&alice);
    let (status, _) = sign_in(&node, "127.0.0.1", "alice", PASSWORD, &code).await;
    assert_eq!(status, 429);
}

/// R8, R22: a crowd at one address has a few of the places where passwords are hashed; others are served.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_crowd_at_one_address_then_somebody_elsewhere_is_served() {
    let home = Home::sqlite();
    let node = node_on(&home).await;
    let owner = node.owner().await;
    for round in 0..effort::rounds(2) {
        let mut crowd = JoinSet::new();
        for guess in 0..80 {
            let node = node.shared();
            crowd.spawn(async move {
                let name = format!("nobody-{round}-{guess}");
                sign_in(&node, "203.0.113.1", &name, WRONG, "000000")
                    .await
                    .0
            });
        }
        let code = node.next_code(&owner);
        let (status, answer) = sign_in(&node, "198.51.100.7", "olga", PASSWORD, &code).await;
        assert_eq!(status, 200, "round {round}: {answer}");
        let statuses = crowd.join_all().await;
        let checked = statuses.iter().filter(|status| **status == 401).count();
        assert!(
            checked <= 16,
            "round {round}: {checked} of the crowd were checked"
        );
        node.clock.advance(Duration::from_secs(600));
    }
}
