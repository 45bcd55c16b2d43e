//! Tasks with a name: a panic in one is logged and counted, never silent.

use std::{future::Future, panic::AssertUnwindSafe};

use futures_util::FutureExt as _;
use tokio::{sync::oneshot, task::JoinHandle};

/// Spawns a task whose panic is logged and counted.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the control plane spawns"
)]
pub fn spawn(
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        if AssertUnwindSafe(task).catch_unwind().await.is_err() {
            metrics::counter!("sallyport_panics_total", "task" => name).increment(1);
            tracing::error!(task = name, "a task panicked");
        }
    })
}

/// Runs `task` to its end, also when nobody waits for it any more. `None` when it panicked; that is
/// logged and counted as with [`spawn`]. What `task` held is gone when its result arrives.
pub async fn run<T: Send + 'static>(
    name: &'static str,
    task: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let (sender, result) = oneshot::channel();
    spawn(name, async move {
        let done = task.await;
        // Nobody may wait for it any more.
        let _ = sender.send(done);
    });
    result.await.ok()
}

/// Runs blocking work on a thread of its own. `None` when it panicked; that is logged and counted.
pub async fn blocking<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Some(done),
        Err(error) => {
            if error.is_panic() {
                metrics::counter!("sallyport_panics_total", "task" => name).increment(1);
                tracing::error!(task = name, "blocking work panicked");
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test names the line")]
    #![expect(
        clippy::disallowed_methods,
        reason = "a thread that loses its core is what is played"
    )]

    use std::{sync::mpsc, time::Duration};

    use super::run;

    /// Takes its time to go, as a thread does that loses its core.
    struct Held(mpsc::SyncSender<()>);

    impl Drop for Held {
        fn drop(&mut self) {
            std::thread::sleep(Duration::from_millis(100));
            self.0.send(()).unwrap();
        }
    }

    /// A handle to the store that outlives the answer keeps whoever opens the store next out.
    #[tokio::test(flavor = "multi_thread")]
    async fn given_a_result_then_what_its_task_held_is_gone() {
        let (sender, gone) = mpsc::sync_channel(1);
        let held = Held(sender);
        let done = run("test", async move {
            tokio::task::yield_now().await;
            let _held = &held;
            1
        });
        assert_eq!(done.await, Some(1));
        gone.try_recv().unwrap();
    }
}
