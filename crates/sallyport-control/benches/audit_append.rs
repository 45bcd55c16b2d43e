//! Durable audit appends per second: by one writer and by many, on both stores, beside what the store
//! gives without us; and a burst, of which nothing may be lost.
//!
//! `cargo bench -p sallyport-control --bench audit_append`. Each variant runs for two seconds on a fresh
//! store whose commits reach the disk; run it on a quiet machine, the disk decides. Each line is
//! `figure KEY VALUE UNIT`, as `cargo xtask bench` reads it.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement reads the clock and prints"
)]

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sallyport_control::kernel::{
    clock::SystemClock,
    database::{Database, PostgresUrl, StoreLocation},
};
use sallyport_core::{
    event::{Actor, Event, EventName, Events},
    time::Timestamp,
};
use sallyport_testkit::targets::postgres::Postgres;
use sqlx::{
    Connection as _, Executor as _, PgConnection, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

const RUN: Duration = Duration::from_secs(2);
const WRITERS: [usize; 4] = [1, 16, 64, 256];
/// Rows a commit of the bare probe: what 64 writers would share at best.
const GROUP: usize = 64;
const BURST: u64 = 20_000;

#[tokio::main]
async fn main() {
    let postgres = Postgres::start_durable().unwrap();
    for rows in [1, GROUP] {
        let folder = tempfile::tempdir().unwrap();
        say(
            "sqlite",
            &format!("bare-{rows}"),
            bare_sqlite(folder.path(), rows).await,
            "per s",
        );
        let url = postgres
            .create_database(&format!("bare_{}", word(rows)))
            .unwrap();
        say(
            "postgres",
            &format!("bare-{rows}"),
            bare_postgres(&url, rows).await,
            "per s",
        );
    }
    for writers in WRITERS {
        let folder = tempfile::tempdir().unwrap();
        let key = format!("writers-{writers}");
        say(
            "sqlite",
            &key,
            ours(&sqlite(folder.path()), writers).await,
            "per s",
        );
        let url = postgres
            .create_database(&format!("ours_{}", word(writers)))
            .unwrap();
        say("postgres", &key, ours(&store(&url), writers).await, "per s");
    }

    let folder = tempfile::tempdir().unwrap();
    let took = burst(&sqlite(folder.path())).await;
    let mut connection =
        SqliteConnection::connect_with(&options(&folder.path().join("sallyport.db")))
            .await
            .unwrap();
    let kept: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM audit_entry")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    say_burst("sqlite", took, u64::try_from(kept).unwrap());
    let url = postgres.create_database("burst").unwrap();
    let took = burst(&store(&url)).await;
    let kept = postgres
        .execute("burst", "SELECT COUNT(*) FROM audit_entry")
        .unwrap();
    say_burst("postgres", took, kept.trim().parse().unwrap());
}

fn say(store: &str, key: &str, value: f64, unit: &str) {
    println!("figure {store}.{key} {value:.1} {unit}");
}

fn say_burst(store: &str, took: Duration, kept: u64) {
    // One more than the burst was written after it, to see that writing goes on.
    let lost = (BURST + 1).saturating_sub(kept);
    say(store, "burst-20000.took", took.as_secs_f64(), "s");
    println!("figure {store}.burst-20000.lost {lost} entries");
}

/// A number as PostgreSQL takes it in the name of a database that needs no quoting.
fn word(number: usize) -> String {
    number
        .to_string()
        .bytes()
        .map(|digit| char::from(digit - b'0' + b'a'))
        .collect()
}

fn sqlite(folder: &Path) -> StoreLocation {
    StoreLocation::Sqlite(folder.join("sallyport.db"))
}

fn store(url: &str) -> StoreLocation {
    StoreLocation::Postgres(PostgresUrl::new(url.to_owned()))
}

fn options(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
}

const TABLE: &str =
    "CREATE TABLE entry (seq BIGINT PRIMARY KEY, entry TEXT NOT NULL, leaf BYTEA NOT NULL)";
const INSERT: &str = "INSERT INTO entry (seq, entry, leaf) VALUES ($1, $2, $3)";

/// One connection, rows of the same size as an entry's, `rows` a commit.
async fn bare_sqlite(folder: &Path, rows: usize) -> f64 {
    let mut connection = SqliteConnection::connect_with(&options(&folder.join("bare.db")))
        .await
        .unwrap();
    connection.execute(TABLE).await.unwrap();
    let entry = "x".repeat(300);
    let (start, mut seq) = (Instant::now(), 0_i64);
    while start.elapsed() < RUN {
        let mut transaction = connection.begin().await.unwrap();
        for _ in 0..rows {
            sqlx::query(INSERT)
                .bind(seq)
                .bind(&entry)
                .bind(vec![0_u8; 32])
                .execute(&mut *transaction)
                .await
                .unwrap();
            seq += 1;
        }
        transaction.commit().await.unwrap();
    }
    per_second(u64::try_from(seq).unwrap(), start)
}

/// As [`bare_sqlite`], on PostgreSQL.
async fn bare_postgres(url: &str, rows: usize) -> f64 {
    let mut connection = PgConnection::connect(url).await.unwrap();
    connection.execute(TABLE).await.unwrap();
    let entry = "x".repeat(300);
    let (start, mut seq) = (Instant::now(), 0_i64);
    while start.elapsed() < RUN {
        let mut transaction = connection.begin().await.unwrap();
        for _ in 0..rows {
            sqlx::query(INSERT)
                .bind(seq)
                .bind(&entry)
                .bind(vec![0_u8; 32])
                .execute(&mut *transaction)
                .await
                .unwrap();
            seq += 1;
        }
        transaction.commit().await.unwrap();
    }
    per_second(u64::try_from(seq).unwrap(), start)
}

/// Writers that each wait until their entry is durable before they write the next.
async fn ours(location: &StoreLocation, writers: usize) -> f64 {
    let database = open(location).await;
    let count = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|_| {
            let (database, count) = (database.clone(), Arc::clone(&count));
            tokio::spawn(async move {
                while start.elapsed() < RUN {
                    append(&database).await;
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let rate = per_second(count.load(Ordering::Relaxed), start);
    database.close().await.unwrap();
    rate
}

/// As many writers at once as there are entries; then one more entry. Returns how long it took until
/// the burst was durable.
async fn burst(location: &StoreLocation) -> Duration {
    let database = open(location).await;
    let start = Instant::now();
    let tasks: Vec<_> = (0..BURST)
        .map(|_| {
            let database = database.clone();
            tokio::spawn(async move { append(&database).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let took = start.elapsed();
    append(&database).await;
    database.close().await.unwrap();
    took
}

async fn open(location: &StoreLocation) -> Database {
    let clock = Arc::new(SystemClock::not_before(Timestamp::EPOCH));
    Database::open(location, clock).await.unwrap()
}

async fn append(database: &Database) {
    let tx = database.begin(Actor::System).await.unwrap();
    let event = Event::new(
        EventName::OperationRecorded,
        "opn_01kb2v00000000000000000000",
    )
    .with("kind", "exec")
    .with(
        "detail",
        "systemctl restart nginx && journalctl -u nginx -n 50 --no-pager",
    )
    .with("outcome", "completed")
    .with("exit_status", 0);
    tx.commit(Events::one(event)).await.unwrap();
}

fn per_second(count: u64, start: Instant) -> f64 {
    count as f64 / start.elapsed().as_secs_f64()
}
