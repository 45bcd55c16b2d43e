//! One channel's task: waits until it is known what the channel is for, has that decided, opens it at
//! the target, and moves bytes until either side is done or the session is over.
//!
//! INVARIANT: nothing of a channel reaches the target before its operation was let through. Every
//! wait is raced against the end of the session.
//!
//! Not here: what a channel is asked to be (`order`), the bytes' meaning (`transfer`), the target's
//! connection (`upstream`), callbacks (`visitor`).

mod held;
mod order;

use std::sync::Arc;

use bytes::Bytes;
use sallyport_core::{
    authz::Reason,
    session::{EndReason, Operation, OperationOutcome},
};
use sallyport_evidence::recording::{FrameKind, SESSION_CHANNEL};
use tokio::{sync::oneshot, time::timeout};

use self::order::{Begun, Order};

use super::{
    channel::{ClientChannel, ClientEvent, signal_name},
    inbox::Arrival,
    limits::{self, FAREWELL_TIME, FLUSH_TIME},
    operations::{self, Launch},
    transfer::{Legs, Transfer, TransferError},
    upstream::{Stream, TargetChannel, TargetEvent, Targets, UpstreamError},
    wording,
};
use crate::session::{End, OperationResult, RunningOperation, Session, SessionOver};

/// Why a channel ended otherwise than by itself.
enum Stop {
    /// The session is over.
    Over(End),
    /// The client's side is gone.
    ClientGone,
    /// What it was for is refused.
    Refused(String),
    /// The target cannot be used.
    Upstream(UpstreamError),
    /// The target's connection broke.
    TargetGone,
    /// What it carried could not be followed.
    Unreadable(TransferError),
}

impl From<SessionOver> for Stop {
    fn from(SessionOver(end): SessionOver) -> Self {
        Self::Over(end)
    }
}

impl From<TransferError> for Stop {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Over(over) => over.into(),
            TransferError::ClientGone(_) => Self::ClientGone,
            TransferError::TargetGone(_) => Self::TargetGone,
            TransferError::Refused(reason) => Self::Refused(wording::reason_lines(reason)),
            error @ (TransferError::Sftp(_) | TransferError::Scp(_)) => Self::Unreadable(error),
        }
    }
}

/// Serves one channel of an open session until it is closed.
pub(super) async fn serve(session: Arc<Session>, targets: Arc<Targets>, client: ClientChannel) {
    let client = Arc::new(client);
    let mut has_pty = false;
    let (ordered, order) = oneshot::channel();
    let stopped = tokio::select! {
        served = serve_order(&session, &targets, &client, &mut has_pty, ordered) => served.err(),
        end = session.ended() => Some(Stop::Over(end)),
        gone = speak(&session, &client, order) => Some(gone),
    };
    let Some(stop) = stopped else { return };
    // Whatever broke first, the end of the session explains it.
    let stop = session.end_if_over().map_or(stop, Stop::Over);
    let farewell = Box::pin(part(&session, &client, stop, has_pty));
    // A client that does not listen is not waited for.
    let _ = timeout(FAREWELL_TIME, farewell).await;
}

/// Shows the person what is said to them, once it is known whether they have a terminal here.
async fn speak(session: &Session, client: &ClientChannel, order: oneshot::Receiver<bool>) -> Stop {
    // Before looking at what stands, so that nothing said in between is missed.
    let mut words = session.words();
    let Ok(has_pty) = order.await else {
        return std::future::pending().await;
    };
    for line in session.standing_words() {
        if Box::pin(client.tell(&line, has_pty)).await.is_err() {
            return Stop::ClientGone;
        }
    }
    loop {
        let line = words.next().await;
        if Box::pin(client.tell(&line, has_pty)).await.is_err() {
            return Stop::ClientGone;
        }
    }
}

