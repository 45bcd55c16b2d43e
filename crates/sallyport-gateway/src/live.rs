//! The sessions that live in this gateway: a bounded table through which they are ended.
//!
//! INVARIANT: every session is in the table from before its first byte until its evidence is kept,
//! and an end that arrives before its session is applied when the session arrives.
//!
//! Not here: what ending does (`session`), when control asks for it (`directives`).

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sallyport_core::{
    authz::PolicyEngine, id::SessionId, principal::PersonName, session::EndReason, time::Timestamp,
};

use crate::{
    enforce::{self, Verdict},
    session::{End, Ledger, SessionState, TokenKey},
};

/// How many ends are remembered whose session is not here: those that overtook their session's
/// opening are among the newest.
const EARLY_ENDS_MAX: usize = 1_024;

/// The table of live sessions.
#[derive(Debug)]
pub struct LiveSessions {
    table: Mutex<Table>,
    sessions_max: usize,
    /// What statements under each grant have taken, over sessions that are over, too.
    pub(crate) ledger: Ledger,
    /// What stands for values of masked columns is made with it.
    pub(crate) token_key: TokenKey,
}

#[derive(Debug, Default)]
struct Table {
    sessions: HashMap<SessionId, Arc<SessionState>>,
    /// Sessions that are over, whose end control has not acknowledged yet.
    unreported: HashSet<SessionId>,
    /// How often control was told who lives.
    roll_calls: u64,
    early_ends: VecDeque<(SessionId, End)>,
    is_closed: bool,
}

/// Why a session is not taken in.
#[derive(Debug, thiserror::Error)]
pub enum InsertError {
    /// There are too many, or the gateway is stopping.
    #[error("add a session to the {live} that live")]
    NoRoom {
        /// How many live.
        live: usize,
    },
    /// Control was told who lives while this session was opening, and was not told of it: control has
    /// closed it.
    #[error("take in a session that control was not told of at its last roll call")]
    NotOnRoll,
}

/// Control was told who lives this many times; a session that opens must be on the next roll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RollCall(u64);

impl LiveSessions {
    /// An empty table for at most `sessions_max` sessions.
    #[must_use]
    pub fn new(sessions_max: usize) -> Self {
        Self {
            table: Mutex::default(),
            sessions_max,
            ledger: Ledger::default(),
            token_key: TokenKey::generate(),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last roll call: to be taken before control is asked to open a session.
    pub(crate) fn last_roll_call(&self) -> RollCall {
        RollCall(self.table().roll_calls)
    }

    /// Adds a session that control opened after roll call `since`. One that was ended before it came
    /// is added and ended at once.
    pub(crate) fn insert(
        &self,
        session: &Arc<SessionState>,
        since: RollCall,
        now: Timestamp,
    ) -> Result<(), InsertError> {
        let mut table = self.table();
        let live = table.sessions.len();
        if table.is_closed || live >= self.sessions_max {
            return Err(InsertError::NoRoom { live });
        }
        if table.roll_calls != since.0 {
            return Err(InsertError::NotOnRoll);
        }
        let id = session.id().clone();
        let early = table.early_ends.iter().position(|(ended, _)| *ended == id);
        table.sessions.insert(id, Arc::clone(session));
        metrics::gauge!("sallyport_gateway_sessions_live").set(as_f64(table.sessions.len()));
        if let Some((_, end)) = early.and_then(|index| table.early_ends.remove(index)) {
            session.end(end, now);
        }
        Ok(())
    }

    /// Takes a session out whose evidence is kept.
    pub(crate) fn remove(&self, id: &SessionId) {
        let mut table = self.table();
        table.sessions.remove(id);
        metrics::gauge!("sallyport_gateway_sessions_live").set(as_f64(table.sessions.len()));
    }

    /// Ends one session, or remembers to when it is not here yet.
    pub fn end(&self, id: &SessionId, end: End, now: Timestamp) {
        let mut table = self.table();
        if let Some(session) = table.sessions.get(id) {
            session.end(end, now);
            return;
        }
        if table.early_ends.len() >= EARLY_ENDS_MAX {
            table.early_ends.pop_front();
        }
        table.early_ends.push_back((id.clone(), end));
    }

    /// The session of this id, if it lives here.
    pub(crate) fn find(&self, id: &SessionId) -> Option<Arc<SessionState>> {
        self.table().sessions.get(id).cloned()
    }

    /// These sessions are paused, each by somebody, and no other is.
    pub fn paused_are(&self, paused: &[(SessionId, PersonName)]) {
        for session in self.all() {
            let by = paused.iter().find(|(id, _)| id == session.id());
            session.pause(by.map(|(_, by)| by.clone()));
        }
    }

    /// Nobody is joined to any session: without control nobody could have them leave.
    pub fn unwatch_all(&self, now: Timestamp) {
        for session in self.all() {
            session.watched_by(Vec::new(), now);
        }
    }

    /// Ends every session.
    pub fn end_all(&self, reason: EndReason, now: Timestamp) {
        for session in self.all() {
            session.end(End::because(reason), now);
        }
    }

    /// Ends every session and admits no other: the gateway stops.
    pub fn close(&self, now: Timestamp) {
        self.table().is_closed = true;
        self.end_all(EndReason::GatewayStopped, now);
    }

    /// Ends the sessions whose grant has run out or that were idle for too long.
    pub fn sweep(&self, now: Timestamp) {
        for session in self.all() {
            session.sweep(now);
        }
    }

    /// Decides every session again with `engine`, and ends those it no longer permits.
    pub fn decide_again(&self, engine: &dyn PolicyEngine, now: Timestamp) {
        for session in self.all() {
            match enforce::decide_again(engine, session.permit().terms(), now) {
                Verdict::GoesOn(constraints) => session.change(&constraints),
                Verdict::Ends(reason) => {
                    session.end(End::because(reason), now);
                }
            }
        }
    }

    /// Who lives, for control to compare with what it knows; counts as a roll call. A session that is
    /// over is still named until control has its end, or control would write down another one.
    #[must_use]
    pub fn call_roll(&self) -> Vec<SessionId> {
        let mut table = self.table();
        table.roll_calls = table.roll_calls.wrapping_add(1);
        let over = table
            .unreported
            .iter()
            .filter(|id| !table.sessions.contains_key(*id));
        table.sessions.keys().chain(over).cloned().collect()
    }

    /// Notes that the end of a session is kept and on its way to control.
    pub(crate) fn end_kept(&self, id: &SessionId) {
        self.table().unreported.insert(id.clone());
    }

    /// Notes that control has the end of a session, or will never take it.
    pub(crate) fn end_reported(&self, id: &SessionId) {
        self.table().unreported.remove(id);
    }

    /// Whether no session lives.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table().sessions.is_empty()
    }

    /// Policies take time to ask, so nothing is decided under the table's lock.
    fn all(&self) -> Vec<Arc<SessionState>> {
        self.table().sessions.values().cloned().collect()
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a count of sessions, far below 2^52"
)]
fn as_f64(count: usize) -> f64 {
    count as f64
}
