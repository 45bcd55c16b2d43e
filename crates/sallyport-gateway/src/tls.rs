//! The key that the gateway's TLS listeners prove, and the certificate over it.
//!
//! The key is made at each start and never leaves this process; control certifies it in its welcome, with
//! the authority that vouches for the API too, so whoever pinned that knows the gateway by it.
//!
//! INVARIANT: before control was ever reached there is no certificate, and no TLS connection comes about.

use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs::default_provider},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::{ClientHello, ResolvesServerCert},
    sign::{CertifiedKey, SigningKey},
};

/// Why there is no TLS identity.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The system gave no randomness.
    #[error("make the TLS key")]
    Generate,
    /// The library refuses it.
    #[error("use the TLS key")]
    Use(#[source] rustls::Error),
}

/// What the gateway's TLS listeners prove.
pub struct TlsIdentity {
    key: Arc<dyn SigningKey>,
    public_key: Vec<u8>,
    certified: RwLock<Option<Arc<CertifiedKey>>>,
}

impl std::fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsIdentity")
            .field("is_certified", &self.is_certified())
            .finish_non_exhaustive()
    }
}

impl TlsIdentity {
    /// A fresh key without a certificate.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn generate() -> Result<Self, TlsError> {
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new())
            .map_err(|_| TlsError::Generate)?;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref())
            .map_err(|_| TlsError::Generate)?;
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(document.as_ref()));
        let key =
            rustls::crypto::aws_lc_rs::sign::any_ecdsa_type(&private).map_err(TlsError::Use)?;
        Ok(Self {
            key,
            public_key: pair.public_key().as_ref().to_vec(),
            certified: RwLock::new(None),
        })
    }

    /// The public half: an uncompressed point on P-256.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// Takes the certificate that control sent; nothing is shown while it is empty.
    pub fn adopt(&self, certificate: Vec<u8>) {
        let certified = (!certificate.is_empty()).then(|| {
            let chain = vec![CertificateDer::from(certificate)];
            Arc::new(CertifiedKey::new(chain, Arc::clone(&self.key)))
        });
        *self
            .certified
            .write()
            .unwrap_or_else(PoisonError::into_inner) = certified;
    }

    /// Whether there is a certificate to show.
    #[must_use]
    pub fn is_certified(&self) -> bool {
        self.certified().is_some()
    }

    fn certified(&self) -> Option<Arc<CertifiedKey>> {
        self.certified
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The configuration of a listener. Inside TLS it names `alpn`, where the protocol has a name for it.
    /// Sessions are not resumed: each connection shows the certificate that is good now.
    ///
    /// # Errors
    /// [`TlsError::Use`].
    pub fn server_config(
        self: &Arc<Self>,
        alpn: Option<&[u8]>,
    ) -> Result<Arc<ServerConfig>, TlsError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Use)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = alpn.map(<[u8]>::to_vec).into_iter().collect();
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for TlsIdentity {
    fn resolve(&self, _client: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }
}

/// The one provider of cryptography.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(default_provider())
}
