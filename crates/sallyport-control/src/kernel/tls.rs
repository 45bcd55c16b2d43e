//! The server's TLS identity: an authority of its own, kept in the data directory, and a certificate
//! made anew at each start. Clients pin the authority (`ca.pem`), so nothing else can speak for us.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};

use super::node_directory::{NodeDirectory, NodeDirectoryError};

/// Where the authority's certificate is published within the data directory.
pub const CA_CERTIFICATE: &str = "ca.pem";
const CA_KEY: &str = "tls/ca.key";
/// Last year in which the authority is good; it is made anew by removing its key.
const CA_LAST_YEAR: i32 = 2_099;

/// Why there is no TLS identity.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The data directory cannot be used.
    #[error("keep the TLS authority in the data directory")]
    NodeDirectory(#[source] NodeDirectoryError),
    /// A certificate cannot be made, as with a name that cannot stand in one.
    #[error("make the server certificate")]
    Make(#[source] rcgen::Error),
    /// The TLS library refuses it.
    #[error("use the server certificate")]
    Use(#[source] rustls::Error),
}

/// Makes the server's TLS configuration for `names` besides `localhost` and `127.0.0.1`.
///
/// # Errors
/// [`TlsError`].
pub fn server_config(
    directory: &NodeDirectory,
    names: &[String],
) -> Result<Arc<ServerConfig>, TlsError> {
    let (params, key) = authority(directory)?;
    let issuer = Issuer::from_params(&params, &key);
    let mut leaf = leaf(names)?;
    leaf.distinguished_name = named("Sallyport");
    let leaf_key = KeyPair::generate().map_err(TlsError::Make)?;
    let certificate = leaf.signed_by(&leaf_key, &issuer).map_err(TlsError::Make)?;
    let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Use)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(TlsError::Use)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Certifies a gateway's TLS key for the names under which clients reach this node, so that whoever pins
/// the authority for the API knows the gateway's listeners by it as well. `public_key` is an uncompressed
/// point on P-256; the socket it came over admits nobody but ourselves.
///
/// # Errors
/// [`TlsError`].
pub fn gateway_certificate(
    directory: &NodeDirectory,
    names: &[String],
    public_key: &[u8],
) -> Result<Vec<u8>, TlsError> {
    let (params, key) = authority(directory)?;
    let issuer = Issuer::from_params(&params, &key);
    let mut leaf = leaf(names)?;
    leaf.distinguished_name = named("Sallyport gateway");
    let certificate = leaf
        .signed_by(&GatewayKey(public_key), &issuer)
        .map_err(TlsError::Make)?;
    Ok(certificate.der().to_vec())
}

/// The public half of a key that never leaves its gateway.
struct GatewayKey<'a>(&'a [u8]);

impl PublicKeyData for GatewayKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// What every server certificate of this node says, but for whose it is.
fn leaf(names: &[String]) -> Result<CertificateParams, TlsError> {
    let mut all = vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    all.extend(names.iter().cloned());
    let mut leaf = CertificateParams::new(all).map_err(TlsError::Make)?;
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.not_after = rcgen::date_time_ymd(CA_LAST_YEAR, 1, 1);
    Ok(leaf)
}

/// The authority: read, or made on first use and published.
fn authority(directory: &NodeDirectory) -> Result<(CertificateParams, KeyPair), TlsError> {
    let mut params = CertificateParams::new(Vec::new()).map_err(TlsError::Make)?;
    params.distinguished_name = named("Sallyport authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_after = rcgen::date_time_ymd(CA_LAST_YEAR, 1, 1);
    if let Some(pem) = directory
        .secret_text(CA_KEY)
        .map_err(TlsError::NodeDirectory)?
    {
        let key = KeyPair::from_pem(&pem).map_err(TlsError::Make)?;
        return Ok((params, key));
    }
    let key = KeyPair::generate().map_err(TlsError::Make)?;
    let certificate = params.self_signed(&key).map_err(TlsError::Make)?;
    let pem = zeroize::Zeroizing::new(key.serialize_pem());
    // The certificate first: a crash in between leaves no key, and both are made anew.
    directory
        .publish(CA_CERTIFICATE, &certificate.pem())
        .map_err(TlsError::NodeDirectory)?;
    directory
        .write_secret_text(CA_KEY, &pem)
        .map_err(TlsError::NodeDirectory)?;
    Ok((params, key))
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}
