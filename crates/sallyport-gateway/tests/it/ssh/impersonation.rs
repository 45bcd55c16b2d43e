//! Proofs that prove nothing, or prove somebody else: at the SSH door, with a raw client.
//!
//! Every attack is followed by the honest form of the same proof, which is let in: what is refused is
//! refused for what is wrong with it.

use sallyport_core::{authz::Unmet, principal::AuthenticationStrength};

use super::{
    wire::{self, Message, Wire, WireKey, number, plain},
    world::{World, within},
};
use crate::control::{PATIENCE, SystemClock};
use sallyport_core::time::Clock as _;

const USER: &str = "root@web-1";

/// A world where `alice` and `bob` have a key each.
async fn two_people() -> (World, WireKey, WireKey) {
    let (alice, bob) = (WireKey::generate(), WireKey::generate());
    let world = World::with(|rules| {
        rules.keys.insert(alice.line(), "alice".parse().unwrap());
        rules.keys.insert(bob.line(), "bob".parse().unwrap());
    })
    .await;
    (world, alice, bob)
}

async fn at_the_door(world: &World) -> Wire {
    let mut wire = Wire::keyed(world.gateway).await.unwrap();
    wire.begin_authentication().await.unwrap();
    wire
}

/// The answer to a proof; nothing when the connection is cut.
async fn answered(wire: &mut Wire, proof: &[u8]) -> Option<u8> {
    let answers = [
        number::USERAUTH_SUCCESS,
        number::USERAUTH_FAILURE,
        number::USERAUTH_PK_OK,
    ];
    within(PATIENCE, wire.ask(proof, &answers)).await.ok()
}

/// Whoever is refused gets neither a session nor as much as a proof, and may still sign in honestly.
async fn refused(world: &World, wire: &mut Wire, proof: &[u8], what: &str) {
    let before = world.control.told(|told| told.proofs.len());
    let answer = answered(wire, proof).await;
    assert!(
        matches!(answer, None | Some(number::USERAUTH_FAILURE)),
        "{what}: {answer:?}"
    );
    let (proofs, opens) = world
        .control
        .told(|told| (told.proofs.len(), told.opens.len()));
    assert_eq!((proofs, opens), (before, 0), "{what}");
}

/// A8: the key that is offered is the key that must sign, over this connection, person and purpose.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_signature_that_is_not_of_the_offered_key_over_this_request_then_it_is_refused() {
    let (world, alice, bob) = two_people().await;

    let mut wire = at_the_door(&world).await;
    let offer = wire::key_request(USER, 0, "ssh-ed25519", &alice.blob()).0;
    assert_eq!(
        answered(&mut wire, &offer).await,
        Some(number::USERAUTH_PK_OK)
    );
    let other_key = wire.key_proof(USER, &alice, &bob);
    refused(&world, &mut wire, &other_key, "offered A, signed by B").await;

    let mut other = at_the_door(&world).await;
    let elsewhere = other.key_proof(USER, &alice, &alice);
    refused(&world, &mut wire, &elsewhere, "of another connection").await;

    let request = |user: &str| wire::key_request(user, 1, "ssh-ed25519", &alice.blob());
    let signature = |bytes: Vec<u8>| request(USER).text(alice.sign(&bytes)).0;
    let over = |start: &[u8], request: &[u8]| [start, request].concat();
    let session_id = plain().text(wire.session_id()).0;
    for (what, proof) in [
        (
            "for another user",
            signature(over(&session_id, &request("root@db-1").0)),
        ),
        ("without the connection", signature(request(USER).0)),
        ("over nothing", signature(Vec::new())),
    ] {
        // One connection takes few failures.
        let mut wire = at_the_door(&world).await;
        refused(&world, &mut wire, &proof, what).await;
    }
    // The other connection is as good as ever.
    let honest = other.key_proof(USER, &alice, &alice);
    assert_eq!(
        answered(&mut other, &honest).await,
        Some(number::USERAUTH_SUCCESS)
    );
}

