//! What a channel is asked to be: collected from the client, decided, and asked of the target.
//!
//! INVARIANT: the target is asked for nothing that was not let through; what comes with a launch
//! (environment, the agent) is decided and on record like the launch itself.
//!
//! Not here: what happens once the channel is launched (`relay`).

use std::sync::Arc;

use sallyport_core::{
    authz::Reason,
    session::{Operation, OperationOutcome},
};
use sallyport_evidence::recording::{FrameKind, SESSION_CHANNEL};

use super::{
    Stop,
    held::{self, Meanwhile, Waiting},
    refuse_launch,
};
use crate::{
    protocols::ssh::{
        channel::{ClientChannel, ClientEvent, PtyRequest},
        inbox::Arrival,
        operations::{self, Launch},
        upstream::{TargetChannel, Targets},
        wording,
    },
    session::{
        ChannelOpening, ChannelRecord, Content, OperationResult, OperationStart, RunningOperation,
        Session,
    },
};

/// What a channel was asked to be.
pub(super) struct Order {
    pub(super) launch: Launch,
    pub(super) pty: Option<PtyRequest>,
    env: Vec<Variable>,
    wants_agent: bool,
}

/// An environment variable for what is launched.
struct Variable {
    name: String,
    value: String,
    /// What it is for policy; nothing for language and locale, which always pass.
    operation: Option<Operation>,
}

/// A launch that was let through.
pub(super) struct Begun {
    pub(super) record: ChannelRecord,
    pub(super) operation: RunningOperation,
    env: Vec<PassedVariable>,
    /// Use of the client's agent, as long as the channel lives.
    pub(super) agent: Option<RunningOperation>,
    /// Its place at the target, when it had to wait for other people.
    pub(super) opened: Option<TargetChannel>,
    /// What its person did while it waited.
    pub(super) meanwhile: Meanwhile,
}

/// An environment variable that was let through.
struct PassedVariable {
    name: String,
    value: String,
    operation: Option<RunningOperation>,
}

/// Collects what the client says before it launches something. Nothing when it closes the channel.
pub(super) async fn await_order(
    session: &Session,
    client: &ClientChannel,
) -> Result<Option<Order>, Stop> {
    let (mut pty, mut env, mut wants_agent) = (None, Vec::new(), false);
    while let Some(arrival) = client.inbox.next().await {
        match arrival {
            Arrival::Event(ClientEvent::Pty(request)) => pty = Some(request),
            Arrival::Event(ClientEvent::Env(name, value)) => env.push(Variable {
                name,
                value,
                operation: None,
            }),
            Arrival::Event(ClientEvent::DecidedEnv(name, value, operation)) => env.push(Variable {
                name,
                value,
                operation: Some(operation),
            }),
            Arrival::Event(ClientEvent::Agent) => wants_agent = true,
            Arrival::Event(ClientEvent::Refused(operation, reason)) => {
                session
                    .refuse_operation(SESSION_CHANNEL, operation, reason)
                    .await;
            }
            Arrival::Event(ClientEvent::Launch(launch)) => {
                return Ok(Some(Order {
                    launch,
                    pty,
                    env,
                    wants_agent,
                }));
            }
            Arrival::Event(ClientEvent::RefusedLaunch(operation, reason)) => {
                return Err(refuse_launch(session, operation, reason).await);
            }
            // A size or a signal without a process, and bytes for nobody.
            Arrival::Event(ClientEvent::Resize(_) | ClientEvent::Signal(_) | ClientEvent::Eof)
            | Arrival::Content((), _) => {}
        }
    }
    Ok(None)
}

