//! Recordings as auditors read them: exported, followed, verified, and settled after a gateway died.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::PathBuf,
    time::Duration,
};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use axum::{body::Body, http::Request, response::Response};
use futures_util::StreamExt as _;
use http_body_util::BodyExt as _;
use sallyport_api::gateway::{Anchor, Call, Opened, Reply, RequestAnswer, SessionClosed};
use sallyport_control::{broker, kernel::caller::ClientAddress};
use sallyport_core::{
    authz::PermitTerms,
    id::{GatewayId, RecordingId, SessionId},
    session::EndReason,
    time::Clock as _,
};
use sallyport_evidence::recording::{Frame, FrameKind, Header, Pty, RecordingKey, Sealer};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::support::{
    gateway::{CLIENT, FakeGateway},
    home::Home,
    node::{Node, Person},
};

const ALICE_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g";

/// Alice has an open session on web-1; Bob may play recordings, Olga (the owner) may not.
struct Story {
    node: Node,
    olga: Person,
    alice: Person,
    bob: Person,
    gateway: FakeGateway,
    terms: PermitTerms,
    opened: Opened,
    _home: Home,
}

fn socket(node: &Node) -> PathBuf {
    node.control.directory().path("gateway.sock")
}

async fn story() -> Story {
    story_in(Home::sqlite()).await
}

async fn story_in(home: Home) -> Story {
    let node = Node::start_with(|config| home.configure(config)).await;
    let olga = node.owner().await;
    node.target(&olga, "medium").await;
    let alice = node.person(&olga, "alice", &["operators"], &[]).await;
    let bob = node
        .person(&olga, "bob", &["operators"], &["approver", "security"])
        .await;
    let key = json!({ "public_key": ALICE_KEY, "label": "laptop" });
    node.ok(&alice, "POST", "/v1/self/keys", Some(key)).await;
    let listener = broker::rpc::bind(&node.control).unwrap();
    tokio::spawn(listener.serve(node.control.clone()));
    let id = GatewayId::new(node.clock.now(), [1; 10]);
    let mut gateway = FakeGateway::connect(&socket(&node), id, vec![]).await;
    let proof = gateway.proven(ALICE_KEY).await;
    let Reply::Request(RequestAnswer::Progress { request_id, .. }) =
        gateway.submit(&proof, "restart the web server").await
    else {
        panic!("asking makes a request")
    };
    let path = format!("/v1/requests/{request_id}");
    let request = node.ok(&bob, "GET", &path, None).await;
    let vote = json!({ "content_hash": request["content_hash"], "comment": "" });
    node.ok(&bob, "POST", &format!("{path}/approve"), Some(vote))
        .await;
    let Reply::Opened(opened) = gateway.open(&proof).await else {
        panic!("the grant opens a session")
    };
    let key = UnparsedPublicKey::new(&ED25519, gateway.welcome.permit_key.clone());
    let verify = |bytes: &[u8], signature: &[u8]| key.verify(bytes, signature).is_ok();
    let permit = opened
        .permit
        .open(verify, &gateway.id, node.clock.now())
        .unwrap();
    let terms = permit.terms().clone();
    Story {
        node,
        olga,
        alice,
        bob,
        gateway,
        terms,
        opened: *opened,
        _home: home,
    }
}

