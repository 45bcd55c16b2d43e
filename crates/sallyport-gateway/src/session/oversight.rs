//! Other people at a session: who watches, who types, what is said to its person, and whether
//! anything passes at all.
//!
//! Control's pushes change it ([`crate::live`]); channels wait on it before every byte
//! ([`super::channel`]); protocols show what it says and send on what joined people type.
//!
//! INVARIANT: what changes is noted in the recording and said to the person; while the rules halt the
//! session no byte is recorded, so none is forwarded. What waits for a terminal is bounded.
//!
//! Not here: the rules (`sallyport-core::session::oversight`), rights (control), what watchers see:
//! they read the recording.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use sallyport_api::gateway::Keystrokes;
use sallyport_core::{
    id::{PersonId, WatcherId},
    policy::Constraints,
    principal::PersonName,
    session::oversight::{Change, Halt, Oversight, Watcher},
    time::Timestamp,
};
use sallyport_evidence::recording::escape_controls;
use tokio::sync::{Notify, broadcast, mpsc};

/// Lines that wait for a channel which does not show them; it misses the oldest then. They are in the
/// recording all the same.
const WORDS_MAX: usize = 16;
/// Pieces of typing that wait for one terminal.
const TYPED_MAX: usize = 256;

/// What somebody who joined typed.
#[derive(Debug)]
pub struct Typed {
    watcher_id: WatcherId,
    pub(super) person: PersonName,
    keystrokes: Keystrokes,
}

impl Typed {
    /// Who typed.
    #[must_use]
    pub const fn person(&self) -> &PersonName {
        &self.person
    }

    /// The bytes to send to the target, once they are recorded.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.keystrokes.expose()
    }
}

/// Lines for the person of a session, as they are said.
#[derive(Debug)]
pub struct Words(broadcast::Receiver<Arc<str>>);

