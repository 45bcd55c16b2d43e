//! Commands that wait for other people: the wait of one that is launched, and what guards a terminal in
//! which others are typed.
//!
//! INVARIANT: nothing is launched before its release; whatever ends the wait otherwise is a refusal.
//!
//! Not here: the wait itself (`session`), lines typed in a terminal (`guard`).

use bytes::BytesMut;
use sallyport_core::{authz::Reason, policy::opens_shell};
use sallyport_evidence::recording::FrameKind;

use super::{Stop, order::Order, refuse_launch};
use crate::{
    protocols::ssh::{
        channel::{ClientChannel, ClientEvent, Size},
        guard::Guard,
        inbox::Arrival,
        operations::Launch,
        upstream::{TargetChannel, Targets},
        wording,
    },
    session::{ChannelRecord, HeldOperation, HeldStep, OperationStart, RunningOperation, Session},
};

/// Where the parts of a wait are.
pub(super) struct Waiting<'a> {
    pub(super) client: &'a ClientChannel,
    pub(super) targets: &'a Targets,
    pub(super) record: &'a ChannelRecord,
}

/// What a person did while a command waited.
#[derive(Default)]
pub(super) struct Meanwhile {
    /// What they typed.
    pub(super) typed: BytesMut,
    /// Whether they will type no more.
    pub(super) has_eof: bool,
    /// The size their terminal has now.
    size: Option<Size>,
}

/// What keeps lines back in a terminal where commands must be approved. A shell without a terminal shows
/// no prompt, and one whose terminal cannot be followed none that is known.
pub(super) async fn guard_of(session: &Session, order: &Order) -> Result<Option<Guard>, Stop> {
    let is_shell = match &order.launch {
        Launch::Shell => true,
        // It runs what it reads, as a shell does.
        Launch::Exec(command) => opens_shell(&String::from_utf8_lossy(command)),
        Launch::Sftp | Launch::Subsystem(_) => false,
    };
    if !is_shell && order.pty.is_none() {
        return Ok(None);
    }
    let reason = match session.typed_rules() {
        Ok(rules) if rules.rules.is_empty() => return Ok(None),
        Ok(rules) => {
            let allows_unknown = rules.rules.iter().all(|rule| rule.allows_unknown_prompt);
            let size = order.pty.as_ref().map(|pty| pty.size);
            let guard = size.and_then(|size| Guard::new(rules, size, is_shell));
            if guard.is_some() || allows_unknown {
                return Ok(guard);
            }
            Reason::PromptUnknown
        }
        Err(reason) => reason,
    };
    Err(refuse_launch(session, order.launch.operation(), reason).await)
}

/// Waits for the release of a launch, its place at the target taken already.
pub(super) async fn released(
    waiting: &Waiting<'_>,
    order: &mut Order,
    held: HeldOperation,
) -> Result<(RunningOperation, TargetChannel, Meanwhile), Stop> {
    let has_pty = order.pty.is_some();
    let text = wording::held(held.id(), &held.progress());
    waiting.tell(&text, has_pty).await?;
    // The credential may be good for logging in for minutes only, and others take their time.
    let opened = waiting.targets.open().await.map_err(Stop::Upstream)?;
    let mut meanwhile = Meanwhile::default();
    match await_release(waiting, &mut meanwhile, has_pty, held).await {
        Ok(running) => {
            if let (Some(pty), Some(size)) = (&mut order.pty, meanwhile.size) {
                pty.size = size;
            }
            Ok((running, opened, meanwhile))
        }
        Err(stop) => {
            let _ = opened.writer.close().await;
            waiting.targets.give_back(opened);
            Err(stop)
        }
    }
}

/// Most bytes kept of what is typed while a command waits.
const TYPED_BYTES_MAX: usize = 64 * 1024;

/// Waits with the person until other people agreed to a command, or it is given up.
async fn await_release(
    waiting: &Waiting<'_>,
    meanwhile: &mut Meanwhile,
    has_pty: bool,
    mut held: HeldOperation,
) -> Result<RunningOperation, Stop> {
    loop {
        let step = tokio::select! {
            step = held.next() => step,
            stop = given_up(waiting.client, meanwhile, has_pty) => {
                held.refuse(Reason::CommandWithdrawn);
                return Err(stop);
            }
        };
        match step {
            HeldStep::Waiting(progress) => {
                let text = wording::held(held.id(), &progress);
                waiting.tell(&text, has_pty).await?;
            }
            HeldStep::Refused { reason, comment } => {
                held.refuse(reason);
                let text = wording::held_refusal(reason, &comment);
                waiting.record.event(FrameKind::Note(&text)).await?;
                return Err(Stop::Refused(text));
            }
            HeldStep::Released => {
                let text = wording::held(held.id(), &held.progress());
                return match held.begin() {
                    OperationStart::Begun(running) => {
                        waiting.tell(&text, has_pty).await?;
                        Ok(running)
                    }
                    OperationStart::Over(over) => Err(over.into()),
                    OperationStart::Refused(reason) => {
                        Err(Stop::Refused(wording::held_refusal(reason, "")))
                    }
                    OperationStart::Held(again) => {
                        again.refuse(Reason::CommandChanged);
                        let text = wording::held_refusal(Reason::CommandChanged, "");
                        Err(Stop::Refused(text))
                    }
                };
            }
        }
    }
}

impl Waiting<'_> {
    /// Tells the person, and the recording, where a held command stands.
    async fn tell(&self, text: &str, has_pty: bool) -> Result<(), Stop> {
        self.record.event(FrameKind::Note(text)).await?;
        let told = self.client.tell(text, has_pty).await;
        told.map_err(|_| Stop::ClientGone)
    }
}

/// Resolves when the person gives a held command up: with Ctrl-C at a terminal, else by leaving. What is
/// typed meanwhile is kept for the command.
async fn given_up(client: &ClientChannel, meanwhile: &mut Meanwhile, has_pty: bool) -> Stop {
    while has_pty && meanwhile.typed.len() < TYPED_BYTES_MAX {
        match client.inbox.next().await {
            None => return Stop::ClientGone,
            Some(Arrival::Content((), bytes)) if bytes.contains(&INTERRUPT) => {
                let text = wording::held_refusal(Reason::CommandWithdrawn, "");
                return Stop::Refused(text);
            }
            Some(Arrival::Content((), bytes)) => meanwhile.typed.extend_from_slice(&bytes),
            Some(Arrival::Event(ClientEvent::Resize(size))) => meanwhile.size = Some(size),
            Some(Arrival::Event(ClientEvent::Eof)) => meanwhile.has_eof = true,
            Some(Arrival::Event(_)) => {}
        }
    }
    // Bytes for a command without a terminal wait where they are, within the client's window.
    client.inbox.closed().await;
    Stop::ClientGone
}

/// What Ctrl-C sends.
const INTERRUPT: u8 = 0x03;
