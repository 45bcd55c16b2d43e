//! Held operations as gateways and approvers see them, on both databases.

use std::time::Duration;

use sallyport_api::gateway::{Call, HeldProgress, HoldOperation, Reply, SessionClosed};
use sallyport_control::{broker, operation};
use sallyport_core::{
    access::Quorum,
    authz::Reason,
    id::{GatewayId, OperationId, SessionId},
    session::{EndReason, OperationKind},
    time::Clock as _,
};
use serde_json::{Value, json};

use crate::support::{
    gateway::{FakeGateway, holding, session_of},
    home::Home,
    node::{Node, Person},
};

const ALICE_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g";

struct Story {
    node: Node,
    owner: Person,
    alice: Person,
    bob: Person,
    gateway: FakeGateway,
    session_id: SessionId,
}

/// Alice, who is an approver herself, has an open session as root on web-1; Bob approves too.
async fn story(home: &Home) -> Story {
    let node = Node::start_with(|config| home.configure(config)).await;
    let owner = node.owner().await;
    node.target(&owner, "low").await;
    let alice = node
        .person(&owner, "alice", &["operators"], &["approver"])
        .await;
    let bob = node
        .person(&owner, "bob", &["sre"], &["approver", "security"])
        .await;
    let key = json!({ "public_key": ALICE_KEY, "label": "laptop" });
    node.ok(&alice, "POST", "/v1/self/keys", Some(key)).await;
    let listener = broker::rpc::bind(&node.control).unwrap();
    tokio::spawn(listener.serve(node.control.clone()));
    let id = GatewayId::new(node.clock.now(), [1; 10]);
    let socket = home.data().join("gateway.sock");
    let mut gateway = FakeGateway::connect(&socket, id, vec![]).await;
    let proof = gateway.proven(ALICE_KEY).await;
    let asked = json!({ "account": "root", "target": "web-1", "reason": "rotate the logs" });
    let request = node.ok(&alice, "POST", "/v1/requests", Some(asked)).await;
    if request["state"] == "pending" {
        let path = format!("/v1/requests/{}/approve", request["id"].as_str().unwrap());
        let vote = json!({ "content_hash": request["content_hash"], "comment": "" });
        node.ok(&bob, "POST", &path, Some(vote)).await;
    }
    let opened = match gateway.open(&proof).await {
        Reply::Opened(opened) => *opened,
        other => panic!("{other:?}"),
    };
    let session_id = session_of(&opened);
    Story {
        node,
        owner,
        alice,
        bob,
        gateway,
        session_id,
    }
}

impl Story {
    fn holding(&self, number: u8, command: &str, quorums: Vec<Quorum>) -> HoldOperation {
        let id = OperationId::new(self.node.clock.now(), [number; 10]);
        holding(&self.session_id, id, command, quorums)
    }

    /// Holds a command that one person must approve; returns where it stands.
    async fn hold(&mut self, number: u8, command: &str) -> (OperationId, HeldProgress) {
        self.hold_for(number, command, one()).await
    }

    async fn hold_for(
        &mut self,
        number: u8,
        command: &str,
        quorums: Vec<Quorum>,
    ) -> (OperationId, HeldProgress) {
        let hold = self.holding(number, command, quorums);
        let id = hold.operation_id.clone();
        match self.gateway.call(Call::HoldOperation(Box::new(hold))).await {
            Reply::Held(progress) => (id, progress),
            other => panic!("{other:?}"),
        }
    }

    async fn wait(&mut self, id: &OperationId, seen: &HeldProgress) -> Reply {
        let call = Call::AwaitOperation {
            session_id: self.session_id.clone(),
            operation_id: id.clone(),
            seen: seen.clone(),
        };
        self.gateway.call(call).await
    }

    async fn show(&self, id: &OperationId) -> Value {
        let path = format!("/v1/operations/{id}");
        self.node.ok(&self.bob, "GET", &path, None).await
    }

    async fn vote(&self, person: &Person, id: &OperationId, verb: &str) -> (u16, Value) {
        let hash = self.show(id).await["content_hash"].clone();
        self.vote_on(person, id, verb, &hash).await
    }

    async fn vote_on(
        &self,
        person: &Person,
        id: &OperationId,
        verb: &str,
        hash: &Value,
    ) -> (u16, Value) {
        let path = format!("/v1/operations/{id}/{verb}");
        let vote = json!({ "content_hash": hash, "comment": "seen" });
        self.node
            .call(&person.token, "POST", &path, Some(vote))
            .await
    }

    async fn events(&self, event: &str) -> Vec<Value> {
        let path = format!("/v1/audit/entries?from=1&limit=1000&event={event}");
        let answer = self.node.ok(&self.bob, "GET", &path, None).await;
        let entries = answer["entries"].as_array().unwrap();
        entries
            .iter()
            .map(|entry| serde_json::from_str(entry.as_str().unwrap()).unwrap())
            .collect()
    }
}

