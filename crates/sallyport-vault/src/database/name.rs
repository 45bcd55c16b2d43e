//! Names and passwords of the users that engines make.
//!
//! INVARIANT: a name says which installation made the user and is the same whenever it is derived from the
//! same lease, so that what a crash or a restored store forgot is found again by its name.

use aws_lc_rs::digest;
use sallyport_core::{
    entropy::Entropy,
    id::LeaseId,
    secret::{Secret, SecretString},
};

use crate::{keyring::KeyringId, text::base32};

/// Characters that say whose user it is.
const INSTALLATION_CHARS: usize = 6;
/// Characters that say for which lease: 110 bits.
const LEASE_CHARS: usize = 22;
/// Bytes of randomness in a password.
const PASSWORD_BYTES: usize = 25;

/// What the names of all users begin with that an installation, known by its keyring, makes.
pub(crate) fn prefix(keyring: &KeyringId) -> String {
    format!("sp_{}_", hash(&keyring.to_string(), INSTALLATION_CHARS))
}

/// The name of a lease's user: 32 characters, the most that MySQL takes, of `a-z`, `0-9` and `_`.
pub(crate) fn user(keyring: &KeyringId, lease_id: &LeaseId) -> String {
    format!(
        "{}{}",
        prefix(keyring),
        hash(lease_id.as_str(), LEASE_CHARS)
    )
}

/// Whether a user of this name can only be one that this installation made for a lease. People may give names of
/// their own that begin as these do.
pub(crate) fn is_user(name: &str, keyring: &KeyringId) -> bool {
    name.strip_prefix(&prefix(keyring)).is_some_and(|lease| {
        lease.len() == LEASE_CHARS
            && lease.bytes().all(|byte| {
                byte.is_ascii_digit() || (byte.is_ascii_lowercase() && !b"ilou".contains(&byte))
            })
    })
}

fn hash(text: &str, chars: usize) -> String {
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    base32(digest.as_ref()).chars().take(chars).collect()
}

/// A fresh password: 200 random bits in 40 characters that need no quoting anywhere.
pub(crate) fn password(entropy: &dyn Entropy) -> SecretString {
    let mut bytes = zeroize::Zeroizing::new([0_u8; PASSWORD_BYTES]);
    entropy.fill(&mut *bytes);
    Secret::new(base32(&*bytes))
}

#[cfg(test)]
mod tests {
    use sallyport_core::time::Timestamp;

    use super::*;
    use crate::entropy::SystemEntropy;

    /// VA-4
    #[test]
    fn given_a_lease_then_its_user_has_one_name_that_fits_everywhere_and_no_other_has_it() {
        let (keyring, other) = (
            KeyringId::from_bytes([1; 10]),
            KeyringId::from_bytes([2; 10]),
        );
        let lease = |byte| LeaseId::new(Timestamp::from_unix_ms(1), [byte; 10]);
        let name = user(&keyring, &lease(1));
        assert_eq!(name, user(&keyring, &lease(1)));
        assert_eq!(name.len(), 32);
        assert!(name.starts_with(&prefix(&keyring)));
        assert!(is_user(&name, &keyring) && !is_user(&name, &other));
        let begins = prefix(&keyring);
        for other in [
            "admins",
            "",
            "ABCDEFGHIJKLMNOPQRSTUV",
            "abcdefghijklmnopqrstuv",
        ] {
            assert!(!is_user(&format!("{begins}{other}"), &keyring));
        }
        assert!(!is_user(&format!("{name}a"), &keyring));
        assert!(
            name.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        );
        assert_ne!(name, user(&keyring, &lease(2)));
        assert_ne!(prefix(&keyring), prefix(&other));
    }

    /// VA-6
    #[test]
    fn given_two_passwords_then_they_differ_and_need_no_quoting() {
        let first = password(&SystemEntropy);
        let second = password(&SystemEntropy);
        assert_ne!(first.expose_secret(), second.expose_secret());
        assert_eq!(first.expose_secret().len(), 40);
        assert!(
            first
                .expose_secret()
                .bytes()
                .all(|b| b.is_ascii_alphanumeric())
        );
    }
}
