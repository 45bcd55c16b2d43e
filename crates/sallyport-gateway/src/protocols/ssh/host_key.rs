//! The gateway's own SSH identity: an Ed25519 key, made at the first start and kept in a file that
//! only the gateway can read.
//!
//! INVARIANT: an existing key is never replaced, whatever is wrong with it: clients have pinned it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use russh::keys::{Algorithm, PrivateKey, key::safe_rng, ssh_key::LineEnding};

const FILE_NAME: &str = "host_ed25519";
/// A key of this kind takes 400 bytes.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// Why the gateway has no identity.
#[derive(Debug, thiserror::Error)]
pub enum HostKeyError {
    /// The file cannot be read or written.
    #[error("{attempt} `{path}`")]
    File {
        /// What was attempted.
        attempt: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Others can read it: whoever did can pose as this gateway.
    #[error("host key `{path}` can be read by others; remove their permissions (chmod 600)")]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// The file holds no Ed25519 key.
    #[error("host key `{path}` is no Ed25519 private key in OpenSSH's format; restore it")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong, unless it is another kind of key.
        source: Option<russh::keys::ssh_key::Error>,
    },
    /// A new key could not be made.
    #[error("make a host key")]
    Make(#[source] russh::keys::ssh_key::Error),
}

fn failed(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HostKeyError {
    let path = path.to_owned();
    move |source| HostKeyError::File {
        attempt,
        path,
        source,
    }
}

/// Reads the host key kept in `directory`, making both at the first start.
///
/// # Errors
/// [`HostKeyError`].
pub(super) fn load_or_make(directory: &Path) -> Result<PrivateKey, HostKeyError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(failed("make folder", directory))?;
    let path = directory.join(FILE_NAME);
    match File::open(&path) {
        Ok(file) => read(file, path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(directory, &path),
        Err(source) => Err(failed("open host key", &path)(source)),
    }
}

fn read(file: File, path: PathBuf) -> Result<PrivateKey, HostKeyError> {
    let metadata = file.metadata().map_err(failed("look at host key", &path))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(HostKeyError::Exposed { path });
    }
    let mut text = zeroize::Zeroizing::new(String::new());
    file.take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(failed("read host key", &path))?;
    match PrivateKey::from_openssh(text.as_bytes()) {
        Ok(key) if key.algorithm() == Algorithm::Ed25519 => Ok(key),
        Ok(_) => Err(HostKeyError::Unusable { path, source: None }),
        Err(source) => Err(HostKeyError::Unusable {
            path,
            source: Some(source),
        }),
    }
}

fn make(directory: &Path, path: &Path) -> Result<PrivateKey, HostKeyError> {
    let key =
        PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).map_err(HostKeyError::Make)?;
    let text = key.to_openssh(LineEnding::LF).map_err(HostKeyError::Make)?;
    // Whole or not at all: a gateway that dies here makes another key next time, not half of one.
    let partial = directory.join("host_ed25519.partial");
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&partial)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(failed("write host key", path))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_made_at_the_first_start_is_the_key_of_every_later_one() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("ssh");
        let first = load_or_make(&folder).unwrap();
        let second = load_or_make(&folder).unwrap();
        assert_eq!(first.public_key(), second.public_key());
        let mode = fs::metadata(folder.join(FILE_NAME))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        load_or_make(directory.path()).unwrap();
        let path = directory.path().join(FILE_NAME);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            load_or_make(directory.path()),
            Err(HostKeyError::Exposed { .. })
        ));
    }

    #[test]
    fn a_damaged_key_is_an_error_and_stays() {
        let directory = tempfile::tempdir().unwrap();
        load_or_make(directory.path()).unwrap();
        let path = directory.path().join(FILE_NAME);
        fs::write(&path, "damaged").unwrap();
        assert!(matches!(
            load_or_make(directory.path()),
            Err(HostKeyError::Unusable { .. })
        ));
        assert_eq!(fs::read_to_string(&path).unwrap(), "damaged");
    }
}