fn one() -> Vec<Quorum> {
    vec![Quorum {
        count: 1,
        from: None,
    }]
}

fn refused(reply: &Reply) -> Option<Reason> {
    match reply {
        Reply::Held(HeldProgress::Refused { reason, .. }) => Some(*reason),
        _ => None,
    }
}

fn is_released(reply: &Reply) -> bool {
    matches!(reply, Reply::Held(HeldProgress::Released { .. }))
}

/// E1, E2, E3, AU-1: released by a second person, to one call, once; all of it on record.
#[tokio::test]
async fn given_a_held_command_when_a_second_person_approves_then_it_is_released_once() {
    for home in Home::both() {
        let mut story = story(&home).await;
        let (id, waiting) = story.hold(1, "rm -rf /srv\n").await;

        let (status, problem) = story.vote(&story.alice, &id, "approve").await;
        assert_eq!(status, 409, "she approved her own: {problem}");
        let shown = story.show(&id).await;
        assert_eq!(shown["command"], "rm -rf /srv\n");
        assert_eq!(shown["state"], "waiting");
        assert_eq!(story.vote(&story.bob, &id, "approve").await.0, 200);

        let reply = story.wait(&id, &waiting).await;
        assert!(is_released(&reply), "{}: {reply:?}", home.kind());
        let again = story.wait(&id, &waiting).await;
        assert_eq!(refused(&again), Some(Reason::CommandWithdrawn), "{again:?}");
        assert_eq!(story.show(&id).await["state"], "released");

        for (event, count) in [
            ("operation.held", 1),
            ("operation.approved", 1),
            ("operation.released", 1),
        ] {
            let found = story.events(event).await;
            assert_eq!(found.len(), count, "{event} on {}", home.kind());
            assert_eq!(found[0]["subject"], id.as_str());
        }
        let held = &story.events("operation.held").await[0]["data"];
        assert_eq!(held["detail"], "rm -rf /srv\n");
        assert_eq!(held["command_hash"], shown["command_hash"]);
        assert_eq!(held["content_hash"], shown["content_hash"]);

        // Who votes sees what would run; the log has what the session's rules leave of it.
        let (second, _) = story.hold(2, "login secret").await;
        assert_eq!(story.show(&second).await["command"], "login secret");
        let held = &story.events("operation.held").await[1]["data"];
        assert_eq!(held["detail"], "login [redacted]");
    }
}

/// E2: an approval serves the command it was given for, however alike another is.
#[tokio::test]
async fn given_an_approval_then_it_serves_no_other_command_and_no_other_session() {
    let home = Home::sqlite();
    let mut story = story(&home).await;
    let (first, _) = story.hold(1, "rm x").await;
    let (second, waiting) = story.hold(2, "rm x").await;
    let hash = story.show(&first).await["content_hash"].clone();
    assert_eq!(story.vote(&story.bob, &first, "approve").await.0, 200);
    let (status, problem) = story.vote_on(&story.bob, &second, "approve", &hash).await;
    assert_eq!(status, 409, "{problem}");
    assert_eq!(story.show(&second).await["approvals_missing"], 1);

    // The same operation named in another session, and held a second time under its id.
    let mut call = story.holding(1, "rm -rf /", one());
    let again = story
        .gateway
        .call(Call::HoldOperation(Box::new(call.clone())))
        .await;
    assert!(matches!(again, Reply::Failed(_)), "{again:?}");
    call.session_id = SessionId::new(story.node.clock.now(), [9; 10]);
    let elsewhere = story
        .gateway
        .call(Call::AwaitOperation {
            session_id: call.session_id,
            operation_id: first,
            seen: waiting,
        })
        .await;
    assert!(matches!(elsewhere, Reply::Failed(_)), "{elsewhere:?}");
}

