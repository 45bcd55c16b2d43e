//! Play and export: find the recording, get its key, write down who reads it, then read.

use std::fs::File;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::BoxStream};
use sallyport_core::{
    event::{Event, EventName, Events},
    id::RecordingId,
};
use sallyport_evidence::recording::{CastVersion, RecordingKey};
use sallyport_vault::VaultError;

use super::{
    export::{ExportError, Format},
    file::{self, Container, FileError, RecordingFile},
    playback::{Play, Playback, PlaybackError},
    store::{self, RecordingRow},
};
use crate::{
    kernel::{caller::Caller, control::Control, database::StoreError, task},
    secret::{self, SecretError},
};

/// What a joined person sees, as recorded.
const LIVE_VIEW: &str = "live-view";

/// Why a recording is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// There is none of this id.
    #[error("there is no such recording")]
    NotFound,
    /// A field of the query is not acceptable.
    #[error("`{field}` {problem}")]
    BadField {
        /// Which.
        field: &'static str,
        /// What is wrong and what is accepted.
        problem: String,
    },
    /// Its file is missing, damaged, another's, or cannot be read.
    #[error("read the file of a recording")]
    File(#[source] FileError),
    /// Its key is not to be had.
    #[error("unwrap the key of recording `{recording_id}`")]
    Key {
        /// The recording.
        recording_id: RecordingId,
        /// Why.
        #[source]
        source: SecretError,
    },
    /// It cannot be exported like this.
    #[error("export a recording")]
    Export(#[source] ExportError),
    /// The reader's right ended meanwhile.
    #[error("the right to read this recording has ended")]
    RightEnded,
    /// Reading the file panicked.
    #[error("read the file of a recording without panicking")]
    Panicked,
    /// The store failed.
    #[error("reach the store")]
    Store(#[from] StoreError),
}

impl From<PlaybackError> for RecordingError {
    fn from(error: PlaybackError) -> Self {
        match error {
            PlaybackError::File(error) => Self::File(error),
            PlaybackError::Export(error) => Self::Export(error),
            PlaybackError::RightEnded => Self::RightEnded,
            PlaybackError::Panicked => Self::Panicked,
            PlaybackError::Store(error) => Self::Store(error),
        }
    }
}

impl RecordingError {
    /// Whether the vault has to be unsealed first.
    pub(super) fn is_sealed(&self) -> bool {
        matches!(
            self,
            Self::Key {
                source: SecretError::Vault(VaultError::Sealed | VaultError::Uninitialised),
                ..
            }
        )
    }
}

/// What a reader asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    form: Form,
    channel: Option<u32>,
    is_followed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Export(Format),
    /// The sealed file as it is.
    Container,
}

impl Wanted {
    /// Reads what was asked: a format by name, a channel for casts, and whether to follow.
    ///
    /// # Errors
    /// [`RecordingError::BadField`].
    pub fn parse(
        format: Option<&str>,
        channel: Option<u32>,
        is_followed: bool,
    ) -> Result<Self, RecordingError> {
        let bad = |field, problem: &str| RecordingError::BadField {
            field,
            problem: problem.to_owned(),
        };
        let form = match format {
            None | Some("asciicast-v3") => Form::Export(Format::Cast(CastVersion::V3)),
            Some("asciicast-v2") => Form::Export(Format::Cast(CastVersion::V2)),
            Some("transcript") => Form::Export(Format::Transcript),
            Some("commands") => Form::Export(Format::Commands),
            Some("container") => Form::Container,
            Some(_) => {
                return Err(bad(
                    "format",
                    "is one of asciicast-v3, asciicast-v2, transcript, commands, container",
                ));
            }
        };
        let is_cast = matches!(form, Form::Export(Format::Cast(_)));
        if channel.is_some() && !is_cast {
            return Err(bad("channel", "goes with the asciicast formats only"));
        }
        if is_followed && form == Form::Container {
            return Err(bad(
                "follow",
                "goes with formats that are decoded here, not with `container`",
            ));
        }
        Ok(Self {
            form,
            channel,
            is_followed,
        })
    }

    /// As recorded.
    fn format_name(&self) -> &'static str {
        match self.form {
            Form::Export(Format::Cast(CastVersion::V3)) => "asciicast-v3",
            Form::Export(Format::Cast(CastVersion::V2)) => "asciicast-v2",
            Form::Export(Format::Transcript) => "transcript",
            Form::Export(Format::Commands) => "commands",
            Form::Export(Format::LiveView) => LIVE_VIEW,
            Form::Container => "container",
        }
    }

    /// Media type and file name ending.
    pub(super) fn media(&self) -> (&'static str, &'static str) {
        match self.form {
            Form::Export(Format::Cast(_)) => ("application/x-asciicast", "cast"),
            Form::Export(Format::Transcript | Format::LiveView) => {
                ("text/plain; charset=utf-8", "txt")
            }
            Form::Export(Format::Commands) => ("application/jsonl", "jsonl"),
            Form::Container => ("application/octet-stream", "spr"),
        }
    }
}

