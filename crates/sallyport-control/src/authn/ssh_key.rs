//! Registered SSH keys: which are accepted, adding, removing, listing.
//!
//! INVARIANT: one key belongs to one person; certificates, DSA and short RSA keys are never keys.

use russh::keys::ssh_key::{HashAlg, PublicKey, public::KeyData};
use sallyport_api::rest::sign_in::AddKey;
use sallyport_core::{
    event::{Event, EventName, Events},
    id::KeyId,
};

use super::store::{self, key::SshKey};
use crate::kernel::{
    caller::Caller,
    control::Control,
    database::StoreError,
    ids,
    problem::{Fault, Faulty},
};

/// An RSA key of 16,384 bits fits; anything longer is no key.
const LINE_BYTES_MAX: usize = 8 * 1024;
const RSA_BITS: std::ops::RangeInclusive<u32> = 3_072..=8_192;
const LABEL_CHARS_MAX: usize = 64;
const KEYS_MAX: usize = 32;

/// Why a text is no key that is accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnfitKey {
    /// It cannot be read.
    #[error("it is not an OpenSSH public key on one line, such as `ssh-ed25519 AAAA…`")]
    Unreadable,
    /// It is a certificate.
    #[error("it is a certificate; give the key it certifies")]
    Certificate,
    /// Of a kind that is not accepted.
    #[error(
        "keys of kind `{algorithm}` are not accepted; use ed25519, ecdsa, sk-ed25519, sk-ecdsa or rsa"
    )]
    Algorithm {
        /// Its kind.
        algorithm: String,
    },
    /// Too short or too long.
    #[error("it is an RSA key of {bits} bits; {least} to {most} are accepted", least = RSA_BITS.start(), most = RSA_BITS.end())]
    RsaBits {
        /// Its size.
        bits: u32,
    },
}

/// A key that is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PublicSshKey {
    line: String,
    algorithm: String,
    fingerprint: String,
}

impl PublicSshKey {
    /// Reads an OpenSSH one-line key; the comment is dropped.
    pub(super) fn read(text: &str) -> Result<Self, UnfitKey> {
        let text = text.trim();
        if text.len() > LINE_BYTES_MAX || text.contains(['\n', '\r', '\0']) {
            return Err(UnfitKey::Unreadable);
        }
        if text
            .split_ascii_whitespace()
            .next()
            .is_some_and(|kind| kind.contains("-cert-"))
        {
            return Err(UnfitKey::Certificate);
        }
        let key = PublicKey::from_openssh(text).map_err(|_| UnfitKey::Unreadable)?;
        let key = PublicKey::from(check(key.key_data())?.clone());
        Ok(Self {
            line: key.to_openssh().map_err(|_| UnfitKey::Unreadable)?,
            algorithm: key.algorithm().as_str().to_owned(),
            fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
        })
    }

    /// The one-line form without comment: the same key is always the same text.
    pub(super) fn as_str(&self) -> &str {
        &self.line
    }

    /// `SHA256:…`.
    pub(super) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

fn check(key: &KeyData) -> Result<&KeyData, UnfitKey> {
    match key {
        KeyData::Ed25519(_)
        | KeyData::Ecdsa(_)
        | KeyData::SkEd25519(_)
        | KeyData::SkEcdsaSha2NistP256(_) => Ok(key),
        KeyData::Rsa(rsa) => {
            let bits = rsa.n().as_positive_bytes().map_or(0, bit_length);
            if RSA_BITS.contains(&bits) {
                Ok(key)
            } else {
                Err(UnfitKey::RsaBits { bits })
            }
        }
        other => Err(UnfitKey::Algorithm {
            algorithm: other
                .algorithm()
                .as_str()
                .chars()
                .filter(|c| !c.is_control())
                .take(64)
                .collect(),
        }),
    }
}

/// Bits of a big-endian number, not rounded up to bytes.
fn bit_length(bytes: &[u8]) -> u32 {
    let leading = bytes.first().map_or(0, |byte| byte.leading_zeros());
    u32::try_from(bytes.len())
        .unwrap_or(u32::MAX)
        .saturating_mul(8)
        .saturating_sub(leading)
}

/// Why a key was not added or removed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It is not accepted.
    #[error("read the SSH key")]
    Unfit(#[source] UnfitKey),
    /// The label is unfit.
    #[error(
        "label a key: a label has 1 to {LABEL_CHARS_MAX} characters, none of them a control character"
    )]
    Label,
    /// Somebody has it, perhaps the caller.
    #[error("register a key: it is registered already")]
    Exists,
    /// The person has as many as allowed.
    #[error("register a key: there are {KEYS_MAX} already")]
    TooMany,
    /// The caller has no such key.
    #[error("remove a key: there is none of this id")]
    NotFound,
    /// An API token may not change what proves its person.
    #[error("change keys with an API token")]
    NeedsSignIn,
    /// The store failed.
    #[error("reach the store")]
    Store(#[from] StoreError),
}

