//! Verification of an export, offline, with nothing but the log's public key.
//!
//! `sallyport audit verify` calls [`verify`]; a second implementation of the same rules, in Python,
//! is held against it by the tests. The rules are in `docs/formats/audit-log.md`.
//!
//! INVARIANT: [`verify`] succeeds only if hashing every entry again, from the first to the last,
//! gives the signed root. Tiles only serve to say *where* an export is damaged.
//!
//! Not here: finding the place once something is wrong ([`super::locate`]).

use std::collections::HashSet;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

use super::checkpoint::{CHECKPOINT_SIZE_MAX, Checkpoint, CheckpointError, Opened, VerifierKey};
use super::entry::{self, ENTRY_SIZE_MAX, EntryError};
use super::export::{CHECKPOINT_NAME, ENTRIES_NAME, Export, ExportTiles, read_blob};
use super::locate;
use super::tile::{NodeReader, TileAddress, TileError, levels, perfect_root, tiles, tiles_at};
use super::tree::{Frontier, TreeHash};

/// An export in which every byte is as the log signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The state of the log that was exported.
    pub checkpoint: Checkpoint,
    /// Key names of further signatures on the checkpoint, which were not checked.
    pub unchecked_signatures: Vec<String>,
    /// Blobs that are not part of the export and that nothing vouches for, sorted.
    pub uncovered: Vec<String>,
}

/// The first thing found wrong with an export, and where.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Not a verdict: try again.
    #[error("read `{name}`")]
    Unreadable {
        /// Name of the blob, or `.` for the list of names.
        name: String,
        /// What the source said.
        source: io::Error,
    },

    /// A part of the export is not there.
    #[error("`{name}` is missing")]
    FileMissing {
        /// Name of the blob.
        name: String,
    },

    /// The checkpoint is not one that the key signed.
    #[error("checkpoint is not believed")]
    Checkpoint {
        /// Why not.
        source: CheckpointError,
    },

    /// The log was larger when the saved checkpoint was made: entries were taken away.
    #[error("log has {size} entries, but had {saved_size} when the saved checkpoint was signed")]
    Rollback {
        /// Entries now.
        size: u64,
        /// Entries then.
        saved_size: u64,
    },

    /// The first `size` entries are not those of the saved checkpoint: the log key signed two
    /// histories.
    #[error("the first {size} entries are not those the saved checkpoint signs")]
    Fork {
        /// Size of the saved checkpoint.
        size: u64,
    },

    /// Neither the entries nor the tiles are what the checkpoint signs: a checkpoint of another
    /// history, or more than one part was changed.
    #[error("neither entries nor tiles are those the checkpoint signs")]
    RootMismatch,

    /// A tile is not that of the signed tree.
    #[error("`{tile}` is altered")]
    TileAltered {
        /// The tile.
        tile: TileAddress,
    },

    /// The entries are not those that were signed.
    #[error("entry {position}: {damage}")]
    Entry {
        /// Number of the entry, which is also its line, counted from 0.
        position: u64,
        /// What happened to it.
        damage: EntryDamage,
    },
}

/// What happened at one position of the entries.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryDamage {
    /// Another text stands in its place.
    #[error("altered")]
    Altered,
    /// It and those up to `last` were taken out.
    #[error("missing, up to entry {last}")]
    Missing {
        /// Last of the missing entries.
        last: u64,
    },
    /// An earlier entry stands here a second time.
    #[error("entry {of} is repeated here")]
    Duplicated {
        /// The earlier entry.
        of: u64,
    },
    /// A later entry stands here, and this one further down.
    #[error("entry {found} stands here")]
    OutOfOrder {
        /// The later entry.
        found: u64,
    },
    /// A line that is not of this log stands before it.
    #[error("a foreign line stands here")]
    Inserted,
    /// The file ends before or within it.
    #[error("file ends here")]
    Truncated,
    /// The file ends with it, but without the line end.
    #[error("line end is missing")]
    Unterminated,
    /// The file goes on after the last entry of the checkpoint; the position is the first beyond.
    #[error("more than the checkpoint covers")]
    Trailing,
    /// The log itself signed bytes that are not an entry of this format.
    #[error("signed, but malformed")]
    Malformed(#[source] EntryError),
    /// The log itself signed an entry under the wrong number.
    #[error("signed, but numbered {found}")]
    Misnumbered {
        /// The number it has.
        found: u64,
    },
}

