//! Evidence on disk until control has it: a bounded write-ahead in segments.
//!
//! A segment is a file of entries, each a 32-bit big-endian length, the first eight bytes of the
//! body's SHA-256, and the body: one [`Evidence`] as JSON. A segment whose every entry was
//! acknowledged is removed; entries of a segment that was not are offered again after a restart,
//! which is harmless because control knows repeats by session and number.
//!
//! INVARIANT: [`Spool::append`] returns after its entries are durable, and what it took is offered
//! until acknowledged. The spool never holds more bytes than its limit.
//!
//! Not here: delivering to control, retrying, order between sessions ([`crate::outbox`]).

use std::{
    borrow::Borrow,
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, digest};
use sallyport_api::gateway::{Anchor, OperationBatch, SessionClosed};
use sallyport_core::id::SessionId;
use serde::{Deserialize, Serialize};

/// What control must come to know of a session, whatever happens in between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "evidence", content = "of", rename_all = "snake_case")]
pub enum Evidence {
    /// Operations that ran or were refused.
    Operations(OperationBatch),
    /// How far a recording is durable.
    Anchor(Anchor),
    /// The session is over.
    Closed(SessionClosed),
}

impl Evidence {
    /// The session it is about.
    #[must_use]
    pub const fn session_id(&self) -> &SessionId {
        match self {
            Self::Operations(batch) => &batch.session_id,
            Self::Anchor(anchor) => &anchor.session_id,
            Self::Closed(closed) => &closed.session_id,
        }
    }
}

/// A segment is closed, and a new one begun, at this size.
const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;
/// Longest body: above the largest batch of operations, below the longest frame of the RPC.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
const DIGEST_BYTES: usize = 8;
const PREFIX_BYTES: usize = 4 + DIGEST_BYTES;

/// Why evidence could not be kept or read back.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The file system refused.
    #[error("{attempt} `{path}`")]
    Io {
        /// What was being done.
        attempt: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Control has been away for too long, or the disk is slow: nothing more fits.
    #[error("keep {size_bytes} more bytes of evidence in a spool limited to {limit_bytes}")]
    Full {
        /// Bytes that were to be added.
        size_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// The entry could not be written down.
    #[error("encode evidence")]
    Encode(#[source] serde_json::Error),
    /// Longer than an entry may be.
    #[error("keep evidence of {size_bytes} bytes in one entry")]
    TooLong {
        /// Its length.
        size_bytes: usize,
    },
    /// A segment was changed or the disk lost part of it. Move it away to start without it, and keep
    /// it: it is evidence.
    #[error("read segment `{path}`: damaged at byte {offset}; move it away and keep it")]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where.
        offset: u64,
    },
}

/// Number of a segment, in the order of their making.
pub type SegmentNumber = u64;

#[derive(Debug)]
struct Segment {
    number: SegmentNumber,
    size_bytes: u64,
    unacknowledged: usize,
}

/// The spool of one gateway.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    limit_bytes: u64,
    segments: VecDeque<Segment>,
    current: Option<File>,
    next_number: SegmentNumber,
}

impl Spool {
    /// Opens the spool in `directory`, making it if needed, and returns what was left there, in
    /// order. An entry torn by a crash at the end of the last segment is dropped: nobody was told
    /// that it is kept.
    ///
    /// # Errors
    /// [`SpoolError::Io`] or [`SpoolError::Damaged`].
    pub fn open(
        directory: PathBuf,
        limit_bytes: u64,
    ) -> Result<(Self, Vec<(SegmentNumber, Evidence)>), SpoolError> {
        fs::create_dir_all(&directory).map_err(at("make directory", &directory))?;
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&directory).map_err(at("list", &directory))? {
            let entry = entry.map_err(at("list", &directory))?;
            numbers.extend(segment_number(&entry.path()));
        }
        numbers.sort_unstable();

