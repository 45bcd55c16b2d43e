//! Sealing: frames are gathered, compressed, encrypted and chained, a chunk at a time.
//!
//! The gateway's recorder owns one [`Sealer`] per session. It pushes each frame as it passes,
//! seals at least once a second, makes the sealed bytes durable and anchors the chain value in the
//! audit log. An idle sealer holds no buffer and no compression state.
//!
//! INVARIANT: a key seals one recording, and each chunk index is used once under it, because the
//! index is the nonce. A sealer cannot be cloned, rewound or resumed; after a crash the rest of
//! the session is a new recording under a new key.
//!
//! Not here: reading (`container`), when to seal and where the bytes go (the caller).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::digest::{self, SHA256};
use aws_lc_rs::error::Unspecified;
use zeroize::Zeroizing;

use super::frame::{Frame, FrameError};
use super::header::{Header, HeaderError};

/// Largest sum of encoded frames in one chunk, before compression.
pub const MAX_CHUNK_FRAMES_BYTES: usize = 8 * 1024 * 1024;

/// Largest compressed and encrypted part of a chunk. Above the frames' own limit by what zstd adds
/// to incompressible input (less than 1/255) and the tag.
pub(super) const MAX_CHUNK_SEALED_BYTES: usize = MAX_CHUNK_FRAMES_BYTES + 64 * 1024;

/// Bytes of a chunk before its encrypted part, the length prefix left out.
pub(super) const HEAD_BYTES: usize = 8 + 1 + 4 + 8 + 8 + 4;

pub(super) const TAG_BYTES: usize = 16;

const HEADER_DOMAIN: &[u8] = b"sallyport recording v1 header\0";
const CHUNK_DOMAIN: &[u8] = b"sallyport recording v1 chunk\0";

/// zstd's fastest regular level: text shrinks several times over at a small part of the cost of
/// encryption's surroundings, and random bytes are passed through.
const COMPRESSION_LEVEL: i32 = 1;

/// A value of the hash chain: everything before it can no longer change unseen.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChainValue(pub [u8; 32]);

impl std::fmt::Display for ChainValue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Debug for ChainValue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "ChainValue({self})")
    }
}

/// What the audit log keeps of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// The chunk's index, from 0.
    pub index: u64,
    /// The chain's value after that chunk.
    pub chain: ChainValue,
}

/// The key of one recording: 32 bytes for AES-256-GCM, wiped when dropped.
pub struct RecordingKey(Zeroizing<[u8; 32]>);

impl RecordingKey {
    /// Takes the key's bytes; the caller drew them at random for this recording alone.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(super) fn into_cipher(self) -> Result<LessSafeKey, Unspecified> {
        UnboundKey::new(&AES_256_GCM, self.0.as_ref()).map(LessSafeKey::new)
    }
}

impl std::fmt::Debug for RecordingKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("RecordingKey(..)")
    }
}

/// Why something cannot be recorded. Every variant means that the session must end.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The header breaks a limit.
    #[error("write header of recording")]
    Header(#[source] HeaderError),
    /// The frame breaks a limit.
    #[error("encode frame of recording")]
    Frame(#[source] FrameError),
    /// The frame does not fit: seal first.
    #[error("chunk {index} of recording is full")]
    ChunkFull {
        /// The chunk being filled.
        index: u64,
    },
    /// Compression failed.
    #[error("compress chunk {index} of recording")]
    Compress {
        /// The chunk being sealed.
        index: u64,
        /// zstd's reason.
        source: std::io::Error,
    },
    /// The cipher refused, or an earlier seal failed and its nonce may not be used again.
    #[error("encrypt chunk {index} of recording")]
    Encrypt {
        /// The chunk being sealed.
        index: u64,
    },
}

/// A chunk as it goes to storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedChunk {
    /// What to append to the file, whole.
    pub bytes: Vec<u8>,
    /// Its index, from 0.
    pub index: u64,
    /// The chain's value after it: what to anchor.
    pub chain: ChainValue,
}

impl SealedChunk {
    /// What the audit log keeps of this chunk.
    #[must_use]
    pub fn anchor(&self) -> Anchor {
        Anchor {
            index: self.index,
            chain: self.chain,
        }
    }
}

