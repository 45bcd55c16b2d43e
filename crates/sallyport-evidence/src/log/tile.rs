//! Tiles: how the nodes of the tree are stored and fetched (C2SP `tlog-tiles`, height 8).
//!
//! The audit integrator stores them, an export contains them, and [`super::proof`] reads them
//! through [`NodeSource`]. Only every eighth level is kept; the rest is hashed again when needed.
//!
//! INVARIANT: a tile's hashes, once written, never change; a partial tile only gains hashes.
//!
//! Not here: bundles of entries, which an export keeps in one file instead ([`super::export`]).

use std::fmt;
use std::io;

use super::tree::{Frontier, HASH_SIZE, NodeAddress, TreeHash, cover, join_subtrees};

/// Levels of the tree that one tile spans.
pub const TILE_HEIGHT: u32 = 8;

/// Hashes in a full tile.
pub const TILE_WIDTH: u64 = 1 << TILE_HEIGHT;

/// Names one tile of a tree of a certain size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TileAddress {
    /// Level of the tile: its hashes are nodes of tree level `8 * level`.
    pub level: u32,
    /// Position among the tiles of this level, from the left.
    pub number: u64,
    /// Hashes in the tile: [`TILE_WIDTH`] if full, else 1 to 255.
    pub width: u64,
}

impl TileAddress {
    /// The tile that holds the node `8 * level`, `index` of a tree of `size` leaves; `None` if that
    /// tree has no such node.
    #[must_use]
    pub fn holding(level: u32, index: u64, size: u64) -> Option<Self> {
        let nodes = nodes_at(level, size);
        let number = index / TILE_WIDTH;
        let width = nodes.saturating_sub(number * TILE_WIDTH).min(TILE_WIDTH);
        (index < nodes).then_some(Self {
            level,
            number,
            width,
        })
    }

    /// Bytes of the tile.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        usize::try_from(self.width).map_or(usize::MAX, |width| width.saturating_mul(HASH_SIZE))
    }

    /// Whether the tile has all its hashes, and so a node of the next level stands for it.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.width == TILE_WIDTH
    }
}

/// The path of C2SP `tlog-tiles`: `tile/0/x001/234.p/5`.
impl fmt::Display for TileAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "tile/{}/", self.level)?;
        let mut divisor = 1;
        while self.number / divisor >= 1000 {
            divisor *= 1000;
        }
        while divisor > 1 {
            write!(formatter, "x{:03}/", self.number / divisor % 1000)?;
            divisor /= 1000;
        }
        write!(formatter, "{:03}", self.number % 1000)?;
        if self.is_full() {
            Ok(())
        } else {
            write!(formatter, ".p/{}", self.width)
        }
    }
}

/// All tiles of a tree of `size` leaves: lowest level first, from the left.
pub fn tiles(size: u64) -> impl Iterator<Item = TileAddress> {
    (0..levels(size)).flat_map(move |level| tiles_at(level, size))
}

/// The tiles of one level of a tree of `size` leaves, from the left.
pub fn tiles_at(level: u32, size: u64) -> impl Iterator<Item = TileAddress> {
    let count = nodes_at(level, size).div_ceil(TILE_WIDTH);
    (0..count).filter_map(move |number| TileAddress::holding(level, number * TILE_WIDTH, size))
}

/// How many levels of tiles a tree of `size` leaves has.
#[must_use]
pub fn levels(size: u64) -> u32 {
    size.checked_ilog2()
        .map_or(0, |log2| log2 / TILE_HEIGHT + 1)
}

fn nodes_at(level: u32, size: u64) -> u64 {
    level
        .checked_mul(TILE_HEIGHT)
        .and_then(|height| size.checked_shr(height))
        .unwrap_or(0)
}

/// A tile with its hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// Which tile it is.
    pub address: TileAddress,
    /// Its hashes, one after the other.
    pub bytes: Vec<u8>,
}

/// Cuts a growing tree into tiles.
#[derive(Debug, Default)]
pub struct TileBuilder {
    frontier: Frontier,
    /// The unfinished tile of each level, from level 0.
    unfinished: Vec<Vec<u8>>,
}

