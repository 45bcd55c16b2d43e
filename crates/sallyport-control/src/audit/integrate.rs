//! The follower that integrates: new entries into the tree, then a signed checkpoint.

use std::{
    sync::{PoisonError, RwLock},
    time::Duration,
};

use sallyport_core::{event::Actor, time::Timestamp};
use sallyport_evidence::log::{
    checkpoint::{CheckpointError, SigningKey, VerifierKey},
    entry::EntryHeader,
    tile::{Tile, TileBuilder},
    tree::TreeHash,
};

use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    check::{self, LogFault},
    kept, store,
};
use crate::kernel::{
    control::Control,
    database::StoreError,
    node_directory::{NodeDirectory, NodeDirectoryError},
    task,
};

/// Name of every log we keep; together with the key it says which log a checkpoint is of.
const LOG_NAME: &str = "sallyport.audit";
/// The signing key, within the data directory. Not in the vault: the log goes on while that is sealed.
pub(super) const LOG_KEY: &str = "audit/log.key";
/// Where the verifier key is published within the data directory.
const LOG_VERIFIER_KEY: &str = "audit/log.vkey";
/// A checkpoint follows its entries after this at the latest; writing it takes a few milliseconds.
const INTERVAL: Duration = Duration::from_millis(400);
const LEAVES_AT_ONCE: u64 = 10_000;
/// Every so many rounds of [`INTERVAL`] the newest checkpoint is kept beside the key, so at most about
/// once a second.
const KEEP_EVERY: u32 = 3;

