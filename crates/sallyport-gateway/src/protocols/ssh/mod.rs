//! SSH: shell, exec, sftp and scp with stock clients; forwarding, other subsystems and environment where
//! policy names them. Everything else is refused.
//!
//! Followed: RFC 4251 to 4254, RFC 4256 (keyboard-interactive), RFC 8308 and RFC 8332 (extensions,
//! SHA-2 signatures), OpenSSH's `PROTOCOL` (strict key exchange, SFTP extensions, socket and agent forwarding) and
//! `PROTOCOL.certkeys`, draft-ietf-secsh-filexfer-02 (SFTP version 3), OpenSSH's `scp.c`.
//!
//! A client's connection has one visitor (callbacks), one task here that starts and ends things, and
//! one task for each channel. `docs/plugins/protocol/ssh.md` says what people see.
//!
//! INVARIANT: a byte reaches a target only through a channel's task, after the channel's operation was
//! let through and the byte was recorded.
//!
//! Not here: connections and their limits (`listener`), deciding and recording (`session`).

mod algorithms;
mod channel;
mod client_end;
mod codec;
mod credential;
mod destination;
mod flow;
mod forward;
pub mod fuzz;
mod guard;
mod handshake;
mod host_key;
mod inbox;
mod jump;
mod limits;
mod meeting;
mod operations;
mod relay;
mod scp;
mod sftp;
mod transfer;
mod upstream;
mod visitor;

use std::sync::Arc;

use async_trait::async_trait;
use russh::{Disconnect, MethodKind, MethodSet, SshId, keys::PrivateKey, server};
use sallyport_core::{
    descriptor::{Descriptor, OperationDescriptor, Setting},
    inventory::TargetName,
    policy::Restraints,
    session::{EndReason, OperationKind},
};
use sallyport_evidence::recording::SESSION_CHANNEL;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};

use self::{
    client_end::{ClientEnd, ClientMeeting},
    flow::{Valve, ValvedStream, WINDOW_BYTES},
    handshake::Admission,
    limits::{
        FAREWELL_TIME, KEEPALIVE_AFTER_GRACE, KEEPALIVES_UNANSWERED_MAX, LEAVING_TIME,
        REJECTION_TIME,
    },
    upstream::Targets,
    visitor::{Job, Visitor, VisitorError},
};
use super::{Protocol, ProtocolSetup, ServeError, SetupError, wording};
use crate::{
    config::{Limits, SshKeyExchange},
    door::Door,
    session::Session,
    stream::{ClientStream, CutStream},
};

/// The protocol's kind, as stored and typed.
const KIND: &str = "ssh";
/// Jobs that may wait for a connection's task.
const JOBS_MAX: usize = 64;

/// The SSH gateway.
#[derive(Debug)]
pub struct Ssh {
    config: Arc<server::Config>,
    /// The host key's public half, OpenSSH one-line form.
    identity: String,
}

impl Ssh {
    /// Gets ready: reads the gateway's host key, or makes it at the first start.
    ///
    /// # Errors
    /// [`SetupError`] when there is no usable host key.
    pub fn new(setup: &ProtocolSetup) -> Result<Self, SetupError> {
        let directory = setup.data_directory.join(KIND);
        let key = host_key::load_or_make(&directory).map_err(|source| SetupError {
            kind: KIND,
            source: Box::new(source),
        })?;
        let identity = key.public_key().to_openssh().map_err(|source| SetupError {
            kind: KIND,
            source: Box::new(source),
        })?;
        Ok(Self {
            config: Arc::new(config(key, &setup.limits, setup.ssh_key_exchange)),
            identity,
        })
    }
}

fn config(key: PrivateKey, limits: &Limits, exchange: SshKeyExchange) -> server::Config {
    server::Config {
        server_id: SshId::Standard("SSH-2.0-Sallyport".into()),
        methods: MethodSet::from(&[MethodKind::PublicKey, MethodKind::KeyboardInteractive][..]),
        auth_rejection_time: REJECTION_TIME,
        // Every client asks once without a proof, to learn the methods.
        auth_rejection_time_initial: Some(std::time::Duration::ZERO),
        keys: vec![key],
        window_size: WINDOW_BYTES,
        // Unused: what arrives is taken from the callbacks.
        channel_buffer_size: 4,
        event_buffer_size: 16,
        preferred: algorithms::towards_clients(exchange),
        max_auth_attempts: usize::try_from(limits.authentication_attempts_max)
            .unwrap_or(usize::MAX),
        // The login grace and the session's own limits end connections.
        inactivity_timeout: None,
        keepalive_interval: Some(limits.login_grace().saturating_add(KEEPALIVE_AFTER_GRACE)),
        keepalive_max: KEEPALIVES_UNANSWERED_MAX,
        nodelay: true,
        ..server::Config::default()
    }
}

