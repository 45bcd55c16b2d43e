//! The main job as control sees it: ask, approve, open, record, end; over its routes and its socket.

use std::{collections::HashMap, time::Duration};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use sallyport_api::gateway::{
    Anchor, AuthenticationAnswer, Call, CredentialContent, Opened, OperationBatch, Push, Reply,
    RequestAnswer, RequestProgress, SessionClosed,
};
use sallyport_control::{access, broker};
use sallyport_core::{
    authz::{Permit, Reason, Unmet},
    id::{AuthenticationId, GatewayId, OperationId, RequestId},
    session::{EndReason, Operation, OperationKind, OperationOutcome, OperationRecord},
    time::{Clock as _, Timestamp},
};
use serde_json::json;

use crate::support::{
    gateway::{CONNECTION, FakeGateway},
    node::{Node, Person},
};

/// Any ed25519 public key does: the gateway is the one that checks signatures.
const ALICE_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g";

pub(crate) struct Story {
    pub(crate) node: Node,
    pub(crate) owner: Person,
    pub(crate) alice: Person,
    pub(crate) bob: Person,
    pub(crate) gateway: FakeGateway,
    proof: AuthenticationId,
}

/// Alice may ask for root@web-1, Bob may approve; Alice has proven her key on a connection.
pub(crate) async fn story() -> Story {
    let node = Node::start().await;
    let owner = node.owner().await;
    node.target(&owner, "medium").await;
    let alice = node.person(&owner, "alice", &["operators"], &[]).await;
    let bob = node
        .person(&owner, "bob", &["operators"], &["approver", "security"])
        .await;
    let key = json!({ "public_key": ALICE_KEY, "label": "laptop" });
    node.ok(&alice, "POST", "/v1/self/keys", Some(key)).await;
    let listener = broker::rpc::bind(&node.control).unwrap();
    tokio::spawn(listener.serve(node.control.clone()));
    let id = GatewayId::new(node.clock.now(), [1; 10]);
    let mut gateway = FakeGateway::connect(&node.socket(), id, vec![]).await;
    let proof = gateway.proven(ALICE_KEY).await;
    Story {
        node,
        owner,
        alice,
        bob,
        gateway,
        proof,
    }
}

impl Story {
    /// Alice asks in band; returns the request.
    async fn ask(&mut self) -> (RequestId, RequestProgress) {
        match self
            .gateway
            .submit(&self.proof, "restart the web server")
            .await
        {
            Reply::Request(RequestAnswer::Progress {
                request_id,
                progress,
            }) => (request_id, progress),
            other => panic!("{other:?}"),
        }
    }

    async fn approve(&self, person: &Person, request_id: &RequestId) -> (u16, serde_json::Value) {
        let path = format!("/v1/requests/{request_id}");
        let request = self.node.ok(person, "GET", &path, None).await;
        let vote = json!({ "content_hash": request["content_hash"], "comment": "go on" });
        self.node
            .call(
                &person.token,
                "POST",
                &format!("{path}/approve"),
                Some(vote),
            )
            .await
    }

