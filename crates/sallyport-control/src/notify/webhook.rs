//! One signed webhook: posts a notice, and says whether the far side took it.
//!
//! The key is read from its file for every notice, so that it can be replaced while the process runs.
//!
//! INVARIANT: nothing is sent unsigned, redirects are not followed, and no byte of an answer's body is
//! read: the status says everything.

use std::time::Duration;

use aws_lc_rs::hmac;
use reqwest::{Client, StatusCode, header, redirect};
use sallyport_core::time::Timestamp;
use zeroize::Zeroizing;

use super::store::Notice;
use crate::{
    config::Webhook,
    kernel::node_directory::{NodeDirectory, NodeDirectoryError},
};

/// Carries time and signature: `t=<Unix seconds>,v1=<hexadecimal HMAC-SHA256>`.
pub const SIGNATURE_HEADER: &str = "x-sallyport-signature";
/// Carries the notice's id, the same in every attempt.
pub const NOTICE_HEADER: &str = "x-sallyport-notice";

/// For everything from the name look-up to the head of the answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A shorter key can be guessed.
const KEY_BYTES_MIN: usize = 16;

/// Why a notice did not arrive, as far as we know. It may have: the far side must tolerate repeats.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// No client can be made, as when the system has no certificate authorities.
    #[error("prepare to call the webhook")]
    Client(#[source] reqwest::Error),
    /// The signing key cannot be read.
    #[error("read the webhook's signing key")]
    ReadKey(#[source] NodeDirectoryError),
    /// The signing key is too short.
    #[error("the webhook's signing key has {length} bytes; it needs {KEY_BYTES_MIN} or more")]
    ShortKey {
        /// How long it is.
        length: usize,
    },
    /// The far side was not reached, or did not answer in time.
    #[error("call the webhook")]
    Send(#[source] reqwest::Error),
    /// The far side did not take it.
    #[error("the webhook answered {status}; 2xx means taken")]
    Status {
        /// What it answered.
        status: StatusCode,
    },
}

/// Where notices go.
pub(super) struct Endpoint {
    client: Client,
    webhook: Webhook,
}

impl Endpoint {
    pub(super) fn new(webhook: &Webhook) -> Result<Self, WebhookError> {
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(TIMEOUT)
            .user_agent(concat!("sallyport/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(WebhookError::Client)?;
        Ok(Self {
            client,
            webhook: webhook.clone(),
        })
    }

    /// Posts a notice. `Ok` means that the far side took it.
    pub(super) async fn post(
        &self,
        directory: &NodeDirectory,
        notice: &Notice,
        now: Timestamp,
    ) -> Result<(), WebhookError> {
        let key = read_key(directory, &self.webhook)?;
        let response = self
            .client
            .post(&self.webhook.url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(SIGNATURE_HEADER, signature(&key, now, &notice.body))
            .header(NOTICE_HEADER, &notice.id)
            .body(notice.body.clone())
            .send()
            .await
            // An URL can hold a secret of the receiver's; it stays out of logs.
            .map_err(|error| WebhookError::Send(error.without_url()))?;
        match response.status() {
            status if status.is_success() => Ok(()),
            status => Err(WebhookError::Status { status }),
        }
    }
}

fn read_key(
    directory: &NodeDirectory,
    webhook: &Webhook,
) -> Result<Zeroizing<Vec<u8>>, WebhookError> {
    let mut key = directory
        .read_secret_file(&webhook.secret_file)
        .map_err(WebhookError::ReadKey)?;
    while key.last().is_some_and(u8::is_ascii_whitespace) {
        key.pop();
    }
    if key.len() < KEY_BYTES_MIN {
        return Err(WebhookError::ShortKey { length: key.len() });
    }
    Ok(key)
}

/// The time and the HMAC-SHA256 (RFC 2104) of time and body, so that an old notice cannot be sent again
/// under a new time.
fn signature(key: &[u8], now: Timestamp, body: &str) -> String {
    let at = now.unix_s();
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let tag = hmac::sign(&key, format!("{at}.{body}").as_bytes());
    format!("t={at},v1={}", hex::encode(tag.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_notice_then_its_signature_is_the_documented_one() {
        // The example of docs/plugins/notification-channel/webhook.md, computed with openssl.
        let signed = signature(
            b"0123456789abcdef0123456789abcdef",
            Timestamp::from_unix_ms(1_795_355_040_999),
            r#"{"kind":"request.created"}"#,
        );
        assert_eq!(signed, EXAMPLE);
    }

    const EXAMPLE: &str =
        "t=1795355040,v1=d95e2db51ac7559d4a173d436a764eac86ad59d897c18e4ad46697a086d27a78";
}
