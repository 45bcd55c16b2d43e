//! What a session is to everything that can end it: shared by the protocol's [`Session`](super::Session),
//! the table of live sessions and the session's own task.
//!
//! INVARIANT: the first end stands, and with it the target is cut off in the same instant.

use std::{
    borrow::Cow,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use sallyport_api::gateway::Keystrokes;
use sallyport_core::{
    authz::{Permit, Reason, SessionQuestion},
    entropy::Entropy,
    id::{OperationId, SessionId, WatcherId},
    policy::{Constraints, Restraints},
    principal::PersonName,
    session::{
        EndReason, OPERATION_DETAIL_BYTES_MAX, Operation, OperationRecord, PARAMETER_BYTES_MAX,
        oversight::Watcher,
    },
    time::{Clock, Timestamp},
};
use sallyport_evidence::recording::{Frame, FrameKind, SESSION_CHANNEL};
use sallyport_policy::RuleSet;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    End, SessionOver,
    budget::{Allowance, Taken},
    operation::{self, OperationLog},
    oversight::{self, Others, Typed, Words},
};
use crate::recorder::{Recorder, redact_text};

/// What a session's state is made from.
pub(crate) struct SessionStart {
    /// What its protocol enforces.
    pub(crate) enforced: Restraints,
    pub(crate) taken: Arc<Taken>,
    pub(crate) permit: Permit,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) started_at: Timestamp,
    pub(crate) recorder: Recorder,
    pub(crate) rules: Arc<RuleSet>,
}

/// A session, live or over.
#[derive(Debug)]
pub struct SessionState {
    permit: Permit,
    /// The permit's, as operations are asked about.
    question: SessionQuestion,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) started_at: Timestamp,
    pub(super) recorder: Recorder,
    rules: Arc<RuleSet>,
    pub(super) operations: OperationLog,
    end: watch::Sender<Option<End>>,
    ended_at: Mutex<Option<Timestamp>>,
    target_cut: CancellationToken,
    /// Cancelled when the protocol let go of the session.
    pub(super) released: CancellationToken,
    last_active_ms: AtomicI64,
    /// Longest pause in milliseconds; the largest number when there is no limit.
    idle_limit_ms: AtomicI64,
    content_limit_bytes: AtomicU64,
    records_file_content: AtomicBool,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
    channels: AtomicU32,
    others: Others,
    enforced: Restraints,
    pub(super) allowance: Allowance,
}

/// What somebody reads whose session is over because its target was told something else when it began.
const MADE_ANEW: &str = "from now on it only reads, or masks other columns, and its target was told otherwise; connect again";

impl SessionState {
    pub(crate) fn new(start: SessionStart) -> Self {
        let owner = start.permit.terms().question.principal.id.clone();
        let state = Self {
            others: Others::new(owner, start.started_at),
            question: SessionQuestion::new(&start.permit.terms().question),
            allowance: Allowance::new(start.taken),
            enforced: start.enforced,
            permit: start.permit,
            clock: start.clock,
            started_at: start.started_at,
            recorder: start.recorder,
            rules: start.rules,
            operations: OperationLog::default(),
            end: watch::Sender::new(None),
            ended_at: Mutex::new(None),
            target_cut: CancellationToken::new(),
            released: CancellationToken::new(),
            last_active_ms: AtomicI64::new(start.started_at.unix_ms()),
            idle_limit_ms: AtomicI64::new(i64::MAX),
            content_limit_bytes: AtomicU64::new(0),
            records_file_content: AtomicBool::new(false),
            bytes_up: AtomicU64::new(0),
            bytes_down: AtomicU64::new(0),
            channels: AtomicU32::new(0),
        };
        let constraints = state.permit.terms().constraints.clone();
        state.tighten(&constraints);
        state
    }

    pub(crate) fn id(&self) -> &SessionId {
        &self.permit.terms().session_id
    }

    pub(crate) const fn permit(&self) -> &Permit {
        &self.permit
    }

    pub(super) const fn question(&self) -> &SessionQuestion {
        &self.question
    }

    /// Applies what policies demand by now of a session that is under way, as [`Self::tighten`] does.
    ///
    /// Its target was told when it began whether it writes, and asked what masks mean there. A transaction that
    /// is open cannot be told otherwise: such a session ends, and the next is what policies want.
    pub(crate) fn change(&self, constraints: &Constraints) {
        let was_read_only = self.allowance.is_read_only();
        let masks = self.allowance.masks();
        self.tighten(constraints);
        if self.allowance.is_read_only() != was_read_only || *self.allowance.masks() != *masks {
            let end = End {
                reason: EndReason::PolicyChanged,
                comment: MADE_ANEW.to_owned(),
            };
            self.end(end, self.clock.now());
        }
    }

