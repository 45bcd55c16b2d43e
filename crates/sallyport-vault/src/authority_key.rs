//! Keys that sign certificates: ECDSA over NIST P-256 for targets, Ed25519 where only our own gateways
//! verify, and for vaults made before targets got a key of their own kind (ADR 0027).
//!
//! Called by [`certificate`](crate::certificate).
//!
//! INVARIANT: the private half leaves this module only into the vault, when the key is made.

use std::fmt;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use russh::keys::ssh_key::{
    self, Algorithm, EcdsaCurve, Signature,
    public::{EcdsaPublicKey, Ed25519PublicKey, KeyData},
};
use sallyport_core::{
    entropy::Entropy,
    secret::{Secret, SecretBytes},
};

use crate::signing::{NotASigningKey, SigningKey};

/// Bytes of a scalar of P-256, and of each half of its signatures.
const SCALAR_BYTES: usize = 32;
/// `ECPrivateKey` (RFC 5915) of P-256 without the public key: what is before the scalar, and after it.
const DER_HEAD: [u8; 7] = [0x30, 0x31, 0x02, 0x01, 0x01, 0x04, 0x20];
const DER_TAIL: [u8; 12] = [
    0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07,
];
/// A random number is no scalar once in 2³².
const DRAWS_MAX: usize = 8;
const ALGORITHM: Algorithm = Algorithm::Ecdsa {
    curve: EcdsaCurve::NistP256,
};

/// The key of an SSH authority.
pub(crate) enum AuthorityKey {
    /// Ed25519 (RFC 8032).
    Ed25519(SigningKey),
    /// ECDSA over NIST P-256 (RFC 5656).
    NistP256(NistP256Key),
}

/// A key pair of P-256.
pub(crate) struct NistP256Key {
    pair: EcdsaKeyPair,
    public_key: EcdsaPublicKey,
}

impl fmt::Debug for AuthorityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AuthorityKey")
            .field(&self.key_data())
            .finish()
    }
}

impl AuthorityKey {
    /// Draws a key that targets are to trust, in the form that goes into the vault: `ECPrivateKey` of
    /// RFC 5915, DER.
    pub(crate) fn new_secret(entropy: &dyn Entropy) -> SecretBytes {
        let mut der = [DER_HEAD.as_slice(), &[0; SCALAR_BYTES], &DER_TAIL].concat();
        for _ in 0..DRAWS_MAX {
            if let Some(scalar) = der.get_mut(DER_HEAD.len()..DER_HEAD.len() + SCALAR_BYTES) {
                entropy.fill(scalar);
            }
            if NistP256Key::read(&der).is_ok() {
                break;
            }
        }
        Secret::new(der)
    }

    /// The key of a secret from the vault: a seed of 32 bytes, or `ECPrivateKey`.
    pub(crate) fn from_secret(secret: &SecretBytes) -> Result<Self, NotASigningKey> {
        if secret.expose_secret().first_chunk() == Some(&DER_HEAD) {
            NistP256Key::read(secret.expose_secret()).map(Self::NistP256)
        } else {
            SigningKey::from_seed(secret).map(Self::Ed25519)
        }
    }

    /// The public half.
    pub(crate) fn key_data(&self) -> KeyData {
        match self {
            Self::Ed25519(key) => KeyData::Ed25519(Ed25519PublicKey(key.public_key())),
            Self::NistP256(key) => KeyData::Ecdsa(key.public_key),
        }
    }

    /// Signs.
    pub(crate) fn sign(&self, message: &[u8]) -> ssh_key::Result<Signature> {
        match self {
            Self::Ed25519(key) => Signature::new(Algorithm::Ed25519, key.sign(message)),
            Self::NistP256(key) => key.sign(message),
        }
    }

    /// A signature that is none, of the form this key's have.
    pub(crate) fn empty_signature(&self) -> ssh_key::Result<Signature> {
        match self {
            Self::Ed25519(_) => Signature::new(Algorithm::Ed25519, [0; 2 * SCALAR_BYTES]),
            Self::NistP256(_) => Signature::new(ALGORITHM, numbers(&[1], &[1])),
        }
    }
}

impl NistP256Key {
    fn read(der: &[u8]) -> Result<Self, NotASigningKey> {
        // The library would overlook what follows the structure.
        if der.len() != DER_HEAD.len() + SCALAR_BYTES + DER_TAIL.len() {
            return Err(NotASigningKey);
        }
        let pair = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der)
            .map_err(|_| NotASigningKey)?;
        let public_key = EcdsaPublicKey::from_sec1_bytes(pair.public_key().as_ref())
            .map_err(|_| NotASigningKey)?;
        Ok(Self { pair, public_key })
    }

    fn sign(&self, message: &[u8]) -> ssh_key::Result<Signature> {
        let signature = self
            .pair
            .sign(&SystemRandom::new(), message)
            .map_err(|_| ssh_key::Error::Crypto)?;
        let (r, s) = signature
            .as_ref()
            .split_at_checked(SCALAR_BYTES)
            .ok_or(ssh_key::Error::Crypto)?;
        Signature::new(ALGORITHM, numbers(r, s))
    }
}

