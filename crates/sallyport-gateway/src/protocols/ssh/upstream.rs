//! The target's side: connections that prove the target's identity, log in with the injected
//! credential, and carry one channel at a time.
//!
//! One channel to a connection lets a target be held back by not reading from it (`flow`), so a
//! channel that stalls stalls itself; a connection whose channel has ended serves the next. Only when
//! the target lets nobody in any more do channels share one, and then a stalled one can stall another.
//!
//! INVARIANT: the credential is used only after the host key was found to be an accepted one, and
//! nothing a target says reaches the person unescaped. A target opens no channel that was not asked for
//! on that connection (`asked`).
//!
//! Not here: dialling (`session`), moving bytes (`relay`, `forward`).

mod asked;
mod connection;
mod listening;
mod port;
mod side;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use russh::{ChannelOpenFailure, Sig, SshId, client, keys::PublicKey};
use sallyport_api::gateway::CredentialContent;
use sallyport_core::{authz::Reason, session::EndReason};
use tokio::{sync::Semaphore, time::timeout};

use self::{asked::Asked, connection::TargetConnection, port::Port, side::TargetSide};
pub(super) use self::{
    asked::{Expected, Way},
    connection::TargetChannel,
    listening::{ListenError, Listening},
};
use super::{
    algorithms,
    client_end::ClientEnd,
    credential::{self, LoginError},
    destination::Destination,
    flow::{TARGET_WINDOW_BYTES, ValvedStream},
    inbox::{Inbox, Overrun},
    limits::{
        FORWARD_CONNECTIONS_MAX, FORWARDS_FROM_TARGET_MAX, IDLE_TARGET_CONNECTIONS_MAX,
        TARGET_ANSWER_TIME,
    },
};
use crate::{control::ControlError, dial::DialError, session::Session};

