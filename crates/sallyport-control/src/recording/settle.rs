//! What a session left behind that its gateway could not finish: how far its recording really goes.
//!
//! A gateway that dies, or whose recorder fails, leaves chunks in the file that were never anchored.
//! When the session is written down as over, they are anchored with it, in the same transaction, so that
//! they count as evidence from then on.
//!
//! INVARIANT: nothing is anchored that does not continue exactly what was anchored before.

use std::{error::Error, path::PathBuf};

use sallyport_api::gateway;
use sallyport_core::id::RecordingId;
use sallyport_evidence::recording::{Anchor, Completeness};

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

/// Reads how far the file of a live recording goes, without its key. `reported` is what its gateway says
/// at last. Nothing when the file holds no more than is known, or when it cannot be relied on; that is
/// logged, and the verification of the recording shows it.
pub async fn settle(
    control: &Control,
    id: &RecordingId,
    reported: Option<&gateway::Anchor>,
) -> Option<Settled> {
    match measure(control, id, reported).await {
        Ok(settled) => settled,
        Err(error) => {
            tracing::error!(
                recording_id = %id,
                error = &error as &dyn Error,
                "could not read how far an unfinished recording goes"
            );
            None
        }
    }
}

async fn measure(
    control: &Control,
    id: &RecordingId,
    reported: Option<&gateway::Anchor>,
) -> Result<Option<Settled>, RecordingError> {
    let mut reader = control.db().read().await?;
    let row = store::by_id(&mut reader, id)
        .await?
        .ok_or(RecordingError::NotFound)?;
    drop(reader);
    let mut known: Vec<Anchor> = row.anchor()?.into_iter().collect();
    if let Some(reported) = reported {
        known.extend(store::anchor_reported(
            id,
            reported.chunks,
            &reported.chain,
        )?);
    }
    let path = file::path(control, id);
    task::blocking("settle recording", move || read(path, &row, &known))
        .await
        .ok_or(RecordingError::Panicked)?
        .map_err(RecordingError::File)
}

fn read(path: PathBuf, row: &RecordingRow, known: &[Anchor]) -> Result<Option<Settled>, FileError> {
    let recording = match RecordingFile::open(path, &row.id) {
        Ok(recording) => recording,
        // A session that ended before it recorded anything leaves no file.
        Err(FileError::Missing { .. }) if known.is_empty() => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut container = recording.container(row.session_id.as_str())?;
    let mut missing = known.to_vec();
    let mut last = None;
    // Damage ends the reading; the whole chunks before it stand.
    while let Ok(Some(chunk)) = container.next_chunk() {
        let found = chunk.anchor();
        missing.retain(|anchor| *anchor != found);
        last = Some(found);
    }
    if !missing.is_empty() {
        tracing::error!(
            recording_id = %row.id,
            "the file of an unfinished recording is not what was anchored; nothing of it is anchored"
        );
        return Ok(None);
    }
    let is_complete = container.completeness() == Some(Completeness::Complete);
    let is_longer = |last: &Anchor| known.iter().all(|anchor| anchor.index < last.index);
    Ok(last
        .filter(|last| is_complete || is_longer(last))
        .map(|last| Settled {
            anchor: gateway::Anchor {
                session_id: row.session_id.clone(),
                recording_id: row.id.clone(),
                chunks: last.index.saturating_add(1),
                chain: last.chain.to_string(),
                size_bytes: container.offset(),
            },
            is_complete,
        }))
}
