//! Where a control plane of a test lives: a directory, and one of the two databases.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, str::FromStr as _};

use sallyport_control::{
    config::ControlConfig,
    kernel::{
        database::{PostgresUrl, StoreLocation},
        statement::Value,
    },
};
use sallyport_testkit::targets::postgres::Postgres;
use sqlx::{Connection as _, Executor as _, Row as _};
use tempfile::TempDir;

const DATABASE: &str = "sallyport";

/// A directory with a database in it or beside it.
pub struct Home {
    directory: TempDir,
    postgres: Option<Postgres>,
}

impl Home {
    /// One on SQLite.
    pub fn sqlite() -> Self {
        Self {
            directory: TempDir::new().unwrap(),
            postgres: None,
        }
    }

    /// One on PostgreSQL.
    pub fn postgres() -> Self {
        let postgres = Postgres::start().unwrap();
        let home = Self {
            directory: TempDir::new().unwrap(),
            postgres: None,
        };
        let url = postgres.create_database(DATABASE).unwrap();
        let file = home.url_file();
        fs::write(&file, url).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
        Self {
            postgres: Some(postgres),
            ..home
        }
    }

    /// One of each: what holds for the store holds on both.
    pub fn both() -> [Self; 2] {
        [Self::sqlite(), Self::postgres()]
    }

    /// For messages.
    pub fn kind(&self) -> &'static str {
        if self.postgres.is_some() {
            "PostgreSQL"
        } else {
            "SQLite"
        }
    }

    fn url_file(&self) -> PathBuf {
        self.directory.path().join("postgres-url")
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("control")
    }

    /// The SQLite file.
    pub fn database_file(&self) -> PathBuf {
        self.data().join("sallyport.db")
    }

    /// Points a configuration here.
    pub fn configure(&self, config: &mut ControlConfig) {
        config.store.data_directory = self.data();
        config.store.postgres_url_file = self.postgres.as_ref().map(|_| self.url_file());
    }

    /// A configuration that points here.
    pub fn config(&self) -> ControlConfig {
        let mut config = ControlConfig::default();
        self.configure(&mut config);
        config
    }

    /// Where the store is, for tests of the store alone.
    pub fn location(&self) -> StoreLocation {
        match &self.postgres {
            Some(postgres) => StoreLocation::Postgres(PostgresUrl::new(postgres.url(DATABASE))),
            None => {
                fs::create_dir_all(self.data()).unwrap();
                StoreLocation::Sqlite(self.database_file())
            }
        }
    }

    /// Runs SQL behind the back of the control plane, as somebody with the disk could.
    pub async fn tamper(&self, sql: &'static str) {
        match &self.postgres {
            Some(postgres) => {
                postgres.execute(DATABASE, sql).unwrap();
            }
            None => {
                self.raw_sqlite().await.execute(sql).await.unwrap();
            }
        }
    }

    /// Loses everything in the store, as a dead disk would; the data directory stays.
    pub async fn empty(&self) {
        match &self.postgres {
            Some(postgres) => {
                let sql = "DROP SCHEMA public CASCADE; CREATE SCHEMA public";
                postgres.execute(DATABASE, sql).unwrap();
            }
            None => {
                for name in ["sallyport.db", "sallyport.db-wal", "sallyport.db-shm"] {
                    let _ = fs::remove_file(self.data().join(name));
                }
            }
        }
    }

    /// The first column of the first row, as a number.
    pub async fn count(&self, sql: &'static str) -> i64 {
        match &self.postgres {
            Some(postgres) => postgres.execute(DATABASE, sql).unwrap().parse().unwrap(),
            None => sqlx::query(sql)
                .fetch_one(&mut self.raw_sqlite().await)
                .await
                .unwrap()
                .get(0),
        }
    }

    async fn raw_sqlite(&self) -> sqlx::SqliteConnection {
        let url = format!("sqlite://{}", self.database_file().display());
        let options = sqlx::sqlite::SqliteConnectOptions::from_str(&url).unwrap();
        sqlx::SqliteConnection::connect_with(&options)
            .await
            .unwrap()
    }

    /// How many transactions the entries of the log were committed in.
    pub async fn groups(&self) -> i64 {
        match &self.postgres {
            // Entries are inserted outside savepoints, so each carries the number of its transaction.
            Some(_) => {
                self.count("SELECT count(DISTINCT xmin::text) FROM audit_entry")
                    .await
            }
            None => {
                commits_in_wal(&fs::read(self.database_file().with_extension("db-wal")).unwrap())
            }
        }
    }
}

/// Commits in a write-ahead log (<https://www.sqlite.org/fileformat2.html#the_write_ahead_log>): frames
/// whose second field, the size of the database after a commit, is not 0.
fn commits_in_wal(wal: &[u8]) -> i64 {
    let number = |at: usize| u32::from_be_bytes(wal[at..at + 4].try_into().unwrap());
    let (page_bytes, salt) = (number(8) as usize, &wal[16..24]);
    let frames = (32..)
        .step_by(24 + page_bytes)
        .take_while(|at| at + 24 + page_bytes <= wal.len());
    let commits = frames
        .take_while(|at| wal[at + 8..at + 16] == *salt)
        .filter(|at| number(at + 4) != 0)
        .count();
    i64::try_from(commits).unwrap()
}

/// Text as an argument.
pub fn text(text: &str) -> Value {
    Value::from(text)
}
