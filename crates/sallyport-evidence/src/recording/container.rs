//! Reading: the header, then chunk after chunk, with or without the key.
//!
//! [`ContainerReader`] follows the chain and needs no key; an auditor uses it through
//! [`verify`](super::verify). [`Opener`] adds the key and hands out frames to players, exports and
//! the index.
//!
//! INVARIANT: memory in use is bounded by one chunk's limits, whatever the bytes claim, and after
//! an error nothing more is handed out and the recording is never called complete.
//!
//! Not here: comparing with anchors (`verify`), sealing (`chunk`).

use std::io::{self, Read};

use aws_lc_rs::aead::{Aad, LessSafeKey};

use super::chunk::{
    Anchor, Chain, ChainValue, ChunkHead, HEAD_BYTES, MAX_CHUNK_SEALED_BYTES, RecordingKey,
    TAG_BYTES, nonce,
};
use super::frame::{Frame, FrameError, decode_frames};
use super::header::{Header, HeaderError, MAGIC, MAX_HEADER_BYTES, PREFIX_BYTES, VERSION};

/// Why a recording cannot be read on. Chunks handed out before stand.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The source of bytes failed; the recording may be sound.
    #[error("read recording at byte {offset}")]
    Read {
        /// Bytes read before.
        offset: u64,
        /// The source's reason.
        source: io::Error,
    },
    /// The first bytes are not a recording's.
    #[error("not a recording")]
    NotARecording,
    /// Written by a later version.
    #[error("recording has version {version}, which is not supported")]
    UnsupportedVersion {
        /// The version found.
        version: u16,
    },
    /// The file ends within the header.
    #[error("recording ends within its header")]
    HeaderCut,
    /// The header is damaged.
    #[error("read header of recording")]
    Header(#[source] HeaderError),
    /// A chunk's length is impossible.
    #[error("chunk {index} at byte {offset} has impossible length {length}")]
    ChunkLength {
        /// The chunk's index.
        index: u64,
        /// Where it begins.
        offset: u64,
        /// The length it claims.
        length: u32,
    },
    /// A chunk's clear part contradicts itself or its predecessor.
    #[error("chunk {index} at byte {offset} has a damaged head")]
    ChunkHead {
        /// The chunk's index.
        index: u64,
        /// Where it begins.
        offset: u64,
    },
    /// A chunk is missing, repeated or moved.
    #[error("chunk {index} expected at byte {offset}, found chunk {found}")]
    ChunkOrder {
        /// The index that must follow.
        index: u64,
        /// Where.
        offset: u64,
        /// The index found.
        found: u64,
    },
    /// The chunk, or anything before it, was changed; or the key is another recording's.
    #[error("chunk {index} at byte {offset} is not what was sealed, or the key is wrong")]
    NotAuthentic {
        /// The chunk's index.
        index: u64,
        /// Where it begins.
        offset: u64,
    },
    /// An authentic chunk does not decompress to what it says: a defect of the writer.
    #[error("chunk {index} at byte {offset} does not decompress")]
    Decompress {
        /// The chunk's index.
        index: u64,
        /// Where it begins.
        offset: u64,
    },
    /// An authentic chunk holds no valid frames: a defect of the writer.
    #[error("chunk {index} at byte {offset} holds invalid frames")]
    Frames {
        /// The chunk's index.
        index: u64,
        /// Where it begins.
        offset: u64,
        /// What is wrong with them; `None` when each is valid but number or times contradict.
        source: Option<FrameError>,
    },
    /// Something follows the final chunk.
    #[error("bytes follow the final chunk, at byte {offset}")]
    Trailing {
        /// The index a further chunk would have.
        index: u64,
        /// Where they begin.
        offset: u64,
    },
}

/// How a recording ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completeness {
    /// With its final chunk: the recorder closed it.
    Complete,
    /// Without: the recorder was killed, or the file was cut. All whole chunks are sound.
    CutAfter {
        /// Whole chunks before the cut.
        chunks: u64,
    },
}

