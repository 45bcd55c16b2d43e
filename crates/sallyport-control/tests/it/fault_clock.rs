//! A clock that is set wrong, and set right again: nothing that was over comes back.

use std::time::Duration;

use sallyport_control::access;
use sallyport_core::time::Clock as _;
use serde_json::{Value, json};

use crate::support::node::{Node, PASSWORD, Person, one_time_code};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const JUMPS_S: [u64; 4] = [5 * MINUTE, HOUR, DAY, 3_652 * DAY];

/// Everything that ends by itself, made at one time.
struct Ending {
    owner: Person,
    alice: Person,
    api_token: String,
    enrolment_code: Value,
    used_code: String,
    grant: String,
}

async fn make(node: &Node) -> Ending {
    let owner = node.owner().await;
    node.target(&owner, "low").await;
    let alice = node
        .person(&owner, "alice", &["operators", "break-glass"], &[])
        .await;
    let token = json!({ "label": "ci", "scopes": ["self.show"], "ttl_s": 3600 });
    let token = node
        .ok(&alice, "POST", "/v1/self/tokens", Some(token))
        .await;
    let newcomer = json!({ "name": "newcomer" });
    let made = node.ok(&owner, "POST", "/v1/people", Some(newcomer)).await;
    let ask = json!({ "account": "root", "target": "web-1", "reason": "the site is down" });
    let request = node.ok(&alice, "POST", "/v1/break-glass", Some(ask)).await;
    Ending {
        used_code: one_time_code(&alice.totp_uri, node.clock.now()),
        api_token: token["token"].as_str().unwrap().to_owned(),
        enrolment_code: made["code"].clone(),
        grant: request["grant_id"].as_str().unwrap().to_owned(),
        owner,
        alice,
    }
}

impl Ending {
    /// What of it still works; the names of it.
    async fn alive(&self, node: &Node) -> Vec<&'static str> {
        access::jobs::expire(&node.control).await.unwrap();
        let mut alive = Vec::new();
        for (token, name) in [
            (&self.alice.token, "sign-in"),
            (&self.api_token, "API token"),
        ] {
            if node.call(token, "GET", "/v1/whoami", None).await.0 == 200 {
                alive.push(name);
            }
        }
        let enrol = json!({ "code": self.enrolment_code, "password": PASSWORD });
        if node.call("", "POST", "/v1/enrol", Some(enrol)).await.0 == 201 {
            alive.push("enrolment code");
        }
        let body = json!({ "name": "alice", "password": PASSWORD, "code": self.used_code });
        if node.call("", "POST", "/v1/sign-in", Some(body)).await.0 == 200 {
            alive.push("one-time code");
        }
        let mut reader = node.control.db().read().await.unwrap();
        let ended = sallyport_control::audit::entries_about(
            &mut reader,
            sallyport_core::event::EventName::GrantEnded,
            &self.grant,
        );
        if ended.await.unwrap().is_empty() {
            alive.push("grant");
        }
        alive
    }
}

/// R7, N, AC-5: what ended by time stays ended, however far the clock is set back before the next start.
#[tokio::test]
async fn given_a_clock_set_back_then_what_had_ended_is_not_alive_again() {
    for jump_s in JUMPS_S {
        let node = Node::start().await;
        let ending = make(&node).await;
        node.clock.advance(Duration::from_secs(25 * HOUR));
        assert_eq!(ending.alive(&node).await, Vec::<&str>::new());
        // Something is on record at the time that counts.
        let late = node.clock.now();

        let node = node
            .restart_at(late.minus(Duration::from_secs(jump_s)))
            .await;
        assert!(
            node.clock.now() >= late.minus(Duration::from_secs(MINUTE)),
            "{jump_s} s back"
        );
        assert_eq!(
            ending.alive(&node).await,
            Vec::<&str>::new(),
            "{jump_s} s back"
        );
    }
}

/// R7, N: what a clock that is ahead has ended is over, and stays so when the clock is put right.
#[tokio::test]
async fn given_a_clock_that_was_ahead_then_what_it_ended_is_over_for_good() {
    for jump_s in JUMPS_S.into_iter().filter(|jump_s| *jump_s >= DAY) {
        let node = Node::start().await;
        let ending = make(&node).await;
        let right = node.clock.now();
        let ahead = right.plus(Duration::from_secs(jump_s.max(25 * HOUR)));
        let node = node.restart_at(ahead).await;
        assert_eq!(
            ending.alive(&node).await,
            Vec::<&str>::new(),
            "{jump_s} s ahead"
        );

        let node = node.restart_at(right).await;
        assert!(node.clock.now() > right, "time does not go back");
        assert_eq!(ending.alive(&node).await, Vec::<&str>::new(), "put right");
        assert_eq!(
            node.call(&ending.owner.token, "GET", "/v1/whoami", None)
                .await
                .0,
            401
        );
    }
}
