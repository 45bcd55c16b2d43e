//! What russh calls when a target says something: its host key is checked, what arrives goes to the
//! channel's inbox, and channels it would open to us are refused.
//!
//! INVARIANT: a callback waits for control at most, to pin or report a host key, and never for the
//! channel's task.

use std::sync::{Arc, Mutex, PoisonError};

use russh::{
    Channel, ChannelId, ChannelOpenFailure, Sig, client,
    keys::{PublicKey, PublicKeyOrCertificate},
};

use super::{Port, Stream, TargetEvent, UpstreamError};
use crate::{
    protocols::ssh::limits::{EXIT_MESSAGE_CHARS_MAX, SIGNAL_NAME_BYTES_MAX},
    session::Session,
};

/// What russh calls when a target says something.
pub(super) struct TargetSide {
    pub(super) session: Arc<Session>,
    pub(super) accepted: Vec<PublicKey>,
    /// The host key that was pinned on this connection.
    pub(super) seen: Arc<Mutex<Option<PublicKey>>>,
    pub(super) port: Arc<Port>,
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

/// A target opens channels only to forward what was never asked for.
async fn refuse(reply: OpenReply) -> Result<(), UpstreamError> {
    reply
        .reject(ChannelOpenFailure::AdministrativelyProhibited)
        .await;
    Ok(())
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

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _channel: Opened,
        _connected_address: &str,
        _connected_port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: OpenReply,
        _session: &mut client::Session,
    ) -> Result<(), UpstreamError> {
        refuse(reply).await
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _channel: Opened,
        _socket_path: &str,
        reply: OpenReply,
        _session: &mut client::Session,
    ) -> Result<(), UpstreamError> {
        refuse(reply).await
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _channel: Opened,
        reply: OpenReply,
        _session: &mut client::Session,
    ) -> Result<(), UpstreamError> {
        refuse(reply).await
    }

    async fn server_channel_open_session(
        &mut self,
        _channel: Opened,
        reply: OpenReply,
        _session: &mut client::Session,
    ) -> Result<(), UpstreamError> {
        refuse(reply).await
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _channel: Opened,
        _host_to_connect: &str,
        _port_to_connect: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: OpenReply,
        _session: &mut client::Session,
    ) -> Result<(), UpstreamError> {
        refuse(reply).await
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _channel: Opened,
        _socket_path: &str,
        reply: OpenReply,
        _session: &mut client::Session,
    ) -> Result<(), UpstreamError> {
        refuse(reply).await
    }

    async fn server_channel_open_x11(
        &mut self,
        _channel: Opened,
        _originator_address: &str,
        _originator_port: u32,
        reply: OpenReply,
        _session: &mut client::Session,
    ) -> Result<(), UpstreamError> {
        refuse(reply).await
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
