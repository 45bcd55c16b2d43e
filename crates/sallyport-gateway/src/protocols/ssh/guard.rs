//! A terminal in which commands must be approved: keeps back the Enter that would send one.
//!
//! Keys go to the target as they are typed, so that editing and completion work; the line is read off the
//! screen, and when Enter is pressed each reading of it is decided as an operation of its own (`sight`).
//! One that must wait keeps the Enter back until other people agreed. One that is refused is cleared with
//! Ctrl-C, on which every shell and every terminal in line mode abandons its line, wherever the cursor
//! stands; Ctrl-U clears only to one side of it in some. Keys that follow an interrupt wait until it was
//! answered: readline mixes what comes while it handles one with the line that it abandons, and runs that.
//!
//! INVARIANT: no Enter reaches the target while a line waits; a line that is not the one that was
//! approved any more is not sent; unless policy lets what is unknown pass, no Enter goes to a line that
//! cannot be read. Only the session's person types: a line is held in their name, and who joined may be
//! the one who approves it. What is typed without echo is judged and told nobody.
//!
//! Not here: reading the line (`sight`) and the screen (`sallyport-evidence`), votes (`session`). What
//! this cannot see is said in `docs/plugins/protocol/ssh.md`.

mod sight;

use bytes::Bytes;
use sallyport_core::{
    authz::{Reason, TerminalRules},
    session::{OPERATION_DETAIL_BYTES_MAX, Operation, OperationKind},
};
use sallyport_evidence::recording::{FrameKind, Press};

use self::sight::{Place, Sight};
use super::{
    channel::Size,
    transfer::{Legs, TransferError},
    wording,
};
use crate::{
    enforce::OperationDecision,
    session::{HeldOperation, HeldStep, OperationStart, Typed},
};

/// What Ctrl-C sends.
const INTERRUPT: u8 = 0x03;

/// Keeps lines back in one terminal.
pub(super) struct Guard {
    sight: Sight,
    /// Whether the shell must show a prompt that is known before anything is typed into it.
    needs_prompt: bool,
    /// Whether a line that cannot be read passes.
    passes_unknown: bool,
    /// Whether a line passes to a program that has the whole screen.
    passes_full_screen: bool,
    entry: tokio::sync::Mutex<Entry>,
}

/// Where the line stands that is being typed.
#[derive(Default)]
struct Entry {
    /// Its Enter is kept back.
    waiting: Option<WaitingLine>,
    /// What was entered of it so far, where its end was a backslash.
    carried: String,
    /// An interrupt was sent, and what follows has to wait until it was answered.
    is_interrupted: bool,
    /// The person was told that lines go nowhere while a program has the whole screen.
    has_told: bool,
}

/// A line whose Enter is kept back.
struct WaitingLine {
    text: String,
    /// What was entered of the line before.
    carried: String,
    held: HeldOperation,
    /// The Enter, and what was sent after it at once.
    rest: Bytes,
}

/// What becomes of a line that is about to be entered.
enum Verdict {
    /// What is carried over to the next line, which goes on with this one.
    Passes(String),
    Waits(String, Box<HeldOperation>),
    Refused(String),
    /// The key goes nowhere; nothing is cleared, as there is no line.
    Dropped,
}

impl Guard {
    /// Guards a terminal of this size; `None` when it cannot be followed.
    pub(super) fn new(rules: TerminalRules, size: Size, is_shell: bool) -> Option<Self> {
        let passes_unknown = rules.rules.iter().all(|rule| rule.allows_unknown_prompt);
        let passes_full_screen = rules
            .rules
            .iter()
            .all(|rule| rule.allows_unknown_prompt || rule.allows_full_screen);
        Some(Self {
            sight: Sight::new(rules.prompts, size)?,
            needs_prompt: is_shell && !passes_unknown,
            passes_unknown,
            passes_full_screen,
            entry: tokio::sync::Mutex::default(),
        })
    }

    /// The terminal has another size.
    pub(super) fn resize(&self, size: Size) {
        self.sight.screen().resize(size.columns, size.rows);
    }

    /// Waits until the shell shows a prompt that is known. Nothing is typed into it before.
    pub(super) async fn ready(&self, legs: &Legs) -> Result<(), TransferError> {
        if !self.needs_prompt || self.sight.prompt().await {
            return Ok(());
        }
        let text = wording::reason_lines(Reason::PromptUnknown);
        self.note(legs, &text).await?;
        Err(TransferError::Refused(Reason::PromptUnknown))
    }

    /// Shows what the target sent, then passes it on.
    pub(super) async fn down(&self, legs: &Legs, bytes: Bytes) -> Result<(), TransferError> {
        self.sight.output(&bytes);
        legs.to_client(bytes).await
    }

