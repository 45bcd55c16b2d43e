//! Ids are no keys: what belongs to somebody else is answered like what does not exist, on every route.

use sallyport_api::gateway::{Call, Reply};
use sallyport_control::{broker, routes};
use sallyport_core::{
    access::Quorum,
    id::{GatewayId, OperationId},
    time::Clock as _,
};
use serde_json::{Value, json};

use crate::support::{
    gateway::{FakeGateway, holding, session_of},
    node::{Node, Person},
};

const ALICE_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g";

/// Routes whose objects everybody who may call them may see; each with why.
const SHARED: [(&str, &str); 2] = [
    ("/v1/targets/{name}", "people choose targets from the list"),
    ("/v1/accounts/{selector}", "people ask for accounts by name"),
];

struct Story {
    node: Node,
    bob: Person,
    alice: Person,
    mallory: Person,
    gateway: FakeGateway,
}

/// Alice has one of everything that a person can have.
async fn story() -> Story {
    let node = Node::start().await;
    let owner = node.owner().await;
    node.target(&owner, "medium").await;
    let groups = &["operators", "break-glass"];
    let alice = node.person(&owner, "alice", groups, &[]).await;
    let roles = &["approver", "security", "auditor"];
    let bob = node.person(&owner, "bob", &[], roles).await;
    let mallory = node.person(&owner, "mallory", &["operators"], &[]).await;
    let key = json!({ "public_key": ALICE_KEY, "label": "laptop" });
    node.ok(&alice, "POST", "/v1/self/keys", Some(key)).await;
    let token = json!({ "label": "ci", "scopes": ["self.show"], "ttl_s": 3600 });
    node.ok(&alice, "POST", "/v1/self/tokens", Some(token))
        .await;
    let admin = json!({ "target": "web-1", "name": "admin", "engine": "ssh_ca" });
    node.ok(&owner, "POST", "/v1/accounts", Some(admin)).await;
    let ask = |account: &str| json!({ "account": account, "target": "web-1", "reason": "the site is down" });
    node.ok(&alice, "POST", "/v1/break-glass", Some(ask("admin")))
        .await;
    let request = node
        .ok(&alice, "POST", "/v1/requests", Some(ask("root")))
        .await;
    let path = format!("/v1/requests/{}/approve", request["id"].as_str().unwrap());
    let vote = json!({ "content_hash": request["content_hash"], "comment": "so be it" });
    node.ok(&bob, "POST", &path, Some(vote)).await;

    let listener = broker::rpc::bind(&node.control).unwrap();
    tokio::spawn(listener.serve(node.control.clone()));
    let id = GatewayId::new(node.clock.now(), [1; 10]);
    let mut gateway = FakeGateway::connect(&node.socket(), id, vec![]).await;
    let proof = gateway.proven(ALICE_KEY).await;
    let opened = gateway.open(&proof).await;
    let Reply::Opened(opened) = opened else {
        panic!("{opened:?}")
    };
    let anyone = Quorum {
        count: 1,
        from: None,
    };
    let held = holding(
        &session_of(&opened),
        OperationId::new(node.clock.now(), [1; 10]),
        "rm -rf /srv",
        vec![anyone],
    );
    let held = gateway.call(Call::HoldOperation(Box::new(held))).await;
    assert!(matches!(held, Reply::Held(_)), "{held:?}");
    let lock = json!({ "target": "web-1", "reason": "looked at" });
    node.ok(&bob, "POST", "/v1/locks", Some(lock)).await;
    Story {
        node,
        bob,
        alice,
        mallory,
        gateway,
    }
}

impl Story {
    /// Alice's objects as they are.
    async fn everything(&self) -> Vec<Value> {
        let mut all = Vec::new();
        for list in [
            "requests",
            "grants",
            "sessions",
            "operations",
            "self/keys",
            "self/tokens",
        ] {
            let path = format!("/v1/{list}");
            all.push(self.node.ok(&self.alice, "GET", &path, None).await);
        }
        for list in ["reviews", "locks", "people"] {
            let path = format!("/v1/{list}");
            all.push(self.node.ok(&self.bob, "GET", &path, None).await);
        }
        all
    }

    async fn first(&self, person: &Person, path: &str) -> Value {
        let answer = self.node.ok(person, "GET", path, None).await;
        answer["items"][0].clone()
    }

