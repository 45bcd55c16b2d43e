//! Forwarded connections: one task for each, from its decision to its end, and the requests to listen
//! at the target.
//!
//! A client opens them through the target (`direct-tcpip`, `direct-streamlocal@openssh.com`); a target
//! opens them to the client where it was asked to listen, and to the client's agent
//! (`forwarded-tcpip`, `forwarded-streamlocal@openssh.com`, `auth-agent@openssh.com`). Either way the
//! connection is an operation, a channel of the recording, and carried by the same code.
//!
//! INVARIANT: neither side hears that a connection is open before it was let through; then every byte is
//! recorded before it is forwarded. Every wait is raced against the end of the session.
//!
//! Not here: what a target may open (`upstream`), callbacks (`visitor`).

use std::sync::Arc;

use russh::{ChannelOpenFailure, client, server};
use sallyport_core::{
    authz::Reason,
    session::{EndReason, Operation, OperationOutcome},
};
use sallyport_evidence::recording::{FrameKind, SESSION_CHANNEL};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    channel::{ClientChannel, ClientEvent},
    client_end::ClientEnd,
    destination::{Destination, ListenPlace},
    inbox::Arrival,
    limits::FLUSH_TIME,
    transfer::{Legs, Transfer, TransferError},
    upstream::{Expected, ListenError, Stream, TargetChannel, TargetEvent, Targets, UpstreamError},
    wording,
};
use crate::session::{
    ChannelOpening, ChannelRecord, Content, End, OperationResult, OperationStart, RunningOperation,
    Session, SessionOver,
};

/// A connection that a client asks for, not answered yet.
pub(super) struct Outgoing {
    pub(super) destination: Destination,
    /// Who is said to have opened it: host and port.
    pub(super) originator: (String, u32),
    pub(super) client: ClientChannel,
    pub(super) reply: server::ChannelOpenHandle,
}

impl Outgoing {
    /// Answers somebody who was not let in.
    pub(super) async fn deny(self, denial: &str) {
        // One line is what clients show.
        let reason = denial.trim_end().replace('\n', "; ");
        let code = ChannelOpenFailure::AdministrativelyProhibited.code();
        let failure = ChannelOpenFailure::Other { code, reason };
        self.reply.reject(failure).await;
    }
}

/// A connection that a target opens where it was asked to, not answered yet.
pub(super) struct Incoming {
    pub(super) expected: Expected,
    pub(super) client: ClientEnd,
    pub(super) target: TargetChannel,
    pub(super) reply: client::ChannelOpenHandle,
    /// Its room among those that the session may have.
    pub(super) place: OwnedSemaphorePermit,
}

/// Why a connection is not opened.
enum NotOpened {
    /// The session is over.
    Over(End),
    /// Policy or the gateway says no.
    Refused(Reason),
    /// The target says no, or cannot be used.
    Upstream(UpstreamError),
    /// The client does not take it.
    Client,
}

impl From<SessionOver> for NotOpened {
    fn from(SessionOver(end): SessionOver) -> Self {
        Self::Over(end)
    }
}

/// Serves a connection that a client opens.
pub(super) async fn from_client(session: Arc<Session>, targets: Arc<Targets>, outgoing: Outgoing) {
    let Outgoing {
        destination,
        originator,
        client,
        reply,
    } = outgoing;
    let kind = match &destination {
        Destination::Address { .. } => "direct-tcpip",
        Destination::Socket(_) => "direct-streamlocal",
    };
    let opening = async {
        let (record, running) = begin(&session, kind, destination.operation()).await?;
        match targets.open_direct(&destination, &originator).await {
            Ok(target) => Ok((record, running, target)),
            Err(error) => {
                running.finish(OperationOutcome::FailedAtTarget, OperationResult::default());
                Err(NotOpened::Upstream(error))
            }
        }
    };
    let opened = tokio::select! {
        opened = Box::pin(opening) => opened,
        end = session.ended() => Err(NotOpened::Over(end)),
    };
    match opened {
        Ok((record, running, target)) => {
            reply.accept().await;
            let carried = Carried::new(&session, record, client, target);
            if let Some(target) = carried.run(running).await {
                targets.give_back(target);
            }
        }
        Err(why) => {
            reply.reject(answer(&why)).await;
            end_if_unusable(&session, &why);
        }
    }
}