    /// Takes what the person typed.
    pub(super) async fn up(&self, legs: &Legs, bytes: Bytes) -> Result<(), TransferError> {
        let mut entry = self.entry.lock().await;
        let Some(waiting) = entry.waiting.take() else {
            return self.type_in(legs, &mut entry, bytes).await;
        };
        if bytes.contains(&INTERRUPT) {
            waiting.held.refuse(Reason::CommandWithdrawn);
            let text = wording::held_refusal(Reason::CommandWithdrawn, "");
            return self.clear(legs, &mut entry, &text).await;
        }
        // Keys have nowhere to go: the line must stay as it was shown to others.
        entry.waiting = Some(waiting);
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
        entry: &mut Entry,
        bytes: Bytes,
    ) -> Result<(), TransferError> {
        let mut sent = 0;
        self.sight.look_for_blank_prompt();
        for (at, byte) in bytes.iter().enumerate() {
            if entry.is_interrupted {
                self.send(legs, bytes.slice(sent..at)).await?;
                sent = at;
                self.sight.rest().await;
                self.sight.look_for_blank_prompt();
                entry.is_interrupted = false;
            }
            let press = self.sight.screen().press(*byte);
            match press {
                Press::Edits => continue,
                Press::Interrupts => {
                    self.sight.screen().interrupt();
                    entry.is_interrupted = true;
                    entry.carried.clear();
                    continue;
                }
                Press::Enters | Press::Hides => {}
            }
            self.send(legs, bytes.slice(sent..at)).await?;
            sent = at.saturating_add(1);
            match self.judge(legs, &entry.carried, *byte, press).await? {
                Verdict::Passes(carried) => {
                    entry.carried = carried;
                    entry.has_told &= self.sight.place() == Place::FullScreen;
                    self.enter(legs, bytes.slice(at..sent)).await?;
                }
                Verdict::Dropped => self.drop_key(legs, entry).await?,
                Verdict::Waits(text, held) => {
                    self.tell(legs, &wording::held(held.id(), &held.progress()))
                        .await?;
                    entry.waiting = Some(WaitingLine {
                        text,
                        carried: std::mem::take(&mut entry.carried),
                        held: *held,
                        rest: bytes.slice(at..),
                    });
                    return Ok(());
                }
                // What was sent behind it was meant to follow it.
                Verdict::Refused(text) => return self.clear(legs, entry, &text).await,
            }
        }
        self.send(legs, bytes.slice(sent..)).await
    }

    async fn send(&self, legs: &Legs, bytes: Bytes) -> Result<(), TransferError> {
        match bytes.is_empty() {
            true => Ok(()),
            false => {
                self.sight.screen().send();
                legs.to_target(bytes).await
            }
        }
    }

    async fn enter(&self, legs: &Legs, enter: Bytes) -> Result<(), TransferError> {
        if let Some(byte) = enter.first() {
            self.sight.screen().enter(*byte);
        }
        self.send(legs, enter).await
    }

    /// Abandons the line at the target and says why.
    async fn clear(&self, legs: &Legs, entry: &mut Entry, text: &str) -> Result<(), TransferError> {
        self.tell(legs, text).await?;
        self.sight.screen().interrupt();
        entry.carried.clear();
        entry.is_interrupted = true;
        self.send(legs, Bytes::from_static(&[INTERRUPT])).await
    }

