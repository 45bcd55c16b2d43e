//! The follower that integrates: new entries into the tree, then a signed checkpoint.

use std::{
    sync::{PoisonError, RwLock},
    time::Duration,
};

use sallyport_core::{event::Actor, time::Timestamp};
use sallyport_evidence::log::{
    checkpoint::{CheckpointError, SigningKey},
    tile::{Tile, TileBuilder},
};

use super::store;
use crate::kernel::{
    control::Control,
    data_directory::{DataDirectory, DataDirectoryError},
    database::StoreError,
    task,
};

/// Name of every log we keep; together with the key it says which log a checkpoint is of.
const LOG_NAME: &str = "sallyport.audit";
const LOG_KEY: &str = "audit/log.key";
/// Where the verifier key is published within the data directory.
const LOG_VERIFIER_KEY: &str = "audit/log.vkey";
/// A checkpoint follows its entries after this at the latest; writing it takes a few milliseconds.
const INTERVAL: Duration = Duration::from_millis(400);
const LEAVES_AT_ONCE: u32 = 10_000;

/// Why the log cannot be integrated.
#[derive(Debug, thiserror::Error)]
pub enum IntegrateError {
    /// The signing key cannot be used.
    #[error("use the key of the audit log")]
    Key(#[source] DataDirectoryError),
    /// A checkpoint cannot be signed.
    #[error("sign a checkpoint")]
    Sign(#[source] CheckpointError),
    /// The leaves in the store are not what was signed.
    #[error(
        "the audit log was changed: its first {size} entries do not give the root that was signed; \
         restore a backup, and keep this store as evidence"
    )]
    Changed {
        /// Entries that the last checkpoint covers.
        size: u64,
    },
    /// Entries are missing.
    #[error(
        "the audit log was cut: entry {seq} is missing; restore a backup, and keep this store as evidence"
    )]
    Missing {
        /// The first missing.
        seq: u64,
    },
    /// The store failed.
    #[error("reach the store")]
    Store(#[from] StoreError),
}

/// Where the log stands: its key, its newest checkpoint.
#[derive(Debug)]
pub struct Log {
    key: SigningKey,
    head: RwLock<Head>,
}

#[derive(Clone, Debug)]
struct Head {
    size: u64,
    checkpoint: String,
    /// When every entry was last covered.
    complete_at: Timestamp,
}

impl Log {
    /// Opens the log's key, making it on first use, and publishes its public half.
    ///
    /// # Errors
    /// [`IntegrateError::Key`] or [`IntegrateError::Sign`].
    pub fn open(directory: &DataDirectory, now: Timestamp) -> Result<Self, IntegrateError> {
        let seed = directory.key(LOG_KEY).map_err(IntegrateError::Key)?;
        let key = SigningKey::from_seed(LOG_NAME, &seed).map_err(IntegrateError::Sign)?;
        directory
            .publish(LOG_VERIFIER_KEY, &format!("{}\n", key.verifier()))
            .map_err(IntegrateError::Key)?;
        let head = Head {
            size: 0,
            checkpoint: String::new(),
            complete_at: now,
        };
        Ok(Self {
            key,
            head: RwLock::new(head),
        })
    }

    /// The newest signed checkpoint, exact text; empty before the first.
    #[must_use]
    pub fn checkpoint(&self) -> String {
        self.head().checkpoint
    }