#[async_trait]
impl Protocol for Ssh {
    fn describe(&self) -> Descriptor {
        let operation = |kind: OperationKind, purpose: &str, is_refusable| OperationDescriptor {
            kind: kind.as_str().to_owned(),
            purpose: purpose.to_owned(),
            is_refusable,
        };
        Descriptor {
            kind: KIND.to_owned(),
            title: "SSH".to_owned(),
            settings: Vec::<Setting>::new(),
            operations: vec![
                operation(OperationKind::Shell, "an interactive shell", true),
                operation(OperationKind::Exec, "one command", true),
                operation(
                    OperationKind::Subsystem,
                    "file transfer by sftp; others where policy names them",
                    true,
                ),
                operation(
                    OperationKind::FileUpload,
                    "a file moved to the target",
                    true,
                ),
                operation(
                    OperationKind::FileDownload,
                    "a file moved from the target",
                    true,
                ),
                operation(
                    OperationKind::FileChange,
                    "a file or directory removed, renamed, made or given attributes",
                    true,
                ),
                operation(
                    OperationKind::TypedCommand,
                    "a command typed at a prompt",
                    false,
                ),
                operation(
                    OperationKind::ForwardLocal,
                    "a connection from the client's side to an address that the target reaches",
                    true,
                ),
                operation(
                    OperationKind::ForwardLocalSocket,
                    "a connection from the client's side to a Unix socket of the target",
                    true,
                ),
                operation(
                    OperationKind::ForwardRemote,
                    "listening at the target, and each connection that comes in there",
                    true,
                ),
                operation(
                    OperationKind::ForwardRemoteSocket,
                    "listening on a Unix socket of the target, and each connection there",
                    true,
                ),
                operation(
                    OperationKind::ForwardAgent,
                    "use of the client's agent by the target",
                    true,
                ),
                operation(
                    OperationKind::Environment,
                    "an environment variable beyond language and locale",
                    true,
                ),
                operation(
                    OperationKind::Unsupported,
                    "X11 and whatever else is never offered",
                    true,
                ),
            ],
            secrets_needed: vec!["password".to_owned(), "private_key".to_owned()],
        }
    }

    fn identities(&self) -> Vec<String> {
        vec![self.identity.clone()]
    }

    fn enforces(&self) -> Restraints {
        // What commands do and show at a target is not known here.
        Restraints::NONE
    }

    async fn serve(&self, stream: ClientStream, door: Door) -> Result<(), ServeError> {
        serve_stream(Arc::clone(&self.config), stream, door, None).await
    }
}

/// Serves one connection. `towards`: the target that the way it came has named, for a jump.
async fn serve_stream<S>(
    config: Arc<server::Config>,
    stream: CutStream<S>,
    door: Door,
    towards: Option<TargetName>,
) -> Result<(), ServeError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (jobs, queue) = mpsc::channel(JOBS_MAX);
    let valve = Valve::default();
    let door = Arc::new(door);
    let meeting = Arc::new(ClientMeeting::default());
    let visitor = Visitor::new(
        Arc::clone(&door),
        towards,
        jobs,
        valve.clone(),
        Arc::clone(&meeting),
    );
    let stream = ValvedStream::new(stream, valve);
    let running = server::run_stream(Arc::clone(&config), stream, visitor)
        .await
        .map_err(|error| failed("begin", error))?;
    let connection = Connection {
        config,
        client: ClientEnd::new(running.handle(), meeting),
        door,
        admitted: None,
        tasks: Vec::new(),
    };
    connection.run(running, queue).await
}

fn failed(attempt: &'static str, error: VisitorError) -> ServeError {
    ServeError {
        kind: KIND,
        attempt,
        source: Box::new(error),
    }
}

/// Who was let in.
enum Admitted {
    To(Arc<Session>, Arc<Targets>),
    Denied(Arc<str>),
}

/// One client's connection, around its channels' tasks.
struct Connection {
    config: Arc<server::Config>,
    client: ClientEnd,
    door: Arc<Door>,
    admitted: Option<Admitted>,
    tasks: Vec<JoinHandle<Option<()>>>,
}

