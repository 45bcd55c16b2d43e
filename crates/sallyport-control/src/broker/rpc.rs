//! The RPC server for gateways, on a Unix socket in the data directory.
//!
//! Who may connect: processes of the same user (the kernel says who the peer is); the socket itself is
//! readable by that user only. What may be called when: `docs/formats/gateway-rpc.md`.
//!
//! INVARIANT: the first call is `hello` and comes once; every other call names a proof, a session or a
//! request that this gateway holds; calls of one gateway run at most [`CALLS_MAX`] at a time.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use sallyport_api::gateway::{
    Call, CallError, Fault, FromControl, FromGateway, GatewayHello, Push, RPC_VERSION, Reply,
    Welcome, decode_frame, encode_frame,
};
use sallyport_core::{
    authz::Reason,
    event::{Actor, Event, EventName, Events},
    id::GatewayId,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc},
};
use tokio_util::sync::CancellationToken;

use super::{
    close::{self, ReportError},
    evidence, held, host_key, in_band,
    live::{Connected, QUEUE_FRAMES},
    open, oversee, pause,
};
use crate::{
    authn,
    kernel::{control::Control, database::StoreError, task, tls},
    secret,
};

/// Calls of one gateway that run at a time; more wait in the socket.
const CALLS_MAX: usize = 256;
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How long sessions live on while control is away, as during a restart.
const CONTROL_GRACE: Duration = Duration::from_secs(60);
/// A gateway that takes nothing for this long is dropped.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Why gateways cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// The socket cannot be made.
    #[error("listen for gateways at `{path}`")]
    Listen {
        /// Where.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// A bound socket that is not served yet.
#[derive(Debug)]
pub struct GatewayListener {
    listener: UnixListener,
    path: PathBuf,
}

/// Binds the socket that gateways connect to.
///
/// # Errors
/// [`RpcError::Listen`].
pub fn bind(control: &Control) -> Result<GatewayListener, RpcError> {
    let configured = control.config().gateway.socket.clone();
    let path = configured.unwrap_or_else(|| control.directory().path("gateway.sock"));
    let failed = |source| RpcError::Listen {
        path: path.display().to_string(),
        source,
    };
    match std::fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let listener = UnixListener::bind(&path).map_err(failed)?;
    set_private(&path).map_err(failed)?;
    Ok(GatewayListener { listener, path })
}

impl GatewayListener {
    /// Serves gateways until the process ends.
    ///
    /// # Errors
    /// [`RpcError::Listen`].
    pub async fn serve(self, control: Control) -> Result<(), RpcError> {
        loop {
            let (stream, _) = self
                .listener
                .accept()
                .await
                .map_err(|source| RpcError::Listen {
                    path: self.path.display().to_string(),
                    source,
                })?;
            let control = control.clone();
            task::spawn("gateway connection", async move {
                if let Err(error) = serve_gateway(&control, stream).await {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "a gateway connection ended"
                    );
                }
            });
        }
    }
}

fn set_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
}