/// A chunk as it stands in the file: its place and clear part checked, its frames still sealed.
#[derive(Debug, Clone)]
pub struct RawChunk {
    head: ChunkHead,
    offset: u64,
    associated: Vec<u8>,
    sealed: Vec<u8>,
    chain: ChainValue,
}

impl RawChunk {
    /// What the audit log should hold of this chunk.
    #[must_use]
    pub fn anchor(&self) -> Anchor {
        Anchor {
            index: self.head.index,
            chain: self.chain,
        }
    }

    /// Where in the file it begins.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// How many frames it says to hold.
    #[must_use]
    pub fn frames(&self) -> u32 {
        self.head.frames
    }

    /// Microseconds since session start of its last frame.
    #[must_use]
    pub fn last_at_us(&self) -> u64 {
        self.head.last_at_us
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReadState {
    Reading,
    FinalSeen,
    Ended(Completeness),
    Failed,
}

/// Reads a recording's structure and follows its chain, without the key.
#[derive(Debug)]
pub struct ContainerReader<R> {
    reader: R,
    header: Header,
    chain: Chain,
    offset: u64,
    next_index: u64,
    last_at_us: u64,
    state: ReadState,
}

impl<R: Read> ContainerReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    ///
    /// [`OpenError::NotARecording`], [`OpenError::UnsupportedVersion`], [`OpenError::HeaderCut`],
    /// [`OpenError::Header`] or [`OpenError::Read`].
    pub fn open(mut reader: R) -> Result<Self, OpenError> {
        let mut whole = Vec::with_capacity(512);
        read_up_to(&mut reader, &mut whole, PREFIX_BYTES, 0)?;
        let (magic, rest) = whole
            .split_first_chunk::<8>()
            .ok_or_else(|| cut_before_magic(&whole))?;
        if magic != MAGIC {
            return Err(OpenError::NotARecording);
        }
        let (version, rest) = rest.split_first_chunk::<2>().ok_or(OpenError::HeaderCut)?;
        let version = u16::from_be_bytes(*version);
        if version != VERSION {
            return Err(OpenError::UnsupportedVersion { version });
        }
        let (length, _) = rest.split_first_chunk::<4>().ok_or(OpenError::HeaderCut)?;
        let length = u32::from_be_bytes(*length) as usize;
        if length > MAX_HEADER_BYTES {
            return Err(OpenError::Header(HeaderError::Field { name: "length" }));
        }
        read_up_to(&mut reader, &mut whole, length, PREFIX_BYTES as u64)?;
        let json = whole.get(PREFIX_BYTES..).unwrap_or_default();
        if json.len() < length {
            return Err(OpenError::HeaderCut);
        }
        let header = Header::decode(&whole, json).map_err(OpenError::Header)?;
        Ok(Self {
            reader,
            header,
            chain: Chain::new(&whole),
            offset: whole.len() as u64,
            next_index: 0,
            last_at_us: 0,
            state: ReadState::Reading,
        })
    }

    /// What the recording says about itself. Sound once a chunk was opened or an anchor matched.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The chain's value after the chunks read so far.
    #[must_use]
    pub fn chain(&self) -> ChainValue {
        self.chain.value()
    }

    /// Bytes of the header and the whole chunks read so far.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// How the recording ends; `None` before its end is reached, and for ever after damage.
    #[must_use]
    pub fn completeness(&self) -> Option<Completeness> {
        match self.state {
            ReadState::Ended(completeness) => Some(completeness),
            ReadState::Reading | ReadState::FinalSeen | ReadState::Failed => None,
        }
    }

    /// The next whole chunk; `None` at the end, torn or not.
    ///
    /// # Errors
    ///
    /// Any variant of [`OpenError`] that names a chunk, once; after that `None`.
    pub fn next_chunk(&mut self) -> Result<Option<RawChunk>, OpenError> {
        match self.state {
            ReadState::Ended(_) | ReadState::Failed => return Ok(None),
            ReadState::Reading | ReadState::FinalSeen => {}
        }
        let step = self.read_chunk();
        if step.is_err() {
            self.state = ReadState::Failed;
        }
        step
    }

    fn read_chunk(&mut self) -> Result<Option<RawChunk>, OpenError> {
        let (index, offset) = (self.next_index, self.offset);
        let mut prefix = Vec::with_capacity(4 + HEAD_BYTES);
        read_up_to(&mut self.reader, &mut prefix, 4, offset)?;
        if self.state == ReadState::FinalSeen {
            return if prefix.is_empty() {
                self.state = ReadState::Ended(Completeness::Complete);
                Ok(None)
            } else {
                Err(OpenError::Trailing { index, offset })
            };
        }
        let Some(length) = prefix.first_chunk::<4>() else {
            return Ok(self.cut());
        };
        let length = u32::from_be_bytes(*length);
        let sealed_length = (length as usize)
            .checked_sub(HEAD_BYTES)
            .filter(|sealed| (TAG_BYTES..=MAX_CHUNK_SEALED_BYTES).contains(sealed))
            .ok_or(OpenError::ChunkLength {
                index,
                offset,
                length,
            })?;

        read_up_to(&mut self.reader, &mut prefix, HEAD_BYTES, offset)?;
        let Some(head) = prefix
            .last_chunk::<HEAD_BYTES>()
            .filter(|_| prefix.len() == 4 + HEAD_BYTES)
        else {
            return Ok(self.cut());
        };
        let head_bytes = *head;
        let mut sealed = Vec::new();
        read_up_to(&mut self.reader, &mut sealed, sealed_length, offset)?;
        if sealed.len() < sealed_length {
            return Ok(self.cut());
        }
        let head = self.check_head(&head_bytes)?;

        let associated = self.chain.associated(&head_bytes);
        self.chain.advance(&[&prefix, &sealed]);
        self.offset = offset.saturating_add(4).saturating_add(u64::from(length));
        self.next_index = index.saturating_add(1);
        self.last_at_us = head.last_at_us;
        if head.is_final {
            self.state = ReadState::FinalSeen;
        }
        Ok(Some(RawChunk {
            head,
            offset,
            associated,
            sealed,
            chain: self.chain.value(),
        }))
    }

    fn check_head(&self, head: &[u8; HEAD_BYTES]) -> Result<ChunkHead, OpenError> {
        let (index, offset) = (self.next_index, self.offset);
        let head = ChunkHead::decode(head).ok_or(OpenError::ChunkHead { index, offset })?;
        if head.index != index {
            return Err(OpenError::ChunkOrder {
                index,
                offset,
                found: head.index,
            });
        }
        if head.first_at_us < self.last_at_us {
            return Err(OpenError::ChunkHead { index, offset });
        }
        Ok(head)
    }

    fn cut(&mut self) -> Option<RawChunk> {
        self.state = ReadState::Ended(Completeness::CutAfter {
            chunks: self.next_index,
        });
        None
    }
}

fn cut_before_magic(found: &[u8]) -> OpenError {
    if MAGIC.starts_with(found) {
        OpenError::HeaderCut
    } else {
        OpenError::NotARecording
    }
}

/// Appends at most `length` bytes; fewer only at the end of the source. Memory grows with what
/// arrives, not with what was promised.
fn read_up_to(
    reader: &mut impl Read,
    buffer: &mut Vec<u8>,
    length: usize,
    offset: u64,
) -> Result<(), OpenError> {
    reader
        .by_ref()
        .take(length as u64)
        .read_to_end(buffer)
        .map(|_| ())
        .map_err(|source| OpenError::Read { offset, source })
}

/// A chunk whose frames are authentic, complete and in order.
#[derive(Debug, Clone)]
pub struct OpenedChunk {
    head: ChunkHead,
    chain: ChainValue,
    frames: Vec<u8>,
}

impl OpenedChunk {
    /// What the audit log should hold of this chunk.
    #[must_use]
    pub fn anchor(&self) -> Anchor {
        Anchor {
            index: self.head.index,
            chain: self.chain,
        }
    }

