//! Recordings of gateways that died, and of recorders that failed: what was written is anchored, and no more.

use super::*;

/// RE-12, AU-1
#[tokio::test]
async fn given_a_gateway_that_died_then_what_it_had_written_is_anchored_with_the_end_of_the_session()
 {
    let mut story = story().await;
    let mut tape = story.tape();
    let chunks = terminal_session();
    let first = tape.chunk(&chunks[0]);
    story.anchor(first).await;
    tape.chunk(&chunks[1]);
    let third = tape.chunk(&chunks[2]);
    // A fourth chunk was being written when the power went.
    fs::OpenOptions::new()
        .append(true)
        .open(&tape.path)
        .unwrap()
        .write_all(&[0, 0, 9, 9, 1])
        .unwrap();

    FakeGateway::connect(&socket(&story.node), story.gateway.id.clone(), vec![]).await;
    let shown = story.shown().await;
    assert_eq!(
        (
            &shown["state"],
            &shown["chunks"],
            &shown["chain"],
            &shown["size_bytes"]
        ),
        (
            &json!("cut_off"),
            &json!(3),
            &json!(third.chain),
            &json!(third.size_bytes)
        )
    );
    let cut_off = story.entries("recording.cut_off").await;
    assert_eq!(cut_off.len(), 1);
    assert_eq!(cut_off[0]["data"]["chunks"], 3);
    let found = story.verification().await;
    assert_eq!(
        (
            &found["is_verified"],
            &found["is_complete"],
            &found["chunks"]
        ),
        (&json!(true), &json!(false), &json!(3)),
        "{found}"
    );
    assert!(story.text("").await.contains("up 3 days"));
}

/// RE-12
#[tokio::test]
async fn given_a_gateway_that_died_after_the_last_chunk_then_the_recording_is_whole() {
    let story = story().await;
    let mut tape = story.tape();
    for frames in terminal_session() {
        tape.chunk(&frames);
    }
    tape.finish();
    FakeGateway::connect(&socket(&story.node), story.gateway.id.clone(), vec![]).await;
    assert_eq!(story.shown().await["state"], "complete");
    assert_eq!(story.verification().await["is_complete"], true);
}

/// RE-11: settling must not bless what does not continue the anchored recording.
#[tokio::test]
async fn given_a_file_changed_while_the_gateway_was_down_then_nothing_of_it_is_anchored() {
    let mut story = story().await;
    let mut tape = story.tape();
    let chunks = terminal_session();
    let first = tape.chunk(&chunks[0]);
    story.anchor(first.clone()).await;
    tape.chunk(&chunks[1]);
    let mut bytes = fs::read(&tape.path).unwrap();
    let place = chunk_offsets(&bytes)[0] + 50;
    bytes[place] ^= 1;
    fs::write(&tape.path, &bytes).unwrap();

    FakeGateway::connect(&socket(&story.node), story.gateway.id.clone(), vec![]).await;
    let shown = story.shown().await;
    assert_eq!(
        (&shown["chunks"], &shown["chain"]),
        (&json!(1), &json!(first.chain))
    );
    let found = story.verification().await;
    assert_eq!(found["is_verified"], false);
    assert!(
        found["fault"].as_str().unwrap().contains("chunk 0"),
        "{found}"
    );
}

/// RE-12: a recorder that fails ends the session; what it had written before counts.
#[tokio::test]
async fn given_a_recorder_that_failed_then_the_end_anchors_what_is_in_the_file() {
    let mut story = story().await;
    let mut tape = story.tape();
    let chunks = terminal_session();
    let first = tape.chunk(&chunks[0]);
    // Written, but the disk did not say in time that it is durable.
    let second = tape.chunk(&chunks[1]);
    let closed = SessionClosed {
        session_id: story.terms.session_id.clone(),
        reason: EndReason::RecorderFailed,
        bytes_up: 3,
        bytes_down: 5,
        recording: Some(first),
        is_recording_complete: false,
    };
    assert_eq!(
        story.gateway.call(Call::CloseSession(closed)).await,
        Reply::Done
    );
    let shown = story.shown().await;
    assert_eq!(
        (&shown["state"], &shown["chunks"], &shown["chain"]),
        (&json!("cut_off"), &json!(2), &json!(second.chain))
    );
    assert_eq!(story.verification().await["is_verified"], true);
}

/// RE-12
#[tokio::test]
async fn given_a_session_that_recorded_nothing_then_it_ends_and_nothing_vouches_for_its_recording()
{
    let story = story().await;
    story.tape();
    FakeGateway::connect(&socket(&story.node), story.gateway.id.clone(), vec![]).await;
    assert_eq!(story.shown().await["state"], "cut_off");
    assert_eq!(story.entries("session.ended").await.len(), 1);
    let found = story.verification().await;
    assert_eq!(found["is_verified"], false);
    assert!(
        found["fault"]
            .as_str()
            .unwrap()
            .contains("anchors no chunk"),
        "{found}"
    );
}
