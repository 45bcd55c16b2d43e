//! Files the command line writes for its person: whole or not at all, and secrets only for their owner.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use crate::failure::Failure;

/// Longest file that is read whole: keys, certificates, secrets, policies.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Its owner.
    Owner,
    /// Everybody.
    Everybody,
}

impl Readers {
    const fn mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Everybody => 0o644,
        }
    }
}

/// Writes a file in one step: a crash leaves the old one or the new one. Folders above it are made,
/// for their owner only.
pub fn write(path: &Path, bytes: &[u8], readers: Readers) -> Result<(), Failure> {
    let mut draft = Draft::begin(path, readers)?;
    draft.append(bytes)?;
    draft.finish().map(drop)
}

/// A file that is written beside its place and appears there when it is whole.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    beside: PathBuf,
    file: File,
    size_bytes: u64,
    is_finished: bool,
}

impl Draft {
    /// Begins a file.
    pub fn begin(path: &Path, readers: Readers) -> Result<Self, Failure> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}.new", std::process::id()));
        let beside = PathBuf::from(beside);
        let open = || {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder_of(path))?;
            OpenOptions::new()
                .create_new(true)
                .write(true)
                .mode(readers.mode())
                .open(&beside)
        };
        let file = open().map_err(|error| unwritten(path, &error))?;
        Ok(Self {
            path: path.to_owned(),
            beside,
            file,
            size_bytes: 0,
            is_finished: false,
        })
    }

    /// Adds to its end.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.size_bytes = self.size_bytes.saturating_add(bytes.len() as u64);
        self.file
            .write_all(bytes)
            .map_err(|error| unwritten(&self.path, &error))
    }

    /// Makes it durable and puts it in its place; returns its size in bytes.
    pub fn finish(mut self) -> Result<u64, Failure> {
        let put = || {
            self.file.sync_all()?;
            fs::rename(&self.beside, &self.path)?;
            File::open(folder_of(&self.path))?.sync_all()
        };
        put().map_err(|error| unwritten(&self.path, &error))?;
        self.is_finished = true;
        Ok(self.size_bytes)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_finished {
            // What is left over is ours; that it could not be removed changes nothing for anybody.
            let _ = fs::remove_file(&self.beside);
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn unwritten(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(
        format!("write `{}`: {error}", path.display()),
        "check the folder's permissions and free space",
    )
}

/// Reads a text file of at most 4 MiB.
pub fn read_text(path: &Path) -> Result<String, Failure> {
    let read = || -> io::Result<String> {
        let mut text = String::new();
        let read = File::open(path)?
            .take(FILE_BYTES_MAX.saturating_add(1))
            .read_to_string(&mut text)?;
        if read as u64 > FILE_BYTES_MAX {
            return Err(io::Error::other("it is larger than 4 MiB"));
        }
        Ok(text)
    };
    read().map_err(|error| {
        Failure::failed(
            format!("read `{}`: {error}", path.display()),
            "check the path and its permissions",
        )
    })
}

/// As [`read_text`]; `None` when there is no such file.
pub fn read_text_if_any(path: &Path) -> Result<Option<String>, Failure> {
    if path.try_exists().is_ok_and(|exists| !exists) {
        return Ok(None);
    }
    read_text(path).map(Some)
}

/// Removes a file; that there was none is no failure.
pub fn remove_if_any(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failure::failed(
            format!("remove `{}`: {error}", path.display()),
            "remove it by hand",
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn given_a_secret_then_its_file_and_new_folders_are_for_the_owner_only() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("new/token");
        write(&path, b"first", Readers::Owner).unwrap();
        write(&path, b"second", Readers::Owner).unwrap();
        assert_eq!(read_text(&path).unwrap(), "second");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let folder = path.parent().unwrap();
        assert_eq!(fs::metadata(folder).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(folder).unwrap().count(), 1);
    }

    #[test]
    fn given_a_file_too_long_to_be_meant_then_it_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("large");
        File::create(&path)
            .unwrap()
            .set_len(FILE_BYTES_MAX + 1)
            .unwrap();
        assert!(read_text(&path).is_err());
    }
}
