//! Proofs made over a gateway: which factor proves what, to whom, on which connection, for how long.

use std::{net::IpAddr, time::Duration};

use sallyport_api::{
    gateway::{
        AuthenticationAnswer, AuthenticationFacts, PasswordProof, SshCertificateProof, SshKeyProof,
    },
    sensitive::Sensitive,
};
use sallyport_control::authn;
use sallyport_core::{
    authz::Reason,
    id::{AuthenticationId, GatewayId},
    principal::AuthenticationStrength::{self, MultiFactor, SingleFactor},
    time::{Clock as _, Timestamp},
};
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{
    home::Home,
    node::{Node, PASSWORD, Person},
};

const ALICE_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g";
const OTHER_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqt";

fn gateway(number: u8) -> GatewayId {
    GatewayId::new(Timestamp::EPOCH, [number; 10])
}

fn facts(claimed: Option<&str>, adds_to: Option<&AuthenticationId>) -> AuthenticationFacts {
    AuthenticationFacts {
        ip: IpAddr::from([192, 0, 2, 7]),
        claimed: claimed.map(|name| name.parse().unwrap()),
        connection: 1,
        adds_to: adds_to.cloned(),
    }
}

fn typed(facts: AuthenticationFacts, password: Option<&str>, code: Option<&str>) -> PasswordProof {
    PasswordProof {
        facts,
        password: password.map(|text| Sensitive::new(text.to_owned())),
        code: code.map(|text| Sensitive::new(text.to_owned())),
    }
}

async fn prove_key(node: &Node, facts: AuthenticationFacts, key: &str) -> AuthenticationAnswer {
    let proof = SshKeyProof {
        facts,
        public_key: key.to_owned(),
    };
    authn::prove_ssh_key(&node.control, &gateway(1), &proof)
        .await
        .unwrap()
}

async fn prove_typed(node: &Node, proof: PasswordProof) -> AuthenticationAnswer {
    authn::prove_password(&node.control, &gateway(1), &proof)
        .await
        .unwrap()
}

async fn prove_certificate(
    node: &Node,
    facts: AuthenticationFacts,
    certificate: &str,
) -> AuthenticationAnswer {
    let proof = SshCertificateProof {
        facts,
        certificate: certificate.to_owned(),
    };
    authn::prove_ssh_certificate(&node.control, &gateway(1), &proof)
        .await
        .unwrap()
}

#[track_caller]
fn proven(answer: AuthenticationAnswer) -> (AuthenticationId, AuthenticationStrength) {
    match answer {
        AuthenticationAnswer::Proven {
            authentication_id,
            strength,
            ..
        } => (authentication_id, strength),
        AuthenticationAnswer::Refused { reason } => panic!("refused: {reason:?}"),
    }
}

const REFUSED: AuthenticationAnswer = AuthenticationAnswer::Refused { reason: None };

struct Story {
    node: Node,
    alice: Person,
    bob: Person,
}

async fn story(home: &Home) -> Story {
    let node = Node::start_with(|config| {
        home.configure(config);
        config.sign_in.failures_max = 20;
    })
    .await;
    let owner = node.owner().await;
    let alice = node.person(&owner, "alice", &[], &[]).await;
    let bob = node.person(&owner, "bob", &[], &[]).await;
    let key = json!({ "public_key": ALICE_KEY, "label": "laptop" });
    node.ok(&alice, "POST", "/v1/self/keys", Some(key)).await;
    Story { node, alice, bob }
}

/// ID-5: a key is one factor; with a code it is two; a password alone is none.
#[tokio::test]
async fn given_factors_one_by_one_then_each_counts_for_what_it_is() {
    for home in Home::both() {
        let Story { node, alice, .. } = story(&home).await;
        let (key, strength) = proven(prove_key(&node, facts(None, None), ALICE_KEY).await);
        assert_eq!(strength, SingleFactor, "{}", home.kind());

        let code = node.next_code(&alice);
        let (both, strength) =
            proven(prove_typed(&node, typed(facts(None, Some(&key)), None, Some(&code))).await);
        assert_eq!(strength, MultiFactor);
        let (person_id, authentication) =
            authn::proof(&node.control, &gateway(1), 1, &both).unwrap();
        assert_eq!(authentication.methods, ["ssh_key", "totp"]);
        assert_eq!(authentication.at, node.clock.now());
        assert!(
            authn::proof(&node.control, &gateway(1), 1, &key).is_none(),
            "replaced"
        );
        assert!(
            authn::proof(&node.control, &gateway(1), 2, &both).is_none(),
            "another connection"
        );
        assert!(
            authn::proof(&node.control, &gateway(2), 1, &both).is_none(),
            "another gateway"
        );

        let code = node.next_code(&alice);
        for (password, code) in [
            (Some(PASSWORD), None),
            (None, Some(code.as_str())),
            (None, None),
        ] {
            let proof = typed(facts(Some("alice"), None), password, code);
            assert_eq!(prove_typed(&node, proof).await, REFUSED);
        }
        let proof = typed(facts(Some("alice"), None), Some(PASSWORD), Some(&code));
        let (id, strength) = proven(prove_typed(&node, proof).await);
        assert_eq!(strength, MultiFactor);
        let (same, _) = authn::proof(&node.control, &gateway(1), 1, &id).unwrap();
        assert_eq!(same, person_id);
    }
}

