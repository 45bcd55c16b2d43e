//! What a lost session left behind: how far its recording really is durable.
//!
//! A gateway that dies leaves chunks in the file that it did not live to anchor. When the session is
//! written down as over, they are anchored with it, so that they count as evidence from then on.
//!
//! INVARIANT: nothing is anchored that does not continue exactly what was anchored before.

use std::error::Error;

use sallyport_api::gateway;
use sallyport_core::id::RecordingId;
use sallyport_evidence::recording::{Anchor, ChainValue, Completeness};

use super::{
    file::{self, FileError, RecordingFile},
    store::{self, RecordingRow},
    workflow::RecordingError,
};
use crate::kernel::{control::Control, task};

/// How far a recording is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// What to anchor.
    pub anchor: gateway::Anchor,
    /// Whether the file has its last chunk.
    pub is_complete: bool,
}

/// Reads how far the file of a live recording goes, without its key. Nothing when it holds no more than
/// was anchored, or when it cannot be relied on; that is logged, and the verification of the recording
/// shows it.
pub async fn settle(control: &Control, id: &RecordingId) -> Option<Settled> {
    match measure(control, id).await {
        Ok(settled) => settled,
        Err(error) => {
            tracing::error!(
                recording_id = %id,
                error = &error as &dyn Error,
                "could not read how far the recording of a lost session goes"
            );
            None
        }
    }
}

async fn measure(control: &Control, id: &RecordingId) -> Result<Option<Settled>, RecordingError> {
    let mut reader = control.db().read().await?;
    let row = store::by_id(&mut reader, id)
        .await?
        .ok_or(RecordingError::NotFound)?;
    drop(reader);
    let anchored = row.anchor()?;
    let path = file::path(control, id);
    task::blocking("settle recording", move || read(path, &row, anchored))
        .await
        .ok_or(RecordingError::Panicked)?
        .map_err(RecordingError::File)
}

fn read(
    path: std::path::PathBuf,
    row: &RecordingRow,
    anchored: Option<Anchor>,
) -> Result<Option<Settled>, FileError> {
    let recording = match RecordingFile::open(path, &row.id) {
        Ok(recording) => recording,
        // A session that ended before it recorded anything leaves no file.
        Err(FileError::Missing { .. }) if anchored.is_none() => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut container = recording.container(row.session_id.as_str())?;
    let mut chunks = 0_u64;
    let mut chain = ChainValue([0; 32]);
    let mut continues = anchored.is_none();
    // Damage ends the reading; the whole chunks before it stand.
    while let Ok(Some(chunk)) = container.next_chunk() {
        let found = chunk.anchor();
        continues = continues || anchored == Some(found);
        chunks = found.index.saturating_add(1);
        chain = found.chain;
    }
    let is_complete = container.completeness() == Some(Completeness::Complete);
    if !continues {
        tracing::error!(recording_id = %row.id, "the file of a lost session's recording is not what was anchored");
        return Ok(None);
    }
    if chunks == 0 || (chunks <= row.chunks && !is_complete) {
        return Ok(None);
    }
    Ok(Some(Settled {
        anchor: gateway::Anchor {
            session_id: row.session_id.clone(),
            recording_id: row.id.clone(),
            chunks,
            chain: chain.to_string(),
            size_bytes: container.offset(),
        },
        is_complete,
    }))
}
