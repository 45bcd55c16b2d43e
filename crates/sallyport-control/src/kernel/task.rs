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
/// logged and counted as with [`spawn`].
pub async fn run<T: Send + 'static>(
    name: &'static str,
    task: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let (sender, result) = oneshot::channel();
    spawn(name, async move {
        let _ = sender.send(task.await);
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
