//! The `ssh_ca` engine: for each session a fresh Ed25519 key and an OpenSSH user certificate for it,
//! signed by the authority that targets trust. Nothing that opens a target exists before the session or
//! outlasts its grant.
//!
//! INVARIANT: a certificate names exactly one principal, permits no X11 and no user rc, and ends with
//! the grant or earlier; checked on the bytes that are signed ([`certificate`](crate::certificate)).
//!
//! Not here: revocation lists. A certificate is valid for minutes, and its key never leaves the memory
//! of the gateway whose session it is; revoking is waiting for its end.

use std::time::Duration;

use async_trait::async_trait;
use ipnet::IpNet;
use russh::keys::ssh_key::{LineEnding, PrivateKey, private::Ed25519Keypair};
use sallyport_core::{
    authz::Permit,
    descriptor::{Descriptor, Setting},
    id::AccountId,
    lease::{Lease, expiry},
    secret::{Secret, SecretBytes, SecretString},
    time::Timestamp,
};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    CredentialMaterial, Engine, EngineError, IssueContext, Issued, RevokeContext,
    settings::Settings,
};
use crate::{
    certificate::{CertificateError, CertificateTerms, SshAuthority, check_principal},
    secret_store::SecretPath,
};

const KIND: &str = "ssh_ca";
/// Targets whose clock runs this far behind still accept a fresh certificate.
const CLOCK_SKEW: Duration = Duration::from_secs(60);
/// Valid for this long unless the setting `ttl_s` says otherwise: time to log in, no more.
const TTL_S_DEFAULT: u64 = 300;
/// Bounds of the setting.
const TTL_S: std::ops::RangeInclusive<u64> = 10..=3_600;

/// What a target may let the gateway do (OpenSSH's `PROTOCOL.certkeys`). Whether its client may, is decided
/// by policy for each channel; a target that forbids it all the same has its own settings for that.
const EXTENSIONS: [&str; 3] = [
    "permit-agent-forwarding",
    "permit-port-forwarding",
    "permit-pty",
];

/// See the module.
#[derive(Debug)]
pub(super) struct SshCa;

#[derive(Debug)]
struct SshCaSettings {
    principal: Option<String>,
    ttl: Duration,
    source_address: Option<String>,
}

#[async_trait]
impl Engine for SshCa {
    fn describe(&self) -> Descriptor {
        let setting = |name: &str, purpose: &str| Setting {
            name: name.to_owned(),
            purpose: purpose.to_owned(),
            is_required: false,
        };
        Descriptor {
            kind: KIND.to_owned(),
            title: "SSH certificate for each session".to_owned(),
            settings: vec![
                setting(
                    "principal",
                    "the name in the certificate; the account's unless given",
                ),
                setting(
                    "source_address",
                    "networks the target accepts it from, as a.b.c.d/n,…",
                ),
                setting(
                    "ttl_s",
                    "seconds it is valid for logging in, 10 to 3600; 300 by default",
                ),
            ],
            operations: Vec::new(),
            secrets_needed: Vec::new(),
        }
    }

    fn check_settings(&self, settings: &Value) -> Result<(), EngineError> {
        self.read_settings(settings).map(|_| ())
    }

    fn secret_paths(&self, _account_id: &AccountId) -> Vec<SecretPath> {
        vec![SecretPath::ssh_authority()]
    }

    fn accept_secret(
        &self,
        _account_id: &AccountId,
        _kind: &str,
        _value: &SecretString,
    ) -> Result<(SecretPath, SecretBytes), EngineError> {
        Err(EngineError::TakesNoSecret { engine: KIND })
    }

