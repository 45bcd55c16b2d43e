//! Golden files and settings of the test run.

use std::path::{Path, PathBuf};

pub fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata/log")
        .join(name)
}

/// Compares with a golden file, or writes it when `UPDATE_EXPECT` is set.
pub fn check(name: &str, bytes: &[u8]) {
    let path = testdata(name);
    if setting("UPDATE_EXPECT").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
    }
    let golden = std::fs::read(&path).unwrap_or_else(|error| panic!("read {name}: {error}"));
    assert!(
        golden == bytes,
        "{name} is not what the tests generate; if the format was to change, run with UPDATE_EXPECT=1"
    );
}

/// How many random mutations to try: 2,000 times the effort. Read here, because this crate stands on
/// nothing of ours, its tests neither.
pub fn mutations() -> usize {
    2_000 * setting("SALLYPORT_TEST_EFFORT").map_or(1, |effort| effort.parse().unwrap())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test run has no configuration but its environment"
)]
pub fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
