//! Tasks with a name: a panic in one is logged and counted, never silent.

use std::future::Future;

use tokio::task::JoinHandle;

/// Spawns a task whose panic is logged and counted.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the control plane spawns"
)]
pub fn spawn(
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    let running = tokio::spawn(task);
    tokio::spawn(async move {
        if let Err(error) = running.await
            && error.is_panic()
        {
            metrics::counter!("sallyport_panics_total", "task" => name).increment(1);
            tracing::error!(task = name, "a task panicked");
        }
    })
}
