//! Ed25519 keys kept as secrets: the key that signs permits, and the keys of the SSH authorities.
//!
//! Called by control (permits) and by [`certificate`](crate::certificate).
//!
//! INVARIANT: the seed leaves this type only into the vault, when the key is made.
//!
//! Not here: the key that signs the audit log. The log must go on while the vault is sealed, so that key
//! is a file of control's.

use std::fmt;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use sallyport_core::{
    entropy::Entropy,
    secret::{Secret, SecretBytes},
};

/// Bytes of a seed (RFC 8032).
const SEED_BYTES: usize = 32;

/// Why a stored secret is no signing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("read a signing key: the secret is not an Ed25519 seed of 32 bytes")]
pub struct NotASigningKey;

/// An Ed25519 key that signs.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public_key: [u8; 32],
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey")
            .field(&self.public_key())
            .finish()
    }
}

impl SigningKey {
    /// Draws the seed of a new key: what to put into the vault.
    #[must_use]
    pub fn new_seed(entropy: &dyn Entropy) -> SecretBytes {
        let mut seed = vec![0; SEED_BYTES];
        entropy.fill(&mut seed);
        Secret::new(seed)
    }

    /// The key of a seed from the vault.
    ///
    /// # Errors
    /// [`NotASigningKey`].
    pub fn from_seed(seed: &SecretBytes) -> Result<Self, NotASigningKey> {
        if seed.expose_secret().len() != SEED_BYTES {
            return Err(NotASigningKey);
        }
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose_secret())
            .map_err(|_| NotASigningKey)?;
        let public_key = pair
            .public_key()
            .as_ref()
            .try_into()
            .map_err(|_| NotASigningKey)?;
        Ok(Self { pair, public_key })
    }

    /// The public half: 32 bytes.
    #[must_use]
    pub const fn public_key(&self) -> [u8; 32] {
        self.public_key
    }

    /// Signs: 64 bytes (RFC 8032). Should the library ever fail, the answer is empty, which no verifier
    /// takes for a signature.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair
            .try_sign(message)
            .map(|signature| signature.as_ref().to_vec())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

    use super::*;
    use crate::SystemEntropy;

    #[test]
    fn a_signature_verifies_with_the_public_half_and_for_its_message_only() {
        let key = SigningKey::from_seed(&SigningKey::new_seed(&SystemEntropy)).unwrap();
        let signature = key.sign(b"permit");
        let public_key = UnparsedPublicKey::new(&ED25519, key.public_key());
        assert!(public_key.verify(b"permit", &signature).is_ok());
        assert!(public_key.verify(b"Permit", &signature).is_err());
    }

    /// RFC 8032, section 7.1, test 2.
    #[test]
    fn signs_as_the_rfc_does() {
        let bytes = |hex: &str| -> Vec<u8> {
            let digits: Vec<u8> = hex
                .chars()
                .map(|c| u8::try_from(c.to_digit(16).unwrap()).unwrap())
                .collect();
            digits
                .chunks(2)
                .map(|pair| pair[0] << 4 | pair[1])
                .collect()
        };
        let seed = bytes("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
        let key = SigningKey::from_seed(&Secret::new(seed)).unwrap();
        assert_eq!(
            key.public_key().to_vec(),
            bytes("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
        );
        assert_eq!(
            key.sign(&[0x72]),
            bytes(concat!(
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da",
                "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
            ))
        );
    }

    #[test]
    fn a_secret_of_another_length_is_no_key() {
        for length in [0, 31, 33, 64] {
            assert!(SigningKey::from_seed(&Secret::new(vec![1; length])).is_err());
        }
    }
}
