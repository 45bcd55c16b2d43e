//! A terminal in which commands must be approved: keeps back the Enter that would send one.
//!
//! Keys go to the target as they are typed, so that editing and completion work; the line is read off the
//! screen, and when Enter is pressed each reading of it is decided as an operation of its own. One that
//! must wait keeps the Enter back until other people agreed. One that is refused is cleared with Ctrl-C,
//! on which every shell and every terminal in line mode abandons its line, wherever the cursor stands;
//! Ctrl-U clears only to one side of it in some.
//!
//! INVARIANT: no Enter reaches the target while a line waits; a line that is not the one that was
//! approved any more is not sent. Only the session's person types: a line is held in their name, and
//! who joined may be the one who approves it. What is typed without echo is judged and told nobody.
//!
//! Not here: reading the screen (`sallyport-evidence`), votes (`session`). What this cannot see is said
//! in `docs/plugins/protocol/ssh.md`.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use sallyport_core::{
    authz::{Reason, TerminalRules},
    policy::Pattern,
    session::{Operation, OperationKind},
};
use sallyport_evidence::recording::{FrameKind, Press, ShellLine, ShellScreen};
use tokio::{sync::Notify, time::timeout};

use super::{
    channel::Size,
    transfer::{Legs, TransferError},
    wording,
};
use crate::{
    enforce::OperationDecision,
    session::{HeldOperation, HeldStep, OperationStart, Typed},
};

/// How long a shell may take to show a prompt that is known.
const PROMPT_TIME: Duration = Duration::from_secs(20);
/// How long the target may take to show the keys of a line before the line is judged as it stands.
const ECHO_TIME: Duration = Duration::from_secs(3);
/// After keys whose effect only the target knows, this long without output means that it is shown.
const QUIET_TIME: Duration = Duration::from_millis(250);
/// What Ctrl-C sends.
const INTERRUPT: u8 = 0x03;

/// Keeps lines back in one terminal.
pub(super) struct Guard {
    prompts: Vec<Pattern>,
    /// Whether the shell must show a prompt that is known before anything is typed into it.
    needs_prompt: bool,
    screen: Mutex<ShellScreen>,
    shown: Notify,
    line: tokio::sync::Mutex<Option<WaitingLine>>,
}

/// A line whose Enter is kept back.
struct WaitingLine {
    text: String,
    held: HeldOperation,
    /// The Enter, and what was sent after it at once.
    rest: Bytes,
}

/// What becomes of a line that is about to be entered.
enum Verdict {
    Passes,
    Waits(String, Box<HeldOperation>),
    Refused(String),
}

impl Guard {
    /// Guards a terminal of this size; `None` when it cannot be followed.
    pub(super) fn new(rules: TerminalRules, size: Size, is_shell: bool) -> Option<Self> {
        let allows_unknown = rules.rules.iter().all(|rule| rule.allows_unknown_prompt);
        Some(Self {
            prompts: rules.prompts,
            needs_prompt: is_shell && !allows_unknown,
            screen: Mutex::new(ShellScreen::new(size.columns, size.rows)?),
            shown: Notify::new(),
            line: tokio::sync::Mutex::new(None),
        })
    }

    fn screen(&self) -> MutexGuard<'_, ShellScreen> {
        // A panic while it was held leaves a screen that is still a screen.
        self.screen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The terminal has another size.
    pub(super) fn resize(&self, size: Size) {
        self.screen().resize(size.columns, size.rows);
    }

    /// Waits until the shell shows a prompt that is known. Nothing is typed into it before.
    pub(super) async fn ready(&self, legs: &Legs) -> Result<(), TransferError> {
        if !self.needs_prompt {
            return Ok(());
        }
        let waiting = async {
            loop {
                let shown = self.shown.notified();
                let line = {
                    let screen = self.screen();
                    if screen.has_marks() {
                        return;
                    }
                    screen.line()
                };
                if line.is_some_and(|line| self.prompt_of(&line.text).is_some()) {
                    return;
                }
                shown.await;
            }
        };
        if timeout(PROMPT_TIME, waiting).await.is_ok() {
            return Ok(());
        }
        let text = wording::reason_lines(Reason::PromptUnknown);
        self.note(legs, &text).await?;
        Err(TransferError::Refused(Reason::PromptUnknown))
    }

