//! Seals credentials to one gateway process: HPKE (RFC 9180) base mode, DHKEM(X25519, HKDF-SHA256),
//! HKDF-SHA256, AES-256-GCM, with the session id as associated data.

use rustls::crypto::{
    aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256,
    hpke::{Hpke as _, HpkePublicKey},
};
use sallyport_api::gateway::Credential;
use sallyport_core::id::SessionId;

/// HPKE `info` of a target's credential.
pub(super) const CREDENTIAL_INFO: &[u8] = b"sallyport credential v1";
/// HPKE `info` of a recording's key.
pub(super) const RECORDING_KEY_INFO: &[u8] = b"sallyport recording key v1";

/// A gateway's key could not be sealed to.
#[derive(Debug, thiserror::Error)]
#[error("seal a credential to the gateway")]
pub(super) struct SealError(#[source] rustls::Error);

pub(super) fn seal(
    sealing_key: &[u8],
    info: &[u8],
    session_id: &SessionId,
    secret: &[u8],
) -> Result<Credential, SealError> {
    let key = HpkePublicKey(sealing_key.to_vec());
    let (encapsulated, sealed) = DH_KEM_X25519_HKDF_SHA256_AES_256
        .seal(info, session_id.as_str().as_bytes(), secret, &key)
        .map_err(SealError)?;
    Ok(Credential {
        encapsulated: encapsulated.0,
        sealed,
    })
}
