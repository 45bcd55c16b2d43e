//! The client of the gateway RPC: one connection over a Unix socket, many calls at a time.
//!
//! Started once; connects, says hello, hands welcome and pushes to [`Directives`], answers calls, and
//! connects again with back-off whenever the connection breaks.
//!
//! INVARIANT: at most a bounded number of calls is under way, each waits a bounded time, and a call
//! whose connection broke is never repeated here: only evidence may be repeated, and its carrier
//! does that.
//!
//! Not here: what pushes do ([`crate::directives`]), the bytes of frames (`sallyport-api`).

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::BytesMut;
use sallyport_api::gateway::{self as api, Call, FromControl, FromGateway, Reply};
use sallyport_core::{
    id::{AuthenticationId, GatewayId, RequestId, SessionId, TargetId},
    time::Clock,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroize as _;

use crate::{
    control::{ControlError, ControlPlane, OpenAnswer},
    directives::Directives,
};

/// Calls under way at one time, waiting for approval excepted.
const CALLS_MAX: usize = 256;
/// How long control itself waits for a request to change before it answers.
const AWAIT_MAX: Duration = Duration::from_secs(20);
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Frames are written together up to this size.
const WRITE_BYTES: usize = 256 * 1024;

/// What the client needs to know.
#[derive(Clone, Debug)]
pub struct RpcSettings {
    /// Control's Unix socket.
    pub socket: PathBuf,
    /// This gateway.
    pub gateway_id: GatewayId,
    /// Public key that credentials are sealed to.
    pub sealing_key: Vec<u8>,
    /// How long an answer may take.
    pub call_timeout: Duration,
    /// How long control may be silent.
    pub silence: Duration,
    /// People who may wait for approval at one time.
    pub waits_max: usize,
}

/// Why a connection to control ended.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("connect to control at `{path}`")]
    Connect { path: PathBuf, source: io::Error },
    #[error("{attempt} control")]
    Io {
        attempt: &'static str,
        source: io::Error,
    },
    #[error("{attempt} control")]
    Frame {
        attempt: &'static str,
        source: api::FrameError,
    },
    #[error("control closed the connection")]
    Closed,
    #[error("wait for a sign of life of control within {silence_s} s")]
    Silent { silence_s: u64 },
    #[error("control refuses this gateway: {message}")]
    Refused { message: String },
}

type Pending = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Reply>>>>>;

/// A connection that works.
#[derive(Clone, Debug)]
struct Link {
    outgoing: mpsc::Sender<FromGateway>,
    /// Calls that wait for their answer; nothing once the connection broke.
    pending: Pending,
}

/// The client. Share it; [`RpcClient::run`] it once.
pub struct RpcClient {
    settings: RpcSettings,
    directives: Arc<Directives>,
    clock: Arc<dyn Clock>,
    link: Mutex<Option<Link>>,
    next_id: AtomicU64,
    calls: Semaphore,
    waits: Semaphore,
}