impl TileBuilder {
    /// Starts with the empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on with a tree of `size` leaves whose tiles are stored, reading some tiles per level. What
    /// was stored is not proven by this: compare [`Frontier::root`] with a checkpoint.
    ///
    /// # Errors
    ///
    /// [`TileError`] when a tile is missing or cannot be read.
    pub fn resume(source: &dyn NodeSource, size: u64) -> Result<Self, TileError> {
        let mut nodes = NodeReader::new(source, size);
        let subtrees = cover(0, size)
            .into_iter()
            .map(|address| nodes.node(address))
            .collect::<Result<_, _>>()?;
        let unfinished = (0..levels(size))
            .map(|level| {
                let last = nodes_at(level, size)
                    .checked_sub(1)
                    .and_then(|last| TileAddress::holding(level, last, size))
                    .filter(|address| !address.is_full());
                let Some(address) = last else {
                    return Ok(Vec::new());
                };
                let hashes = nodes.tile_holding(level, address.number * TILE_WIDTH)?;
                Ok(hashes.iter().flat_map(|hash| *hash.as_bytes()).collect())
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            frontier: Frontier::of_subtrees(size, subtrees),
            unfinished,
        })
    }

    /// The tree so far.
    #[must_use]
    pub const fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// Adds a leaf and returns the tiles this fills, lowest level first.
    pub fn append(&mut self, leaf: TreeHash) -> Vec<Tile> {
        let mut filled = Vec::new();
        let unfinished = &mut self.unfinished;
        self.frontier
            .append(leaf, &mut |NodeAddress { level, index }, hash| {
                if level % TILE_HEIGHT != 0 {
                    return;
                }
                let place = (level / TILE_HEIGHT) as usize;
                if unfinished.len() <= place {
                    unfinished.resize_with(place + 1, Vec::new);
                }
                let Some(bytes) = unfinished.get_mut(place) else {
                    return;
                };
                bytes.extend_from_slice(hash.as_bytes());
                if index % TILE_WIDTH == TILE_WIDTH - 1 {
                    let address = TileAddress {
                        level: level / TILE_HEIGHT,
                        number: index / TILE_WIDTH,
                        width: TILE_WIDTH,
                    };
                    filled.push(Tile {
                        address,
                        bytes: std::mem::take(bytes),
                    });
                }
            });
        filled
    }

    /// The partial tiles of the tree so far, lowest level first.
    #[must_use]
    pub fn partial(&self) -> Vec<Tile> {
        let size = self.frontier.size();
        (0..levels(size))
            .filter_map(|level| {
                TileAddress::holding(level, nodes_at(level, size).checked_sub(1)?, size)
            })
            .filter(|address| !address.is_full())
            .zip(self.unfinished.iter().filter(|bytes| !bytes.is_empty()))
            .map(|(address, bytes)| Tile {
                address,
                bytes: bytes.clone(),
            })
            .collect()
    }
}

/// Where tiles are read from: a directory, a database, a server, memory.
pub trait NodeSource {
    /// Returns exactly `address.width` hashes of the tile, cutting one that has grown since;
    /// `None` if it has fewer or does not exist.
    ///
    /// # Errors
    ///
    /// When the source cannot be read; the caller gives up.
    fn read_tile(&self, address: &TileAddress) -> io::Result<Option<Vec<u8>>>;
}

/// Why a node could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TileError {
    /// The source failed; trying again may help.
    #[error("read tile `{address}`")]
    Read {
        /// The tile.
        address: TileAddress,
        /// What the source said.
        source: io::Error,
    },

    /// The source has no such tile.
    #[error("tile `{address}` is missing")]
    Missing {
        /// The tile.
        address: TileAddress,
    },

    /// The tile has another length than its width asks for.
    #[error("tile `{address}` has {size_bytes} bytes")]
    Length {
        /// The tile.
        address: TileAddress,
        /// The length found.
        size_bytes: usize,
    },

    /// A bug of the caller: the tree has no such node.
    #[error("a tree of {size} leaves has no node {index} at level {level}")]
    Outside {
        /// Level of the node.
        level: u32,
        /// Index of the node.
        index: u64,
        /// Size of the tree.
        size: u64,
    },
}

/// Reads nodes of a tree of one size, keeping the last tile of each level in memory.
pub struct NodeReader<'a> {
    source: &'a dyn NodeSource,
    size: u64,
    /// The last tile read of each level, from level 0.
    recent: Vec<Option<(TileAddress, Vec<TreeHash>)>>,
}

