//! The client's connection as what the target opens sees it: channels are opened to the client, for what
//! it asked the target to listen for and for its agent.
//!
//! INVARIANT: what the client sends on a channel the moment it has confirmed it is in the channel's inbox,
//! whoever runs first.
//!
//! Not here: what may be opened (`upstream`), moving bytes (`forward`).

use std::sync::Arc;

use russh::server;
use tokio::time::timeout;

use super::{
    channel::{ClientChannel, ClientEvent},
    limits::TARGET_ANSWER_TIME,
    meeting::Meeting,
    upstream::Way,
};

/// Channels that were opened to a client.
pub(super) type ClientMeeting = Meeting<(), ClientEvent>;

/// Opens channels to the client.
#[derive(Clone)]
pub(super) struct ClientEnd {
    handle: server::Handle,
    meeting: Arc<ClientMeeting>,
}

/// Why the client does not take a channel.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientOpenError {
    /// It says no, or is gone.
    #[error("open a channel to the client")]
    Refused(#[source] russh::Error),
    /// It did not answer.
    #[error("wait for the client to take a channel")]
    TimedOut,
}

impl ClientEnd {
    pub(super) const fn new(handle: server::Handle, meeting: Arc<ClientMeeting>) -> Self {
        Self { handle, meeting }
    }

    /// Opens a channel.
    ///
    /// # Errors
    /// [`ClientOpenError`].
    pub(super) async fn open(&self, way: &Way) -> Result<ClientChannel, ClientOpenError> {
        let handle = &self.handle;
        let opening = async {
            match way {
                Way::Address {
                    host,
                    port,
                    originator: (originator, originator_port),
                } => {
                    let origin = (originator.as_str(), *originator_port);
                    handle
                        .channel_open_forwarded_tcpip(host.as_str(), *port, origin.0, origin.1)
                        .await
                }
                Way::Socket(path) => {
                    handle
                        .channel_open_forwarded_streamlocal(path.as_str())
                        .await
                }
                Way::Agent => handle.channel_open_agent().await,
            }
        };
        let opened = timeout(TARGET_ANSWER_TIME, opening)
            .await
            .map_err(|_| ClientOpenError::TimedOut)?;
        // What arrives is taken from the callbacks; the queue that russh would fill is dropped.
        let (_, writer) = opened.map_err(ClientOpenError::Refused)?.split();
        let inbox = self.meeting.meet(writer.id());
        Ok(ClientChannel::new(inbox, writer, handle.clone()))
    }
}
