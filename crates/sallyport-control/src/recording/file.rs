//! The files that gateways wrote.

use std::{
    fs::File,
    io::{self, BufReader},
    path::PathBuf,
};

use sallyport_core::id::RecordingId;
use sallyport_evidence::recording::{ContainerReader, OpenError};

use crate::kernel::control::Control;

/// Bytes read ahead of what is decoded.
const BUFFER_BYTES: usize = 64 * 1024;

/// Where the file of a recording is. An id holds no character that means anything in a path.
pub(super) fn path(control: &Control, id: &RecordingId) -> PathBuf {
    let configured = control.config().gateway.recordings.clone();
    configured
        .unwrap_or_else(|| control.directory().path("recordings"))
        .join(format!("{id}.spr"))
}

/// Why a recording's file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// There is none.
    #[error("there is no file `{path}`")]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("read recording `{path}`")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// It is damaged.
    #[error("read recording `{recording_id}`")]
    Damaged {
        /// The recording.
        recording_id: RecordingId,
        /// Which chunk, at which byte.
        #[source]
        source: OpenError,
    },
    /// It is a recording, but another one.
    #[error(
        "the file of recording `{recording_id}` holds recording `{found}` of session `{session_id}`"
    )]
    Foreign {
        /// The recording looked for.
        recording_id: RecordingId,
        /// What the file says it is.
        found: String,
        /// Of which session.
        session_id: String,
    },
}

impl FileError {
    /// What a failed read of the container means for `id`: a broken disk or a damaged file.
    pub(super) fn from_open(id: &RecordingId, path: PathBuf, error: OpenError) -> Self {
        match error {
            OpenError::Read { source, .. } => Self::Io { path, source },
            source => Self::Damaged {
                recording_id: id.clone(),
                source,
            },
        }
    }
}

/// A recording's file, opened, with where it is.
#[derive(Debug)]
pub(super) struct RecordingFile {
    pub(super) id: RecordingId,
    pub(super) path: PathBuf,
    pub(super) file: File,
}

/// A container being read from a file.
pub(super) type Container = ContainerReader<BufReader<File>>;

impl RecordingFile {
    /// Opens the file of a recording. Blocks on the disk.
    pub(super) fn open(path: PathBuf, id: &RecordingId) -> Result<Self, FileError> {
        match File::open(&path) {
            Ok(file) => Ok(Self {
                id: id.clone(),
                path,
                file,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(FileError::Missing { path })
            }
            Err(source) => Err(FileError::Io { path, source }),
        }
    }

    /// Reads the header and checks that the file is the recording its name says. Blocks on the disk.
    pub(super) fn container(&self, session_id: &str) -> Result<Container, FileError> {
        let file = self.file.try_clone().map_err(|source| FileError::Io {
            path: self.path.clone(),
            source,
        })?;
        let reader = BufReader::with_capacity(BUFFER_BYTES, file);
        let container = ContainerReader::open(reader)
            .map_err(|error| FileError::from_open(&self.id, self.path.clone(), error))?;
        let header = container.header();
        if header.recording_id != self.id.as_str() || header.session_id != session_id {
            return Err(FileError::Foreign {
                recording_id: self.id.clone(),
                found: header.recording_id.clone(),
                session_id: header.session_id.clone(),
            });
        }
        Ok(container)
    }
}
