//! Moves the bytes of one channel in both directions: as they come, or following the file transfer
//! that they are.
//!
//! INVARIANT: recorded first, forwarded then; a message of a file transfer that opens or changes a
//! file is forwarded only after its operation was let through; what a client is told by the gateway
//! itself never lands inside a message of the target.
//!
//! Not here: what the messages mean (`sftp`, `scp`), channels' beginning and end (`relay`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use russh::{ChannelWriteHalf, client};
use sallyport_core::{
    authz::Reason,
    session::{Operation, OperationOutcome},
};
use tokio::sync::Notify;

use super::{
    channel::{ClientChannel, ClientGone},
    codec::Framer,
    guard::Guard,
    scp::{self, ScpCommand, ScpError, Step, Way},
    sftp::{self, Demand, Finished, SftpError},
    wording,
};
use crate::session::{
    ChannelRecord, OperationResult, OperationStart, RunningOperation, Session, SessionOver, Typed,
};

/// Why a channel stopped moving bytes.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransferError {
    /// The session is over.
    #[error("go on with a session that is over")]
    Over(#[source] SessionOver),
    /// The client's connection is gone.
    #[error("reach the client")]
    ClientGone(#[source] ClientGone),
    /// The target's connection is gone.
    #[error("reach the target")]
    TargetGone(#[source] russh::Error),
    /// The terminal cannot be guarded as policy demands.
    #[error("guard a terminal: {0}")]
    Refused(Reason),
    /// What the channel carries is not the SFTP that can be followed.
    #[error("follow SFTP")]
    Sftp(#[source] SftpError),
    /// What the channel carries is not the scp that can be followed.
    #[error("follow scp")]
    Scp(#[source] ScpError),
}

/// Both ends of a channel and its recording.
pub(super) struct Legs {
    pub(super) session: Arc<Session>,
    pub(super) record: ChannelRecord,
    pub(super) client: Arc<ClientChannel>,
    /// Held while something is recorded and sent, so that both have the same order.
    pub(super) target: tokio::sync::Mutex<TargetWriter>,
    pub(super) has_pty: bool,
}

pub(super) type TargetWriter = Arc<ChannelWriteHalf<client::Msg>>;

impl Legs {
    pub(super) async fn to_target(&self, bytes: Bytes) -> Result<(), TransferError> {
        let target = self.target.lock().await;
        self.record
            .input(&bytes)
            .await
            .map_err(TransferError::Over)?;
        target
            .data_bytes(bytes)
            .await
            .map_err(TransferError::TargetGone)
    }

    /// Types for somebody who joined, if they still may.
    pub(super) async fn type_for(&self, typed: &Typed) -> Result<(), TransferError> {
        let target = self.target.lock().await;
        let may_type = self.record.typed_input(typed).await;
        if !may_type.map_err(TransferError::Over)? {
            return Ok(());
        }
        target
            .data_bytes(Bytes::copy_from_slice(typed.bytes()))
            .await
            .map_err(TransferError::TargetGone)
    }

    pub(super) async fn to_client(&self, bytes: Bytes) -> Result<(), TransferError> {
        self.record
            .output(&bytes)
            .await
            .map_err(TransferError::Over)?;
        self.client
            .send(bytes)
            .await
            .map_err(TransferError::ClientGone)
    }

    /// Sends the gateway's own words in the protocol; they are no output of the target.
    async fn answer_client(&self, bytes: Bytes) -> Result<(), TransferError> {
        self.client
            .send(bytes)
            .await
            .map_err(TransferError::ClientGone)
    }

    async fn decide(
        &self,
        operation: Operation,
    ) -> Result<Result<RunningOperation, Reason>, TransferError> {
        let detail = operation.detail.clone();
        match self
            .session
            .begin_operation(self.record.number(), operation)
            .await
        {
            OperationStart::Begun(running) => Ok(Ok(running)),
            OperationStart::Over(over) => Err(TransferError::Over(over)),
            // Files wait for nobody: what is held is commands.
            OperationStart::Held(held) => {
                held.refuse(Reason::NotPermitted);
                Ok(Err(Reason::NotPermitted))
            }
            OperationStart::Refused(reason) => {
                self.client
                    .tell(&wording::refusal(&detail, reason), self.has_pty)
                    .await
                    .map_err(TransferError::ClientGone)?;
                Ok(Err(reason))
            }
        }
    }
}

/// What a channel carries.
pub(super) enum Transfer {
    /// Bytes without meaning to the gateway.
    Plain,
    /// A terminal in which commands must be approved.
    Guarded(Box<Guard>),
    /// SFTP.
    Sftp {
        conversation: Mutex<sftp::Conversation<RunningOperation>>,
        from_client: Mutex<Framer>,
        from_target: Mutex<Framer>,
    },
    /// Legacy scp.
    Scp {
        conversation: Mutex<scp::Conversation<RunningOperation>>,
        answered: Notify,
    },
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn finish(finished: Vec<Finished<RunningOperation>>) {
    for one in finished {
        one.ticket.finish(one.outcome, one.result);
    }
}

impl Transfer {
    pub(super) fn sftp() -> Self {
        Self::Sftp {
            conversation: Mutex::default(),
            from_client: Mutex::default(),
            from_target: Mutex::default(),
        }
    }

    pub(super) fn scp(command: ScpCommand) -> Self {
        Self::Scp {
            conversation: Mutex::new(scp::Conversation::new(command)),
            answered: Notify::new(),
        }
    }

    /// Moves bytes that came from the client.
    ///
    /// # Errors
    /// [`TransferError`]; the channel must end.
    pub(super) async fn up(&self, legs: &Legs, bytes: Bytes) -> Result<(), TransferError> {
        match self {
            Self::Plain => legs.to_target(bytes).await,
            Self::Guarded(guard) => Box::pin(guard.up(legs, bytes)).await,
            Self::Sftp {
                conversation,
                from_client,
                ..
            } => {
                lock(from_client).push(&bytes);
                Box::pin(sftp_up(legs, conversation, from_client)).await
            }
            Self::Scp {
                conversation,
                answered,
            } => {
                let way = lock(conversation).way();
                match way {
                    Way::Upload => Box::pin(scp_source(legs, conversation, answered, bytes)).await,
                    Way::Download => Box::pin(scp_sink(legs, conversation, answered, bytes)).await,
                }
            }
        }
    }

    /// Moves bytes that came from the target's standard output.
    ///
    /// # Errors
    /// [`TransferError`]; the channel must end.
    pub(super) async fn down(&self, legs: &Legs, bytes: Bytes) -> Result<(), TransferError> {
        match self {
            Self::Plain => legs.to_client(bytes).await,
            Self::Guarded(guard) => Box::pin(guard.down(legs, bytes)).await,
            Self::Sftp {
                conversation,
                from_target,
                ..
            } => {
                lock(from_target).push(&bytes);
                Box::pin(sftp_down(legs, conversation, from_target)).await
            }
            Self::Scp {
                conversation,
                answered,
            } => {
                let way = lock(conversation).way();
                match way {
                    Way::Upload => Box::pin(scp_sink(legs, conversation, answered, bytes)).await,
                    Way::Download => {
                        Box::pin(scp_source(legs, conversation, answered, bytes)).await
                    }
                }
            }
        }
    }

    /// The channel is over: what had not ended is on record as interrupted, with what had moved.
    fn interrupt(&self) {
        match self {
            Self::Plain | Self::Guarded(_) => {}
            Self::Sftp { conversation, .. } => finish(lock(conversation).interrupt()),
            Self::Scp { conversation, .. } => finish(lock(conversation).interrupt()),
        }
    }
}

impl Drop for Transfer {
    /// However the channel ends, cut in the middle of a wait included.
    fn drop(&mut self) {
        self.interrupt();
    }
}

type SftpConversation = Mutex<sftp::Conversation<RunningOperation>>;

async fn sftp_up(
    legs: &Legs,
    conversation: &SftpConversation,
    framer: &Mutex<Framer>,
) -> Result<(), TransferError> {
    let codec = |error| TransferError::Sftp(SftpError::Codec(error));
    loop {
        let Some(packet) = lock(framer).next_packet().map_err(codec)? else {
            return Ok(());
        };
        let demand = lock(conversation)
            .inspect(&packet)
            .map_err(TransferError::Sftp)?;
        match demand {
            Demand::Forward => legs.to_target(packet.into_bytes()).await?,
            Demand::ForwardInstead(bytes) => legs.to_target(bytes).await?,
            Demand::Answer(bytes) => legs.answer_client(bytes).await?,
            Demand::Decide(question) => {
                let mut running = Vec::with_capacity(question.operations.len());
                let mut refused = None;
                for operation in question.operations.clone() {
                    match Box::pin(legs.decide(operation)).await? {
                        Ok(operation) => running.push(operation),
                        Err(reason) => {
                            refused = Some(reason);
                            break;
                        }
                    }
                }
                match refused {
                    None => {
                        lock(conversation).admit(question, running);
                        legs.to_target(packet.into_bytes()).await?;
                    }
                    Some(reason) => {
                        for operation in running {
                            // One request, two operations: what was let through alone did not happen.
                            operation.finish(OperationOutcome::Refused, OperationResult::default());
                        }
                        let answer =
                            sftp::Conversation::<RunningOperation>::refuse(&question, reason);
                        legs.answer_client(answer).await?;
                    }
                }
            }
        }
    }
}

async fn sftp_down(
    legs: &Legs,
    conversation: &SftpConversation,
    framer: &Mutex<Framer>,
) -> Result<(), TransferError> {
    let codec = |error| TransferError::Sftp(SftpError::Codec(error));
    loop {
        let Some(packet) = lock(framer).next_packet().map_err(codec)? else {
            return Ok(());
        };
        let finished = lock(conversation)
            .observe(&packet)
            .map_err(TransferError::Sftp)?;
        legs.to_client(packet.into_bytes()).await?;
        finish(finished);
    }
}

type ScpConversation = Mutex<scp::Conversation<RunningOperation>>;

async fn scp_source(
    legs: &Legs,
    conversation: &ScpConversation,
    answered: &Notify,
    mut bytes: Bytes,
) -> Result<(), TransferError> {
    let way = lock(conversation).way();
    let to_sink = |bytes| async move {
        match way {
            Way::Upload => legs.to_target(bytes).await,
            Way::Download => legs.to_client(bytes).await,
        }
    };
    loop {
        let waits = answered.notified();
        let step = lock(conversation)
            .source(&mut bytes)
            .map_err(TransferError::Scp)?;
        match step {
            Step::Forward(bytes) => to_sink(bytes).await?,
            Step::AwaitAnswer => waits.await,
            Step::Done => return Ok(()),
            Step::Decide(operation) => {
                let detail = operation.detail.clone();
                match Box::pin(legs.decide(operation)).await? {
                    Ok(running) => {
                        let line = lock(conversation).admit(running);
                        to_sink(line).await?;
                    }
                    Err(reason) => {
                        let why = wording::refusal(&detail, reason);
                        let refusal = lock(conversation).refuse(&why);
                        match way {
                            Way::Upload => legs.answer_client(refusal.to_source).await?,
                            Way::Download => legs.to_target(refusal.to_source).await?,
                        }
                        if let Some(line) = refusal.to_sink {
                            legs.answer_client(line).await?;
                        }
                    }
                }
            }
        }
    }
}

async fn scp_sink(
    legs: &Legs,
    conversation: &ScpConversation,
    answered: &Notify,
    bytes: Bytes,
) -> Result<(), TransferError> {
    let (answer, finished, way) = {
        let mut conversation = lock(conversation);
        let answer = conversation.sink(bytes).map_err(TransferError::Scp)?;
        (answer, conversation.take_finished(), conversation.way())
    };
    if !answer.is_empty() {
        match way {
            Way::Upload => legs.to_client(answer).await?,
            Way::Download => legs.to_target(answer).await?,
        }
    }
    finish(finished);
    answered.notify_one();
    Ok(())
}
