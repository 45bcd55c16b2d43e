//! The `shamir` seal: the key is split into shares for several people, of whom some number must come
//! together.
//!
//! The shares split a *seal key* made for this one purpose, which wraps the root key; so the people can
//! be changed later without re-encrypting anything below the root key.
//!
//! INVARIANT: a share is checked by itself, against a digest of it in the record, before it counts. So
//! a wrong share is refused by name, and nobody without a share can spoil an unseal in progress.

mod field;
mod share;

use aws_lc_rs::digest;
use sallyport_core::{
    descriptor::{Descriptor, Setting},
    secret::Secret,
};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

pub use self::share::{Share, ShareError};
use super::{Seal, SealError, Sealing, Unsealing, Wrapped, read, unwrap_under, wrap_under};
use crate::{
    aead::{AssociatedBytes, SymmetricKey},
    keyring::{RootKey, SealedRootKey},
    text::base64,
};

/// Kind of this seal.
pub(crate) const KIND: &str = "shamir";
/// Most shares one key is split into.
pub const MAX_SHARES: u8 = 16;

/// See the module.
#[derive(Debug)]
pub(crate) struct Shamir;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    shares: u8,
    threshold: u8,
}

/// What the record remembers of the shares.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    /// How many unseal.
    pub(crate) threshold: u8,
    /// For each share, the first in the first place, what tells it from a wrong one.
    digests: Vec<String>,
}

impl Parameters {
    /// Reads what [`Seal::wrap`] stored.
    pub(crate) fn read(sealed: &SealedRootKey) -> Result<Self, SealError> {
        let parameters: Self = serde_json::from_str(&sealed.parameters).map_err(unreadable)?;
        let shares = u8::try_from(parameters.digests.len()).unwrap_or(u8::MAX);
        check_counts(shares, parameters.threshold)?;
        Ok(parameters)
    }

    /// Whether `share` is one of those made with this record.
    pub(crate) fn check(&self, share: &Share) -> Result<(), ShareError> {
        let expected = usize::from(share.index())
            .checked_sub(1)
            .and_then(|place| self.digests.get(place));
        let is_ours = share.threshold() == self.threshold
            && expected.is_some_and(|expected| {
                digest_of(share)
                    .as_bytes()
                    .ct_eq(expected.as_bytes())
                    .into()
            });
        if is_ours {
            Ok(())
        } else {
            Err(ShareError::NotOfThisSet {
                index: share.index(),
            })
        }
    }
}

impl Seal for Shamir {
    fn describe(&self) -> Descriptor {
        let setting = |name: &str, purpose: &str| Setting {
            name: name.to_owned(),
            purpose: purpose.to_owned(),
            is_required: true,
        };
        Descriptor {
            kind: KIND.to_owned(),
            title: "Shares held by people".to_owned(),
            settings: vec![
                setting("shares", "how many shares are made, 1 to 16"),
                setting("threshold", "how many of them unseal, 1 to `shares`"),
            ],
            operations: Vec::new(),
            secrets_needed: Vec::new(),
        }
    }

    fn wrap(&self, root_key: &RootKey, sealing: &Sealing<'_>) -> Result<Wrapped, SealError> {
        let settings: Settings = read(KIND, sealing.settings)?;
        check_counts(settings.shares, settings.threshold)?;
        let seal_key = SymmetricKey::generate(sealing.entropy);
        let shares: Vec<Share> = field::split(
            seal_key.expose_secret(),
            settings.threshold,
            settings.shares,
            sealing.entropy,
        )
        .into_iter()
        .map(|point| Share::new(sealing.keyring_id.clone(), settings.threshold, point))
        .collect();
        let parameters = Parameters {
            threshold: settings.threshold,
            digests: shares.iter().map(digest_of).collect(),
        };
        let parameters = serde_json::to_string(&parameters).map_err(unreadable)?;
        let sealed = wrap_under(&seal_key, root_key, sealing, KIND, parameters)?;
        Ok(Wrapped { sealed, shares })
    }

    fn unwrap(
        &self,
        sealed: &SealedRootKey,
        unsealing: &Unsealing<'_>,
    ) -> Result<RootKey, SealError> {
        let parameters = Parameters::read(sealed)?;
        let mut points: Vec<&field::Point> = Vec::new();
        for share in unsealing.shares {
            share
                .check_keyring(unsealing.keyring_id)
                .map_err(SealError::Share)?;
            parameters.check(share).map_err(SealError::Share)?;
            if points.iter().all(|point| point.x != share.index()) {
                points.push(share.point());
            }
        }
        if points.len() < usize::from(parameters.threshold) {
            return Err(SealError::TooFewShares {
                given: points.len(),
                threshold: parameters.threshold,
            });
        }
        let seal_key = SymmetricKey::from_secret(field::recover(&points));
        let wrong = || SealError::WrongKey {
            keyring_id: unsealing.keyring_id.clone(),
        };
        unwrap_under(&seal_key.ok_or_else(wrong)?, sealed, unsealing.keyring_id)
    }
}

fn check_counts(shares: u8, threshold: u8) -> Result<(), SealError> {
    if (1..=MAX_SHARES).contains(&shares) && (1..=shares).contains(&threshold) {
        return Ok(());
    }
    Err(SealError::Settings {
        kind: KIND,
        problem: format!(
            "{threshold} of {shares} shares: make 1 to {MAX_SHARES} shares, of which 1 to all unseal"
        ),
    })
}

fn unreadable(error: serde_json::Error) -> SealError {
    SealError::Settings {
        kind: KIND,
        problem: error.to_string(),
    }
}

/// Tells a share from any other without telling anything about it: a share holds 256 random bits, so
/// its hash can be stored in the open.
fn digest_of(share: &Share) -> String {
    let content = AssociatedBytes::new("sallyport share digest v1")
        .and(share.keyring_id().as_bytes())
        .and(&[share.index(), share.threshold()])
        .and(share.point().y.expose_secret());
    let content = Secret::new(content.into_bytes());
    base64(digest::digest(&digest::SHA256, content.expose_secret()).as_ref())
}

#[cfg(test)]
mod tests;