    /// Applies limits besides those already in force; the stricter of both holds. What the session's protocol
    /// does not enforce ends it.
    pub(crate) fn tighten(&self, constraints: &Constraints) {
        if let Some(restraint) = Restraints::demanded_by(constraints).beyond(self.enforced) {
            let reason = EndReason::from(restraint);
            let protocol = &self.permit.terms().question.target.protocol;
            let remedy = reason.refusal().map(Reason::remedy).unwrap_or_default();
            let end = End {
                reason,
                comment: format!("the protocol is {protocol}; {remedy}"),
            };
            self.end(end, self.clock.now());
        }
        if let Some(idle_s) = constraints.idle_timeout_s {
            let idle_ms = i64::try_from(idle_s.saturating_mul(1_000)).unwrap_or(i64::MAX);
            self.idle_limit_ms.fetch_min(idle_ms, Ordering::Relaxed);
        }
        // Recording more is stricter.
        self.content_limit_bytes
            .fetch_max(constraints.recording_content_limit_bytes, Ordering::Relaxed);
        self.records_file_content
            .fetch_or(constraints.records_file_content, Ordering::Relaxed);
        self.allowance.tighten(constraints);
        self.tell(self.others.tighten(constraints, self.clock.now()));
    }

    /// These people are joined now, and nobody else.
    pub(crate) fn watched_by(&self, watchers: Vec<Watcher>, now: Timestamp) {
        self.tell(self.others.watched_by(watchers, now));
        // They see what is in the recording: it comes to them sooner.
        self.recorder.hurry(self.others.has_watchers());
    }

    /// Pauses the session in somebody's name, or lets it go on.
    pub(crate) fn pause(&self, by: Option<PersonName>) {
        self.tell(self.others.pause(by));
    }

    /// Says something to the person in somebody's name.
    pub(crate) fn message(&self, from: &PersonName, text: &str) {
        self.tell(vec![oversight::line_of_message(from, text)]);
    }

    /// Somebody who joined typed.
    pub(crate) fn type_at(&self, watcher_id: WatcherId, channel: u32, keystrokes: Keystrokes) {
        let dropped = self.others.type_at(watcher_id, channel, keystrokes);
        self.tell(dropped.into_iter().collect());
    }

    /// Puts lines on record and says them to the person.
    fn tell(&self, lines: Vec<String>) {
        for line in lines {
            self.record_last(SESSION_CHANNEL, FrameKind::Note(&line));
            self.others.say(&line);
        }
    }

    /// Waits until something may pass.
    pub(super) async fn pass(&self) -> Result<(), SessionOver> {
        if self.others.is_halted() {
            tokio::select! {
                () = self.others.freed() => {}
                end = self.ended() => return Err(SessionOver(end)),
            }
        }
        self.check_live()
    }

    pub(super) fn words(&self) -> Words {
        self.others.words()
    }

    pub(super) fn standing_words(&self) -> Vec<String> {
        self.others.standing()
    }

    pub(super) fn add_terminal(&self, channel: u32) -> mpsc::Receiver<Typed> {
        self.others.add_terminal(channel)
    }

    pub(super) fn remove_terminal(&self, channel: u32) {
        self.others.remove_terminal(channel);
    }

    pub(super) fn may_type(&self, typed: &Typed) -> bool {
        self.others.may_type(typed)
    }

    /// Ends the session unless its time is not over.
    pub(crate) fn sweep(&self, now: Timestamp) {
        if self.permit.terms().expires_at <= now {
            self.end(End::because(EndReason::GrantExpired), now);
        }
        let idle_since = Timestamp::from_unix_ms(self.last_active_ms.load(Ordering::Relaxed));
        let limit_ms = self.idle_limit_ms.load(Ordering::Relaxed);
        let idle = now.since(idle_since);
        if idle >= Duration::from_millis(limit_ms.unsigned_abs()) {
            self.end(End::because(EndReason::IdleTimeout), now);
        }
        if self.others.is_abandoned(now) {
            self.end(End::because(EndReason::Unwatched), now);
        }
    }

    /// Ends the session. The first end stands.
    pub(crate) fn end(&self, end: End, now: Timestamp) {
        let is_first = self.end.send_if_modified(|slot| {
            let is_first = slot.is_none();
            slot.get_or_insert(end);
            is_first
        });
        if is_first {
            *self.ended_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
            self.target_cut.cancel();
        }
    }

    pub(super) fn end_with(&self, reason: EndReason) {
        self.end(End::because(reason), self.clock.now());
    }

    pub(super) fn ended_at(&self) -> Option<Timestamp> {
        *self.ended_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn ended(&self) -> End {
        let mut end = self.end.subscribe();
        // The sender lives as long as `self`, so waiting cannot fail.
        match end
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|end| end.clone())
        {
            Some(end) => end,
            None => std::future::pending().await,
        }
    }

