//! An operation that waits for other people before it may run.
//!
//! INVARIANT: it runs only after control said that it is released, once, and if it would still have to
//! wait for exactly the same, while nothing halts the session; whatever else happens, it is on record as
//! refused. Dropping it gives it up. What is decided again is what was decided first, also where others are
//! shown more.
//!
//! Not here: which operations wait ([`crate::enforce`]), votes (control).

use std::{sync::Arc, time::Duration};

use sallyport_api::gateway::{HeldProgress, HoldOperation};
use sallyport_core::{authz::Reason, id::OperationId, session::Operation, time::Timestamp};
use tokio::sync::watch;

use super::{
    OperationStart, RunningOperation, Session, operation::instant_record, state::SessionState,
};
use crate::{
    enforce::{Hold, OperationDecision},
    node::Node,
};

/// How long control may take, beyond the operation's own time, to say that it is over.
const OVERTIME: Duration = Duration::from_secs(30);

/// An operation that was not let through yet.
#[derive(Debug)]
pub struct HeldOperation {
    session: Arc<Session>,
    id: OperationId,
    channel: u32,
    /// As policies look at it.
    decided: Operation,
    /// As others see it and evidence keeps it; absent once it was begun or refused.
    operation: Option<Operation>,
    hold: Hold,
    held_at: Timestamp,
    /// What control said last; nothing before its first answer.
    news: watch::Receiver<News>,
}

/// News of a held operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeldStep {
    /// It waits on; where it stands changed.
    Waiting(HeldProgress),
    /// It may begin: call [`HeldOperation::begin`].
    Released,
    /// It must not run: call [`HeldOperation::refuse`].
    Refused {
        /// Why.
        reason: Reason,
        /// Words of whoever denied it; may be empty. Escape them before they reach a terminal.
        comment: String,
    },
}

/// Asks control to hold an operation that was `decided` on, `operation` for those who see it, and begins to wait.
pub(super) async fn hold(
    session: &Arc<Session>,
    channel: u32,
    decided: Operation,
    operation: Operation,
    hold: Hold,
) -> OperationStart {
    // Others vote on exactly what they are shown; replaced bytes could hide anything.
    if operation.detail.contains(char::REPLACEMENT_CHARACTER) {
        return session.refused(channel, operation, Reason::CommandUnreadable);
    }
    let id = session.operation_id();
    let call = HoldOperation {
        session_id: session.id().clone(),
        operation_id: id.clone(),
        operation: operation.clone(),
        recorded: session.state.redacted(&operation.detail).into_owned(),
        terms: hold.terms.clone(),
        bundle: hold.bundle.clone(),
    };
    let (sender, news) = watch::channel(None);
    let within = Duration::from_secs(hold.terms.within_s).saturating_add(OVERTIME);
    let (node, state) = (Arc::clone(&session.node), Arc::clone(&session.state));
    // From here on, whatever happens to whoever waits, dropping this puts the refusal on record.
    let mut held = HeldOperation {
        session: Arc::clone(session),
        id: id.clone(),
        channel,
        decided,
        operation: Some(operation),
        hold,
        held_at: session.node.clock.now(),
        news,
    };
    session
        .node
        .tasks
        .spawn("held operation", attend(node, state, call, sender, within));
    match held.asked().await {
        HeldProgress::Refused { reason, comment } if comment.is_empty() => {
            held.refuse(reason);
            OperationStart::Refused(reason)
        }
        // Somebody may have voted in the meantime, and whoever waits is told their words.
        HeldProgress::Waiting { .. }
        | HeldProgress::Released { .. }
        | HeldProgress::Refused { .. } => OperationStart::Held(Box::new(held)),
    }
}

type News = Option<HeldProgress>;

