//! The store: SQLite for one node, PostgreSQL for several, one code path.
//!
//! Reads use a pool and see what is committed. Writes go through one connection with group commit
//! ([`super::writer`]), so that many writers share one fsync and the audit log has one order.
//!
//! INVARIANT: SQLite runs in WAL mode with `synchronous=FULL`; a data directory has one control
//! process at a time.

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use async_trait::async_trait;
use sallyport_core::{
    event::Actor,
    time::{Clock, Timestamp},
};
use sqlx::{
    ConnectOptions as _, Connection as _,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPool, PgPoolOptions, Postgres},
    sqlite::{
        Sqlite, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
        SqliteSynchronous,
    },
};

use super::{
    migration,
    statement::{ConnectionMut, Sql},
    transaction::Transaction,
    writer::{self, OwnedConnection, Writer},
};

/// Where state is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreLocation {
    /// A SQLite file; made when missing.
    Sqlite(PathBuf),
    /// A PostgreSQL URL; the database must exist.
    Postgres(PostgresUrl),
}

/// A PostgreSQL URL. It may hold a password, so it prints as its host and database only.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl(String);

impl PostgresUrl {
    /// Takes a URL as read from a file.
    #[must_use]
    pub const fn new(url: String) -> Self {
        Self(url)
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://…")
    }
}

