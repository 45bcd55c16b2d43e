//! The one way to start a task: tracked, so that shutdown waits for it, and contained, so that its
//! panic ends nothing but itself and is counted.
//!
//! INVARIANT: every task of the gateway's own code was started here.

use std::{future::Future, panic::AssertUnwindSafe};

use futures_util::FutureExt as _;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

/// The tasks of one gateway process.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
}

impl Tasks {
    /// Starts a task. The handle gives its output, or nothing when it panicked; dropping the handle
    /// lets the task go on.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        // A combinator, not a block: a block keeps what it captures beside what it awaits, and every
        // task would take twice its memory as long as it lives.
        let contained = AssertUnwindSafe(future).catch_unwind();
        self.tracker.spawn(contained.map(move |result| {
            // What the future held was dropped while it unwound, so nobody sees it half-changed.
            if result.is_err() {
                metrics::counter!("sallyport_panics_total", "task" => name).increment(1);
                tracing::error!(task = name, "a task panicked; it alone has ended");
            }
            result.ok()
        }))
    }

    /// Waits until every task has ended.
    pub async fn wait(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_its_own_task_and_no_other() {
        let tasks = Tasks::default();
        let broken = tasks.spawn("broken", async { panic!("as the test wants") });
        let sound = tasks.spawn("sound", async { 7 });
        assert_eq!(broken.await.unwrap(), None::<()>);
        assert_eq!(sound.await.unwrap(), Some(7));
        tasks.wait().await;
    }
}
