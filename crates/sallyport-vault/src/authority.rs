//! The authority for people: certificates that `sallyport login` fetches, which our own gateways accept
//! as proof of who somebody is.
//!
//! Called by control: it issues at sign-in, and checks what a gateway presents. Checking needs the
//! authority's public key only, so it works while the vault is sealed.
//!
//! INVARIANT: this authority's key is another than the one targets trust
//! ([`SecretPath::ssh_user_authority`](crate::SecretPath::ssh_user_authority)), so that a certificate for
//! a person opens no target, and one for a target proves nobody.

use std::{collections::BTreeMap, time::Duration};

use russh::keys::ssh_key::{
    self, Certificate, HashAlg, PublicKey, certificate::CertType, public::KeyData,
};
use sallyport_core::{
    entropy::Entropy,
    principal::{ParsePersonNameError, PersonName},
    time::Timestamp,
};

use crate::certificate::{CertificateError, CertificateTerms, SshAuthority, check_public_key};

/// Gateways whose clock runs this far behind still accept a fresh certificate.
const CLOCK_SKEW: Duration = Duration::from_secs(60);
/// Longest certificate looked at: RSA keys of the largest size and generous names fit.
const MAX_CERTIFICATE_BYTES: usize = 16 * 1024;

/// What a person's certificate shall say.
#[derive(Clone, Debug)]
pub struct UserCertificate {
    /// The person: the one principal.
    pub person: PersonName,
    /// What servers log and [`verify_user_certificate`] gives back; 1 to 255 printable characters.
    pub key_id: String,
    /// The key to certify, in OpenSSH's one-line form.
    pub public_key: String,
    /// Now.
    pub now: Timestamp,
    /// First moment it is no longer valid.
    pub valid_until: Timestamp,
}

/// An issued certificate, and what to record of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedUserCertificate {
    /// In OpenSSH's one-line form.
    pub certificate: String,
    /// Its number.
    pub serial: u64,
    /// SHA-256 fingerprint of the certified key.
    pub fingerprint: String,
    /// Its end, in whole seconds.
    pub expires_at: Timestamp,
}

/// What a checked certificate proves, to whoever also saw a signature by its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedUserCertificate {
    /// Whose it is.
    pub person: PersonName,
    /// The key id it was issued with.
    pub key_id: String,
    /// Its number.
    pub serial: u64,
    /// The certified key, in OpenSSH's one-line form without comment.
    pub public_key: String,
    /// SHA-256 fingerprint of the certified key.
    pub fingerprint: String,
    /// Its end.
    pub expires_at: Timestamp,
}

