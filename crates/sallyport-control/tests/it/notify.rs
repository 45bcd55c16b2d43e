//! Notices at a real HTTP receiver: signed, repeated until taken, never early.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_lc_rs::hmac;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use sallyport_control::{
    access,
    config::{ControlConfig, Webhook},
    notify::{self, jobs::deliver_due},
};
use sallyport_core::{
    event::{Actor, Event, EventName, Events},
    id::RequestId,
    time::Clock as _,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::Notify};

use crate::support::{
    home::Home,
    node::{Node, Person},
};

const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

/// A notice as it arrived.
#[derive(Clone, Debug)]
struct Arrived {
    id: String,
    signature: String,
    body: String,
}

#[derive(Default)]
struct Inbox {
    arrived: Mutex<Vec<Arrived>>,
    /// Answers to give, first one first; 204 when there is none.
    answers: Mutex<Vec<u16>>,
    arrival: Notify,
    is_stuck: Mutex<bool>,
}

/// An HTTP receiver on a free port, and the key file it shares with the sender.
struct Receiver {
    inbox: Arc<Inbox>,
    url: String,
    key_file: PathBuf,
    _home: TempDir,
}

impl Receiver {
    async fn start() -> Self {
        let inbox = Arc::new(Inbox::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/hook", post(take))
            .with_state(Arc::clone(&inbox));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let home = TempDir::new().unwrap();
        let key_file = home.path().join("webhook.key");
        write_key(&key_file, 0o600);
        Self {
            inbox,
            url,
            key_file,
            _home: home,
        }
    }

    fn configure(&self, config: &mut ControlConfig) {
        config.webhook = Some(Webhook {
            url: self.url.clone(),
            secret_file: self.key_file.clone(),
        });
    }

    fn arrived(&self) -> Vec<Arrived> {
        self.inbox.arrived.lock().unwrap().clone()
    }

    fn answer(&self, answers: &[u16]) {
        self.inbox.answers.lock().unwrap().extend(answers);
    }
}

fn write_key(path: &Path, mode: u32) {
    std::fs::write(path, [KEY, b"\n"].concat()).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

async fn take(State(inbox): State<Arc<Inbox>>, headers: HeaderMap, body: Bytes) -> Response {
    let text = |name: &str| headers[name].to_str().unwrap().to_owned();
    assert_eq!(headers[header::CONTENT_TYPE], "application/json");
    inbox.arrived.lock().unwrap().push(Arrived {
        id: text("x-sallyport-notice"),
        signature: text("x-sallyport-signature"),
        body: String::from_utf8(body.to_vec()).unwrap(),
    });
    inbox.arrival.notify_one();
    if *inbox.is_stuck.lock().unwrap() {
        std::future::pending::<()>().await;
    }
    let mut answers = inbox.answers.lock().unwrap();
    let status = if answers.is_empty() {
        204
    } else {
        answers.remove(0)
    };
    let status = StatusCode::from_u16(status).unwrap();
    (status, [(header::LOCATION, "/hook")]).into_response()
}

/// Checks a signature as docs/plugins/notification-channel/webhook.md tells receivers to.
fn verified_at(arrived: &Arrived) -> u64 {
    let (at, tag) = arrived.signature.split_once(',').unwrap();
    let (at, tag) = (
        at.strip_prefix("t=").unwrap(),
        tag.strip_prefix("v1=").unwrap(),
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, KEY);
    let signed = format!("{at}.{}", arrived.body);
    hmac::verify(&key, signed.as_bytes(), &hex::decode(tag).unwrap()).unwrap();
    at.parse().unwrap()
}

struct Story {
    node: Node,
    olga: Person,
    alice: Person,
    bob: Person,
}

async fn story(set: impl FnOnce(&mut ControlConfig)) -> Story {
    let node = Node::start_with(set).await;
    let olga = node.owner().await;
    node.target(&olga, "medium").await;
    let alice = node
        .person(&olga, "alice", &["operators", "break-glass"], &[])
        .await;
    let bob = node
        .person(&olga, "bob", &["operators"], &["approver", "security"])
        .await;
    Story {
        node,
        olga,
        alice,
        bob,
    }
}

impl Story {
    /// Alice asks; returns the request.
    async fn ask(&self, path: &str) -> Value {
        let ask =
            json!({ "account": "root", "target": "web-1", "reason": "site is down, nobody awake" });
        self.node.ok(&self.alice, "POST", path, Some(ask)).await
    }

    async fn deliver(&self) {
        deliver_due(&self.node.control).await.unwrap();
    }

    async fn failures(&self) -> Vec<Value> {
        let path = "/v1/audit/entries?from=0&limit=1000&event=notice.failed";
        let answer = self.node.ok(&self.bob, "GET", path, None).await;
        let entries = answer["entries"].as_array().unwrap();
        entries
            .iter()
            .map(|entry| serde_json::from_str(entry.as_str().unwrap()).unwrap())
            .collect()
    }
}

/// AC-7
#[tokio::test]
async fn given_break_glass_then_a_signed_notice_says_who_where_why_and_what_to_review() {
    let receiver = Receiver::start().await;
    let story = story(|config| receiver.configure(config)).await;
    let request = story.ask("/v1/break-glass").await;
    story.deliver().await;

    let arrived = receiver.arrived();
    assert_eq!(arrived.len(), 1, "{arrived:?}");
    assert_eq!(verified_at(&arrived[0]), story.node.clock.now().unix_s());
    let body: Value = serde_json::from_str(&arrived[0].body).unwrap();
    assert_eq!(body["id"], arrived[0].id.as_str());
    for (field, value) in [
        ("kind", "break_glass.used"),
        ("person", "alice"),
        ("account", "root"),
        ("target", "web-1"),
        ("reason", "site is down, nobody awake"),
    ] {
        assert_eq!(body[field], value, "{body}");
    }
    assert_eq!(body["grant_id"], request["grant_id"]);
    assert!(
        body["review_id"].as_str().unwrap().starts_with("rev_"),
        "{body}"
    );

    story.deliver().await;
    assert_eq!(
        receiver.arrived().len(),
        1,
        "what was taken is not sent again"
    );
}

/// AC-7
#[tokio::test]
async fn given_a_receiver_that_fails_then_the_notice_is_sent_again_later_and_later_until_taken() {
    for home in Home::both() {
        let receiver = Receiver::start().await;
        let story = story(|config| {
            home.configure(config);
            receiver.configure(config);
        })
        .await;
        receiver.answer(&[500, 302, 200]);
        story.ask("/v1/requests").await;

        story.deliver().await;
        story.deliver().await;
        assert_eq!(receiver.arrived().len(), 1, "not before the wait is over");
        story.node.clock.advance(Duration::from_secs(1));
        story.deliver().await;
        assert_eq!(
            receiver.arrived().len(),
            2,
            "a redirect is a failure and is not followed"
        );
        story.node.clock.advance(Duration::from_secs(1));
        story.deliver().await;
        assert_eq!(receiver.arrived().len(), 2, "the wait has doubled");
        story.node.clock.advance(Duration::from_secs(1));
        story.deliver().await;
        story.node.clock.advance(Duration::from_secs(3_600));
        story.deliver().await;

        let arrived = receiver.arrived();
        assert_eq!(arrived.len(), 3, "taken, so never again");
        assert!(
            arrived
                .iter()
                .all(|one| one.id == arrived[0].id && one.body == arrived[0].body)
        );
        assert!(
            verified_at(&arrived[2]) > verified_at(&arrived[0]),
            "each attempt is signed anew"
        );
        let failures = story.failures().await;
        assert_eq!(failures.len(), 1, "{failures:?}");
        assert_eq!(failures[0]["data"]["attempts"], 1);
        assert!(
            failures[0]["data"]["reason"]
                .as_str()
                .unwrap()
                .contains("500"),
            "{failures:?}"
        );
    }
}

/// AC-7
#[tokio::test]
async fn given_a_receiver_that_stays_away_then_the_log_hears_of_it_at_first_and_every_tenth_time() {
    let receiver = Receiver::start().await;
    let story = story(|config| receiver.configure(config)).await;
    receiver.answer(&[503; 21]);
    story.ask("/v1/requests").await;
    for _ in 0..21 {
        story.deliver().await;
        story.node.clock.advance(Duration::from_secs(600));
    }
    let attempts: Vec<u64> = story
        .failures()
        .await
        .iter()
        .map(|entry| entry["data"]["attempts"].as_u64().unwrap())
        .collect();
    assert_eq!(attempts, [1, 10, 20]);
    assert_eq!(receiver.arrived().len(), 21, "never given up");
}

/// AC-7
#[tokio::test]
async fn given_a_process_killed_while_delivering_then_the_notice_arrives_again_after_the_restart() {
    let receiver = Receiver::start().await;
    let story = story(|config| receiver.configure(config)).await;
    story.ask("/v1/break-glass").await;
    *receiver.inbox.is_stuck.lock().unwrap() = true;
    tokio::select! {
        () = receiver.inbox.arrival.notified() => {}
        () = story.deliver() => panic!("the receiver never answers"),
    }
    *receiver.inbox.is_stuck.lock().unwrap() = false;
    let node = story.node.restart_with(|_| {}).await;
    deliver_due(&node.control).await.unwrap();
    let arrived = receiver.arrived();
    assert_eq!(arrived.len(), 2);
    assert_eq!(
        arrived[0].id, arrived[1].id,
        "so that the receiver can tell a repeat"
    );
    deliver_due(&node.control).await.unwrap();
    assert_eq!(receiver.arrived().len(), 2);
}

/// AU-6, AC-7
#[tokio::test]
async fn given_a_change_that_is_not_committed_then_nobody_is_told_of_it() {
    let receiver = Receiver::start().await;
    let story = story(|config| receiver.configure(config)).await;
    let asked = story.ask("/v1/requests").await;
    story.deliver().await;
    assert_eq!(receiver.arrived().len(), 1);

    let control = &story.node.control;
    let id: RequestId = asked["id"].as_str().unwrap().parse().unwrap();
    let mut reader = control.db().read().await.unwrap();
    let mut request = access::request_by_id(&mut reader, &id)
        .await
        .unwrap()
        .unwrap();
    drop(reader);
    request.id = RequestId::new(control.now(), [3; 10]);
    let mut tx = control.db().begin(Actor::System).await.unwrap();
    notify::request_created(&mut tx, &request).await.unwrap();
    story.deliver().await;
    assert_eq!(receiver.arrived().len(), 1, "not yet");
    drop(tx);
    story.deliver().await;
    assert_eq!(receiver.arrived().len(), 1, "it never happened");

    let mut tx = control.db().begin(Actor::System).await.unwrap();
    notify::request_created(&mut tx, &request).await.unwrap();
    tx.commit(Events::one(Event::new(
        EventName::RequestCreated,
        &request.id,
    )))
    .await
    .unwrap();
    story.deliver().await;
    assert_eq!(receiver.arrived().len(), 2);
}

/// AC-7
#[tokio::test]
async fn given_no_webhook_then_notices_wait_for_one() {
    let story = story(|_| {}).await;
    story.ask("/v1/break-glass").await;
    story.deliver().await;
    let receiver = Receiver::start().await;
    let node = story
        .node
        .restart_with(|config| receiver.configure(config))
        .await;
    deliver_due(&node.control).await.unwrap();
    assert_eq!(receiver.arrived().len(), 1);
}

/// AC-7: nothing leaves unsigned.
#[tokio::test]
async fn given_a_key_file_that_is_missing_short_or_open_to_others_then_nothing_is_sent_and_it_is_recorded()
 {
    for spoil in ["missing", "short", "open"] {
        let receiver = Receiver::start().await;
        match spoil {
            "missing" => std::fs::remove_file(&receiver.key_file).unwrap(),
            "short" => std::fs::write(&receiver.key_file, "short\n").unwrap(),
            _ => write_key(&receiver.key_file, 0o644),
        }
        let story = story(|config| receiver.configure(config)).await;
        story.ask("/v1/requests").await;
        story.deliver().await;
        assert_eq!(receiver.arrived().len(), 0, "{spoil}");
        assert_eq!(story.failures().await.len(), 1, "{spoil}");
        assert_eq!(story.olga.name, "olga");
        let _ = std::fs::remove_file(&receiver.key_file);
        write_key(&receiver.key_file, 0o600);
        story.node.clock.advance(Duration::from_secs(1));
        story.deliver().await;
        assert_eq!(
            receiver.arrived().len(),
            1,
            "{spoil}: put right without a restart"
        );
    }
}