    /// Says whether the session lives, by the clock too: nothing passes after the grant's last moment,
    /// however late the sweep is.
    pub(super) fn check_live(&self) -> Result<(), SessionOver> {
        if self.permit.terms().expires_at <= self.clock.now() {
            self.end_with(EndReason::GrantExpired);
        }
        match &*self.end.borrow() {
            None => Ok(()),
            Some(end) => Err(SessionOver(end.clone())),
        }
    }

    pub(super) fn target_cut(&self) -> CancellationToken {
        self.target_cut.clone()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn release(&self) {
        self.released.cancel();
    }

    pub(super) fn next_channel(&self) -> u32 {
        self.channels.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn content_limit_bytes(&self) -> u64 {
        self.content_limit_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn records_file_content(&self) -> bool {
        self.records_file_content.load(Ordering::Relaxed)
    }

    pub(super) fn frame<'a>(&self, channel: u32, kind: FrameKind<'a>) -> Frame<'a> {
        let at = self.clock.now().since(self.started_at);
        let at_us = u64::try_from(at.as_micros()).unwrap_or(u64::MAX);
        Frame {
            at_us,
            channel,
            kind,
        }
    }

    pub(super) async fn record(
        &self,
        channel: u32,
        kind: FrameKind<'_>,
    ) -> Result<(), SessionOver> {
        self.check_live()?;
        if !self.recorder.has_room() {
            tokio::select! {
                () = self.recorder.room() => {}
                end = self.ended() => return Err(SessionOver(end)),
            }
        }
        if self.recorder.record(&self.frame(channel, kind)).is_err() {
            self.end_with(EndReason::RecorderFailed);
        }
        self.check_live()
    }

    /// Waits until there is room for the evidence of one more operation, or the session is over.
    pub(super) async fn room_for_operation(&self) {
        let room = async {
            self.operations.room().await;
            self.recorder.room().await;
        };
        tokio::select! {
            () = room => {}
            _ = self.ended() => {}
        }
    }

    /// Records what must be said even though the session is over.
    pub(super) fn record_last(&self, channel: u32, kind: FrameKind<'_>) {
        if self.recorder.record(&self.frame(channel, kind)).is_err() {
            self.end_with(EndReason::RecorderFailed);
        }
    }

    pub(super) fn count_up(&self, bytes: usize) {
        self.bytes_up.fetch_add(bytes as u64, Ordering::Relaxed);
        self.touch();
    }

    pub(super) fn count_down(&self, bytes: usize) {
        self.bytes_down.fetch_add(bytes as u64, Ordering::Relaxed);
        self.touch();
    }

    pub(super) fn touch(&self) {
        self.last_active_ms
            .store(self.clock.now().unix_ms(), Ordering::Relaxed);
    }

    /// Bytes that passed: from the client, from the target.
    pub(super) fn counted(&self) -> (u64, u64) {
        (
            self.bytes_up.load(Ordering::Relaxed),
            self.bytes_down.load(Ordering::Relaxed),
        )
    }

    /// The detail of an operation as it stands in records.
    pub(super) fn redacted<'a>(&self, detail: &'a str) -> Cow<'a, str> {
        redact_text(&self.rules, detail, OPERATION_DETAIL_BYTES_MAX)
    }

    /// Puts an operation on record: in the recording, and on its way to control. What the recording must
    /// not hold, its operations do not either.
    pub(super) fn put(&self, mut record: OperationRecord) {
        if let Cow::Owned(detail) = self.redacted(&record.operation.detail) {
            record.operation.detail = detail;
        }
        let values = record
            .statement
            .iter_mut()
            .flat_map(|one| &mut one.parameters);
        for value in values.flatten() {
            if let Cow::Owned(redacted) = redact_text(&self.rules, value, PARAMETER_BYTES_MAX) {
                *value = redacted;
            }
        }
        if let Some(facts) = &mut record.operation.facts {
            // Names, too, are what the client wrote.
            facts.relations = std::mem::take(&mut facts.relations)
                .into_iter()
                .map(|name| self.redacted(&name).into_owned())
                .collect();
        }
        metrics::counter!(
            "sallyport_operations_total",
            "kind" => record.operation.kind.as_str(),
            "outcome" => operation::outcome_name(record.outcome),
        )
        .increment(1);
        let json = serde_json::to_vec(&record);
        if let Ok(json) = &json {
            // A recorder that is closed by now was closed by the session's end; control gets the
            // record all the same.
            let _ = self
                .recorder
                .record(&self.frame(record.channel, FrameKind::Operation(json)));
        }
        if !self.operations.put(record) {
            tracing::error!(session_id = %self.id(), "an operation ended after its session was closed");
        }
    }

    /// Puts something on record that was only seen, such as a typed command.
    pub(super) fn put_seen(
        &self,
        entropy: &dyn Entropy,
        channel: u32,
        operation: Operation,
        at: Timestamp,
    ) {
        let id = OperationId::new(at, entropy.draw());
        self.put(operation::instant_record(id, channel, operation, at, None));
    }
}
