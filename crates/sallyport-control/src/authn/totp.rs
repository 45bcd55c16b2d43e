//! One-time codes (RFC 6238): six digits, 30 seconds, one step of tolerance either way.
//!
//! INVARIANT: a secret is stored sealed under a key that is not in the database; [`OneTimeKey::step_of`]
//! only says which step a code is of: whoever accepts it must consume that step in the same transaction.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use sallyport_api::sensitive::Sensitive;
use sallyport_core::{id::PersonId, principal::PersonName, secret::SecretBytes, time::Timestamp};
use totp_rs::{Algorithm, Builder, Totp};
use zeroize::Zeroizing;

use crate::kernel::ids;

/// Name under which authenticator apps list the secret.
const ISSUER: &str = "Sallyport";
/// RFC 4226 recommends 160 bits.
const SECRET_BYTES: usize = 20;
const NONCE_BYTES: usize = 12;

/// Seals one-time-code secrets; its key is a file of the data directory.
pub(super) struct OneTimeSeal(RandomizedNonceKey);

impl fmt::Debug for OneTimeSeal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneTimeSeal").finish_non_exhaustive()
    }
}

/// A stored secret cannot be opened or used: damaged, moved to another person, or of another key file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored one-time-code secret does not open with this data directory's key")]
pub struct UnusableSecret;

impl OneTimeSeal {
    pub(super) fn new(key: &[u8; 32]) -> Result<Self, UnusableSecret> {
        RandomizedNonceKey::new(&AES_256_GCM, key)
            .map(Self)
            .map_err(|_| UnusableSecret)
    }

    /// A fresh secret, and what to store of it: nonce, ciphertext, tag; bound to the person.
    pub(super) fn generate(
        &self,
        person: &PersonId,
    ) -> Result<(SecretBytes, Vec<u8>), UnusableSecret> {
        let mut secret = Zeroizing::new([0_u8; SECRET_BYTES]);
        ids::fill(secret.as_mut());
        let mut sealed = secret.to_vec();
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(person.as_str()), &mut sealed)
            .map_err(|_| UnusableSecret)?;
        let stored = [nonce.as_ref().as_slice(), &sealed].concat();
        Ok((SecretBytes::new(secret.to_vec()), stored))
    }

    /// The stored secret of a person.
    pub(super) fn open(
        &self,
        person: &PersonId,
        stored: &[u8],
    ) -> Result<SecretBytes, UnusableSecret> {
        let (nonce, sealed) = stored
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or(UnusableSecret)?;
        let mut opened = Zeroizing::new(sealed.to_vec());
        let plain = self
            .0
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(person.as_str()),
                &mut opened,
            )
            .map_err(|_| UnusableSecret)?;
        Ok(SecretBytes::new(plain.to_vec()))
    }
}

/// A secret ready to check codes with.
pub(super) struct OneTimeKey(Totp);

impl OneTimeKey {
    pub(super) fn new(secret: &SecretBytes, person: &PersonName) -> Result<Self, UnusableSecret> {
        Builder::new()
            .with_algorithm(Algorithm::SHA1)
            .with_digits(6)
            .with_skew(1)
            .with_step_duration(30)
            .with_secret(secret.expose_secret().clone())
            .with_issuer(Some(ISSUER))
            .with_account_name(person.as_str())
            .build()
            .map(Self)
            .map_err(|_| UnusableSecret)
    }

    /// A key that nobody has, for names that nobody has.
    pub(super) fn of_nobody() -> Result<Self, UnusableSecret> {
        let mut secret = vec![0_u8; SECRET_BYTES];
        ids::fill(&mut secret);
        Builder::new()
            .with_secret(secret)
            .with_skew(1)
            .build()
            .map(Self)
            .map_err(|_| UnusableSecret)
    }

    /// The `otpauth://` URI for authenticator apps.
    pub(super) fn uri(&self) -> Result<Sensitive, UnusableSecret> {
        self.0
            .to_url()
            .map(Sensitive::new)
            .map_err(|_| UnusableSecret)
    }

    /// The step that `code` belongs to, if it is the code of this or a neighbouring step. White space
    /// around and within is not part of a code: every spelling of a code is the same code.
    pub(super) fn step_of(&self, code: &str, now: Timestamp) -> Option<u64> {
        if code.len() > 16 {
            return None;
        }
        let digits: Zeroizing<String> =
            Zeroizing::new(code.chars().filter(|c| !c.is_ascii_whitespace()).collect());
        let is_code = digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_digit());
        is_code
            .then(|| self.0.check(&digits, now.unix_s()))
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> OneTimeKey {
        let secret = SecretBytes::new(b"12345678901234567890".to_vec());
        OneTimeKey::new(&secret, &"alice".parse().unwrap()).unwrap()
    }

    fn at(unix_s: i64) -> Timestamp {
        Timestamp::from_unix_ms(unix_s * 1_000)
    }

    /// ID-5. RFC 6238 appendix B, truncated to six digits.
    #[test]
    fn given_the_vectors_of_the_rfc_then_codes_and_steps_are_theirs() {
        for (unix_s, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
        ] {
            let step = u64::try_from(unix_s / 30).unwrap();
            assert_eq!(key().step_of(code, at(unix_s)), Some(step), "{code}");
        }
    }

    #[test]
    fn given_spellings_of_one_code_then_they_are_of_one_step() {
        for spelling in ["081804", " 081804", "081 804", "081804\n"] {
            assert_eq!(
                key().step_of(spelling, at(1_111_111_109)),
                Some(37_037_036),
                "{spelling:?}"
            );
        }
        for other in [
            "",
            "81804",
            "0818040",
            "081804x",
            "٠٨١٨٠٤",
            "081804                ",
        ] {
            assert_eq!(key().step_of(other, at(1_111_111_109)), None, "{other:?}");
        }
    }

    #[test]
    fn given_a_code_two_steps_away_then_it_is_of_no_step() {
        assert_eq!(key().step_of("287082", at(59 + 30)), Some(1));
        assert_eq!(key().step_of("287082", at(59 + 61)), None);
    }

    #[test]
    fn given_a_sealed_secret_when_moved_to_another_person_then_it_does_not_open() {
        let seal = OneTimeSeal::new(&[7; 32]).unwrap();
        let (alice, bob) = (
            PersonId::new(Timestamp::EPOCH, [1; 10]),
            PersonId::new(Timestamp::EPOCH, [2; 10]),
        );
        let (secret, stored) = seal.generate(&alice).unwrap();
        let opened = seal.open(&alice, &stored).unwrap();
        assert_eq!(opened.expose_secret(), secret.expose_secret());
        assert!(seal.open(&bob, &stored).is_err());
        assert!(
            OneTimeSeal::new(&[8; 32])
                .unwrap()
                .open(&alice, &stored)
                .is_err()
        );
        assert!(
            !stored
                .windows(SECRET_BYTES)
                .any(|window| window == secret.expose_secret().as_slice())
        );
    }
}