async fn serve_order(
    session: &Arc<Session>,
    targets: &Targets,
    client: &Arc<ClientChannel>,
    has_pty: &mut bool,
    ordered: oneshot::Sender<bool>,
) -> Result<(), Stop> {
    let Some(order) = order::await_order(session, client).await? else {
        return Ok(());
    };
    *has_pty = order.pty.is_some();
    // Who speaks may have stopped because the client is gone; that is noticed there.
    let _ = ordered.send(*has_pty);
    // Boxed: what is needed once must not stay a part of what lives as long as the channel.
    let guard = Box::pin(held::guard_of(session, &order)).await?;
    let (order, mut begun) = Box::pin(order::begin(session, targets, client, order)).await?;
    let opened = match begun.opened.take() {
        Some(opened) => opened,
        None => Box::pin(targets.open()).await.map_err(Stop::Upstream)?,
    };
    Box::pin(order::launch(session, &opened, &order, &mut begun))
        .await
        .map_err(|_| Stop::TargetGone)?;
    let Begun {
        record,
        operation,
        agent,
        mut meanwhile,
        ..
    } = begun;
    Box::pin(order::greet(session, client, &order)).await?;
    let channel = LiveChannel {
        typed: meanwhile.typed.split().freeze(),
        has_eof: meanwhile.has_eof,
        transfer: match guard {
            Some(guard) => Transfer::Guarded(Box::new(guard)),
            None => transfer_of(&order),
        },
        legs: Legs {
            session: Arc::clone(session),
            record,
            client: Arc::clone(client),
            target: tokio::sync::Mutex::new(Arc::clone(&opened.writer)),
            has_pty: *has_pty,
        },
        target: opened,
    };
    let served = channel.run(targets, operation, order.pty.is_some()).await;
    if let (Some(agent), Ok(())) = (agent, &served) {
        agent.finish(OperationOutcome::Completed, OperationResult::default());
    }
    served
}

/// Tells a person who was refused why, on the first thing they ask for.
pub(super) async fn deny(client: ClientChannel, denial: Arc<str>) {
    let mut has_pty = false;
    while let Some(arrival) = client.inbox.next().await {
        match arrival {
            Arrival::Event(ClientEvent::Pty(_)) => has_pty = true,
            Arrival::Event(ClientEvent::Launch(_) | ClientEvent::RefusedLaunch(..)) => break,
            _ => {}
        }
    }
    let told = client.tell(&denial, has_pty).await;
    // A client that is gone needs no words.
    let _ = told.and(client.close_refused().await);
}

async fn refuse_launch(session: &Session, operation: Operation, reason: Reason) -> Stop {
    let text = wording::refusal(operation.kind.as_str(), reason);
    session
        .refuse_operation(SESSION_CHANNEL, operation, reason)
        .await;
    Stop::Refused(text)
}

fn transfer_of(order: &Order) -> Transfer {
    match &order.launch {
        Launch::Sftp => Transfer::sftp(),
        // On a terminal the bytes are not the protocol's any more.
        Launch::Exec(command) if order.pty.is_none() => match operations::scp(command) {
            Some(command) => Transfer::scp(command),
            None => Transfer::Plain,
        },
        Launch::Exec(_) | Launch::Shell | Launch::Subsystem(_) => Transfer::Plain,
    }
}

/// A channel that both sides use.
struct LiveChannel {
    /// Typed while the command waited for approval.
    typed: Bytes,
    has_eof: bool,
    transfer: Transfer,
    legs: Legs,
    target: TargetChannel,
}

/// How a process at the target ended, as far as the target said.
#[derive(Default)]
struct Exit {
    is_launch_refused: bool,
    status: Option<u32>,
    has_ended: bool,
}

impl LiveChannel {
    async fn run(
        self,
        targets: &Targets,
        operation: RunningOperation,
        asked_for_pty: bool,
    ) -> Result<(), Stop> {
        let mut exit = Exit::default();
        let result = tokio::select! {
            up = self.up() => up,
            down = self.down(&mut exit, asked_for_pty) => down,
            typed = self.typed() => typed,
            () = self.abandoned() => Err(Stop::ClientGone),
            () = self.target.dead() => Err(Stop::TargetGone),
        };
        drop(self.transfer);
        let outcome = match (&result, &exit) {
            (_, exit) if exit.is_launch_refused => OperationOutcome::FailedAtTarget,
            (Ok(()), exit) if !exit.has_ended && operation.is_cut_off() => {
                OperationOutcome::Interrupted
            }
            (Ok(()), _) => OperationOutcome::Completed,
            (Err(_), exit) if exit.has_ended => OperationOutcome::Completed,
            (Err(_), _) => OperationOutcome::Interrupted,
        };
        let known = OperationResult {
            exit_status: exit.status,
            ..OperationResult::default()
        };
        operation.finish(outcome, known);
        if self.target.is_lost() && !exit.has_ended {
            return Err(Stop::TargetGone);
        }
        result?;
        // First: the client's next command may come the moment this one is closed.
        targets.give_back(self.target);
        self.legs.client.close().await.map_err(|_| Stop::ClientGone)
    }

