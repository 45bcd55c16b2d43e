//! What russh calls when a client says something: proofs go to the login, channels to their tasks,
//! everything else is refused.
//!
//! INVARIANT: a callback waits for control at most, and only while nobody is let in. Afterwards none
//! waits, except for the answer to a request to listen at the target, a bounded time: SSH wants that
//! answer in the order of the requests, and russh wants it from the callback. What is not offered is
//! refused here, said so where SSH has room for it, and on record.
//!
//! The callbacks themselves are in `callbacks`; here is what they have in common.
//!
//! Not here: what is proven (`handshake`), what channels do (`relay`), forwarded connections
//! (`forward`).

mod callbacks;
mod ports;

use std::sync::Arc;

use russh::{
    Channel, ChannelId, ChannelOpenFailure,
    keys::{Certificate, PublicKey, ssh_key::certificate::CertType},
    server::{self, Auth, ChannelOpenHandle, Msg},
};
use sallyport_core::{authz::Reason, inventory::TargetName, session::Operation};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use self::ports::{Ports, Purpose};
use super::{
    channel::{ClientChannel, ClientEvent},
    client_end::ClientMeeting,
    destination::{Destination, ListenPlace},
    flow::{Valve, WINDOW_BYTES},
    forward::Outgoing,
    handshake::{Admission, Login},
    inbox::Overrun,
    jump::{self, Jump},
    limits::{LISTEN_ANSWER_TIME, OFFERS_MAX},
    wording,
};
use crate::{door::Door, enforce::OperationDecision};

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
    /// A connection through the target is asked for.
    Forward(Outgoing),
    /// A channel carries a connection of its own.
    Jump(Box<Jump>),
    /// The target shall listen. The port, or words for why not.
    Listen(ListenPlace, oneshot::Sender<Result<u32, String>>),
    /// The target shall listen no longer. Whether it did.
    StopListening(ListenPlace, oneshot::Sender<bool>),
    /// Something was refused and must be put on record.
    Refused(Operation, Reason),
}

/// One client.
pub(super) struct Visitor {
    door: Arc<Door>,
    login: Login,
    offers: u32,
    jobs: mpsc::Sender<Job>,
    ports: Ports,
    valve: Valve,
    window_bytes: u32,
    authorities: Vec<PublicKey>,
    connection: u64,
}