/// E3, E4: denied by one, not enough of a group, too late, given up.
#[tokio::test]
async fn given_a_held_command_when_it_is_denied_or_late_or_given_up_then_it_is_never_released() {
    for home in Home::both() {
        let mut story = story(&home).await;
        let (denied, waiting) = story.hold(1, "rm 1").await;
        assert_eq!(story.vote(&story.bob, &denied, "deny").await.0, 200);
        let reply = story.wait(&denied, &waiting).await;
        assert_eq!(refused(&reply), Some(Reason::CommandDenied), "{reply:?}");

        let quorums = vec![Quorum {
            count: 1,
            from: Some("dba".to_owned()),
        }];
        let (of_group, _) = story.hold_for(2, "rm 2", quorums).await;
        let (status, problem) = story.vote(&story.bob, &of_group, "approve").await;
        assert_eq!(status, 409, "he is in no such group: {problem}");

        let (given_up, waiting) = story.hold(3, "rm 3").await;
        let call = Call::WithdrawOperation {
            session_id: story.session_id.clone(),
            operation_id: given_up.clone(),
        };
        assert_eq!(story.gateway.call(call).await, Reply::Done);
        assert_eq!(story.vote(&story.bob, &given_up, "approve").await.0, 409);
        let reply = story.wait(&given_up, &waiting).await;
        assert_eq!(refused(&reply), Some(Reason::CommandWithdrawn), "{reply:?}");

        let (late, waiting) = story.hold(4, "rm 4").await;
        assert_eq!(story.vote(&story.bob, &late, "approve").await.0, 200);
        story.node.clock.advance(Duration::from_secs(601));
        operation::jobs::expire(&story.node.control).await.unwrap();
        let reply = story.wait(&late, &waiting).await;
        assert_eq!(
            refused(&reply),
            Some(Reason::CommandNotApproved),
            "{}: {reply:?}",
            home.kind()
        );
    }
}

/// E4: whoever voted has lost the right when the release is taken; whoever asked is disabled.
#[tokio::test]
async fn given_an_approval_when_the_voter_loses_the_right_then_it_counts_no_more() {
    for home in Home::both() {
        let mut story = story(&home).await;
        let quorums = vec![Quorum {
            count: 1,
            from: Some("sre".to_owned()),
        }];
        let (id, _) = story.hold_for(1, "rm 1", quorums).await;
        assert_eq!(story.vote(&story.bob, &id, "approve").await.0, 200);
        let change = json!({ "groups": ["operators"] });
        story
            .node
            .ok(&story.owner, "PATCH", "/v1/people/bob", Some(change))
            .await;
        let approved = HeldProgress::Waiting {
            approvals_missing: 0,
            approved_by: vec!["bob".parse().unwrap()],
            expires_at: story.node.clock.now().plus(Duration::from_secs(600)),
        };
        let reply = story.wait(&id, &approved).await;
        assert!(
            matches!(
                reply,
                Reply::Held(HeldProgress::Waiting {
                    approvals_missing: 1,
                    ..
                })
            ),
            "{}: {reply:?}",
            home.kind()
        );
    }
}

/// E4, E3: whatever opened the session has to stand when the release is taken, not only when it was asked for.
#[tokio::test]
async fn given_an_approved_command_when_its_access_ends_first_then_it_is_never_released() {
    for end in ["person", "lock", "grant"] {
        for home in Home::both() {
            let mut story = story(&home).await;
            let (id, waiting) = story.hold(1, "rm 1").await;
            assert_eq!(story.vote(&story.bob, &id, "approve").await.0, 200);
            let (node, owner) = (&story.node, &story.owner);
            match end {
                "person" => {
                    let why = json!({ "reason": "left the company" });
                    let path = "/v1/people/alice/disable";
                    node.ok(owner, "POST", path, Some(why)).await;
                }
                "lock" => {
                    let lock = json!({ "person": "alice", "reason": "lost laptop" });
                    node.ok(&story.bob, "POST", "/v1/locks", Some(lock)).await;
                }
                _ => {
                    let grants = node.ok(&story.alice, "GET", "/v1/grants", None).await;
                    let grant = grants["items"][0]["id"].as_str().unwrap();
                    let path = format!("/v1/grants/{grant}/end");
                    let why = json!({ "reason": "enough" });
                    node.ok(&story.bob, "POST", &path, Some(why)).await;
                }
            }
            let reply = story.wait(&id, &waiting).await;
            let refused = refused(&reply);
            assert_eq!(refused, Some(Reason::CommandWithdrawn), "{end}: {reply:?}");
            assert_eq!(story.show(&id).await["state"], "withdrawn", "{end}");
            assert!(story.events("operation.released").await.is_empty(), "{end}");
            let (status, _) = story.vote(&story.bob, &id, "approve").await;
            assert_eq!(status, 409, "{end}");
        }
    }
}

/// R1, E4: control was away while a command waited. The gateway refused it, so nobody votes on it afterwards.
#[tokio::test]
async fn given_a_held_command_when_its_gateway_comes_back_then_it_is_given_up_and_another_can_wait()
{
    for home in Home::both() {
        let mut story = story(&home).await;
        let (id, waiting) = story.hold(1, "rm 1").await;
        assert_eq!(story.vote(&story.bob, &id, "approve").await.0, 200);
        let socket = home.data().join("gateway.sock");
        let live = vec![story.session_id.clone()];
        story.gateway = FakeGateway::connect(&socket, story.gateway.id.clone(), live).await;

        assert_eq!(
            story.show(&id).await["state"],
            "withdrawn",
            "{}",
            home.kind()
        );
        let reply = story.wait(&id, &waiting).await;
        assert_eq!(refused(&reply), Some(Reason::CommandWithdrawn), "{reply:?}");
        let withdrawn = story.events("operation.withdrawn").await;
        assert_eq!(withdrawn[0]["data"]["cause"], "connection-lost");

        let (again, waiting) = story.hold(2, "rm 1").await;
        assert_eq!(story.vote(&story.bob, &again, "approve").await.0, 200);
        assert!(is_released(&story.wait(&again, &waiting).await));
    }
}