/// A7: an offer is not a proof, in whatever it is wrapped.
#[tokio::test(flavor = "multi_thread")]
async fn given_an_offer_without_a_signature_then_nothing_is_proven() {
    let (world, alice, _) = two_people().await;
    let blob = alice.blob();
    let requests = [
        wire::key_request(USER, 1, "ssh-ed25519", &blob),
        wire::key_request(USER, 1, "ssh-ed25519", &blob).text(""),
        wire::key_request(USER, 1, "ssh-ed25519", &blob).text("ssh-ed25519"),
        wire::key_request(USER, 1, "ssh-ed25519", &blob)
            .text(plain().text("ssh-ed25519").text("").0),
        wire::key_request(USER, 1, "ssh-ed25519", &blob)
            .text(plain().text("ssh-ed25519").text([0; 64]).0),
        wire::key_request(USER, 1, "ssh-ed25519", &blob).text(plain().text("none").text("").0),
        wire::key_request(USER, 1, "none", &blob).text(""),
        Message::new(number::USERAUTH_REQUEST)
            .text(USER)
            .text("ssh-connection")
            .text("none"),
        Message::new(number::USERAUTH_REQUEST)
            .text(USER)
            .text("ssh-connection")
            .text("hostbased")
            .text("ssh-ed25519")
            .text(&blob)
            .text("web-1")
            .text("root")
            .text(""),
        Message::new(number::USERAUTH_REQUEST)
            .text(USER)
            .text("ssh-connection")
            .text("password")
            .byte(0)
            .text(""),
    ];
    for (turn, request) in requests.into_iter().enumerate() {
        let mut wire = at_the_door(&world).await;
        refused(&world, &mut wire, &request.0, &format!("offer {turn}")).await;
        let honest = wire.key_proof(USER, &alice, &alice);
        if let Some(answer) = answered(&mut wire, &honest).await {
            assert_eq!(answer, number::USERAUTH_SUCCESS, "offer {turn}");
        }
        world.control.forget();
    }
}

fn wants_a_code() -> Vec<Unmet> {
    vec![Unmet::Mfa {
        strength: AuthenticationStrength::MultiFactor,
        max_age_s: None,
    }]
}

/// Answers the prompts of one round.
fn typed(answers: &[&str]) -> Vec<u8> {
    let count = u32::try_from(answers.len()).unwrap();
    let message = Message::new(number::INFO_RESPONSE).number(count);
    answers.iter().fold(message, Message::text_ref).0
}

fn keyboard(user: &str) -> Vec<u8> {
    Message::new(number::USERAUTH_REQUEST)
        .text(user)
        .text("ssh-connection")
        .text("keyboard-interactive")
        .text("")
        .text("")
        .0
}

/// A9: the first factor of one person and the second of another are nobody's two factors, whichever
/// name the second comes under.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_key_of_alice_and_a_code_of_bob_then_nobody_is_let_in() {
    for second in ["bob:root@web-1", "alice:root@web-1", USER, "root@db-1"] {
        let (alice, bob) = (WireKey::generate(), WireKey::generate());
        let world = World::with(|rules| {
            rules.keys.insert(alice.line(), "alice".parse().unwrap());
            rules.keys.insert(bob.line(), "bob".parse().unwrap());
            rules.unmet = wants_a_code();
            let code = |code: &str| ("a password of theirs".to_owned(), code.to_owned());
            rules
                .secrets
                .insert("alice".parse().unwrap(), code("111111"));
            rules.secrets.insert("bob".parse().unwrap(), code("222222"));
        })
        .await;
        let mut wire = at_the_door(&world).await;
        let first = wire.key_proof(USER, &alice, &alice);
        // Right, and not enough.
        assert_eq!(
            answered(&mut wire, &first).await,
            Some(number::USERAUTH_FAILURE)
        );
        let prompts = [number::USERAUTH_PK_OK, number::USERAUTH_FAILURE];
        let asked = within(PATIENCE, wire.ask(&keyboard(second), &prompts)).await;
        if asked.is_ok_and(|asked| asked == number::USERAUTH_PK_OK) {
            for answers in [&["222222"][..], &["a password of theirs", "222222"]] {
                let answer = answered(&mut wire, &typed(answers)).await;
                assert_ne!(answer, Some(number::USERAUTH_SUCCESS), "{second}");
            }
        }
        let people = world.control.told(|told| told.opens.len());
        // Alice's key alone was asked about; nothing came of it.
        assert!(people <= 2, "{second}");
        assert_eq!(world.sshd.connections(), 0, "{second}");
        assert_eq!(world.control.sessions(), 0, "{second}");
    }
}

/// A user certificate, with what an attack changes.
struct Certificate {
    kind: u32,
    principals: Vec<&'static str>,
    from: u64,
    until: u64,
    critical: Vec<u8>,
    /// Signs in place of the authority, under the authority's name.
    forger: Option<WireKey>,
    /// The blob that is named as the authority.
    authority: Vec<u8>,
}