    /// The client closed the channel, and what it had sent had its time to reach the target.
    async fn abandoned(&self) {
        self.legs.client.inbox.closed().await;
        tokio::time::sleep(FLUSH_TIME).await;
    }

    /// What the client sends next; news of a line that waits are followed meanwhile.
    async fn arrival(&self) -> Result<Option<Arrival<(), ClientEvent>>, Stop> {
        let inbox = &self.legs.client.inbox;
        let Transfer::Guarded(guard) = &self.transfer else {
            return Ok(inbox.next().await);
        };
        // Boxed: most channels are not guarded, and live long.
        let guarded = Box::pin(async {
            loop {
                let step = tokio::select! {
                    arrival = inbox.next() => return Ok(arrival),
                    step = guard.news() => step,
                };
                guard.follow(&self.legs, step).await?;
            }
        });
        guarded.await
    }

    async fn up(&self) -> Result<(), Stop> {
        let target = &self.target.writer;
        let lost = |_| Stop::TargetGone;
        if let Transfer::Guarded(guard) = &self.transfer {
            Box::pin(guard.ready(&self.legs)).await?;
        }
        if !self.typed.is_empty() {
            self.transfer.up(&self.legs, self.typed.clone()).await?;
        }
        if self.has_eof {
            target.eof().await.map_err(lost)?;
        }
        while let Some(arrival) = self.arrival().await? {
            match arrival {
                Arrival::Content((), bytes) => self.transfer.up(&self.legs, bytes).await?,
                Arrival::Event(ClientEvent::Resize(size)) => {
                    if let Transfer::Guarded(guard) = &self.transfer {
                        guard.resize(size);
                    }
                    self.legs
                        .record
                        .event(FrameKind::Resized {
                            columns: size.columns,
                            rows: size.rows,
                        })
                        .await?;
                    target
                        .window_change(
                            size.columns,
                            size.rows,
                            size.width_pixels,
                            size.height_pixels,
                        )
                        .await
                        .map_err(lost)?;
                }
                Arrival::Event(ClientEvent::Signal(signal)) => {
                    let name = FrameKind::Signal(signal_name(&signal));
                    self.legs.record.event(name).await?;
                    target.signal(signal).await.map_err(lost)?;
                }
                Arrival::Event(ClientEvent::Eof) => target.eof().await.map_err(lost)?,
                // Refused in the callback: the channel is launched.
                Arrival::Event(
                    ClientEvent::Pty(_)
                    | ClientEvent::Env(..)
                    | ClientEvent::DecidedEnv(..)
                    | ClientEvent::Refused(..)
                    | ClientEvent::Agent
                    | ClientEvent::Launch(_)
                    | ClientEvent::RefusedLaunch(..),
                ) => {}
            }
        }
        // The target ends the process of a channel that is closed.
        let _ = target.close().await;
        Err(Stop::ClientGone)
    }

    /// Sends on what people type who joined; where lines are kept back, only its person types.
    async fn typed(&self) -> Result<(), Stop> {
        loop {
            let typed = self.legs.record.typed().await;
            match &self.transfer {
                Transfer::Guarded(guard) => {
                    Box::pin(guard.drop_typed(&self.legs, &typed)).await?;
                }
                _ => self.legs.type_for(&typed).await?,
            }
        }
    }

