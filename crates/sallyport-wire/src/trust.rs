//! By what a target is recognised over TLS, and what its certificate binds a login to.
//!
//! INVARIANT: no credential leaves before the target has proven an accepted identity; only an owner's
//! explicit `plaintext` does without (security class G2).

use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{
        CryptoProvider, aws_lc_rs::default_provider, verify_tls12_signature, verify_tls13_signature,
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

/// Why it cannot be told by what a target is recognised.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// An accepted identity, or the target's address, cannot be read.
    #[error("read by what the target is recognised")]
    IdentityText,
    /// None is known, and the first one seen may not be pinned.
    #[error("recognise the target: no certificate is known")]
    IdentityUnknown,
    /// The library refuses the settings.
    #[error("set up TLS with the target")]
    Tls(#[source] rustls::Error),
}

/// How a target is recognised.
#[derive(Clone, Debug)]
pub enum Trust {
    /// By TLS.
    Tls(TlsTrust),
    /// Not at all: an owner said that it speaks no TLS.
    Plaintext,
}

/// How a target is recognised by TLS.
#[derive(Clone, Debug)]
pub struct TlsTrust {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    verifier: Arc<Verifier>,
    /// No identity is known yet, and the first one seen may be pinned.
    pins_first: bool,
}

impl Trust {
    /// Reads the identities that are accepted for the target at `address` (`host:port`), in the form that
    /// the inventory stores. `pins_first`: with none known, the first one seen is accepted and told.
    /// `alpn` is offered to the target.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn read(
        identities: &[String],
        pins_first: bool,
        address: &str,
        alpn: &[&[u8]],
    ) -> Result<Self, TrustError> {
        let (mut keys, mut certificates) = (Vec::new(), Vec::new());
        let mut roots = RootCertStore::empty();
        for identity in identities {
            if identity == "plaintext" {
                return Ok(Self::Plaintext);
            }
            if let Some(key) = identity.strip_prefix("key-sha256:") {
                keys.push(key.to_owned());
            } else if let Some(text) = identity.strip_prefix("ca ") {
                let der = STANDARD
                    .decode(text)
                    .map_err(|_| TrustError::IdentityText)?;
                let certificate = CertificateDer::from(der);
                roots
                    .add(certificate.clone())
                    .map_err(|_| TrustError::IdentityText)?;
                certificates.push(certificate);
            } else {
                return Err(TrustError::IdentityText);
            }
        }
        if identities.is_empty() && !pins_first {
            return Err(TrustError::IdentityUnknown);
        }
        let verifier = Arc::new(Verifier::new(keys, certificates, roots, pins_first)?);
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(TrustError::Tls)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as _)
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(Self::Tls(TlsTrust {
            config: Arc::new(config),
            name: server_name(address)?,
            verifier,
            pins_first,
        }))
    }
}

impl TlsTrust {
    /// What to connect with.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// The name that a certificate must be for.
    #[must_use]
    pub fn name(&self) -> ServerName<'static> {
        self.name.clone()
    }

    /// The identity to pin, when this target had none.
    #[must_use]
    pub fn seen(&self) -> Option<String> {
        let seen = self.verifier.seen();
        seen.filter(|_| self.pins_first)
    }

    /// What the target showed that is not accepted.
    #[must_use]
    pub fn refused(&self) -> Option<String> {
        self.verifier.seen()
    }

    /// From now on only what was seen is accepted, on connections that ask the target to stop, too.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn settled(&self) -> Result<Self, TrustError> {
        let Some(seen) = self.seen() else {
            return Ok(self.clone());
        };
        let key = seen.strip_prefix("key-sha256:").unwrap_or_default();
        let verifier = Arc::new(Verifier::new(
            vec![key.to_owned()],
            Vec::new(),
            RootCertStore::empty(),
            false,
        )?);
        let mut config = ClientConfig::clone(&self.config);
        config
            .dangerous()
            .set_certificate_verifier(Arc::clone(&verifier) as _);
        Ok(Self {
            config: Arc::new(config),
            name: self.name.clone(),
            verifier,
            pins_first: false,
        })
    }
}