impl fmt::Debug for NodeReader<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("NodeReader")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl<'a> NodeReader<'a> {
    /// Reads a tree of `size` leaves, which `source` must cover.
    #[must_use]
    pub fn new(source: &'a dyn NodeSource, size: u64) -> Self {
        Self {
            source,
            size,
            recent: Vec::new(),
        }
    }

    /// Number of leaves of the tree.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The hashes of the tile that holds the node of tree level `8 * level` at `index`.
    ///
    /// # Errors
    ///
    /// [`TileError`] when the tile cannot be read or is of the wrong length.
    pub fn tile_holding(&mut self, level: u32, index: u64) -> Result<&[TreeHash], TileError> {
        let address = TileAddress::holding(level, index, self.size).ok_or(TileError::Outside {
            level: level * TILE_HEIGHT,
            index,
            size: self.size,
        })?;
        let place = level as usize;
        if self.recent.len() <= place {
            self.recent.resize_with(place + 1, || None);
        }
        let outside = TileError::Outside {
            level,
            index,
            size: self.size,
        };
        let Some(recent) = self.recent.get_mut(place) else {
            return Err(outside);
        };
        if recent.as_ref().is_none_or(|(held, _)| *held != address) {
            *recent = Some((address, fetch(self.source, address)?));
        }
        recent
            .as_ref()
            .map(|(_, hashes)| hashes.as_slice())
            .ok_or(outside)
    }

    /// A complete node of the tree.
    ///
    /// # Errors
    ///
    /// As [`NodeReader::tile_holding`].
    pub fn node(&mut self, address: NodeAddress) -> Result<TreeHash, TileError> {
        let NodeAddress { level, index } = address;
        let outside = TileError::Outside {
            level,
            index,
            size: self.size,
        };
        let height = level % TILE_HEIGHT;
        let first = index << height;
        let hashes = self.tile_holding(level / TILE_HEIGHT, first)?;
        let start = usize::try_from(first % TILE_WIDTH).unwrap_or(usize::MAX);
        let end = start.saturating_add(1 << height);
        hashes.get(start..end).map(perfect_root).ok_or(outside)
    }

    /// Root over leaves `from` to `to` (excluded), a range into which RFC 6962 splits a tree.
    ///
    /// # Errors
    ///
    /// As [`NodeReader::tile_holding`].
    pub fn range_root(&mut self, from: u64, to: u64) -> Result<TreeHash, TileError> {
        let subtrees: Vec<TreeHash> = cover(from, to)
            .into_iter()
            .map(|address| self.node(address))
            .collect::<Result<_, _>>()?;
        Ok(join_subtrees(&subtrees))
    }
}

fn fetch(source: &dyn NodeSource, address: TileAddress) -> Result<Vec<TreeHash>, TileError> {
    let bytes = source
        .read_tile(&address)
        .map_err(|source| TileError::Read { address, source })?
        .ok_or(TileError::Missing { address })?;
    if bytes.len() != address.size_bytes() {
        return Err(TileError::Length {
            address,
            size_bytes: bytes.len(),
        });
    }
    let (hashes, _) = bytes.as_chunks::<HASH_SIZE>();
    Ok(hashes.iter().copied().map(TreeHash::new).collect())
}

