//! Recordings played: as casts and text, live and long, to those who may and to nobody else.

use super::*;

/// RE-1, AU-1
#[tokio::test]
async fn given_a_terminal_session_when_played_then_each_format_shows_it_and_each_reading_is_on_record()
 {
    let mut story = story().await;
    story.recorded().await;

    let v3 = story.text("").await;
    let head: Value = serde_json::from_str(v3.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&head["version"], &head["term"]["cols"]),
        (&json!(3), &json!(80))
    );
    assert!(v3.contains("up 3 days") && !v3.contains("hunter2"), "{v3}");
    let v2 = story.text("?format=asciicast-v2&channel=0").await;
    let head: Value = serde_json::from_str(v2.lines().next().unwrap()).unwrap();
    assert_eq!((&head["version"], &head["width"]), (&json!(2), &json!(80)));
    let transcript = story.text("?format=transcript").await;
    assert!(
        transcript.contains("up 3 days") && !transcript.contains("hunter2"),
        "{transcript}"
    );
    let container = story.content(&story.bob, "?format=container").await;
    let bytes = container.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(bytes, fs::read(story.file()).unwrap());

    let played = story.entries("recording.played").await;
    let formats: Vec<&str> = played
        .iter()
        .map(|entry| entry["data"]["format"].as_str().unwrap())
        .collect();
    assert_eq!(
        formats,
        ["asciicast-v3", "asciicast-v2", "transcript", "container"]
    );
    for entry in &played {
        assert!(entry["actor"].as_str().unwrap().starts_with("per_"));
        assert_eq!(entry["subject"], story.terms.recording_id.to_string());
    }
}

/// RE-1
#[tokio::test]
async fn given_no_terminal_then_a_cast_is_refused_with_what_to_use_instead() {
    let mut story = story().await;
    let mut tape = story.tape();
    let exec = FrameKind::ChannelOpened {
        kind: "session",
        pty: None,
        command: Some("id"),
    };
    tape.chunk(&[
        exec,
        FrameKind::Output(b"uid=0\n"),
        FrameKind::ChannelClosed,
    ]);
    let last = tape.finish();
    story.close(last).await;

    let (status, problem) = story.problem(&story.bob, "").await;
    assert_eq!(
        (status, &problem["field"]),
        (400, &json!("format")),
        "{problem}"
    );
    assert!(problem["title"].as_str().unwrap().contains("transcript"));
    let (status, problem) = story.problem(&story.bob, "?channel=9").await;
    assert_eq!(
        (status, &problem["field"]),
        (400, &json!("channel")),
        "{problem}"
    );
    for (query, field) in [
        ("?format=mp4", "format"),
        ("?format=transcript&channel=0", "channel"),
        ("?format=container&follow=true", "follow"),
    ] {
        let (status, problem) = story.problem(&story.bob, query).await;
        assert_eq!(
            (status, &problem["field"]),
            (400, &json!(field)),
            "{problem}"
        );
    }
    assert!(story.text("?format=transcript").await.contains("uid=0"));
}

/// RE-11, AU-1
#[tokio::test]
async fn given_people_without_the_role_then_not_even_one_s_own_session_is_readable_and_nothing_is_recorded()
 {
    let mut story = story().await;
    story.recorded().await;
    for person in [&story.alice, &story.olga] {
        let (status, problem) = story.problem(person, "").await;
        assert_eq!((status, &problem["code"]), (403, &json!("missing-right")));
        for path in [
            "/v1/recordings".to_owned(),
            story.path(),
            format!("{}/verification", story.path()),
        ] {
            assert_eq!(
                story.node.call(&person.token, "GET", &path, None).await.0,
                403,
                "{path}"
            );
        }
    }
    assert_eq!(story.entries("recording.played").await.len(), 0);
    let listed = story
        .node
        .ok(&story.bob, "GET", "/v1/recordings", None)
        .await;
    assert_eq!(listed["items"][0], story.shown().await);
    assert_eq!(listed["items"][0]["person"], "alice");
}

/// RE-11, VA-1
#[tokio::test]
async fn given_a_sealed_vault_then_content_waits_and_verification_does_not() {
    let mut story = story().await;
    story.recorded().await;
    story
        .node
        .ok(&story.olga, "POST", "/v1/vault/seal", None)
        .await;
    let (status, problem) = story.problem(&story.bob, "").await;
    assert_eq!((status, &problem["code"]), (503, &json!("vault-sealed")));
    assert_eq!(story.entries("recording.played").await.len(), 0);
    assert_eq!(story.verification().await["is_verified"], true);
    assert_eq!(
        story
            .content(&story.bob, "?format=container")
            .await
            .status(),
        200
    );
}

