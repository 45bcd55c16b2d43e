//! What an operator can set: one struct per concern, every value with a default and its unit.
//!
//! The binary reads the file once and hands the result to [`Control`](crate::kernel::control::Control);
//! nothing here is read again while the process runs.
//!
//! INVARIANT: an unknown key is refused, and no secret stands in the file: secrets are named by the
//! path of the file that holds them.

mod gateway;
mod listen;
mod network;
pub(crate) mod seconds;
mod sign_in;
mod store;
mod vault;
mod webhook;

use serde::Deserialize;

pub use gateway::GatewayDoor;
pub use listen::Listen;
pub use network::{Network, ParseNetworkError};
pub use sign_in::SignInRules;
pub use store::StoreSettings;
pub use vault::VaultSettings;
pub use webhook::Webhook;

/// Everything an operator can set about the control plane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ControlConfig {
    /// Where it listens, and under which names.
    pub listen: Listen,
    /// Where state is kept.
    pub store: StoreSettings,
    /// How long codes and tokens live, and when a name is locked.
    pub sign_in: SignInRules,
    /// How the vault is unsealed at start.
    pub vault: VaultSettings,
    /// Where gateways of this machine meet the control plane.
    pub gateway: GatewayDoor,
    /// Who is told at once of what cannot wait.
    pub webhook: Option<Webhook>,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is not TOML, or a key is unknown or of the wrong kind; the text says which and where.
    #[error("read the configuration")]
    Syntax(#[source] Box<toml::de::Error>),
    /// A value is outside its bounds.
    #[error("setting `{key}` is {found}; it must be {bounds}")]
    Bounds {
        /// The setting.
        key: &'static str,
        /// What it is.
        found: String,
        /// What it may be.
        bounds: &'static str,
    },
}

impl ControlConfig {
    /// Reads the text of a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`] naming the place.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self =
            toml::from_str(text).map_err(|error| ConfigError::Syntax(Box::new(error)))?;
        config.check()?;
        Ok(config)
    }

    /// Checks bounds that types do not.
    ///
    /// # Errors
    /// [`ConfigError::Bounds`] for the first value outside.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.listen.check()?;
        if let Some(webhook) = &self.webhook {
            webhook.check()?;
        }
        self.sign_in.check()
    }
}

#[cfg(test)]
mod tests {
    use std::{error::Error, time::Duration};

    use super::*;

    #[test]
    fn given_an_empty_file_then_every_default_is_safe_and_in_bounds() {
        let config = ControlConfig::parse("").unwrap();
        assert_eq!(config, ControlConfig::default());
        assert!(config.listen.health.ip().is_loopback());
        assert_eq!(config.sign_in.token_ttl, Duration::from_secs(8 * 3600));
        assert_eq!(config.sign_in.failures_max, 5);
    }

    #[test]
    fn given_an_unknown_or_misplaced_key_then_the_message_names_it() {
        for (text, named) in [
            ("colour = 1", "colour"),
            ("[listen]\nport = 1", "port"),
            ("[sign_in]\ntoken_ttl_s = \"8h\"", "8h"),
        ] {
            let error = ControlConfig::parse(text).unwrap_err();
            let cause = error.source().unwrap().to_string();
            assert!(cause.contains(named), "{cause}");
        }
    }

    #[test]
    fn given_a_value_out_of_bounds_then_the_setting_is_named() {
        for (text, key) in [
            ("[sign_in]\ntoken_ttl_s = 10", "sign_in.token_ttl_s"),
            ("[sign_in]\nfailures_max = 0", "sign_in.failures_max"),
            (
                "[sign_in]\nenrolment_ttl_s = 99999999",
                "sign_in.enrolment_ttl_s",
            ),
            ("[listen]\nhealth = \"0.0.0.0:7442\"", "listen.health"),
            ("[listen]\nconnections_max = 0", "listen.connections_max"),
        ] {
            match ControlConfig::parse(text) {
                Err(ConfigError::Bounds { key: found, .. }) => assert_eq!(found, key),
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
