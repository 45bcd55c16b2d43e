//! OpenSSH user certificates (`PROTOCOL.certkeys` of OpenSSH): what an authority of ours may sign, and
//! signing it.
//!
//! Called by the `ssh_ca` engine, for targets, and by [`authority`](crate::authority), for our own
//! gateways.
//!
//! INVARIANT: the authority reads the very bytes it is about to sign and signs only if they say what was
//! asked for and nothing else; the finished certificate is read and compared once more (security classes
//! A17 and D9: a constraint that is checked on the input only is not checked).

use std::collections::BTreeMap;

use russh::keys::{
    signature::{self, Signer},
    ssh_key::{
        self, Certificate, HashAlg, PublicKey, Signature,
        certificate::{Builder, CertType},
        public::KeyData,
    },
};
use sallyport_core::{entropy::Entropy, secret::SecretBytes, time::Timestamp};

use crate::{authority_key::AuthorityKey, signing::NotASigningKey};

/// Least bits of an RSA key.
const RSA_BITS_MIN: u32 = 3_072;
/// Most bits of an RSA key: a larger one only costs whoever verifies.
const RSA_BITS_MAX: u32 = 16_384;
/// Longest key id and principal.
const MAX_NAME_BYTES: usize = 255;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The authority's secret is not a key.
    #[error("read the key of an SSH authority")]
    Authority(#[source] NotASigningKey),
    /// The principal would mean more than one name.
    #[error(
        "`{principal}` cannot be a principal: it is empty, too long, or holds `,` `*` `/`, white space or a control character"
    )]
    Principal {
        /// As given, without control characters.
        principal: String,
    },
    /// The key is of a kind or size we do not certify.
    #[error(
        "certify a key of kind `{algorithm}`: use ed25519, ecdsa, their security-key forms, or rsa of {RSA_BITS_MIN} bits or more"
    )]
    Key {
        /// Its kind.
        algorithm: String,
    },
    /// It would be valid for no time at all.
    #[error("issue a certificate that has ended at {ends}")]
    Ended {
        /// When it would end.
        ends: Timestamp,
    },
    /// What was built is not what was asked for: a mistake of ours or of the library.
    #[error("sign a certificate: its `{field}` is not what was asked for")]
    Mismatch {
        /// The field that differs.
        field: &'static str,
    },
    /// The library refused.
    #[error("build a certificate")]
    Build(#[source] ssh_key::Error),
}

/// Everything a certificate says, before it is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertificateTerms {
    /// The key it is for.
    pub(crate) public_key: KeyData,
    /// Number of this certificate.
    pub(crate) serial: u64,
    /// What the server writes to its log.
    pub(crate) key_id: String,
    /// The one name it is good for.
    pub(crate) principal: String,
    /// First second, since the Unix epoch.
    pub(crate) valid_after_s: u64,
    /// First second after.
    pub(crate) valid_before_s: u64,
    /// What a server must understand and enforce.
    pub(crate) critical_options: BTreeMap<String, String>,
    /// What it permits.
    pub(crate) extensions: BTreeMap<String, String>,
}

/// The key of an SSH authority.
#[derive(Debug)]
pub struct SshAuthority(AuthorityKey);

impl SshAuthority {
    /// Draws the key of a new authority that targets are to trust, ECDSA over NIST P-256: what to put
    /// into the vault (`docs/formats/vault.md`).
    #[must_use]
    pub fn new_secret(entropy: &dyn Entropy) -> SecretBytes {
        AuthorityKey::new_secret(entropy)
    }

    /// The authority whose key is `secret`, from the vault: what [`SshAuthority::new_secret`] made, or
    /// the seed of an Ed25519 key.
    ///
    /// # Errors
    /// [`CertificateError::Authority`].
    pub fn from_secret(secret: &SecretBytes) -> Result<Self, CertificateError> {
        AuthorityKey::from_secret(secret)
            .map(Self)
            .map_err(CertificateError::Authority)
    }

    /// Its public key in OpenSSH's one-line form, for `TrustedUserCAKeys`.
    ///
    /// # Errors
    /// [`CertificateError::Build`].
    pub fn public_key(&self) -> Result<String, CertificateError> {
        PublicKey::from(self.key_data())
            .to_openssh()
            .map_err(CertificateError::Build)
    }

