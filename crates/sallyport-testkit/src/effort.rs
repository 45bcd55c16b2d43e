//! How hard tests of faults and attacks try: little on every change, much before a release.
//!
//! `SALLYPORT_TEST_EFFORT=20 cargo xtask test` does twenty times the rounds. What each test does at
//! effort 1, and what was run at more, stands in `docs/assurance.md`.

/// The variable that says how hard.
pub const VARIABLE: &str = "SALLYPORT_TEST_EFFORT";

/// `rounds` at effort 1, in proportion at more.
///
/// # Panics
/// When the variable is set to anything but a whole number from 1 on: a mistyped effort must not
/// pass for a long run.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    clippy::panic,
    reason = "tests have no configuration but their environment, and stop at the first surprise"
)]
pub fn rounds(rounds: usize) -> usize {
    let effort = match std::env::var(VARIABLE) {
        Err(_) => 1,
        Ok(text) => match text.parse::<usize>() {
            Ok(effort) if effort >= 1 => effort,
            _ => panic!("`{VARIABLE}` must be a whole number from 1 on, not `{text}`"),
        },
    };
    rounds.saturating_mul(effort)
}