    /// Microseconds since session start of its first and last frame.
    #[must_use]
    pub fn span_us(&self) -> (u64, u64) {
        (self.head.first_at_us, self.head.last_at_us)
    }

    /// Its frames, in order; each was checked when the chunk was opened.
    pub fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        decode_frames(&self.frames).map_while(Result::ok)
    }
}

/// Reads a recording's frames with its key.
pub struct Opener<R> {
    container: ContainerReader<R>,
    cipher: LessSafeKey,
}

impl<R> std::fmt::Debug for Opener<R> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Opener")
            .field("header", &self.container.header)
            .field("next_index", &self.container.next_index)
            .finish_non_exhaustive()
    }
}

impl<R: Read> Opener<R> {
    /// Opens the recording whose header was read, so that the caller could ask the vault to unwrap
    /// the key that the header names. A wrong key shows at the first chunk.
    ///
    /// # Errors
    ///
    /// [`OpenError::NotAuthentic`] when the cipher refuses the key outright.
    pub fn new(container: ContainerReader<R>, key: RecordingKey) -> Result<Self, OpenError> {
        let (index, offset) = (container.next_index, container.offset);
        let cipher = key
            .into_cipher()
            .map_err(|_| OpenError::NotAuthentic { index, offset })?;
        Ok(Self { container, cipher })
    }

