//! What counts once counts once: however many take it at the same moment, and after a crash.
//!
//! Each item is taken by 50 at once, in rounds that grow with the effort; then the process is killed and
//! the winner's attempt is made again.

use std::time::Duration;

use sallyport_testkit::effort;
use serde_json::{Value, json};
use tokio::{sync::Barrier, task::JoinSet};

use crate::support::{
    home::Home,
    node::{Node, PASSWORD, Person},
};

const AT_ONCE: usize = 50;

/// One request, to be made by many.
#[derive(Clone)]
struct Attempt {
    token: String,
    path: String,
    body: Option<Value>,
}

impl Attempt {
    fn new(token: &str, path: impl Into<String>, body: Option<Value>) -> Self {
        Self {
            token: token.to_owned(),
            path: path.into(),
            body,
        }
    }

    async fn make(&self, node: &Node) -> u16 {
        node.call(&self.token, "POST", &self.path, self.body.clone())
            .await
            .0
    }
}

/// Makes the attempts in turn, all at the same moment; returns how many succeeded.
async fn race(node: &Node, attempts: &[Attempt]) -> usize {
    let start = std::sync::Arc::new(Barrier::new(AT_ONCE));
    let mut racing = JoinSet::new();
    for number in 0..AT_ONCE {
        let (node, start) = (node.shared(), std::sync::Arc::clone(&start));
        let attempt = attempts[number % attempts.len()].clone();
        racing.spawn(async move {
            start.wait().await;
            attempt.make(&node).await
        });
    }
    let statuses = racing.join_all().await;
    assert!(
        statuses.iter().all(|status| *status < 500),
        "{:?}: {statuses:?}",
        attempts[0].path
    );
    statuses.iter().filter(|status| **status < 300).count()
}

/// After a race was won: nobody wins again, not even in a process that knows only what is on disk.
async fn spent(node: Node, attempts: &[Attempt], what: &str) -> Node {
    let node = node.restart_with(|_| {}).await;
    for attempt in attempts {
        assert!(attempt.make(&node).await >= 400, "{what}, after a crash");
    }
    node
}

/// On SQLite, and on both databases where more effort is asked for.
fn homes() -> Vec<Home> {
    if effort::rounds(1) > 1 {
        Home::both().into()
    } else {
        vec![Home::sqlite()]
    }
}

async fn node_on(home: &Home) -> Node {
    Node::start_with(|config| {
        home.configure(config);
        // So many that the lock-out does not hide a code that works twice.
        config.sign_in.failures_max = 20;
    })
    .await
}

fn names(rounds: usize) -> impl Iterator<Item = String> {
    (0..rounds).map(|round| format!("person-{round}"))
}

/// R11, A3, ID-5: a one-time code.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_one_time_code_when_50_use_it_at_once_then_one_signs_in() {
    let home = Home::sqlite();
    let mut node = node_on(&home).await;
    let owner = node.owner().await;
    for round in 0..effort::rounds(2) {
        let code = node.next_code(&owner);
        let body =
            |name: &str, code: &str| json!({ "name": name, "password": PASSWORD, "code": code });
        let spaced = format!("{} {}", &code[..3], &code[3..]);
        let attempts = [body("olga", &code), body(" OLGA ", &spaced)]
            .map(|body| Attempt::new("", "/v1/sign-in", Some(body)));
        assert_eq!(race(&node, &attempts).await, 1, "round {round}");
        node.clock.advance(Duration::from_secs(900));
        // The code of fifteen minutes ago would be over anyway; the one just used is the question.
        let code = node.next_code(&owner);
        let again = [Attempt::new("", "/v1/sign-in", Some(body("olga", &code)))];
        assert_eq!(again[0].make(&node).await, 200);
        node = spent(node, &again, "a used code").await;
        node.clock.advance(Duration::from_secs(900));
    }
}

/// R11, B9, ID-1: an enrolment code.
#[tokio::test(flavor = "multi_thread")]
async fn given_an_enrolment_code_when_50_use_it_at_once_then_one_enrols() {
    let home = Home::sqlite();
    let mut node = node_on(&home).await;
    let owner = node.owner().await;
    for name in names(effort::rounds(2)) {
        let made = node
            .ok(&owner, "POST", "/v1/people", Some(json!({ "name": name })))
            .await;
        let body = json!({ "code": made["code"], "password": PASSWORD });
        let attempts = [Attempt::new("", "/v1/enrol", Some(body))];
        assert_eq!(race(&node, &attempts).await, 1, "{name}");
        node = spent(node, &attempts, "an enrolment code").await;
    }
}