/// Serves a connection that a target opens where it was asked to.
pub(super) async fn from_target(session: Arc<Session>, incoming: Incoming) {
    let Incoming {
        expected,
        client,
        target,
        reply,
        place,
    } = incoming;
    let opening = async {
        let (record, running) = begin(&session, expected.kind, expected.operation).await?;
        match client.open(&expected.way).await {
            Ok(client) => Ok((record, running, client)),
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::info!(session_id = %session.id(), error, "a client takes no forwarded connection");
                running.finish(OperationOutcome::Interrupted, OperationResult::default());
                Err(NotOpened::Client)
            }
        }
    };
    let opened = tokio::select! {
        opened = Box::pin(opening) => opened,
        end = session.ended() => Err(NotOpened::Over(end)),
    };
    match opened {
        Ok((record, running, client)) => {
            reply.accept().await;
            let carried = Carried::new(&session, record, client, target);
            carried.run(running).await;
        }
        // No words: they would reach the target and not the person.
        Err(_) => {
            let refusal = ChannelOpenFailure::AdministrativelyProhibited;
            reply.reject(refusal).await;
        }
    }
    drop(place);
}

/// Has the target listen for the client. The port, or the words for why not.
pub(super) async fn listen(
    session: &Arc<Session>,
    targets: &Targets,
    place: ListenPlace,
) -> Result<u32, String> {
    let operation = place.operation();
    let what = operation.kind.as_str();
    let listening = async {
        let running = match session.begin_operation(SESSION_CHANNEL, operation).await {
            OperationStart::Begun(running) => running,
            // What is held is commands.
            OperationStart::Held(held) => {
                held.refuse(Reason::NotPermitted);
                return Err(wording::refusal(what, Reason::NotPermitted));
            }
            OperationStart::Refused(reason) => return Err(wording::refusal(what, reason)),
            OperationStart::Over(SessionOver(end)) => return Err(wording::end(&end)),
        };
        targets.listen(place, running).await.map_err(|error| {
            let is_unusable = matches!(&error, ListenError::Upstream(_));
            let end = match &error {
                ListenError::Upstream(error) => error.end_reason(),
                _ => EndReason::TargetUnreachable,
            };
            let error: &dyn std::error::Error = &error;
            tracing::info!(session_id = %session.id(), error, "a target does not listen");
            if is_unusable {
                session.end(end);
            }
            wording::refusal(what, Reason::TargetRefused)
        })
    };
    tokio::select! {
        answer = listening => answer,
        end = session.ended() => Err(wording::end(&end)),
    }
}

/// Opens the connection's channel in the recording and has it decided.
async fn begin(
    session: &Arc<Session>,
    kind: &'static str,
    operation: Operation,
) -> Result<(ChannelRecord, RunningOperation), NotOpened> {
    let what = operation.kind.as_str();
    let record = session
        .open_channel(ChannelOpening {
            kind,
            pty: None,
            command: None,
            content: Content::Limited,
        })
        .await?;
    match session.begin_operation(record.number(), operation).await {
        OperationStart::Begun(running) => Ok((record, running)),
        OperationStart::Held(held) => {
            held.refuse(Reason::NotPermitted);
            Err(NotOpened::Refused(Reason::NotPermitted))
        }
        OperationStart::Refused(reason) => {
            let text = wording::refusal(what, reason);
            record.event(FrameKind::Note(&text)).await?;
            Err(NotOpened::Refused(reason))
        }
        OperationStart::Over(over) => Err(over.into()),
    }
}

/// What the client is told: in the one line that SSH has for it.
fn answer(why: &NotOpened) -> ChannelOpenFailure {
    let prohibited = |reason| ChannelOpenFailure::Other {
        code: ChannelOpenFailure::AdministrativelyProhibited.code(),
        reason,
    };
    match why {
        NotOpened::Over(end) => prohibited(wording::end(end)),
        NotOpened::Refused(reason) => prohibited(wording::reason_line(*reason)),
        NotOpened::Client => ChannelOpenFailure::AdministrativelyProhibited,
        NotOpened::Upstream(error) => {
            let reason = match error.channel_refusal() {
                Some(_) => Reason::TargetRefused,
                None => error.reason(),
            };
            ChannelOpenFailure::Other {
                code: ChannelOpenFailure::ConnectFailed.code(),
                reason: wording::reason_line(reason),
            }
        }
    }
}