    /// The id of Alice's object that a route with this path is about.
    async fn id_for(&self, path: &str) -> String {
        let noun = path.trim_start_matches("/v1/").split("/{").next().unwrap();
        let (person, list, field) = match noun {
            "requests" => (&self.alice, "/v1/requests", "id"),
            "grants" => (&self.alice, "/v1/grants", "id"),
            "sessions" => (&self.alice, "/v1/sessions", "id"),
            "operations" => (&self.alice, "/v1/operations", "id"),
            "self/keys" => (&self.alice, "/v1/self/keys", "id"),
            "self/tokens" => (&self.alice, "/v1/self/tokens", "id"),
            "recordings" => (&self.alice, "/v1/sessions", "recording_id"),
            "reviews" => (&self.bob, "/v1/reviews", "id"),
            "leases" => (&self.bob, "/v1/leases", "id"),
            "locks" => (&self.bob, "/v1/locks", "id"),
            "people" => (&self.bob, "/v1/people/alice", "name"),
            other => panic!("`{other}`: say whose such an object is, here"),
        };
        if noun == "people" {
            return "alice".to_owned();
        }
        let found = self.first(person, list).await;
        found[field]
            .as_str()
            .unwrap_or_else(|| panic!("{list}: {found}"))
            .to_owned()
    }
}

/// The id of the same kind that nobody has.
fn unknown(id: &str) -> String {
    match id.split_once('_') {
        Some((kind, rest)) => format!("{kind}_{}", "0".repeat(rest.len())),
        None => "nobody".to_owned(),
    }
}

fn body_for(method: &str, path: &str) -> Option<Value> {
    if method == "GET" || method == "DELETE" {
        return None;
    }
    let body = match path.rsplit('/').next().unwrap() {
        "approve" | "deny" => json!({ "content_hash": "0".repeat(64), "comment": "so be it" }),
        "end" | "disable" => json!({ "reason": "mine now" }),
        "close" => json!({ "finding": "nothing to see" }),
        "join" => json!({ "keyboard": true }),
        "input" => json!({ "watcher": format!("wat_{}", "0".repeat(26)) }),
        "message" => json!({ "text": "listen" }),
        "cancel" | "enable" | "enrolment" | "pause" | "resume" | "retry" => return None,
        "{name}" => json!({ "groups": ["operators"] }),
        other => panic!("`{other}`: say what its body is, here"),
    };
    Some(body)
}

/// An answer without what must differ: the id itself, and the number under which operators find it.
fn comparable(answer: (u16, Value), id: &str) -> (u16, String) {
    let (status, mut body) = answer;
    if let Some(fields) = body.as_object_mut() {
        fields.remove("reference");
    }
    (status, body.to_string().replace(id, "ID"))
}

/// R16, C4: the answer about somebody else's object is that about none, and it stays as it was.
#[tokio::test]
async fn given_the_id_of_somebody_elses_object_then_the_answer_is_that_of_an_unknown_one() {
    let story = story().await;
    let (node, mallory) = (&story.node, &story.mallory);
    let before = story.everything().await;
    let mut tried = 0;
    for route in routes::all().declared().keys() {
        let (method, path) = (&route.method, &route.path);
        let is_shared = SHARED.iter().any(|(shared, _)| path.starts_with(shared));
        if !path.contains('{') || is_shared {
            continue;
        }
        let id = story.id_for(path).await;
        let fill = |id: &str| {
            path.split('/')
                .map(|part| if part.starts_with('{') { id } else { part })
                .collect::<Vec<_>>()
                .join("/")
        };
        let body = body_for(method, path);
        let theirs = node
            .call(&mallory.token, method, &fill(&id), body.clone())
            .await;
        let nobodys = node
            .call(&mallory.token, method, &fill(&unknown(&id)), body)
            .await;
        assert!(theirs.0 >= 400, "{method} {path}: {theirs:?}");
        assert_eq!(
            comparable(theirs, &id),
            comparable(nobodys, &unknown(&id)),
            "{method} {path}"
        );
        tried += 1;
    }
    assert!(tried >= 20, "only {tried} routes have an id?");
    assert_eq!(
        story.everything().await,
        before,
        "nothing of it had an effect"
    );
    for list in [
        "requests",
        "grants",
        "sessions",
        "operations",
        "self/keys",
        "self/tokens",
    ] {
        let seen = node.ok(mallory, "GET", &format!("/v1/{list}"), None).await;
        assert_eq!(seen["items"], json!([]), "{list}");
    }
    drop(story.gateway);
}
