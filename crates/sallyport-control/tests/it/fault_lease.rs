//! Credentials over restarts: none outlives its grant, and none is forgotten.

use std::{collections::HashMap, time::Duration};

use sallyport_api::gateway::Reply;
use sallyport_control::{access, broker, lock};
use sallyport_core::{
    event::Actor,
    id::GatewayId,
    lock::LockScope,
    time::{Clock as _, Timestamp},
};
use sallyport_testkit::effort;
use serde_json::{Value, json};

use crate::support::{
    chance::Random,
    gateway::FakeGateway,
    node::{Node, Person},
};

const ALICE_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g";
/// How long after its end a credential may still be there (R14).
const LATE: Duration = Duration::from_secs(5);

const SEED: u64 = 14;

/// What the jobs of a running node do in one second, in the order of its start.
async fn second(node: &Node) {
    node.clock.advance(Duration::from_secs(1));
    access::jobs::expire(&node.control).await.unwrap();
    broker::lease::revoke_due(&node.control).await.unwrap();
}

async fn leases(node: &Node, owner: &Person) -> Vec<Value> {
    let mut all = Vec::new();
    let mut path = "/v1/leases?limit=200".to_owned();
    loop {
        let page = node.ok(owner, "GET", &path, None).await;
        all.extend(page["items"].as_array().unwrap().clone());
        match page["next"].as_str() {
            Some(next) => path = format!("/v1/leases?limit=200&after={next}"),
            None => return all,
        }
    }
}

/// Ends the grant of one lease that is alive, so that its credential is over before its time.
async fn take_back_one(
    node: &Node,
    [owner, alice]: [&Person; 2],
    random: &mut Random,
    ends: &mut HashMap<String, Timestamp>,
) {
    let leases = leases(node, owner).await;
    let is_alive = |lease: &&Value| lease["state"] == "issued";
    let alive: Vec<&Value> = leases.iter().filter(is_alive).collect();
    let count = u64::try_from(alive.len()).unwrap();
    let lease = alive[usize::try_from(random.below(count)).unwrap()];
    let grant_id = lease["grant_id"].as_str().unwrap();
    let reason = json!({ "reason": "done" });
    let path = format!("/v1/grants/{grant_id}/end");
    node.ok(alice, "POST", &path, Some(reason)).await;
    let of_grant = leases.iter().filter(|lease| lease["grant_id"] == grant_id);
    for lease in of_grant {
        let end = ends.get_mut(lease["id"].as_str().unwrap()).unwrap();
        *end = node.clock.now().min(*end);
    }
}

/// Every lease that was made is known, and over where its end was five seconds ago.
async fn none_is_late(
    node: &Node,
    owner: &Person,
    ends: &HashMap<String, Timestamp>,
    restart: usize,
) {
    let now = node.clock.now();
    let found = leases(node, owner).await;
    for (id, end) in ends {
        let lease = found.iter().find(|lease| lease["id"] == id.as_str());
        let lease = lease.unwrap_or_else(|| panic!("seed {SEED}: {id} is lost"));
        assert!(
            lease["state"] == "revoked" || now <= end.plus(LATE),
            "seed {SEED}, restart {restart}: alive {:?} after its end: {lease}",
            now.since(*end)
        );
    }
}

/// R14, D4, VA-4: over restarts at random moments no lease lives longer than its grant and five seconds,
/// whether that ran out or was ended, and every lease that was ever made is still known.
#[tokio::test]
async fn given_restarts_at_random_then_no_lease_outlives_its_grant_and_none_is_lost() {
    let mut random = Random(SEED);
    let mut node = Node::start_with(|config| {
        config.sign_in.token_ttl = Duration::from_secs(24 * 3600);
    })
    .await;
    let owner = node.owner().await;
    node.target(&owner, "low").await;
    let alice = node.person(&owner, "alice", &["operators"], &[]).await;
    let key = json!({ "public_key": ALICE_KEY, "label": "laptop" });
    node.ok(&alice, "POST", "/v1/self/keys", Some(key)).await;
    for number in 0..5 {
        let account =
            json!({ "target": "web-1", "name": format!("a{number}"), "engine": "ssh_ca" });
        node.ok(&owner, "POST", "/v1/accounts", Some(account)).await;
    }
    let mut ends: HashMap<String, Timestamp> = HashMap::new();
    for restart in 0..effort::rounds(4) {
        let listener = broker::rpc::bind(&node.control).unwrap();
        let serving = tokio::spawn(listener.serve(node.control.clone()));
        let id = GatewayId::new(node.clock.now(), [1; 10]);
        let mut gateway = FakeGateway::connect(&node.socket(), id, vec![]).await;
        let proof = gateway.proven(ALICE_KEY).await;
        for number in 0..5 {
            let duration_s = 30 + random.below(90);
            let ask = json!({
                "account": format!("a{number}"), "target": "web-1", "reason": "rotate the logs",
                "duration_s": duration_s,
            });
            let (status, request) = node
                .call(&alice.token, "POST", "/v1/requests", Some(ask))
                .await;
            // One that has a live grant of before cannot ask for another.
            assert!(status < 500, "{request}");
            let opened = gateway.open_as(&proof, &format!("a{number}")).await;
            if status < 300 {
                assert!(
                    matches!(opened, Reply::Opened(_)),
                    "seed {SEED}: {request} {opened:?}"
                );
            }
        }
        for lease in leases(&node, &owner).await {
            let id = lease["id"].as_str().unwrap().to_owned();
            let end: Timestamp = lease["expires_at"].as_str().unwrap().parse().unwrap();
            ends.entry(id).or_insert(end);
        }
        take_back_one(&node, [&owner, &alice], &mut random, &mut ends).await;
        for _ in 0..random.below(40) {
            second(&node).await;
        }
        none_is_late(&node, &owner, &ends, restart).await;
        // As a crash: whatever is going on, and then another process with what is on disk.
        serving.abort();
        let _ = serving.await;
        node.control.stop();
        node.control.live().disconnect_all();
        assert!(gateway.hung_up().await);
        drop(gateway);
        // Down for a while, or only for a moment.
        let away = Duration::from_secs(random.below(200));
        let up_at = node.clock.now().plus(away);
        node = node.restart_at(up_at).await;
        broker::lease::sweep(&node.control).await.unwrap();
        for _ in 0..LATE.as_secs() {
            second(&node).await;
        }
        none_is_late(&node, &owner, &ends, restart).await;
    }
    assert!(ends.len() >= 5, "{} leases were made", ends.len());
    let everything = LockScope::Everything;
    lock::workflow::add(&node.control, Actor::System, everything, "the end", None)
        .await
        .unwrap();
    for _ in 0..200 {
        second(&node).await;
    }
    let found = leases(&node, &owner).await;
    assert!(
        found.iter().all(|lease| lease["state"] == "revoked"),
        "{found:?}"
    );
}