/// What can go wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It could not be opened.
    #[error("open the store at {location}")]
    Open {
        /// Where, without secrets.
        location: String,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// A statement failed.
    #[error("run statement `{sql}`")]
    Statement {
        /// The statement; it holds no values.
        sql: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// A column is not what it should be.
    #[error("read column `{column}`")]
    Column {
        /// Which.
        column: String,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// What is stored cannot be read.
    #[error("the store is damaged at `{place}`: {problem}; restore a backup")]
    Damaged {
        /// Where.
        place: String,
        /// What is wrong.
        problem: String,
    },
    /// A value could not be encoded.
    #[error("encode a value for the store")]
    Encode(#[source] serde_json::Error),
    /// An audit entry could not be encoded, so its change does not happen.
    #[error("encode an audit entry")]
    Entry(#[source] sallyport_evidence::log::entry::EntryError),
    /// The group this change was committed with did not become durable; nothing of it happened.
    #[error("make a change durable: {cause}")]
    NotDurable {
        /// Why.
        cause: String,
    },
    /// The store failed in a way that does not allow going on; the process must restart.
    #[error("the store has stopped after a failed write")]
    Stopped,
    /// The schema is of a newer version.
    #[error(
        "the store has schema version {found}, this program knows {known}; use the newer program"
    )]
    TooNew {
        /// In the store.
        found: i64,
        /// In the program.
        known: i64,
    },
    /// Another control uses the database.
    #[error("another control plane uses this database; stop it first, or give this one its own")]
    InUse,
    /// A new row collides with one that is there.
    #[error("there is one already")]
    Conflict,
}

impl StoreError {
    /// Whether a statement failed because the row exists already.
    #[must_use]
    pub fn is_unique_violation(&self) -> bool {
        match self {
            Self::Conflict => true,
            Self::Statement {
                source: sqlx::Error::Database(error),
                ..
            } => error.is_unique_violation(),
            _ => false,
        }
    }
}

enum Readers {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// The store. Cheap to clone.
#[derive(Clone)]
pub struct Database {
    readers: Arc<Readers>,
    writer: Writer,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").finish_non_exhaustive()
    }
}

const READERS_MAX: u32 = 8;
const TAKE_ATTEMPTS: u32 = 25;
const TAKE_PAUSE: Duration = Duration::from_millis(200);
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long readers may take to finish when the store is closed.
const CLOSE_TIME: Duration = Duration::from_secs(5);

impl Database {
    /// Opens the store, brings its schema up to date and starts the writer.
    ///
    /// # Errors
    /// [`StoreError::Open`], [`StoreError::TooNew`], [`StoreError::Damaged`], or a failed migration.
    pub async fn open(location: &StoreLocation, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let (readers, connection) = match location {
            StoreLocation::Sqlite(path) => open_sqlite(path).await,
            StoreLocation::Postgres(url) => open_postgres(url).await,
        }
        .map_err(|error| named(error, location))?;
        let mut connection = connection;
        migration::run(&mut connection)
            .await
            .map_err(|error| named(error, location))?;
        let log_size = writer::log_size(&mut connection).await?;
        Ok(Self {
            readers: Arc::new(readers),
            writer: writer::start(connection, clock, log_size),
        })
    }

    /// A connection that reads what is committed.
    ///
    /// # Errors
    /// [`StoreError::Statement`] when none can be had.
    pub async fn read(&self) -> Result<Reader, StoreError> {
        let failed = |source| StoreError::Statement {
            sql: "(acquire a reader)",
            source,
        };
        match &*self.readers {
            Readers::Sqlite(pool) => pool.acquire().await.map(Reader::Sqlite).map_err(failed),
            Readers::Postgres(pool) => pool.acquire().await.map(Reader::Postgres).map_err(failed),
        }
    }

    /// Begins a change by `actor`. Dropping the transaction undoes it.
    ///
    /// # Errors
    /// [`StoreError::Stopped`] or a failed statement.
    pub async fn begin(&self, actor: Actor) -> Result<Transaction, StoreError> {
        self.writer.begin(actor).await
    }

    /// The latest time recorded in the audit log; the epoch when nothing is recorded.
    ///
    /// # Errors
    /// A failed statement, or [`StoreError::Damaged`].
    pub async fn last_recorded(&self) -> Result<Timestamp, StoreError> {
        let sql = "SELECT last_at FROM audit_head WHERE id = 1";
        let row = self.read().await?.optional(sql, vec![]).await?;
        row.ok_or_else(|| StoreError::Damaged {
            place: "audit_head".to_owned(),
            problem: "it has no row".to_owned(),
        })?
        .time("last_at")
    }

    /// Whether the store still takes writes.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        !self.writer.is_stopped()
    }

    /// Resolves when the store no longer takes writes; the process must restart then.
    pub async fn stopped(&self) {
        let mut stopped = self.writer.stopped();
        if stopped.wait_for(|is_stopped| *is_stopped).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Ends the store in order: commits what waits, takes no more writes, and moves everything into the
    /// one database file, so that a copy of that file is a copy of the store.
    ///
    /// # Errors
    /// A failed statement; nothing acknowledged is lost by it.
    pub async fn close(&self) -> Result<(), StoreError> {
        // What still reads keeps SQLite from emptying its log; a stop does not wait for it for long.
        let closed = async {
            match &*self.readers {
                Readers::Sqlite(pool) => pool.close().await,
                Readers::Postgres(pool) => pool.close().await,
            }
        };
        if tokio::time::timeout(CLOSE_TIME, closed).await.is_err() {
            tracing::warn!("the store is still being read at the stop");
        }
        self.writer.close().await
    }

    /// Number of audit entries committed so far, and a way to be told of more.
    #[must_use]
    pub fn log_size(&self) -> tokio::sync::watch::Receiver<u64> {
        self.writer.log_size()
    }
}

/// Says which file it is when SQLite finds it damaged (`SQLITE_CORRUPT`) or no database at all
/// (`SQLITE_NOTADB`).
fn named(error: StoreError, location: &StoreLocation) -> StoreError {
    let (StoreError::Open { source, .. } | StoreError::Statement { source, .. }) = &error else {
        return error;
    };
    let code = source
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    match (location, code.as_deref()) {
        (StoreLocation::Sqlite(path), Some("11" | "26")) => StoreError::Damaged {
            place: path.display().to_string(),
            problem: source.to_string(),
        },
        _ => error,
    }
}

async fn open_sqlite(path: &std::path::Path) -> Result<(Readers, OwnedConnection), StoreError> {
    let failed = |source| StoreError::Open {
        location: format!("`{}`", path.display()),
        source,
    };
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging();
    let connection = sqlx::SqliteConnection::connect_with(&options)
        .await
        .map_err(failed)?;
    let pool = SqlitePoolOptions::new()
        .max_connections(READERS_MAX)
        .connect_lazy_with(options.read_only(true).create_if_missing(false));
    Ok((Readers::Sqlite(pool), OwnedConnection::Sqlite(connection)))
}

async fn open_postgres(url: &PostgresUrl) -> Result<(Readers, OwnedConnection), StoreError> {
    let failed = |source| StoreError::Open {
        location: "PostgreSQL".to_owned(),
        source,
    };
    let options = PgConnectOptions::from_str(&url.0)
        .map_err(failed)?
        .application_name("sallyport-control")
        .disable_statement_logging();
    // Whatever the server's defaults are: acknowledged means on disk, and readers only read.
    let writing = options.clone().options([("synchronous_commit", "on")]);
    let mut connection = sqlx::PgConnection::connect_with(&writing)
        .await
        .map_err(failed)?;
    take_alone(&mut connection).await?;
    let reading = options.options([
        ("default_transaction_read_only", "on"),
        ("statement_timeout", "10s"),
    ]);
    let pool = PgPoolOptions::new()
        .max_connections(READERS_MAX)
        .connect_lazy_with(reading);
    Ok((
        Readers::Postgres(pool),
        OwnedConnection::Postgres(connection),
    ))
}

/// Takes the lock that one control holds on a database as long as it is connected. A control that was
/// just killed is waited for, because the server notices only when it looks.
async fn take_alone(connection: &mut sqlx::PgConnection) -> Result<(), StoreError> {
    let sql = "SELECT CASE WHEN pg_try_advisory_lock(7023) THEN 1 ELSE 0 END::BIGINT AS taken";
    for _ in 0..TAKE_ATTEMPTS {
        let rows = ConnectionMut::Postgres(connection).all(sql, vec![]).await?;
        if rows
            .first()
            .is_some_and(|row| row.flag("taken").unwrap_or(false))
        {
            return Ok(());
        }
        tokio::time::sleep(TAKE_PAUSE).await;
    }
    Err(StoreError::InUse)
}

/// A connection that reads what is committed.
#[derive(Debug)]
pub enum Reader {
    /// SQLite.
    Sqlite(PoolConnection<Sqlite>),
    /// PostgreSQL.
    Postgres(PoolConnection<Postgres>),
}

#[async_trait]
impl Sql for Reader {
    async fn connection(&mut self) -> Result<ConnectionMut<'_>, StoreError> {
        Ok(match self {
            Self::Sqlite(connection) => ConnectionMut::Sqlite(&mut *connection),
            Self::Postgres(connection) => ConnectionMut::Postgres(&mut *connection),
        })
    }
}