impl Visitor {
    /// `towards`: the target that the way the client came has named, for a jump.
    pub(super) fn new(
        door: Arc<Door>,
        towards: Option<TargetName>,
        jobs: mpsc::Sender<Job>,
        valve: Valve,
        meeting: Arc<ClientMeeting>,
    ) -> Self {
        let authorities = door
            .user_authorities()
            .iter()
            .filter_map(|text| PublicKey::from_openssh(text).ok())
            .collect();
        Self {
            connection: door.connection(),
            login: Login::new(Arc::clone(&door), towards),
            door,
            offers: 0,
            jobs,
            ports: Ports::new(meeting),
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

    fn refuse(&self, operation: Operation, reason: Reason) -> Result<(), VisitorError> {
        tracing::info!(
            connection = self.connection,
            kind = operation.kind.as_str(),
            what = operation.detail,
            reason = reason.code(),
            "a feature is refused"
        );
        self.give(Job::Refused(operation, reason))
    }

    async fn refuse_channel(
        &self,
        operation: Operation,
        reason: Reason,
        reply: ChannelOpenHandle,
    ) -> Result<(), VisitorError> {
        self.refuse(operation, reason)?;
        reply.reject(prohibited(reason)).await;
        Ok(())
    }

    /// Whether policy lets the session do this, before its task does it and puts it on record.
    fn check(&self, operation: &Operation) -> Result<(), Reason> {
        match self.login.admission() {
            Some(Admission::Opened(session)) => match session.check(operation) {
                OperationDecision::Permitted => Ok(()),
                // Features wait for nobody: what is held is commands.
                OperationDecision::Held(_) => Err(Reason::NotPermitted),
                OperationDecision::Refused(reason) => Err(reason),
            },
            Some(Admission::Denied(_) | Admission::Jumping(_)) | None => Err(Reason::NotPermitted),
        }
    }

    /// Leaves a connection to its task, which decides, opens and answers.
    async fn forward(
        &mut self,
        destination: Destination,
        originator: (String, u32),
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        handle: server::Handle,
    ) -> Result<(), VisitorError> {
        let Some(inbox) = self.ports.open(channel.id(), Purpose::Forward) else {
            tracing::info!(connection = self.connection, "too many channels");
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        // What arrives is taken from the callbacks; the queue that russh would fill is dropped.
        let (_, writer) = channel.split();
        self.give(Job::Forward(Outgoing {
            destination,
            originator,
            client: ClientChannel::new(inbox, writer, handle),
            reply,
        }))
    }

    /// Answers somebody who wants to jump through the gateway.
    async fn jump(
        &mut self,
        host: &str,
        port: u32,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        handle: server::Handle,
    ) -> Result<(), VisitorError> {
        let target = match jump::destination(host, port) {
            Ok(target) => target,
            Err(reason) => {
                tracing::info!(
                    connection = self.connection,
                    host,
                    port,
                    "a jump is refused"
                );
                reply.reject(prohibited(reason)).await;
                return Ok(());
            }
        };
        let Some((inbox, door)) = self
            .ports
            .open(channel.id(), Purpose::Forward)
            .zip(self.door.inner())
        else {
            tracing::info!(
                connection = self.connection,
                "too many channels or connections"
            );
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        // What arrives is taken from the callbacks; the queue that russh would fill is dropped.
        let (_, writer) = channel.split();
        reply.accept().await;
        self.give(Job::Jump(Box::new(Jump {
            door,
            target,
            channel: ClientChannel::new(inbox, writer, handle),
        })))
    }

    /// Asks for the target to listen and waits for its answer. The port; nothing when it does not.
    async fn listen(
        &self,
        place: ListenPlace,
        session: &mut server::Session,
    ) -> Result<Option<u32>, VisitorError> {
        let (answer, answered) = oneshot::channel();
        self.give(Job::Listen(place, answer))?;
        let words = match timeout(LISTEN_ANSWER_TIME, answered).await {
            Ok(Ok(Ok(port))) => return Ok(Some(port)),
            Ok(Ok(Err(words))) => words,
            Ok(Err(_)) | Err(_) => wording::reason_line(Reason::TargetUnreachable),
        };
        // The answer itself has no room for words; clients show these when asked to be talkative.
        session.debug(true, &words, "")?;
        Ok(None)
    }

    async fn stop_listening(&self, place: Option<ListenPlace>) -> Result<bool, VisitorError> {
        let Some(place) = place else {
            return Ok(false);
        };
        let (answer, answered) = oneshot::channel();
        self.give(Job::StopListening(place, answer))?;
        let answer = timeout(LISTEN_ANSWER_TIME, answered).await;
        Ok(matches!(answer, Ok(Ok(true))))
    }

    fn put(&self, channel: ChannelId, event: ClientEvent) -> Result<(), VisitorError> {
        match self.ports.of(channel) {
            Some(open) => open.inbox.put_event(event).map_err(VisitorError::Overrun),
            None => Ok(()),
        }
    }

    /// Answers a launch, once per channel.
    fn launch(
        &mut self,
        channel: ChannelId,
        event: ClientEvent,
        session: &mut server::Session,
    ) -> Result<(), VisitorError> {
        match self.ports.session(channel) {
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

fn prohibited(reason: Reason) -> ChannelOpenFailure {
    ChannelOpenFailure::Other {
        // SSH_OPEN_ADMINISTRATIVELY_PROHIBITED, with our own words.
        code: ChannelOpenFailure::AdministrativelyProhibited.code(),
        reason: wording::reason_line(reason),
    }
}