/// Root over a power of two of neighbouring nodes.
pub(crate) fn perfect_root(nodes: &[TreeHash]) -> TreeHash {
    match nodes {
        [] => TreeHash::of_nothing(),
        [only] => *only,
        _ => {
            let (left, right) = nodes.split_at(nodes.len() / 2);
            TreeHash::of_children(&perfect_root(left), &perfect_root(right))
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// The tiles of one tree, by path.
    #[derive(Debug, Default)]
    pub(crate) struct InMemory(pub(crate) BTreeMap<String, Vec<u8>>);

    impl NodeSource for InMemory {
        fn read_tile(&self, address: &TileAddress) -> io::Result<Option<Vec<u8>>> {
            Ok(self.0.get(&address.to_string()).cloned())
        }
    }

    pub(crate) fn leaf(index: u64) -> TreeHash {
        TreeHash::of_leaf(&index.to_be_bytes())
    }

    pub(crate) fn tree(size: u64) -> (InMemory, Frontier) {
        let mut builder = TileBuilder::new();
        let mut tiles = InMemory::default();
        for index in 0..size {
            for tile in builder.append(leaf(index)) {
                tiles.0.insert(tile.address.to_string(), tile.bytes);
            }
        }
        for tile in builder.partial() {
            tiles.0.insert(tile.address.to_string(), tile.bytes);
        }
        (tiles, builder.frontier().clone())
    }

    #[test]
    fn given_an_address_when_printed_then_it_is_the_path_of_the_tiles_specification() {
        for (level, number, width, path) in [
            (0, 0, 256, "tile/0/000"),
            (0, 0, 1, "tile/0/000.p/1"),
            (1, 999, 256, "tile/1/999"),
            (1, 1000, 256, "tile/1/x001/000"),
            (2, 1_234_067, 256, "tile/2/x001/x234/067"),
            (2, 1_234_067, 255, "tile/2/x001/x234/067.p/255"),
        ] {
            assert_eq!(
                TileAddress {
                    level,
                    number,
                    width
                }
                .to_string(),
                path
            );
        }
    }

    #[test]
    fn given_sizes_around_tile_edges_then_exactly_the_tiles_of_the_specification_exist() {
        let paths = |size| {
            tiles(size)
                .map(|address| address.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(paths(0), Vec::<String>::new());
        assert_eq!(paths(1), ["tile/0/000.p/1"]);
        assert_eq!(paths(255), ["tile/0/000.p/255"]);
        assert_eq!(paths(256), ["tile/0/000", "tile/1/000.p/1"]);
        assert_eq!(
            paths(257),
            ["tile/0/000", "tile/0/001.p/1", "tile/1/000.p/1"]
        );
        assert_eq!(paths(65_536).len(), 256 + 1 + 1);
        assert_eq!(
            paths(65_536).last().map(String::as_str),
            Some("tile/2/000.p/1")
        );
    }

    #[test]
    fn given_stored_tiles_when_a_tree_is_resumed_then_it_grows_as_if_it_had_never_stopped() {
        for size in [0, 1, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537] {
            let (source, frontier) = tree(size);
            let mut resumed = TileBuilder::resume(&source, size).unwrap();
            assert_eq!(resumed.frontier(), &frontier, "{size}");

            let (later, later_frontier) = tree(size + 600);
            let mut tiles = source.0.clone();
            for index in size..size + 600 {
                for tile in resumed.append(leaf(index)) {
                    tiles.insert(tile.address.to_string(), tile.bytes);
                }
            }
            assert_eq!(resumed.frontier(), &later_frontier, "{size}");
            for tile in resumed.partial() {
                tiles.insert(tile.address.to_string(), tile.bytes);
            }
            // Partial tiles of the earlier size are left over; all of the later are as they should be.
            for (path, bytes) in &later.0 {
                assert_eq!(tiles.get(path), Some(bytes), "{size}: {path}");
            }
        }
    }

    #[test]
    fn given_a_tile_that_is_missing_or_short_when_a_node_is_read_then_the_tile_is_named() {
        let (mut source, _) = tree(300);
        source.0.insert("tile/0/001.p/44".into(), vec![0; 31]);
        source.0.remove("tile/1/000.p/1");

        let mut reader = NodeReader::new(&source, 300);
        assert!(matches!(
            reader.node(NodeAddress {
                level: 0,
                index: 299
            }),
            Err(TileError::Length {
                address: TileAddress {
                    level: 0,
                    number: 1,
                    width: 44
                },
                size_bytes: 31
            })
        ));
        assert!(matches!(
            reader.node(NodeAddress { level: 8, index: 0 }),
            Err(TileError::Missing {
                address: TileAddress {
                    level: 1,
                    number: 0,
                    width: 1
                }
            })
        ));
        assert!(matches!(
            reader.node(NodeAddress {
                level: 0,
                index: 300
            }),
            Err(TileError::Outside { .. })
        ));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn tiles_written_are_the_tiles_of_the_size_and_give_every_root(
            size in 0_u64..1500, prefix in any::<prop::sample::Index>(),
        ) {
            let (source, frontier) = tree(size);
            let mut expected: Vec<String> = tiles(size).map(|address| address.to_string()).collect();
            expected.sort_unstable();
            prop_assert_eq!(source.0.keys().cloned().collect::<Vec<_>>(), expected);

            let mut reader = NodeReader::new(&source, size);
            prop_assert_eq!(reader.range_root(0, size).unwrap(), frontier.root());
            let prefix = prefix.index(usize::try_from(size).unwrap() + 1) as u64;
            prop_assert_eq!(reader.range_root(0, prefix).unwrap(), tree(prefix).1.root());
        }
    }
}
