//! The client against a control plane that a test plays by hand, over a real socket.

use std::collections::VecDeque;

use bytes::BytesMut;
use sallyport_api::gateway::{GatewayHello, Push, Welcome};
use sallyport_core::{
    authz::Reason,
    session::{EndReason, Operation, OperationKind},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixListener,
    task::JoinHandle,
};

use super::*;
use crate::{
    enforce::OperationDecision,
    session::End,
    tasks::Tasks,
    testing::{Harness, PATIENCE, START, ended, session_id},
};

/// The far end: a control plane that a test plays by hand.
struct Control {
    socket: UnixListener,
    _directory: TempDir,
}

/// One connection of a gateway, after its hello.
struct Gateway {
    stream: UnixStream,
    buffer: BytesMut,
    hello: GatewayHello,
    calls: VecDeque<FromGateway>,
}

impl Control {
    fn start() -> (Self, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let socket = UnixListener::bind(&path).unwrap();
        (
            Self {
                socket,
                _directory: directory,
            },
            path,
        )
    }

    async fn greeted(&self, welcome: Welcome) -> Gateway {
        self.greeted_after(None, welcome).await
    }

    /// The welcome comes after a push.
    async fn greeted_after(&self, push: Option<Push>, welcome: Welcome) -> Gateway {
        let accepted = tokio::time::timeout(PATIENCE, self.socket.accept());
        let mut gateway = Gateway {
            stream: accepted.await.unwrap().unwrap().0,
            buffer: BytesMut::new(),
            hello: GatewayHello {
                rpc_version: 0,
                version: String::new(),
                gateway_id: GatewayId::new(START, [0; 10]),
                sealing_key: Vec::new(),
                live_sessions: Vec::new(),
                entrances: Vec::new(),
                tls_public_key: Vec::new(),
            },
            calls: VecDeque::new(),
        };
        let FromGateway {
            id,
            call: Call::Hello(hello),
        } = gateway.next().await
        else {
            panic!("the first call must be hello");
        };
        gateway.hello = hello;
        if let Some(push) = push {
            gateway.send(&FromControl::Push { push }).await;
        }
        gateway.reply(id, Reply::Welcome(Box::new(welcome))).await;
        gateway
    }
}