        let mut spool = Self {
            directory,
            limit_bytes,
            segments: VecDeque::new(),
            current: None,
            next_number: numbers.last().map_or(1, |last| last.saturating_add(1)),
        };
        let mut left = Vec::new();
        for number in &numbers {
            let path = spool.path(*number);
            let bytes = fs::read(&path).map_err(at("read segment", &path))?;
            let (entries, whole_bytes) = read_segment(&bytes);
            let size_bytes = whole_bytes as u64;
            if whole_bytes < bytes.len() {
                if Some(number) != numbers.last() {
                    return Err(SpoolError::Damaged {
                        path,
                        offset: size_bytes,
                    });
                }
                cut(&path, size_bytes)?;
            }
            if entries.is_empty() {
                fs::remove_file(&path).map_err(at("remove segment", &path))?;
                continue;
            }
            spool.segments.push_back(Segment {
                number: *number,
                size_bytes,
                unacknowledged: entries.len(),
            });
            left.extend(entries.into_iter().map(|evidence| (*number, evidence)));
        }
        Ok((spool, left))
    }

    /// Makes `entries` durable and returns the segment they are in.
    ///
    /// # Errors
    /// [`SpoolError`]; none of `entries` counts as kept then, though some may be offered after a
    /// restart.
    pub fn append(
        &mut self,
        entries: &[impl Borrow<Evidence>],
    ) -> Result<SegmentNumber, SpoolError> {
        let mut bytes = Vec::new();
        for entry in entries {
            encode(entry.borrow(), &mut bytes)?;
        }
        let size_bytes = bytes.len() as u64;
        let held: u64 = self.segments.iter().map(|segment| segment.size_bytes).sum();
        if held.saturating_add(size_bytes) > self.limit_bytes {
            return Err(SpoolError::Full {
                size_bytes,
                limit_bytes: self.limit_bytes,
            });
        }
        let (number, mut file) = self.take_segment()?;
        if let Err(source) = file.write_all(&bytes).and_then(|()| file.sync_data()) {
            let path = self.path(number);
            // The segment is sound up to here only. If it cannot even be shortened, the next
            // attempt begins another.
            let whole_bytes = self.segments.back().map_or(0, |segment| segment.size_bytes);
            if file
                .set_len(whole_bytes)
                .and_then(|()| file.sync_all())
                .is_ok()
            {
                self.current = Some(file);
            }
            return Err(SpoolError::Io {
                attempt: "write segment",
                path,
                source,
            });
        }
        if let Some(segment) = self.segments.back_mut() {
            segment.size_bytes = segment.size_bytes.saturating_add(size_bytes);
            segment.unacknowledged = segment.unacknowledged.saturating_add(entries.len());
        }
        self.current = Some(file);
        Ok(number)
    }

    /// Notes that control has one entry of segment `number`. After its last the segment is removed,
    /// or emptied while it is being written.
    ///
    /// # Errors
    /// [`SpoolError::Io`] when that fails; its entries would be repeated after a restart, which is
    /// harmless.
    pub fn acknowledge(&mut self, number: SegmentNumber) -> Result<(), SpoolError> {
        let path = self.path(number);
        let is_written = self.current.is_some()
            && self
                .segments
                .back()
                .is_some_and(|segment| segment.number == number);
        let Some(segment) = self
            .segments
            .iter_mut()
            .find(|segment| segment.number == number)
        else {
            return Ok(());
        };
        segment.unacknowledged = segment.unacknowledged.saturating_sub(1);
        if segment.unacknowledged > 0 {
            return Ok(());
        }
        if let (true, Some(file)) = (is_written, &self.current) {
            // Not synced: should the old length come back after a crash, so do harmless repeats.
            file.set_len(0).map_err(at("empty segment", &path))?;
            segment.size_bytes = 0;
            return Ok(());
        }
        self.segments.retain(|segment| segment.number != number);
        fs::remove_file(&path).map_err(at("remove segment", &path))
    }

    /// Entries that control does not have yet.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.segments
            .iter()
            .map(|segment| segment.unacknowledged)
            .sum()
    }

    fn take_segment(&mut self) -> Result<(SegmentNumber, File), SpoolError> {
        if let (Some(file), Some(segment)) = (self.current.take(), self.segments.back())
            && segment.size_bytes < SEGMENT_BYTES
        {
            return Ok((segment.number, file));
        }
        let number = self.next_number;
        self.next_number = number.saturating_add(1);
        let path = self.path(number);
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(at("make segment", &path))?;
        // Without this the file's name may be lost in a power cut, and its content with it.
        File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(at("make durable", &self.directory))?;
        self.segments.push_back(Segment {
            number,
            size_bytes: 0,
            unacknowledged: 0,
        });
        Ok((number, file))
    }

    fn path(&self, number: SegmentNumber) -> PathBuf {
        self.directory.join(format!("{number:016}.spool"))
    }
}