/// ID-5: a key and a password are two factors too.
#[tokio::test]
async fn given_a_key_and_a_password_then_they_are_two_factors() {
    let home = Home::sqlite();
    let Story { node, .. } = story(&home).await;
    let (key, _) = proven(prove_key(&node, facts(Some("alice"), None), ALICE_KEY).await);
    let wrong = typed(facts(None, Some(&key)), Some("not the password!"), None);
    assert_eq!(prove_typed(&node, wrong).await, REFUSED);
    let right = typed(facts(None, Some(&key)), Some(PASSWORD), None);
    assert_eq!(proven(prove_typed(&node, right).await).1, MultiFactor);
}

/// ID-5: factors of two people prove neither.
#[tokio::test]
async fn given_one_factor_of_alice_and_one_of_bob_then_nobody_is_proven() {
    let home = Home::sqlite();
    let Story { node, alice, bob } = story(&home).await;
    let (key, _) = proven(prove_key(&node, facts(None, None), ALICE_KEY).await);
    let bobs_code = node.next_code(&bob);

    let claims_bob = typed(facts(Some("bob"), Some(&key)), None, Some(&bobs_code));
    assert_eq!(prove_typed(&node, claims_bob).await, REFUSED);
    let bobs_for_alice = typed(facts(None, Some(&key)), None, Some(&bobs_code));
    assert_eq!(prove_typed(&node, bobs_for_alice).await, REFUSED);
    assert_eq!(
        prove_key(&node, facts(Some("bob"), None), ALICE_KEY).await,
        REFUSED
    );

    let proof = typed(facts(Some("bob"), None), Some(PASSWORD), Some(&bobs_code));
    let (bob_proven, _) = proven(prove_typed(&node, proof).await);
    assert_eq!(
        prove_key(&node, facts(None, Some(&bob_proven)), ALICE_KEY).await,
        REFUSED
    );
    let unknown = AuthenticationId::new(Timestamp::EPOCH, [9; 10]);
    let code = node.next_code(&alice);
    let adds_to_nothing = typed(
        facts(Some("alice"), Some(&unknown)),
        Some(PASSWORD),
        Some(&code),
    );
    assert_eq!(prove_typed(&node, adds_to_nothing).await, REFUSED);
}

/// ID-5: whoever is unknown, disabled or claims another name hears the same.
#[tokio::test]
async fn given_keys_that_prove_nobody_then_the_answers_are_the_same() {
    let home = Home::sqlite();
    let Story { node, alice, .. } = story(&home).await;
    for (claimed, key) in [
        (None, OTHER_KEY),
        (Some("alice"), OTHER_KEY),
        (Some("nobody"), ALICE_KEY),
        (Some("bob"), ALICE_KEY),
        (None, "ssh-rsa AAAA"),
        (None, ""),
    ] {
        assert_eq!(
            prove_key(&node, facts(claimed, None), key).await,
            REFUSED,
            "{claimed:?} {key}"
        );
    }
    let keys = node.ok(&alice, "GET", "/v1/self/keys", None).await;
    let id = keys["items"][0]["id"].as_str().unwrap().to_owned();
    node.ok(&alice, "DELETE", &format!("/v1/self/keys/{id}"), None)
        .await;
    assert_eq!(
        prove_key(&node, facts(None, None), ALICE_KEY).await,
        REFUSED,
        "removed"
    );
    let failures = "SELECT count(*) FROM audit_entry WHERE entry LIKE '%authentication.failed%'";
    assert_eq!(home.count(failures).await, 7, "each is on record");
}

/// ID-5: the doors share one counter; a key does not care about it.
#[tokio::test]
async fn given_failures_at_both_doors_then_they_add_up_and_a_key_still_proves_its_person() {
    let home = Home::sqlite();
    let node = Node::start_with(|config| home.configure(config)).await;
    let owner = node.owner().await;
    let alice = node.person(&owner, "alice", &[], &[]).await;
    let key = json!({ "public_key": ALICE_KEY, "label": "laptop" });
    node.ok(&alice, "POST", "/v1/self/keys", Some(key)).await;

    for _ in 0..3 {
        let body = json!({ "name": "Alice", "password": "not the password!", "code": "000000" });
        assert_eq!(
            node.call("", "POST", "/v1/sign-in", Some(body)).await.0,
            401
        );
    }
    let (key, _) = proven(prove_key(&node, facts(None, None), ALICE_KEY).await);
    let guess = || typed(facts(None, Some(&key)), None, Some("000000"));
    for _ in 0..2 {
        assert_eq!(prove_typed(&node, guess()).await, REFUSED);
    }
    let locked = AuthenticationAnswer::Refused {
        reason: Some(Reason::TooManyAttempts),
    };
    let code = node.next_code(&alice);
    let right = typed(facts(Some("alice"), None), Some(PASSWORD), Some(&code));
    assert_eq!(prove_typed(&node, right).await, locked);
    let body = json!({ "name": "alice", "password": PASSWORD, "code": code });
    assert_eq!(
        node.call("", "POST", "/v1/sign-in", Some(body)).await.0,
        429
    );
    let (_, strength) = proven(prove_key(&node, facts(None, None), ALICE_KEY).await);
    assert_eq!(
        strength, SingleFactor,
        "a stranger who fails on purpose does not keep her out"
    );
    // Beside the key there are guesses of its own, as few.
    for _ in 0..3 {
        assert_eq!(prove_typed(&node, guess()).await, REFUSED);
    }
    assert_eq!(prove_typed(&node, guess()).await, locked);
}