    /// Says, once for each program, that its lines go nowhere.
    async fn drop_key(&self, legs: &Legs, entry: &mut Entry) -> Result<(), TransferError> {
        if std::mem::replace(&mut entry.has_told, true) {
            return Ok(());
        }
        let text = wording::reason_lines(Reason::ScreenUnreadable);
        self.tell(legs, &text).await
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

    /// Decides every reading of the line that is about to be entered with this byte, or hidden by it.
    async fn judge(
        &self,
        legs: &Legs,
        carried: &str,
        byte: u8,
        press: Press,
    ) -> Result<Verdict, TransferError> {
        let must_wait = |text: &str| !self.is_permitted(legs, &format!("{carried}{text}"));
        let refused = |reason| Ok(Verdict::Refused(wording::reason_lines(reason)));
        let passes = || Ok(Verdict::Passes(String::new()));
        let rules = legs.session.typed_rules();
        let ends_wait = |text: &str| match &rules {
            Ok(found) => found.rules.iter().any(|rule| rule.holds(text)),
            Err(_) => true,
        };
        let is_settled = self.sight.settle(must_wait, ends_wait).await;
        let place = self.sight.place();
        match place {
            Place::FullScreen if self.passes_unknown => return passes(),
            // What comes with the end of the program may be read by the shell behind it.
            Place::FullScreen if is_settled && self.passes_full_screen => return passes(),
            Place::FullScreen if is_settled && is_letter(byte) => return passes(),
            Place::FullScreen => return Ok(Verdict::Dropped),
            Place::Prompt | Place::Elsewhere => {}
        }
        let is_exact = self.sight.is_exact();
        let is_known = match place {
            Place::Prompt => is_settled && !self.sight.screen().is_torn(),
            _ => is_exact,
        };
        if !self.passes_unknown && (!is_known || press == Press::Hides) {
            return refused(match place {
                Place::Prompt => Reason::CommandUnreadable,
                _ => Reason::PromptUnknown,
            });
        }
        // What would have to wait and cannot be shown to others does not pass unseen; nor does what would
        // if a program took its beginning.
        let is_hidden = match place {
            Place::Elsewhere => {
                let screen = self.sight.screen();
                let is_whole = screen.is_typed(must_wait) && is_settled;
                !is_whole && screen.is_typed(|text| sight::any_end(text, ends_wait))
            }
            _ => !is_settled && self.sight.screen().is_typed(must_wait),
        };
        if is_hidden {
            return refused(Reason::CommandUnreadable);
        }
        let Some(readings) = self.sight.readings(carried) else {
            return refused(Reason::CommandUnreadable);
        };
        if !self.passes_unknown && readings.iter().any(|text| sight::recalls(text)) {
            return refused(Reason::CommandUnreadable);
        }
        for text in &readings {
            if self.is_permitted(legs, text) {
                continue;
            }
            let operation = typed_command(text);
            let channel = legs.record.number();
            return match legs.session.begin_operation(channel, operation).await {
                OperationStart::Held(held) => Ok(Verdict::Waits(text.clone(), held)),
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
        let carried = readings.first().and_then(|text| sight::goes_on(text));
        match carried {
            Some(text) if text.len() > OPERATION_DETAIL_BYTES_MAX => {
                refused(Reason::CommandUnreadable)
            }
            carried => Ok(Verdict::Passes(carried.unwrap_or_default().to_owned())),
        }
    }

    fn is_permitted(&self, legs: &Legs, text: &str) -> bool {
        legs.session.check(&typed_command(text)) == OperationDecision::Permitted
    }

    /// Waits for news of the line that waits; for ever when none does. Nothing is lost when the wait is
    /// dropped.
    pub(super) async fn news(&self) -> HeldStep {
        let mut entry = self.entry.lock().await;
        match entry.waiting.as_mut() {
            Some(waiting) => waiting.held.next().await,
            None => {
                drop(entry);
                std::future::pending().await
            }
        }
    }

    /// Does what news of the waiting line ask for.
    pub(super) async fn follow(&self, legs: &Legs, step: HeldStep) -> Result<(), TransferError> {
        let mut entry = self.entry.lock().await;
        let Some(waiting) = entry.waiting.take() else {
            return Ok(());
        };
        match step {
            HeldStep::Waiting(progress) => {
                let text = wording::held(waiting.held.id(), &progress);
                entry.waiting = Some(waiting);
                self.tell(legs, &text).await
            }
            HeldStep::Refused { reason, comment } => {
                waiting.held.refuse(reason);
                let text = wording::held_refusal(reason, &comment);
                self.clear(legs, &mut entry, &text).await
            }
            HeldStep::Released => self.release(legs, &mut entry, waiting).await,
        }
    }

    /// Sends the Enter of a line that was approved, if it is still that line.
    async fn release(
        &self,
        legs: &Legs,
        entry: &mut Entry,
        waiting: WaitingLine,
    ) -> Result<(), TransferError> {
        let WaitingLine {
            text,
            carried,
            held,
            mut rest,
        } = waiting;
        let approved = wording::held(held.id(), &held.progress());
        let readings = self.sight.readings(&carried).unwrap_or_default();
        if !readings.contains(&text) {
            held.refuse(Reason::CommandChanged);
            let text = wording::held_refusal(Reason::CommandChanged, "");
            return self.clear(legs, entry, &text).await;
        }
        match held.begin() {
            OperationStart::Begun(running) => running.leave_to_screen(),
            OperationStart::Over(over) => return Err(TransferError::Over(over)),
            OperationStart::Refused(reason) => {
                let text = wording::held_refusal(reason, "");
                return self.clear(legs, entry, &text).await;
            }
            OperationStart::Held(again) => {
                again.refuse(Reason::CommandChanged);
                let text = wording::held_refusal(Reason::CommandChanged, "");
                return self.clear(legs, entry, &text).await;
            }
        }
        self.tell(legs, &approved).await?;
        entry.carried = sight::goes_on(&text).unwrap_or_default().to_owned();
        let enter = rest.split_to(rest.len().min(1));
        self.enter(legs, enter).await?;
        self.type_in(legs, entry, rest).await
    }
}

fn typed_command(text: &str) -> Operation {
    Operation {
        kind: OperationKind::TypedCommand,
        detail: text.to_owned(),
        facts: None,
    }
}

/// Whether a key that may enter a line at a prompt is another key to a program that has the screen.
const fn is_letter(byte: u8) -> bool {
    matches!(
        byte,
        b'a' | b'A' | b'v' | b'V' | b'e' | b'E' | b'#' | 0x04 | 0x05
    )
}
