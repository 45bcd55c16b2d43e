//! Checks the stored log against its last checkpoint, at start.
//!
//! The last [`CHECKED_ENTRIES`] entries are hashed again from their text; older ones are taken from the
//! stored tiles, which must give the signed root together with the rest. `sallyport audit verify` hashes
//! all of them.
//!
//! INVARIANT: [`check`] returns a tree only if its root is the one that was signed with our key.

use sallyport_evidence::log::{
    checkpoint::{Checkpoint, CheckpointError, VerifierKey},
    tile::{TILE_WIDTH, Tile, TileBuilder},
    tree::TreeHash,
};

use super::{
    store::{self, StoredCheckpoint},
    tiles::{TilesError, over_stored},
};
use crate::kernel::{database::StoreError, node_directory::NodeDirectoryError, statement::Sql};

/// How many of the newest entries are hashed again at start: some seconds of work.
const CHECKED_ENTRIES: u64 = 1_000_000;
const ENTRIES_AT_ONCE: u64 = 4 * TILE_WIDTH;

/// What is wrong with the stored log, and where.
#[derive(Debug, thiserror::Error)]
pub enum LogFault {
    /// The stored checkpoint is not one that we signed.
    #[error(
        "the checkpoint in the store was not signed with this data directory's log key; {ADVICE}"
    )]
    Checkpoint(#[source] CheckpointError),
    /// The stored checkpoint contradicts itself.
    #[error("the checkpoint of {size} entries was changed in the store; {ADVICE}")]
    CheckpointChanged {
        /// Entries it covers.
        size: u64,
    },
    /// An entry is not the one that was hashed when it was written.
    #[error("the audit log was changed: entry {seq} is not what was recorded; {ADVICE}")]
    EntryChanged {
        /// Which.
        seq: u64,
    },
    /// An entry is missing.
    #[error("the audit log was cut: entry {seq} is missing; {ADVICE}")]
    EntryMissing {
        /// The first missing.
        seq: u64,
    },
    /// A tile is not what its leaves give.
    #[error(
        "the tree of the audit log was changed: `{tile}` is not what its entries give; {ADVICE}"
    )]
    TileChanged {
        /// Its path.
        tile: String,
    },
    /// Everything agrees with itself but not with what was signed.
    #[error(
        "the audit log was changed: its first {size} entries are not those that were signed; {ADVICE}"
    )]
    RootChanged {
        /// Entries that the checkpoint covers.
        size: u64,
    },
    /// The store has nothing, and this data directory signed a log before.
    #[error(
        "the store is empty, but this data directory has the key of a log that was begun before, so its \
         store was lost; restore a backup of the store, or, for a new node, use an empty data directory"
    )]
    StoreLost,
    /// The store agrees with itself, and this node has signed more.
    #[error(
        "the store is older than this node: {found} entries of its log are signed, and {kept} were; \
         {ACCEPTING}"
    )]
    RolledBack {
        /// Entries signed, as kept beside the key.
        kept: u64,
        /// Entries signed in the store.
        found: u64,
    },
    /// The store agrees with itself, and its log is not the one that this node signed.
    #[error(
        "the store has another history than this node: the first {kept} entries of its log are not those \
         that were signed; {ACCEPTING}"
    )]
    OtherHistory {
        /// Entries signed, as kept beside the key.
        kept: u64,
    },
    /// Nothing says how new the store must be.
    #[error("`audit/log.checkpoint` is missing, so an older store could not be told; {ACCEPTING}")]
    KeptMissing,
    /// The kept checkpoint is not one that we signed.
    #[error(
        "`audit/log.checkpoint` was not signed with this data directory's log key; {ACCEPTING}"
    )]
    KeptChanged(#[source] CheckpointError),
    /// The kept checkpoint cannot be read.
    #[error("read the checkpoint that was kept")]
    KeptFile(#[source] NodeDirectoryError),
    /// A checkpoint over no entries could not be signed.
    #[error("sign a checkpoint")]
    Sign(#[source] CheckpointError),
    /// The tree cannot be read.
    #[error("the tree of the audit log cannot be read; {ADVICE}")]
    Tiles(#[source] TilesError),
    /// The store failed.
    #[error("reach the store")]
    Store(#[from] StoreError),
}

const ADVICE: &str = "restore a backup, and keep this store as evidence";
const ACCEPTING: &str = "put the newest store back, or, if an older one was restored on purpose, say so with \
                         `sallyport operator accept-restore`";

impl LogFault {
    /// Whether the log is whole and only not the one that is expected here: what an operator may accept.
    pub(super) const fn is_of_another_time(&self) -> bool {
        matches!(
            self,
            Self::RolledBack { .. }
                | Self::OtherHistory { .. }
                | Self::KeptMissing
                | Self::KeptChanged(_)
        )
    }
}

/// A log that is as it was signed.
pub(super) struct Checked {
    pub(super) tree: TileBuilder,
    pub(super) size: u64,
    pub(super) note: String,
}

/// Checks the log that a reader sees. `None` when nothing was signed yet.
pub(super) async fn check(
    sql: &mut dyn Sql,
    key: &VerifierKey,
) -> Result<Option<Checked>, LogFault> {
    let Some(stored) = store::checkpoint(sql).await? else {
        return Ok(None);
    };
    let signed = open(&stored, key)?;
    let size = signed.size;
    // Whole tiles only, so that each tile filled from here on can be compared.
    let trusted = size.saturating_sub(CHECKED_ENTRIES) / TILE_WIDTH * TILE_WIDTH;
    let mut tree = over_stored(sql, |source| TileBuilder::resume(source, trusted))
        .await
        .map_err(LogFault::Tiles)?;
    while tree.frontier().size() < size {
        let first = tree.frontier().size();
        let limit = size.saturating_sub(first).min(ENTRIES_AT_ONCE);
        let entries = store::stored_entries(sql, first, limit).await?;
        if entries.is_empty() {
            return Err(LogFault::EntryMissing { seq: first });
        }
        for entry in entries {
            let seq = tree.frontier().size();
            if entry.seq != seq {
                return Err(LogFault::EntryMissing { seq });
            }
            if TreeHash::of_leaf(entry.text.as_bytes()) != entry.leaf {
                return Err(LogFault::EntryChanged { seq });
            }
            for tile in tree.append(entry.leaf) {
                compare(sql, &tile).await?;
            }
        }
    }
    if tree.frontier().root() != signed.root {
        return Err(LogFault::RootChanged { size });
    }
    Ok(Some(Checked {
        tree,
        size,
        note: stored.note,
    }))
}

fn open(stored: &StoredCheckpoint, key: &VerifierKey) -> Result<Checkpoint, LogFault> {
    let opened = Checkpoint::open(stored.note.as_bytes(), key).map_err(LogFault::Checkpoint)?;
    let signed = opened.checkpoint;
    if signed.size != stored.size || signed.root.as_bytes().as_slice() != stored.root {
        return Err(LogFault::CheckpointChanged { size: stored.size });
    }
    Ok(signed)
}

async fn compare(sql: &mut dyn Sql, tile: &Tile) -> Result<(), LogFault> {
    let stored = store::tile(sql, tile.address).await?;
    if stored.as_deref() == Some(tile.bytes.as_slice()) {
        Ok(())
    } else {
        Err(LogFault::TileChanged {
            tile: tile.address.to_string(),
        })
    }
}
