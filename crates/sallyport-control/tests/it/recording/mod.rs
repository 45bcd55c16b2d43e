//! Recordings as auditors read them: exported, followed, verified, and settled after a gateway died.

mod commands;
mod crash;
mod play;
mod verify;

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