/// Why the log cannot be integrated.
#[derive(Debug, thiserror::Error)]
pub enum IntegrateError {
    /// The signing key cannot be used.
    #[error("use the key of the audit log")]
    Key(#[source] NodeDirectoryError),
    /// A checkpoint cannot be signed.
    #[error("sign a checkpoint")]
    Sign(#[source] CheckpointError),
    /// The log in the store is not what was signed.
    #[error("check the audit log")]
    Log(#[source] LogFault),
    /// The newest checkpoint cannot be kept beside the key.
    #[error("keep the newest checkpoint beside the log's key")]
    Keep(#[source] NodeDirectoryError),
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

/// The newest checkpoint.
#[derive(Clone, Debug, Default)]
struct Head {
    size: u64,
    checkpoint: String,
}

impl Log {
    /// Opens the log's key, making it on first use, and publishes its public half.
    ///
    /// # Errors
    /// [`IntegrateError::Key`] or [`IntegrateError::Sign`].
    pub fn open(directory: &NodeDirectory) -> Result<Self, IntegrateError> {
        let seed = directory.key(LOG_KEY).map_err(IntegrateError::Key)?;
        let key = SigningKey::from_seed(LOG_NAME, &seed).map_err(IntegrateError::Sign)?;
        directory
            .publish(LOG_VERIFIER_KEY, &format!("{}\n", key.verifier()))
            .map_err(IntegrateError::Key)?;
        Ok(Self {
            key,
            head: RwLock::default(),
        })
    }

    /// The newest signed checkpoint, exact text; empty before the first.
    #[must_use]
    pub fn checkpoint(&self) -> String {
        self.head(|head| head.checkpoint.clone())
    }

    /// Entries the newest checkpoint covers.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.head(|head| head.size)
    }

    /// The log's verifier key.
    #[must_use]
    pub const fn verifier_key(&self) -> &VerifierKey {
        self.key.verifier()
    }

    /// A checkpoint over no entries: what is kept before there is a first one.
    pub(super) fn sign_nothing(&self) -> Result<String, LogFault> {
        self.key
            .sign(0, TreeHash::of_nothing())
            .map_err(LogFault::Sign)
    }

    fn head<T>(&self, read: impl FnOnce(&Head) -> T) -> T {
        read(&self.head.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn advance(&self, size: u64, checkpoint: String) {
        let mut head = self.head.write().unwrap_or_else(PoisonError::into_inner);
        *head = Head { size, checkpoint };
    }
}

/// How long the oldest entry without a signed checkpoint has been waiting; zero when there is none.
///
/// # Errors
/// [`StoreError`].
pub async fn lag(control: &Control) -> Result<Duration, StoreError> {
    let size = control.log().size();
    if *control.db().log_size().borrow() <= size {
        return Ok(Duration::ZERO);
    }
    let mut reader = control.db().read().await?;
    let waiting = store::entry(&mut reader, size).await?;
    let at = waiting
        .and_then(|text| EntryHeader::parse(text.as_bytes()).ok())
        .and_then(|header| header.at.parse::<Timestamp>().ok());
    // An entry that cannot be read has waited for ever.
    Ok(control.now().since(at.unwrap_or(Timestamp::EPOCH)))
}

/// Checks the log in the store against its last checkpoint, then follows it until what is returned is
/// finished or dropped.
///
/// # Errors
/// [`IntegrateError`]; nothing may be served then.
pub async fn start(control: &Control) -> Result<Following, IntegrateError> {
    let mut follower = Follower::open(control).await?;
    follower.integrate(control).await?;
    follower.keep(control).await?;
    let end = CancellationToken::new();
    let task = task::spawn("audit log", follow(follower, control.clone(), end.clone()));
    Ok(Following {
        end: end.drop_guard(),
        task,
    })
}

/// The log is being followed.
#[derive(Debug)]
#[must_use = "dropping it ends the following"]
pub struct Following {
    end: DropGuard,
    task: JoinHandle<()>,
}

impl Following {
    /// Signs a checkpoint over everything there is, then follows no longer. For the end of the process,
    /// when nothing writes any more.
    pub async fn finish(self) {
        drop(self.end);
        let _ = self.task.await;
    }
}

async fn follow(mut follower: Follower, control: Control, end: CancellationToken) {
    let mut grown = control.db().log_size();
    let mut is_stopping = false;
    let mut rounds = 0_u32;
    while !is_stopping {
        let is_behind =
            *grown.borrow_and_update() > control.log().size() || follower.is_unkept(&control);
        let pause = async {
            if !is_behind {
                // The store lives as long as `control`, so this only ends when the log has grown.
                let _ = grown.changed().await;
            }
            tokio::time::sleep(INTERVAL).await;
        };
        tokio::select! {
            () = pause => {}
            () = end.cancelled() => is_stopping = true,
        }
        if let Err(error) = follower.integrate(&control).await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the audit log could not be integrated; trying again"
            );
        }
        rounds = rounds.wrapping_add(1);
        if (is_stopping || rounds.is_multiple_of(KEEP_EVERY))
            && let Err(error) = follower.keep(&control).await
        {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the newest checkpoint could not be kept beside the log's key; trying again"
            );
        }
    }
}

/// The tree in memory, as far as it was integrated.
struct Follower {
    tree: TileBuilder,
    /// Tiles filled since the last checkpoint was stored.
    unsaved: Vec<Tile>,
    /// Entries that the kept checkpoint covers.
    kept: u64,
}

impl Follower {
    /// The tree up to the last checkpoint, checked.
    async fn open(control: &Control) -> Result<Self, IntegrateError> {
        let mut reader = control.db().read().await?;
        let checked = check::check(&mut reader, control.log().verifier_key())
            .await
            .map_err(IntegrateError::Log)?;
        let (log, directory) = (control.log(), control.directory());
        kept::check(&mut reader, directory, log.verifier_key(), checked.as_ref())
            .await
            .map_err(IntegrateError::Log)?;
        if checked.is_none() {
            // Before the first checkpoint is signed, so that from then on there always is one.
            let nothing = log.sign_nothing().map_err(IntegrateError::Log)?;
            kept::keep(directory, &nothing).map_err(IntegrateError::Keep)?;
        }
        let tree = match checked {
            Some(checked) => {
                control.log().advance(checked.size, checked.note);
                checked.tree
            }
            None => TileBuilder::new(),
        };
        Ok(Self {
            tree,
            unsaved: Vec::new(),
            kept: 0,
        })
    }

    /// Whether there is a newer checkpoint than the one kept beside the key.
    fn is_unkept(&self, control: &Control) -> bool {
        self.kept != control.log().size()
    }

    /// Keeps the newest checkpoint beside the key. It is in the store by now, so that the file never
    /// knows of more than the store.
    async fn keep(&mut self, control: &Control) -> Result<(), IntegrateError> {
        if !self.is_unkept(control) {
            return Ok(());
        }
        let Head { size, checkpoint } = control.log().head(Head::clone);
        let directory = control.clone();
        let kept = task::blocking("keep a checkpoint", move || {
            kept::keep(directory.directory(), &checkpoint)
        });
        if let Some(kept) = kept.await {
            kept.map_err(IntegrateError::Keep)?;
            self.kept = size;
        }
        Ok(())
    }

    /// Takes in what is new and signs a checkpoint over it.
    async fn integrate(&mut self, control: &Control) -> Result<(), IntegrateError> {
        loop {
            let mut reader = control.db().read().await?;
            let first = self.tree.frontier().size();
            let leaves = store::leaves(&mut reader, first, LEAVES_AT_ONCE).await?;
            drop(reader);
            let is_last = leaves.len() < usize::try_from(LEAVES_AT_ONCE).unwrap_or(usize::MAX);
            for (seq, leaf) in leaves {
                let expected = self.tree.frontier().size();
                if seq != expected {
                    let fault = LogFault::EntryMissing { seq: expected };
                    return Err(IntegrateError::Log(fault));
                }
                self.unsaved.extend(self.tree.append(leaf));
            }
            // Also when nothing is new but the last attempt to store a checkpoint failed.
            if self.tree.frontier().size() > control.log().size() {
                self.sign(control).await?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    async fn sign(&mut self, control: &Control) -> Result<(), IntegrateError> {
        let size = self.tree.frontier().size();
        let root = self.tree.frontier().root();
        let key = &control.log().key;
        let note = key.sign(size, root).map_err(IntegrateError::Sign)?;
        let mut tx = control.db().begin(Actor::System).await?;
        for tile in &self.unsaved {
            store::put_tile(&mut tx, tile).await?;
        }
        if !self.unsaved.is_empty() {
            // Above level 0 a partial tile only changes when a tile below it was filled.
            for tile in self.tree.partial() {
                if tile.address.level > 0 {
                    store::put_tile(&mut tx, &tile).await?;
                }
            }
        }
        store::put_checkpoint(&mut tx, size, &root, &note).await?;
        tx.commit_operational().await?;
        self.unsaved.clear();
        control.log().advance(size, note);
        Ok(())
    }
}
