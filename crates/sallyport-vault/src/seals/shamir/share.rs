//! One share as text that can be printed, typed and read over the telephone:
//! `sps1-` and ten groups of eight characters.
//!
//! INVARIANT: a text with any wrong character is refused as mistyped, never taken for another share.

use std::fmt;

use aws_lc_rs::digest;
use sallyport_core::secret::{Secret, SecretString};
use zeroize::Zeroizing;

use super::field::Point;
use crate::{
    aead::KEY_BYTES,
    keyring::KeyringId,
    text::{base32, from_base32},
};

/// Says what the text is, and in which form.
const PREFIX: &str = "sps1-";
/// Characters of a group.
const GROUP_CHARS: usize = 8;
/// Bytes that find typing mistakes: one in 2^48 goes unseen.
const CHECKSUM_BYTES: usize = 6;
const CONTENT_BYTES: usize = KeyringId::BYTES + 2 + KEY_BYTES;
/// Longest text looked at: a share with generous spacing.
const MAX_TEXT_BYTES: usize = 256;

/// One share of a seal key. Printable only on purpose.
pub struct Share {
    keyring_id: KeyringId,
    threshold: u8,
    point: Point,
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share")
            .field("keyring_id", &self.keyring_id)
            .field("index", &self.index())
            .finish_non_exhaustive()
    }
}

/// Why a text is no share, or the wrong one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ShareError {
    /// It does not look like one.
    #[error("the text is not a share; one begins with `{PREFIX}` and ten groups of eight follow")]
    NotAShare,
    /// The checksum does not fit.
    #[error("share {index} is mistyped: its checksum does not fit; compare it group by group")]
    Mistyped {
        /// Its number, as far as it can be read.
        index: u8,
    },
    /// It is whole, but another vault's.
    #[error("share {index} is of keyring `{found}`, and this vault is keyring `{expected}`")]
    OfAnotherVault {
        /// Its number.
        index: u8,
        /// The keyring it names.
        found: KeyringId,
        /// The keyring of this vault.
        expected: KeyringId,
    },
    /// It names this vault, but is none of the shares made last.
    #[error("share {index} is not one of the shares that unseal this vault; was it replaced?")]
    NotOfThisSet {
        /// Its number.
        index: u8,
    },
}

impl Share {
    pub(super) const fn new(keyring_id: KeyringId, threshold: u8, point: Point) -> Self {
        Self {
            keyring_id,
            threshold,
            point,
        }
    }

    /// Its number, from 1.
    #[must_use]
    pub const fn index(&self) -> u8 {
        self.point.x
    }

    /// How many shares unseal.
    #[must_use]
    pub const fn threshold(&self) -> u8 {
        self.threshold
    }

    /// The vault it is for.
    #[must_use]
    pub const fn keyring_id(&self) -> &KeyringId {
        &self.keyring_id
    }

    pub(super) const fn point(&self) -> &Point {
        &self.point
    }

    pub(crate) fn check_keyring(&self, expected: &KeyringId) -> Result<(), ShareError> {
        if &self.keyring_id == expected {
            return Ok(());
        }
        Err(ShareError::OfAnotherVault {
            index: self.index(),
            found: self.keyring_id.clone(),
            expected: expected.clone(),
        })
    }

    /// The text to hand to one person.
    #[must_use]
    pub fn to_text(&self) -> SecretString {
        let mut bytes = Zeroizing::new(Vec::with_capacity(CONTENT_BYTES + CHECKSUM_BYTES));
        bytes.extend_from_slice(self.keyring_id.as_bytes());
        bytes.extend_from_slice(&[self.index(), self.threshold]);
        bytes.extend_from_slice(self.point.y.expose_secret());
        let checksum = checksum(&bytes);
        bytes.extend_from_slice(&checksum);

        let characters = Zeroizing::new(base32(&bytes));
        let mut text = String::with_capacity(MAX_TEXT_BYTES);
        text.push_str(PREFIX);
        for (place, character) in characters.chars().enumerate() {
            if place > 0 && place % GROUP_CHARS == 0 {
                text.push('-');
            }
            text.push(character);
        }
        Secret::new(text)
    }

    /// Reads a share as people type it: any case, any grouping, `o` for zero, `i` or `l` for one.
    ///
    /// # Errors
    /// [`ShareError::NotAShare`], [`ShareError::Mistyped`].
    pub fn from_text(text: &str) -> Result<Self, ShareError> {
        let text = text.trim();
        if text.len() > MAX_TEXT_BYTES {
            return Err(ShareError::NotAShare);
        }
        let (prefix, rest) = text
            .split_at_checked(PREFIX.len())
            .ok_or(ShareError::NotAShare)?;
        if !prefix.eq_ignore_ascii_case(PREFIX) {
            return Err(ShareError::NotAShare);
        }
        let bytes = Zeroizing::new(from_base32(rest).ok_or(ShareError::NotAShare)?);
        let (content, found) = bytes
            .split_at_checked(CONTENT_BYTES)
            .ok_or(ShareError::NotAShare)?;
        let (keyring_id, rest) = content
            .split_first_chunk::<{ KeyringId::BYTES }>()
            .ok_or(ShareError::NotAShare)?;
        let ([index, threshold], y) = rest.split_first_chunk().ok_or(ShareError::NotAShare)?;
        if found != checksum(content) || *index == 0 {
            return Err(ShareError::Mistyped { index: *index });
        }
        Ok(Self {
            keyring_id: KeyringId::from_bytes(*keyring_id),
            threshold: *threshold,
            point: Point {
                x: *index,
                y: Secret::new(y.to_vec()),
            },
        })
    }
}

/// Finds typing mistakes; keeps nobody from making a share up.
fn checksum(content: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest = digest::digest(&digest::SHA256, content);
    let mut checksum = [0; CHECKSUM_BYTES];
    for (to, from) in checksum.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    checksum
}
