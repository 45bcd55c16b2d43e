//! Opens what control sealed to this gateway process: credentials and recording keys.
//!
//! HPKE (RFC 9180) in base mode: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM. The key pair
//! is made at start and never leaves memory, so what was sealed to a process dies with it.
//!
//! INVARIANT: a sealed value opens only for the purpose and the session it was sealed for.
//!
//! Not here: the vault that makes credentials, and control's sealing side.

use rustls::crypto::{
    aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256,
    hpke::{EncapsulatedSecret, Hpke, HpkePrivateKey},
};
use sallyport_api::gateway::{Credential, CredentialContent};
use sallyport_core::id::SessionId;
use sallyport_evidence::recording::RecordingKey;
use zeroize::Zeroizing;

/// What a target's credential is sealed with as HPKE `info`.
pub const CREDENTIAL_INFO: &[u8] = b"sallyport credential v1";
/// What a recording's key is sealed with as HPKE `info`.
pub const RECORDING_KEY_INFO: &[u8] = b"sallyport recording key v1";

/// Why something sealed stays closed.
#[derive(Debug, thiserror::Error)]
pub enum UnsealError {
    /// No key pair could be made: the cryptographic library refused.
    #[error("make the gateway's sealing key")]
    MakeKey(#[source] rustls::Error),
    /// Sealed to another gateway, for another session or purpose, or changed on its way.
    #[error("open the {what} of session `{session_id}`")]
    Open {
        /// What it was to be.
        what: &'static str,
        /// The session.
        session_id: SessionId,
        /// The library's reason.
        source: rustls::Error,
    },
    /// It opened but is not what it was to be. The content itself is never part of the error.
    #[error("read the {what} of session `{session_id}`")]
    Content {
        /// What it was to be.
        what: &'static str,
        /// The session.
        session_id: SessionId,
    },
}

/// The gateway's own key pair.
pub struct SealingKey {
    public: Vec<u8>,
    private: HpkePrivateKey,
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealingKey(..)")
    }
}

impl SealingKey {
    /// Makes a fresh key pair.
    ///
    /// # Errors
    /// [`UnsealError::MakeKey`].
    pub fn generate() -> Result<Self, UnsealError> {
        let (public, private) = DH_KEM_X25519_HKDF_SHA256_AES_256
            .generate_key_pair()
            .map_err(UnsealError::MakeKey)?;
        Ok(Self {
            public: public.0,
            private,
        })
    }

    /// The public half, for control to seal to: 32 bytes.
    #[must_use]
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// Opens the credential of a session.
    ///
    /// # Errors
    /// [`UnsealError::Open`] or [`UnsealError::Content`].
    pub fn open_credential(
        &self,
        credential: &Credential,
        session_id: &SessionId,
    ) -> Result<CredentialContent, UnsealError> {
        let what = "credential";
        let json = self.open(credential, CREDENTIAL_INFO, what, session_id)?;
        // A parser's error may quote what it read, so it is not kept.
        serde_json::from_slice(&json).map_err(|_| UnsealError::Content {
            what,
            session_id: session_id.clone(),
        })
    }

    /// Opens the key of a session's recording.
    ///
    /// # Errors
    /// [`UnsealError::Open`] or [`UnsealError::Content`].
    pub fn open_recording_key(
        &self,
        credential: &Credential,
        session_id: &SessionId,
    ) -> Result<RecordingKey, UnsealError> {
        let what = "recording key";
        let bytes = self.open(credential, RECORDING_KEY_INFO, what, session_id)?;
        let key = bytes
            .first_chunk::<32>()
            .filter(|_| bytes.len() == 32)
            .ok_or_else(|| UnsealError::Content {
                what,
                session_id: session_id.clone(),
            })?;
        Ok(RecordingKey::new(*key))
    }

    fn open(
        &self,
        credential: &Credential,
        info: &[u8],
        what: &'static str,
        session_id: &SessionId,
    ) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
        let encapsulated = EncapsulatedSecret(credential.encapsulated.clone());
        DH_KEM_X25519_HKDF_SHA256_AES_256
            .open(
                &encapsulated,
                info,
                session_id.as_str().as_bytes(),
                &credential.sealed,
                &self.private,
            )
            .map(Zeroizing::new)
            .map_err(|source| UnsealError::Open {
                what,
                session_id: session_id.clone(),
                source,
            })
    }
}

#[cfg(test)]
mod tests {
    use sallyport_core::time::Timestamp;

    use super::*;
    use crate::testing::seal;

    fn session(number: u8) -> SessionId {
        SessionId::new(Timestamp::EPOCH, [number; 10])
    }

    const CONTENT: &[u8] = br#"{"kind":"password","password":"correct horse"}"#;

    /// GW-11
    #[test]
    fn a_credential_opens_for_the_gateway_and_session_it_was_sealed_for_only() {
        let ours = SealingKey::generate().unwrap();
        let other_gateway = SealingKey::generate().unwrap();
        let sealed = seal(ours.public(), CREDENTIAL_INFO, &session(1), CONTENT);

        assert!(ours.open_credential(&sealed, &session(1)).is_ok());
        assert!(ours.open_credential(&sealed, &session(2)).is_err());
        assert!(other_gateway.open_credential(&sealed, &session(1)).is_err());
        assert!(ours.open_recording_key(&sealed, &session(1)).is_err());
    }

    /// GW-11
    #[test]
    fn any_changed_byte_keeps_a_credential_closed_and_its_error_shows_nothing_of_it() {
        let ours = SealingKey::generate().unwrap();
        let sealed = seal(ours.public(), CREDENTIAL_INFO, &session(1), CONTENT);
        for index in 0..sealed.sealed.len() {
            let mut changed = sealed.clone();
            changed.sealed[index] ^= 1;
            assert!(ours.open_credential(&changed, &session(1)).is_err());
        }
        let unreadable = seal(
            ours.public(),
            CREDENTIAL_INFO,
            &session(1),
            b"\"correct horse\"",
        );
        let error = ours.open_credential(&unreadable, &session(1)).unwrap_err();
        assert!(!format!("{error:?} {error}").contains("correct horse"));
    }

    /// RE-11
    #[test]
    fn a_recording_key_of_another_length_is_refused() {
        let ours = SealingKey::generate().unwrap();
        for length in [0, 31, 33] {
            let sealed = seal(
                ours.public(),
                RECORDING_KEY_INFO,
                &session(1),
                &vec![7; length],
            );
            assert!(
                ours.open_recording_key(&sealed, &session(1)).is_err(),
                "{length}"
            );
        }
    }
}