/// RE-1, RE-12
#[tokio::test]
async fn given_a_live_session_when_followed_then_each_chunk_arrives_as_it_is_flushed_until_the_end()
{
    let mut story = story().await;
    let mut tape = story.tape();
    let chunks = terminal_session();
    tape.chunk(&chunks[0]);
    let response = story.content(&story.bob, "?follow=true").await;
    assert_eq!(response.status(), 200);
    let mut body = response.into_body().into_data_stream();
    let first = body.next().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&first).contains("root@web-1"));
    assert_eq!(story.entries("recording.played").await.len(), 1);

    // A chunk that is not whole yet is waited for.
    let before = fs::read(&tape.path).unwrap();
    tape.chunk(&chunks[1]);
    let whole = fs::read(&tape.path).unwrap();
    fs::write(&tape.path, &whole[..before.len() + 20]).unwrap();
    let waiting = tokio::time::timeout(Duration::from_millis(600), body.next()).await;
    assert!(waiting.is_err(), "{waiting:?}");
    fs::write(&tape.path, &whole).unwrap();
    let second = body.next().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&second).contains("up 3 days"));

    let last = tape.finish();
    story.close(last).await;
    while let Some(rest) = body.next().await {
        rest.unwrap();
    }
}

/// AC-6, RE-11
#[tokio::test]
async fn given_somebody_who_follows_when_their_right_ends_then_the_stream_breaks_off() {
    for way in ["disabled", "signed out", "no longer in the role"] {
        let story = story().await;
        let mut tape = story.tape();
        tape.chunk(&terminal_session()[0]);
        let response = story.content(&story.bob, "?follow=true").await;
        let mut body = response.into_body().into_data_stream();
        body.next().await.unwrap().unwrap();
        let (person, method, path, change) = match way {
            "disabled" => {
                let reason = json!({ "reason": "left" });
                (&story.olga, "POST", "/v1/people/bob/disable", Some(reason))
            }
            "signed out" => (&story.bob, "POST", "/v1/sign-out", None),
            _ => {
                let roles = json!({ "admin_roles": ["approver"] });
                (&story.olga, "PATCH", "/v1/people/bob", Some(roles))
            }
        };
        story.node.ok(person, method, path, change).await;
        story.node.clock.advance(Duration::from_secs(2));
        assert!(body.next().await.unwrap().is_err(), "{way}");
        assert!(body.next().await.is_none(), "{way}");
    }
}

/// RE-1: memory for one chunk, not for the recording.
#[tokio::test]
async fn given_a_long_recording_then_it_is_sent_piece_by_piece() {
    let mut story = story().await;
    let mut tape = story.tape();
    tape.chunk(&terminal_session()[0]);
    let line = [b'x'; 1_000];
    let chunk = vec![FrameKind::Output(&line); 250];
    for _ in 0..40 {
        tape.chunk(&chunk);
    }
    let last = tape.finish();
    story.close(last).await;
    let response = story.content(&story.bob, "").await;
    let mut body = response.into_body().into_data_stream();
    let (mut pieces, mut total) = (0, 0);
    while let Some(piece) = body.next().await {
        let length = piece.unwrap().len();
        assert!(length < 600_000, "{length}");
        pieces += 1;
        total += length;
    }
    assert!(
        pieces > 40 && total > 10_000_000,
        "{pieces} pieces, {total} bytes"
    );
}

/// RE-11, OP-1: the statements of this slice, on both databases.
#[tokio::test]
async fn given_either_database_then_recordings_are_listed_played_and_verified() {
    for home in Home::both() {
        let kind = home.kind();
        let mut story = story_in(home).await;
        story.recorded().await;
        let listed = story
            .node
            .ok(&story.bob, "GET", "/v1/recordings?limit=1", None)
            .await;
        assert_eq!(listed["items"], json!([story.shown().await]), "{kind}");
        let cursor = format!("/v1/recordings?cursor={}", story.terms.recording_id);
        let older = story.node.ok(&story.bob, "GET", &cursor, None).await;
        assert_eq!(older["items"], json!([]), "{kind}");
        assert!(story.text("?follow=true").await.contains("up 3 days"));
        let found = story.verification().await;
        assert_eq!(found["is_verified"], true, "{kind}: {found}");
        assert_eq!(found["chunks"], 5, "{kind}");
    }
}
