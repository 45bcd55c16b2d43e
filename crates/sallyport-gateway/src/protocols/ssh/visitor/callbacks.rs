//! The callbacks of russh for one client, a few lines each.
//!
//! Called in the order in which the client sent things, one at a time. What they have in common, and what
//! none of them may do, is in `visitor`.

use russh::{
    Channel, ChannelId, ChannelOpenFailure, Pty, Sig,
    keys::{Certificate, PublicKey},
    server::{self, Auth, ChannelOpenHandle, Msg, PublicKeyOffer, Response, VerifiedPublicKey},
};
use sallyport_core::{
    authz::Reason,
    session::{Operation, OperationKind},
};

use super::{Job, Visitor, VisitorError, ports::Purpose};
use crate::protocols::ssh::{
    algorithms,
    channel::{ClientChannel, ClientEvent, PtyRequest, Size},
    destination::{self, Destination, ListenPlace},
    flow::{BACKLOG_BYTES_MAX, DRIP_BYTES},
    inbox::Overrun,
    limits::{ENV_MAX, OFFERS_MAX},
    operations::{self, Launch},
};

// What runs once and is large is boxed: russh keeps room for the largest callback in every connection's
// task, as long as it lives.
impl server::Handler for Visitor {
    type Error = VisitorError;

    async fn auth_publickey_offered(
        &mut self,
        _user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, VisitorError> {
        self.offers = self.offers.saturating_add(1);
        if self.offers > OFFERS_MAX {
            return Err(VisitorError::TooManyOffers);
        }
        Ok(
            match algorithms::accepts_user_key(offer.public_key, offer.algorithm) {
                true => Auth::Accept,
                false => Auth::reject(),
            },
        )
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, VisitorError> {
        if !algorithms::accepts_user_key(key.public_key, key.algorithm) {
            return Ok(Auth::reject());
        }
        // Without the comment: only what was verified.
        let verified = PublicKey::from(key.public_key.key_data().clone());
        let Ok(text) = verified.to_openssh() else {
            return Ok(Auth::reject());
        };
        let auth = Box::pin(self.login.by_key(user, text)).await;
        self.admitted(auth)
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth, VisitorError> {
        let mut certificate = certificate.clone();
        certificate.set_comment("");
        let text = match self.accepts_certificate(&certificate) {
            true => certificate.to_openssh(),
            false => return Ok(Auth::reject()),
        };
        let Ok(text) = text else {
            return Ok(Auth::reject());
        };
        let auth = Box::pin(self.login.by_certificate(user, text)).await;
        self.admitted(auth)
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, VisitorError> {
        let answers = response.map(|response| {
            response
                .map(|answer| String::from_utf8_lossy(&answer).into_owned())
                .collect()
        });
        let auth = Box::pin(self.login.by_keyboard(user, answers)).await;
        self.admitted(auth)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut server::Session,
    ) -> Result<(), VisitorError> {
        let Some(inbox) = self.ports.open(channel.id(), Purpose::session()) else {
            tracing::info!(connection = self.connection, "too many channels");
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        // What arrives is taken from the callbacks; the queue that russh would fill is dropped.
        let (_, writer) = channel.split();
        reply.accept().await;
        self.give(Job::Serve(ClientChannel::new(
            inbox,
            writer,
            session.handle(),
        )))
    }

    async fn channel_open_confirmation(
        &mut self,
        channel: ChannelId,
        _max_packet_size: u32,
        _window_size: u32,
        _session: &mut server::Session,
    ) -> Result<(), VisitorError> {
        self.ports.confirmed(channel);
        Ok(())
    }

    async fn channel_open_x11(
        &mut self,
        _channel: Channel<Msg>,
        originator_address: &str,
        originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut server::Session,
    ) -> Result<(), VisitorError> {
        let place = destination::shown(originator_address, originator_port);
        let operation = operations::unsupported(format!("x11 {place}"));
        self.refuse_channel(operation, Reason::FeatureRefused, reply)
            .await
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host_to_connect: &str,
        port_to_connect: u32,
        originator_address: &str,
        originator_port: u32,
        reply: ChannelOpenHandle,
        session: &mut server::Session,
    ) -> Result<(), VisitorError> {
        if self.login.may_jump() {
            let (host, port) = (host_to_connect, port_to_connect);
            return self
                .jump(host, port, channel, reply, session.handle())
                .await;
        }
        let Some(destination) = Destination::address(host_to_connect, port_to_connect) else {
            let operation = Operation {
                kind: OperationKind::ForwardLocal,
                detail: destination::shown(host_to_connect, port_to_connect),
                facts: None,
            };
            let reason = Reason::DestinationInvalid;
            return self.refuse_channel(operation, reason, reply).await;
        };
        let originator = (originator_address.to_owned(), originator_port);
        self.forward(destination, originator, channel, reply, session.handle())
            .await
    }

    async fn channel_open_forwarded_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        host_to_connect: &str,
        port_to_connect: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut server::Session,
    ) -> Result<(), VisitorError> {
        let place = destination::shown(host_to_connect, port_to_connect);
        let operation = operations::unsupported(format!("forwarded-tcpip {place}"));
        self.refuse_channel(operation, Reason::FeatureRefused, reply)
            .await
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        socket_path: &str,
        reply: ChannelOpenHandle,
        session: &mut server::Session,
    ) -> Result<(), VisitorError> {
        let Some(destination) = Destination::socket(socket_path) else {
            let operation = Operation {
                kind: OperationKind::ForwardLocalSocket,
                detail: socket_path.to_owned(),
                facts: None,
            };
            let reason = Reason::DestinationInvalid;
            return self.refuse_channel(operation, reason, reply).await;
        };
        self.forward(
            destination,
            (String::new(), 0),
            channel,
            reply,
            session.handle(),
        )
        .await
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        session: &mut server::Session,
    ) -> Result<bool, VisitorError> {
        let Some(place) = ListenPlace::address(address, *port) else {
            let operation = Operation {
                kind: OperationKind::ForwardRemote,
                detail: destination::shown(address, *port),
                facts: None,
            };
            self.refuse(operation, Reason::DestinationInvalid)?;
            return Ok(false);
        };
        let given = Box::pin(self.listen(place, session)).await?;
        *port = given.unwrap_or(*port);
        Ok(given.is_some())
    }

    async fn cancel_tcpip_forward(
        &mut self,
        address: &str,
        port: u32,
        _session: &mut server::Session,
    ) -> Result<bool, VisitorError> {
        self.stop_listening(ListenPlace::address(address, port))
            .await
    }

    async fn streamlocal_forward(
        &mut self,
        socket_path: &str,
        session: &mut server::Session,
    ) -> Result<bool, VisitorError> {
        let Some(place) = ListenPlace::socket(socket_path) else {
            let operation = Operation {
                kind: OperationKind::ForwardRemoteSocket,
                detail: socket_path.to_owned(),
                facts: None,
            };
            self.refuse(operation, Reason::DestinationInvalid)?;
            return Ok(false);
        };
        Ok(Box::pin(self.listen(place, session)).await?.is_some())
    }

    async fn cancel_streamlocal_forward(
        &mut self,
        socket_path: &str,
        _session: &mut server::Session,
    ) -> Result<bool, VisitorError> {
        self.stop_listening(ListenPlace::socket(socket_path)).await
    }

    async fn agent_request(
        &mut self,
        channel: ChannelId,
        _session: &mut server::Session,
    ) -> Result<bool, VisitorError> {
        let operation = operations::agent();
        let answer = self.check(&operation);
        match (answer, self.ports.session(channel)) {
            (Ok(()), Some(open)) if !open.is_launched && !open.has_agent => {
                open.has_agent = true;
                self.put(channel, ClientEvent::Agent)?;
                Ok(true)
            }
            (answer, _) => {
                self.refuse(operation, answer.err().unwrap_or(Reason::FeatureRefused))?;
                Ok(false)
            }
        }
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _single_connection: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut server::Session,
    ) -> Result<(), VisitorError> {
        let operation = operations::unsupported("x11-req".to_owned());
        self.refuse(operation, Reason::FeatureRefused)?;
        Ok(session.channel_failure(channel)?)
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        width_pixels: u32,
        height_pixels: u32,
        modes: &[(Pty, u32)],
        session: &mut server::Session,
    ) -> Result<(), VisitorError> {
        let is_plain = term.len() <= 128 && term.bytes().all(|b| b.is_ascii_graphic());
        match self.ports.session(channel) {
            Some(open) if is_plain && !open.is_launched && !open.has_pty => {
                open.has_pty = true;
                session.channel_success(channel)?;
                let size = Size {
                    columns,
                    rows,
                    width_pixels,
                    height_pixels,
                };
                let request = PtyRequest {
                    term: term.to_owned(),
                    size,
                    modes: modes.to_vec(),
                };
                self.put(channel, ClientEvent::Pty(request))
            }
            _ => Ok(session.channel_failure(channel)?),
        }
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut server::Session,
    ) -> Result<(), VisitorError> {
        let has_room = self
            .ports
            .session(channel)
            .is_some_and(|open| !open.is_launched && open.count_env() < ENV_MAX);
        if !has_room {
            return Ok(session.channel_failure(channel)?);
        }
        let (name, value) = (name.to_owned(), value.to_owned());
        if operations::passes_env(&name, &value) {
            session.channel_success(channel)?;
            return self.put(channel, ClientEvent::Env(name, value));
        }
        let operation = match operations::environment(&name, &value) {
            Ok(operation) => operation,
            Err(reason) => {
                session.channel_failure(channel)?;
                let operation = operations::unsupported(format!("env {name}"));
                return self.put(channel, ClientEvent::Refused(operation, reason));
            }
        };
        match self.check(&operation) {
            Ok(()) => {
                session.channel_success(channel)?;
                self.put(channel, ClientEvent::DecidedEnv(name, value, operation))
            }
            Err(reason) => {
                session.channel_failure(channel)?;
                self.put(channel, ClientEvent::Refused(operation, reason))
            }
        }
    }

    async fn shell_request(
        &mut self,
        channel: ChannelId,
        session: &mut server::Session,
    ) -> Result<(), VisitorError> {
        self.launch(channel, ClientEvent::Launch(Launch::Shell), session)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut server::Session,
    ) -> Result<(), VisitorError> {
        let event = match operations::exec(command) {
            Ok(launch) => ClientEvent::Launch(launch),
            Err(reason) => ClientEvent::RefusedLaunch(
                Operation {
                    kind: OperationKind::Exec,
                    detail: String::from_utf8_lossy(command).into_owned(),
                    facts: None,
                },
                reason,
            ),
        };
        self.launch(channel, event, session)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut server::Session,
    ) -> Result<(), VisitorError> {
        let event = match operations::subsystem(name) {
            Ok(launch) => ClientEvent::Launch(launch),
            Err(reason) => ClientEvent::RefusedLaunch(
                Operation {
                    kind: OperationKind::Subsystem,
                    detail: name.to_owned(),
                    facts: None,
                },
                reason,
            ),
        };
        self.launch(channel, event, session)
    }

    async fn window_change_request(
        &mut self,
        channel: ChannelId,
        columns: u32,
        rows: u32,
        width_pixels: u32,
        height_pixels: u32,
        _session: &mut server::Session,
    ) -> Result<(), VisitorError> {
        let size = Size {
            columns,
            rows,
            width_pixels,
            height_pixels,
        };
        match self.ports.of(channel) {
            // Somebody who drags a window's corner sends hundreds; only the last one matters.
            Some(open) => open
                .inbox
                .put_latest(ClientEvent::Resize(size), |last| {
                    matches!(last, ClientEvent::Resize(_))
                })
                .map_err(VisitorError::Overrun),
            None => Ok(()),
        }
    }

    async fn signal(
        &mut self,
        channel: ChannelId,
        signal: Sig,
        _session: &mut server::Session,
    ) -> Result<(), VisitorError> {
        match &signal {
            // A name of its own is passed on only if it is one.
            Sig::Custom(name) if name.len() > 64 || !name.bytes().all(|b| b.is_ascii_graphic()) => {
                Ok(())
            }
            _ => self.put(channel, ClientEvent::Signal(signal)),
        }
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        _session: &mut server::Session,
    ) -> Result<(), VisitorError> {
        let Some(open) = self.ports.of(channel) else {
            return Ok(());
        };
        open.inbox.put_content((), data);
        let backlog = self.ports.backlog(channel);
        if backlog.total_bytes > BACKLOG_BYTES_MAX {
            return Err(VisitorError::Overrun(Overrun));
        }
        let is_drip = u32::try_from(data.len()).is_ok_and(|size| size <= DRIP_BYTES);
        if self.window_bytes == DRIP_BYTES && is_drip && backlog.is_congested() {
            self.valve.pause();
        }
        Ok(())
    }

    fn adjust_window(&mut self, channel: ChannelId, given_bytes: u32) -> u32 {
        self.window_bytes = self.ports.backlog(channel).next_window_bytes(given_bytes);
        self.window_bytes
    }

    async fn channel_eof(
        &mut self,
        channel: ChannelId,
        _session: &mut server::Session,
    ) -> Result<(), VisitorError> {
        self.put(channel, ClientEvent::Eof)
    }

    async fn channel_close(
        &mut self,
        channel: ChannelId,
        _session: &mut server::Session,
    ) -> Result<(), VisitorError> {
        self.ports.close(channel);
        Ok(())
    }
}