fn at(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SpoolError {
    let path = path.to_owned();
    move |source| SpoolError::Io {
        attempt,
        path,
        source,
    }
}

/// Shortens a segment to its whole entries.
fn cut(path: &Path, whole_bytes: u64) -> Result<(), SpoolError> {
    let file = OpenOptions::new()
        .write(true)
        .open(path)
        .map_err(at("open segment", path))?;
    file.set_len(whole_bytes)
        .and_then(|()| file.sync_all())
        .map_err(at("shorten segment", path))
}

fn segment_number(path: &Path) -> Option<SegmentNumber> {
    let is_segment = path
        .extension()
        .is_some_and(|extension| extension == "spool");
    is_segment
        .then(|| path.file_stem()?.to_str()?.parse().ok())
        .flatten()
}

fn encode(evidence: &Evidence, out: &mut Vec<u8>) -> Result<(), SpoolError> {
    let body = serde_json::to_vec(evidence).map_err(SpoolError::Encode)?;
    let too_long = SpoolError::TooLong {
        size_bytes: body.len(),
    };
    if body.len() > BODY_BYTES_MAX {
        return Err(too_long);
    }
    let length = u32::try_from(body.len()).map_err(|_| too_long)?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend(digest(&SHA256, &body).as_ref().iter().take(DIGEST_BYTES));
    out.extend_from_slice(&body);
    Ok(())
}

/// The whole entries at the beginning of a segment, and how many bytes they take.
fn read_segment(bytes: &[u8]) -> (Vec<Evidence>, usize) {
    let mut entries = Vec::new();
    let mut rest = bytes;
    while let Some((entry, after)) = read_entry(rest) {
        entries.push(entry);
        rest = after;
    }
    (entries, bytes.len() - rest.len())
}

fn read_entry(bytes: &[u8]) -> Option<(Evidence, &[u8])> {
    let (prefix, rest) = bytes.split_first_chunk::<PREFIX_BYTES>()?;
    let (length, sum) = prefix.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (body, after) = rest
        .split_at_checked(length)
        .filter(|_| length <= BODY_BYTES_MAX)?;
    if !digest(&SHA256, body).as_ref().starts_with(sum) {
        return None;
    }
    Some((serde_json::from_slice(body).ok()?, after))
}

/// Reads a segment as it may lie on a disk that was not written by us, and a whole entry with this body, for a
/// fuzzer: what is read is a beginning of it, and is read again once written.
pub fn read_anything(bytes: &[u8]) {
    let (_, whole_bytes) = read_segment(bytes);
    assert!(whole_bytes <= bytes.len());
    let Ok(length) = u32::try_from(bytes.len()) else {
        return;
    };
    let mut entry = length.to_be_bytes().to_vec();
    entry.extend(digest(&SHA256, bytes).as_ref().iter().take(DIGEST_BYTES));
    entry.extend_from_slice(bytes);
    for evidence in read_segment(&entry).0 {
        let mut written = Vec::new();
        if encode(&evidence, &mut written).is_ok() {
            assert_eq!(read_segment(&written), (vec![evidence], written.len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sallyport_core::{id::RecordingId, time::Timestamp};

    use super::*;

    fn anchor(session: u8, chunks: u64) -> Evidence {
        Evidence::Anchor(Anchor {
            session_id: SessionId::new(Timestamp::EPOCH, [session; 10]),
            recording_id: RecordingId::new(Timestamp::EPOCH, [session; 10]),
            chunks,
            chain: "00".repeat(32),
            size_bytes: chunks * 1_000,
        })
    }

    fn reopen(directory: &Path) -> (Spool, Vec<Evidence>) {
        let (spool, left) = Spool::open(directory.to_owned(), 1 << 20).unwrap();
        (
            spool,
            left.into_iter().map(|(_, evidence)| evidence).collect(),
        )
    }

    /// AU-6
    #[test]
    fn what_was_appended_and_not_acknowledged_is_left_after_a_restart_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let (mut spool, left) = reopen(directory.path());
        assert!(left.is_empty());
        spool.append(&[anchor(1, 1), anchor(2, 1)]).unwrap();
        spool.append(&[anchor(1, 2)]).unwrap();
        drop(spool);

        let (spool, left) = reopen(directory.path());
        assert_eq!(left, [anchor(1, 1), anchor(2, 1), anchor(1, 2)]);
        assert_eq!(spool.depth(), 3);
    }

    /// AU-6
    #[test]
    fn what_was_acknowledged_is_not_left_and_what_follows_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let (mut spool, _) = reopen(directory.path());
        let number = spool.append(&[anchor(1, 1)]).unwrap();
        spool.acknowledge(number).unwrap();
        assert_eq!(spool.depth(), 0);
        spool.append(&[anchor(1, 2)]).unwrap();
        drop(spool);
        assert_eq!(reopen(directory.path()).1, [anchor(1, 2)]);
    }

    #[test]
    fn a_segment_goes_when_its_last_entry_is_acknowledged_and_another_is_begun() {
        let directory = tempfile::tempdir().unwrap();
        let (mut spool, _) = reopen(directory.path());
        let number = spool.append(&[anchor(1, 1), anchor(1, 2)]).unwrap();
        spool.acknowledge(number).unwrap();
        drop(spool);
        let (mut spool, left) = Spool::open(directory.path().to_owned(), 1 << 20).unwrap();
        for (number, _) in &left {
            spool.acknowledge(*number).unwrap();
        }
        assert_eq!(spool.depth(), 0);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    /// RE-12
    #[test]
    fn a_full_spool_refuses_instead_of_forgetting() {
        let directory = tempfile::tempdir().unwrap();
        let (mut spool, _) = Spool::open(directory.path().to_owned(), 600).unwrap();
        let mut kept = Vec::new();
        let refused = (1..100).find_map(|chunks| match spool.append(&[anchor(1, chunks)]) {
            Ok(_) => {
                kept.push(anchor(1, chunks));
                None
            }
            Err(error) => Some(error),
        });
        assert!(
            matches!(refused, Some(SpoolError::Full { .. })),
            "{refused:?}"
        );
        assert!(!kept.is_empty());
        drop(spool);
        assert_eq!(reopen(directory.path()).1, kept);
    }

    /// AU-6
    #[test]
    fn an_entry_torn_at_the_end_is_dropped_and_damage_before_the_end_is_reported_with_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let (mut spool, _) = reopen(directory.path());
        spool.append(&[anchor(1, 1)]).unwrap();
        let first = fs::read_dir(directory.path())
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        let whole = fs::read(&first).unwrap();
        fs::write(&first, [&whole[..], &whole[..whole.len() - 1]].concat()).unwrap();
        drop(spool);
        let (mut spool, left) = reopen(directory.path());
        assert_eq!(left, [anchor(1, 1)]);
        spool.append(&[anchor(1, 2)]).unwrap();
        drop(spool);
        assert_eq!(reopen(directory.path()).1, [anchor(1, 1), anchor(1, 2)]);

        let mut damaged = whole.clone();
        damaged[PREFIX_BYTES + 3] ^= 1;
        fs::write(&first, damaged).unwrap();
        let error = Spool::open(directory.path().to_owned(), 1 << 20).unwrap_err();
        assert!(
            matches!(&error, SpoolError::Damaged { path, offset: 0 } if *path == first),
            "{error:?}"
        );
    }

    proptest! {
        #[test]
        fn reading_a_damaged_segment_gives_a_whole_prefix_of_what_was_written(
            entries in 1_u64..6, at in any::<prop::sample::Index>(), flip in 1_u8..=255,
        ) {
            let written: Vec<Evidence> = (0..entries).map(|chunks| anchor(1, chunks)).collect();
            let mut bytes = Vec::new();
            for entry in &written {
                encode(entry, &mut bytes).unwrap();
            }
            let index = at.index(bytes.len());
            bytes[index] ^= flip;
            let (read, whole_bytes) = read_segment(&bytes);
            prop_assert!(read.len() < written.len());
            prop_assert!(whole_bytes <= index);
            prop_assert_eq!(&read[..], &written[..read.len()]);
        }
    }
}