    /// Entries the newest checkpoint covers.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.head().size
    }

    /// The log's verifier key.
    #[must_use]
    pub fn verifier_key(&self) -> String {
        self.key.verifier().to_string()
    }

    fn head(&self) -> Head {
        self.head
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn advance(&self, change: impl FnOnce(&mut Head)) {
        change(&mut self.head.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// How long entries have been waiting for a checkpoint that covers them; zero when none are.
#[must_use]
pub fn lag(control: &Control) -> Duration {
    let head = control.log().head();
    if *control.db().log_size().borrow() <= head.size {
        return Duration::ZERO;
    }
    control.now().since(head.complete_at)
}

/// Checks the log in the store against its last checkpoint, then follows it until the process ends.
///
/// # Errors
/// [`IntegrateError`]; nothing may be served then.
pub async fn start(control: &Control) -> Result<(), IntegrateError> {
    let mut follower = Follower::rebuild(control).await?;
    follower.integrate(control).await?;
    let control = control.clone();
    task::spawn("audit log", async move {
        let mut grown = control.db().log_size();
        loop {
            let _ = grown.changed().await;
            if let Err(error) = follower.integrate(&control).await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the audit log could not be integrated; trying again"
                );
            }
            tokio::time::sleep(INTERVAL).await;
        }
    });
    Ok(())
}

/// The tree in memory, as far as it was integrated.
struct Follower {
    tree: TileBuilder,
}

impl Follower {
    /// Rebuilds the tree from the stored leaves up to the last checkpoint, and compares its root.
    async fn rebuild(control: &Control) -> Result<Self, IntegrateError> {
        let mut reader = control.db().read().await?;
        let mut tree = TileBuilder::new();
        let Some((size, root, note)) = store::checkpoint(&mut reader).await? else {
            return Ok(Self { tree });
        };
        while tree.frontier().size() < size {
            let first = tree.frontier().size();
            let left = u32::try_from(size.saturating_sub(first)).unwrap_or(u32::MAX);
            let leaves = store::leaves(&mut reader, first, left.min(LEAVES_AT_ONCE)).await?;
            if leaves.is_empty() {
                return Err(IntegrateError::Missing { seq: first });
            }
            append(&mut tree, leaves)?;
        }
        if tree.frontier().root().as_bytes().as_slice() != root {
            return Err(IntegrateError::Changed { size });
        }
        let now = control.now();
        control.log().advance(|head| {
            *head = Head {
                size,
                checkpoint: note,
                complete_at: now,
            }
        });
        Ok(Self { tree })
    }

    /// Takes in what is new and signs a checkpoint over it.
    async fn integrate(&mut self, control: &Control) -> Result<(), IntegrateError> {
        loop {
            let now = control.now();
            let first = self.tree.frontier().size();
            let mut reader = control.db().read().await?;
            let leaves = store::leaves(&mut reader, first, LEAVES_AT_ONCE).await?;
            drop(reader);
            let is_last = leaves.len() < usize::try_from(LEAVES_AT_ONCE).unwrap_or(usize::MAX);
            let is_behind = control.log().size() < first;
            if leaves.is_empty() && !is_behind {
                control.log().advance(|head| head.complete_at = now);
                return Ok(());
            }
            let tiles = append(&mut self.tree, leaves)?;
            self.sign(control, tiles).await?;
            if is_last {
                control.log().advance(|head| head.complete_at = now);
                return Ok(());
            }
        }
    }

    async fn sign(&self, control: &Control, tiles: Vec<Tile>) -> Result<(), IntegrateError> {
        let size = self.tree.frontier().size();
        let root = self.tree.frontier().root();
        let note = control
            .log()
            .key
            .sign(size, root)
            .map_err(IntegrateError::Sign)?;
        let mut tx = control.db().begin(Actor::System).await?;
        for tile in &tiles {
            store::put_tile(&mut tx, tile).await?;
        }
        store::put_checkpoint(&mut tx, size, &root, &note).await?;
        tx.commit_operational().await?;
        control.log().advance(|head| {
            head.size = size;
            head.checkpoint = note;
        });
        let entries = u32::try_from(size).unwrap_or(u32::MAX);
        metrics::gauge!("sallyport_audit_entries").set(f64::from(entries));
        Ok(())
    }
}

/// Appends leaves that must follow without a gap; returns the tiles they fill.
fn append(
    tree: &mut TileBuilder,
    leaves: Vec<(u64, sallyport_evidence::log::tree::TreeHash)>,
) -> Result<Vec<Tile>, IntegrateError> {
    let mut tiles = Vec::new();
    for (seq, leaf) in leaves {
        let expected = tree.frontier().size();
        if seq != expected {
            return Err(IntegrateError::Missing { seq: expected });
        }
        tiles.extend(tree.append(leaf));
    }
    Ok(tiles)
}
