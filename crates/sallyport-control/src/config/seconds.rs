//! Durations in a configuration file: whole seconds, under a key that ends in `_s`.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::ConfigError;

/// For `#[serde(deserialize_with = …)]`.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_secs)
}

/// Refuses a duration outside `least` to `most` seconds.
pub(crate) fn check(
    key: &'static str,
    value: Duration,
    least_s: u64,
    most_s: u64,
    bounds: &'static str,
) -> Result<(), ConfigError> {
    if (least_s..=most_s).contains(&value.as_secs()) {
        Ok(())
    } else {
        Err(ConfigError::Bounds {
            key,
            found: value.as_secs().to_string(),
            bounds,
        })
    }
}
