//! Finding out what happened to an export that does not verify.
//!
//! Only [`super::verify`] calls this, once it knows that something is wrong; so everything here may
//! read the export again, and may be slow.
//!
//! INVARIANT: nothing here decides whether an export is good, only what to call what is wrong.

use super::checkpoint::Checkpoint;
use super::export::{Export, read_blob};
use super::tile::{NodeReader, Tile, TileAddress, TileBuilder};
use super::tree::TreeHash;
use super::verify::{EntryDamage, Fault, Lines, slot};

/// Says what happened where `hash` was read in the place of entry `position`. The tiles are known
/// to be good; `rest` are the lines that follow.
pub(super) fn entry_damage(
    nodes: &mut NodeReader<'_>,
    rest: &mut Lines<'_>,
    position: u64,
    hash: Option<TreeHash>,
    terminated: bool,
) -> Result<EntryDamage, Fault> {
    if !terminated {
        return Ok(EntryDamage::Truncated);
    }
    let found = find_leaf(nodes, hash)?;
    if let Some(of) = found.filter(|found| *found < position) {
        return Ok(EntryDamage::Duplicated { of });
    }
    let expected = Some(slot(nodes, 0, position)?);
    let mut comes_later = false;
    while let Some(line) = rest.next()? {
        if line.hash() == expected {
            comes_later = true;
            break;
        }
    }
    Ok(match (found, comes_later) {
        (Some(found), true) => EntryDamage::OutOfOrder { found },
        (Some(found), false) => EntryDamage::Missing {
            last: found.saturating_sub(1),
        },
        (None, true) => EntryDamage::Inserted,
        (None, false) => EntryDamage::Altered,
    })
}

/// Where in the log a leaf is.
fn find_leaf(nodes: &mut NodeReader<'_>, hash: Option<TreeHash>) -> Result<Option<u64>, Fault> {
    let Some(hash) = hash else { return Ok(None) };
    for index in 0..nodes.size() {
        if slot(nodes, 0, index)? == hash {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

/// Says what is wrong when the last tiles of the levels do not give the signed root: if the entries
/// do, one of those tiles is, and otherwise there is no telling.
pub(super) fn root_fault(export: &dyn Export, checkpoint: &Checkpoint) -> Fault {
    match first_differing_tile(export, checkpoint) {
        Ok(Some(tile)) => Fault::TileAltered { tile },
        Ok(None) => Fault::RootMismatch,
        Err(fault) => fault,
    }
}

/// Computes all tiles from the entries and returns the first that is not as exported, lowest level
/// first; `None` unless the entries give the signed root.
fn first_differing_tile(
    export: &dyn Export,
    checkpoint: &Checkpoint,
) -> Result<Option<TileAddress>, Fault> {
    let mut lines = Lines::open(export)?;
    let mut builder = TileBuilder::new();
    let mut differing: Option<TileAddress> = None;
    let mut compare = |tiles: Vec<Tile>| -> Result<(), Fault> {
        for Tile { address, bytes } in tiles {
            let name = address.to_string();
            let exported = read_blob(export, &name, address.size_bytes())
                .map_err(|source| Fault::Unreadable { name, source })?;
            if exported.as_ref() != Some(&bytes) && differing.is_none_or(|first| address < first) {
                differing = Some(address);
            }
        }
        Ok(())
    };
    while builder.frontier().size() < checkpoint.size {
        match lines.next()? {
            Some(line) if line.is_terminated() => {
                let Some(hash) = line.hash() else {
                    return Ok(None);
                };
                compare(builder.append(hash))?;
            }
            Some(_) | None => return Ok(None),
        }
    }
    compare(builder.partial())?;
    Ok(differing.filter(|_| builder.frontier().root() == checkpoint.root))
}