/// The part of a chunk that is readable without the key; bound to the rest by the cipher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChunkHead {
    pub(super) index: u64,
    pub(super) is_final: bool,
    pub(super) frames: u32,
    pub(super) first_at_us: u64,
    pub(super) last_at_us: u64,
    pub(super) frames_bytes: u32,
}

impl ChunkHead {
    pub(super) fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut head = [0; HEAD_BYTES];
        let parts = self
            .index
            .to_be_bytes()
            .into_iter()
            .chain([u8::from(self.is_final)])
            .chain(self.frames.to_be_bytes())
            .chain(self.first_at_us.to_be_bytes())
            .chain(self.last_at_us.to_be_bytes())
            .chain(self.frames_bytes.to_be_bytes());
        for (slot, byte) in head.iter_mut().zip(parts) {
            *slot = byte;
        }
        head
    }

    /// `None` when a flag is unknown or the numbers contradict each other.
    pub(super) fn decode(head: &[u8; HEAD_BYTES]) -> Option<Self> {
        let (index, rest) = head.split_first_chunk::<8>()?;
        let (flags, rest) = rest.split_first()?;
        let (frames, rest) = rest.split_first_chunk::<4>()?;
        let (first_at_us, rest) = rest.split_first_chunk::<8>()?;
        let (last_at_us, rest) = rest.split_first_chunk::<8>()?;
        let (frames_bytes, _) = rest.split_first_chunk::<4>()?;
        let head = Self {
            index: u64::from_be_bytes(*index),
            is_final: *flags == 1,
            frames: u32::from_be_bytes(*frames),
            first_at_us: u64::from_be_bytes(*first_at_us),
            last_at_us: u64::from_be_bytes(*last_at_us),
            frames_bytes: u32::from_be_bytes(*frames_bytes),
        };
        let plausible = *flags <= 1
            && head.first_at_us <= head.last_at_us
            && (head.frames > 0 || head.is_final)
            && (head.frames == 0) == (head.frames_bytes == 0)
            && head.frames_bytes as usize <= MAX_CHUNK_FRAMES_BYTES;
        plausible.then_some(head)
    }
}

/// Where the chain stands: what the next chunk is bound to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chain {
    header_digest: [u8; 32],
    value: ChainValue,
}

impl Chain {
    /// The chain before the first chunk. `header` is everything before it, magic included.
    pub(super) fn new(header: &[u8]) -> Self {
        Self {
            header_digest: sha256(&[header]),
            value: ChainValue(sha256(&[HEADER_DOMAIN, header])),
        }
    }

    pub(super) fn value(&self) -> ChainValue {
        self.value
    }

    /// Takes in a whole chunk, its length prefix included.
    pub(super) fn advance(&mut self, chunk: &[&[u8]]) {
        let mut context = digest::Context::new(&SHA256);
        context.update(CHUNK_DOMAIN);
        context.update(&self.value.0);
        chunk.iter().for_each(|part| context.update(part));
        self.value = ChainValue(digest_bytes(&context.finish()));
    }

    /// What the cipher authenticates besides the frames: the header, all that came before, and
    /// the chunk's own clear part.
    pub(super) fn associated(&self, head: &[u8; HEAD_BYTES]) -> Vec<u8> {
        [&self.header_digest[..], &self.value.0, head].concat()
    }
}

pub(super) fn nonce(index: u64) -> Nonce {
    let mut bytes = [0; 12];
    for (slot, byte) in bytes.iter_mut().skip(4).zip(index.to_be_bytes()) {
        *slot = byte;
    }
    Nonce::assume_unique_for_key(bytes)
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    digest_bytes(&context.finish())
}

fn digest_bytes(digest: &digest::Digest) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (slot, byte) in bytes.iter_mut().zip(digest.as_ref()) {
        *slot = *byte;
    }
    bytes
}

/// Seals one recording from its first frame to its last.
pub struct Sealer {
    cipher: LessSafeKey,
    chain: Chain,
    next_index: u64,
    pending: Vec<u8>,
    frames: u32,
    first_at_us: u64,
    last_at_us: u64,
    is_poisoned: bool,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Sealer")
            .field("next_index", &self.next_index)
            .field("pending_bytes", &self.pending.len())
            .finish_non_exhaustive()
    }
}

