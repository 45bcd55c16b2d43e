//! Group commit: one write connection, one order, one fsync for many writers.
//!
//! Writers take turns on the connection; each works inside a savepoint of one outer transaction, made at
//! its first statement. Who commits releases the savepoint, leaves its audit entries in the group and
//! waits. The flusher queues for the connection like everybody else, and again as long as others queue:
//! the busier the store, the larger the group. It then writes the entries, commits the outer
//! transaction and wakes the whole group.
//!
//! A caller may stop waiting at any moment (a client hangs up, a time limit ends). Whatever moves the
//! transaction from one state to the next therefore runs in a task of its own to its end; between those
//! steps an abandoned writer leaves nothing but a savepoint to be rolled back.
//!
//! INVARIANT: a writer is told "durable" only after the COMMIT that holds its change and its entries
//! returned; sequence numbers are dense because they are assigned under the connection's lock and only
//! survive with that COMMIT.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicUsize, Ordering},
};

use sallyport_core::{
    event::{Actor, Events},
    time::{Clock, Timestamp},
};
use sallyport_evidence::log::{
    entry::{self, EntryHeader},
    tree::TreeHash,
};
use sqlx::{AssertSqlSafe, Executor as _, postgres::PgConnection, sqlite::SqliteConnection};
use tokio::sync::{Mutex, Notify, OwnedMutexGuard, oneshot, watch};

use super::{
    database::StoreError,
    rows::RowsInsert,
    statement::{ConnectionMut, Value},
    task,
    transaction::{Committed, Transaction},
};

/// The write connection.
#[derive(Debug)]
pub(super) enum OwnedConnection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl OwnedConnection {
    pub(super) fn as_mut(&mut self) -> ConnectionMut<'_> {
        match self {
            Self::Sqlite(connection) => ConnectionMut::Sqlite(connection),
            Self::Postgres(connection) => ConnectionMut::Postgres(connection),
        }
    }

    /// Runs text without arguments, such as `COMMIT`.
    pub(super) async fn plain(&mut self, sql: &'static str) -> Result<(), StoreError> {
        let result = match self {
            Self::Sqlite(connection) => connection.execute(sql).await.map(drop),
            Self::Postgres(connection) => connection.execute(sql).await.map(drop),
        };
        result.map_err(|source| StoreError::Statement { sql, source })
    }

    const fn is_sqlite(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }
}

struct PendingEntry {
    seq: u64,
    bytes: Vec<u8>,
    leaf: TreeHash,
}

type Verdict = Result<(), String>;

/// What the lock protects.
struct WriteSide {
    connection: OwnedConnection,
    is_open: bool,
    /// A writer gave up inside its savepoint.
    is_dirty: bool,
    next_seq: u64,
    /// `next_seq` when the group began, as the store still has it.
    group_seq: u64,
    last_at: Timestamp,
    entries: Vec<PendingEntry>,
    waiters: Vec<oneshot::Sender<Verdict>>,
}

struct Shared {
    side: Arc<Mutex<WriteSide>>,
    /// Writers in the queue for the connection.
    queued: AtomicUsize,
    flush: Notify,
    stopped: watch::Sender<bool>,
    clock: Arc<dyn Clock>,
    log_size: watch::Sender<u64>,
}

/// Handle to the write side.
#[derive(Clone)]
pub(super) struct Writer(Arc<Shared>);

/// Nobody commits once the flusher is gone, so nobody may go on waiting for it.
struct StopsOnPanic(Weak<Shared>);

impl Drop for StopsOnPanic {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.stopped.send_replace(true);
        }
    }
}

/// A place in the queue for the connection.
struct Place<'queue>(&'queue AtomicUsize);

