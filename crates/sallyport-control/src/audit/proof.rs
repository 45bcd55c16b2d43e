//! Proofs from the stored tree: that an entry is in the log, and that one state continues another.

use sallyport_evidence::log::{
    proof::{ConsistencyProof, InclusionProof, ProveError},
    tile::NodeReader,
};

use super::tiles::{TilesError, over_stored};
use crate::kernel::{
    control::Control,
    database::StoreError,
    problem::{Fault, Faulty},
};

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// Asked about a state that is not signed yet, or an entry or state beyond it.
    #[error("prove `{field}` {value}: the log has {size} signed entries")]
    Outside {
        /// The number at fault: `index`, `from` or `size`.
        field: &'static str,
        /// Its value.
        value: u64,
        /// Signed entries.
        size: u64,
    },
    /// The tree cannot be read.
    #[error("make a proof")]
    Tiles(#[source] TilesError),
    /// The store failed.
    #[error("reach the store")]
    Store(#[from] StoreError),
}

impl Faulty for ProofError {
    fn fault(&self) -> Fault {
        match self {
            Self::Outside { field, size, .. } => Fault::field(
                *field,
                format!("is beyond the {size} entries signed so far"),
            ),
            Self::Tiles(_) => Fault::Bug,
            Self::Store(error) => error.fault(),
        }
    }
}

/// Proves that entry `index` is in the log of `size` entries.
///
/// # Errors
/// [`ProofError`].
pub async fn inclusion(
    control: &Control,
    index: u64,
    size: u64,
) -> Result<InclusionProof, ProofError> {
    check_bound("size", size, control.log().size())?;
    if index >= size {
        return Err(ProofError::Outside {
            field: "index",
            value: index,
            size,
        });
    }
    let mut reader = control.db().read().await?;
    over_stored(&mut reader, |source| {
        InclusionProof::prove(&mut NodeReader::new(source, size), index).map_err(tile_error)
    })
    .await
    .map_err(ProofError::Tiles)
}

/// Proves that the log of `size` entries begins with the log of `from` entries.
///
/// # Errors
/// [`ProofError`].
pub async fn consistency(
    control: &Control,
    from: u64,
    size: u64,
) -> Result<ConsistencyProof, ProofError> {
    check_bound("size", size, control.log().size())?;
    check_bound("from", from, size)?;
    let mut reader = control.db().read().await?;
    over_stored(&mut reader, |source| {
        ConsistencyProof::prove(&mut NodeReader::new(source, size), from).map_err(tile_error)
    })
    .await
    .map_err(ProofError::Tiles)
}

fn check_bound(field: &'static str, value: u64, size: u64) -> Result<(), ProofError> {
    if value <= size {
        Ok(())
    } else {
        Err(ProofError::Outside { field, value, size })
    }
}

fn tile_error(error: ProveError) -> sallyport_evidence::log::tile::TileError {
    match error {
        ProveError::Node { source } => source,
        ProveError::Outside { part, size } => sallyport_evidence::log::tile::TileError::Outside {
            level: 0,
            index: part,
            size,
        },
    }
}