/// R11, ID-1: the code of the first owner.
#[tokio::test(flavor = "multi_thread")]
async fn given_the_code_of_the_first_owner_when_50_use_it_at_once_then_there_is_one_owner() {
    for round in 0..effort::rounds(2) {
        let home = Home::sqlite();
        let node = node_on(&home).await;
        let code = sallyport_control::authn::first_owner_code(&node.control)
            .await
            .unwrap()
            .unwrap();
        let body = |name: &str| json!({ "code": code.expose_secret(), "password": PASSWORD, "name": name });
        let attempts = ["olga", "otto"].map(|name| Attempt::new("", "/v1/enrol", Some(body(name))));
        assert_eq!(race(&node, &attempts).await, 1, "round {round}");
        assert_eq!(home.count("SELECT count(*) FROM person").await, 1);
        spent(node, &attempts, "the first owner's code").await;
    }
}

struct Story {
    node: Node,
    alice: Person,
    approvers: [Person; 2],
}

/// Alice may ask for root@web-1 and break glass; two people may approve.
async fn story(home: &Home, sensitivity: &str) -> Story {
    let node = node_on(home).await;
    let owner = node.owner().await;
    node.target(&owner, sensitivity).await;
    let groups = &["operators", "break-glass"];
    let alice = node.person(&owner, "alice", groups, &[]).await;
    let roles = &["approver", "security"];
    let bob = node.person(&owner, "bob", &[], roles).await;
    let carol = node.person(&owner, "carol", &[], roles).await;
    Story {
        node,
        alice,
        approvers: [bob, carol],
    }
}

impl Story {
    async fn ask(&self) -> Value {
        let ask = json!({ "account": "root", "target": "web-1", "reason": "rotate the logs" });
        self.node
            .ok(&self.alice, "POST", "/v1/requests", Some(ask))
            .await
    }

    fn vote(&self, voter: usize, request: &Value, verb: &str) -> Attempt {
        let path = format!("/v1/requests/{}/{verb}", request["id"].as_str().unwrap());
        let body = json!({ "content_hash": request["content_hash"], "comment": "so be it" });
        Attempt::new(&self.approvers[voter].token, path, Some(body))
    }

    async fn end(&self, grant: &Value) {
        let path = format!("/v1/grants/{}/end", grant.as_str().unwrap());
        let body = json!({ "reason": "done" });
        self.node.ok(&self.alice, "POST", &path, Some(body)).await;
    }

    async fn restart(self, attempts: &[Attempt], what: &str) -> Self {
        let node = spent(self.node, attempts, what).await;
        Self { node, ..self }
    }
}

/// R11, E3, AC-3: a vote counts once, and one grant comes of a request.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_vote_when_it_is_cast_50_times_at_once_then_it_counts_once() {
    for home in homes() {
        let mut story = story(&home, "critical").await;
        for round in 0..effort::rounds(2) {
            let request = story.ask().await;
            assert_eq!(request["approvals_missing"], 2, "{request}");
            let votes = [story.vote(0, &request, "approve")];
            assert_eq!(
                race(&story.node, &votes).await,
                1,
                "{}: round {round}",
                home.kind()
            );
            let path = format!("/v1/requests/{}", request["id"].as_str().unwrap());
            let halfway = story.node.ok(&story.alice, "GET", &path, None).await;
            assert_eq!(
                (
                    halfway["state"].as_str(),
                    halfway["approvals_missing"].as_u64()
                ),
                (Some("pending"), Some(1)),
                "{}",
                home.kind()
            );
            story = story.restart(&votes, "a vote").await;

            let votes = [story.vote(1, &request, "approve")];
            assert_eq!(race(&story.node, &votes).await, 1, "{}", home.kind());
            let granted = story.node.ok(&story.alice, "GET", &path, None).await;
            assert_eq!(granted["state"], "granted");
            story = story.restart(&votes, "the last vote").await;
            story.end(&granted["grant_id"]).await;
        }
        let grants =
            "SELECT count(*) FROM audit_entry WHERE entry LIKE '%\"event\":\"grant.opened\"%'";
        let rounds = i64::try_from(effort::rounds(2)).unwrap();
        assert_eq!(home.count(grants).await, rounds, "{}", home.kind());
    }
}