/// E4, GW-12: what waits in a session that ends is given up, and voting on it is too late.
#[tokio::test]
async fn given_a_held_command_when_its_session_ends_then_it_is_given_up_in_the_same_commit() {
    for home in Home::both() {
        let mut story = story(&home).await;
        let (id, _) = story.hold(1, "rm 1").await;
        let closed = SessionClosed {
            session_id: story.session_id.clone(),
            reason: EndReason::ClientClosed,
            bytes_up: 0,
            bytes_down: 0,
            recording: None,
            is_recording_complete: false,
        };
        assert_eq!(
            story.gateway.call(Call::CloseSession(closed)).await,
            Reply::Done
        );
        assert_eq!(story.show(&id).await["state"], "withdrawn");
        assert_eq!(story.vote(&story.bob, &id, "approve").await.0, 409);
        let withdrawn = story.events("operation.withdrawn").await;
        assert_eq!(withdrawn[0]["data"]["cause"], "session-ended");
        let hold = story.holding(2, "rm 2", one());
        let reply = story
            .gateway
            .call(Call::HoldOperation(Box::new(hold)))
            .await;
        assert!(matches!(reply, Reply::Failed(_)), "{reply:?}");
    }
}

/// R11, E4: fifty votes at once, each racing the release, and one release comes of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn given_fifty_votes_at_once_when_the_release_is_taken_by_many_then_it_is_consumed_once() {
    for home in Home::both() {
        let mut story = story(&home).await;
        for round in 1..=u8::try_from(sallyport_testkit::effort::rounds(2)).unwrap_or(u8::MAX) {
            let (id, _) = story.hold(round, "rm -rf /srv").await;
            let hash = story.show(&id).await["content_hash"].clone();
            let mut tasks = Vec::new();
            for _ in 0..50 {
                let (node, token) = (story.node.shared(), story.bob.token.clone());
                let (id, hash) = (id.clone(), hash.clone());
                let (gateway, session) = (story.gateway.id.clone(), story.session_id.clone());
                tasks.push(tokio::spawn(async move {
                    let path = format!("/v1/operations/{id}/approve");
                    let vote = json!({ "content_hash": hash, "comment": "" });
                    let (status, _) = node.call(&token, "POST", &path, Some(vote)).await;
                    let taken =
                        operation::workflow::release(&node.control, &gateway, &session, &id).await;
                    (status == 200, matches!(taken, Ok((_, true))))
                }));
            }
            let (mut votes, mut releases) = (0, 0);
            for task in tasks {
                let (is_counted, is_released) = task.await.unwrap();
                votes += u32::from(is_counted);
                releases += u32::from(is_released);
            }
            assert_eq!((votes, releases), (1, 1), "on {}", home.kind());
            assert_eq!(story.show(&id).await["state"], "released");
        }
    }
}

/// R16: others' commands are nobody's business but those who may see them.
#[tokio::test]
async fn given_a_held_command_then_only_its_person_and_approvers_see_it_and_bounds_hold() {
    let home = Home::sqlite();
    let mut story = story(&home).await;
    let mallory = story.node.person(&story.owner, "mallory", &[], &[]).await;
    let (id, _) = story.hold(1, "rm 1").await;
    let path = format!("/v1/operations/{id}");
    assert_eq!(
        story.node.call(&mallory.token, "GET", &path, None).await.0,
        404
    );
    let listed = story.node.ok(&mallory, "GET", "/v1/operations", None).await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 0);
    let own = story
        .node
        .ok(&story.alice, "GET", "/v1/operations?mine=true", None)
        .await;
    assert_eq!(own["items"].as_array().unwrap().len(), 1);

    let mut file = story.holding(2, "/etc/passwd", one());
    file.operation.kind = OperationKind::FileUpload;
    let reply = story
        .gateway
        .call(Call::HoldOperation(Box::new(file)))
        .await;
    assert!(matches!(reply, Reply::Failed(_)), "{reply:?}");
    for number in 3..18 {
        story.hold(number, "rm").await;
    }
    let one_more = story.holding(18, "rm", one());
    let reply = story
        .gateway
        .call(Call::HoldOperation(Box::new(one_more)))
        .await;
    let Reply::Failed(fault) = reply else {
        panic!("{reply:?}");
    };
    assert_eq!(fault.reason, Reason::TooManyAttempts);
}