/// Two positive numbers as `mpint`s (RFC 4251 section 5; RFC 5656 section 3.1.2).
fn numbers(r: &[u8], s: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(2 * (4 + 1 + SCALAR_BYTES));
    for number in [r, s] {
        let leading = number.iter().take_while(|byte| **byte == 0).count();
        let digits = number.get(leading..).unwrap_or_default();
        let sign = digits.first().is_some_and(|first| *first >= 0x80);
        // At most 33, from numbers of 32 bytes.
        let length = u32::try_from(digits.len() + usize::from(sign)).unwrap_or_default();
        encoded.extend_from_slice(&length.to_be_bytes());
        if sign {
            encoded.push(0);
        }
        encoded.extend_from_slice(digits);
    }
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use russh::keys::{signature::Verifier as _, ssh_key::Mpint};

    use super::*;
    use crate::SystemEntropy;

    /// VA-3: what is stored is the key again, and its signatures verify.
    #[test]
    fn given_a_new_key_when_stored_and_read_then_it_signs_what_its_public_half_verifies() {
        // Numbers with leading zeros and with the highest bit set both come up in so many.
        for round in 0..64_u8 {
            let secret = AuthorityKey::new_secret(&SystemEntropy);
            let key = AuthorityKey::from_secret(&secret).unwrap();
            assert!(matches!(key, AuthorityKey::NistP256(_)));
            let again = AuthorityKey::from_secret(&secret).unwrap();
            assert_eq!(key.key_data(), again.key_data());
            let signature = key.sign(&[round]).unwrap();
            key.key_data().verify(&[round], &signature).unwrap();
            assert!(key.key_data().verify(&[round, 0], &signature).is_err());
            let other = AuthorityKey::from_secret(&AuthorityKey::new_secret(&SystemEntropy));
            assert_ne!(other.unwrap().key_data(), key.key_data());
        }
    }

    /// VA-3: vaults made before have a seed there, and targets that trust its key.
    #[test]
    fn given_a_seed_then_the_key_is_ed25519_as_before() {
        let key = AuthorityKey::from_secret(&Secret::new(vec![7; 32])).unwrap();
        let before = SigningKey::from_seed(&Secret::new(vec![7; 32])).unwrap();
        assert_eq!(
            key.key_data(),
            KeyData::Ed25519(Ed25519PublicKey(before.public_key()))
        );
        key.key_data()
            .verify(b"x", &key.sign(b"x").unwrap())
            .unwrap();
    }

    #[test]
    fn given_anything_else_then_it_is_no_key() {
        let whole = AuthorityKey::new_secret(&SystemEntropy);
        let whole = whole.expose_secret();
        let zero = [DER_HEAD.as_slice(), &[0; SCALAR_BYTES], &DER_TAIL].concat();
        let beyond = [DER_HEAD.as_slice(), &[0xff; SCALAR_BYTES], &DER_TAIL].concat();
        let longer = [whole.as_slice(), &[0]].concat();
        for wrong in [
            &whole[..50],
            &whole[..7],
            &zero,
            &beyond,
            &longer,
            b"",
            &[1; 31],
        ] {
            assert!(AuthorityKey::from_secret(&Secret::new(wrong.to_vec())).is_err());
        }
    }

    #[test]
    fn given_a_key_when_printed_then_its_private_half_is_not_there() {
        let secret = AuthorityKey::new_secret(&SystemEntropy);
        let printed = format!("{:?}", AuthorityKey::from_secret(&secret).unwrap());
        let scalar = &secret.expose_secret()[7..39];
        assert!(!printed.contains(&format!("{scalar:?}")));
    }

    proptest! {
        /// Whatever the numbers, they are read back as OpenSSH reads them.
        #[test]
        fn numbers_are_read_back(r in any::<[u8; 32]>(), s in any::<[u8; 32]>(), zeros in 0..31_usize) {
            let mut r = r;
            r[..zeros].fill(0);
            let encoded = numbers(&r, &s);
            let first = Mpint::from_positive_bytes(&r);
            let second = Mpint::from_positive_bytes(&s);
            let mut expected = Vec::new();
            for number in [first, second] {
                let bytes = number.as_bytes();
                expected.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
                expected.extend(bytes);
            }
            prop_assert_eq!(encoded, expected);
        }
    }
}