impl Sealer {
    /// Starts a recording; returns the sealer and the bytes that begin the file.
    ///
    /// # Errors
    ///
    /// [`SealError::Header`] when the header breaks a limit.
    pub fn new(header: &Header, key: RecordingKey) -> Result<(Self, Vec<u8>), SealError> {
        let header = header.encode().map_err(SealError::Header)?;
        let cipher = key
            .into_cipher()
            .map_err(|_| SealError::Encrypt { index: 0 })?;
        let sealer = Self {
            cipher,
            chain: Chain::new(&header),
            next_index: 0,
            pending: Vec::new(),
            frames: 0,
            first_at_us: 0,
            last_at_us: 0,
            is_poisoned: false,
        };
        Ok((sealer, header))
    }

    /// Takes in one frame.
    ///
    /// A frame whose time is before its predecessor's gets the predecessor's: two channels may
    /// race to the recorder by microseconds, and the order of arrival is what the recording states.
    ///
    /// # Errors
    ///
    /// [`SealError::ChunkFull`] when the frame does not fit; seal and push again.
    /// [`SealError::Frame`] when it never will.
    pub fn push(&mut self, frame: &Frame<'_>) -> Result<(), SealError> {
        let at_us = frame.at_us.max(self.last_at_us);
        let start = self.pending.len();
        Frame { at_us, ..*frame }
            .encode(&mut self.pending)
            .map_err(SealError::Frame)?;
        if self.pending.len() > MAX_CHUNK_FRAMES_BYTES {
            self.pending.truncate(start);
            return Err(SealError::ChunkFull {
                index: self.next_index,
            });
        }
        if self.frames == 0 {
            self.first_at_us = at_us;
        }
        self.last_at_us = at_us;
        self.frames = self.frames.saturating_add(1);
        Ok(())
    }

    /// Bytes of frames taken in and not yet sealed.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    /// The chain's value so far; before the first chunk it stands for the header alone.
    #[must_use]
    pub fn chain(&self) -> ChainValue {
        self.chain.value()
    }

    /// Seals what is pending; `None` when nothing is.
    ///
    /// # Errors
    ///
    /// [`SealError::Compress`] or [`SealError::Encrypt`]; the sealer is then of no further use,
    /// and neither is the session.
    pub fn seal(&mut self) -> Result<Option<SealedChunk>, SealError> {
        if self.frames == 0 {
            return Ok(None);
        }
        self.seal_pending(false).map(Some)
    }

    /// Seals what is pending, possibly nothing, as the last chunk: the recording is complete.
    ///
    /// # Errors
    ///
    /// As [`Sealer::seal`].
    pub fn finish(mut self) -> Result<SealedChunk, SealError> {
        self.seal_pending(true)
    }

    fn seal_pending(&mut self, is_final: bool) -> Result<SealedChunk, SealError> {
        let index = self.next_index;
        if std::mem::replace(&mut self.is_poisoned, true) {
            return Err(SealError::Encrypt { index });
        }
        let frames = std::mem::take(&mut self.pending);
        let head = ChunkHead {
            index,
            is_final,
            frames: std::mem::take(&mut self.frames),
            first_at_us: if frames.is_empty() {
                self.last_at_us
            } else {
                self.first_at_us
            },
            last_at_us: self.last_at_us,
            frames_bytes: u32::try_from(frames.len())
                .map_err(|_| SealError::ChunkFull { index })?,
        }
        .encode();

        let mut sealed = zstd::bulk::compress(&frames, COMPRESSION_LEVEL)
            .map_err(|source| SealError::Compress { index, source })?;
        self.cipher
            .seal_in_place_append_tag(
                nonce(index),
                Aad::from(self.chain.associated(&head)),
                &mut sealed,
            )
            .map_err(|_| SealError::Encrypt { index })?;
        let length = u32::try_from(HEAD_BYTES.saturating_add(sealed.len()))
            .map_err(|_| SealError::ChunkFull { index })?;

        let bytes = [&length.to_be_bytes()[..], &head, &sealed].concat();
        self.chain.advance(&[&bytes]);
        self.next_index = index.checked_add(1).ok_or(SealError::ChunkFull { index })?;
        self.is_poisoned = false;
        Ok(SealedChunk {
            bytes,
            index,
            chain: self.chain.value(),
        })
    }
}
