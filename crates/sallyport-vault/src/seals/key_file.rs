//! The `key_file` seal: a key of 32 random bytes in a file of its own, for trying out and for
//! development. Whoever reads the file and the store has every secret.
//!
//! INVARIANT: the file is a regular file, readable and writable by its owner only, and the owner is
//! who we run as; anything else is refused before its content is used. It is never overwritten.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use sallyport_core::{
    descriptor::{Descriptor, Setting},
    entropy::Entropy,
    secret::Secret,
};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{Seal, SealError, Sealing, Unsealing, Wrapped, read, unwrap_under, wrap_under};
use crate::{
    aead::{KEY_BYTES, SymmetricKey},
    keyring::{RootKey, SealedRootKey},
};

/// Kind of this seal.
pub(crate) const KIND: &str = "key_file";

/// See the module.
#[derive(Debug)]
pub(super) struct KeyFile;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    path: PathBuf,
}

impl Seal for KeyFile {
    fn describe(&self) -> Descriptor {
        Descriptor {
            kind: KIND.to_owned(),
            title: "Key file".to_owned(),
            settings: vec![Setting {
                name: "path".to_owned(),
                purpose: "the file with the key: 32 bytes, mode 0600, ours; made when the vault is"
                    .to_owned(),
                is_required: true,
            }],
            operations: Vec::new(),
            secrets_needed: Vec::new(),
        }
    }

    fn wrap(&self, root_key: &RootKey, sealing: &Sealing<'_>) -> Result<Wrapped, SealError> {
        let settings: Settings = read(KIND, sealing.settings)?;
        if let Err(error) = std::fs::symlink_metadata(&settings.path)
            && error.kind() == std::io::ErrorKind::NotFound
        {
            create(&settings.path, sealing.entropy)?;
        }
        // Read back even what was just written: a key that cannot be read again seals for ever.
        let seal_key = load(&settings.path)?;
        let sealed = wrap_under(&seal_key, root_key, sealing, KIND, String::new())?;
        Ok(Wrapped {
            sealed,
            shares: Vec::new(),
        })
    }

    fn unwrap(
        &self,
        sealed: &SealedRootKey,
        unsealing: &Unsealing<'_>,
    ) -> Result<RootKey, SealError> {
        let settings: Settings = read(KIND, unsealing.settings)?;
        unwrap_under(&load(&settings.path)?, sealed, unsealing.keyring_id)
    }
}

/// Makes the file, durably, before anything is sealed with what it holds.
fn create(path: &Path, entropy: &dyn Entropy) -> Result<(), SealError> {
    let refuse = |source| refusal(path, "it cannot be made", Some(source));
    let key = SymmetricKey::generate(entropy);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(refuse)?;
    file.write_all(key.expose_secret()).map_err(refuse)?;
    file.sync_all().map_err(refuse)?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))
        .and_then(|folder| folder.sync_all())
        .map_err(refuse)
}

fn load(path: &Path) -> Result<SymmetricKey, SealError> {
    let refuse = |source| refusal(path, "it cannot be read", Some(source));
    let named = std::fs::symlink_metadata(path).map_err(refuse)?;
    if !named.is_file() {
        return Err(refusal(path, "it is not a regular file", None));
    }
    let file = File::open(path).map_err(refuse)?;
    let opened = file.metadata().map_err(refuse)?;
    if (opened.dev(), opened.ino()) != (named.dev(), named.ino()) {
        return Err(refusal(path, "it was exchanged while it was opened", None));
    }
    if opened.mode() & 0o177 != 0 {
        return Err(refusal(
            path,
            "others may read or change it: set its mode to 0600",
            None,
        ));
    }
    if opened.uid() != effective_uid().map_err(refuse)? {
        return Err(refusal(
            path,
            "it belongs to another user than sallyport runs as",
            None,
        ));
    }
    // Room for more than a key, so that a longer file is noticed and the buffer never moves.
    let mut content = Zeroizing::new(Vec::with_capacity(2 * KEY_BYTES));
    file.take(KEY_BYTES as u64 + 1)
        .read_to_end(&mut content)
        .map_err(refuse)?;
    SymmetricKey::from_secret(Secret::new(std::mem::take(&mut *content)))
        .ok_or_else(|| refusal(path, "it does not hold exactly 32 bytes", None))
}

fn refusal(path: &Path, problem: &'static str, source: Option<std::io::Error>) -> SealError {
    SealError::KeyFile {
        path: path.to_owned(),
        problem,
        source,
    }
}

/// The user we run as. The standard library does not say; Linux does, in `proc(5)`: the second number
/// of the line `Uid:`.
fn effective_uid() -> std::io::Result<u32> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .and_then(|ids| ids.split_ascii_whitespace().nth(1)?.parse().ok())
        .ok_or_else(|| std::io::Error::other("`/proc/self/status` names no user"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::SystemEntropy;

    fn problem(path: &Path) -> &'static str {
        match load(path) {
            Err(SealError::KeyFile { problem, .. }) => problem,
            Err(other) => panic!("{other}"),
            Ok(_) => "none",
        }
    }

    /// VA-1
    #[test]
    fn given_a_new_file_when_made_then_only_its_owner_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seal.key");
        create(&path, &SystemEntropy).unwrap();

        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!(metadata.mode() & 0o777, 0o600);
        assert_eq!(metadata.len(), 32);
        assert_eq!(problem(&path), "none");
        assert!(
            create(&path, &SystemEntropy).is_err(),
            "a key file is never overwritten"
        );
    }

    /// VA-1
    #[test]
    fn given_a_file_others_may_open_when_loaded_then_it_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seal.key");
        create(&path, &SystemEntropy).unwrap();
        for mode in [0o640, 0o604, 0o660, 0o700, 0o644, 0o610] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(problem(&path).contains("0600"), "{mode:o}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        assert_eq!(problem(&path), "none");
    }

    #[test]
    fn given_something_else_in_its_place_when_loaded_then_it_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seal.key");
        assert_eq!(problem(&path), "it cannot be read");
        assert_eq!(problem(folder.path()), "it is not a regular file");

        create(&path, &SystemEntropy).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(problem(&link), "it is not a regular file");

        for bytes in [0, 31, 33, 4096] {
            std::fs::write(&path, vec![7; bytes]).unwrap();
            assert!(problem(&path).contains("32 bytes"), "{bytes}");
        }
    }
}
