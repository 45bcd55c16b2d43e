//! What russh calls when a client says something: proofs go to the login, channels to their tasks,
//! everything else is refused.
//!
//! INVARIANT: a callback waits for control at most, and only while nobody is let in; afterwards none
//! waits for anything. What is not offered is refused here, said so where SSH has room for it, and on
//! record.
//!
//! Not here: what is proven (`handshake`), what channels do (`relay`).

use std::{collections::HashMap, sync::Arc};

use russh::{
    Channel, ChannelId, ChannelOpenFailure, Pty, Sig,
    keys::{Certificate, PublicKey, ssh_key::certificate::CertType},
    server::{self, Auth, ChannelOpenHandle, Msg, PublicKeyOffer, Response, VerifiedPublicKey},
};
use sallyport_core::{
    authz::Reason,
    session::{Operation, OperationKind},
};
use tokio::sync::mpsc;

use super::{
    algorithms,
    channel::{ClientChannel, ClientEvent, ClientInbox, PtyRequest, Size},
    flow::{BACKLOG_BYTES_MAX, Backlog, DRIP_BYTES, Valve, WINDOW_BYTES},
    handshake::{Admission, Login},
    inbox::Overrun,
    limits::{CHANNELS_EVER_MAX, CHANNELS_MAX, ENV_MAX, OFFERS_MAX},
    operations::{self, Launch},
};
use crate::door::Door;

