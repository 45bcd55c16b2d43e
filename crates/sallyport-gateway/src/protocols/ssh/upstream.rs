//! The target's side: connections that prove the target's identity, log in with the injected
//! credential, and carry one channel at a time.
//!
//! One channel to a connection lets a target be held back by not reading from it (`flow`), so a
//! channel that stalls stalls itself; a connection whose channel has ended serves the next. Only when
//! the target lets nobody in any more do channels share one, and then a stalled one can stall another.
//!
//! INVARIANT: the credential is used only after the host key was found to be an accepted one, and
//! nothing a target says reaches the person unescaped. Channels that a target opens are refused.
//!
//! Not here: dialling (`session`), moving bytes (`relay`).

mod side;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use russh::{ChannelId, ChannelWriteHalf, Sig, SshId, client, keys::PublicKey};
use sallyport_api::gateway::CredentialContent;
use sallyport_core::{authz::Reason, session::EndReason};
use tokio::time::timeout;

use self::side::TargetSide;
use super::{
    algorithms,
    credential::{self, LoginError},
    flow::{CONGESTED_BYTES, CROWDED_BYTES, Valve, ValvedStream, WINDOW_BYTES},
    inbox::{Arrival, Inbox, Overrun},
    limits::{IDLE_TARGET_CONNECTIONS_MAX, TARGET_ANSWER_TIME, TARGET_PING_EVERY},
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
            | Self::Overrun(_) => Reason::TargetUnreachable,
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

/// Where what arrives on a connection goes.
#[derive(Debug, Default)]
struct Port {
    channels: Mutex<HashMap<ChannelId, Arc<TargetInbox>>>,
    valve: Valve,
}

impl Port {
    fn channels(&self) -> MutexGuard<'_, HashMap<ChannelId, Arc<TargetInbox>>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether so much waits that the connection must not be read.
    fn is_full(&self) -> bool {
        let channels = self.channels();
        let waiting_bytes = channels
            .values()
            .map(|inbox| inbox.backlog_bytes())
            .fold(0, usize::saturating_add);
        match channels.len() {
            0 | 1 => waiting_bytes > CONGESTED_BYTES,
            _ => waiting_bytes > CROWDED_BYTES,
        }
    }

    fn put_content(&self, id: ChannelId, stream: Stream, bytes: &[u8]) {
        if let Some(inbox) = self.channels().get(&id) {
            inbox.put_content(stream, bytes);
        }
        if self.is_full() {
            self.valve.close();
        }
    }

    fn relieve(&self) {
        if !self.is_full() {
            self.valve.open();
        }
    }

    fn put_event(&self, id: ChannelId, event: TargetEvent) -> Result<(), UpstreamError> {
        match self.channels().get(&id) {
            Some(inbox) => inbox.put_event(event).map_err(UpstreamError::Overrun),
            None => Ok(()),
        }
    }

    /// Nothing more will arrive on a channel.
    fn close(&self, id: ChannelId) {
        if let Some(inbox) = self.channels().remove(&id) {
            inbox.close();
        }
    }

    /// Nothing more will arrive at all.
    fn close_all(&self) {
        for (_, inbox) in self.channels().drain() {
            inbox.close();
        }
    }
}

/// One channel at the target, and the connection that carries it. Dropping it without
/// [`Targets::give_back`] ends the connection, unless another channel shares it.
pub(super) struct TargetChannel {
    /// Sends to the target.
    pub(super) writer: Arc<ChannelWriteHalf<client::Msg>>,
    inbox: Arc<TargetInbox>,
    connection: Arc<TargetConnection>,
}

impl TargetChannel {
    /// What the target says next; nothing once the channel is closed.
    pub(super) async fn next(&self) -> Option<Arrival<Stream, TargetEvent>> {
        // The task has dealt with what it took before: there may be room again.
        self.connection.port.relieve();
        self.inbox.next().await
    }

    /// Resolves when the target no longer answers.
    pub(super) async fn dead(&self) {
        loop {
            tokio::time::sleep(TARGET_PING_EVERY).await;
            let ping = timeout(TARGET_ANSWER_TIME, self.connection.handle.send_ping());
            match ping.await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                // What is held back is not read, its answer to a ping neither.
                Err(_) if self.connection.port.is_full() => {}
                Err(_) => return,
            }
        }
    }

    /// Whether the connection broke, not only the channel.
    pub(super) fn is_lost(&self) -> bool {
        self.connection.handle.is_closed()
    }
}