impl Story {
    /// A recording of this session in the hands of its gateway.
    fn tape(&self) -> Tape {
        let info = b"sallyport recording key v1";
        let key = self
            .gateway
            .unseal(&self.opened.recording_key, info, &self.terms.session_id);
        let header = Header {
            recording_id: self.terms.recording_id.to_string(),
            session_id: self.terms.session_id.to_string(),
            started_at_ms: 1_795_355_040_000,
            key_id: "vault".to_owned(),
            wrapped_key: self.opened.wrapped_recording_key.clone().into_bytes(),
        };
        let (sealer, head) =
            Sealer::new(&header, RecordingKey::new(key.try_into().unwrap())).unwrap();
        let path = self.file();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &head).unwrap();
        Tape {
            path,
            sealer,
            session_id: self.terms.session_id.clone(),
            recording_id: self.terms.recording_id.clone(),
            size_bytes: head.len() as u64,
            at_us: 0,
        }
    }

    fn file(&self) -> PathBuf {
        let name = format!("{}.spr", self.terms.recording_id);
        self.node.control.directory().path("recordings").join(name)
    }

    fn path(&self) -> String {
        format!("/v1/recordings/{}", self.terms.recording_id)
    }

    async fn anchor(&mut self, anchor: Anchor) {
        assert_eq!(
            self.gateway.call(Call::AnchorRecording(anchor)).await,
            Reply::Done
        );
    }

    async fn close(&mut self, last: Anchor) {
        let closed = SessionClosed {
            session_id: self.terms.session_id.clone(),
            reason: EndReason::ClientClosed,
            bytes_up: 3,
            bytes_down: 5,
            recording: Some(last),
            is_recording_complete: true,
        };
        assert_eq!(
            self.gateway.call(Call::CloseSession(closed)).await,
            Reply::Done
        );
    }

    /// A whole recording of a terminal session of several chunks, each anchored.
    async fn recorded(&mut self) {
        let mut tape = self.tape();
        for frames in terminal_session() {
            let anchor = tape.chunk(&frames);
            self.anchor(anchor).await;
        }
        let last = tape.finish();
        self.close(last).await;
    }

    async fn content(&self, person: &Person, query: &str) -> Response {
        let uri = format!("{}/content{query}", self.path());
        let mut request = Request::builder()
            .uri(uri)
            .header("authorization", format!("Bearer {}", person.token))
            .body(Body::empty())
            .unwrap();
        request.extensions_mut().insert(ClientAddress(CLIENT));
        self.node.router.clone().oneshot(request).await.unwrap()
    }

    /// What Bob reads; it must be there and whole.
    async fn text(&self, query: &str) -> String {
        let response = self.content(&self.bob, query).await;
        assert_eq!(response.status(), 200);
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    async fn problem(&self, person: &Person, query: &str) -> (u16, Value) {
        let response = self.content(person, query).await;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    async fn verification(&self) -> Value {
        self.node
            .ok(
                &self.bob,
                "GET",
                &format!("{}/verification", self.path()),
                None,
            )
            .await
    }

    async fn shown(&self) -> Value {
        self.node.ok(&self.bob, "GET", &self.path(), None).await
    }

    async fn entries(&self, event: &str) -> Vec<Value> {
        let path = format!("/v1/audit/entries?from=0&limit=1000&event={event}");
        let answer = self.node.ok(&self.bob, "GET", &path, None).await;
        let entries = answer["entries"].as_array().unwrap();
        entries
            .iter()
            .map(|entry| serde_json::from_str(entry.as_str().unwrap()).unwrap())
            .collect()
    }
}

/// A recording's file as its gateway writes it.
struct Tape {
    path: PathBuf,
    sealer: Sealer,
    session_id: SessionId,
    recording_id: RecordingId,
    size_bytes: u64,
    at_us: u64,
}

impl Tape {
    /// Makes one chunk durable; returns its anchor.
    fn chunk(&mut self, kinds: &[FrameKind<'_>]) -> Anchor {
        for kind in kinds {
            self.at_us += 100_000;
            self.sealer
                .push(&Frame {
                    at_us: self.at_us,
                    channel: 0,
                    kind: *kind,
                })
                .unwrap();
        }
        let chunk = self.sealer.seal().unwrap().unwrap();
        self.append(&chunk.bytes, chunk.index, chunk.chain.to_string())
    }

    /// Writes the last chunk; returns its anchor.
    fn finish(mut self) -> Anchor {
        let key = RecordingKey::new([0; 32]);
        let empty = Sealer::new(&spare_header(), key).unwrap().0;
        let sealer = std::mem::replace(&mut self.sealer, empty);
        let chunk = sealer.finish().unwrap();
        self.append(&chunk.bytes, chunk.index, chunk.chain.to_string())
    }

    fn append(&mut self, bytes: &[u8], index: u64, chain: String) -> Anchor {
        OpenOptions::new()
            .append(true)
            .open(&self.path)
            .unwrap()
            .write_all(bytes)
            .unwrap();
        self.size_bytes += bytes.len() as u64;
        Anchor {
            session_id: self.session_id.clone(),
            recording_id: self.recording_id.clone(),
            chunks: index + 1,
            chain,
            size_bytes: self.size_bytes,
        }
    }
}

fn spare_header() -> Header {
    Header {
        recording_id: "rec".to_owned(),
        session_id: "ses".to_owned(),
        started_at_ms: 0,
        key_id: "vault".to_owned(),
        wrapped_key: vec![0],
    }
}

const PTY: Pty<'static> = Pty {
    term: "xterm-256color",
    columns: 80,
    rows: 24,
};

/// A prompt, a command, its output, a password typed without echo, the end: one chunk each.
fn terminal_session() -> Vec<Vec<FrameKind<'static>>> {
    vec![
        vec![
            FrameKind::ChannelOpened {
                kind: "session",
                pty: Some(PTY),
                command: None,
            },
            FrameKind::Output(b"root@web-1:~# "),
        ],
        vec![
            FrameKind::Input(b"uptime\r"),
            FrameKind::Output(b"uptime\r\n"),
            FrameKind::Output(b" 12:00:00 up 3 days\r\nroot@web-1:~# "),
        ],
        vec![
            FrameKind::Input(b"sudo -i\r"),
            FrameKind::Output(b"sudo -i\r\n[sudo] password: "),
            FrameKind::Input(b"hunter2\r"),
            FrameKind::Output(b"\r\n# "),
        ],
        vec![FrameKind::ExitStatus(0), FrameKind::ChannelClosed],
    ]
}

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

