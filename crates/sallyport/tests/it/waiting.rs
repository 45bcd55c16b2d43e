//! Waiting for something to become true.

use std::time::{Duration, Instant};

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Looks until there is something to see; stops the test when there never is.
pub fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, look)
}

/// As [`eventually`], for what must come sooner.
pub fn within<T>(patience: Duration, what: &str, look: impl FnMut() -> Option<T>) -> T {
    try_within(patience, look)
        .unwrap_or_else(|| panic!("waited {patience:?}, and still not: {what}"))
}

/// As [`within`], for what may not come.
#[expect(
    clippy::disallowed_methods,
    reason = "what is waited for happens in another process, which tells nobody"
)]
pub fn try_within<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(seen) = look() {
            return Some(seen);
        }
        if start.elapsed() > patience {
            return None;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
}

/// How long something takes.
#[expect(clippy::disallowed_methods, reason = "a test measures")]
pub fn timed<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    (run(), start.elapsed())
}