impl std::fmt::Debug for RpcClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RpcClient")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl RpcClient {
    /// A client that is not connected yet.
    #[must_use]
    pub fn new(settings: RpcSettings, directives: Arc<Directives>, clock: Arc<dyn Clock>) -> Self {
        Self {
            waits: Semaphore::new(settings.waits_max),
            settings,
            directives,
            clock,
            link: Mutex::new(None),
            next_id: AtomicU64::new(1),
            calls: Semaphore::new(CALLS_MAX),
        }
    }

    /// Keeps the connection until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let mut backoff = BACKOFF_MIN;
        loop {
            let connection = self.connection(&mut backoff);
            let error = tokio::select! {
                error = connection => error,
                () = stop.cancelled() => return self.hang_up(),
            };
            self.hang_up();
            self.directives.lost(self.clock.now());
            warn(&error);
            tokio::select! {
                () = tokio::time::sleep(backoff) => {}
                () = stop.cancelled() => return,
            }
            backoff = backoff.saturating_mul(2).min(BACKOFF_MAX);
        }
    }

    /// Lets every waiting call fail and every new one until there is a connection again.
    fn hang_up(&self) {
        let link = self
            .link
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(link) = link {
            link.pending
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
        }
        metrics::gauge!("sallyport_gateway_control_connected").set(0);
    }

    /// One connection, from connecting to whatever breaks it.
    async fn connection(&self, backoff: &mut Duration) -> LinkError {
        match self.connect().await {
            Err(error) => error,
            Ok((mut reader, writer, link, outgoing)) => {
                *backoff = BACKOFF_MIN;
                *self.link.lock().unwrap_or_else(PoisonError::into_inner) = Some(link.clone());
                metrics::gauge!("sallyport_gateway_control_connected").set(1);
                tracing::info!("connected to control");
                tokio::select! {
                    error = self.read(&mut reader, &link) => error,
                    error = write(writer, outgoing, self.settings.silence) => error,
                }
            }
        }
    }

    async fn connect(
        &self,
    ) -> Result<
        (
            FrameReader,
            OwnedWriteHalf,
            Link,
            mpsc::Receiver<FromGateway>,
        ),
        LinkError,
    > {
        let path = &self.settings.socket;
        let stream = timeout(self.settings.silence, UnixStream::connect(path))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|source| LinkError::Connect {
                path: path.clone(),
                source,
            })?;
        let (read_half, mut write_half) = stream.into_split();
        let mut reader = FrameReader {
            stream: read_half,
            buffer: BytesMut::new(),
            silence: self.settings.silence,
        };

        let hello = Call::Hello(api::GatewayHello {
            rpc_version: api::RPC_VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            gateway_id: self.settings.gateway_id.clone(),
            sealing_key: self.settings.sealing_key.clone(),
            live_sessions: self.directives.live_sessions(),
        });
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut bytes = BytesMut::new();
        api::encode_frame(&FromGateway { id, call: hello }, &mut bytes).map_err(|source| {
            LinkError::Frame {
                attempt: "greet",
                source,
            }
        })?;
        timeout(self.settings.silence, write_half.write_all(&bytes))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|source| LinkError::Io {
                attempt: "greet",
                source,
            })?;

        match reader.next().await? {
            FromControl::Reply {
                id: answered,
                reply: Reply::Welcome(welcome),
            } if answered == id => {
                self.directives.welcomed(*welcome, self.clock.now());
            }
            FromControl::Reply {
                reply: Reply::Failed(fault),
                ..
            } => {
                return Err(LinkError::Refused {
                    message: fault.message,
                });
            }
            FromControl::Reply { .. } | FromControl::Push { .. } => {
                let message = "its first frame is no welcome".to_owned();
                return Err(LinkError::Refused { message });
            }
        }
        let (outgoing, frames) = mpsc::channel(CALLS_MAX);
        let link = Link {
            outgoing,
            pending: Arc::new(Mutex::new(Some(HashMap::new()))),
        };
        Ok((reader, write_half, link, frames))
    }

    async fn read(&self, reader: &mut FrameReader, link: &Link) -> LinkError {
        loop {
            match reader.next().await {
                Ok(FromControl::Push { push }) => self.directives.pushed(push, self.clock.now()),
                Ok(FromControl::Reply { id, reply }) => {
                    let mut pending = link.pending.lock().unwrap_or_else(PoisonError::into_inner);
                    // Nobody waits for the answer to a call that timed out.
                    if let Some(waiting) = pending.as_mut().and_then(|calls| calls.remove(&id)) {
                        let _ = waiting.send(reply);
                    }
                }
                Err(error) => return error,
            }
        }
    }

    async fn call(&self, name: &'static str, call: Call) -> Result<Reply, ControlError> {
        self.call_within(name, call, &self.calls, Some(self.settings.call_timeout))
            .await
    }

    /// Without `patience` only a broken connection ends the wait.
    async fn call_within(
        &self,
        name: &'static str,
        call: Call,
        slots: &Semaphore,
        patience: Option<Duration>,
    ) -> Result<Reply, ControlError> {
        let exchange = async {
            let _slot = slots
                .acquire()
                .await
                .map_err(|_| ControlError::Unavailable)?;
            let link = self
                .link
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            let link = link.ok_or(ControlError::Unavailable)?;
            let id = self.next_id.fetch_add(1, Ordering::Relaxed);
            let answer = link.expect_answer(id).ok_or(ControlError::Unavailable)?;
            let frame = FromGateway { id, call };
            link.outgoing
                .send(frame)
                .await
                .map_err(|_| ControlError::Unavailable)?;
            answer.wait().await.ok_or(ControlError::Unavailable)
        };
        let reply = match patience {
            Some(patience) => timeout(patience, exchange)
                .await
                .map_err(|_| ControlError::TimedOut { call: name })??,
            None => exchange.await?,
        };
        match reply {
            Reply::Failed(fault) => Err(ControlError::Failed { call: name, fault }),
            reply => Ok(reply),
        }
    }

    async fn authenticate(
        &self,
        name: &'static str,
        call: Call,
    ) -> Result<api::AuthenticationAnswer, ControlError> {
        match self.call(name, call).await? {
            Reply::Authentication(answer) => Ok(answer),
            _ => Err(ControlError::WrongReply { call: name }),
        }
    }

    async fn done(&self, name: &'static str, call: Call) -> Result<(), ControlError> {
        match self.call(name, call).await? {
            Reply::Done => Ok(()),
            _ => Err(ControlError::WrongReply { call: name }),
        }
    }
}