impl Fault {
    /// A stable word for the kind of fault, the same in every implementation.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "unreadable",
            Self::FileMissing { .. } => "file-missing",
            Self::Checkpoint { source } => match source {
                CheckpointError::Origin { .. } => "checkpoint-origin",
                CheckpointError::Unsigned { .. } | CheckpointError::Signature { .. } => {
                    "checkpoint-signature"
                }
                CheckpointError::Malformed { .. }
                | CheckpointError::VerifierKey { .. }
                | CheckpointError::Name { .. }
                | CheckpointError::SigningKey
                | CheckpointError::Sign { .. } => "checkpoint-malformed",
            },
            Self::Rollback { .. } => "rollback",
            Self::Fork { .. } => "fork",
            Self::RootMismatch => "root-mismatch",
            Self::TileAltered { .. } => "tile-altered",
            Self::Entry { damage, .. } => match damage {
                EntryDamage::Altered => "entry-altered",
                EntryDamage::Missing { .. } => "entry-missing",
                EntryDamage::Duplicated { .. } => "entry-duplicated",
                EntryDamage::OutOfOrder { .. } => "entry-out-of-order",
                EntryDamage::Inserted => "entry-inserted",
                EntryDamage::Truncated => "entries-truncated",
                EntryDamage::Unterminated => "entry-unterminated",
                EntryDamage::Trailing => "entries-trailing",
                EntryDamage::Malformed(_) => "entry-malformed",
                EntryDamage::Misnumbered { .. } => "entry-misnumbered",
            },
        }
    }

    /// Where: `entry N`, `size N` or the name of a file, the same in every implementation.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::Unreadable { name, .. } | Self::FileMissing { name } => name.clone(),
            Self::Checkpoint { .. } | Self::RootMismatch => CHECKPOINT_NAME.to_owned(),
            Self::Rollback { size, .. } | Self::Fork { size } => format!("size {size}"),
            Self::TileAltered { tile } => tile.to_string(),
            Self::Entry { position, .. } => format!("entry {position}"),
        }
    }
}

/// Checks an export against the public key of its log, and against a checkpoint that the caller
/// kept from an earlier day, if there is one.
///
/// Reads each entry once, in order; memory does not grow with the log, except for its tile names.
/// Without `saved`, the rollback of a whole export to a state that was once signed goes unnoticed:
/// nothing in the export can tell.
///
/// # Errors
///
/// The first [`Fault`], which names the place.
pub fn verify(
    export: &dyn Export,
    key: &VerifierKey,
    saved: Option<&Checkpoint>,
) -> Result<Verified, Fault> {
    let Opened {
        checkpoint,
        unchecked,
    } = open_checkpoint(export, key)?;
    if let Some(saved) = saved {
        check_size(&checkpoint, saved)?;
    }
    let source = ExportTiles(export);
    let mut nodes = NodeReader::new(&source, checkpoint.size);
    check_root(export, &mut nodes, &checkpoint)?;
    check_full_tiles(&mut nodes)?;
    if let Some(saved) = saved {
        check_prefix(&mut nodes, saved)?;
    }
    check_entries(export, &mut nodes, &checkpoint)?;
    let uncovered = uncovered(export, checkpoint.size)?;
    Ok(Verified {
        checkpoint,
        unchecked_signatures: unchecked,
        uncovered,
    })
}

fn open_checkpoint(export: &dyn Export, key: &VerifierKey) -> Result<Opened, Fault> {
    let bytes = read_blob(export, CHECKPOINT_NAME, CHECKPOINT_SIZE_MAX)
        .map_err(|source| Fault::Unreadable {
            name: CHECKPOINT_NAME.to_owned(),
            source,
        })?
        .ok_or_else(|| Fault::FileMissing {
            name: CHECKPOINT_NAME.to_owned(),
        })?;
    Checkpoint::open(&bytes, key).map_err(|source| Fault::Checkpoint { source })
}

