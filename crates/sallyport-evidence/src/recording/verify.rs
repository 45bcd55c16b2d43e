//! Checking a whole recording against the audit log, with and without its key.
//!
//! [`chain`] needs nothing secret: it shows that the file is byte for byte the one whose chunks
//! were anchored. [`frames`] also authenticates and decodes every frame. `sallyport recording
//! verify` and the auditor's tool call both.
//!
//! INVARIANT: a [`Report`] exists only if no check failed; what could not be checked is counted
//! in it, never passed over.
//!
//! Not here: proving that the anchors are in the log (`log`).

use std::io::Read;

use super::chunk::{Anchor, ChainValue, RecordingKey};
use super::container::{Completeness, ContainerReader, OpenError, Opener};
use super::header::Header;

/// Why a recording is not the one that was anchored.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The recording is damaged.
    #[error("read recording")]
    Damaged(#[source] OpenError),
    /// This chunk, or one before it, is not the one that was anchored.
    #[error(
        "chunk {index} is not the one anchored in the audit log: expected {anchored}, found {found}"
    )]
    AnchorMismatch {
        /// The first anchored chunk that differs.
        index: u64,
        /// The anchored value.
        anchored: ChainValue,
        /// The value computed from the file.
        found: ChainValue,
    },
    /// The log anchors a chunk that the file does not have: the file was cut.
    #[error(
        "chunk {index} is anchored in the audit log but the recording ends after {chunks} chunks"
    )]
    Missing {
        /// The first anchored chunk that is missing.
        index: u64,
        /// Whole chunks in the file.
        chunks: u64,
    },
    /// Two anchors of one chunk contradict each other: the log itself is at fault.
    #[error("the audit log anchors chunk {index} with two different values")]
    AnchorsContradict {
        /// The chunk.
        index: u64,
    },
}

/// What a verification found; all of it sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What the recording says about itself. Compare its ids with those in the log.
    pub header: Header,
    /// Whole chunks.
    pub chunks: u64,
    /// Frames in them; counted one by one only with the key.
    pub frames: u64,
    /// Microseconds from session start to the last frame.
    pub last_at_us: u64,
    /// Bytes of the header and the whole chunks; what follows is the torn rest.
    pub bytes: u64,
    /// The chain's last value.
    pub chain: ChainValue,
    /// How the recording ends.
    pub completeness: Completeness,
    /// Chunks up to and including the last anchored one. Those after it are proved by the key
    /// alone, and without the key by nothing.
    pub anchored_chunks: u64,
}

/// Checks structure and chain of a recording against `anchors`, without its key.
///
/// # Errors
///
/// Any [`VerifyError`]; the first one met in the order of chunks.
pub fn chain(reader: impl Read, anchors: &[Anchor]) -> Result<Report, VerifyError> {
    let mut container = ContainerReader::open(reader).map_err(VerifyError::Damaged)?;
    let mut progress = Progress::new(anchors)?;
    while let Some(chunk) = container.next_chunk().map_err(VerifyError::Damaged)? {
        progress.chunk(
            chunk.anchor(),
            u64::from(chunk.frames()),
            chunk.last_at_us(),
        )?;
    }
    progress.finish(&container)
}

/// Checks a recording against `anchors` and authenticates every frame with its key.
///
/// # Errors
///
/// Any [`VerifyError`]; the first one met in the order of chunks.
pub fn frames(
    reader: impl Read,
    key: RecordingKey,
    anchors: &[Anchor],
) -> Result<Report, VerifyError> {
    let container = ContainerReader::open(reader).map_err(VerifyError::Damaged)?;
    let mut opener = Opener::new(container, key).map_err(VerifyError::Damaged)?;
    let mut progress = Progress::new(anchors)?;
    while let Some(chunk) = opener.next_chunk().map_err(VerifyError::Damaged)? {
        let (_, last_at_us) = chunk.span_us();
        progress.chunk(chunk.anchor(), chunk.frames().count() as u64, last_at_us)?;
    }
    progress.finish(opener.container())
}

/// What was checked so far, and the anchors still to meet, nearest first.
struct Progress {
    waiting: std::iter::Peekable<std::vec::IntoIter<Anchor>>,
    chunks: u64,
    frames: u64,
    last_at_us: u64,
    anchored_chunks: u64,
}

impl Progress {
    fn new(anchors: &[Anchor]) -> Result<Self, VerifyError> {
        let mut sorted = anchors.to_vec();
        sorted.sort_by_key(|anchor| anchor.index);
        sorted.dedup();
        let twice = sorted
            .iter()
            .zip(sorted.iter().skip(1))
            .find(|(a, b)| a.index == b.index);
        if let Some((anchor, _)) = twice {
            return Err(VerifyError::AnchorsContradict {
                index: anchor.index,
            });
        }
        Ok(Self {
            waiting: sorted.into_iter().peekable(),
            chunks: 0,
            frames: 0,
            last_at_us: 0,
            anchored_chunks: 0,
        })
    }

    fn chunk(&mut self, found: Anchor, frames: u64, last_at_us: u64) -> Result<(), VerifyError> {
        self.chunks = self.chunks.saturating_add(1);
        self.frames = self.frames.saturating_add(frames);
        self.last_at_us = last_at_us;
        if let Some(anchor) = self.waiting.next_if(|anchor| anchor.index == found.index) {
            if anchor.chain != found.chain {
                return Err(VerifyError::AnchorMismatch {
                    index: anchor.index,
                    anchored: anchor.chain,
                    found: found.chain,
                });
            }
            self.anchored_chunks = self.chunks;
        }
        Ok(())
    }

    fn finish<R: Read>(mut self, container: &ContainerReader<R>) -> Result<Report, VerifyError> {
        if let Some(anchor) = self.waiting.next() {
            return Err(VerifyError::Missing {
                index: anchor.index,
                chunks: self.chunks,
            });
        }
        Ok(Report {
            header: container.header().clone(),
            chunks: self.chunks,
            frames: self.frames,
            last_at_us: self.last_at_us,
            bytes: container.offset(),
            chain: container.chain(),
            completeness: container.completeness().unwrap_or(Completeness::CutAfter {
                chunks: self.chunks,
            }),
            anchored_chunks: self.anchored_chunks,
        })
    }
}