impl Gateway {
    async fn next(&mut self) -> FromGateway {
        let reading = async {
            loop {
                if let Some(frame) = api::decode_frame(&mut self.buffer).unwrap() {
                    return frame;
                }
                assert_ne!(self.stream.read_buf(&mut self.buffer).await.unwrap(), 0);
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.unwrap()
    }

    async fn send(&mut self, frame: &FromControl) {
        let mut bytes = BytesMut::new();
        api::encode_frame(frame, &mut bytes).unwrap();
        self.stream.write_all(&bytes).await.unwrap();
    }

    async fn reply(&mut self, id: u64, reply: Reply) {
        self.send(&FromControl::Reply { id, reply }).await;
    }
}

fn welcome(harness: &Harness) -> Welcome {
    Welcome {
        permit_key: harness.signer.public(),
        bundle: "permit".to_owned(),
        user_authorities: vec!["ssh-ed25519 AAAA".to_owned()],
        end_now: Vec::new(),
        paused: Vec::new(),
        control_grace_s: 60,
        tls_certificate: Vec::new(),
    }
}

fn client(harness: &Harness, socket: PathBuf, silence: Duration) -> Arc<RpcClient> {
    let settings = RpcSettings {
        socket,
        gateway_id: harness.node.gateway_id.clone(),
        sealing_key: vec![1; 32],
        entrances: Vec::new(),
        tls: Arc::new(crate::tls::TlsIdentity::generate().unwrap()),
        call_timeout: PATIENCE,
        silence,
    };
    let directives = Arc::clone(&harness.node.directives);
    Arc::new(RpcClient::new(settings, directives, harness.clock.clone()))
}

fn run(client: &Arc<RpcClient>) -> (CancellationToken, JoinHandle<Option<()>>) {
    let stop = CancellationToken::new();
    let (running, stopped) = (Arc::clone(client), stop.clone());
    (
        stop,
        Tasks::default().spawn("control", async move { running.run(stopped).await }),
    )
}

fn pin(client: &Arc<RpcClient>, host_key: &str) -> JoinHandle<Option<Result<(), ControlError>>> {
    let (client, host_key) = (Arc::clone(client), host_key.to_owned());
    Tasks::default().spawn("call", async move {
        let target_id = TargetId::new(START, [3; 10]);
        client
            .pin_host_key(session_id(1), target_id, host_key)
            .await
    })
}

/// Resolves once calls go through: a moment after the welcome was sent.
async fn connected(client: &RpcClient) {
    while client.link.lock().unwrap().is_none() {
        tokio::task::yield_now().await;
    }
}

fn pinned_key(frame: &FromGateway) -> &str {
    match &frame.call {
        Call::PinHostKey { host_key, .. } => host_key,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn hello_says_who_lives_and_welcome_takes_effect() {
    let harness = Harness::start();
    let session = harness.open(1).await;
    let (control, socket) = Control::start();
    let client = client(&harness, socket, PATIENCE);
    let (stop, running) = run(&client);
    let mut gateway = control
        .greeted(Welcome {
            end_now: vec![(session_id(1), EndReason::GrantEnded)],
            ..welcome(&harness)
        })
        .await;
    assert_eq!(gateway.hello.rpc_version, api::RPC_VERSION);
    assert_eq!(gateway.hello.gateway_id, harness.node.gateway_id);
    assert_eq!(gateway.hello.live_sessions, [session_id(1)]);
    assert_eq!(ended(&session).await.reason, EndReason::GrantEnded);
    connected(&client).await;
    let call = pin(&client, "k");
    let frame = gateway.next().await;
    gateway.reply(frame.id, Reply::Done).await;
    call.await.unwrap().unwrap().unwrap();
    assert_eq!(
        harness.node.directives.user_authorities(),
        ["ssh-ed25519 AAAA"]
    );
    stop.cancel();
    running.await.unwrap();
}

/// AC-6
#[tokio::test]
async fn an_end_that_overtakes_the_welcome_takes_effect() {
    let harness = Harness::start();
    let session = harness.open(1).await;
    let (control, socket) = Control::start();
    let client = client(&harness, socket, PATIENCE);
    let (_stop, _running) = run(&client);
    let push = Push::EndSession {
        session_id: session_id(1),
        reason: EndReason::Locked,
        comment: String::new(),
    };
    let _gateway = control.greeted_after(Some(push), welcome(&harness)).await;
    assert_eq!(ended(&session).await.reason, EndReason::Locked);
    connected(&client).await;
}

#[tokio::test]
async fn answers_find_their_calls_in_any_order() {
    let harness = Harness::start();
    let (control, socket) = Control::start();
    let client = client(&harness, socket, PATIENCE);
    let (_stop, _running) = run(&client);
    let mut gateway = control.greeted(welcome(&harness)).await;
    connected(&client).await;
    let fault = |message: &str| {
        Reply::Failed(api::Fault {
            error: api::CallError::Bug,
            reason: Reason::AuditFailed,
            message: message.to_owned(),
        })
    };
    let calls: Vec<_> = ["a", "b", "c"]
        .into_iter()
        .map(|key| (key, pin(&client, key)))
        .collect();
    for _ in 0..3 {
        let frame = gateway.next().await;
        gateway.calls.push_front(frame);
    }
    while let Some(frame) = gateway.calls.pop_front() {
        let reply = fault(pinned_key(&frame));
        gateway.reply(frame.id, reply).await;
    }
    for (key, call) in calls {
        match call.await.unwrap().unwrap() {
            Err(ControlError::Failed { fault, .. }) => assert_eq!(fault.message, key),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn an_answer_of_the_wrong_kind_is_no_answer() {
    let harness = Harness::start();
    let (control, socket) = Control::start();
    let client = client(&harness, socket, PATIENCE);
    let (_stop, _running) = run(&client);
    let mut gateway = control.greeted(welcome(&harness)).await;
    connected(&client).await;
    let call = pin(&client, "k");
    let frame = gateway.next().await;
    let refused = api::Refused {
        reasons: Vec::new(),
        reference: String::new(),
    };
    gateway.reply(frame.id, Reply::Refused(refused)).await;
    assert!(matches!(
        call.await.unwrap().unwrap(),
        Err(ControlError::WrongReply { .. })
    ));
}

/// GW-12
#[tokio::test]
async fn when_the_connection_breaks_calls_fail_and_the_gateway_comes_back_by_itself() {
    let harness = Harness::start();
    let (control, socket) = Control::start();
    let client = client(&harness, socket, PATIENCE);
    let (_stop, _running) = run(&client);
    let mut gateway = control.greeted(welcome(&harness)).await;
    connected(&client).await;
    let call = pin(&client, "k");
    gateway.next().await;
    drop(gateway);
    assert!(matches!(
        call.await.unwrap().unwrap(),
        Err(ControlError::Unavailable)
    ));

    let mut gateway = control.greeted(welcome(&harness)).await;
    connected(&client).await;
    let call = pin(&client, "k");
    let frame = gateway.next().await;
    gateway.reply(frame.id, Reply::Done).await;
    call.await.unwrap().unwrap().unwrap();
}

/// GW-12
#[tokio::test]
async fn a_control_plane_that_falls_silent_counts_as_gone() {
    let harness = Harness::start();
    let (control, socket) = Control::start();
    let client = client(&harness, socket, Duration::from_millis(300));
    let (_stop, _running) = run(&client);
    let _silent = control.greeted(welcome(&harness)).await;
    // The gateway hangs up and connects again, although nobody closed the first connection.
    let _second = control.greeted(welcome(&harness)).await;
}

#[tokio::test]
async fn garbage_from_control_breaks_the_connection_and_nothing_else() {
    let harness = Harness::start();
    let (control, socket) = Control::start();
    let client = client(&harness, socket, PATIENCE);
    let (_stop, _running) = run(&client);
    let mut gateway = control.greeted(welcome(&harness)).await;
    gateway.stream.write_all(&[0xff; 64]).await.unwrap();
    let _second = control.greeted(welcome(&harness)).await;
}

/// AC-6, PO-3
#[tokio::test]
async fn pushes_end_sessions_and_swap_policies() {
    let harness = Harness::start();
    let (over, live) = (harness.open(1).await, harness.open(2).await);
    let (control, socket) = Control::start();
    let client = client(&harness, socket, PATIENCE);
    let (_stop, _running) = run(&client);
    let mut gateway = control.greeted(welcome(&harness)).await;
    let push = Push::Bundle {
        bundle: "permit forbid:exec".to_owned(),
    };
    gateway.send(&FromControl::Push { push }).await;
    let push = Push::EndSession {
        session_id: session_id(1),
        reason: EndReason::Locked,
        comment: "stop".to_owned(),
    };
    gateway.send(&FromControl::Push { push }).await;
    let expected = End {
        reason: EndReason::Locked,
        comment: "stop".to_owned(),
    };
    assert_eq!(ended(&over).await, expected);
    let exec = Operation {
        kind: OperationKind::Exec,
        detail: "id".to_owned(),
        facts: None,
    };
    assert_eq!(
        live.check(&exec),
        OperationDecision::Refused(Reason::Forbidden)
    );
    assert_eq!(live.end_if_over(), None);
}

#[tokio::test]
async fn without_a_connection_calls_fail_at_once() {
    let harness = Harness::start();
    let client = client(
        &harness,
        PathBuf::from("/nonexistent/control.sock"),
        PATIENCE,
    );
    let call = pin(&client, "k");
    assert!(matches!(
        call.await.unwrap().unwrap(),
        Err(ControlError::Unavailable)
    ));
}