    /// The structure being read: header, chain, offset.
    #[must_use]
    pub fn container(&self) -> &ContainerReader<R> {
        &self.container
    }

    /// How the recording ends; `None` before its end is reached, and for ever after damage.
    #[must_use]
    pub fn completeness(&self) -> Option<Completeness> {
        self.container.completeness()
    }

    /// The next chunk with its frames; `None` at the end, torn or not.
    ///
    /// # Errors
    ///
    /// Any variant of [`OpenError`] that names a chunk, once; after that `None`.
    pub fn next_chunk(&mut self) -> Result<Option<OpenedChunk>, OpenError> {
        let Some(chunk) = self.container.next_chunk()? else {
            return Ok(None);
        };
        let opened = self.open_chunk(chunk);
        if opened.is_err() {
            self.container.state = ReadState::Failed;
        }
        opened.map(Some)
    }

    fn open_chunk(&self, chunk: RawChunk) -> Result<OpenedChunk, OpenError> {
        let RawChunk {
            head,
            offset,
            associated,
            mut sealed,
            chain,
        } = chunk;
        let index = head.index;
        let compressed = self
            .cipher
            .open_in_place(nonce(index), Aad::from(associated), &mut sealed)
            .map_err(|_| OpenError::NotAuthentic { index, offset })?;
        let frames_bytes = head.frames_bytes as usize;
        let frames = zstd::bulk::decompress(compressed, frames_bytes)
            .ok()
            .filter(|frames| frames.len() == frames_bytes)
            .ok_or(OpenError::Decompress { index, offset })?;
        check_frames(&head, &frames).map_err(|source| OpenError::Frames {
            index,
            offset,
            source,
        })?;
        Ok(OpenedChunk {
            head,
            chain,
            frames,
        })
    }
}

fn check_frames(head: &ChunkHead, bytes: &[u8]) -> Result<(), Option<FrameError>> {
    let mut count = 0_u32;
    let mut last_at_us = head.first_at_us;
    for frame in decode_frames(bytes) {
        let at_us = frame.map_err(Some)?.at_us;
        let in_order = if count == 0 {
            at_us == head.first_at_us
        } else {
            at_us >= last_at_us
        };
        if !in_order {
            return Err(None);
        }
        last_at_us = at_us;
        count = count.saturating_add(1);
    }
    let agrees = count == head.frames && (count == 0 || last_at_us == head.last_at_us);
    if agrees { Ok(()) } else { Err(None) }
}