#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("read or write the gateway's socket")]
    Io(#[from] io::Error),
    #[error("understand the gateway's frame")]
    Frame(#[from] sallyport_api::gateway::FrameError),
    #[error("a process of another user connected to the gateway socket")]
    OtherUser,
    #[error("the gateway did not begin with a hello of version {RPC_VERSION}")]
    NoHello,
    #[error("reach the store")]
    Store(#[from] StoreError),
    #[error("certify the gateway's TLS key")]
    Certify(#[from] tls::TlsError),
}

async fn serve_gateway(control: &Control, mut stream: UnixStream) -> Result<(), ConnectionError> {
    let peer = stream.peer_cred()?;
    if peer.uid() != own_user()? {
        return Err(ConnectionError::OtherUser);
    }
    let mut buffer = BytesMut::with_capacity(16 * 1024);
    let (id, hello) = tokio::time::timeout(HELLO_TIMEOUT, read_hello(&mut stream, &mut buffer))
        .await
        .map_err(|_| ConnectionError::NoHello)??;
    let gateway_id = hello.gateway_id.clone();

    // Registered before the comparison, so that an end decided meanwhile is pushed, not lost.
    let (queue, outgoing) = mpsc::channel(QUEUE_FRAMES);
    let connection = control.live().next_connection();
    let gone = CancellationToken::new();
    let connected = Connected {
        connection,
        sealing_key: hello.sealing_key.clone(),
        entrances: hello.entrances.clone(),
        queue: queue.clone(),
        gone: gone.clone(),
    };
    control.live().connect(gateway_id.clone(), connected);
    // Held until the welcome is on its way: what it says of pauses must not come after something newer.
    let told = control.live().telling_pauses().await;
    let welcome = welcome(control, &hello).await;
    let served = match welcome {
        Ok(welcome) => {
            let reply = FromControl::Reply {
                id,
                reply: Reply::Welcome(Box::new(welcome)),
            };
            // The queue is fresh and has room, but for a gateway that is gone again.
            let _ = queue.try_send(reply);
            drop(told);
            tokio::select! {
                ended = relay(control, stream, buffer, &gateway_id, queue, outgoing) => ended,
                // Replaced, or too slow to be told what must end: it reconnects and compares.
                () = gone.cancelled() => Ok(()),
            }
        }
        Err(error) => {
            drop(told);
            Err(error)
        }
    };
    if control.live().disconnect(&gateway_id, connection) {
        let tx = control
            .db()
            .begin(Actor::Gateway(gateway_id.clone()))
            .await?;
        tx.commit(Events::one(Event::new(EventName::GatewayLost, &gateway_id)))
            .await?;
    }
    served
}

fn own_user() -> io::Result<u32> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(std::fs::metadata("/proc/self")?.uid())
}

async fn read_hello(
    stream: &mut UnixStream,
    buffer: &mut BytesMut,
) -> Result<(u64, GatewayHello), ConnectionError> {
    loop {
        if let Some(frame) = decode_frame::<FromGateway>(buffer)? {
            return match frame.call {
                Call::Hello(hello) if hello.rpc_version == RPC_VERSION => Ok((frame.id, hello)),
                _ => Err(ConnectionError::NoHello),
            };
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(ConnectionError::NoHello);
        }
    }
}

async fn welcome(control: &Control, hello: &GatewayHello) -> Result<Welcome, ConnectionError> {
    let mut tx = control
        .db()
        .begin(Actor::Gateway(hello.gateway_id.clone()))
        .await?;
    let event = Event::new(EventName::GatewayConnected, &hello.gateway_id)
        .with("version", &hello.version)
        .with("live_sessions", hello.live_sessions.len());
    // A gateway refuses what waits when it loses this connection: nobody is to vote on it any more.
    let given_up = held::abandon(&mut tx, &hello.gateway_id, &hello.live_sessions).await?;
    tx.commit(Events::one(event).and_all(given_up)).await?;
    let end_now = oversee::reconcile(control, &hello.gateway_id, &hello.live_sessions).await?;
    Ok(Welcome {
        permit_key: permit_key(control).await?,
        bundle: control.policies().current().to_text(),
        user_authorities: authn::user_authorities(control),
        end_now,
        paused: pause::paused_of(control, &hello.gateway_id).await?,
        control_grace_s: CONTROL_GRACE.as_secs(),
        tls_certificate: tls::gateway_certificate(
            control.directory(),
            &control.config().listen.names,
            &hello.tls_public_key,
        )?,
    })
}

/// The public half of the permit key; empty until the vault is made, when no permit exists either.
async fn permit_key(control: &Control) -> Result<Vec<u8>, StoreError> {
    let mut reader = control.db().read().await?;
    let key = secret::public_key(&mut reader, secret::PERMIT_KEY).await?;
    Ok(key
        .and_then(|text| hex::decode(text).ok())
        .unwrap_or_default())
}

/// Moves frames both ways until either side leaves.
async fn relay(
    control: &Control,
    stream: UnixStream,
    mut buffer: BytesMut,
    gateway_id: &GatewayId,
    queue: mpsc::Sender<FromControl>,
    outgoing: mpsc::Receiver<FromControl>,
) -> Result<(), ConnectionError> {
    let (mut incoming, writing) = stream.into_split();
    let writer = write_frames(writing, outgoing);
    let reader = async {
        let permits = Arc::new(Semaphore::new(CALLS_MAX));
        loop {
            while let Some(frame) = decode_frame::<FromGateway>(&mut buffer)? {
                // The semaphore is never closed; without a permit the call simply waits in the socket.
                let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                    return Ok(());
                };
                let (control, gateway_id, queue) =
                    (control.clone(), gateway_id.clone(), queue.clone());
                task::spawn("gateway call", async move {
                    let reply = answer(&control, &gateway_id, frame.call).await;
                    let _ = queue
                        .send(FromControl::Reply {
                            id: frame.id,
                            reply,
                        })
                        .await;
                    drop(permit);
                });
            }
            if incoming.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
    };
    tokio::select! {
        ended = reader => ended,
        ended = writer => ended,
    }
}

async fn write_frames(
    mut writing: tokio::net::unix::OwnedWriteHalf,
    mut outgoing: mpsc::Receiver<FromControl>,
) -> Result<(), ConnectionError> {
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    let mut bytes = BytesMut::new();
    loop {
        tokio::select! {
            frame = outgoing.recv() => match frame {
                Some(frame) => encode_frame(&frame, &mut bytes)?,
                None => return Ok(()),
            },
            _ = heartbeat.tick() => encode_frame(&FromControl::Push { push: Push::Heartbeat }, &mut bytes)?,
        }
        while let Ok(frame) = outgoing.try_recv() {
            encode_frame(&frame, &mut bytes)?;
        }
        tokio::time::timeout(WRITE_TIMEOUT, writing.write_all(&bytes))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        bytes.clear();
    }
}

/// Answers one call. The match has no wildcard: a new call must be given a place here.
async fn answer(control: &Control, gateway_id: &GatewayId, call: Call) -> Reply {
    match call {
        Call::Hello(_) => fault(
            CallError::Caller,
            Reason::ControlUnavailable,
            "hello comes once",
        ),
        Call::ProveSshKey(proof) => {
            authentication(authn::prove_ssh_key(control, gateway_id, &proof).await)
        }
        Call::ProveSshCertificate(proof) => {
            authentication(authn::prove_ssh_certificate(control, gateway_id, &proof).await)
        }
        Call::ProvePassword(proof) => {
            authentication(authn::prove_password(control, gateway_id, &proof).await)
        }
        Call::ProvePass(proof) => {
            authentication(authn::prove_pass(control, gateway_id, &proof).await)
        }
        Call::OpenSession(call) => open::open_session(control, gateway_id, &call).await,
        Call::SubmitRequest(submission) => {
            in_band::submit_request(control, gateway_id, submission).await
        }
        Call::AwaitRequest {
            authentication_id,
            connection,
            request_id,
            seen,
        } => {
            let proof = open::ProofRef {
                gateway_id,
                connection,
                authentication_id: &authentication_id,
            };
            in_band::await_request(control, &proof, &request_id, &seen).await
        }
        Call::CancelRequest {
            authentication_id,
            connection,
            request_id,
        } => {
            let proof = open::ProofRef {
                gateway_id,
                connection,
                authentication_id: &authentication_id,
            };
            in_band::cancel_request(control, &proof, &request_id).await
        }
        Call::PinHostKey {
            session_id,
            target_id,
            host_key,
        } => host_key::pin_host_key(control, gateway_id, &session_id, &target_id, &host_key).await,
        Call::ReportHostKey {
            session_id,
            target_id,
            host_key,
        } => {
            host_key::report_host_key(control, gateway_id, &session_id, &target_id, &host_key).await
        }
        Call::HoldOperation(hold) => held::hold(control, gateway_id, *hold).await,
        Call::AwaitOperation {
            session_id,
            operation_id,
            seen,
        } => held::wait(control, gateway_id, &session_id, &operation_id, &seen).await,
        Call::WithdrawOperation {
            session_id,
            operation_id,
        } => held::withdraw(control, gateway_id, &session_id, &operation_id).await,
        Call::RecordOperations(batch) => {
            done(evidence::record_operations(control, gateway_id, batch).await)
        }
        Call::AnchorRecording(anchor) => {
            done(close::anchor_recording(control, gateway_id, &anchor).await)
        }
        Call::CloseSession(closed) => {
            done(close::close_session(control, gateway_id, &closed).await)
        }
    }
}

fn authentication(
    answer: Result<sallyport_api::gateway::AuthenticationAnswer, StoreError>,
) -> Reply {
    match answer {
        Ok(answer) => Reply::Authentication(answer),
        Err(error) => store_fault(&error),
    }
}

fn done(result: Result<(), ReportError>) -> Reply {
    match result {
        Ok(()) => Reply::Done,
        Err(ReportError::Store(error)) => store_fault(&error),
        Err(error @ (ReportError::NotYours { .. } | ReportError::Gap { .. })) => {
            fault(CallError::Caller, Reason::AuditFailed, &error.to_string())
        }
    }
}

pub(super) fn store_fault(error: &StoreError) -> Reply {
    tracing::error!(
        error = error as &dyn std::error::Error,
        "a gateway call could not reach the store"
    );
    fault(
        CallError::Unavailable,
        Reason::AuditFailed,
        "the store cannot be written",
    )
}

pub(super) fn fault(error: CallError, reason: Reason, message: &str) -> Reply {
    Reply::Failed(Fault {
        error,
        reason,
        message: message.to_owned(),
    })
}
