//! Users made at a real PostgreSQL for sessions, and passwords changed there: over kills, with an absent
//! server and with a store that forgot.

mod away;
mod rotation;
mod storm;

use std::time::Duration;

use sallyport_control::{access, broker};
use sallyport_core::{
    id::{AuthenticationId, GatewayId},
    time::{Clock as _, Timestamp},
};
use sallyport_testkit::targets::postgres::Postgres;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::{
    gateway::FakeGateway,
    node::{Node, Person},
};

const ALICE_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g";
/// The password of the root account when a story begins: looked for wherever it must not be.
const ROOT: &str = "canary-of-the-root-9v1x";
/// How long after its end a credential may still be there (R14).
const LATE: Duration = Duration::from_secs(5);
/// Accounts whose users are made.
const READERS: u64 = 4;

struct Story {
    server: Postgres,
    node: Node,
    owner: Person,
    alice: Person,
    began: Timestamp,
}

impl Story {
    async fn new() -> Self {
        let server = Postgres::start_as_target().unwrap();
        let address = server.address().to_string();
        Self::at(server, &address).await
    }

    /// With the server to be reached there.
    async fn at(server: Postgres, address: &str) -> Self {
        let maker = format!("CREATE ROLE maker LOGIN CREATEROLE PASSWORD '{ROOT}'");
        server.execute("postgres", &maker).unwrap();
        let node = Node::start_with(|config| {
            config.sign_in.token_ttl = Duration::from_secs(30 * 24 * 3600);
        })
        .await;
        let owner = node.owner().await;
        let authority = std::fs::read_to_string(server.authority()).unwrap();
        let target = json!({
            "name": "orders", "protocol": "postgres", "address": address, "sensitivity": "low",
            "host_keys": [authority],
        });
        node.ok(&owner, "POST", "/v1/targets", Some(target)).await;
        let maker = json!({ "target": "orders", "name": "maker", "engine": "static" });
        node.ok(&owner, "POST", "/v1/accounts", Some(maker)).await;
        let password = json!({ "kind": "password", "value": ROOT });
        let path = "/v1/accounts/maker@orders/secret";
        node.ok(&owner, "PUT", path, Some(password)).await;
        for number in 0..READERS {
            let reader = json!({
                "target": "orders", "name": format!("r{number}"), "engine": "postgres",
                "settings": { "root": "maker" },
            });
            node.ok(&owner, "POST", "/v1/accounts", Some(reader)).await;
        }
        let alice = node.person(&owner, "alice", &["operators"], &[]).await;
        let key = json!({ "public_key": ALICE_KEY, "label": "laptop" });
        node.ok(&alice, "POST", "/v1/self/keys", Some(key)).await;
        let began = node.clock.now();
        Self {
            server,
            node,
            owner,
            alice,
            began,
        }
    }

    /// A gateway of the node, with a proof of Alice's.
    async fn gateway(&self) -> (JoinHandle<()>, FakeGateway, AuthenticationId) {
        let listener = broker::rpc::bind(&self.node.control).unwrap();
        let control = self.node.control.clone();
        let serving = tokio::spawn(async move {
            let _ = listener.serve(control).await;
        });
        let id = self.gateway_id();
        let mut gateway = FakeGateway::connect(&self.node.socket(), id, vec![]).await;
        let proof = gateway.proven(ALICE_KEY).await;
        (serving, gateway, proof)
    }

    fn gateway_id(&self) -> GatewayId {
        GatewayId::new(self.began, [1; 10])
    }

    /// Asks for a reader's account for so long; whoever has it already, keeps it.
    async fn ask(&self, account: &str, duration_s: u64) {
        let ask = json!({
            "account": account, "target": "orders", "reason": "look at the orders",
            "duration_s": duration_s,
        });
        let path = "/v1/requests";
        let (status, request) = self
            .node
            .call(&self.alice.token, "POST", path, Some(ask))
            .await;
        assert!(status < 500, "{request}");
    }

    async fn leases(&self, filter: &str) -> Vec<Value> {
        let mut all = Vec::new();
        let mut path = format!("/v1/leases?limit=500{filter}");
        loop {
            let page = self.node.ok(&self.owner, "GET", &path, None).await;
            all.extend(page["items"].as_array().unwrap().clone());
            match page["next"].as_str() {
                Some(next) => path = format!("/v1/leases?limit=500{filter}&cursor={next}"),
                None => return all,
            }
        }
    }

    /// Users that are at the server although their leases ended more than five seconds ago.
    fn overdue(&self) -> Vec<String> {
        let bound = self.node.clock.now().minus(LATE);
        self.rows(&format!(
            "SELECT rolname FROM pg_roles WHERE rolname LIKE 'sp\\_%' AND rolvaliduntil < '{bound}'"
        ))
    }

    fn users(&self) -> Vec<String> {
        self.rows("SELECT rolname FROM pg_roles WHERE rolname LIKE 'sp\\_%' ORDER BY 1")
    }

    fn rows(&self, sql: &str) -> Vec<String> {
        let listed = self.server.execute("postgres", sql).unwrap();
        listed.lines().map(str::to_owned).collect()
    }

    /// What the jobs of a running node do in one second.
    async fn second(&self) {
        self.node.clock.advance(Duration::from_secs(1));
        access::jobs::expire(&self.node.control).await.unwrap();
        broker::lease::revoke_due(&self.node.control).await.unwrap();
    }

    /// As a kill and another process with what is on disk, after so long.
    async fn restart(
        mut self,
        serving: JoinHandle<()>,
        mut gateway: FakeGateway,
        away: Duration,
    ) -> Self {
        serving.abort();
        let _ = serving.await;
        self.node.control.stop();
        self.node.control.live().disconnect_all();
        assert!(gateway.hung_up().await);
        drop(gateway);
        let up_at = self.node.clock.now().plus(away);
        self.node = self.node.restart_at(up_at).await;
        broker::lease::sweep(&self.node.control).await.unwrap();
        self
    }
}
