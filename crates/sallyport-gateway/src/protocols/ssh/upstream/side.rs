//! What russh calls when a target says something: its host key is checked, what arrives goes to the
//! channel's inbox, and channels it would open to us are refused unless they were asked for.
//!
//! INVARIANT: a callback waits for control at most, to pin or report a host key, and never for the
//! channel's task. A target that opens what nobody asked for is on record, and cut off when it goes on.

use std::sync::{Arc, Mutex, PoisonError};

use russh::{
    Channel, ChannelId, ChannelOpenFailure, Sig, client,
    keys::{PublicKey, PublicKeyOrCertificate},
};
use sallyport_core::{
    authz::Reason,
    session::{Operation, OperationKind},
};
use sallyport_evidence::recording::SESSION_CHANNEL;
use tokio::sync::Semaphore;

use super::{Asked, Expected, Port, Stream, TargetChannel, TargetEvent, UpstreamError};
use crate::{
    protocols::ssh::{
        client_end::ClientEnd,
        destination, forward, guard,
        limits::{EXIT_MESSAGE_CHARS_MAX, SIGNAL_NAME_BYTES_MAX, UNASKED_CHANNELS_MAX},
    },
    session::Session,
};

/// What russh calls when a target says something.
pub(super) struct TargetSide {
    pub(super) session: Arc<Session>,
    pub(super) accepted: Vec<PublicKey>,
    /// The host key that was pinned on this connection.
    pub(super) seen: Arc<Mutex<Option<PublicKey>>>,
    pub(super) port: Arc<Port>,
    /// What it may open.
    pub(super) asked: Arc<Asked>,
    pub(super) client: ClientEnd,
    /// Room for connections that it forwards, of the whole session.
    pub(super) forwards: Arc<Semaphore>,
    /// Channels it opened that nobody asked for.
    pub(super) unasked: usize,
}

impl TargetSide {
    async fn check_key(&self, shown: &PublicKeyOrCertificate) -> Result<bool, UpstreamError> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = shown else {
            // Certificates are not asked for.
            return Err(UpstreamError::HostKeyChanged);
        };
        let text = PublicKey::from(key.key_data().clone())
            .to_openssh()
            .map_err(UpstreamError::HostKeyText)?;
        if self
            .accepted
            .iter()
            .any(|accepted| accepted.key_data() == key.key_data())
        {
            return Ok(true);
        }
        if !self.accepted.is_empty() {
            if let Err(error) = self.session.report_host_key(text).await {
                let error: &dyn std::error::Error = &error;
                tracing::error!(session_id = %self.session.id(), error, "a changed host key could not be reported");
            }
            return Err(UpstreamError::HostKeyChanged);
        }
        if !self.session.pins_first_host_key() {
            return Err(UpstreamError::HostKeyUnknown);
        }
        self.session
            .pin_host_key(text)
            .await
            .map_err(UpstreamError::Pin)?;
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(key.clone());
        Ok(true)
    }
}

impl Drop for TargetSide {
    fn drop(&mut self) {
        self.port.close_all();
    }
}

type Opened = Channel<client::Msg>;
type OpenReply = client::ChannelOpenHandle;

/// A signal whose name can be recorded and passed on. A target that makes one up has ended its process
/// all the same.
fn named(signal: Sig) -> Sig {
    match signal {
        Sig::Custom(name)
            if name.is_empty()
                || name.len() > SIGNAL_NAME_BYTES_MAX
                || !name.bytes().all(|byte| byte.is_ascii_graphic()) =>
        {
            Sig::Custom("unknown".to_owned())
        }
        known => known,
    }
}

/// As much of a target's explanation as a person reads, without what a terminal would obey.
fn brief(message: &str) -> String {
    message
        .chars()
        .filter(|char| !char.is_control())
        .take(EXIT_MESSAGE_CHARS_MAX)
        .collect()
}