/// RE-2
#[tokio::test]
async fn given_commands_stated_and_typed_then_they_are_listed_in_order_with_their_times() {
    let mut story = story().await;
    let mut tape = story.tape();
    let exec = FrameKind::ChannelOpened {
        kind: "session",
        pty: None,
        command: Some("id\x1b[2J"),
    };
    tape.chunk(&[
        exec,
        FrameKind::Output(b"uid=0\n"),
        FrameKind::ChannelClosed,
    ]);
    for frames in terminal_session() {
        tape.chunk(&frames);
    }
    let last = tape.finish();
    story.close(last).await;

    let lines = story.text("?format=commands").await;
    let commands: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let texts: Vec<&str> = commands
        .iter()
        .map(|command| command["text"].as_str().unwrap())
        .collect();
    assert_eq!(texts.len(), 3, "{lines}");
    assert!(
        texts[0].starts_with("id") && !texts[0].contains('\x1b'),
        "{lines}"
    );
    assert_eq!(texts[1..], ["uptime", "sudo -i"]);
    assert!(commands.iter().all(|command| command["kind"] == "command"));
    assert_eq!(commands[0]["confidence"], "stated");
    assert_eq!(commands[1]["confidence"], "seen");
    assert_eq!(commands[0]["time"], "2026-11-22T13:44:00.100Z");
}

/// RE-2, RE-14: files stand beside commands, each with direction, size and hash, refused ones too.
#[tokio::test]
async fn given_files_moved_refused_and_changed_then_they_are_listed_with_direction_size_and_hash() {
    let mut story = story().await;
    let mut tape = story.tape();
    let record = |kind: &str, detail: &str, end: Value| {
        let mut record = json!({
            "id": "opn_01m82fcnp44h99x89hmg56csp3",
            "channel": 0,
            "operation": { "kind": kind, "detail": detail },
            "started_at": "2026-11-22T13:44:00.000Z",
            "ended_at": "2026-11-22T13:44:01.000Z",
            "outcome": "completed",
            "reason": null,
            "exit_status": null,
            "size_bytes": null,
            "sha256": null,
        });
        for (name, value) in end.as_object().unwrap() {
            record[name] = value.clone();
        }
        serde_json::to_vec(&record).unwrap()
    };
    let hash = "ab".repeat(32);
    let moved = record(
        "file_upload",
        "/srv/a\u{1b}b",
        json!({ "size_bytes": 5, "sha256": hash }),
    );
    let refused = record(
        "file_download",
        "/etc/shadow",
        json!({ "outcome": "refused", "reason": "forbidden" }),
    );
    let changed = record("file_change", "remove /srv/a", json!({}));
    let elsewhere = record("forward_local", "10.0.0.7:22", json!({}));
    let opened = FrameKind::ChannelOpened {
        kind: "sftp",
        pty: None,
        command: None,
    };
    tape.chunk(&[
        opened,
        FrameKind::Operation(&moved),
        FrameKind::Operation(&refused),
        FrameKind::Operation(&changed),
        FrameKind::Operation(&elsewhere),
        FrameKind::Operation(b"{}"),
        FrameKind::ChannelClosed,
    ]);
    let last = tape.finish();
    story.close(last).await;

    let lines = story.text("?format=commands").await;
    let files: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let line = |kind: &str, text: &str, outcome: &str, end: [Value; 3]| {
        let [reason, size, sha256] = end;
        json!({
            "time": "2026-11-22T13:44:00.000Z", "channel": 0, "kind": kind, "text": text,
            "outcome": outcome, "reason": reason, "size_bytes": size, "sha256": sha256,
        })
    };
    let expected = [
        line(
            "file_upload",
            "/srv/a\\u{1b}b",
            "completed",
            [Value::Null, json!(5), json!(hash)],
        ),
        line(
            "file_download",
            "/etc/shadow",
            "refused",
            [json!("forbidden"), Value::Null, Value::Null],
        ),
        line(
            "file_change",
            "remove /srv/a",
            "completed",
            [Value::Null, Value::Null, Value::Null],
        ),
    ];
    assert_eq!(files, expected);
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

/// Where each chunk begins, read as docs/formats/recording.md says.
fn chunk_offsets(file: &[u8]) -> Vec<usize> {
    let length = |at: usize| u32::from_be_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let mut at = 14 + length(10);
    let mut offsets = Vec::new();
    while at < file.len() {
        offsets.push(at);
        at += 4 + length(at);
    }
    offsets
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