/// Opens the channel in the recording and has its operation decided, and what comes with it.
pub(super) async fn begin(
    session: &Arc<Session>,
    targets: &Targets,
    client: &ClientChannel,
    mut order: Order,
) -> Result<(Order, Begun), Stop> {
    let operation = order.launch.operation();
    let record = session
        .open_channel(ChannelOpening {
            kind: order.launch.as_str(),
            pty: order.pty.as_ref().map(PtyRequest::recorded),
            command: matches!(order.launch, Launch::Exec(_)).then_some(operation.detail.as_str()),
            content: content_of(session, &order),
        })
        .await?;
    let kind = operation.kind.as_str();
    let (mut opened, mut meanwhile) = (None, Meanwhile::default());
    let operation = match session.begin_operation(record.number(), operation).await {
        OperationStart::Begun(running) => running,
        OperationStart::Held(waits) => {
            let waiting = Waiting {
                client,
                targets,
                record: &record,
            };
            let (running, channel, did) = held::released(&waiting, &mut order, *waits).await?;
            (opened, meanwhile) = (Some(channel), did);
            running
        }
        OperationStart::Refused(reason) => {
            let text = wording::refusal(kind, reason);
            record.event(FrameKind::Note(&text)).await?;
            return Err(Stop::Refused(text));
        }
        OperationStart::Over(over) => return Err(over.into()),
    };
    let mut env = Vec::with_capacity(order.env.len());
    for variable in std::mem::take(&mut order.env) {
        let Variable {
            name,
            value,
            operation,
        } = variable;
        let operation = match operation {
            None => None,
            Some(operation) => match feature(session, &record, operation).await? {
                // Refused after all, and on record: the client was told otherwise a moment ago, and
                // what it launches does not see the variable.
                None => continue,
                running => running,
            },
        };
        env.push(PassedVariable {
            name,
            value,
            operation,
        });
    }
    let agent = match order.wants_agent {
        true => feature(session, &record, operations::agent()).await?,
        false => None,
    };
    let begun = Begun {
        record,
        operation,
        env,
        agent,
        opened,
        meanwhile,
    };
    Ok((order, begun))
}

/// Has something decided that comes with a launch. Nothing when it is refused.
async fn feature(
    session: &Arc<Session>,
    record: &ChannelRecord,
    operation: Operation,
) -> Result<Option<RunningOperation>, Stop> {
    match session.begin_operation(record.number(), operation).await {
        OperationStart::Begun(running) => Ok(Some(running)),
        // What is held is commands.
        OperationStart::Held(held) => {
            held.refuse(Reason::NotPermitted);
            Ok(None)
        }
        OperationStart::Refused(_) => Ok(None),
        OperationStart::Over(over) => Err(over.into()),
    }
}

/// How much of the channel is recorded.
fn content_of(session: &Session, order: &Order) -> Content {
    let of_files = match session.records_file_content() {
        true => Content::Limited,
        false => Content::Digest,
    };
    match (&order.launch, &order.pty) {
        (Launch::Sftp, _) => of_files,
        (Launch::Shell, _) | (Launch::Exec(_) | Launch::Subsystem(_), Some(_)) => Content::Full,
        (Launch::Subsystem(_), None) => Content::Limited,
        (Launch::Exec(command), None) => match operations::scp(command) {
            Some(_) => of_files,
            None => Content::Limited,
        },
    }
}

/// Asks the target for what was let through.
///
/// # Errors
/// The target's connection is gone.
pub(super) async fn launch(
    session: &Session,
    channel: &TargetChannel,
    order: &Order,
    begun: &mut Begun,
) -> Result<(), russh::Error> {
    let target = &channel.writer;
    if begun.agent.is_some() {
        channel.forward_agent().await?;
    }
    if let Some(pty) = &order.pty {
        let size = pty.size;
        target
            .request_pty(
                true,
                &pty.term,
                size.columns,
                size.rows,
                size.width_pixels,
                size.height_pixels,
                &pty.modes,
            )
            .await?;
    }
    for (name, value) in own_env(session) {
        // Without an answer: most targets take no variables, and that is no reason to fail.
        target.set_env(false, name, value).await?;
    }
    for variable in std::mem::take(&mut begun.env) {
        let PassedVariable {
            name,
            value,
            operation,
        } = variable;
        target.set_env(false, name, value).await?;
        if let Some(operation) = operation {
            operation.finish(OperationOutcome::Completed, OperationResult::default());
        }
    }
    match &order.launch {
        Launch::Shell => target.request_shell(true).await,
        Launch::Exec(command) => target.exec(true, command.clone()).await,
        Launch::Sftp => target.request_subsystem(true, order.launch.as_str()).await,
        Launch::Subsystem(name) => target.request_subsystem(true, name.as_str()).await,
    }
}

/// What tells the target which session and which grant its log lines belong to.
fn own_env(session: &Session) -> impl Iterator<Item = (&'static str, String)> {
    let grant = session.permit().terms().question.grant.as_ref();
    let grant_id = grant.map(|grant| ("SALLYPORT_GRANT_ID", grant.id.to_string()));
    std::iter::once(("SALLYPORT_SESSION_ID", session.id().to_string())).chain(grant_id)
}

/// What the person must read before an interactive session.
pub(super) async fn greet(
    session: &Session,
    client: &ClientChannel,
    order: &Order,
) -> Result<(), Stop> {
    let notice = session.notice();
    if order.launch != Launch::Shell || notice.is_empty() {
        return Ok(());
    }
    session.note(notice).await?;
    client
        .tell(notice, order.pty.is_some())
        .await
        .map_err(|_| Stop::ClientGone)
}