impl<'queue> Place<'queue> {
    fn take(queue: &'queue AtomicUsize) -> Self {
        queue.fetch_add(1, Ordering::Relaxed);
        Self(queue)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A group is committed at this many turns, though more writers queue: each of them is waited for.
const GROUP_TURNS_MAX: usize = 256;

/// Any fixed number does; it keeps two controls on one PostgreSQL from interleaving sequences.
const SEQUENCE_LOCK: &str = "SELECT pg_advisory_xact_lock(7022)";

/// Starts the flusher.
pub(super) fn start(connection: OwnedConnection, clock: Arc<dyn Clock>, log_size: u64) -> Writer {
    let side = WriteSide {
        connection,
        is_open: false,
        is_dirty: false,
        next_seq: 0,
        group_seq: 0,
        last_at: Timestamp::EPOCH,
        entries: Vec::new(),
        waiters: Vec::new(),
    };
    let shared = Arc::new(Shared {
        side: Arc::new(Mutex::new(side)),
        queued: AtomicUsize::new(0),
        flush: Notify::new(),
        stopped: watch::Sender::new(false),
        clock,
        log_size: watch::Sender::new(log_size),
    });
    let flusher = Arc::downgrade(&shared);
    let guard = StopsOnPanic(Weak::clone(&flusher));
    task::spawn("store flusher", async move {
        let _guard = guard;
        while let Some(shared) = flusher.upgrade() {
            // Wakes at least once a second so that the task ends when the last handle is gone.
            let _ =
                tokio::time::timeout(std::time::Duration::from_secs(1), shared.flush.notified())
                    .await;
            shared.flush_group().await;
        }
    });
    Writer(shared)
}

impl Writer {
    pub(super) async fn begin(&self, actor: Actor) -> Result<Transaction, StoreError> {
        let shared = Arc::clone(&self.0);
        let place = Place::take(&shared.queued);
        let side = Arc::clone(&shared.side).lock_owned().await;
        drop(place);
        if self.is_stopped() {
            return Err(StoreError::Stopped);
        }
        let is_ready = side.is_ready();
        let mut held = Held {
            side: Some(side),
            shared,
            has_savepoint: false,
        };
        if !is_ready {
            // Whoever stops waiting here leaves a turn that ends, and with it what it opened.
            let opened = task::run("store begin", async move {
                let shared = Arc::clone(&held.shared);
                let side = held.side()?;
                match side.open().await {
                    Ok(()) => Ok(held),
                    Err(error) => {
                        shared.abandon(side, &error).await;
                        Err(error)
                    }
                }
            });
            held = opened.await.unwrap_or(Err(StoreError::Stopped))?;
        }
        Ok(Transaction::new(held, actor))
    }

    /// Commits what waits, then takes no more writes. SQLite's log is moved into its database file.
    pub(super) async fn close(&self) -> Result<(), StoreError> {
        self.0.flush_group().await;
        let mut side = self.0.side.lock().await;
        self.0.stopped.send_replace(true);
        // A writer that came in between gives up with an error: it was told nothing else.
        if side.is_open {
            side.entries.clear();
            side.waiters.clear();
            side.connection.plain("ROLLBACK").await?;
            side.is_open = false;
        }
        if side.connection.is_sqlite() {
            side.connection
                .plain("PRAGMA wal_checkpoint(TRUNCATE)")
                .await?;
        }
        Ok(())
    }

    pub(super) fn is_stopped(&self) -> bool {
        *self.0.stopped.borrow()
    }

    pub(super) fn stopped(&self) -> watch::Receiver<bool> {
        self.0.stopped.subscribe()
    }

    pub(super) fn log_size(&self) -> watch::Receiver<u64> {
        self.0.log_size.subscribe()
    }
}

impl WriteSide {
    /// Whether a turn can begin without a statement.
    const fn is_ready(&self) -> bool {
        self.is_open && !self.is_dirty
    }

    /// Makes sure the outer transaction is open and nobody's savepoint is left.
    async fn open(&mut self) -> Result<(), StoreError> {
        self.clean().await?;
        if !self.is_open {
            if self.connection.is_sqlite() {
                self.connection.plain("BEGIN IMMEDIATE").await?;
                self.is_open = true;
            } else {
                self.connection.plain("BEGIN").await?;
                self.is_open = true;
                self.connection.plain(SEQUENCE_LOCK).await?;
            }
            self.read_head().await?;
        }
        Ok(())
    }

    /// Undoes what a writer left that gave up.
    async fn clean(&mut self) -> Result<(), StoreError> {
        if self.is_dirty {
            self.connection
                .plain("ROLLBACK TO SAVEPOINT writer")
                .await?;
            self.connection.plain("RELEASE SAVEPOINT writer").await?;
            self.is_dirty = false;
        }
        Ok(())
    }

    async fn can_begin_anew(&mut self) -> bool {
        self.connection.is_sqlite()
            && self.connection.plain("BEGIN IMMEDIATE").await.is_ok()
            && self.connection.plain("ROLLBACK").await.is_ok()
    }

    async fn read_head(&mut self) -> Result<(), StoreError> {
        let sql = "SELECT next_seq, last_at FROM audit_head WHERE id = 1";
        let rows = self.connection.as_mut().all(sql, vec![]).await?;
        let head = rows.first().ok_or_else(|| StoreError::Damaged {
            place: "audit_head".to_owned(),
            problem: "it has no row".to_owned(),
        })?;
        self.next_seq = head.count("next_seq")?;
        self.group_seq = self.next_seq;
        self.last_at = head.time("last_at")?;
        Ok(())
    }

    async fn write_entries(&mut self) -> Result<(), StoreError> {
        let entries = std::mem::take(&mut self.entries);
        for (sql, piece) in ENTRIES.pieces(&entries) {
            self.insert(sql, piece).await?;
        }
        // The old value in the condition: a second writer, or a transaction that the database gave up
        // in silence, must not look like success.
        let sql =
            "UPDATE audit_head SET next_seq = $1, last_at = $2 WHERE id = 1 AND next_seq = $3";
        let touched = self
            .connection
            .as_mut()
            .run(
                sql,
                crate::params![self.next_seq, self.last_at, self.group_seq],
            )
            .await?;
        if touched == 1 {
            Ok(())
        } else {
            Err(StoreError::Damaged {
                place: "audit_head".to_owned(),
                problem: format!("it is no longer at {}", self.group_seq),
            })
        }
    }

    async fn insert(
        &mut self,
        sql: &'static str,
        entries: &[PendingEntry],
    ) -> Result<(), StoreError> {
        let mut arguments: Vec<Value> = Vec::with_capacity(entries.len().saturating_mul(3));
        for entry in entries {
            arguments.push(entry.seq.into());
            arguments.push(String::from_utf8_lossy(&entry.bytes).into_owned().into());
            arguments.push(entry.leaf.as_bytes().to_vec().into());
        }
        self.connection.as_mut().run(sql, arguments).await.map(drop)
    }
}

static ENTRIES: RowsInsert = RowsInsert::new("INSERT INTO audit_entry (seq, entry, leaf)", 3);

impl Shared {
    async fn flush_group(&self) {
        let mut side = self.side.lock().await;
        for _ in 0..GROUP_TURNS_MAX {
            if !side.is_open || self.queued.load(Ordering::Relaxed) == 0 {
                break;
            }
            // To the end of the queue: what those before us do shares the commit.
            drop(side);
            side = self.side.lock().await;
        }
        if !side.is_open {
            return;
        }
        match commit_group(&mut side).await {
            Ok(()) => {
                side.is_open = false;
                let next_seq = side.next_seq;
                for waiter in side.waiters.drain(..) {
                    let _ = waiter.send(Ok(()));
                }
                drop(side);
                self.log_size
                    .send_if_modified(|size| std::mem::replace(size, next_seq) != next_seq);
            }
            Err(error) => self.abandon(&mut side, &error).await,
        }
    }

    /// Gives the whole group up. Nothing of it happened, and everybody in it is told so.
    async fn abandon(&self, side: &mut WriteSide, error: &StoreError) {
        let cause = match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        tracing::error!(cause, "a group of changes could not be made durable");
        side.entries.clear();
        side.is_dirty = false;
        // SQLite undoes some failed commits by itself and then refuses a ROLLBACK; that it can begin
        // anew shows the same.
        let is_undone = !side.is_open
            || side.connection.plain("ROLLBACK").await.is_ok()
            || side.can_begin_anew().await;
        side.is_open = false;
        // A full disk leaves the store as it was. After any other failed write, what the kernel holds
        // and what the disk holds may differ (fsync is not retried), so going on is not safe.
        if !is_undone || !is_recoverable(error) {
            self.stopped.send_replace(true);
        }
        for waiter in side.waiters.drain(..) {
            let _ = waiter.send(Err(cause.clone()));
        }
    }
}

async fn commit_group(side: &mut WriteSide) -> Result<(), StoreError> {
    side.clean().await?;
    if side.waiters.is_empty() {
        side.entries.clear();
        return side.connection.plain("ROLLBACK").await;
    }
    side.write_entries().await?;
    side.connection.plain("COMMIT").await
}

fn is_recoverable(error: &StoreError) -> bool {
    match error {
        StoreError::Statement {
            source: sqlx::Error::Database(error),
            ..
        } => {
            // SQLITE_FULL, SQLITE_BUSY; PostgreSQL disk_full and cannot_connect_now classes.
            error
                .code()
                .is_some_and(|code| matches!(&*code, "13" | "5" | "53100" | "57P03" | "40001"))
        }
        _ => false,
    }
}

/// Number of entries in the log.
pub(super) async fn log_size(connection: &mut OwnedConnection) -> Result<u64, StoreError> {
    let sql = "SELECT next_seq FROM audit_head WHERE id = 1";
    let rows = connection.as_mut().all(sql, vec![]).await?;
    rows.first()
        .ok_or_else(|| StoreError::Damaged {
            place: "audit_head".to_owned(),
            problem: "it has no row".to_owned(),
        })?
        .count("next_seq")
}

/// A writer's turn on the connection.
pub(super) struct Held {
    /// Absent once the turn is over.
    side: Option<OwnedMutexGuard<WriteSide>>,
    shared: Arc<Shared>,
    /// A statement was or is being run in this turn.
    has_savepoint: bool,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

/// A turn that failed takes nothing more.
fn over() -> StoreError {
    StoreError::NotDurable {
        cause: "the transaction failed before".to_owned(),
    }
}

impl Held {
    fn side(&mut self) -> Result<&mut WriteSide, StoreError> {
        self.side.as_deref_mut().ok_or_else(over)
    }

    /// The connection, inside the turn's savepoint.
    pub(super) async fn connection(&mut self) -> Result<ConnectionMut<'_>, StoreError> {
        if !self.has_savepoint {
            self.set_savepoint().await?;
        }
        Ok(self.side()?.connection.as_mut())
    }

    /// In a task of its own, so that an abandoned writer leaves either a savepoint or none, and it is
    /// known which.
    async fn set_savepoint(&mut self) -> Result<(), StoreError> {
        let mut turn = Self {
            side: self.side.take(),
            shared: Arc::clone(&self.shared),
            has_savepoint: false,
        };
        let set = task::run("store savepoint", async move {
            let side = turn.side.as_mut().ok_or_else(over)?;
            match side.connection.plain("SAVEPOINT writer").await {
                Ok(()) => {
                    turn.has_savepoint = true;
                    Ok(turn)
                }
                Err(error) => {
                    turn.shared.abandon(side, &error).await;
                    Err(error)
                }
            }
        });
        *self = set.await.unwrap_or(Err(StoreError::Stopped))?;
        Ok(())
    }

    pub(super) async fn commit(
        mut self,
        actor: &Actor,
        events: Events,
    ) -> Result<Committed, StoreError> {
        let now = self.shared.clock.now();
        let side = self.side()?;
        let at = now.max(side.last_at);
        let first_seq = side.next_seq;
        let mut entries = Vec::with_capacity(events.count());
        for (seq, event) in (first_seq..).zip(events.into_iter_all()) {
            let header = EntryHeader {
                seq,
                at: at.to_string(),
                event: event.name.as_str().to_owned(),
                actor: actor.as_str().to_owned(),
                subject: event.subject,
            };
            let bytes = entry::encode(&header, &event.fields).map_err(StoreError::Entry)?;
            let leaf = TreeHash::of_leaf(&bytes);
            entries.push(PendingEntry { seq, bytes, leaf });
        }
        let count = u64::try_from(entries.len()).unwrap_or(u64::MAX);
        self.join_group(entries, first_seq.saturating_add(count), at)
            .await?;
        Ok(Committed { first_seq, at })
    }

    pub(super) async fn commit_without_record(mut self) -> Result<(), StoreError> {
        let side = self.side()?;
        let (next_seq, last_at) = (side.next_seq, side.last_at);
        self.join_group(Vec::new(), next_seq, last_at).await
    }

    /// Releases the savepoint, leaves the connection to the next writer and waits for the group's
    /// verdict.
    async fn join_group(
        mut self,
        entries: Vec<PendingEntry>,
        next_seq: u64,
        last_at: Timestamp,
    ) -> Result<(), StoreError> {
        let (sender, verdict) = oneshot::channel();
        let join = move |mut turn: Self| {
            let side = turn.side()?;
            side.next_seq = next_seq;
            side.last_at = last_at;
            side.entries.extend(entries);
            side.waiters.push(sender);
            drop(turn.side.take());
            turn.shared.flush.notify_one();
            Ok(())
        };
        if self.has_savepoint {
            let released = task::run("store release", async move {
                let connection = &mut self.side()?.connection;
                connection.plain("RELEASE SAVEPOINT writer").await?;
                join(self)
            });
            released.await.unwrap_or(Err(StoreError::Stopped))?;
        } else {
            join(self)?;
        }
        match verdict.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(cause)) => Err(StoreError::NotDurable { cause }),
            Err(_) => Err(StoreError::NotDurable {
                cause: "the writer is gone".to_owned(),
            }),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(mut side) = self.side.take() {
            side.is_dirty |= self.has_savepoint;
            drop(side);
            self.shared.flush.notify_one();
        }
    }
}

/// Runs several statements without arguments, for migrations.
pub(super) async fn script(connection: &mut OwnedConnection, sql: &str) -> Result<(), StoreError> {
    let failed = |source| StoreError::Statement {
        sql: "(migration)",
        source,
    };
    match connection {
        OwnedConnection::Sqlite(connection) => sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(connection)
            .await
            .map(drop)
            .map_err(failed),
        OwnedConnection::Postgres(connection) => sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(connection)
            .await
            .map(drop)
            .map_err(failed),
    }
}
