//! The export of a log: named blobs that an auditor can carry away and check offline.
//!
//! `sallyport audit export` writes a directory through [`ExportWriter`]; [`super::verify`] reads one
//! through [`Export`]. [`MemoryExport`] is both, in memory, for tests.
//!
//! INVARIANT: [`ExportWriter::finish`] succeeds only if what was written verifies against the
//! checkpoint that goes with it.
//!
//! Not here: directories and files (`sallyport`), reading entries from the store
//! (`sallyport-control`).

use std::collections::BTreeMap;
use std::io::{self, Read};

use super::checkpoint::{Checkpoint, CheckpointError, VerifierKey};
use super::entry::{self, EntryError};
use super::tile::{NodeSource, Tile, TileAddress, TileBuilder};
use super::tree::TreeHash;

/// Name of the blob with the signed checkpoint.
pub const CHECKPOINT_NAME: &str = "checkpoint";

/// Name of the blob with the entries, one a line.
pub const ENTRIES_NAME: &str = "entries.jsonl";

/// An export to be read: blobs by name, with `/` between the parts of a name.
pub trait Export {
    /// Opens one blob; `None` if there is none of this name.
    ///
    /// # Errors
    ///
    /// When it exists and cannot be read.
    fn open(&self, name: &str) -> io::Result<Option<Box<dyn Read + '_>>>;

    /// The names of all blobs, in any order.
    ///
    /// # Errors
    ///
    /// When they cannot be listed.
    fn names(&self) -> io::Result<Vec<String>>;
}

/// An export to be written.
pub trait ExportSink {
    /// Adds `bytes` to the end of the blob `name`, making it if it does not exist.
    ///
    /// # Errors
    ///
    /// When they cannot be written; the export is then abandoned.
    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;
}

/// Why an export was abandoned; what is already in the sink is not a valid export.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The entry does not belong in a log, or not at this place.
    #[error("export entry {seq}")]
    Entry {
        /// Where it was due.
        seq: u64,
        /// What is wrong with it.
        source: EntryError,
    },

    /// Entries must come in order and without gaps.
    #[error("export entry {seq}: its own number is {found}")]
    Sequence {
        /// Where it was due.
        seq: u64,
        /// The number it has.
        found: u64,
    },

    /// The sink refused.
    #[error("write `{name}`")]
    Write {
        /// Name of the blob.
        name: String,
        /// What the sink said.
        source: io::Error,
    },

    /// The checkpoint is not one of this log's key.
    #[error("export checkpoint")]
    Checkpoint {
        /// What is wrong with it.
        source: CheckpointError,
    },

    /// The stored entries are not those that were signed: the store is damaged.
    #[error(
        "export {size} entries: root {root} is not the one the checkpoint of size {signed_size} signs"
    )]
    Root {
        /// Entries written.
        size: u64,
        /// Root over them.
        root: TreeHash,
        /// Size in the checkpoint.
        signed_size: u64,
    },
}

/// Writes an export, entry by entry.
pub struct ExportWriter<'a> {
    sink: &'a mut dyn ExportSink,
    tiles: TileBuilder,
}

impl std::fmt::Debug for ExportWriter<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ExportWriter")
            .field("tiles", &self.tiles)
            .finish_non_exhaustive()
    }
}

impl<'a> ExportWriter<'a> {
    /// Starts an export into an empty sink.
    ///
    /// # Errors
    ///
    /// [`ExportError::Write`] when the sink refuses.
    pub fn new(sink: &'a mut dyn ExportSink) -> Result<Self, ExportError> {
        let mut writer = Self {
            sink,
            tiles: TileBuilder::new(),
        };
        // An empty log has the blob all the same.
        writer.write(ENTRIES_NAME, &[])?;
        Ok(writer)
    }

    /// Adds the bytes of the next entry.
    ///
    /// # Errors
    ///
    /// [`ExportError`] when the entry is malformed or out of order, or the sink refuses.
    pub fn append(&mut self, entry: &[u8]) -> Result<(), ExportError> {
        let seq = self.tiles.frontier().size();
        let found = entry::check(entry).map_err(|source| ExportError::Entry { seq, source })?;
        if found != seq {
            return Err(ExportError::Sequence { seq, found });
        }
        self.write(ENTRIES_NAME, entry)?;
        self.write(ENTRIES_NAME, b"\n")?;
        let filled = self.tiles.append(TreeHash::of_leaf(entry));
        self.write_tiles(&filled)
    }

    /// Adds the checkpoint over exactly the entries appended, and ends the export.
    ///
    /// # Errors
    ///
    /// [`ExportError`] when `checkpoint` is not signed by `key` or signs other entries, or the sink
    /// refuses.
    pub fn finish(
        mut self,
        checkpoint: &str,
        key: &VerifierKey,
    ) -> Result<Checkpoint, ExportError> {
        let opened = Checkpoint::open(checkpoint.as_bytes(), key)
            .map_err(|source| ExportError::Checkpoint { source })?;
        let (size, root) = (self.tiles.frontier().size(), self.tiles.frontier().root());
        let signed_size = opened.checkpoint.size;
        if size != signed_size || root != opened.checkpoint.root {
            return Err(ExportError::Root {
                size,
                root,
                signed_size,
            });
        }
        let partial = self.tiles.partial();
        self.write_tiles(&partial)?;
        self.write(CHECKPOINT_NAME, checkpoint.as_bytes())?;
        Ok(opened.checkpoint)
    }

    fn write_tiles(&mut self, tiles: &[Tile]) -> Result<(), ExportError> {
        tiles
            .iter()
            .try_for_each(|tile| self.write(&tile.address.to_string(), &tile.bytes))
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), ExportError> {
        self.sink
            .append(name, bytes)
            .map_err(|source| ExportError::Write {
                name: name.to_owned(),
                source,
            })
    }
}

/// An export in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryExport {
    /// The blobs by name.
    pub blobs: BTreeMap<String, Vec<u8>>,
}

impl Export for MemoryExport {
    fn open(&self, name: &str) -> io::Result<Option<Box<dyn Read + '_>>> {
        Ok(self
            .blobs
            .get(name)
            .map(|blob| Box::new(blob.as_slice()) as Box<dyn Read>))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.blobs.keys().cloned().collect())
    }
}

impl ExportSink for MemoryExport {
    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.blobs
            .entry(name.to_owned())
            .or_default()
            .extend_from_slice(bytes);
        Ok(())
    }
}

/// The tiles of an export, as a source of nodes: for proofs from an export.
#[derive(Clone, Copy)]
pub struct ExportTiles<'a>(pub &'a dyn Export);

impl std::fmt::Debug for ExportTiles<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ExportTiles")
            .finish_non_exhaustive()
    }
}

impl NodeSource for ExportTiles<'_> {
    fn read_tile(&self, address: &TileAddress) -> io::Result<Option<Vec<u8>>> {
        read_blob(self.0, &address.to_string(), address.size_bytes())
    }
}

/// Reads a blob, or one byte more than `size_max` of one that is longer: enough to refuse it.
pub(crate) fn read_blob(
    export: &dyn Export,
    name: &str,
    size_max: usize,
) -> io::Result<Option<Vec<u8>>> {
    let Some(blob) = export.open(name)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    let bound = u64::try_from(size_max)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    blob.take(bound).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}