    fn key_data(&self) -> KeyData {
        self.0.key_data()
    }

    /// Signs a certificate that says exactly `terms`.
    pub(crate) fn issue(
        &self,
        terms: &CertificateTerms,
        entropy: &dyn Entropy,
    ) -> Result<Certificate, CertificateError> {
        check_principal(&terms.principal)?;
        check_public_key(&terms.public_key)?;
        let certificate = self
            .build(terms, entropy.draw::<32>())
            .map_err(CertificateError::Build)?;
        let text = certificate.to_openssh().map_err(CertificateError::Build)?;
        let read_back = Certificate::from_openssh(&text).map_err(CertificateError::Build)?;
        if read_back != certificate {
            return Err(CertificateError::Mismatch { field: "encoding" });
        }
        terms.compare(&read_back)?;
        read_back
            .validate_at(
                terms.valid_after_s,
                [&self.key_data().fingerprint(HashAlg::Sha256)],
            )
            .map_err(CertificateError::Build)?;
        Ok(read_back)
    }

    fn build(&self, terms: &CertificateTerms, nonce: [u8; 32]) -> ssh_key::Result<Certificate> {
        let key = terms.public_key.clone();
        let mut builder = Builder::new(nonce, key, terms.valid_after_s, terms.valid_before_s)?;
        builder
            .serial(terms.serial)?
            .cert_type(CertType::User)?
            .key_id(&terms.key_id)?
            .valid_principal(&terms.principal)?;
        for (name, value) in &terms.critical_options {
            builder.critical_option(name, value)?;
        }
        for (name, value) in &terms.extensions {
            builder.extension(name, value)?;
        }
        builder.sign(&ReadingSigner {
            authority: self,
            terms,
        })
    }
}

/// Signs only what it has read and found to be what was asked for.
struct ReadingSigner<'a> {
    authority: &'a SshAuthority,
    terms: &'a CertificateTerms,
}

impl Signer<Signature> for ReadingSigner<'_> {
    fn try_sign(&self, to_be_signed: &[u8]) -> signature::Result<Signature> {
        let unsigned = read_unsigned(to_be_signed, &self.authority.0)
            .map_err(signature::Error::from_source)?;
        self.terms
            .compare(&unsigned)
            .map_err(signature::Error::from_source)?;
        if unsigned.signature_key() != &self.authority.key_data() {
            return Err(signature::Error::new());
        }
        self.authority
            .0
            .sign(to_be_signed)
            .map_err(signature::Error::from_source)
    }
}

impl From<&ReadingSigner<'_>> for KeyData {
    fn from(signer: &ReadingSigner<'_>) -> Self {
        signer.authority.key_data()
    }
}

/// Reads the bytes a certificate's signature covers, by adding an empty signature in its place.
fn read_unsigned(to_be_signed: &[u8], authority: &AuthorityKey) -> ssh_key::Result<Certificate> {
    let signature = Vec::<u8>::try_from(authority.empty_signature()?)?;
    let length = u32::try_from(signature.len()).map_err(|_| ssh_key::Error::FormatEncoding)?;
    let whole = [to_be_signed, &length.to_be_bytes(), &signature].concat();
    Certificate::from_bytes(&whole)
}

impl CertificateTerms {
    /// Whether `certificate` says exactly this.
    fn compare(&self, certificate: &Certificate) -> Result<(), CertificateError> {
        let fields = [
            ("type", certificate.cert_type() == CertType::User),
            ("public key", certificate.public_key() == &self.public_key),
            ("serial", certificate.serial() == self.serial),
            ("key id", certificate.key_id() == self.key_id),
            (
                "principals",
                certificate.valid_principals() == [self.principal.as_str()],
            ),
            (
                "valid after",
                certificate.valid_after() == self.valid_after_s,
            ),
            (
                "valid before",
                certificate.valid_before() == self.valid_before_s,
            ),
            ("validity", self.valid_after_s < self.valid_before_s),
            (
                "critical options",
                certificate.critical_options().0 == self.critical_options,
            ),
            ("extensions", certificate.extensions().0 == self.extensions),
            ("nonce", certificate.nonce().len() >= 16),
            ("key id", is_key_id(&self.key_id)),
        ];
        fields
            .into_iter()
            .find(|(_, is_equal)| !is_equal)
            .map_or(Ok(()), |(field, _)| {
                Err(CertificateError::Mismatch { field })
            })
    }
}

