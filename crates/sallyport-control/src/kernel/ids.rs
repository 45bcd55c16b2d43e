//! Fresh randomness for ids and codes, from the operating system.

use aws_lc_rs::rand;
use sallyport_core::id::IdEntropy;

/// Ten random bytes for an id.
///
/// # Panics
/// Never in practice: the operating system's generator does not fail once the kernel is up; if it
/// did, going on without randomness would be worse than stopping.
#[must_use]
pub fn entropy() -> IdEntropy {
    let mut bytes = IdEntropy::default();
    fill(&mut bytes);
    bytes
}

/// Fills `bytes` with randomness.
///
/// # Panics
/// As [`entropy`].
#[expect(
    clippy::panic,
    reason = "without randomness no id, code or key is safe; stop"
)]
pub fn fill(bytes: &mut [u8]) {
    if rand::fill(bytes).is_err() {
        panic!("the operating system gives no randomness");
    }
}