impl Connection {
    async fn run(
        mut self,
        mut running: server::RunningSession<Visitor>,
        mut queue: mpsc::Receiver<Job>,
    ) -> Result<(), ServeError> {
        let handle = running.handle();
        let over = loop {
            let session = self.session();
            let ended = async {
                match session {
                    Some(session) => session.ended().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                served = &mut running => break Some(served),
                Some(job) = queue.recv() => self.take(job).await,
                _ = ended => break None,
            }
        };
        // The client is told by its channels, then cut off.
        let session = self.session();
        let telling = async {
            for task in self.tasks {
                let _ = task.await;
            }
        };
        match over {
            Some(served) => {
                if let Some(session) = session {
                    session.end(EndReason::ClientClosed);
                }
                let _ = timeout(FAREWELL_TIME, telling).await;
                served.map_err(|error| failed("speak SSH", error))
            }
            None => {
                let _ = timeout(FAREWELL_TIME, telling).await;
                // Stock clients leave by themselves when their channel closes, after showing what they
                // were told; a disconnect that arrives together with it would be all they show.
                if timeout(LEAVING_TIME, &mut running).await.is_ok() {
                    return Ok(());
                }
                let end = session.and_then(|session| session.end_if_over());
                let goodbye = async {
                    let why = end.map_or_else(
                        || "the session is over".to_owned(),
                        |end| wording::end(&end),
                    );
                    let _ = handle
                        .disconnect(Disconnect::ByApplication, why, String::new())
                        .await;
                    let _ = (&mut running).await;
                };
                // A client that does not listen is cut off when this returns.
                let _ = timeout(FAREWELL_TIME / 2, goodbye).await;
                Ok(())
            }
        }
    }

    fn session(&self) -> Option<Arc<Session>> {
        match &self.admitted {
            Some(Admitted::To(session, _)) => Some(Arc::clone(session)),
            Some(Admitted::Denied(_)) | None => None,
        }
    }

    async fn take(&mut self, job: Job) {
        match (job, &self.admitted) {
            (Job::Admitted(Admission::Opened(session)), _) => {
                let targets = Targets::new(Arc::clone(&session), self.client.clone());
                let targets = Arc::new(targets);
                self.admitted = Some(Admitted::To(session, targets));
            }
            // Who signed in to jump has no session; a shell is told so.
            (Job::Admitted(Admission::Denied(denial) | Admission::Jumping(denial)), _) => {
                self.admitted = Some(Admitted::Denied(denial));
            }
            (Job::Serve(channel), Some(Admitted::To(session, targets))) => {
                let serving = relay::serve(Arc::clone(session), Arc::clone(targets), channel);
                let task = guard(Arc::clone(session), Box::pin(serving));
                self.tasks
                    .push(self.door.spawn("serve an SSH channel", task));
            }
            (Job::Serve(channel), Some(Admitted::Denied(denial))) => {
                let telling = relay::deny(channel, Arc::clone(denial));
                self.tasks
                    .push(self.door.spawn("deny an SSH channel", telling));
            }
            (Job::Forward(outgoing), Some(Admitted::To(session, targets))) => {
                let serving =
                    forward::from_client(Arc::clone(session), Arc::clone(targets), outgoing);
                let task = guard(Arc::clone(session), serving);
                self.tasks
                    .push(self.door.spawn("carry a connection from a client", task));
            }
            (Job::Forward(outgoing), Some(Admitted::Denied(denial))) => {
                outgoing.deny(denial).await;
            }
            (Job::Listen(place, answer), Some(Admitted::To(session, targets))) => {
                let (session, targets) = (Arc::clone(session), Arc::clone(targets));
                let listening = guard(Arc::clone(&session), async move {
                    // A client that is gone needs no answer.
                    let _ = answer.send(forward::listen(&session, &targets, place).await);
                });
                self.tasks
                    .push(self.door.spawn("have a target listen", listening));
            }
            (Job::Listen(_, answer), Some(Admitted::Denied(denial))) => {
                let _ = answer.send(Err(denial.to_string()));
            }
            (Job::StopListening(place, answer), Some(Admitted::To(session, targets))) => {
                let (session, targets) = (Arc::clone(session), Arc::clone(targets));
                let stopping = async move {
                    tokio::select! {
                        is_stopped = targets.stop_listening(&place) => {
                            let _ = answer.send(is_stopped);
                        }
                        _ = session.ended() => {}
                    }
                };
                self.tasks
                    .push(self.door.spawn("have a target stop listening", stopping));
            }
            (Job::Jump(jump), _) => {
                let serving = jump::serve(Arc::clone(&self.config), *jump);
                self.tasks.push(self.door.spawn("serve a jump", serving));
            }
            (Job::Refused(operation, reason), Some(Admitted::To(session, _))) => {
                let recording = session.refuse_operation(SESSION_CHANNEL, operation, reason);
                tokio::select! {
                    () = recording => {}
                    _ = session.ended() => {}
                }
            }
            // russh lets nobody open channels who was not let in; dropped, a question is answered
            // with no.
            (Job::Serve(_) | Job::Forward(_) | Job::Listen(..) | Job::StopListening(..), None)
            | (Job::StopListening(..) | Job::Refused(..), _) => {}
        }
        self.tasks.retain(|task| !task.is_finished());
    }
}

/// Ends the session when the task of one of its channels panics: what it was doing is not known.
async fn guard(session: Arc<Session>, serving: impl Future<Output = ()>) {
    let mut ender = EndsOnPanic {
        session,
        is_armed: true,
    };
    serving.await;
    ender.is_armed = false;
}

struct EndsOnPanic {
    session: Arc<Session>,
    is_armed: bool,
}

impl Drop for EndsOnPanic {
    fn drop(&mut self) {
        if self.is_armed && std::thread::panicking() {
            self.session.end(EndReason::Panicked);
        }
    }
}

#[cfg(test)]
mod tests;