impl TargetSide {
    /// Takes a channel that was asked for; refuses any other.
    async fn offered(
        &mut self,
        expected: Option<Expected>,
        what: impl FnOnce() -> String,
        channel: Opened,
        reply: OpenReply,
    ) -> Result<(), UpstreamError> {
        let Some(expected) = expected else {
            return self.refuse(what(), reply).await;
        };
        let Ok(place) = Arc::clone(&self.forwards).try_acquire_owned() else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        let (_, writer) = channel.split();
        let target = TargetChannel::opened_by_target(writer, &self.port);
        let incoming = forward::Incoming {
            expected,
            client: self.client.clone(),
            target,
            reply,
            place,
        };
        let taking = forward::from_target(Arc::clone(&self.session), incoming);
        let taking = guard(Arc::clone(&self.session), taking);
        // Dropped handle: the task ends with its channel or the session.
        drop(
            self.session
                .spawn("carry a connection from a target", taking),
        );
        Ok(())
    }

    /// Refuses what nobody asked for, on record.
    async fn refuse(&mut self, what: String, reply: OpenReply) -> Result<(), UpstreamError> {
        reply
            .reject(ChannelOpenFailure::AdministrativelyProhibited)
            .await;
        self.unasked = self.unasked.saturating_add(1);
        if self.unasked > UNASKED_CHANNELS_MAX {
            return Err(UpstreamError::Unasked);
        }
        let session = Arc::clone(&self.session);
        let operation = Operation {
            kind: OperationKind::Unsupported,
            detail: format!("from the target: {what}"),
            facts: None,
        };
        drop(self.session.spawn("record a refused channel", async move {
            session
                .refuse_operation(SESSION_CHANNEL, operation, Reason::FeatureRefused)
                .await;
        }));
        Ok(())
    }
}

impl client::Handler for TargetSide {
    type Error = UpstreamError;

    async fn check_server_key(
        &mut self,
        shown: &PublicKeyOrCertificate,
    ) -> Result<bool, UpstreamError> {
        Box::pin(self.check_key(shown)).await
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        _session: &mut client::Session,
    ) -> Result<(), UpstreamError> {
        self.port.put_content(channel, Stream::Output, data);
        Ok(())
    }

    async fn extended_data(
        &mut self,
        channel: ChannelId,
        _code: u32,
        data: &[u8],
        _session: &mut client::Session,
    ) -> Result<(), UpstreamError> {
        self.port.put_content(channel, Stream::ErrorOutput, data);
        Ok(())
    }

    async fn channel_success(
        &mut self,
        channel: ChannelId,
        _session: &mut client::Session,
    ) -> Result<(), UpstreamError> {
        self.port.put_event(channel, TargetEvent::Granted)
    }

    async fn channel_failure(
        &mut self,
        channel: ChannelId,
        _session: &mut client::Session,
    ) -> Result<(), UpstreamError> {
        self.port.put_event(channel, TargetEvent::Refused)
    }

    async fn channel_eof(
        &mut self,
        channel: ChannelId,
        _session: &mut client::Session,
    ) -> Result<(), UpstreamError> {
        self.port.put_event(channel, TargetEvent::Eof)
    }

    async fn exit_status(
        &mut self,
        channel: ChannelId,
        exit_status: u32,
        _session: &mut client::Session,
    ) -> Result<(), UpstreamError> {
        self.port
            .put_event(channel, TargetEvent::ExitStatus(exit_status))
    }

    async fn exit_signal(
        &mut self,
        channel: ChannelId,
        signal: Sig,
        core_dumped: bool,
        message: &str,
        _language: &str,
        _session: &mut client::Session,
    ) -> Result<(), UpstreamError> {
        let event = TargetEvent::ExitSignal {
            signal: named(signal),
            core_dumped,
            message: brief(message),
        };
        self.port.put_event(channel, event)
    }

    async fn channel_close(
        &mut self,
        channel: ChannelId,
        _session: &mut client::Session,
    ) -> Result<(), UpstreamError> {
        self.port.close(channel);
        Ok(())
    }

