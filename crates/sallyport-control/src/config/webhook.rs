//! Who is told at once of what cannot wait, such as break-glass.

use std::{net::IpAddr, path::PathBuf};

use serde::Deserialize;

use super::ConfigError;

/// A signed webhook.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Where notices are posted; `https`, or `http` on a loopback address.
    pub url: String,
    /// File that holds the key notices are signed with, 16 bytes or more; readable by its owner only.
    pub secret_file: PathBuf,
}

impl Webhook {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let is_accepted = reqwest::Url::parse(&self.url).is_ok_and(|url| match url.scheme() {
            "https" => url.has_host(),
            "http" => url.host_str().is_some_and(is_loopback),
            _ => false,
        });
        if is_accepted {
            return Ok(());
        }
        Err(ConfigError::Bounds {
            key: "webhook.url",
            // Not the URL itself: it can hold a secret of the receiver's.
            found: "another kind of URL".to_owned(),
            bounds: "https://…, or http:// with a loopback address",
        })
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_webhook_in_clear_to_elsewhere_then_it_is_refused_without_showing_the_url() {
        let check = |url: &str| {
            let secret_file = PathBuf::from("/etc/sallyport/webhook.key");
            Webhook {
                url: url.to_owned(),
                secret_file,
            }
            .check()
        };
        for url in [
            "https://hooks.example/T0/B0",
            "http://127.0.0.1:8080/x",
            "http://[::1]:8080/",
            "http://localhost/",
        ] {
            assert!(check(url).is_ok(), "{url}");
        }
        for url in [
            "http://hooks.example/token",
            "http://127.0.0.1.example/token",
            "ftp://127.0.0.1/token",
            "token",
            "",
        ] {
            let error = check(url).unwrap_err().to_string();
            assert!(
                error.contains("webhook.url") && !error.contains("token"),
                "{error}"
            );
        }
    }
}
