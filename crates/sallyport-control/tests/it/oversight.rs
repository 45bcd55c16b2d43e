//! Others at a live session, as control's routes take them and its gateway hears of them.

use sallyport_api::gateway::Push;
use sallyport_core::id::GatewayId;
use serde_json::{Value, json};

use crate::{main_job::story, support::gateway::FakeGateway};

fn without_reference(mut answer: Value) -> Value {
    if let Some(fields) = answer.as_object_mut() {
        fields.remove("reference");
    }
    answer
}

/// MO-6: a pause is what the store says: a gateway that was away learns of it, and of its end.
#[tokio::test]
async fn given_a_pause_then_the_gateway_is_told_and_told_again_when_it_comes_back() {
    let mut story = story().await;
    let opened = story.opened().await;
    let session_id = story.permit(&opened).terms().session_id.clone();
    let path = format!("/v1/sessions/{session_id}");
    let paused = story
        .node
        .ok(&story.bob, "POST", &format!("{path}/pause"), None)
        .await;
    assert_eq!(paused["paused_by"], "bob");
    let by_bob = || Some("bob".parse().unwrap());
    assert_eq!(
        story.gateway.push().await,
        Push::Paused {
            session_id: session_id.clone(),
            by: by_bob(),
        }
    );
    // Doing it twice is one pause.
    story
        .node
        .ok(&story.bob, "POST", &format!("{path}/pause"), None)
        .await;

    let id: GatewayId = story.gateway.id.clone();
    let live = vec![session_id.clone()];
    let mut gateway = FakeGateway::connect(&story.node.socket(), id.clone(), live.clone()).await;
    assert_eq!(
        gateway.welcome.paused,
        [(session_id.clone(), by_bob().unwrap())]
    );
    story
        .node
        .ok(&story.bob, "POST", &format!("{path}/resume"), None)
        .await;
    assert_eq!(
        gateway.push().await,
        Push::Paused {
            session_id,
            by: None,
        }
    );
    let gateway = FakeGateway::connect(&story.node.socket(), id, live).await;
    assert_eq!(gateway.welcome.paused, []);
    assert_eq!(story.entries("session.paused").await.len(), 1);
    assert_eq!(story.entries("session.resumed").await.len(), 1);
}

/// RE-13: what is said is on record, and bounded.
#[tokio::test]
async fn given_a_message_then_it_reaches_the_gateway_and_the_log() {
    let mut story = story().await;
    let opened = story.opened().await;
    let session_id = story.permit(&opened).terms().session_id.clone();
    let path = format!("/v1/sessions/{session_id}/message");
    for text in [String::new(), "x".repeat(1_001)] {
        let (status, answer) = story
            .node
            .call(
                &story.bob.token,
                "POST",
                &path,
                Some(json!({ "text": text })),
            )
            .await;
        assert_eq!(
            (status, &answer["field"]),
            (400, &json!("text")),
            "{answer}"
        );
    }
    let body = json!({ "text": "stop, please" });
    story.node.ok(&story.bob, "POST", &path, Some(body)).await;
    assert_eq!(
        story.gateway.push().await,
        Push::Message {
            session_id,
            from: "bob".parse().unwrap(),
            text: "stop, please".to_owned(),
        }
    );
    let entries = story.entries("session.messaged").await;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["data"]["text"], "stop, please");
}

/// RE-13, ID-1: rights are looked at before sessions; with the right, what is not there is not found.
#[tokio::test]
async fn given_no_right_then_a_session_that_is_there_and_one_that_is_not_look_the_same() {
    let mut story = story().await;
    let opened = story.opened().await;
    let session_id = story.permit(&opened).terms().session_id.to_string();
    let unknown = "ses_00000000000000000000000000";
    let auditor = story
        .node
        .person(&story.owner, "dora", &[], &["auditor"])
        .await;
    let watcher = "wat_00000000000000000000000000";
    let keyboard = json!({ "keyboard": true });
    let typing = json!({ "watcher": watcher, "channel": 0, "input": "0d" });
    let message = json!({ "text": "hello" });
    for (person, what, body) in [
        (&auditor, "join", Some(keyboard.clone())),
        (&auditor, "pause", None),
        (&auditor, "message", Some(message)),
        (&auditor, "input", Some(typing.clone())),
        (&story.alice, "join", Some(json!({}))),
        (&story.alice, "input", Some(typing.clone())),
        (&story.alice, "resume", None),
    ] {
        let mut answers = Vec::new();
        for id in [session_id.as_str(), unknown] {
            let path = format!("/v1/sessions/{id}/{what}");
            let (status, answer) = story
                .node
                .call(&person.token, "POST", &path, body.clone())
                .await;
            assert!([403, 404].contains(&status), "{what}: {status} {answer}");
            answers.push((status, without_reference(answer)));
        }
        assert_eq!(answers[0], answers[1], "{}: {what}", person.name);
    }
    for (what, body) in [
        ("join", Some(json!({}))),
        ("join", Some(keyboard)),
        ("pause", None),
        ("input", Some(typing)),
    ] {
        let path = format!("/v1/sessions/{unknown}/{what}");
        let (status, answer) = story.node.call(&story.bob.token, "POST", &path, body).await;
        assert_eq!(status, 404, "{what}: {answer}");
    }
    assert_eq!(story.entries("session.joined").await.len(), 0);
}