fn check_size(checkpoint: &Checkpoint, saved: &Checkpoint) -> Result<(), Fault> {
    if saved.origin != checkpoint.origin {
        let (found, expected) = (checkpoint.origin.clone(), saved.origin.clone());
        return Err(Fault::Checkpoint {
            source: CheckpointError::Origin { found, expected },
        });
    }
    if saved.size > checkpoint.size {
        return Err(Fault::Rollback {
            size: checkpoint.size,
            saved_size: saved.size,
        });
    }
    Ok(())
}

/// Computes the root from the last tile of each level, which vouches for those tiles.
fn check_root(
    export: &dyn Export,
    nodes: &mut NodeReader<'_>,
    checkpoint: &Checkpoint,
) -> Result<(), Fault> {
    let root = nodes.range_root(0, checkpoint.size).map_err(tile_fault)?;
    if root == checkpoint.root {
        Ok(())
    } else {
        Err(locate::root_fault(export, checkpoint))
    }
}

/// Holds every full tile against the node above it, from the top, so that each vouches for those
/// below.
fn check_full_tiles(nodes: &mut NodeReader<'_>) -> Result<(), Fault> {
    let size = nodes.size();
    for level in (0..levels(size)).rev() {
        for tile in tiles_at(level, size).filter(TileAddress::is_full) {
            let root = nodes
                .tile_holding(level, tile.number << super::tile::TILE_HEIGHT)
                .map(perfect_root)
                .map_err(tile_fault)?;
            if root != slot(nodes, level + 1, tile.number)? {
                return Err(Fault::TileAltered { tile });
            }
        }
    }
    Ok(())
}

fn check_prefix(nodes: &mut NodeReader<'_>, saved: &Checkpoint) -> Result<(), Fault> {
    let root = nodes.range_root(0, saved.size).map_err(tile_fault)?;
    if root == saved.root {
        Ok(())
    } else {
        Err(Fault::Fork { size: saved.size })
    }
}

fn check_entries(
    export: &dyn Export,
    nodes: &mut NodeReader<'_>,
    checkpoint: &Checkpoint,
) -> Result<(), Fault> {
    let mut lines = Lines::open(export)?;
    let mut frontier = Frontier::new();
    while frontier.size() < checkpoint.size {
        let position = frontier.size();
        let fault = |damage| Err(Fault::Entry { position, damage });
        let Some(line) = lines.next()? else {
            return fault(EntryDamage::Truncated);
        };
        let hash = line.hash();
        let expected = slot(nodes, 0, position)?;
        if hash != Some(expected) {
            let terminated = line.terminated;
            return fault(locate::entry_damage(
                nodes, &mut lines, position, hash, terminated,
            )?);
        }
        if !line.terminated {
            return fault(EntryDamage::Unterminated);
        }
        match entry::check(line.bytes) {
            Err(error) => return fault(EntryDamage::Malformed(error)),
            Ok(found) if found != position => return fault(EntryDamage::Misnumbered { found }),
            Ok(_) => {}
        }
        frontier.append(expected, &mut |_, _| {});
    }
    if lines.next()?.is_some() {
        return Err(Fault::Entry {
            position: checkpoint.size,
            damage: EntryDamage::Trailing,
        });
    }
    // Holds whatever the tiles say: this, not they, is what an auditor relies on.
    if frontier.root() == checkpoint.root {
        Ok(())
    } else {
        Err(Fault::RootMismatch)
    }
}

/// Blobs that are there and not part of an export of this size.
fn uncovered(export: &dyn Export, size: u64) -> Result<Vec<String>, Fault> {
    let names = export.names().map_err(|source| Fault::Unreadable {
        name: ".".to_owned(),
        source,
    })?;
    let mut uncovered: HashSet<String> = names.into_iter().collect();
    uncovered.remove(CHECKPOINT_NAME);
    uncovered.remove(ENTRIES_NAME);
    for tile in tiles(size) {
        uncovered.remove(&tile.to_string());
    }
    let mut uncovered: Vec<String> = uncovered.into_iter().collect();
    uncovered.sort_unstable();
    Ok(uncovered)
}

