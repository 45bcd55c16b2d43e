//! The data directory: one control process at a time, keys that only their owner can read.
//!
//! INVARIANT: while a [`NodeDirectory`] lives, its `control.lock` is locked; the kernel releases the
//! lock when the process ends, however it ends. A key file is never wider than 0600.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
    },
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{database::PostgresUrl, ids};

/// Name of the lock file.
const LOCK_NAME: &str = "control.lock";
/// Longest file with a URL or certificate that is read whole.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// A locked data directory.
#[derive(Debug)]
pub struct NodeDirectory {
    path: PathBuf,
    _lock: File,
}

/// Why a data directory or a file in it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NodeDirectoryError {
    /// Another control process has it.
    #[error(
        "`{path}` is in use by another control process; stop that one, or set `store.data_directory` to another directory"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// A file or directory cannot be read or written.
    #[error("{attempt} `{path}`")]
    Io {
        /// What was attempted: `read`, `write`, `lock`.
        attempt: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others than the owner can read a secret.
    #[error(
        "`{path}` has mode {mode:04o}, so others can read it; run `chmod 600 {path}`, and replace the key if others may have read it"
    )]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file has not the content it must have.
    #[error("`{path}` is damaged: {problem}; restore it from a backup")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
}

fn failed(
    attempt: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> NodeDirectoryError + use<> {
    let path = path.to_owned();
    move |source| NodeDirectoryError::Io {
        attempt,
        path,
        source,
    }
}

impl NodeDirectory {
    /// Makes the directory when missing (0700) and locks it.
    ///
    /// # Errors
    /// [`NodeDirectoryError::InUse`] when another process holds it.
    pub fn lock(path: &Path) -> Result<Self, NodeDirectoryError> {
        make_directory(path)?;
        let lock_path = path.join(LOCK_NAME);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(failed("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(NodeDirectoryError::InUse {
                path: path.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(failed("lock", &lock_path)(source)),
        }
    }

    /// Where a file of this directory is.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The 32 secret bytes in file `name`, made on first use with mode 0600. The directories above it
    /// are made with mode 0700.
    ///
    /// # Errors
    /// [`NodeDirectoryError::TooOpen`] when others can read it, [`NodeDirectoryError::Damaged`] when it
    /// is of another length.
    pub fn key(&self, name: &str) -> Result<Zeroizing<[u8; 32]>, NodeDirectoryError> {
        let path = self.path(name);
        if let Some(parent) = path.parent() {
            make_directory(parent)?;
        }
        if !self.has(name)? {
            let mut fresh = Zeroizing::new([0_u8; 32]);
            ids::fill(fresh.as_mut());
            write_whole(&path, fresh.as_ref(), 0o600)?;
        }
        let bytes = read_secret(&path)?;
        let key: [u8; 32] =
            bytes
                .as_slice()
                .try_into()
                .map_err(|_| NodeDirectoryError::Damaged {
                    path,
                    problem: "a key has 32 bytes",
                })?;
        Ok(Zeroizing::new(key))
    }

    /// Writes a file that everybody may read, in one step: readers see the old text or the new.
    ///
    /// # Errors
    /// [`NodeDirectoryError::Io`].
    pub fn publish(&self, name: &str, text: &str) -> Result<(), NodeDirectoryError> {
        let path = self.path(name);
        if let Some(parent) = path.parent() {
            make_directory(parent)?;
        }
        write_whole(&path, text.as_bytes(), 0o644)
    }

    /// Whether file `name` is there.
    ///
    /// # Errors
    /// [`NodeDirectoryError::Io`] when that cannot be told.
    pub fn has(&self, name: &str) -> Result<bool, NodeDirectoryError> {
        let path = self.path(name);
        path.try_exists().map_err(failed("look for", &path))
    }

    /// What [`Self::publish`] wrote, up to 64 KiB of it; `None` when there is no such file.
    ///
    /// # Errors
    /// [`NodeDirectoryError::Io`], also when it is not text.
    pub fn published(&self, name: &str) -> Result<Option<String>, NodeDirectoryError> {
        let path = self.path(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        let mut text = String::new();
        file.take(FILE_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(failed("read", &path))?;
        Ok(Some(text))
    }

    /// A secret text of this directory, such as a private key in PEM; `None` when there is none.
    ///
    /// # Errors
    /// [`NodeDirectoryError`] when it cannot be read or others can read it.
    pub fn secret_text(&self, name: &str) -> Result<Option<Zeroizing<String>>, NodeDirectoryError> {
        let path = self.path(name);
        if !self.has(name)? {
            return Ok(None);
        }
        let bytes = read_secret(&path)?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(Some(Zeroizing::new(text.to_owned()))),
            Err(_) => Err(NodeDirectoryError::Damaged {
                path,
                problem: "it is not text",
            }),
        }
    }

    /// Writes a secret text with mode 0600.
    ///
    /// # Errors
    /// [`NodeDirectoryError::Io`].
    pub fn write_secret_text(&self, name: &str, text: &str) -> Result<(), NodeDirectoryError> {
        let path = self.path(name);
        if let Some(parent) = path.parent() {
            make_directory(parent)?;
        }
        write_whole(&path, text.as_bytes(), 0o600)
    }

    /// The secret bytes in a file that an operator named, up to 64 KiB.
    ///
    /// # Errors
    /// [`NodeDirectoryError`] when it cannot be read or others can read it.
    pub(crate) fn read_secret_file(
        &self,
        path: &Path,
    ) -> Result<Zeroizing<Vec<u8>>, NodeDirectoryError> {
        read_secret(path)
    }

    /// Reads a PostgreSQL URL from the file an operator named.
    ///
    /// # Errors
    /// [`NodeDirectoryError`] when it cannot be read or others can read it.
    pub(crate) fn read_postgres_url(&self, path: &Path) -> Result<PostgresUrl, NodeDirectoryError> {
        let bytes = read_secret(path)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| NodeDirectoryError::Damaged {
            path: path.to_owned(),
            problem: "it is not text",
        })?;
        Ok(PostgresUrl::new(text.trim().to_owned()))
    }
}

fn make_directory(path: &Path) -> Result<(), NodeDirectoryError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed("make directory", path))
}

fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, NodeDirectoryError> {
    let file = File::open(path).map_err(failed("read", path))?;
    let metadata = file.metadata().map_err(failed("read", path))?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(NodeDirectoryError::TooOpen {
            path: path.to_owned(),
            mode,
        });
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(FILE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(failed("read", path))?;
    Ok(bytes)
}

/// Writes beside the file, makes that durable, then renames: a crash leaves the old file or the new.
fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), NodeDirectoryError> {
    let beside = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(mode)
            .open(&beside)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        match path.parent() {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(failed("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// OP-1
    #[test]
    fn given_a_directory_in_use_when_locked_again_then_it_is_refused_until_released() {
        let home = tempfile::tempdir().unwrap();
        let first = NodeDirectory::lock(home.path()).unwrap();
        let refused = NodeDirectory::lock(home.path()).unwrap_err();
        assert!(
            matches!(&refused, NodeDirectoryError::InUse { .. }),
            "{refused}"
        );
        assert!(refused.to_string().contains("another control process"));
        drop(first);
        NodeDirectory::lock(home.path()).unwrap();
    }

    #[test]
    fn given_a_key_when_asked_for_twice_then_it_is_the_same_and_only_its_owner_reads_it() {
        let home = tempfile::tempdir().unwrap();
        let directory = NodeDirectory::lock(home.path()).unwrap();
        let first = directory.key("audit/log.key").unwrap();
        assert_eq!(first, directory.key("audit/log.key").unwrap());
        let mode = fs::metadata(directory.path("audit/log.key"))
            .unwrap()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn given_a_key_that_others_can_read_then_it_is_not_used_and_the_message_says_what_to_do() {
        let home = tempfile::tempdir().unwrap();
        let directory = NodeDirectory::lock(home.path()).unwrap();
        directory.key("some.key").unwrap();
        let path = directory.path("some.key");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = directory.key("some.key").unwrap_err().to_string();
        assert!(
            refused.contains("0640") && refused.contains("chmod 600"),
            "{refused}"
        );
    }

    #[test]
    fn given_a_key_of_another_length_then_it_is_called_damaged() {
        let home = tempfile::tempdir().unwrap();
        let directory = NodeDirectory::lock(home.path()).unwrap();
        directory.write_secret_text("some.key", "short").unwrap();
        let refused = directory.key("some.key").unwrap_err();
        assert!(
            matches!(refused, NodeDirectoryError::Damaged { .. }),
            "{refused}"
        );
    }
}