fn warn(error: &LinkError) {
    let error: &dyn std::error::Error = error;
    tracing::warn!(error, "no connection to control; trying again");
}

impl Link {
    fn expect_answer(&self, id: u64) -> Option<Answer> {
        let (sender, receiver) = oneshot::channel();
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.as_mut()?.insert(id, sender);
        Some(Answer {
            id,
            receiver,
            pending: Arc::clone(&self.pending),
        })
    }
}

/// An answer that is waited for; forgotten when the caller gives up.
struct Answer {
    id: u64,
    receiver: oneshot::Receiver<Reply>,
    pending: Pending,
}

impl Answer {
    async fn wait(mut self) -> Option<Reply> {
        (&mut self.receiver).await.ok()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(calls) = pending.as_mut() {
            calls.remove(&self.id);
        }
    }
}

struct FrameReader {
    stream: OwnedReadHalf,
    buffer: BytesMut,
    silence: Duration,
}

impl FrameReader {
    /// The next frame. The buffer never grows past one frame's limit, because a longer one is
    /// refused by its length.
    async fn next(&mut self) -> Result<FromControl, LinkError> {
        loop {
            let frame = api::decode_frame(&mut self.buffer).map_err(|source| LinkError::Frame {
                attempt: "understand",
                source,
            })?;
            if let Some(frame) = frame {
                return Ok(frame);
            }
            let read = timeout(self.silence, self.stream.read_buf(&mut self.buffer)).await;
            match read {
                Ok(Ok(0)) => return Err(LinkError::Closed),
                Ok(Ok(_)) => {}
                Ok(Err(source)) => {
                    return Err(LinkError::Io {
                        attempt: "hear",
                        source,
                    });
                }
                Err(_) => {
                    return Err(LinkError::Silent {
                        silence_s: self.silence.as_secs(),
                    });
                }
            }
        }
    }
}

async fn write(
    mut stream: OwnedWriteHalf,
    mut outgoing: mpsc::Receiver<FromGateway>,
    patience: Duration,
) -> LinkError {
    let mut bytes = BytesMut::new();
    while let Some(frame) = outgoing.recv().await {
        let mut next = Some(frame);
        while let Some(frame) = next.take() {
            if let Err(source) = api::encode_frame(&frame, &mut bytes) {
                return LinkError::Frame {
                    attempt: "address",
                    source,
                };
            }
            if bytes.len() < WRITE_BYTES {
                next = outgoing.try_recv().ok();
            }
        }
        let written = timeout(patience, stream.write_all(&bytes))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        // A password may have been in it.
        bytes.as_mut().zeroize();
        bytes.clear();
        if let Err(source) = written {
            return LinkError::Io {
                attempt: "address",
                source,
            };
        }
    }
    LinkError::Closed
}

