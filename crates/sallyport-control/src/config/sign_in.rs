//! Lives of codes and tokens, and the lock-out.

use std::time::Duration;

use serde::Deserialize;

use super::{ConfigError, Network, seconds};

/// How long what proves a person lives, and when a name is locked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SignInRules {
    /// Life of an enrolment code. 24 hours unless set.
    #[serde(rename = "enrolment_ttl_s", deserialize_with = "seconds::deserialize")]
    pub enrolment_ttl: Duration,
    /// Life of a sign-in token and of the SSH certificate made with it. 8 hours unless set.
    #[serde(rename = "token_ttl_s", deserialize_with = "seconds::deserialize")]
    pub token_ttl: Duration,
    /// Failures in a row, over all doors, after which a name is locked. 5 unless set.
    pub failures_max: u32,
    /// How long it stays locked. 15 minutes unless set.
    #[serde(rename = "lock_out_s", deserialize_with = "seconds::deserialize")]
    pub lock_out: Duration,
    /// Networks whose addresses get no penalties for failing: those that stand for many people, such as a
    /// proxy. This machine alone unless set.
    pub penalties_exempt: Vec<Network>,
}

impl Default for SignInRules {
    fn default() -> Self {
        Self {
            enrolment_ttl: Duration::from_secs(24 * 3600),
            token_ttl: Duration::from_secs(8 * 3600),
            failures_max: 5,
            lock_out: Duration::from_secs(15 * 60),
            penalties_exempt: Network::loopback().to_vec(),
        }
    }
}

impl SignInRules {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        seconds::check(
            "sign_in.enrolment_ttl_s",
            self.enrolment_ttl,
            60,
            7 * 24 * 3600,
            "60 seconds to 7 days",
        )?;
        seconds::check(
            "sign_in.token_ttl_s",
            self.token_ttl,
            60,
            24 * 3600,
            "60 seconds to 24 hours",
        )?;
        seconds::check(
            "sign_in.lock_out_s",
            self.lock_out,
            60,
            24 * 3600,
            "60 seconds to 24 hours",
        )?;
        if !(1..=20).contains(&self.failures_max) {
            return Err(ConfigError::Bounds {
                key: "sign_in.failures_max",
                found: self.failures_max.to_string(),
                bounds: "1 to 20",
            });
        }
        Ok(())
    }
}
