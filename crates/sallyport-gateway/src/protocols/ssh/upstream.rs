//! The target's side: connections that prove the target's identity, log in with the injected
//! credential, and carry one channel at a time.
//!
//! One channel to a connection lets a target be held back by not reading from it (`flow`), so a
//! channel that stalls stalls itself; a connection whose channel has ended serves the next.
//!
//! INVARIANT: the credential is used only after the host key was found to be an accepted one, and
//! nothing a target says reaches the person unescaped. Channels that a target opens are refused.
//!
//! Not here: dialling (`session`), moving bytes (`relay`).

mod side;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use russh::{ChannelId, ChannelWriteHalf, Sig, SshId, client, keys::PublicKey};
use sallyport_api::gateway::CredentialContent;
use sallyport_core::{authz::Reason, session::EndReason};
use tokio::time::timeout;

use self::side::TargetSide;
use super::{
    algorithms,
    credential::{self, LoginError},
    flow::{CONGESTED_BYTES, Valve, ValvedStream, WINDOW_BYTES},
    inbox::{Arrival, Inbox, Overrun},
    limits::{IDLE_TARGET_CONNECTIONS_MAX, TARGET_ANSWER_TIME},
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
    channel: Mutex<Option<(ChannelId, Arc<TargetInbox>)>>,
    valve: Valve,
}

impl Port {
    fn channel(&self) -> MutexGuard<'_, Option<(ChannelId, Arc<TargetInbox>)>> {
        self.channel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inbox_of(&self, id: ChannelId) -> Option<Arc<TargetInbox>> {
        match &*self.channel() {
            Some((open, inbox)) if *open == id => Some(Arc::clone(inbox)),
            _ => None,
        }
    }

    fn put_content(&self, id: ChannelId, stream: Stream, bytes: &[u8]) {
        let Some(inbox) = self.inbox_of(id) else {
            return;
        };
        inbox.put_content(stream, bytes);
        if inbox.backlog_bytes() > CONGESTED_BYTES {
            self.valve.close();
        }
    }

    fn put_event(&self, id: ChannelId, event: TargetEvent) -> Result<(), UpstreamError> {
        match self.inbox_of(id) {
            Some(inbox) => inbox.put_event(event).map_err(UpstreamError::Overrun),
            None => Ok(()),
        }
    }

    fn close(&self) {
        if let Some((_, inbox)) = self.channel().take() {
            inbox.close();
        }
    }
}

/// One channel at the target, and the connection that carries it.
pub(super) struct TargetChannel {
    /// Sends to the target.
    pub(super) writer: Arc<ChannelWriteHalf<client::Msg>>,
    inbox: Arc<TargetInbox>,
    connection: TargetConnection,
}

impl TargetChannel {
    /// What the target says next; nothing once the channel is closed.
    pub(super) async fn next(&self) -> Option<Arrival<Stream, TargetEvent>> {
        // The task has dealt with what it took before: there may be room again.
        if self.inbox.backlog_bytes() <= CONGESTED_BYTES {
            self.connection.port.valve.open();
        }
        self.inbox.next().await
    }

    /// Whether the connection broke, not only the channel.
    pub(super) fn is_lost(&self) -> bool {
        self.connection.handle.is_closed()
    }
}

struct TargetConnection {
    handle: client::Handle<TargetSide>,
    port: Arc<Port>,
}

impl TargetConnection {
    async fn open(self) -> Result<TargetChannel, UpstreamError> {
        let opened = timeout(TARGET_ANSWER_TIME, self.handle.channel_open_session())
            .await
            .map_err(|_| UpstreamError::TimedOut {
                what: "open a channel",
            })?;
        // What arrives is taken from the callbacks; the queue that russh would fill is dropped.
        let (_, writer) = opened.map_err(UpstreamError::Channel)?.split();
        let inbox = Arc::new(TargetInbox::default());
        *self.port.channel() = Some((writer.id(), Arc::clone(&inbox)));
        Ok(TargetChannel {
            writer: Arc::new(writer),
            inbox,
            connection: self,
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
    idle: Mutex<Vec<TargetConnection>>,
}

impl Targets {
    pub(super) fn new(session: Arc<Session>) -> Self {
        Self {
            credential: session.take_credential(),
            session,
            accepted: Mutex::default(),
            first: tokio::sync::Mutex::default(),
            idle: Mutex::default(),
        }
    }

    /// Opens a channel, over an idle connection or a new one.
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
                return Ok(channel);
            }
        }
        self.connect().await?.open().await
    }

    fn take_idle(&self) -> Option<TargetConnection> {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
    }

    /// Gives a connection back whose channel the target has closed.
    pub(super) fn give_back(&self, channel: TargetChannel) {
        let TargetChannel { connection, .. } = channel;
        connection.port.close();
        connection.port.valve.open();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !connection.handle.is_closed() && idle.len() < IDLE_TARGET_CONNECTIONS_MAX {
            idle.push(connection);
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
        // A connection that is held back is not read, and would look dead.
        keepalive_interval: None,
        ..client::Config::default()
    }
}