/// Why a certificate proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The trusted key cannot be read. Ours to fix.
    #[error("read the public key of the authority for people")]
    Authority(#[source] ssh_key::Error),
    /// It cannot be read.
    #[error("read a certificate")]
    Read(#[source] Option<ssh_key::Error>),
    /// Another authority signed it, or nobody.
    #[error("check who signed a certificate: not the authority for people")]
    OtherAuthority,
    /// The signature is not over this content.
    #[error("check the signature of a certificate")]
    Signature(#[source] ssh_key::Error),
    /// Its time has not come: a clock is wrong.
    #[error("accept a certificate that begins at {from}")]
    NotYetValid {
        /// First moment.
        from: Timestamp,
    },
    /// Its time is over.
    #[error("accept a certificate that ended at {until}: run `sallyport login`")]
    Expired {
        /// First moment after.
        until: Timestamp,
    },
    /// It is for a host.
    #[error("check the type of a certificate: it is not for a user")]
    NotForAUser,
    /// It names none, or several.
    #[error("check the principals of a certificate: {count} instead of one")]
    Principals {
        /// How many.
        count: usize,
    },
    /// Its principal is no person's name.
    #[error("read the person a certificate names")]
    Person(#[source] ParsePersonNameError),
    /// The name is not spelt as this authority spells it.
    #[error("read the person a certificate names: `{principal}` is not the canonical spelling")]
    Spelling {
        /// The name found.
        principal: String,
    },
    /// It demands what we do not enforce.
    #[error("enforce the critical option `{name}` of a certificate: unknown")]
    CriticalOption {
        /// Which.
        name: String,
    },
    /// Its key is weak, unknown, or a certificate.
    #[error("accept the key of a certificate")]
    Key(#[source] CertificateError),
}

impl SshAuthority {
    /// Issues a person's certificate: one principal, valid from a minute ago, permitting a terminal and
    /// nothing else (gateways refuse forwarding by policy in any case).
    ///
    /// # Errors
    /// [`CertificateError`]: a weak or unreadable key, or an end that has passed.
    pub fn issue_user_certificate(
        &self,
        wanted: &UserCertificate,
        entropy: &dyn Entropy,
    ) -> Result<IssuedUserCertificate, CertificateError> {
        let public_key = read_public_key(&wanted.public_key).map_err(CertificateError::Build)?;
        let valid_before_s = wanted.valid_until.unix_s();
        if valid_before_s <= wanted.now.unix_s() {
            return Err(CertificateError::Ended {
                ends: wanted.valid_until,
            });
        }
        let terms = CertificateTerms {
            public_key: public_key.key_data().clone(),
            serial: u64::from_be_bytes(entropy.draw()),
            key_id: wanted.key_id.clone(),
            principal: wanted.person.as_str().to_owned(),
            valid_after_s: wanted.now.minus(CLOCK_SKEW).unix_s(),
            valid_before_s,
            critical_options: BTreeMap::new(),
            extensions: BTreeMap::from([("permit-pty".to_owned(), String::new())]),
        };
        let certificate = self.issue(&terms, entropy)?;
        Ok(IssuedUserCertificate {
            certificate: certificate.to_openssh().map_err(CertificateError::Build)?,
            serial: terms.serial,
            fingerprint: terms.public_key.fingerprint(HashAlg::Sha256).to_string(),
            expires_at: from_unix_s(valid_before_s),
        })
    }
}

/// Checks a certificate against the authority for people at `now`. The caller must also have seen that
/// the client holds the certified key.
///
/// `authority` is the authority's public key in OpenSSH's one-line form, compared whole.
///
/// # Errors
/// [`VerifyError`]. The client is told none of it.
pub fn verify_user_certificate(
    certificate: &str,
    authority: &str,
    now: Timestamp,
) -> Result<VerifiedUserCertificate, VerifyError> {
    let authority = read_public_key(authority).map_err(VerifyError::Authority)?;
    if certificate.len() > MAX_CERTIFICATE_BYTES {
        return Err(VerifyError::Read(None));
    }
    let certificate =
        Certificate::from_openssh(certificate).map_err(|error| VerifyError::Read(Some(error)))?;
    // The whole key, not its fingerprint; and never a certificate in a key's place (class A17).
    if certificate.signature_key() != authority.key_data()
        || !matches!(certificate.signature_key(), KeyData::Ed25519(_))
    {
        return Err(VerifyError::OtherAuthority);
    }
    // At a time within its validity, so that what can fail is the signature alone.
    certificate
        .validate_at(
            certificate.valid_after(),
            [&authority.fingerprint(HashAlg::Sha256)],
        )
        .map_err(VerifyError::Signature)?;
    let from = from_unix_s(certificate.valid_after());
    let until = from_unix_s(certificate.valid_before());
    if now < from {
        return Err(VerifyError::NotYetValid { from });
    }
    if until <= now {
        return Err(VerifyError::Expired { until });
    }
    if certificate.cert_type() != CertType::User {
        return Err(VerifyError::NotForAUser);
    }
    let [principal] = certificate.valid_principals() else {
        return Err(VerifyError::Principals {
            count: certificate.valid_principals().len(),
        });
    };
    let person = read_person(principal)?;
    if let Some(name) = certificate.critical_options().keys().next() {
        return Err(VerifyError::CriticalOption {
            name: name.chars().take(64).collect(),
        });
    }
    check_public_key(certificate.public_key()).map_err(VerifyError::Key)?;
    let public_key = PublicKey::from(certificate.public_key().clone());
    Ok(VerifiedUserCertificate {
        person,
        key_id: certificate.key_id().to_owned(),
        serial: certificate.serial(),
        fingerprint: public_key.fingerprint(HashAlg::Sha256).to_string(),
        public_key: public_key
            .to_openssh()
            .map_err(|error| VerifyError::Read(Some(error)))?,
        expires_at: until,
    })
}

/// Exactly the canonical name: parsing alone would forgive another spelling.
fn read_person(principal: &str) -> Result<PersonName, VerifyError> {
    let person: PersonName = principal.parse().map_err(VerifyError::Person)?;
    if person.as_str() == principal {
        return Ok(person);
    }
    // It parsed once trimmed and lowered, so it holds nothing that is unsafe to print but white space.
    Err(VerifyError::Spelling {
        principal: principal.trim().chars().take(64).collect(),
    })
}

fn read_public_key(text: &str) -> ssh_key::Result<PublicKey> {
    if text.len() > MAX_CERTIFICATE_BYTES {
        return Err(ssh_key::Error::FormatEncoding);
    }
    PublicKey::from_openssh(text)
}

fn from_unix_s(unix_s: u64) -> Timestamp {
    Timestamp::from_unix_ms(i64::try_from(unix_s.saturating_mul(1_000)).unwrap_or(i64::MAX))
}