impl Drop for TargetChannel {
    fn drop(&mut self) {
        let port = &self.connection.port;
        port.close(self.writer.id());
        port.relieve();
    }
}

struct TargetConnection {
    handle: client::Handle<TargetSide>,
    port: Arc<Port>,
}

impl TargetConnection {
    async fn open(self: &Arc<Self>) -> Result<TargetChannel, UpstreamError> {
        let opened = timeout(TARGET_ANSWER_TIME, self.handle.channel_open_session())
            .await
            .map_err(|_| UpstreamError::TimedOut {
                what: "open a channel",
            })?;
        // What arrives is taken from the callbacks; the queue that russh would fill is dropped.
        let (_, writer) = opened.map_err(UpstreamError::Channel)?.split();
        let inbox = Arc::new(TargetInbox::default());
        self.port.channels().insert(writer.id(), Arc::clone(&inbox));
        Ok(TargetChannel {
            writer: Arc::new(writer),
            inbox,
            connection: Arc::clone(self),
        })
    }
}

/// The way to the target for all channels of one session.
pub(super) struct Targets {
    session: Arc<Session>,
    /// Kept as long as the session: further channels need connections of their own.
    credential: Option<CredentialContent>,
    accepted: Mutex<Vec<PublicKey>>,
    first: tokio::sync::Mutex<()>,
    connections: Mutex<Connections>,
}

#[derive(Default)]
struct Connections {
    idle: Vec<Arc<TargetConnection>>,
    /// In use: held by their channels alone.
    busy: Vec<Weak<TargetConnection>>,
}

impl Targets {
    pub(super) fn new(session: Arc<Session>) -> Self {
        Self {
            credential: session.take_credential(),
            session,
            accepted: Mutex::default(),
            first: tokio::sync::Mutex::default(),
            connections: Mutex::default(),
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
            if connection.handle.is_closed() {
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

    fn take_idle(&self) -> Option<Arc<TargetConnection>> {
        self.connections().idle.pop()
    }

    fn in_use(&self, channel: TargetChannel) -> TargetChannel {
        let mut connections = self.connections();
        connections.busy.retain(|one| one.strong_count() > 0);
        connections.busy.push(Arc::downgrade(&channel.connection));
        channel
    }

    fn least_busy(&self) -> Option<Arc<TargetConnection>> {
        let connections = self.connections();
        let live = connections.busy.iter().filter_map(Weak::upgrade);
        live.filter(|one| !one.handle.is_closed())
            .min_by_key(|one| one.port.channels().len())
    }

    /// Gives a connection back whose channel the target has closed.
    pub(super) fn give_back(&self, channel: TargetChannel) {
        let connection = Arc::clone(&channel.connection);
        drop(channel);
        let is_idle = connection.port.channels().is_empty() && !connection.handle.is_closed();
        let mut connections = self.connections();
        if is_idle && connections.idle.len() < IDLE_TARGET_CONNECTIONS_MAX {
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
        let seen = Arc::new(Mutex::new(None));
        let side = TargetSide {
            session: Arc::clone(&self.session),
            accepted: accepted.clone(),
            seen: Arc::clone(&seen),
            port: Arc::clone(&port),
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
        Ok(TargetConnection { handle, port })
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
        window_size: WINDOW_BYTES,
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
