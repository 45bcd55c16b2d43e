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

mod link;

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use sallyport_api::gateway::{self as api, Call, FromControl, FromGateway, Reply, Welcome};
use sallyport_core::{
    id::{AuthenticationId, GatewayId, OperationId, RequestId, SessionId, TargetId},
    time::Clock,
};
use tokio::{
    net::{UnixStream, unix::OwnedWriteHalf},
    sync::{Semaphore, SemaphorePermit, mpsc},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use self::link::{FrameReader, Link, LinkError};
use crate::{
    control::{ControlError, ControlPlane, OpenAnswer},
    directives::Directives,
    tls::TlsIdentity,
};

/// Calls under way at one time, waiting for approval excepted. Control serves 256 of both together.
const CALLS_MAX: usize = 128;
/// People whose requests are watched at one time; others take turns.
const WAITS_MAX: usize = 128;
/// How long control itself waits for a request to change before it answers.
const AWAIT_MAX: Duration = Duration::from_secs(20);
/// How long control may take to compare sessions before it welcomes.
const WELCOME_TIME: Duration = Duration::from_secs(60);
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// What the client needs to know.
#[derive(Clone, Debug)]
pub struct RpcSettings {
    /// Control's Unix socket.
    pub socket: PathBuf,
    /// This gateway.
    pub gateway_id: GatewayId,
    /// Public key that credentials are sealed to.
    pub sealing_key: Vec<u8>,
    /// Where this gateway takes clients.
    pub entrances: Vec<api::Entrance>,
    /// What control certifies.
    pub tls: Arc<TlsIdentity>,
    /// How long an answer may take.
    pub call_timeout: Duration,
    /// How long control may be silent.
    pub silence: Duration,
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
            waits: Semaphore::new(WAITS_MAX),
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
            link.hang_up();
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
                    error = link::write(writer, outgoing, self.settings.silence) => error,
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
        let mut reader = FrameReader::new(read_half);

        let hello = Call::Hello(api::GatewayHello {
            rpc_version: api::RPC_VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            gateway_id: self.settings.gateway_id.clone(),
            sealing_key: self.settings.sealing_key.clone(),
            live_sessions: self.directives.call_roll(),
            entrances: self.settings.entrances.clone(),
            tls_public_key: self.settings.tls.public_key().to_vec(),
        });
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let frame = FromGateway { id, call: hello };
        link::write_one(&mut write_half, &frame, self.settings.silence).await?;

        let welcome = timeout(WELCOME_TIME, self.welcome(&mut reader, id)).await;
        let welcome = welcome.unwrap_or(Err(LinkError::Silent {
            silence_s: WELCOME_TIME.as_secs(),
        }))?;
        self.settings.tls.adopt(welcome.tls_certificate.clone());
        self.directives.welcomed(welcome, self.clock.now());
        let (link, frames) = Link::new(CALLS_MAX.saturating_add(WAITS_MAX));
        Ok((reader, write_half, link, frames))
    }

    /// Waits for the answer to hello `id`. An end decided meanwhile may be pushed before it.
    async fn welcome(&self, reader: &mut FrameReader, id: u64) -> Result<Welcome, LinkError> {
        loop {
            match reader.next(WELCOME_TIME).await? {
                FromControl::Push { push } => self.directives.pushed(push, self.clock.now()),
                FromControl::Reply {
                    id: answered,
                    reply: Reply::Welcome(welcome),
                } if answered == id => {
                    return Ok(*welcome);
                }
                FromControl::Reply {
                    reply: Reply::Failed(fault),
                    ..
                } => {
                    return Err(LinkError::Refused {
                        message: fault.message,
                    });
                }
                FromControl::Reply { .. } => {
                    let message = "its first answer is no welcome".to_owned();
                    return Err(LinkError::Refused { message });
                }
            }
        }
    }

    async fn read(&self, reader: &mut FrameReader, link: &Link) -> LinkError {
        loop {
            match reader.next(self.settings.silence).await {
                Ok(FromControl::Push { push }) => self.directives.pushed(push, self.clock.now()),
                Ok(FromControl::Reply { id, reply }) => link.answer(id, reply),
                Err(error) => return error,
            }
        }
    }

    async fn call(&self, name: &'static str, call: Call) -> Result<Reply, ControlError> {
        let exchange = async {
            let _slot = slot(&self.calls).await?;
            self.exchange(name, call).await
        };
        timeout(self.settings.call_timeout, exchange)
            .await
            .map_err(|_| ControlError::TimedOut { call: name })?
    }

    /// Sends a call and waits for its answer, for as long as the connection lasts.
    async fn exchange(&self, name: &'static str, call: Call) -> Result<Reply, ControlError> {
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
        match answer.wait().await {
            Some(Reply::Failed(fault)) => Err(ControlError::Failed { call: name, fault }),
            Some(reply) => Ok(reply),
            None => Err(ControlError::Unavailable),
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

    /// A call that control answers when something changed.
    async fn wait(&self, name: &'static str, call: Call) -> Result<Reply, ControlError> {
        // Standing in line for a turn costs nobody anything and is not timed.
        let _turn = slot(&self.waits).await?;
        let patience = AWAIT_MAX.saturating_add(self.settings.call_timeout);
        timeout(patience, self.exchange(name, call))
            .await
            .map_err(|_| ControlError::TimedOut { call: name })?
    }

    async fn done(&self, name: &'static str, call: Call) -> Result<(), ControlError> {
        match self.call(name, call).await? {
            Reply::Done => Ok(()),
            _ => Err(ControlError::WrongReply { call: name }),
        }
    }
}

async fn slot(slots: &Semaphore) -> Result<SemaphorePermit<'_>, ControlError> {
    slots.acquire().await.map_err(|_| ControlError::Unavailable)
}

fn warn(error: &LinkError) {
    let error: &dyn std::error::Error = error;
    tracing::warn!(error, "no connection to control; trying again");
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

    async fn prove_pass(
        &self,
        proof: api::PassProof,
    ) -> Result<api::AuthenticationAnswer, ControlError> {
        self.authenticate("prove_pass", Call::ProvePass(proof))
            .await
    }

    async fn open_session(&self, open: api::OpenSession) -> Result<OpenAnswer, ControlError> {
        let name = "open_session";
        // A session that control opens after we gave up would stay open there: wait for the answer as
        // long as there is a connection. When it breaks, the next hello says what lives.
        let _slot = slot(&self.calls).await?;
        match self.exchange(name, Call::OpenSession(open)).await? {
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
        match self.wait(name, call).await? {
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

    async fn hold_operation(
        &self,
        hold: api::HoldOperation,
    ) -> Result<api::HeldProgress, ControlError> {
        let name = "hold_operation";
        let call = Call::HoldOperation(Box::new(hold));
        match self.call(name, call).await? {
            Reply::Held(progress) => Ok(progress),
            _ => Err(ControlError::WrongReply { call: name }),
        }
    }

    async fn await_operation(
        &self,
        session_id: SessionId,
        operation_id: OperationId,
        seen: api::HeldProgress,
    ) -> Result<api::HeldProgress, ControlError> {
        let name = "await_operation";
        let call = Call::AwaitOperation {
            session_id,
            operation_id,
            seen,
        };
        match self.wait(name, call).await? {
            Reply::Held(progress) => Ok(progress),
            _ => Err(ControlError::WrongReply { call: name }),
        }
    }

    async fn withdraw_operation(
        &self,
        session_id: SessionId,
        operation_id: OperationId,
    ) -> Result<(), ControlError> {
        let call = Call::WithdrawOperation {
            session_id,
            operation_id,
        };
        self.done("withdraw_operation", call).await
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