/// Why a client's connection is cut.
#[derive(Debug, thiserror::Error)]
pub(super) enum VisitorError {
    /// The SSH protocol failed.
    #[error("speak SSH")]
    Ssh(#[source] russh::Error),
    /// It offers keys without end.
    #[error("take more than {OFFERS_MAX} offers of keys")]
    TooManyOffers,
    /// It sends more than its windows allow.
    #[error("take what a client sends")]
    Overrun(#[source] Overrun),
    /// It asks for what is refused faster than that can be recorded.
    #[error("record what is refused")]
    TooManyRefusals,
}

impl From<russh::Error> for VisitorError {
    fn from(source: russh::Error) -> Self {
        Self::Ssh(source)
    }
}

/// What callbacks leave for the connection's task to do.
pub(super) enum Job {
    /// The person was let in, or as far as to read why not.
    Admitted(Admission),
    /// A channel was opened.
    Serve(ClientChannel),
    /// Something was refused and must be put on record.
    Refused(Operation),
}

/// A channel as the callbacks see it.
struct Open {
    inbox: Arc<ClientInbox>,
    has_pty: bool,
    is_launched: bool,
    env: usize,
}

/// One client.
pub(super) struct Visitor {
    login: Login,
    offers: u32,
    opened: u32,
    jobs: mpsc::Sender<Job>,
    channels: HashMap<ChannelId, Open>,
    valve: Valve,
    window_bytes: u32,
    authorities: Vec<PublicKey>,
    connection: u64,
}

impl Visitor {
    pub(super) fn new(door: Arc<Door>, jobs: mpsc::Sender<Job>, valve: Valve) -> Self {
        let authorities = door
            .user_authorities()
            .iter()
            .filter_map(|text| PublicKey::from_openssh(text).ok())
            .collect();
        Self {
            connection: door.connection(),
            login: Login::new(door),
            offers: 0,
            opened: 0,
            jobs,
            channels: HashMap::new(),
            valve,
            window_bytes: WINDOW_BYTES,
            authorities,
        }
    }

    fn give(&self, job: Job) -> Result<(), VisitorError> {
        self.jobs
            .try_send(job)
            .map_err(|_| VisitorError::TooManyRefusals)
    }

    fn refuse(&self, what: String) -> Result<(), VisitorError> {
        tracing::info!(connection = self.connection, what, "a feature is refused");
        self.give(Job::Refused(Operation {
            kind: OperationKind::Forward,
            detail: what,
        }))
    }

    async fn refuse_channel(
        &self,
        what: String,
        reply: ChannelOpenHandle,
    ) -> Result<(), VisitorError> {
        self.refuse(what)?;
        reply.reject(prohibited(Reason::FeatureRefused)).await;
        Ok(())
    }

    fn put(&self, channel: ChannelId, event: ClientEvent) -> Result<(), VisitorError> {
        match self.channels.get(&channel) {
            Some(open) => open.inbox.put_event(event).map_err(VisitorError::Overrun),
            None => Ok(()),
        }
    }

    fn backlog(&self, channel: ChannelId) -> Backlog {
        let own = self
            .channels
            .get(&channel)
            .map_or(0, |open| open.inbox.backlog_bytes());
        Backlog::new(
            own,
            self.channels
                .values()
                .map(|open| open.inbox.backlog_bytes()),
        )
    }

    /// Answers a launch, once per channel.
    fn launch(
        &mut self,
        channel: ChannelId,
        event: ClientEvent,
        session: &mut server::Session,
    ) -> Result<(), VisitorError> {
        match self.channels.get_mut(&channel) {
            Some(open) if !open.is_launched => {
                open.is_launched = true;
                // Yes even to what is refused: only a channel that began has room to say why.
                session.channel_success(channel)?;
                self.put(channel, event)
            }
            _ => Ok(session.channel_failure(channel)?),
        }
    }

    fn admitted(&mut self, auth: Auth) -> Result<Auth, VisitorError> {
        if let (Auth::Accept, Some(admission)) = (&auth, self.login.admission()) {
            self.give(Job::Admitted(admission.clone()))?;
        }
        Ok(auth)
    }

    /// A certificate that could prove a person: of a trusted authority, with nothing in it that would
    /// have to be obeyed and is not.
    fn accepts_certificate(&self, certificate: &Certificate) -> bool {
        certificate.cert_type() == CertType::User
            && !certificate.valid_principals().is_empty()
            && certificate.critical_options().is_empty()
            && self
                .authorities
                .iter()
                .any(|authority| authority.key_data() == certificate.signature_key())
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        for open in self.channels.values() {
            open.inbox.close();
        }
    }
}

fn prohibited(reason: Reason) -> ChannelOpenFailure {
    ChannelOpenFailure::Other {
        // SSH_OPEN_ADMINISTRATIVELY_PROHIBITED, with our own words.
        code: ChannelOpenFailure::AdministrativelyProhibited.code(),
        reason: format!("sallyport: {} ({})", reason.message(), reason.code()),
    }
}

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
        // A channel that its task closed first is not announced as closed again.
        self.channels
            .retain(|_, open| Arc::strong_count(&open.inbox) > 1);
        self.opened = self.opened.saturating_add(1);
        if self.channels.len() >= CHANNELS_MAX || self.opened > CHANNELS_EVER_MAX {
            tracing::info!(connection = self.connection, "too many channels");
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        let id = channel.id();
        // What arrives is taken from the callbacks; the queue that russh would fill is dropped.
        let (_, writer) = channel.split();
        let inbox = Arc::new(ClientInbox::default());
        let open = Open {
            inbox: Arc::clone(&inbox),
            has_pty: false,
            is_launched: false,
            env: 0,
        };
        self.channels.insert(id, open);
        reply.accept().await;
        self.give(Job::Serve(ClientChannel::new(
            inbox,
            writer,
            session.handle(),
        )))
    }

    async fn channel_open_x11(
        &mut self,
        _channel: Channel<Msg>,
        originator_address: &str,
        originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut server::Session,
    ) -> Result<(), VisitorError> {
        let what = format!("x11 {originator_address}:{originator_port}");
        self.refuse_channel(what, reply).await
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        host_to_connect: &str,
        port_to_connect: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut server::Session,
    ) -> Result<(), VisitorError> {
        let what = format!("direct-tcpip {host_to_connect}:{port_to_connect}");
        self.refuse_channel(what, reply).await
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
        let what = format!("forwarded-tcpip {host_to_connect}:{port_to_connect}");
        self.refuse_channel(what, reply).await
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        _channel: Channel<Msg>,
        socket_path: &str,
        reply: ChannelOpenHandle,
        _session: &mut server::Session,
    ) -> Result<(), VisitorError> {
        let what = format!("direct-streamlocal {socket_path}");
        self.refuse_channel(what, reply).await
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        _session: &mut server::Session,
    ) -> Result<bool, VisitorError> {
        self.refuse(format!("tcpip-forward {address}:{port}"))?;
        Ok(false)
    }

    async fn streamlocal_forward(
        &mut self,
        socket_path: &str,
        _session: &mut server::Session,
    ) -> Result<bool, VisitorError> {
        self.refuse(format!("streamlocal-forward {socket_path}"))?;
        Ok(false)
    }

    async fn agent_request(
        &mut self,
        _channel: ChannelId,
        _session: &mut server::Session,
    ) -> Result<bool, VisitorError> {
        self.refuse("auth-agent".to_owned())?;
        Ok(false)
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
        self.refuse("x11".to_owned())?;
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
        match self.channels.get_mut(&channel) {
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
        let passes = operations::passes_env(name, value);
        match self.channels.get_mut(&channel) {
            Some(open) if passes && !open.is_launched && open.env < ENV_MAX => {
                open.env = open.env.saturating_add(1);
                session.channel_success(channel)?;
                self.put(channel, ClientEvent::Env(name.to_owned(), value.to_owned()))
            }
            _ => {
                tracing::debug!(
                    connection = self.connection,
                    name,
                    "an environment variable is not passed on"
                );
                Ok(session.channel_failure(channel)?)
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
        match self.channels.get(&channel) {
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
        let Some(open) = self.channels.get(&channel) else {
            return Ok(());
        };
        open.inbox.put_content((), data);
        let backlog = self.backlog(channel);
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
        self.window_bytes = self.backlog(channel).next_window_bytes(given_bytes);
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
        if let Some(open) = self.channels.remove(&channel) {
            open.inbox.close();
        }
        Ok(())
    }
}