    /// The shortest beginning of a line that is a prompt, by the patterns of policy.
    fn prompt_of<'a>(&self, line: &'a str) -> Option<&'a str> {
        let ends = line
            .char_indices()
            .map(|(at, character)| at.saturating_add(character.len_utf8()));
        ends.filter_map(|end| line.get(..end)).find(|beginning| {
            // Blanks at the end of a prompt are none of the pattern's business.
            !beginning.ends_with(' ')
                && self
                    .prompts
                    .iter()
                    .any(|pattern| pattern.matches(beginning))
        })
    }

    /// Shows what the target sent, then passes it on.
    pub(super) async fn down(&self, legs: &Legs, bytes: Bytes) -> Result<(), TransferError> {
        self.screen().output(&bytes);
        self.shown.notify_waiters();
        legs.to_client(bytes).await
    }

    /// Takes what the person typed.
    pub(super) async fn up(&self, legs: &Legs, bytes: Bytes) -> Result<(), TransferError> {
        let mut line = self.line.lock().await;
        let Some(waiting) = line.take() else {
            return self.type_in(legs, &mut line, bytes).await;
        };
        if bytes.contains(&INTERRUPT) {
            waiting.held.refuse(Reason::CommandWithdrawn);
            let text = wording::held_refusal(Reason::CommandWithdrawn, "");
            return self.clear(legs, &text).await;
        }
        // Keys have nowhere to go: the line must stay as it was shown to others.
        *line = Some(waiting);
        Ok(())
    }

    /// Says that what somebody typed who joined goes nowhere.
    pub(super) async fn drop_typed(&self, legs: &Legs, typed: &Typed) -> Result<(), TransferError> {
        let person = typed.person();
        let text = format!(
            "sallyport: what {person} typed was dropped: commands need approval in this terminal"
        );
        self.tell(legs, &text).await
    }

    /// Passes keys on, up to an Enter whose line has to wait.
    async fn type_in(
        &self,
        legs: &Legs,
        slot: &mut Option<WaitingLine>,
        bytes: Bytes,
    ) -> Result<(), TransferError> {
        let mut sent = 0;
        for (at, byte) in bytes.iter().enumerate() {
            if self.screen().press(*byte) != Press::Enters {
                continue;
            }
            self.send(legs, bytes.slice(sent..at)).await?;
            match self.judge(legs).await? {
                Verdict::Passes => {
                    sent = at.saturating_add(1);
                    self.enter(legs, bytes.slice(at..sent)).await?;
                }
                Verdict::Waits(text, held) => {
                    self.tell(legs, &wording::held(held.id(), &held.progress()))
                        .await?;
                    *slot = Some(WaitingLine {
                        text,
                        held: *held,
                        rest: bytes.slice(at..),
                    });
                    return Ok(());
                }
                // What was sent behind it was meant to follow it.
                Verdict::Refused(text) => return self.clear(legs, &text).await,
            }
        }
        self.send(legs, bytes.slice(sent..)).await
    }

    async fn send(&self, legs: &Legs, bytes: Bytes) -> Result<(), TransferError> {
        match bytes.is_empty() {
            true => Ok(()),
            false => legs.to_target(bytes).await,
        }
    }

    async fn enter(&self, legs: &Legs, enter: Bytes) -> Result<(), TransferError> {
        self.screen().begin_line();
        legs.to_target(enter).await
    }

    /// Abandons the line at the target and says why.
    async fn clear(&self, legs: &Legs, text: &str) -> Result<(), TransferError> {
        self.tell(legs, text).await?;
        self.screen().begin_line();
        legs.to_target(Bytes::from_static(&[INTERRUPT])).await
    }

    /// Tells the person something on a line of its own, and the recording.
    async fn tell(&self, legs: &Legs, text: &str) -> Result<(), TransferError> {
        self.note(legs, text).await?;
        legs.client
            .tell(&format!("\n{text}"), legs.has_pty)
            .await
            .map_err(TransferError::ClientGone)
    }

    async fn note(&self, legs: &Legs, text: &str) -> Result<(), TransferError> {
        legs.record
            .event(FrameKind::Note(text))
            .await
            .map_err(TransferError::Over)
    }

    /// Decides every reading of the line that is about to be entered.
    async fn judge(&self, legs: &Legs) -> Result<Verdict, TransferError> {
        let must_wait = |text: &str| !self.is_permitted(legs, text);
        // What would have to wait and cannot be shown to others does not pass unseen.
        if !self.settle(must_wait).await && self.screen().is_typed(must_wait) {
            let text = wording::reason_lines(Reason::CommandUnreadable);
            return Ok(Verdict::Refused(text));
        }
        for text in self.readings() {
            if self.is_permitted(legs, &text) {
                continue;
            }
            let operation = typed_command(&text);
            let channel = legs.record.number();
            return match legs.session.begin_operation(channel, operation).await {
                OperationStart::Held(held) => Ok(Verdict::Waits(text, held)),
                OperationStart::Refused(reason) => {
                    Ok(Verdict::Refused(wording::refusal("command", reason)))
                }
                OperationStart::Over(over) => Err(TransferError::Over(over)),
                // Permitted in this very moment.
                OperationStart::Begun(running) => {
                    running.leave_to_screen();
                    continue;
                }
            };
        }
        Ok(Verdict::Passes)
    }

    fn is_permitted(&self, legs: &Legs, text: &str) -> bool {
        legs.session.check(&typed_command(text)) == OperationDecision::Permitted
    }

    /// Waits, a bounded time, until the screen shows the keys of the line; says whether it does. Keys that
    /// need not be shown, such as a password's, are waited for only as long as the target is busy.
    async fn settle(&self, must_wait: impl Fn(&str) -> bool) -> bool {
        let waiting = async {
            loop {
                let shown = self.shown.notified();
                let is_expected = {
                    let screen = self.screen();
                    let Some(line) = screen.line() else {
                        return true;
                    };
                    if line.is_settled {
                        return true;
                    }
                    let is_at_prompt = line.is_plain && self.behind_prompt(&line).is_some();
                    is_at_prompt || screen.is_typed(&must_wait)
                };
                if is_expected {
                    shown.await;
                } else if timeout(QUIET_TIME, shown).await.is_err() {
                    return false;
                }
            }
        };
        timeout(ECHO_TIME, waiting).await.unwrap_or(false)
    }

    /// What the line may be a command of: the text behind the prompt, and what was typed and shown,
    /// wherever that was. Blank ones say nothing.
    fn readings(&self) -> Vec<String> {
        let Some(line) = self.screen().line() else {
            return Vec::new();
        };
        let behind_prompt = self.behind_prompt(&line);
        let mut readings = Vec::new();
        for text in [behind_prompt, line.typed].into_iter().flatten() {
            let text = text.trim().to_owned();
            if !text.is_empty() && !readings.contains(&text) {
                readings.push(text);
            }
        }
        readings
    }

    fn behind_prompt(&self, line: &ShellLine) -> Option<String> {
        if let Some(text) = &line.after_mark {
            return Some(text.clone());
        }
        let prompt = self.prompt_of(&line.text)?;
        line.text.get(prompt.len()..).map(str::to_owned)
    }

    /// Waits for news of the line that waits; for ever when none does. Nothing is lost when the wait is
    /// dropped.
    pub(super) async fn news(&self) -> HeldStep {
        let mut line = self.line.lock().await;
        match line.as_mut() {
            Some(waiting) => waiting.held.next().await,
            None => {
                drop(line);
                std::future::pending().await
            }
        }
    }

    /// Does what news of the waiting line ask for.
    pub(super) async fn follow(&self, legs: &Legs, step: HeldStep) -> Result<(), TransferError> {
        let mut line = self.line.lock().await;
        let Some(waiting) = line.take() else {
            return Ok(());
        };
        match step {
            HeldStep::Waiting(progress) => {
                let text = wording::held(waiting.held.id(), &progress);
                *line = Some(waiting);
                self.tell(legs, &text).await
            }
            HeldStep::Refused { reason, comment } => {
                waiting.held.refuse(reason);
                let text = wording::held_refusal(reason, &comment);
                self.clear(legs, &text).await
            }
            HeldStep::Released => self.release(legs, &mut line, waiting).await,
        }
    }

    /// Sends the Enter of a line that was approved, if it is still that line.
    async fn release(
        &self,
        legs: &Legs,
        slot: &mut Option<WaitingLine>,
        waiting: WaitingLine,
    ) -> Result<(), TransferError> {
        let WaitingLine { text, held, rest } = waiting;
        let approved = wording::held(held.id(), &held.progress());
        if !self.readings().contains(&text) {
            held.refuse(Reason::CommandChanged);
            let text = wording::held_refusal(Reason::CommandChanged, "");
            return self.clear(legs, &text).await;
        }
        match held.begin() {
            OperationStart::Begun(running) => running.leave_to_screen(),
            OperationStart::Over(over) => return Err(TransferError::Over(over)),
            OperationStart::Refused(reason) => {
                let text = wording::held_refusal(reason, "");
                return self.clear(legs, &text).await;
            }
            OperationStart::Held(again) => {
                again.refuse(Reason::CommandChanged);
                let text = wording::held_refusal(Reason::CommandChanged, "");
                return self.clear(legs, &text).await;
            }
        }
        self.tell(legs, &approved).await?;
        let mut rest = rest;
        let enter = rest.split_to(rest.len().min(1));
        self.enter(legs, enter).await?;
        self.type_in(legs, slot, rest).await
    }
}

fn typed_command(text: &str) -> Operation {
    Operation {
        kind: OperationKind::TypedCommand,
        detail: text.to_owned(),
    }
}