/// Asks control, then passes on what it says until the operation is settled, given up or its session
/// over.
async fn attend(
    node: Arc<Node>,
    state: Arc<SessionState>,
    call: HoldOperation,
    sender: watch::Sender<News>,
    within: Duration,
) {
    let (session_id, id) = (call.session_id.clone(), call.operation_id.clone());
    let control = &node.control;
    let watching = async {
        let mut answer = control.hold_operation(call).await;
        if matches!(answer, Ok(HeldProgress::Released { .. })) {
            // Nobody can have voted before it was held.
            answer = Ok(HeldProgress::Refused {
                reason: Reason::CommandChanged,
                comment: String::new(),
            });
        }
        loop {
            let progress = answer.unwrap_or_else(|error| HeldProgress::Refused {
                reason: error.reason(),
                comment: String::new(),
            });
            // Somebody waits for other people; that is no idle session.
            state.touch();
            let is_settled = !matches!(progress, HeldProgress::Waiting { .. });
            let news = Some(progress.clone());
            sender.send_if_modified(|known| {
                let is_news = *known != news;
                *known = news;
                is_news
            });
            if is_settled {
                return;
            }
            answer = control
                .await_operation(session_id.clone(), id.clone(), progress)
                .await;
        }
    };
    tokio::select! {
        () = watching => return,
        () = tokio::time::sleep(within) => {
            sender.send_replace(Some(HeldProgress::Refused {
                reason: Reason::CommandNotApproved,
                comment: String::new(),
            }));
        }
        () = sender.closed() => {}
        _ = state.ended() => {}
    }
    // Control gives it up by itself with the session, or when its time is over.
    if let Err(error) = control.withdraw_operation(session_id, id).await {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "could not give a held operation up"
        );
    }
}

impl HeldOperation {
    /// The operation's id: what approvers name.
    #[must_use]
    pub const fn id(&self) -> &OperationId {
        &self.id
    }

    /// Where it stands.
    #[must_use]
    pub fn progress(&self) -> HeldProgress {
        self.news.borrow().clone().unwrap_or_else(given_up)
    }

    /// Waits for control's first answer.
    async fn asked(&mut self) -> HeldProgress {
        match self.news.wait_for(Option::is_some).await {
            Ok(progress) => progress.clone().unwrap_or_else(given_up),
            // The task that asks is gone without a word: the session is over.
            Err(_) => given_up(),
        }
    }

    /// Waits for news; for that of a release until something may pass. Nothing is lost when the wait is
    /// dropped.
    pub async fn next(&mut self) -> HeldStep {
        let is_settled = !matches!(self.progress(), HeldProgress::Waiting { .. });
        if !is_settled && self.news.changed().await.is_err() {
            return HeldStep::Refused {
                reason: Reason::CommandWithdrawn,
                comment: String::new(),
            };
        }
        match self.progress() {
            waiting @ HeldProgress::Waiting { .. } => HeldStep::Waiting(waiting),
            HeldProgress::Released { .. } => {
                // A session that is over is found to be so by who begins.
                let _ = self.session.state.pass().await;
                HeldStep::Released
            }
            HeldProgress::Refused { reason, comment } => HeldStep::Refused { reason, comment },
        }
    }

    /// Begins the operation after its release, if it would have to wait for the same if asked now.
    #[must_use]
    pub fn begin(mut self) -> OperationStart {
        let is_released = matches!(self.progress(), HeldProgress::Released { .. });
        let Some(operation) = self.operation.take() else {
            return OperationStart::Refused(Reason::CommandWithdrawn);
        };
        if let Err(over) = self.session.state.check_live() {
            self.operation = Some(operation);
            return OperationStart::Over(over);
        }
        let is_unchanged = match self.session.check(&self.decided) {
            OperationDecision::Permitted => true,
            OperationDecision::Held(hold) => *hold == self.hold,
            OperationDecision::Refused(_) => false,
        };
        if !is_released || !is_unchanged {
            self.operation = Some(operation);
            self.refuse(Reason::CommandChanged);
            return OperationStart::Refused(Reason::CommandChanged);
        }
        OperationStart::Begun(RunningOperation::new(
            Arc::clone(&self.session),
            self.id.clone(),
            self.channel,
            operation,
            self.held_at,
        ))
    }

    /// Puts on record that the operation did not run.
    pub fn refuse(mut self, reason: Reason) {
        self.put(reason);
    }

    fn put(&mut self, reason: Reason) {
        if let Some(operation) = self.operation.take() {
            let now = self.session.node.clock.now();
            let mut record =
                instant_record(self.id.clone(), self.channel, operation, now, Some(reason));
            record.started_at = self.held_at;
            self.session.put(record);
        }
    }
}

impl Drop for HeldOperation {
    fn drop(&mut self) {
        self.put(Reason::CommandWithdrawn);
    }
}

/// Where an operation stands of which nothing is heard any more.
const fn given_up() -> HeldProgress {
    HeldProgress::Refused {
        reason: Reason::CommandWithdrawn,
        comment: String::new(),
    }
}
