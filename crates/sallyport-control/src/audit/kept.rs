//! The newest checkpoint, kept in a file beside the log's key: what tells that a store was put back to an
//! older state, which agrees with itself.
//!
//! The follower keeps it ([`super::integrate`]), at most about once a second; [`check`] compares the
//! store with it at start, and [`accept_restore`] is how an operator says that an older store is meant.
//!
//! INVARIANT: the file is there before the store holds its first checkpoint, and holds only what the store
//! had made durable. So a store that has less was put back; one beside no file at all may have been.
//!
//! Not here: whoever puts back the whole machine puts back this file too. What notices that is a
//! checkpoint kept elsewhere (`sallyport audit verify`).

use sallyport_core::{
    event::{Actor, Event, EventName, Events},
    lock::LockScope,
};
use sallyport_evidence::log::{
    checkpoint::{Checkpoint, VerifierKey},
    tile::TileBuilder,
    tree::TreeHash,
};

use super::{
    check::{self, Checked, LogFault},
    integrate::{IntegrateError, LOG_KEY},
    tiles::over_stored,
};
use crate::{
    kernel::{
        control::Control,
        database::StoreError,
        node_directory::{NodeDirectory, NodeDirectoryError},
        statement::Sql,
    },
    lock,
};

/// Where it is kept, within the data directory.
const KEPT_CHECKPOINT: &str = "audit/log.checkpoint";

/// Refuses a store without entries in a data directory whose log was begun: that store was lost, and
/// going on would look like a new node. The key is made after the first entry is durable, so an
/// interrupted first start is not mistaken for this.
pub(crate) fn refuse_lost_store(
    directory: &NodeDirectory,
    log_size: u64,
) -> Result<(), IntegrateError> {
    if log_size == 0 && directory.has(LOG_KEY).map_err(IntegrateError::Key)? {
        return Err(IntegrateError::Log(LogFault::StoreLost));
    }
    Ok(())
}

/// Writes `note` in place of the one before.
pub(super) fn keep(directory: &NodeDirectory, note: &str) -> Result<(), NodeDirectoryError> {
    directory.publish(KEPT_CHECKPOINT, note)
}

/// Compares the stored log, which agrees with its own checkpoint, with the one that was kept.
pub(super) async fn check(
    sql: &mut dyn Sql,
    directory: &NodeDirectory,
    key: &VerifierKey,
    stored: Option<&Checked>,
) -> Result<(), LogFault> {
    let note = directory
        .published(KEPT_CHECKPOINT)
        .map_err(LogFault::KeptFile)?;
    let found = stored.map_or(0, |checked| checked.size);
    let Some(note) = note else {
        return if stored.is_some() {
            Err(LogFault::KeptMissing)
        } else {
            Ok(())
        };
    };
    let kept = Checkpoint::open(note.as_bytes(), key)
        .map_err(LogFault::KeptChanged)?
        .checkpoint;
    if kept.size > found {
        return Err(LogFault::RolledBack {
            kept: kept.size,
            found,
        });
    }
    let root = root_at(sql, kept.size).await?;
    if root == kept.root {
        Ok(())
    } else {
        Err(LogFault::OtherHistory { kept: kept.size })
    }
}

/// The root over the first `size` entries. Their tiles were checked against the signed root before.
async fn root_at(sql: &mut dyn Sql, size: u64) -> Result<TreeHash, LogFault> {
    if size == 0 {
        return Ok(TreeHash::of_nothing());
    }
    over_stored(sql, |source| TileBuilder::resume(source, size))
        .await
        .map(|tree| tree.frontier().root())
        .map_err(LogFault::Tiles)
}

/// What an operator accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptedRestore {
    /// Entries that the restored log has under its signature.
    pub entries: u64,
}

/// Why a restore was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The store goes on from what this node signed last.
    #[error("the store is as new as what was signed here: there is nothing to accept")]
    NotOlder,
    /// The store is damaged, or lost: nothing that could be accepted.
    #[error("check the restored store")]
    Check(#[source] LogFault),
    /// Everything could not be locked.
    #[error("lock everything")]
    Lock(#[source] lock::workflow::LockError),
    /// The checkpoint could not be kept.
    #[error("keep the checkpoint of the restored log")]
    Keep(#[source] NodeDirectoryError),
    /// The store failed.
    #[error("reach the store")]
    Store(#[from] StoreError),
}

/// Says that this store is meant, though it is older than what this node signed: locks everything, because
/// what was ended since is as it was before, records that and why, and only then lets the node start.
///
/// # Errors
/// [`AcceptError`]; the node still does not start then.
pub async fn accept_restore(
    control: &Control,
    reason: &str,
) -> Result<AcceptedRestore, AcceptError> {
    let key = control.log().verifier_key();
    let mut reader = control.db().read().await?;
    let stored = check::check(&mut reader, key)
        .await
        .map_err(AcceptError::Check)?;
    let fault = match check(&mut reader, control.directory(), key, stored.as_ref()).await {
        Ok(()) => return Err(AcceptError::NotOlder),
        Err(fault) if fault.is_of_another_time() => fault,
        Err(fault) => return Err(AcceptError::Check(fault)),
    };
    drop(reader);
    let entries = stored.as_ref().map_or(0, |checked| checked.size);

    lock::workflow::add(control, Actor::System, LockScope::Everything, reason, None)
        .await
        .map_err(AcceptError::Lock)?;
    let tx = control.db().begin(Actor::System).await?;
    let event = Event::new(EventName::RestoreAccepted, "control")
        .with("entries", entries)
        .with("found", fault.to_string())
        .with("reason", reason.trim());
    tx.commit(Events::one(event)).await?;
    let note = match stored {
        Some(checked) => checked.note,
        None => control.log().sign_nothing().map_err(AcceptError::Check)?,
    };
    keep(control.directory(), &note).map_err(AcceptError::Keep)?;

    Ok(AcceptedRestore { entries })
}