/// R11, E4, AC-3: approving, denying and cancelling at the same moment have one outcome.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_request_when_approved_denied_and_cancelled_at_once_then_one_of_them_happened() {
    for home in homes() {
        let story = story(&home, "medium").await;
        for round in 0..effort::rounds(2) {
            let request = story.ask().await;
            let cancel = format!("/v1/requests/{}/cancel", request["id"].as_str().unwrap());
            let attempts = [
                story.vote(0, &request, "approve"),
                story.vote(1, &request, "deny"),
                Attempt::new(&story.alice.token, cancel, None),
            ];
            let succeeded = race(&story.node, &attempts).await;
            assert_eq!(succeeded, 1, "{}: round {round}", home.kind());
            let path = format!("/v1/requests/{}", request["id"].as_str().unwrap());
            let settled = story.node.ok(&story.alice, "GET", &path, None).await;
            let has_grant = settled["grant_id"].is_string();
            assert_eq!(settled["state"] == "granted", has_grant, "{settled}");
            if has_grant {
                story.end(&settled["grant_id"]).await;
            }
        }
    }
}

/// R11, E5, AC-7: break-glass is taken once until somebody has reviewed it; a review is closed once.
#[tokio::test(flavor = "multi_thread")]
async fn given_break_glass_when_taken_50_times_at_once_then_once_and_reviewed_once() {
    for home in homes() {
        let mut story = story(&home, "medium").await;
        for round in 0..effort::rounds(2) {
            let ask = json!({ "account": "root", "target": "web-1", "reason": "the site is down" });
            let attempts = [Attempt::new(
                &story.alice.token,
                "/v1/break-glass",
                Some(ask),
            )];
            let succeeded = race(&story.node, &attempts).await;
            assert_eq!(succeeded, 1, "{}: round {round}", home.kind());
            story = story.restart(&attempts, "break-glass").await;

            let grants = story
                .node
                .ok(&story.alice, "GET", "/v1/grants?state=live", None)
                .await;
            story.end(&grants["items"][0]["id"]).await;
            let bob = &story.approvers[0];
            let reviews = story.node.ok(bob, "GET", "/v1/reviews", None).await;
            let reviews = reviews["items"].as_array().unwrap();
            let open = reviews.iter().find(|review| review["state"] == "open");
            let path = format!(
                "/v1/reviews/{}/close",
                open.unwrap()["id"].as_str().unwrap()
            );
            let finding = json!({ "finding": "justified; restarted nginx" });
            let close = |person: &Person| Attempt::new(&person.token, &path, Some(finding.clone()));
            let attempts = [close(bob), close(&story.approvers[1])];
            assert_eq!(race(&story.node, &attempts).await, 1, "{}", home.kind());
            story = story.restart(&attempts, "a review").await;
        }
    }
}

/// R11, VA-1: the vault is made once; a share counts once; it opens once.
#[tokio::test(flavor = "multi_thread")]
async fn given_shares_when_given_50_times_at_once_then_each_counts_once() {
    for round in 0..effort::rounds(2) {
        let node = Node::start_without_vault().await;
        let owner = node.owner().await;
        let body = json!({ "shares": 3, "threshold": 2 });
        let start = std::sync::Arc::new(Barrier::new(AT_ONCE));
        let mut racing = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (node, start) = (node.shared(), std::sync::Arc::clone(&start));
            let (token, body) = (owner.token.clone(), body.clone());
            racing.spawn(async move {
                start.wait().await;
                node.call(&token, "POST", "/v1/vault/initialise", Some(body))
                    .await
            });
        }
        let made: Vec<Value> = racing
            .join_all()
            .await
            .into_iter()
            .filter(|(status, _)| *status < 300)
            .map(|(_, answer)| answer)
            .collect();
        assert_eq!(
            made.len(),
            1,
            "round {round}: the vault was made {} times",
            made.len()
        );
        let share = |number: usize| json!({ "share": made[0]["shares"][number] });

        let node = node.restart_with(|_| {}).await;
        let give = |number: usize| [Attempt::new("", "/v1/vault/unseal", Some(share(number)))];
        race(&node, &give(0)).await;
        let status = node.call("", "GET", "/v1/vault", None).await.1;
        assert_eq!(
            (
                status["is_sealed"].as_bool(),
                status["shares_given"].as_u64()
            ),
            (Some(true), Some(1)),
            "round {round}: {status}"
        );
        race(&node, &give(1)).await;
        let status = node.call("", "GET", "/v1/vault", None).await.1;
        assert_eq!(status["is_sealed"], false, "{status}");
        let mut reader = node.control.db().read().await.unwrap();
        let events = sallyport_control::audit::entries_about(
            &mut reader,
            sallyport_core::event::EventName::VaultUnsealed,
            "vault.unsealed",
        );
        assert_eq!(
            events.await.unwrap().len(),
            1,
            "round {round}: it opened once"
        );
    }
}