    async fn channel_open_confirmation(
        &mut self,
        id: ChannelId,
        _max_packet_size: u32,
        _window_size: u32,
        _session: &mut client::Session,
    ) -> Result<(), UpstreamError> {
        self.port.confirmed(id);
        Ok(())
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Opened,
        connected_address: &str,
        connected_port: u32,
        originator_address: &str,
        originator_port: u32,
        reply: OpenReply,
        _session: &mut client::Session,
    ) -> Result<(), UpstreamError> {
        let originator = (originator_address.to_owned(), originator_port);
        let expected = self
            .asked
            .address(connected_address, connected_port, originator);
        let what = || {
            let place = destination::shown(connected_address, connected_port);
            format!("forwarded-tcpip {place}")
        };
        self.offered(expected, what, channel, reply).await
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        channel: Opened,
        socket_path: &str,
        reply: OpenReply,
        _session: &mut client::Session,
    ) -> Result<(), UpstreamError> {
        let expected = self.asked.socket(socket_path);
        let what = || format!("forwarded-streamlocal {socket_path}");
        self.offered(expected, what, channel, reply).await
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        channel: Opened,
        reply: OpenReply,
        _session: &mut client::Session,
    ) -> Result<(), UpstreamError> {
        let expected = self.asked.agent();
        self.offered(expected, || "auth-agent".to_owned(), channel, reply)
            .await
    }

    async fn server_channel_open_session(
        &mut self,
        _channel: Opened,
        reply: OpenReply,
        _session: &mut client::Session,
    ) -> Result<(), UpstreamError> {
        self.refuse("session".to_owned(), reply).await
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _channel: Opened,
        host_to_connect: &str,
        port_to_connect: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: OpenReply,
        _session: &mut client::Session,
    ) -> Result<(), UpstreamError> {
        let place = destination::shown(host_to_connect, port_to_connect);
        self.refuse(format!("direct-tcpip {place}"), reply).await
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _channel: Opened,
        socket_path: &str,
        reply: OpenReply,
        _session: &mut client::Session,
    ) -> Result<(), UpstreamError> {
        self.refuse(format!("direct-streamlocal {socket_path}"), reply)
            .await
    }

    async fn server_channel_open_x11(
        &mut self,
        _channel: Opened,
        originator_address: &str,
        originator_port: u32,
        reply: OpenReply,
        _session: &mut client::Session,
    ) -> Result<(), UpstreamError> {
        let place = destination::shown(originator_address, originator_port);
        self.refuse(format!("x11 {place}"), reply).await
    }

    async fn should_accept_unknown_server_channel(
        &mut self,
        _id: ChannelId,
        _channel_type: &str,
    ) -> bool {
        // So that the callback below refuses it, on record.
        true
    }

    async fn server_channel_open_unknown(
        &mut self,
        _channel: Opened,
        reply: OpenReply,
        _session: &mut client::Session,
    ) -> Result<(), UpstreamError> {
        self.refuse("a channel of unknown type".to_owned(), reply)
            .await
    }

    async fn disconnected(
        &mut self,
        _reason: client::DisconnectReason<UpstreamError>,
    ) -> Result<(), UpstreamError> {
        self.port.close_all();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// K5: what a target calls a signal is no name until it looks like one.
    #[test]
    fn a_signal_that_a_target_made_up_is_passed_on_only_if_it_looks_like_a_name() {
        assert!(matches!(named(Sig::HUP), Sig::HUP));
        let custom = |name: &str| match named(Sig::Custom(name.to_owned())) {
            Sig::Custom(name) => name,
            known => panic!("{known:?} was not asked about"),
        };
        assert_eq!(custom("RTMIN+1"), "RTMIN+1");
        for odd in ["", "\u{1b}[2J", "a b", &"x".repeat(65)] {
            assert_eq!(custom(odd), "unknown", "{odd:?}");
        }
    }

    /// K5
    #[test]
    fn an_explanation_is_short_and_cannot_be_obeyed_by_a_terminal() {
        assert_eq!(brief("killed\u{1b}]0;x\u{7}\u{9b}2J"), "killed]0;x2J");
        assert_eq!(
            brief(&"\u{e9}".repeat(5_000)).chars().count(),
            EXIT_MESSAGE_CHARS_MAX
        );
    }
}