/// Servers log it, so it must not be able to forge a line.
fn is_key_id(text: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Refuses a principal that could be read as another name, as several, or as all.
///
/// # Errors
/// [`CertificateError::Principal`].
pub(crate) fn check_principal(principal: &str) -> Result<(), CertificateError> {
    let is_plain = (1..=MAX_NAME_BYTES).contains(&principal.len())
        && principal
            .chars()
            .all(|c| !c.is_control() && !c.is_whitespace() && !matches!(c, ',' | '*' | '/'));
    if is_plain {
        return Ok(());
    }
    let principal = principal
        .chars()
        .filter(|c| !c.is_control())
        .take(64)
        .collect();
    Err(CertificateError::Principal { principal })
}

/// Refuses keys that are weak, unknown, or certificates themselves.
///
/// # Errors
/// [`CertificateError::Key`].
pub(crate) fn check_public_key(key: &KeyData) -> Result<(), CertificateError> {
    let is_accepted = match key {
        KeyData::Ed25519(_)
        | KeyData::Ecdsa(_)
        | KeyData::SkEd25519(_)
        | KeyData::SkEcdsaSha2NistP256(_) => true,
        KeyData::Rsa(rsa) => {
            let bits = rsa.n().as_positive_bytes().map_or(0, modulus_bits);
            (RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits)
        }
        _ => false,
    };
    if is_accepted {
        return Ok(());
    }
    // The name in a certificate-typed key is a peer's: bounded, and one of a fixed list otherwise.
    Err(CertificateError::Key {
        algorithm: key.algorithm().as_str().chars().take(64).collect(),
    })
}

/// The length of a number in bits, not rounded up to whole bytes.
fn modulus_bits(bytes: &[u8]) -> u32 {
    let leading = bytes.first().map_or(0, |byte| byte.leading_zeros());
    u32::try_from(bytes.len())
        .unwrap_or(u32::MAX)
        .saturating_mul(8)
        .saturating_sub(leading)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use proptest::prelude::*;
    use russh::keys::ssh_key::public::Ed25519PublicKey;
    use sallyport_core::secret::Secret;

    use super::*;
    use crate::SystemEntropy;

    fn authority(byte: u8) -> SshAuthority {
        SshAuthority::from_secret(&Secret::new(vec![byte; 32])).unwrap()
    }

    fn terms() -> CertificateTerms {
        CertificateTerms {
            public_key: KeyData::Ed25519(Ed25519PublicKey([9; 32])),
            serial: 7,
            key_id: "sallyport:x:alice".to_owned(),
            principal: "root".to_owned(),
            valid_after_s: 1_000,
            valid_before_s: 1_300,
            critical_options: BTreeMap::from([("source-address".to_owned(), "::1".to_owned())]),
            extensions: BTreeMap::from([("permit-pty".to_owned(), String::new())]),
        }
    }

    /// What an authority would be given to sign for `terms`.
    fn to_be_signed(authority: &SshAuthority, terms: &CertificateTerms) -> Vec<u8> {
        struct Keeping<'a>(&'a SshAuthority, RefCell<Vec<u8>>);
        impl Signer<Signature> for Keeping<'_> {
            fn try_sign(&self, message: &[u8]) -> signature::Result<Signature> {
                *self.1.borrow_mut() = message.to_vec();
                self.0
                    .0
                    .sign(message)
                    .map_err(signature::Error::from_source)
            }
        }
        impl From<&Keeping<'_>> for KeyData {
            fn from(signer: &Keeping<'_>) -> Self {
                signer.0.key_data()
            }
        }
        let keeping = Keeping(authority, RefCell::default());
        let mut builder = Builder::new(
            [1; 16],
            terms.public_key.clone(),
            terms.valid_after_s,
            terms.valid_before_s,
        )
        .unwrap();
        builder
            .serial(terms.serial)
            .unwrap()
            .key_id(&terms.key_id)
            .unwrap();
        for principal in terms.principal.split('+') {
            builder.valid_principal(principal).unwrap();
        }
        for (name, value) in &terms.critical_options {
            builder.critical_option(name, value).unwrap();
        }
        for (name, value) in &terms.extensions {
            builder.extension(name, value).unwrap();
        }
        builder.sign(&keeping).unwrap();
        keeping.1.into_inner()
    }

    /// VA-3, and security class D9: the constraint holds for the bytes that are signed.
    #[test]
    fn given_bytes_that_say_anything_else_when_asked_to_sign_then_the_authority_refuses() {
        let of_p256 = || {
            let secret = SshAuthority::new_secret(&SystemEntropy);
            SshAuthority::from_secret(&secret).unwrap()
        };
        refuses_anything_else(&authority(1), &authority(2));
        refuses_anything_else(&of_p256(), &of_p256());
    }

    fn refuses_anything_else(ours: &SshAuthority, another: &SshAuthority) {
        let wanted = terms();
        let sign = |bytes: &[u8]| {
            ReadingSigner {
                authority: ours,
                terms: &wanted,
            }
            .try_sign(bytes)
            .is_ok()
        };
        assert!(sign(&to_be_signed(ours, &wanted)));

        let differing = [
            CertificateTerms {
                principal: "root+admin".to_owned(),
                ..terms()
            },
            CertificateTerms {
                principal: "admin".to_owned(),
                ..terms()
            },
            CertificateTerms {
                valid_before_s: 1_301,
                ..terms()
            },
            CertificateTerms {
                valid_after_s: 999,
                ..terms()
            },
            CertificateTerms {
                serial: 8,
                ..terms()
            },
            CertificateTerms {
                key_id: "sallyport:x:bob".to_owned(),
                ..terms()
            },
            CertificateTerms {
                critical_options: BTreeMap::new(),
                ..terms()
            },
            CertificateTerms {
                extensions: BTreeMap::from([
                    ("permit-port-forwarding".to_owned(), String::new()),
                    ("permit-pty".to_owned(), String::new()),
                ]),
                ..terms()
            },
            CertificateTerms {
                public_key: KeyData::Ed25519(Ed25519PublicKey([8; 32])),
                ..terms()
            },
        ];
        for other in differing {
            assert!(!sign(&to_be_signed(ours, &other)), "{other:?}");
        }
        assert!(
            !sign(&to_be_signed(another, &wanted)),
            "another authority's name"
        );
        assert!(!sign(b""));
        let mut bytes = to_be_signed(ours, &wanted);
        bytes.push(0);
        assert!(!sign(&bytes));
    }

    #[test]
    fn given_terms_that_make_no_sense_when_issued_then_they_are_refused() {
        for wrong in [
            CertificateTerms {
                valid_before_s: 1_000,
                ..terms()
            },
            CertificateTerms {
                valid_before_s: 999,
                ..terms()
            },
            CertificateTerms {
                key_id: String::new(),
                ..terms()
            },
            CertificateTerms {
                key_id: "a\nb".to_owned(),
                ..terms()
            },
            CertificateTerms {
                principal: String::new(),
                ..terms()
            },
        ] {
            assert!(
                authority(1).issue(&wrong, &SystemEntropy).is_err(),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn the_length_of_a_modulus_is_counted_in_bits() {
        assert_eq!(modulus_bits(&[0x80; 384]), 3_072);
        let mut short = [0xff; 384];
        short[0] = 0x7f;
        assert_eq!(modulus_bits(&short), 3_071);
        assert_eq!(modulus_bits(&[]), 0);
    }

    proptest! {
        /// VA-3, and security class A17
        #[test]
        fn a_certificate_names_exactly_the_principal_or_is_not_issued(principal in ".{0,20}") {
            let wanted = CertificateTerms { principal: principal.clone(), ..terms() };
            let is_dangerous = principal.is_empty()
                || principal.chars().any(|c| {
                    ",*/".contains(c) || c.is_whitespace() || c.is_control()
                });
            match authority(1).issue(&wanted, &SystemEntropy) {
                Ok(certificate) => {
                    prop_assert_eq!(certificate.valid_principals(), [principal]);
                    prop_assert!(!is_dangerous);
                }
                Err(_) => prop_assert!(is_dangerous),
            }
        }
    }
}
