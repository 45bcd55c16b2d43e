//! Reads stored tiles for code that is not async: what it asks for and is not at hand is fetched, then it
//! is asked again. A proof needs a handful of tiles, so it is asked a handful of times.
//!
//! INVARIANT: a tile is returned as it was stored, cut to the width asked for.

use std::{collections::HashMap, io, sync::Mutex, sync::PoisonError};

use sallyport_evidence::log::tile::{NodeSource, TileAddress, TileError};

use super::store;
use crate::kernel::{database::StoreError, statement::Sql};

/// Rounds of fetching: more than the tiles of any proof in the largest tree.
const ROUNDS_MAX: usize = 256;

/// Why something could not be computed from stored tiles.
#[derive(Debug, thiserror::Error)]
pub enum TilesError {
    /// The store failed.
    #[error("reach the store")]
    Store(#[from] StoreError),
    /// A tile is missing or of the wrong length: the store is damaged.
    #[error("read the tree of the log")]
    Tile(#[source] TileError),
}

/// Tiles at hand, and the one that was missed last.
#[derive(Debug, Default)]
struct AtHand {
    tiles: HashMap<(u32, u64), Vec<u8>>,
    missed: Mutex<Option<TileAddress>>,
}

impl NodeSource for AtHand {
    fn read_tile(&self, address: &TileAddress) -> io::Result<Option<Vec<u8>>> {
        let stored = self.tiles.get(&(address.level, address.number));
        let cut = stored.and_then(|hashes| hashes.get(..address.size_bytes()));
        if cut.is_none() {
            *self.missed.lock().unwrap_or_else(PoisonError::into_inner) = Some(*address);
        }
        Ok(cut.map(<[u8]>::to_vec))
    }
}

/// Runs `compute` over the stored tiles.
pub(super) async fn over_stored<T>(
    sql: &mut dyn Sql,
    compute: impl Fn(&dyn NodeSource) -> Result<T, TileError> + Send,
) -> Result<T, TilesError> {
    let mut at_hand = AtHand::default();
    for _ in 0..ROUNDS_MAX {
        let error = match compute(&at_hand) {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let missed = at_hand
            .missed
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(address) = missed else {
            return Err(TilesError::Tile(error));
        };
        let Some(hashes) = store::tile(sql, address).await? else {
            return Err(TilesError::Tile(TileError::Missing { address }));
        };
        if hashes.len() < address.size_bytes() {
            return Err(TilesError::Tile(TileError::Length {
                address,
                size_bytes: hashes.len(),
            }));
        }
        at_hand
            .tiles
            .insert((address.level, address.number), hashes);
    }
    Err(TilesError::Tile(TileError::Outside {
        level: 0,
        index: 0,
        size: 0,
    }))
}