/// One hash of a tile.
pub(super) fn slot(nodes: &mut NodeReader<'_>, level: u32, index: u64) -> Result<TreeHash, Fault> {
    let address = super::tree::NodeAddress {
        level: level * super::tile::TILE_HEIGHT,
        index,
    };
    nodes.node(address).map_err(tile_fault)
}

/// What a tile that cannot be used means for the export.
pub(super) fn tile_fault(error: TileError) -> Fault {
    match error {
        TileError::Read { address, source } => Fault::Unreadable {
            name: address.to_string(),
            source,
        },
        TileError::Missing { address } => Fault::FileMissing {
            name: address.to_string(),
        },
        TileError::Length { address, .. } => Fault::TileAltered { tile: address },
        // Sizes and indexes come from the checkpoint alone, so only a bug here leads to this.
        TileError::Outside { .. } => Fault::RootMismatch,
    }
}

/// The lines of the entries blob, one at a time in one buffer.
pub(super) struct Lines<'a> {
    reader: BufReader<Box<dyn Read + 'a>>,
    buffer: Vec<u8>,
}

/// One line, without its end.
pub(super) struct Line<'a> {
    /// Empty if the line is longer than any entry.
    bytes: &'a [u8],
    too_long: bool,
    terminated: bool,
}

impl Line<'_> {
    /// Hash of the line as an entry; `None` for a line longer than any entry.
    pub(super) fn hash(&self) -> Option<TreeHash> {
        (!self.too_long).then(|| TreeHash::of_leaf(self.bytes))
    }

    /// Whether a line end follows.
    pub(super) const fn is_terminated(&self) -> bool {
        self.terminated
    }
}

impl<'a> Lines<'a> {
    pub(super) fn open(export: &'a dyn Export) -> Result<Self, Fault> {
        let blob = export
            .open(ENTRIES_NAME)
            .map_err(unreadable_entries)?
            .ok_or_else(|| Fault::FileMissing {
                name: ENTRIES_NAME.to_owned(),
            })?;
        Ok(Self {
            reader: BufReader::with_capacity(64 * 1024, blob),
            buffer: Vec::new(),
        })
    }

    /// The next line; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Line<'_>>, Fault> {
        self.buffer.clear();
        // An entry of the largest size and its line end.
        let bound = ENTRY_SIZE_MAX as u64 + 1;
        (&mut self.reader)
            .take(bound)
            .read_until(b'\n', &mut self.buffer)
            .map_err(unreadable_entries)?;
        if self.buffer.is_empty() {
            return Ok(None);
        }
        if self.buffer.last() == Some(&b'\n') {
            self.buffer.pop();
            return Ok(Some(Line {
                bytes: &self.buffer,
                too_long: false,
                terminated: true,
            }));
        }
        if self.buffer.len() <= ENTRY_SIZE_MAX {
            return Ok(Some(Line {
                bytes: &self.buffer,
                too_long: false,
                terminated: false,
            }));
        }
        let terminated = self.skip_line()?;
        Ok(Some(Line {
            bytes: &[],
            too_long: true,
            terminated,
        }))
    }

    /// Skips to the next line, however far that is; whether a line end was found.
    fn skip_line(&mut self) -> Result<bool, Fault> {
        loop {
            let chunk = match self.reader.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable_entries(error)),
            };
            if chunk.is_empty() {
                return Ok(false);
            }
            let found = chunk.iter().position(|byte| *byte == b'\n');
            let length = found.map_or(chunk.len(), |place| place + 1);
            self.reader.consume(length);
            if found.is_some() {
                return Ok(true);
            }
        }
    }
}

impl fmt::Debug for Lines<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Lines").finish_non_exhaustive()
    }
}

fn unreadable_entries(source: io::Error) -> Fault {
    Fault::Unreadable {
        name: ENTRIES_NAME.to_owned(),
        source,
    }
}