/// What a reader gets.
pub(super) enum Content {
    /// An export.
    Playback(Box<Playback>),
    /// The sealed file, up to the size it has now.
    Container { file: File, size_bytes: u64 },
}

/// Opens a recording for one reader and writes that down; content may be sent when this returns.
pub(super) async fn open(
    control: &Control,
    caller: Caller,
    id: &RecordingId,
    wanted: &Wanted,
) -> Result<Content, RecordingError> {
    let row = find(control, id).await?;
    let (recording, container) = open_file(control, &row).await?;
    let content = match wanted.form {
        Form::Container => {
            let failed = |source| {
                RecordingError::File(FileError::Io {
                    path: recording.path.clone(),
                    source,
                })
            };
            let size_bytes = recording.file.metadata().map_err(failed)?.len();
            // Opened anew, because the header was read from this one.
            let file = File::open(&recording.path).map_err(failed)?;
            Content::Container { file, size_bytes }
        }
        Form::Export(format) => {
            let key = unwrap_key(control, &row.id, &container)?;
            let play = Play {
                format,
                channel: wanted.channel,
                is_followed: wanted.is_followed && row.is_live(),
            };
            let playback = Playback::new(control, caller.clone(), recording, container, key, play)?;
            Content::Playback(Box::new(playback))
        }
    };
    let tx = control.db().begin(caller.actor()).await?;
    let event = Event::new(EventName::RecordingPlayed, &row.id)
        .with("session_id", &row.session_id)
        .with("format", wanted.format_name());
    tx.commit(Events::one(event)).await?;
    Ok(content)
}

/// What a live session shows from now on, after all that it showed before, to one who joins it; that
/// they see it is on record when this returns. The stream ends with the session.
///
/// # Errors
/// [`RecordingError`].
pub async fn live_view(
    control: &Control,
    caller: &Caller,
    id: &RecordingId,
    channel: Option<u32>,
) -> Result<BoxStream<'static, Result<Bytes, PlaybackError>>, RecordingError> {
    let row = find(control, id).await?;
    let (recording, container) = open_file(control, &row).await?;
    let key = unwrap_key(control, &row.id, &container)?;
    let play = Play {
        format: Format::LiveView,
        channel,
        is_followed: row.is_live(),
    };
    let playback = Playback::new(control, caller.clone(), recording, container, key, play)?;
    let tx = control.db().begin(caller.actor()).await?;
    let event = Event::new(EventName::RecordingPlayed, &row.id)
        .with("session_id", &row.session_id)
        .with("format", LIVE_VIEW);
    tx.commit(Events::one(event)).await?;
    Ok(playback.into_stream().await?.boxed())
}

/// The recording of this id with its session.
pub(super) async fn find(
    control: &Control,
    id: &RecordingId,
) -> Result<RecordingRow, RecordingError> {
    let mut reader = control.db().read().await?;
    store::by_id(&mut reader, id)
        .await?
        .ok_or(RecordingError::NotFound)
}

/// Opens the file of a recording and reads its header.
pub(super) async fn open_file(
    control: &Control,
    row: &RecordingRow,
) -> Result<(RecordingFile, Container), RecordingError> {
    let path = file::path(control, &row.id);
    let (id, session_id) = (row.id.clone(), row.session_id.clone());
    task::blocking("open recording", move || {
        let recording = RecordingFile::open(path, &id)?;
        let container = recording.container(session_id.as_str())?;
        Ok((recording, container))
    })
    .await
    .ok_or(RecordingError::Panicked)?
    .map_err(RecordingError::File)
}

fn unwrap_key(
    control: &Control,
    id: &RecordingId,
    container: &Container,
) -> Result<RecordingKey, RecordingError> {
    let failed = |source| RecordingError::Key {
        recording_id: id.clone(),
        source,
    };
    let wrapped = String::from_utf8_lossy(&container.header().wrapped_key);
    let key = secret::unwrap_recording_key(control, id, &wrapped).map_err(failed)?;
    let bytes: [u8; 32] = key.expose_secret().as_slice().try_into().map_err(|_| {
        failed(SecretError::Key {
            path: id.to_string(),
        })
    })?;
    Ok(RecordingKey::new(bytes))
}
