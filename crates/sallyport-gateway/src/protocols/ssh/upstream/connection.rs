//! One connection to the target and the channels on it.
//!
//! INVARIANT: a connection on which the client's agent was asked for serves the channel that asked and
//! none after it.

use std::sync::Arc;

use russh::{Channel, ChannelWriteHalf, client};
use tokio::time::timeout;

use super::{Asked, Port, Stream, TargetEvent, TargetInbox, TargetSide, UpstreamError};
use crate::protocols::ssh::{
    destination::Destination,
    inbox::Arrival,
    limits::{TARGET_ANSWER_TIME, TARGET_PING_EVERY},
};

/// One channel at the target, and the connection that carries it. Dropping it without
/// [`super::Targets::give_back`] ends the connection, unless another channel shares it.
pub(in crate::protocols::ssh) struct TargetChannel {
    /// Sends to the target.
    pub(in crate::protocols::ssh) writer: Arc<ChannelWriteHalf<client::Msg>>,
    inbox: Arc<TargetInbox>,
    port: Arc<Port>,
    /// Absent for a channel that the target opened: whoever asked for it holds the connection.
    connection: Option<Arc<TargetConnection>>,
}

impl TargetChannel {
    /// A channel that the target opens.
    pub(super) fn opened_by_target(
        writer: ChannelWriteHalf<client::Msg>,
        port: &Arc<Port>,
    ) -> Self {
        Self {
            inbox: port.expect(writer.id()),
            writer: Arc::new(writer),
            port: Arc::clone(port),
            connection: None,
        }
    }

    /// The connection, unless the target opened the channel.
    pub(in crate::protocols::ssh) const fn connection(&self) -> Option<&Arc<TargetConnection>> {
        self.connection.as_ref()
    }

    /// What the target says next; nothing once the channel is closed.
    pub(in crate::protocols::ssh) async fn next(&self) -> Option<Arrival<Stream, TargetEvent>> {
        // The task has dealt with what it took before: there may be room again.
        self.port.relieve();
        self.inbox.next().await
    }

    /// Resolves when the target no longer answers.
    pub(in crate::protocols::ssh) async fn dead(&self) {
        match &self.connection {
            Some(connection) => connection.dead().await,
            // Whoever holds the connection asks it.
            None => std::future::pending().await,
        }
    }

    /// Whether the connection broke, not only the channel.
    pub(in crate::protocols::ssh) fn is_lost(&self) -> bool {
        self.port.is_lost()
            || self
                .connection
                .as_ref()
                .is_some_and(|connection| connection.is_closed())
    }

    /// The target may use the client's agent, for as long as this channel lives.
    pub(in crate::protocols::ssh) async fn forward_agent(&self) -> Result<(), russh::Error> {
        if let Some(connection) = &self.connection {
            connection.asked.want_agent();
        }
        self.writer.agent_forward(false).await
    }
}

impl Drop for TargetChannel {
    fn drop(&mut self) {
        self.port.close(self.writer.id());
        self.port.relieve();
    }
}

/// One connection to the target.
pub(in crate::protocols::ssh) struct TargetConnection {
    handle: client::Handle<TargetSide>,
    port: Arc<Port>,
    asked: Arc<Asked>,
}

impl TargetConnection {
    pub(super) const fn new(
        handle: client::Handle<TargetSide>,
        port: Arc<Port>,
        asked: Arc<Asked>,
    ) -> Self {
        Self {
            handle,
            port,
            asked,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// Whether no other channel may use it.
    pub(super) fn is_exclusive(&self) -> bool {
        self.asked.has_agent()
    }

    /// How many channels it serves.
    pub(super) fn channels(&self) -> usize {
        self.port.count()
    }

    pub(super) fn asked(&self) -> &Asked {
        &self.asked
    }

    pub(super) const fn handle(&self) -> &client::Handle<TargetSide> {
        &self.handle
    }

    /// Resolves when the connection is gone, whatever of it still waits to be taken.
    pub(super) async fn lost(&self) {
        tokio::select! {
            () = self.port.lost() => {}
            () = self.dead() => {}
        }
    }

    /// Resolves when the target no longer answers.
    pub(super) async fn dead(&self) {
        loop {
            tokio::time::sleep(TARGET_PING_EVERY).await;
            match timeout(TARGET_ANSWER_TIME, self.handle.send_ping()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                // What is held back is not read, its answer to a ping neither.
                Err(_) if self.port.is_full() => {}
                Err(_) => return,
            }
        }
    }

    /// Opens a session channel.
    pub(super) async fn open(self: &Arc<Self>) -> Result<TargetChannel, UpstreamError> {
        self.begin(self.handle.channel_open_session()).await
    }

    /// Opens a channel to `destination`.
    pub(super) async fn open_direct(
        self: &Arc<Self>,
        destination: &Destination,
        originator: &(String, u32),
    ) -> Result<TargetChannel, UpstreamError> {
        let (originator_host, originator_port) = originator;
        match destination {
            Destination::Address { host, port } => {
                let opening = self.handle.channel_open_direct_tcpip(
                    host.as_str(),
                    u32::from(*port),
                    originator_host.as_str(),
                    *originator_port,
                );
                self.begin(opening).await
            }
            Destination::Socket(path) => {
                let opening = self.handle.channel_open_direct_streamlocal(path.as_str());
                self.begin(opening).await
            }
        }
    }

    async fn begin(
        self: &Arc<Self>,
        opening: impl Future<Output = Result<Channel<client::Msg>, russh::Error>>,
    ) -> Result<TargetChannel, UpstreamError> {
        let opened =
            timeout(TARGET_ANSWER_TIME, opening)
                .await
                .map_err(|_| UpstreamError::TimedOut {
                    what: "open a channel",
                })?;
        // What arrives is taken from the callbacks; the queue that russh would fill is dropped.
        let (_, writer) = opened.map_err(UpstreamError::Channel)?.split();
        Ok(TargetChannel {
            inbox: self.port.meet(writer.id()),
            writer: Arc::new(writer),
            port: Arc::clone(&self.port),
            connection: Some(Arc::clone(self)),
        })
    }
}