#[async_trait]
impl ControlPlane for RpcClient {
    async fn prove_ssh_key(
        &self,
        proof: api::SshKeyProof,
    ) -> Result<api::AuthenticationAnswer, ControlError> {
        self.authenticate("prove_ssh_key", Call::ProveSshKey(proof))
            .await
    }

    async fn prove_ssh_certificate(
        &self,
        proof: api::SshCertificateProof,
    ) -> Result<api::AuthenticationAnswer, ControlError> {
        self.authenticate("prove_ssh_certificate", Call::ProveSshCertificate(proof))
            .await
    }

    async fn prove_password(
        &self,
        proof: api::PasswordProof,
    ) -> Result<api::AuthenticationAnswer, ControlError> {
        self.authenticate("prove_password", Call::ProvePassword(proof))
            .await
    }

    async fn open_session(&self, open: api::OpenSession) -> Result<OpenAnswer, ControlError> {
        let name = "open_session";
        // A session that control opens after we gave up would stay open there: wait for the answer as
        // long as there is a connection. When it breaks, the next hello says what lives.
        match self
            .call_within(name, Call::OpenSession(open), &self.calls, None)
            .await?
        {
            Reply::Opened(opened) => Ok(OpenAnswer::Opened(opened)),
            Reply::Challenge(challenge) => Ok(OpenAnswer::Challenge(challenge)),
            Reply::Refused(refused) => Ok(OpenAnswer::Refused(refused)),
            _ => Err(ControlError::WrongReply { call: name }),
        }
    }

    async fn submit_request(
        &self,
        submission: api::Submission,
    ) -> Result<api::RequestAnswer, ControlError> {
        let name = "submit_request";
        match self.call(name, Call::SubmitRequest(submission)).await? {
            Reply::Request(answer) => Ok(answer),
            _ => Err(ControlError::WrongReply { call: name }),
        }
    }

    async fn await_request(
        &self,
        authentication_id: AuthenticationId,
        connection: u64,
        request_id: RequestId,
        seen: api::RequestProgress,
    ) -> Result<api::RequestAnswer, ControlError> {
        let name = "await_request";
        let call = Call::AwaitRequest {
            authentication_id,
            connection,
            request_id,
            seen,
        };
        let patience = AWAIT_MAX.saturating_add(self.settings.call_timeout);
        match self
            .call_within(name, call, &self.waits, Some(patience))
            .await?
        {
            Reply::Request(answer) => Ok(answer),
            _ => Err(ControlError::WrongReply { call: name }),
        }
    }

    async fn cancel_request(
        &self,
        authentication_id: AuthenticationId,
        connection: u64,
        request_id: RequestId,
    ) -> Result<(), ControlError> {
        let call = Call::CancelRequest {
            authentication_id,
            connection,
            request_id,
        };
        self.done("cancel_request", call).await
    }

    async fn pin_host_key(
        &self,
        session_id: SessionId,
        target_id: TargetId,
        host_key: String,
    ) -> Result<(), ControlError> {
        let call = Call::PinHostKey {
            session_id,
            target_id,
            host_key,
        };
        self.done("pin_host_key", call).await
    }

    async fn report_host_key(
        &self,
        session_id: SessionId,
        target_id: TargetId,
        host_key: String,
    ) -> Result<(), ControlError> {
        let call = Call::ReportHostKey {
            session_id,
            target_id,
            host_key,
        };
        self.done("report_host_key", call).await
    }

    async fn record_operations(&self, batch: api::OperationBatch) -> Result<(), ControlError> {
        self.done("record_operations", Call::RecordOperations(batch))
            .await
    }

    async fn anchor_recording(&self, anchor: api::Anchor) -> Result<(), ControlError> {
        self.done("anchor_recording", Call::AnchorRecording(anchor))
            .await
    }

    async fn close_session(&self, closed: api::SessionClosed) -> Result<(), ControlError> {
        self.done("close_session", Call::CloseSession(closed)).await
    }
}

#[cfg(test)]
mod tests;
