//! Recordings verified: whatever was changed, cut off, exchanged or added is said.

use super::*;

/// RE-11, AU-1
#[tokio::test]
async fn given_any_changed_byte_then_the_verification_names_its_chunk_and_the_player_stops_there() {
    let mut story = story().await;
    story.recorded().await;
    let sound = fs::read(story.file()).unwrap();
    let verified = story.verification().await;
    assert_eq!(
        (
            &verified["is_verified"],
            &verified["is_complete"],
            &verified["chunks"]
        ),
        (&json!(true), &json!(true), &json!(5)),
        "{verified}"
    );
    assert_eq!(verified["chain"], story.shown().await["chain"]);

    // Every seventh byte: each chunk, each of its parts.
    for place in (0..sound.len()).step_by(7) {
        let mut damaged = sound.clone();
        damaged[place] ^= 1;
        fs::write(story.file(), &damaged).unwrap();
        let found = story.verification().await;
        assert_eq!(found["is_verified"], false, "byte {place}: {found}");
        assert!(found["fault"].is_string(), "byte {place}: {found}");
    }

    let mut damaged = sound.clone();
    let third = chunk_offsets(&sound)[2];
    damaged[third + 60] ^= 1;
    fs::write(story.file(), &damaged).unwrap();
    let found = story.verification().await;
    let fault = found["fault"].as_str().unwrap();
    assert!(
        fault.contains("chunk 2") && fault.contains(&format!("byte {third}")),
        "{fault}"
    );

    let response = story.content(&story.bob, "?format=transcript").await;
    assert_eq!(response.status(), 200, "what comes before is sound");
    assert!(
        response.into_body().collect().await.is_err(),
        "the body breaks off, it does not end"
    );
}

/// RE-11, AU-1
#[tokio::test]
async fn given_a_file_cut_short_missing_or_another_s_then_that_is_said() {
    let mut story = story().await;
    story.recorded().await;
    let sound = fs::read(story.file()).unwrap();
    let offsets = chunk_offsets(&sound);

    fs::write(story.file(), &sound[..offsets[3]]).unwrap();
    let found = story.verification().await;
    assert_eq!(found["is_verified"], false);
    assert!(
        found["fault"]
            .as_str()
            .unwrap()
            .contains("chunk 3 is anchored"),
        "{found}"
    );

    let mut other = story.tape_of_another();
    other.chunk(&terminal_session()[0]);
    let found = story.verification().await;
    assert!(
        found["fault"]
            .as_str()
            .unwrap()
            .contains("holds recording `rec_other`"),
        "{found}"
    );
    assert_eq!(story.problem(&story.bob, "").await.0, 409);

    fs::remove_file(story.file()).unwrap();
    let found = story.verification().await;
    assert_eq!(found["fault"], "the file of this recording is missing");
    let (status, problem) = story.problem(&story.bob, "").await;
    assert_eq!(status, 409);
    assert!(
        problem["remedy"].as_str().unwrap().contains("backup"),
        "{problem}"
    );
}

impl Story {
    /// Another recording's file in the place of this one's.
    fn tape_of_another(&self) -> Tape {
        let header = Header {
            recording_id: "rec_other".to_owned(),
            ..spare_header()
        };
        let (sealer, head) = Sealer::new(&header, RecordingKey::new([7; 32])).unwrap();
        fs::write(self.file(), &head).unwrap();
        Tape {
            path: self.file(),
            sealer,
            session_id: self.terms.session_id.clone(),
            recording_id: self.terms.recording_id.clone(),
            size_bytes: 0,
            at_us: 0,
        }
    }
}

/// RE-11: without the key anybody can continue the chain; only anchored chunks are evidence.
#[tokio::test]
async fn given_a_chunk_added_after_the_end_then_it_is_not_taken_for_evidence() {
    let story = story().await;
    let mut tape = story.tape();
    let chunks = terminal_session();
    tape.chunk(&chunks[0]);
    tape.chunk(&chunks[1]);
    FakeGateway::connect(&socket(&story.node), story.gateway.id.clone(), vec![]).await;
    assert_eq!(story.verification().await["is_verified"], true);
    tape.chunk(&chunks[2]);
    let found = story.verification().await;
    assert_eq!(found["is_verified"], false);
    assert_eq!(
        found["fault"],
        "1 of the file's chunks, from chunk 2 on, are not in the audit log"
    );
}