impl Faulty for KeyError {
    fn fault(&self) -> Fault {
        match self {
            Self::Unfit(unfit) => Fault::field("public_key", unfit),
            Self::Label => Fault::field(
                "label",
                format!("has 1 to {LABEL_CHARS_MAX} characters, none of them a control character"),
            ),
            Self::Exists => Fault::Conflict {
                title: "this key is registered already".to_owned(),
                remedy: "use a key of your own; one key proves one person",
            },
            Self::TooMany => Fault::Conflict {
                title: format!("there are {KEYS_MAX} keys already"),
                remedy: "remove one that is not used any more",
            },
            Self::NotFound => Fault::NotFound { noun: "key" },
            Self::NeedsSignIn => Fault::NeedsSignIn,
            Self::Store(error) => error.fault(),
        }
    }
}

/// Whether a text can be a label.
pub(super) fn is_label(text: &str) -> bool {
    (1..=LABEL_CHARS_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

/// Registers a key of the caller.
pub(super) async fn add(
    control: &Control,
    caller: &Caller,
    body: &AddKey,
) -> Result<SshKey, KeyError> {
    if !caller.is_signed_in() {
        return Err(KeyError::NeedsSignIn);
    }
    let key = PublicSshKey::read(&body.public_key).map_err(KeyError::Unfit)?;
    if !is_label(&body.label) {
        return Err(KeyError::Label);
    }
    let now = control.now();
    let mut tx = control.db().begin(caller.actor()).await?;
    let limit = u32::try_from(KEYS_MAX).unwrap_or(u32::MAX);
    if store::key::ssh_keys(&mut tx, &caller.person.id, "", limit)
        .await?
        .len()
        >= KEYS_MAX
    {
        return Err(KeyError::TooMany);
    }
    let key = SshKey {
        id: KeyId::new(now, ids::entropy()),
        person_id: caller.person.id.clone(),
        fingerprint: key.fingerprint,
        public_key: key.line,
        algorithm: key.algorithm,
        label: body.label.clone(),
        added_at: now,
    };
    match store::key::put_ssh_key(&mut tx, &key).await {
        Err(StoreError::Conflict) => return Err(KeyError::Exists),
        other => other?,
    }
    let event = Event::new(EventName::KeyAdded, &key.id)
        .with("fingerprint", &key.fingerprint)
        .with("algorithm", &key.algorithm);
    tx.commit(Events::one(event)).await?;
    Ok(key)
}

/// Removes a key of the caller.
pub(super) async fn remove(control: &Control, caller: &Caller, id: &KeyId) -> Result<(), KeyError> {
    if !caller.is_signed_in() {
        return Err(KeyError::NeedsSignIn);
    }
    let mut tx = control.db().begin(caller.actor()).await?;
    let limit = u32::try_from(KEYS_MAX).unwrap_or(u32::MAX);
    let key = store::key::ssh_keys(&mut tx, &caller.person.id, "", limit)
        .await?
        .into_iter()
        .find(|key| key.id == *id)
        .ok_or(KeyError::NotFound)?;
    store::key::delete_ssh_key(&mut tx, id).await?;
    tx.commit(Events::one(removed(&key))).await?;
    control.doors().proofs.forget_person(&caller.person.id);
    Ok(())
}

/// The record of a removed key.
pub(super) fn removed(key: &SshKey) -> Event {
    Event::new(EventName::KeyRemoved, &key.id).with("fingerprint", &key.fingerprint)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    fn rsa(bits: usize) -> String {
        use russh::keys::ssh_key::{Mpint, public::RsaPublicKey};
        let mut n = vec![0xff_u8; bits / 8];
        n[0] = 0x80;
        let key = RsaPublicKey::new(
            Mpint::from_positive_bytes(&[1, 0, 1]),
            Mpint::from_positive_bytes(&n),
        );
        PublicKey::from(KeyData::Rsa(key.unwrap()))
            .to_openssh()
            .unwrap()
    }

    /// ID-5
    #[test]
    fn given_a_key_with_comment_and_space_then_it_is_the_same_key() {
        let plain = PublicSshKey::read(ED25519).unwrap();
        assert_eq!(plain.as_str(), ED25519);
        assert!(plain.fingerprint().starts_with("SHA256:"));
        let spelled = PublicSshKey::read(&format!(" {ED25519} alice@laptop\n")).unwrap();
        assert_eq!(spelled, plain);
    }

    #[test]
    fn given_rsa_keys_then_only_sizes_between_the_bounds_are_accepted() {
        for (bits, is_accepted) in [
            (1024, false),
            (2048, false),
            (3072, true),
            (4096, true),
            (16_384, false),
        ] {
            let read = PublicSshKey::read(&rsa(bits));
            assert_eq!(read.is_ok(), is_accepted, "{bits}: {read:?}");
        }
    }

    #[test]
    fn given_what_is_no_key_then_it_is_refused_by_name() {
        assert_eq!(
            PublicSshKey::read("ssh-ed25519-cert-v01@openssh.com AAAA").unwrap_err(),
            UnfitKey::Certificate
        );
        for text in [
            "",
            "ssh-ed25519",
            "ssh-ed25519 AAAA",
            "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti",
            &format!("{ED25519}\n{ED25519}"),
            &"x".repeat(LINE_BYTES_MAX + 1),
        ] {
            assert_eq!(
                PublicSshKey::read(text).unwrap_err(),
                UnfitKey::Unreadable,
                "{text:?}"
            );
        }
    }
}
