//! Tells those who wait that something about requests, grants or sessions changed; what changed they
//! read themselves.

use tokio::sync::watch;

/// A bell. Waiting is cheap and misses nothing that rang after [`Changes::subscribe`].
#[derive(Debug, Default)]
pub struct Changes(watch::Sender<()>);

impl Changes {
    /// Rings, after the change is durable.
    pub fn touch(&self) {
        self.0.send_replace(());
    }

    /// A receiver that hears every ring from now on.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.0.subscribe()
    }
}