/// A target that cannot be used at all ends the session, as it does for a command.
fn end_if_unusable(session: &Session, why: &NotOpened) {
    if let NotOpened::Upstream(error) = why
        && error.channel_refusal().is_none()
    {
        let end = error.end_reason();
        let error: &dyn std::error::Error = error;
        tracing::warn!(session_id = %session.id(), error, "the target cannot be used");
        session.end(end);
    }
}

/// Why a connection ended otherwise than by either side.
enum Cut {
    /// The session is over, or one side's connection broke.
    Broken,
    /// The target's connection broke.
    TargetGone,
}

impl From<TransferError> for Cut {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::TargetGone(_) => Self::TargetGone,
            _ => Self::Broken,
        }
    }
}

/// A connection that both sides use.
struct Carried {
    session: Arc<Session>,
    legs: Legs,
    target: TargetChannel,
}

impl Carried {
    fn new(
        session: &Arc<Session>,
        record: ChannelRecord,
        client: ClientChannel,
        target: TargetChannel,
    ) -> Self {
        Self {
            session: Arc::clone(session),
            legs: Legs {
                session: Arc::clone(session),
                record,
                client: Arc::new(client),
                target: tokio::sync::Mutex::new(Arc::clone(&target.writer)),
                has_pty: false,
            },
            target,
        }
    }

    /// Carries bytes until either side closes or the session is over. The target's channel, if its
    /// connection can serve another.
    async fn run(self, running: RunningOperation) -> Option<TargetChannel> {
        let result = tokio::select! {
            up = self.up() => up,
            down = self.down() => down,
            () = self.abandoned() => Ok(()),
            () = self.target.dead() => Err(Cut::TargetGone),
            _ = self.session.ended() => Err(Cut::Broken),
        };
        let outcome = match &result {
            Ok(()) => OperationOutcome::Completed,
            Err(_) => OperationOutcome::Interrupted,
        };
        running.finish(outcome, OperationResult::default());
        // A side that is gone needs no words.
        let _ = self.legs.client.close().await;
        let is_target_gone = matches!(result, Err(Cut::TargetGone)) || self.target.is_lost();
        // A connection that others asked for is theirs to miss.
        if is_target_gone && self.target.connection().is_some() {
            self.session.end(EndReason::TargetClosed);
        }
        result.is_ok().then_some(self.target)
    }

    /// The client closed the channel, and what it had sent had its time to reach the target.
    async fn abandoned(&self) {
        self.legs.client.inbox.closed().await;
        tokio::time::sleep(FLUSH_TIME).await;
    }

    async fn up(&self) -> Result<(), Cut> {
        while let Some(arrival) = self.legs.client.inbox.next().await {
            match arrival {
                Arrival::Content((), bytes) => Transfer::Plain.up(&self.legs, bytes).await?,
                Arrival::Event(ClientEvent::Eof) => {
                    let ended = self.target.writer.eof().await;
                    ended.map_err(|_| Cut::TargetGone)?;
                }
                // No requests on such a channel; the callbacks refused them.
                Arrival::Event(_) => {}
            }
        }
        // A target that is gone needs no words.
        let _ = self.target.writer.close().await;
        Ok(())
    }

    async fn down(&self) -> Result<(), Cut> {
        while let Some(arrival) = self.target.next().await {
            match arrival {
                Arrival::Content(Stream::Output, bytes) => {
                    Transfer::Plain.down(&self.legs, bytes).await?;
                }
                Arrival::Event(TargetEvent::Eof) => {
                    let ended = self.legs.client.eof().await;
                    ended.map_err(|_| Cut::Broken)?;
                }
                // A connection has one stream and no process: not passed on.
                Arrival::Content(Stream::ErrorOutput, _) | Arrival::Event(_) => {}
            }
        }
        match self.target.is_lost() {
            true => Err(Cut::TargetGone),
            false => {
                let _ = self.target.writer.close().await;
                Ok(())
            }
        }
    }
}