    async fn down(&self, exit: &mut Exit, asked_for_pty: bool) -> Result<(), Stop> {
        let gone = |_| Stop::ClientGone;
        let (client, record) = (&self.legs.client, &self.legs.record);
        let mut pty_unanswered = asked_for_pty;
        // A client that has nothing more to send closes the channel at the end of the output, and then
        // takes no exit status. OpenSSH's server, which sends the end first, may do that because it does
        // not answer such a close before the process has ended; russh answers at once. So the end of the
        // output waits for the end of the process.
        let mut is_output_over = false;
        while let Some(arrival) = self.target.next().await {
            match arrival {
                Arrival::Content(Stream::Output, bytes) => {
                    self.transfer.down(&self.legs, bytes).await?;
                }
                Arrival::Content(Stream::ErrorOutput, bytes) => {
                    record.error_output(&bytes).await?;
                    client.send_error(bytes).await.map_err(gone)?;
                }
                Arrival::Event(TargetEvent::Granted) => pty_unanswered = false,
                Arrival::Event(TargetEvent::Refused) if pty_unanswered => {
                    pty_unanswered = false;
                    let text = "sallyport: the target gives no terminal";
                    client.tell(text, true).await.map_err(gone)?;
                }
                Arrival::Event(TargetEvent::Refused) => {
                    exit.is_launch_refused = true;
                    let text = "sallyport: the target refused the request";
                    client.tell(text, asked_for_pty).await.map_err(gone)?;
                    client
                        .exit_status(limits::EXIT_REFUSED)
                        .await
                        .map_err(gone)?;
                    return Ok(());
                }
                Arrival::Event(TargetEvent::Eof) if exit.has_ended => {
                    client.eof().await.map_err(gone)?;
                }
                Arrival::Event(TargetEvent::Eof) => is_output_over = true,
                Arrival::Event(TargetEvent::ExitStatus(status)) => {
                    record.event(FrameKind::ExitStatus(status)).await?;
                    (exit.status, exit.has_ended) = (Some(status), true);
                    client.exit_status(status).await.map_err(gone)?;
                    if std::mem::take(&mut is_output_over) {
                        client.eof().await.map_err(gone)?;
                    }
                }
                Arrival::Event(TargetEvent::ExitSignal {
                    signal,
                    core_dumped,
                    message,
                }) => {
                    let frame = FrameKind::ExitSignal {
                        name: signal_name(&signal),
                        core_dumped,
                        message: &message,
                    };
                    record.event(frame).await?;
                    exit.has_ended = true;
                    client
                        .exit_signal(signal, core_dumped, message)
                        .await
                        .map_err(gone)?;
                    if std::mem::take(&mut is_output_over) {
                        client.eof().await.map_err(gone)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Tells the person why the channel ends, and ends it.
async fn part(session: &Session, client: &ClientChannel, stop: Stop, has_pty: bool) {
    let told = match stop {
        Stop::ClientGone => client.close().await,
        Stop::Over(end) => {
            // On a line of its own, whatever was on the screen.
            let text = format!("\n{}", wording::end(&end));
            let told = client.tell(&text, has_pty).await;
            // No exit status: nobody knows how the process would have ended.
            told.and(client.eof().await).and(client.close().await)
        }
        Stop::Refused(text) => {
            let told = client.tell(&text, has_pty).await;
            told.and(client.close_refused().await)
        }
        Stop::Upstream(error) => {
            let reason = error.reason();
            let end = error.end_reason();
            warn(session, &error, "the target cannot be used");
            let told = client.tell(&wording::reason_lines(reason), has_pty).await;
            let told = told.and(client.close_refused().await);
            session.end(end);
            told
        }
        Stop::TargetGone => {
            let end = End {
                reason: EndReason::TargetClosed,
                comment: String::new(),
            };
            let text = format!("\n{}", wording::end(&end));
            let told = client.tell(&text, has_pty).await;
            let told = told.and(client.eof().await).and(client.close().await);
            session.end(EndReason::TargetClosed);
            told
        }
        Stop::Unreadable(error) => {
            warn(session, &error, "a file transfer was stopped");
            let text = "sallyport: the file transfer cannot be followed and was stopped";
            let told = client.tell(text, has_pty).await;
            told.and(client.close_refused().await)
        }
    };
    // A client that is gone needs no words.
    let _ = told;
}

/// The operator reads the whole chain of causes, the person a reason and its code.
fn warn(session: &Session, error: &(dyn std::error::Error + 'static), what: &str) {
    tracing::warn!(session_id = %session.id(), error, "{what}");
}
