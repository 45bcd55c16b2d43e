//! One client's connection around its session: its number, its login grace and the way to cut it.
//!
//! Made by the listener, shared with the door. INVARIANT: a connection that has opened no session
//! ends when its login grace is used up; only waiting for an approver stops that clock.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sallyport_core::time::{Clock, Timestamp};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::listener::UnprovenSlot;

/// One client's connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) number: u64,
    pub(crate) source: IpAddr,
    /// Cancelled to cut the client's stream.
    pub(crate) cut: CancellationToken,
    pub(crate) grace: Arc<LoginGrace>,
    slot: Mutex<Option<UnprovenSlot>>,
}

impl Connection {
    pub(crate) fn new(
        number: u64,
        source: IpAddr,
        cut: CancellationToken,
        grace: Arc<LoginGrace>,
        slot: Option<UnprovenSlot>,
    ) -> Self {
        Self {
            number,
            source,
            cut,
            grace,
            slot: Mutex::new(slot),
        }
    }

    /// The client proved who it is: it no longer counts against its address.
    pub(crate) fn proven(&self) {
        self.slot
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }
}

/// How much time is left to open a session.
#[derive(Debug)]
pub(crate) struct LoginGrace {
    clock: Arc<dyn Clock>,
    state: Mutex<Grace>,
    changed: Notify,
}

#[derive(Debug)]
struct Grace {
    left: Duration,
    running_since: Timestamp,
    waiting: u32,
    is_over: bool,
}

/// What the clock of a login grace says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GraceLeft {
    /// It runs, and this much is left.
    Running(Duration),
    /// It stands still: somebody waits for an approver, or a session is open.
    Stopped,
}

impl LoginGrace {
    pub(crate) fn new(grace: Duration, clock: Arc<dyn Clock>) -> Self {
        let state = Grace {
            left: grace,
            running_since: clock.now(),
            waiting: 0,
            is_over: false,
        };
        Self {
            clock,
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, Grace> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is left now.
    pub(crate) fn left(&self) -> GraceLeft {
        let state = self.state();
        if state.is_over || state.waiting > 0 {
            return GraceLeft::Stopped;
        }
        GraceLeft::Running(
            state
                .left
                .saturating_sub(self.clock.now().since(state.running_since)),
        )
    }

    /// Stops the clock while the returned value lives.
    pub(crate) fn pause(self: &Arc<Self>) -> Pause {
        {
            let mut state = self.state();
            if state.waiting == 0 {
                let used = self.clock.now().since(state.running_since);
                state.left = state.left.saturating_sub(used);
            }
            state.waiting = state.waiting.saturating_add(1);
        }
        self.changed.notify_one();
        Pause(Arc::clone(self))
    }

    /// A session is open: the grace no longer matters.
    pub(crate) fn finish(&self) {
        self.state().is_over = true;
        self.changed.notify_one();
    }

    /// Resolves when the grace is used up.
    pub(crate) async fn used_up(&self) {
        loop {
            match self.left() {
                GraceLeft::Running(Duration::ZERO) => return,
                GraceLeft::Running(left) => {
                    tokio::select! {
                        () = tokio::time::sleep(left) => {}
                        () = self.changed.notified() => {}
                    }
                }
                GraceLeft::Stopped => self.changed.notified().await,
            }
        }
    }
}

/// A login grace that stands still.
#[derive(Debug)]
pub(crate) struct Pause(Arc<LoginGrace>);

impl Drop for Pause {
    fn drop(&mut self) {
        {
            let mut state = self.0.state();
            state.waiting = state.waiting.saturating_sub(1);
            if state.waiting == 0 {
                state.running_since = self.0.clock.now();
            }
        }
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ManualClock;

    /// AC-1
    #[tokio::test]
    async fn waiting_for_an_approver_does_not_use_up_the_login_grace() {
        let clock = ManualClock::start();
        let grace = Arc::new(LoginGrace::new(Duration::from_secs(120), clock.clone()));
        clock.advance(Duration::from_secs(100));
        let pause = grace.pause();
        clock.advance(Duration::from_secs(3_600));
        assert_eq!(grace.left(), GraceLeft::Stopped);
        drop(pause);
        assert_eq!(grace.left(), GraceLeft::Running(Duration::from_secs(20)));
        clock.advance(Duration::from_secs(20));
        grace.used_up().await;
    }

    #[tokio::test]
    async fn an_open_session_ends_the_grace_for_good() {
        let clock = ManualClock::start();
        let grace = Arc::new(LoginGrace::new(Duration::from_secs(120), clock.clone()));
        grace.finish();
        drop(grace.pause());
        clock.advance(Duration::from_secs(3_600));
        assert_eq!(grace.left(), GraceLeft::Stopped);
    }
}