    /// Alice has a grant and an open session.
    pub(crate) async fn opened(&mut self) -> Opened {
        let (request_id, _) = self.ask().await;
        assert_eq!(self.approve(&self.bob, &request_id).await.0, 200);
        match self.gateway.open(&self.proof).await {
            Reply::Opened(opened) => *opened,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn permit(&self, opened: &Opened) -> Permit {
        let key = UnparsedPublicKey::new(&ED25519, self.gateway.welcome.permit_key.clone());
        let verify = |bytes: &[u8], signature: &[u8]| key.verify(bytes, signature).is_ok();
        opened
            .permit
            .open(verify, &self.gateway.id, self.node.clock.now())
            .unwrap()
    }

    pub(crate) async fn entries(&self, event: &str) -> Vec<serde_json::Value> {
        let path = format!("/v1/audit/entries?from=1&limit=1000&event={event}");
        let answer = self.node.ok(&self.bob, "GET", &path, None).await;
        let entries = answer["entries"].as_array().unwrap();
        entries
            .iter()
            .map(|entry| serde_json::from_str(entry.as_str().unwrap()).unwrap())
            .collect()
    }
}

/// AC-1, AC-3, AC-4, PO-3, GW-11
#[tokio::test]
async fn given_nothing_but_a_key_when_asked_and_approved_then_a_sealed_credential_opens_the_session()
 {
    let mut story = story().await;

    let Reply::Challenge(challenge) = story.gateway.open(&story.proof).await else {
        panic!()
    };
    assert!(challenge.unmet.contains(&Unmet::Grant));
    assert!(
        challenge
            .unmet
            .iter()
            .any(|unmet| matches!(unmet, Unmet::Approval { count: 1, .. }))
    );

    let (request_id, progress) = story.ask().await;
    assert!(matches!(
        progress,
        RequestProgress::Waiting {
            approvals_missing: 1,
            ..
        }
    ));
    assert_eq!(story.approve(&story.bob, &request_id).await.0, 200);

    let await_call = Call::AwaitRequest {
        authentication_id: story.proof.clone(),
        connection: CONNECTION,
        request_id: request_id.clone(),
        seen: progress,
    };
    let answer = story.gateway.call(await_call).await;
    assert!(
        matches!(
            &answer,
            Reply::Request(RequestAnswer::Progress {
                progress: RequestProgress::Granted { .. },
                ..
            })
        ),
        "{answer:?}"
    );

    let Reply::Opened(opened) = story.gateway.open(&story.proof).await else {
        panic!()
    };
    let permit = story.permit(&opened);
    let session_id = &permit.terms().session_id;
    let content = story
        .gateway
        .unseal(&opened.credential, b"sallyport credential v1", session_id);
    let content: CredentialContent = serde_json::from_slice(&content).unwrap();
    let CredentialContent::PrivateKey {
        private_key,
        certificate: Some(certificate),
    } = content
    else {
        panic!("the ssh_ca engine gives a key and a certificate");
    };
    assert!(certificate.starts_with("ssh-ed25519-cert-v01@openssh.com "));
    let key = story.gateway.unseal(
        &opened.recording_key,
        b"sallyport recording key v1",
        session_id,
    );
    assert_eq!(key.len(), 32);

    let log = story
        .node
        .ok(
            &story.bob,
            "GET",
            "/v1/audit/entries?from=1&limit=1000",
            None,
        )
        .await;
    assert!(
        !log.to_string()
            .contains(private_key.expose().lines().nth(1).unwrap())
    );
}

/// AC-3
#[tokio::test]
async fn given_a_request_when_its_own_requester_or_a_stranger_votes_then_it_is_refused() {
    let mut story = story().await;
    let (request_id, _) = story.ask().await;

    let (status, problem) = story.approve(&story.alice, &request_id).await;
    assert_eq!(
        (status, problem["code"].as_str().unwrap()),
        (403, "missing-right")
    );
    let (status, _) = story.approve(&story.bob, &request_id).await;
    assert_eq!(status, 200);
    let (status, _) = story.approve(&story.owner, &request_id).await;
    assert_eq!(status, 409, "it is no longer pending");
}

/// AC-3
#[tokio::test]
async fn given_a_vote_on_other_content_then_it_does_not_count() {
    let mut story = story().await;
    let (request_id, _) = story.ask().await;
    let vote = json!({ "content_hash": "0".repeat(64), "comment": "" });
    let path = format!("/v1/requests/{request_id}/approve");
    let (status, problem) = story
        .node
        .call(&story.bob.token, "POST", &path, Some(vote))
        .await;
    assert_eq!(status, 409, "{problem}");
    assert!(matches!(
        story.gateway.open(&story.proof).await,
        Reply::Challenge(_)
    ));
}

/// PO-1, GW-1
#[tokio::test]
async fn given_an_unknown_account_then_it_looks_like_a_forbidden_one() {
    let mut story = story().await;
    let Reply::Refused(unknown) = story.gateway.open_as(&story.proof, "nobody").await else {
        panic!()
    };
    assert_eq!(unknown.reasons, [Reason::NotPermitted]);
    assert!(unknown.reference.starts_with("ses_"));
}

/// ID-5
#[tokio::test]
async fn given_a_key_nobody_registered_or_a_proof_of_another_connection_then_nothing_opens() {
    let mut story = story().await;
    let other = ALICE_KEY.replace("IAECAwQF", "IBECAwQF");
    assert!(matches!(
        story.gateway.prove_key(&other).await,
        AuthenticationAnswer::Refused { .. }
    ));
    let answer = story
        .gateway
        .call(Call::CancelRequest {
            authentication_id: story.proof.clone(),
            connection: CONNECTION + 1,
            request_id: RequestId::new(Timestamp::EPOCH, [0; 10]),
        })
        .await;
    assert!(matches!(answer, Reply::Failed(_)), "{answer:?}");
}

/// AC-6, GW-12, VA-1
#[tokio::test]
async fn given_a_live_session_when_its_grant_is_ended_then_the_gateway_is_told_and_the_lease_goes()
{
    let mut story = story().await;
    let opened = story.opened().await;
    let permit = story.permit(&opened);
    let path = format!("/v1/grants/{}/end", permit.terms().grant_id);
    story
        .node
        .ok(
            &story.bob,
            "POST",
            &path,
            Some(json!({ "reason": "enough" })),
        )
        .await;

    let push = story.gateway.push().await;
    let Push::EndSession {
        session_id,
        reason,
        comment,
    } = push
    else {
        panic!("{push:?}")
    };
    assert_eq!(
        (&session_id, reason, comment.as_str()),
        (&permit.terms().session_id, EndReason::GrantEnded, "enough")
    );
    assert!(
        matches!(story.gateway.open(&story.proof).await, Reply::Challenge(_)),
        "no new session"
    );

    story.node.clock.advance(Duration::from_secs(600));
    broker::lease::revoke_due(&story.node.control)
        .await
        .unwrap();
    let leases = story.node.ok(&story.owner, "GET", "/v1/leases", None).await;
    assert_eq!(leases["items"][0]["state"], "revoked");
}

/// AC-5
#[tokio::test]
async fn given_a_grant_when_its_time_is_over_then_the_session_ends_by_itself() {
    let mut story = story().await;
    story.opened().await;
    story.node.clock.advance(Duration::from_secs(3_601));
    access::jobs::expire(&story.node.control).await.unwrap();
    let push = story.gateway.push().await;
    assert!(
        matches!(
            push,
            Push::EndSession {
                reason: EndReason::GrantExpired,
                ..
            }
        ),
        "{push:?}"
    );
    assert_eq!(story.entries("grant.ended").await.len(), 1);
}

/// AC-6
#[tokio::test]
async fn given_a_live_session_when_the_person_is_disabled_or_locked_then_it_ends_and_none_opens() {
    for act in ["lock", "disable"] {
        let mut story = story().await;
        story.opened().await;
        let expected = if act == "lock" {
            let body = json!({ "person": "alice", "reason": "lost laptop" });
            story
                .node
                .ok(&story.owner, "POST", "/v1/locks", Some(body))
                .await;
            EndReason::Locked
        } else {
            let body = json!({ "reason": "left" });
            story
                .node
                .ok(&story.owner, "POST", "/v1/people/alice/disable", Some(body))
                .await;
            EndReason::PersonDisabled
        };
        let push = story.gateway.push().await;
        assert!(
            matches!(&push, Push::EndSession { reason, .. } if *reason == expected),
            "{push:?}"
        );
        let reply = story.gateway.open(&story.proof).await;
        assert!(
            matches!(reply, Reply::Refused(_) | Reply::Failed(_)),
            "{act}: {reply:?}"
        );
    }
}

/// AC-7
#[tokio::test]
async fn given_break_glass_then_access_is_immediate_and_the_next_use_waits_for_the_review() {
    let story = story().await;
    let body = json!({ "groups": ["operators", "break-glass"] });
    story
        .node
        .ok(&story.owner, "PATCH", "/v1/people/alice", Some(body))
        .await;
    let ask =
        json!({ "account": "root", "target": "web-1", "reason": "site is down, nobody awake" });
    let request = story
        .node
        .ok(&story.alice, "POST", "/v1/break-glass", Some(ask.clone()))
        .await;
    assert_eq!(request["state"], "granted");

    let (status, problem) = story
        .node
        .call(
            &story.alice.token,
            "POST",
            "/v1/break-glass",
            Some(ask.clone()),
        )
        .await;
    assert_eq!(
        (status, problem["code"].as_str().unwrap()),
        (403, "review-outstanding")
    );

    let reviews = story.node.ok(&story.bob, "GET", "/v1/reviews", None).await;
    let close = format!(
        "/v1/reviews/{}/close",
        reviews["items"][0]["id"].as_str().unwrap()
    );
    let finding = json!({ "finding": "justified; restarted nginx" });
    let (status, _) = story
        .node
        .call(&story.bob.token, "POST", &close, Some(finding.clone()))
        .await;
    assert_eq!(status, 409, "the access is still open");
    let end = format!("/v1/grants/{}/end", request["grant_id"].as_str().unwrap());
    story
        .node
        .ok(
            &story.alice,
            "POST",
            &end,
            Some(json!({ "reason": "done" })),
        )
        .await;
    story
        .node
        .ok(&story.bob, "POST", &close, Some(finding))
        .await;
    let again = story
        .node
        .ok(&story.alice, "POST", "/v1/break-glass", Some(ask))
        .await;
    assert_eq!(again["state"], "granted");
    assert_eq!(story.entries("break_glass.used").await.len(), 2);
}

/// AU-6, RE-11
#[tokio::test]
async fn given_evidence_from_a_gateway_then_it_is_on_record_once_however_often_it_is_sent() {
    let mut story = story().await;
    let opened = story.opened().await;
    let permit = story.permit(&opened);
    let terms = permit.terms();
    let record = OperationRecord {
        id: OperationId::new(story.node.clock.now(), [9; 10]),
        channel: 0,
        operation: Operation {
            kind: OperationKind::Exec,
            detail: "uptime".to_owned(),
            facts: None,
        },
        started_at: story.node.clock.now(),
        ended_at: story.node.clock.now(),
        outcome: OperationOutcome::Completed,
        reason: None,
        exit_status: Some(0),
        size_bytes: None,
        sha256: None,
        statement: None,
    };
    let batch = OperationBatch {
        session_id: terms.session_id.clone(),
        first: 0,
        records: vec![record],
    };
    let anchor = Anchor {
        session_id: terms.session_id.clone(),
        recording_id: terms.recording_id.clone(),
        chunks: 1,
        chain: "ab".repeat(32),
        size_bytes: 100,
    };
    let closed = SessionClosed {
        session_id: terms.session_id.clone(),
        reason: EndReason::ClientClosed,
        bytes_up: 3,
        bytes_down: 5,
        recording: Some(Anchor {
            chunks: 2,
            ..anchor.clone()
        }),
        is_recording_complete: true,
    };
    for _ in 0..2 {
        assert_eq!(
            story
                .gateway
                .call(Call::RecordOperations(batch.clone()))
                .await,
            Reply::Done
        );
        assert_eq!(
            story
                .gateway
                .call(Call::AnchorRecording(anchor.clone()))
                .await,
            Reply::Done
        );
    }
    for _ in 0..2 {
        assert_eq!(
            story.gateway.call(Call::CloseSession(closed.clone())).await,
            Reply::Done
        );
    }
    for event in [
        "operation.recorded",
        "recording.anchored",
        "recording.completed",
        "session.ended",
    ] {
        assert_eq!(story.entries(event).await.len(), 1, "{event}");
    }
    let gap = OperationBatch { first: 5, ..batch };
    assert!(matches!(
        story.gateway.call(Call::RecordOperations(gap)).await,
        Reply::Failed(_)
    ));
}

/// AC-6, RE-12
#[tokio::test]
async fn given_control_was_away_when_a_gateway_is_back_then_what_ended_meanwhile_ends_there() {
    let mut story = story().await;
    let opened = story.opened().await;
    let permit = story.permit(&opened);
    let session_id = permit.terms().session_id.clone();
    let path = format!("/v1/grants/{}/end", permit.terms().grant_id);

    let back = FakeGateway::connect(
        &story.node.socket(),
        story.gateway.id.clone(),
        vec![session_id.clone()],
    )
    .await;
    assert_eq!(back.welcome.end_now, [], "its grant is live");

    story
        .node
        .ok(
            &story.bob,
            "POST",
            &path,
            Some(json!({ "reason": "enough" })),
        )
        .await;
    let back = FakeGateway::connect(
        &story.node.socket(),
        story.gateway.id.clone(),
        vec![session_id.clone()],
    )
    .await;
    assert_eq!(back.welcome.end_now, [(session_id, EndReason::GrantEnded)]);

    FakeGateway::connect(&story.node.socket(), story.gateway.id.clone(), vec![]).await;
    assert_eq!(
        story.entries("session.ended").await.len(),
        1,
        "a session the gateway lost is written down"
    );
}

/// VA-1
#[tokio::test]
async fn given_a_sealed_vault_then_the_person_is_told_and_nothing_is_half_done() {
    let mut story = story().await;
    let (request_id, _) = story.ask().await;
    story.approve(&story.bob, &request_id).await;
    story
        .node
        .ok(&story.owner, "POST", "/v1/vault/seal", None)
        .await;
    let Reply::Refused(refused) = story.gateway.open(&story.proof).await else {
        panic!()
    };
    assert_eq!(refused.reasons, [Reason::VaultSealed]);
    let sessions = story
        .node
        .ok(&story.owner, "GET", "/v1/sessions?state=live", None)
        .await;
    assert_eq!(sessions["items"], json!([]));
}

/// PO-9
#[tokio::test]
async fn given_a_question_then_explain_names_the_policies_and_what_would_change_the_answer() {
    let story = story().await;
    let ask = json!({ "person": "alice", "account": "root", "target": "web-1" });
    let answer = story
        .node
        .ok(&story.bob, "POST", "/v1/policies/explain", Some(ask))
        .await;
    assert_eq!(answer["outcome"], "challenge", "{answer}");
    assert!(!answer["determining"].as_array().unwrap().is_empty());
    assert!(!answer["unmet"].as_array().unwrap().is_empty());
}

/// AC-6, GW-12
#[tokio::test]
async fn given_an_end_that_no_gateway_heard_then_it_is_told_again_until_the_session_is_over() {
    let mut story = story().await;
    let opened = story.opened().await;
    let session_id = story.permit(&opened).terms().session_id.clone();
    let id = story.gateway.id.clone();
    story.node.control.live().disconnect_all();
    assert!(
        story.gateway.hung_up().await,
        "a dropped gateway learns of it"
    );

    let path = format!("/v1/sessions/{session_id}/end");
    let end = json!({ "reason": "enough" });
    story.node.ok(&story.bob, "POST", &path, Some(end)).await;
    let mut back = FakeGateway::connect(&story.node.socket(), id, vec![session_id.clone()]).await;
    let ended = (session_id.clone(), EndReason::EndedByOperator);
    assert_eq!(back.welcome.end_now, [ended]);

    let mut away = HashMap::new();
    broker::oversee::look(&story.node.control, &mut away)
        .await
        .unwrap();
    let push = back.push().await;
    let Push::EndSession { comment, .. } = push else {
        panic!("{push:?}")
    };
    assert_eq!(comment, "enough");
}

/// AC-6, RE-12
#[tokio::test]
async fn given_a_gateway_that_never_returns_then_its_sessions_are_written_off() {
    let mut story = story().await;
    story.opened().await;
    story.node.control.live().disconnect_all();
    assert!(story.gateway.hung_up().await);
    let mut away = HashMap::new();
    broker::oversee::look(&story.node.control, &mut away)
        .await
        .unwrap();
    assert_eq!(story.entries("session.ended").await.len(), 0);
    story.node.clock.advance(Duration::from_secs(600));
    broker::oversee::look(&story.node.control, &mut away)
        .await
        .unwrap();
    let ended = story.entries("session.ended").await;
    assert_eq!(ended[0]["data"]["reason"], "gateway-stopped");
}

/// AC-3
#[tokio::test]
async fn given_an_approver_who_lost_the_right_then_their_vote_no_longer_counts() {
    let story = story().await;
    let target = json!({ "name": "web-1", "protocol": "ssh", "address": "127.0.0.1:22", "sensitivity": "critical" });
    story
        .node
        .ok(&story.owner, "PUT", "/v1/targets/web-1", Some(target))
        .await;
    let carol = story
        .node
        .person(&story.owner, "carol", &[], &["approver"])
        .await;
    let dave = story
        .node
        .person(&story.owner, "dave", &[], &["approver"])
        .await;
    let ask = json!({ "account": "root", "target": "web-1", "reason": "rotate the certificates" });
    let request = story
        .node
        .ok(&story.alice, "POST", "/v1/requests", Some(ask))
        .await;
    let request_id: RequestId = request["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(request["approvals_missing"], 2);

    assert_eq!(story.approve(&story.bob, &request_id).await.0, 200);
    let reason = json!({ "reason": "compromised" });
    story
        .node
        .ok(&story.owner, "POST", "/v1/people/bob/disable", Some(reason))
        .await;
    let (_, after_carol) = story.approve(&carol, &request_id).await;
    assert_eq!(after_carol["state"], "pending", "bob's vote is void");
    let (_, after_dave) = story.approve(&dave, &request_id).await;
    assert_eq!(after_dave["state"], "granted");
}

/// ID-5: a key that was stolen and removed opens nothing on connections that are open already.
#[tokio::test]
async fn given_a_removed_key_then_what_it_proved_before_proves_nothing() {
    let mut story = story().await;
    let keys = story
        .node
        .ok(&story.alice, "GET", "/v1/self/keys", None)
        .await;
    let keys = keys["items"]
        .as_array()
        .or(keys.as_array())
        .unwrap()
        .clone();
    let path = format!("/v1/self/keys/{}", keys[0]["id"].as_str().unwrap());
    assert!(matches!(
        story.gateway.open(&story.proof).await,
        Reply::Challenge(_)
    ));
    story.node.ok(&story.alice, "DELETE", &path, None).await;
    let reply = story.gateway.open(&story.proof).await;
    assert!(matches!(reply, Reply::Failed(_)), "{reply:?}");
}
