//! Is a recording's file, byte for byte, what the audit log anchors? Answered without its key.
//!
//! INVARIANT: "verified" means that every chunk of the file is covered by an anchor of the log, or that
//! the recording is live and only its newest chunks are not anchored yet.
//!
//! Not here: whether the log itself is sound (`audit`).

use sallyport_api::rest::recording::VerificationView;
use sallyport_core::id::RecordingId;
use sallyport_evidence::recording::{
    Anchor, Completeness,
    verify::{self, Report, VerifyError},
};

use super::{
    file::{self, Container, FileError, RecordingFile},
    store::{self, RecordingRow},
    workflow::RecordingError,
};
use crate::kernel::{control::Control, problem::Chain, task};

/// Checks a recording against all its anchors in the log.
///
/// # Errors
/// [`RecordingError`] when it could not be checked; damage is an answer, not an error.
pub(super) async fn verify(
    control: &Control,
    id: &RecordingId,
) -> Result<VerificationView, RecordingError> {
    let mut reader = control.db().read().await?;
    let row = store::by_id(&mut reader, id)
        .await?
        .ok_or(RecordingError::NotFound)?;
    let mut anchors = store::anchors_in_log(&mut reader, &row).await?;
    drop(reader);
    // The row repeats the newest anchor. One that differs from the log's is a contradiction, and found.
    anchors.extend(row.anchor()?);
    let path = file::path(control, id);
    task::blocking("verify recording", move || {
        match RecordingFile::open(path, &row.id) {
            Ok(recording) => check(&recording, &row, &anchors),
            Err(error) => unreadable(error),
        }
    })
    .await
    .ok_or(RecordingError::Panicked)?
    .map_err(RecordingError::File)
}

/// What nothing was found of.
fn faulty(fault: String) -> VerificationView {
    VerificationView {
        is_verified: false,
        chunks: 0,
        is_complete: false,
        chain: String::new(),
        fault: Some(fault),
    }
}

/// A file that is missing or damaged is a finding; a disk that does not answer is none.
fn unreadable(error: FileError) -> Result<VerificationView, FileError> {
    match error {
        FileError::Io { .. } => Err(error),
        FileError::Missing { .. } => Ok(faulty("the file of this recording is missing".to_owned())),
        FileError::Damaged { .. } | FileError::Foreign { .. } => {
            Ok(faulty(Chain(&error).to_string()))
        }
    }
}

fn check(
    recording: &RecordingFile,
    row: &RecordingRow,
    anchors: &[Anchor],
) -> Result<VerificationView, FileError> {
    // Compares the ids; reading goes on from a handle of its own.
    if let Err(error) = recording.container(row.session_id.as_str()) {
        return unreadable(error);
    }
    let again = RecordingFile::open(recording.path.clone(), &row.id)?;
    let report = verify::chain(std::io::BufReader::new(again.file), anchors);
    match report {
        Ok(report) => Ok(sound(&report, row)),
        Err(VerifyError::Damaged(error)) => {
            unreadable(FileError::from_open(&row.id, recording.path.clone(), error))
        }
        Err(error @ VerifyError::AnchorMismatch { index, .. }) => {
            let place = match chunk_offset(recording, row, index)? {
                Some(offset) => format!(" (it begins at byte {offset})"),
                None => String::new(),
            };
            let first = anchors
                .iter()
                .map(|anchor| anchor.index.saturating_add(1))
                .filter(|first| *first <= index)
                .max()
                .unwrap_or(0);
            let span = if first == index {
                String::new()
            } else {
                format!("; the change is in one of the chunks {first} to {index}")
            };
            Ok(faulty(format!("{error}{place}{span}")))
        }
        Err(error @ (VerifyError::Missing { .. } | VerifyError::AnchorsContradict { .. })) => {
            Ok(faulty(error.to_string()))
        }
    }
}

/// The answer for a file that no anchor contradicts.
fn sound(report: &Report, row: &RecordingRow) -> VerificationView {
    let unanchored = report.chunks.saturating_sub(report.anchored_chunks);
    let fault = if report.anchored_chunks == 0 && !row.is_live() {
        Some(
            "the audit log anchors no chunk of this recording, so nothing vouches for it"
                .to_owned(),
        )
    } else if unanchored > 0 && !row.is_live() {
        Some(format!(
            "{unanchored} of the file's chunks, from chunk {} on, are not in the audit log",
            report.anchored_chunks,
        ))
    } else {
        None
    };
    VerificationView {
        is_verified: fault.is_none(),
        chunks: report.chunks,
        is_complete: report.completeness == Completeness::Complete,
        chain: report.chain.to_string(),
        fault,
    }
}

/// Where a chunk begins, by reading up to it again; nothing when the file ends or breaks before.
fn chunk_offset(
    recording: &RecordingFile,
    row: &RecordingRow,
    index: u64,
) -> Result<Option<u64>, FileError> {
    let again = RecordingFile::open(recording.path.clone(), &row.id)?;
    let mut container: Container = again.container(row.session_id.as_str())?;
    while let Ok(Some(chunk)) = container.next_chunk() {
        if chunk.anchor().index == index {
            return Ok(Some(chunk.offset()));
        }
    }
    Ok(None)
}
