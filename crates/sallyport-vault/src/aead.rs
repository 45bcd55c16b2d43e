//! Authenticated encryption as everything at rest uses it: AES-256-GCM-SIV (RFC 8452) under a fresh
//! random nonce, with associated data that says what the bytes are and where they belong.
//!
//! Called by the keyring, the secret store and the seals.
//!
//! INVARIANT: no two purposes share associated data, because each begins with its own domain and
//! every field carries its length; so bytes sealed for one place open nowhere else.

use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
};
use sallyport_core::{
    entropy::Entropy,
    secret::{Secret, SecretBytes},
};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// Bytes of every symmetric key here.
pub(crate) const KEY_BYTES: usize = 32;
/// What sealing adds to the plaintext: the nonce before it, the tag after it.
pub(crate) const OVERHEAD_BYTES: usize = NONCE_LEN + 16;

/// Sealed bytes do not open: another key, another place, or changed bytes. Which of them cannot be
/// told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("authenticate sealed bytes: wrong key, wrong place, or changed")]
pub struct NotAuthentic;

/// A 256-bit key in memory, wiped when dropped.
pub(crate) struct SymmetricKey(Secret<Vec<u8>>);

impl SymmetricKey {
    /// Draws a fresh key.
    pub(crate) fn generate(entropy: &dyn Entropy) -> Self {
        let mut key = vec![0; KEY_BYTES];
        entropy.fill(&mut key);
        Self(Secret::new(key))
    }

    /// Takes over key bytes; `None` unless there are exactly 32.
    pub(crate) fn from_secret(bytes: SecretBytes) -> Option<Self> {
        (bytes.expose_secret().len() == KEY_BYTES).then_some(Self(bytes))
    }

    /// A second copy, for a keyring that replaces this one.
    pub(crate) fn duplicate(&self) -> Self {
        Self(Secret::new(self.expose_secret().to_vec()))
    }

    pub(crate) fn expose_secret(&self) -> &[u8] {
        self.0.expose_secret()
    }

    /// Seals `plaintext`: nonce, ciphertext, tag.
    pub(crate) fn seal(
        &self,
        entropy: &dyn Entropy,
        associated: &AssociatedBytes,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, NotAuthentic> {
        let nonce = entropy.draw::<NONCE_LEN>();
        let mut sealed = Vec::with_capacity(plaintext.len() + OVERHEAD_BYTES);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plaintext);
        let place = sealed.get_mut(NONCE_LEN..).ok_or(NotAuthentic)?;
        let tag = self
            .cipher()?
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(associated.0.as_slice()),
                place,
            )
            .map_err(|_| NotAuthentic)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Opens what [`Self::seal`] made with the same associated data.
    pub(crate) fn open(
        &self,
        associated: &AssociatedBytes,
        sealed: &[u8],
    ) -> Result<SecretBytes, NotAuthentic> {
        let (nonce, rest) = sealed.split_at_checked(NONCE_LEN).ok_or(NotAuthentic)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| NotAuthentic)?;
        let mut opened = rest.to_vec();
        let plaintext_bytes = self
            .cipher()?
            .open_in_place(nonce, Aad::from(associated.0.as_slice()), &mut opened)
            .map(|plaintext| plaintext.len());
        match plaintext_bytes {
            Ok(length) => {
                opened.truncate(length);
                Ok(Secret::new(opened))
            }
            Err(_) => {
                opened.zeroize();
                Err(NotAuthentic)
            }
        }
    }

    /// A value that tells, without opening anything, whether this is the expected key: the first 16
    /// bytes of HMAC-SHA-256 over the associated data. Says nothing about the key itself.
    pub(crate) fn check_value(&self, associated: &AssociatedBytes) -> Vec<u8> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.expose_secret());
        let tag = hmac::sign(&key, &associated.0);
        tag.as_ref().iter().take(16).copied().collect()
    }

    /// Whether `expected` is this key's check value, in the same time for any answer.
    pub(crate) fn is_check_value(&self, associated: &AssociatedBytes, expected: &[u8]) -> bool {
        self.check_value(associated).ct_eq(expected).into()
    }

    fn cipher(&self) -> Result<LessSafeKey, NotAuthentic> {
        UnboundKey::new(&AES_256_GCM_SIV, self.expose_secret())
            .map(LessSafeKey::new)
            .map_err(|_| NotAuthentic)
    }
}

/// What sealed bytes are bound to.
pub(crate) struct AssociatedBytes(Vec<u8>);

impl AssociatedBytes {
    /// Begins with the domain: what kind of thing is sealed, with its format version.
    pub(crate) fn new(domain: &'static str) -> Self {
        Self(Vec::new()).and(domain.as_bytes())
    }

    /// Adds a field, with its length before it.
    pub(crate) fn and(mut self, field: &[u8]) -> Self {
        self.0
            .extend_from_slice(&(field.len() as u64).to_be_bytes());
        self.0.extend_from_slice(field);
        self
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Adds a number.
    pub(crate) fn and_number(self, number: u64) -> Self {
        self.and(&number.to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemEntropy;

    /// VA-1
    #[test]
    fn given_sealed_bytes_when_any_is_changed_or_cut_then_they_do_not_open() {
        let key = SymmetricKey::generate(&SystemEntropy);
        let place = || AssociatedBytes::new("test").and(b"a").and_number(1);
        let sealed = key.seal(&SystemEntropy, &place(), b"canary").unwrap();
        assert_eq!(sealed.len(), 6 + OVERHEAD_BYTES);
        assert!(
            key.open(&place(), &sealed)
                .is_ok_and(|it| it.expose_secret() == b"canary")
        );

        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(key.open(&place(), &changed).is_err(), "byte {at}");
            assert!(key.open(&place(), &sealed[..at]).is_err(), "cut at {at}");
        }
        assert!(
            SymmetricKey::generate(&SystemEntropy)
                .open(&place(), &sealed)
                .is_err()
        );
    }

    #[test]
    fn given_fields_that_join_to_the_same_text_when_bound_then_they_stay_apart() {
        let key = SymmetricKey::generate(&SystemEntropy);
        let bound = AssociatedBytes::new("test").and(b"ab").and(b"c");
        let sealed = key.seal(&SystemEntropy, &bound, b"x").unwrap();
        for other in [
            AssociatedBytes::new("test").and(b"a").and(b"bc"),
            AssociatedBytes::new("test").and(b"abc"),
            AssociatedBytes::new("testab").and(b"c"),
        ] {
            assert!(key.open(&other, &sealed).is_err());
        }
    }

    #[test]
    fn given_the_same_plaintext_twice_when_sealed_then_the_bytes_differ() {
        let key = SymmetricKey::generate(&SystemEntropy);
        let seal = || {
            key.seal(&SystemEntropy, &AssociatedBytes::new("test"), b"x")
                .unwrap()
        };
        assert_ne!(seal(), seal());
    }
}