fn server_name(address: &str) -> Result<ServerName<'static>, TrustError> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned()).map_err(|_| TrustError::IdentityText)
}

/// Accepts the keys that are pinned, and the certificates that are named or that these signed for the
/// target's host. Servers that vouch for themselves are common, and no authority to a strict reader.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    keys: Vec<String>,
    certificates: Vec<CertificateDer<'static>>,
    authorities: Option<Arc<WebPkiServerVerifier>>,
    takes_first: bool,
    seen: Mutex<Option<String>>,
}

impl Verifier {
    fn new(
        keys: Vec<String>,
        certificates: Vec<CertificateDer<'static>>,
        roots: RootCertStore,
        takes_first: bool,
    ) -> Result<Self, TrustError> {
        let provider = Arc::new(default_provider());
        let authorities = match roots.is_empty() {
            true => None,
            false => Some(
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                    .build()
                    .map_err(|_| TrustError::IdentityText)?,
            ),
        };
        Ok(Self {
            provider,
            keys,
            certificates,
            authorities,
            takes_first,
            seen: Mutex::new(None),
        })
    }

    fn seen(&self) -> Option<String> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let key = ParsedCertificate::try_from(end_entity)?.subject_public_key_info();
        let fingerprint = hex::encode(digest::digest(&digest::SHA256, key.as_ref()));
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(format!("key-sha256:{fingerprint}"));
        let is_named = self.certificates.iter().any(|known| known == end_entity);
        if self.takes_first || is_named || self.keys.contains(&fingerprint) {
            return Ok(ServerCertVerified::assertion());
        }
        match &self.authorities {
            Some(authorities) => authorities.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
            None => Err(rustls::Error::InvalidCertificate(
                rustls::CertificateError::ApplicationVerificationFailure,
            )),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// The hash of a certificate that logins are bound to (RFC 5929, section 4.1): with the hash of its own
/// signature, at least SHA-256. Nothing for signatures whose hash cannot be told.
#[must_use]
pub fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let algorithm = match signature_algorithm(certificate)? {
        // sha1 and md5 with RSA, sha256WithRSAEncryption, ecdsa-with-SHA1 and SHA256
        [
            0x2a,
            0x86,
            0x48,
            0x86,
            0xf7,
            0x0d,
            0x01,
            0x01,
            0x04 | 0x05 | 0x0b,
        ]
        | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01]
        | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02] => &digest::SHA256,
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c]
        | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03] => &digest::SHA384,
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d]
        | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04] => &digest::SHA512,
        _ => return None,
    };
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}

/// The object identifier of a certificate's signature (RFC 5280, section 4.1): the second element of the
/// outer sequence.
fn signature_algorithm(certificate: &[u8]) -> Option<&[u8]> {
    const SEQUENCE: u8 = 0x30;
    const OBJECT_IDENTIFIER: u8 = 0x06;
    let (outer, _) = element(certificate, SEQUENCE)?;
    let (_, rest) = element(outer, SEQUENCE)?;
    let (algorithm, _) = element(rest, SEQUENCE)?;
    Some(element(algorithm, OBJECT_IDENTIFIER)?.0)
}

/// The content of the DER element of this tag at the front, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let ([found, first], rest) = bytes.split_first_chunk::<2>()?;
    if *found != tag {
        return None;
    }
    let (length, rest) = match *first {
        short @ 0..=0x7f => (usize::from(short), rest),
        long @ 0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            let length = length.iter().try_fold(0_usize, |sum, byte| {
                sum.checked_mul(256)?.checked_add(usize::from(*byte))
            })?;
            (length, rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn given_an_address_then_its_host_is_what_a_certificate_must_name() {
        for (address, name) in [
            ("db-1.internal:5432", "db-1.internal"),
            ("10.0.0.7:5432", "10.0.0.7"),
            ("[::1]:5432", "::1"),
        ] {
            let expected = ServerName::try_from(name.to_owned()).unwrap();
            assert_eq!(server_name(address).unwrap(), expected);
        }
        assert!(server_name("a b:5432").is_err());
    }

    proptest! {
        #[test]
        fn reading_any_certificate_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = end_point(&bytes);
        }
    }
}