/// Why the target cannot be used. The log gets the chain; the person gets [`UpstreamError::reason`].
#[derive(Debug, thiserror::Error)]
pub(super) enum UpstreamError {
    /// Nobody answers there.
    #[error("reach the target")]
    Dial(#[source] DialError),
    /// The SSH handshake failed: no strong algorithm in common, or a broken connection.
    #[error("shake hands with the target")]
    Handshake(#[source] russh::Error),
    /// It did not get on with it.
    #[error("wait for the target to {what}")]
    TimedOut {
        /// What was waited for.
        what: &'static str,
    },
    /// Its host key is none of the accepted ones. Already reported.
    #[error("recognise the target: its host key is not an accepted one")]
    HostKeyChanged,
    /// No host key is known, and the first one seen may not be pinned.
    #[error("recognise the target: no host key is known")]
    HostKeyUnknown,
    /// The host key could not be pinned.
    #[error("pin the target's host key")]
    Pin(#[source] ControlError),
    /// A pinned host key cannot be read.
    #[error("read an accepted host key of the target")]
    HostKeyText(#[source] russh::keys::ssh_key::Error),
    /// Logging in failed.
    #[error("log in to the target")]
    Login(#[source] LoginError),
    /// It refused a channel, or the connection broke.
    #[error("open a channel at the target")]
    Channel(#[source] russh::Error),
    /// It sent more than its windows allow.
    #[error("follow the target")]
    Overrun(#[source] Overrun),
    /// It opens channels without end that nobody asked for.
    #[error("refuse ever more channels that nobody asked for")]
    Unasked,
}

impl From<russh::Error> for UpstreamError {
    fn from(source: russh::Error) -> Self {
        Self::Handshake(source)
    }
}

impl UpstreamError {
    /// What the person is told.
    pub(super) const fn reason(&self) -> Reason {
        match self {
            Self::HostKeyChanged => Reason::HostKeyChanged,
            Self::HostKeyUnknown | Self::HostKeyText(_) => Reason::HostKeyUnknown,
            Self::Pin(error) => error.reason(),
            Self::Dial(_)
            | Self::Handshake(_)
            | Self::TimedOut { .. }
            | Self::Login(_)
            | Self::Channel(_)
            | Self::Overrun(_)
            | Self::Unasked => Reason::TargetUnreachable,
        }
    }

    /// What it said about one channel, the connection being as good as before.
    pub(super) const fn channel_refusal(&self) -> Option<&ChannelOpenFailure> {
        match self {
            Self::Channel(russh::Error::ChannelOpenFailure(failure)) => Some(failure),
            _ => None,
        }
    }

    /// Why the session is over because of it.
    pub(super) const fn end_reason(&self) -> EndReason {
        match self {
            Self::HostKeyChanged => EndReason::HostKeyChanged,
            _ => EndReason::TargetUnreachable,
        }
    }
}

/// Which stream of a target's channel bytes belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    ErrorOutput,
}

/// What else a target says on a channel.
#[derive(Debug)]
pub(super) enum TargetEvent {
    /// A request was granted.
    Granted,
    /// A request was refused.
    Refused,
    /// It sends no more bytes.
    Eof,
    /// The process ended with this status.
    ExitStatus(u32),
    /// The process was ended by a signal.
    ExitSignal {
        signal: Sig,
        core_dumped: bool,
        message: String,
    },
}

type TargetInbox = Inbox<Stream, TargetEvent>;

/// The way to the target for all channels of one session.
pub(super) struct Targets {
    session: Arc<Session>,
    /// Kept as long as the session: further channels need connections of their own.
    credential: Option<CredentialContent>,
    accepted: Mutex<Vec<PublicKey>>,
    first: tokio::sync::Mutex<()>,
    connections: Mutex<Connections>,
    /// Where channels go that the target opens.
    client: ClientEnd,
    forwards_from_target: Arc<Semaphore>,
    listening: tokio::sync::Mutex<Listening>,
}

#[derive(Default)]
struct Connections {
    idle: Vec<Arc<TargetConnection>>,
    /// In use: held by their channels alone.
    busy: Vec<Weak<TargetConnection>>,
}

impl Targets {
    pub(super) fn new(session: Arc<Session>, client: ClientEnd) -> Self {
        Self {
            credential: session.take_credential(),
            session,
            accepted: Mutex::default(),
            first: tokio::sync::Mutex::default(),
            connections: Mutex::default(),
            client,
            forwards_from_target: Arc::new(Semaphore::new(FORWARDS_FROM_TARGET_MAX)),
            listening: tokio::sync::Mutex::default(),
        }
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a channel: over an idle connection, a new one, or, if the target lets nobody in any more,
    /// one that is in use.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub(super) async fn open(&self) -> Result<TargetChannel, UpstreamError> {
        while let Some(connection) = self.take_idle() {
            if connection.is_closed() {
                continue;
            }
            // A target may have closed it a moment ago; then a new one is made.
            if let Ok(channel) = connection.open().await {
                return Ok(self.in_use(channel));
            }
        }
        let error = match self.connect().await {
            Ok(connection) => return Ok(self.in_use(Arc::new(connection).open().await?)),
            Err(error) => error,
        };
        match self.least_busy() {
            // A credential may be good for logging in for minutes only, and for staying in as long as
            // the session.
            Some(connection) if matches!(error, UpstreamError::Login(_)) => connection.open().await,
            _ => Err(error),
        }
    }

    /// Opens a connection to `destination`: over an idle connection to the target, a new one while there
    /// are few, or one that is in use. `originator` is for the target's log.
    ///
    /// # Errors
    /// [`UpstreamError`]; [`UpstreamError::channel_refusal`] tells a destination that does not answer
    /// from a target that cannot be used.
    pub(super) async fn open_direct(
        &self,
        destination: &Destination,
        originator: &(String, u32),
    ) -> Result<TargetChannel, UpstreamError> {
        while let Some(connection) = self.take_idle() {
            if connection.is_closed() {
                continue;
            }
            match connection.open_direct(destination, originator).await {
                Ok(channel) => return Ok(self.in_use(channel)),
                Err(error) if error.channel_refusal().is_some() => {
                    self.keep(connection);
                    return Err(error);
                }
                // A target may have closed it a moment ago; then another one is tried.
                Err(_) => {}
            }
        }
        let connection = match self.least_busy() {
            Some(busy) if self.busy_count() >= FORWARD_CONNECTIONS_MAX => busy,
            busy => match (self.connect().await, busy) {
                (Ok(connection), _) => Arc::new(connection),
                (Err(UpstreamError::Login(_)), Some(busy)) => busy,
                (Err(error), _) => return Err(error),
            },
        };
        match connection.open_direct(destination, originator).await {
            Ok(channel) => Ok(self.in_use(channel)),
            Err(error) => {
                if error.channel_refusal().is_some() {
                    self.keep(connection);
                }
                Err(error)
            }
        }
    }

    fn busy_count(&self) -> usize {
        let connections = self.connections();
        let live = connections.busy.iter().filter(|one| one.strong_count() > 0);
        live.count()
    }

    fn take_idle(&self) -> Option<Arc<TargetConnection>> {
        self.connections().idle.pop()
    }

    fn in_use(&self, channel: TargetChannel) -> TargetChannel {
        let mut connections = self.connections();
        if let Some(connection) = channel.connection() {
            let itself = Arc::downgrade(connection);
            connections
                .busy
                .retain(|one| one.strong_count() > 0 && !one.ptr_eq(&itself));
            connections.busy.push(itself);
        }
        channel
    }

    fn least_busy(&self) -> Option<Arc<TargetConnection>> {
        let connections = self.connections();
        let live = connections.busy.iter().filter_map(Weak::upgrade);
        live.filter(|one| !one.is_closed() && !one.is_exclusive())
            .min_by_key(|one| one.channels())
    }

    /// Gives a connection back whose channel is over.
    pub(super) fn give_back(&self, channel: TargetChannel) {
        let Some(connection) = channel.connection().map(Arc::clone) else {
            return;
        };
        drop(channel);
        self.keep(connection);
    }

    /// Keeps a connection for the next channel, if nothing uses it.
    fn keep(&self, connection: Arc<TargetConnection>) {
        let is_idle =
            connection.channels() == 0 && !connection.is_closed() && !connection.is_exclusive();
        let mut connections = self.connections();
        let is_kept = connections
            .idle
            .iter()
            .any(|one| Arc::ptr_eq(one, &connection));
        if is_idle && !is_kept && connections.idle.len() < IDLE_TARGET_CONNECTIONS_MAX {
            let itself = Arc::downgrade(&connection);
            connections.busy.retain(|one| !one.ptr_eq(&itself));
            connections.idle.push(connection);
        }
    }

    async fn connect(&self) -> Result<TargetConnection, UpstreamError> {
        // Until a key is accepted, one connection at a time: two must not pin different keys.
        let first = self.first.lock().await;
        let accepted = self.accepted_keys()?;
        let first = accepted.is_empty().then_some(first);
        let stream = self.session.dial().await.map_err(UpstreamError::Dial)?;
        let port = Arc::new(Port::default());
        let asked = Arc::new(Asked::default());
        let seen = Arc::new(Mutex::new(None));
        let side = TargetSide {
            session: Arc::clone(&self.session),
            accepted: accepted.clone(),
            seen: Arc::clone(&seen),
            port: Arc::clone(&port),
            asked: Arc::clone(&asked),
            client: self.client.clone(),
            forwards: Arc::clone(&self.forwards_from_target),
            unasked: 0,
        };
        let stream = ValvedStream::new(stream, port.valve.clone());
        let handshake = client::connect_stream(Arc::new(config(&accepted)), stream, side);
        let mut handle = timeout(TARGET_ANSWER_TIME, handshake).await.map_err(|_| {
            UpstreamError::TimedOut {
                what: "shake hands",
            }
        })??;
        if let Some(key) = seen.lock().unwrap_or_else(PoisonError::into_inner).take() {
            self.accepted
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(key);
        }
        drop(first);
        let account = &self.session.permit().terms().question.account.name;
        let login = credential::log_in(&mut handle, account.as_str(), self.credential.as_ref());
        timeout(TARGET_ANSWER_TIME, login)
            .await
            .map_err(|_| UpstreamError::TimedOut { what: "log in" })?
            .map_err(UpstreamError::Login)?;
        Ok(TargetConnection::new(handle, port, asked))
    }

    fn accepted_keys(&self) -> Result<Vec<PublicKey>, UpstreamError> {
        let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        if accepted.is_empty() {
            for text in self.session.host_keys() {
                accepted.push(PublicKey::from_openssh(text).map_err(UpstreamError::HostKeyText)?);
            }
        }
        Ok(accepted.clone())
    }
}

fn config(accepted: &[PublicKey]) -> client::Config {
    client::Config {
        client_id: SshId::Standard("SSH-2.0-Sallyport".into()),
        window_size: TARGET_WINDOW_BYTES,
        // Unused: what arrives is taken from the callbacks.
        channel_buffer_size: 4,
        preferred: algorithms::towards_target(accepted),
        inactivity_timeout: None,
        // A connection that is held back is not read, and would look dead; `TargetChannel::dead`
        // knows the difference.
        keepalive_interval: None,
        ..client::Config::default()
    }
}