impl Certificate {
    fn honest(authority: &WireKey) -> Self {
        let now = u64::try_from(SystemClock.now().unix_ms() / 1_000).unwrap();
        Self {
            kind: 1,
            principals: vec!["alice"],
            from: now - 60,
            until: now + 600,
            critical: Vec::new(),
            forger: None,
            authority: authority.blob(),
        }
    }

    fn blob(&self, key: &WireKey, authority: &WireKey) -> Vec<u8> {
        let public = key.blob();
        let mut rest = &public[..];
        wire::take_text(&mut rest).unwrap();
        let point = wire::take_text(&mut rest).unwrap();
        let principals = self.principals.iter().fold(plain(), Message::text_ref).0;
        let mut body = plain()
            .text("ssh-ed25519-cert-v01@openssh.com")
            .text([5; 32])
            .text(point);
        body.0.extend(1_u64.to_be_bytes());
        let mut body = body.number(self.kind).text("alice").text(principals);
        body.0.extend(self.from.to_be_bytes());
        body.0.extend(self.until.to_be_bytes());
        let body = body.text(&self.critical).text("").text("");
        let body = body.text(&self.authority);
        let signature = self.forger.as_ref().unwrap_or(authority).sign(&body.0);
        body.text(signature).0
    }
}

/// A16, A17: certificates that are not for signing in, not yet or no longer valid, for nobody, limited
/// in a way we do not know, or of somebody else's making prove nothing: control is not even asked.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_certificate_that_is_wrong_in_any_way_then_it_proves_nobody() {
    let (authority, key) = (WireKey::generate(), WireKey::generate());
    let world = World::with(|rules| rules.authorities = vec![authority.line()]).await;
    let honest = || Certificate::honest(&authority);
    let now = honest().from + 60;
    let option = plain().text("force-command").text(plain().text("id").0).0;
    let unknown = plain().text("no-such-option@example.com").text("").0;
    // A certificate in the place of the key that signed: authorities are plain keys.
    let other = WireKey::generate();
    let nested = honest().blob(&other, &authority);
    let changed = |change: &dyn Fn(&mut Certificate)| {
        let mut certificate = honest();
        change(&mut certificate);
        certificate
    };
    let attacks: Vec<(&str, Certificate)> = vec![
        ("of a host", changed(&|one| one.kind = 2)),
        ("of no known type", changed(&|one| one.kind = 7)),
        ("for nobody", changed(&|one| one.principals.clear())),
        ("expired", changed(&|one| one.until = now - 1)),
        ("not yet valid", changed(&|one| one.from = now + 300)),
        (
            "ends before it begins",
            changed(&|one| (one.from, one.until) = (now + 10, now - 10)),
        ),
        (
            "limited to a command",
            changed(&|one| one.critical = option.clone()),
        ),
        (
            "limited by the unknown",
            changed(&|one| one.critical = unknown.clone()),
        ),
        (
            "signed by another key",
            changed(&|one| one.forger = Some(WireKey::generate())),
        ),
        (
            "of another authority",
            changed(&|one| {
                let forger = WireKey::generate();
                one.authority = forger.blob();
                one.forger = Some(forger);
            }),
        ),
        (
            "of a nested authority",
            changed(&|one| one.authority = nested.clone()),
        ),
        ("of no authority", changed(&|one| one.authority.clear())),
    ];
    let algorithm = "ssh-ed25519-cert-v01@openssh.com";
    for (what, certificate) in attacks {
        let mut wire = at_the_door(&world).await;
        let blob = certificate.blob(&key, &authority);
        let proof = wire.signed(wire::key_request(USER, 1, algorithm, &blob), &key);
        refused(&world, &mut wire, &proof, what).await;
    }
    // Another's certificate, stolen without its key.
    let mut wire = at_the_door(&world).await;
    let blob = honest().blob(&key, &authority);
    let request = || wire::key_request(USER, 1, algorithm, &blob);
    let proof = wire.signed(request(), &other);
    refused(&world, &mut wire, &proof, "without its key").await;

    let proof = wire.signed(request(), &key);
    assert_eq!(
        answered(&mut wire, &proof).await,
        Some(number::USERAUTH_SUCCESS),
        "an honest certificate was refused"
    );
    let proofs = world.control.told(|told| told.proofs.clone());
    assert_eq!(proofs, ["certificate"]);
}