/// ID-5: one code over two doors at once is used once.
#[tokio::test(flavor = "multi_thread")]
async fn given_one_code_at_both_doors_at_once_then_it_is_used_once() {
    for home in Home::both() {
        let Story { node, alice, .. } = story(&home).await;
        let code = node.next_code(&alice);
        let mut attempts = JoinSet::new();
        for attempt in 0..50 {
            let (node, code) = (node.shared(), code.clone());
            attempts.spawn(async move {
                if attempt % 2 == 0 {
                    let body = json!({ "name": "alice", "password": PASSWORD, "code": code });
                    return node.call("", "POST", "/v1/sign-in", Some(body)).await.0 == 200;
                }
                let mut facts = facts(Some("alice"), None);
                facts.connection = attempt;
                let answer = prove_typed(&node, typed(facts, Some(PASSWORD), Some(&code))).await;
                matches!(answer, AuthenticationAnswer::Proven { .. })
            });
        }
        let succeeded = attempts
            .join_all()
            .await
            .into_iter()
            .filter(|is_in| *is_in)
            .count();
        assert_eq!(succeeded, 1, "{}", home.kind());
    }
}

/// ID-5: the certificate of a sign-in proves what the sign-in proved, for as long as it lasts.
#[tokio::test]
async fn given_a_certificate_from_sign_in_then_it_carries_the_sign_in_and_ends_with_it() {
    for home in Home::both() {
        let Story { node, alice, bob } = story(&home).await;
        let code = node.next_code(&alice);
        let body = json!({
            "name": "alice", "password": PASSWORD, "code": code, "ssh_public_key": OTHER_KEY,
        });
        let (status, signed_in) = node.call("", "POST", "/v1/sign-in", Some(body)).await;
        assert_eq!(status, 200, "{signed_in}");
        let signed_in_at = node.clock.now();
        let certificate = signed_in["ssh_certificate"].as_str().unwrap();
        node.clock.advance(Duration::from_secs(3_600));

        let (id, strength) =
            proven(prove_certificate(&node, facts(Some("alice"), None), certificate).await);
        assert_eq!(strength, MultiFactor, "{}", home.kind());
        let (_, authentication) = authn::proof(&node.control, &gateway(1), 1, &id).unwrap();
        assert_eq!(
            authentication.at, signed_in_at,
            "the time of the sign-in, not of the connection"
        );
        assert_eq!(authentication.methods, ["ssh_certificate"]);

        assert_eq!(
            prove_certificate(&node, facts(Some("bob"), None), certificate).await,
            REFUSED
        );
        assert_eq!(
            prove_certificate(&node, facts(None, None), OTHER_KEY).await,
            REFUSED
        );
        let mut forged = certificate.to_owned();
        forged.replace_range(200..201, if &forged[200..201] == "A" { "B" } else { "A" });
        assert_eq!(
            prove_certificate(&node, facts(None, None), &forged).await,
            REFUSED
        );
        assert_eq!(
            prove_key(&node, facts(None, None), OTHER_KEY).await,
            REFUSED,
            "certified is not registered"
        );
        assert_eq!(
            node.call(&bob.token, "GET", "/v1/whoami", None).await.0,
            200
        );

        let token = signed_in["token"].as_str().unwrap();
        assert_eq!(node.call(token, "POST", "/v1/sign-out", None).await.0, 204);
        assert_eq!(
            prove_certificate(&node, facts(None, None), certificate).await,
            REFUSED,
            "signing out ends it"
        );
    }
}

/// ID-5
#[tokio::test]
async fn given_a_certificate_when_its_sign_in_runs_out_then_it_proves_nothing() {
    let home = Home::sqlite();
    let Story { node, alice, .. } = story(&home).await;
    let code = node.next_code(&alice);
    let body =
        json!({ "name": "alice", "password": PASSWORD, "code": code, "ssh_public_key": OTHER_KEY });
    let (_, signed_in) = node.call("", "POST", "/v1/sign-in", Some(body)).await;
    let certificate = signed_in["ssh_certificate"].as_str().unwrap();
    node.clock.advance(Duration::from_secs(8 * 3_600 - 1));
    proven(prove_certificate(&node, facts(None, None), certificate).await);
    node.clock.advance(Duration::from_secs(1));
    assert_eq!(
        prove_certificate(&node, facts(None, None), certificate).await,
        REFUSED
    );
}