    async fn issue(
        &self,
        permit: &Permit,
        context: IssueContext<'_>,
    ) -> Result<Issued, EngineError> {
        let settings = self.read_settings(context.settings)?;
        let terms = permit.terms();
        let ends = expiry(context.now, settings.ttl, terms.expires_at);
        if ends.unix_s() <= context.now.unix_s() {
            return Err(EngineError::PermitEnded {
                ended: terms.expires_at,
            });
        }
        let authority = SshAuthority::from_secret(&context.open(&SecretPath::ssh_authority())?)
            .map_err(EngineError::Certificate)?;
        let entropy = context.vault.entropy();
        let mut seed = Zeroizing::new([0; 32]);
        entropy.fill(&mut *seed);
        let key = PrivateKey::from(Ed25519Keypair::from_seed(&seed));
        let wanted = CertificateTerms {
            public_key: key.public_key().key_data().clone(),
            serial: u64::from_be_bytes(entropy.draw()),
            key_id: format!(
                "sallyport:{}:{}",
                terms.session_id, terms.question.principal.name
            ),
            principal: settings
                .principal
                .unwrap_or_else(|| terms.question.account.name.to_string()),
            valid_after_s: context.now.minus(CLOCK_SKEW).unix_s(),
            valid_before_s: ends.unix_s(),
            critical_options: settings
                .source_address
                .map(|networks| ("source-address".to_owned(), networks))
                .into_iter()
                .collect(),
            extensions: EXTENSIONS
                .map(|name| (name.to_owned(), String::new()))
                .into(),
        };
        let certificate = authority
            .issue(&wanted, entropy)
            .and_then(|signed| signed.to_openssh().map_err(CertificateError::Build))
            .map_err(EngineError::Certificate)?;
        Ok(Issued {
            content: CredentialMaterial::PrivateKey {
                pem: to_pem(&key)?,
                certificate: Some(certificate),
            },
            expires_at: whole_seconds(ends),
            handle: Some(wanted.serial.to_string()),
        })
    }

    async fn revoke(&self, _lease: &Lease, _context: RevokeContext<'_>) -> Result<(), EngineError> {
        // The certificate ends by itself, with the grant at the latest; see the module.
        Ok(())
    }
}

impl SshCa {
    fn read_settings(&self, settings: &Value) -> Result<SshCaSettings, EngineError> {
        let settings = Settings::read(KIND, &self.describe(), settings)?;
        let principal = settings.text("principal");
        if principal.is_some_and(|principal| check_principal(principal).is_err()) {
            return Err(settings.refuse(
                "principal",
                "is empty, too long, or holds `,` `*` `/`, white space or a control character",
            ));
        }
        let ttl_s = match settings.text("ttl_s") {
            None => TTL_S_DEFAULT,
            Some(text) => text
                .parse()
                .ok()
                .filter(|ttl_s| TTL_S.contains(ttl_s))
                .ok_or_else(|| settings.refuse("ttl_s", "must be 10 to 3600"))?,
        };
        let source_address = settings.text("source_address");
        if source_address.is_some_and(|networks| !networks.split(',').all(is_network)) {
            return Err(settings.refuse(
                "source_address",
                "must be networks such as 192.0.2.0/24, joined by commas, host bits zero",
            ));
        }
        Ok(SshCaSettings {
            principal: principal.map(str::to_owned),
            ttl: Duration::from_secs(ttl_s),
            source_address: source_address.map(str::to_owned),
        })
    }
}

/// As OpenSSH wants it: an address or a network, no bits set beyond the prefix.
fn is_network(text: &str) -> bool {
    let is_canonical = |network: IpNet| network.trunc() == network && network.to_string() == text;
    text.parse::<std::net::IpAddr>()
        .is_ok_and(|address| address.to_string() == text)
        || text.parse().is_ok_and(is_canonical)
}

fn to_pem(key: &PrivateKey) -> Result<SecretString, EngineError> {
    let mut pem = key
        .to_openssh(LineEnding::LF)
        .map_err(EngineError::SessionKey)?;
    Ok(Secret::new(std::mem::take(&mut *pem)))
}

/// Certificates know whole seconds only.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_unix_ms(time.unix_ms().saturating_sub(time.unix_ms() % 1_000))
}