impl Words {
    /// The next line. Waits for ever once nothing can be said any more.
    pub async fn next(&mut self) -> Arc<str> {
        loop {
            match self.0.recv().await {
                Ok(line) => return line,
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}

/// The other people at one session.
#[derive(Debug)]
pub(crate) struct Others {
    rules: Mutex<Oversight>,
    /// What the rules say, for the way that every byte takes.
    is_halted: AtomicBool,
    freed: Notify,
    words: broadcast::Sender<Arc<str>>,
    terminals: Mutex<BTreeMap<u32, mpsc::Sender<Typed>>>,
}

impl Others {
    pub(super) fn new(owner: PersonId, started_at: Timestamp) -> Self {
        Self {
            rules: Mutex::new(Oversight::new(owner, started_at)),
            is_halted: AtomicBool::new(false),
            freed: Notify::new(),
            words: broadcast::Sender::new(WORDS_MAX),
            terminals: Mutex::default(),
        }
    }

    fn rules(&self) -> MutexGuard<'_, Oversight> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn terminals(&self) -> MutexGuard<'_, BTreeMap<u32, mpsc::Sender<Typed>>> {
        self.terminals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes who and what is there; returns the lines that the person must read.
    fn change(&self, change: impl FnOnce(&mut Oversight) -> Vec<Change>) -> Vec<String> {
        let mut rules = self.rules();
        let before = rules.halt();
        let mut lines: Vec<String> = change(&mut rules).iter().map(line_of_change).collect();
        let after = rules.halt();
        self.is_halted.store(after.is_some(), Ordering::Release);
        if after.is_none() {
            self.freed.notify_waiters();
        }
        match (&before, &after) {
            (before, Some(halt @ Halt::Unwatched { .. })) if before.as_ref() != Some(halt) => {
                lines.push(line_of_halt(halt));
            }
            (Some(Halt::Unwatched { .. }), None) => {
                lines.push("sallyport: somebody watches; the session goes on".to_owned());
            }
            _ => {}
        }
        lines
    }

    pub(super) fn tighten(&self, constraints: &Constraints, now: Timestamp) -> Vec<String> {
        self.change(|rules| {
            rules.tighten(constraints, now);
            Vec::new()
        })
    }

    pub(super) fn watched_by(&self, watchers: Vec<Watcher>, now: Timestamp) -> Vec<String> {
        self.change(|rules| rules.watched_by(watchers, now))
    }

    pub(super) fn pause(&self, by: Option<PersonName>) -> Vec<String> {
        self.change(|rules| rules.pause(by).into_iter().collect())
    }

    /// Whether a demanded watcher has been missing for too long.
    pub(super) fn is_abandoned(&self, now: Timestamp) -> bool {
        self.rules().is_abandoned(now)
    }

    pub(super) fn has_watchers(&self) -> bool {
        !self.rules().watchers().is_empty()
    }

    pub(super) fn is_halted(&self) -> bool {
        self.is_halted.load(Ordering::Acquire)
    }

    /// Resolves once nothing halts the session.
    pub(super) async fn freed(&self) {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // Registered before looking, so that being freed in between is not missed.
            freed.as_mut().enable();
            if !self.is_halted() {
                return;
            }
            freed.await;
        }
    }

    /// Says a line on every channel that shows lines.
    pub(super) fn say(&self, line: &str) {
        // Without a channel nobody is there to read it; it is in the recording.
        let _ = self.words.send(line.into());
    }

    pub(super) fn words(&self) -> Words {
        Words(self.words.subscribe())
    }

    /// What somebody must know who begins to look now.
    pub(super) fn standing(&self) -> Vec<String> {
        let rules = self.rules();
        let joined = rules.watchers().iter().map(line_of_joined);
        joined
            .chain(rules.halt().as_ref().map(line_of_halt))
            .collect()
    }

    /// A terminal that joined people can type at until it is removed.
    pub(super) fn add_terminal(&self, channel: u32) -> mpsc::Receiver<Typed> {
        let (sender, receiver) = mpsc::channel(TYPED_MAX);
        self.terminals().insert(channel, sender);
        receiver
    }

    pub(super) fn remove_terminal(&self, channel: u32) {
        self.terminals().remove(&channel);
    }

    /// Hands typing to a terminal; returns a line when it was dropped.
    pub(super) fn type_at(
        &self,
        watcher_id: WatcherId,
        channel: u32,
        keystrokes: Keystrokes,
    ) -> Option<String> {
        let person = self.rules().typist(&watcher_id)?.person.clone();
        let terminal = self.terminals().get(&channel).cloned();
        let dropped = format!("sallyport: what {person} typed was dropped");
        let typed = Typed {
            watcher_id,
            person,
            keystrokes,
        };
        match terminal.map(|terminal| terminal.try_send(typed)) {
            Some(Ok(())) => None,
            Some(Err(_)) => Some(format!("{dropped}: the session does not take it")),
            None => Some(format!("{dropped}: there is no terminal")),
        }
    }

    /// Whether who typed still may.
    pub(super) fn may_type(&self, typed: &Typed) -> bool {
        self.rules().typist(&typed.watcher_id).is_some()
    }
}

/// A message to the person of a session, on one line.
pub(super) fn line_of_message(from: &PersonName, text: &str) -> String {
    format!("sallyport: {from} says: {}", escape_controls(text))
}

fn line_of_joined(watcher: &Watcher) -> String {
    let person = &watcher.person;
    if watcher.has_keyboard {
        format!("sallyport: {person} joined and can type")
    } else {
        format!("sallyport: {person} joined and watches")
    }
}

fn line_of_change(change: &Change) -> String {
    match change {
        Change::Joined(watcher) => line_of_joined(watcher),
        Change::Left(watcher) => format!("sallyport: {} left", watcher.person),
        Change::Paused { by } => line_of_halt(&Halt::Paused { by: by.clone() }),
        Change::Resumed => "sallyport: the session is no longer paused".to_owned(),
    }
}

fn line_of_halt(halt: &Halt) -> String {
    match halt {
        Halt::Paused { by } => {
            format!("sallyport: {by} paused the session; nothing passes until it is resumed")
        }
        Halt::Unwatched { wait_s } => format!(
            "sallyport: policy demands that somebody watches; waiting for them. The session ends after \
             {wait_s} s without"
        ),
    }
}

#[cfg(test)]
mod tests;
