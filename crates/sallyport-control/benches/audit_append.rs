//! Durable audit appends per second: by one writer and by 64, beside a bare row a commit.
//!
//! `cargo bench -p sallyport-control --bench audit_append`. Each variant runs for two seconds on a fresh
//! SQLite file; run it on a quiet machine, the disk decides.
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
    database::{Database, StoreLocation},
};
use sallyport_core::{
    event::{Actor, Event, EventName, Events},
    time::Timestamp,
};
use sqlx::{
    Connection as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

const RUN: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() {
    println!("durable appends per second, SQLite, WAL, synchronous=FULL");
    let bare = bare(tempfile::tempdir().unwrap().path()).await;
    println!("  a row a commit, without us      {bare:>8.0}");
    for writers in [1, 16, 64, 256] {
        let rate = ours(tempfile::tempdir().unwrap().path(), writers).await;
        println!(
            "  audited change, {writers:>3} writers    {rate:>8.0}   {:.2}x",
            rate / bare
        );
    }
}

/// One connection, one row of the same size, one commit.
async fn bare(folder: &Path) -> f64 {
    let options = SqliteConnectOptions::new()
        .filename(folder.join("bare.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::query(
        "CREATE TABLE entry (seq BIGINT PRIMARY KEY, entry TEXT NOT NULL, leaf BYTEA NOT NULL)",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    let entry = "x".repeat(300);
    let start = Instant::now();
    let mut rows = 0_i64;
    while start.elapsed() < RUN {
        sqlx::query("INSERT INTO entry (seq, entry, leaf) VALUES ($1, $2, $3)")
            .bind(rows)
            .bind(&entry)
            .bind(vec![0_u8; 32])
            .execute(&mut connection)
            .await
            .unwrap();
        rows += 1;
    }
    f64::from(u32::try_from(rows).unwrap()) / start.elapsed().as_secs_f64()
}

/// Writers that each wait until their entry is durable before they write the next.
async fn ours(folder: &Path, writers: usize) -> f64 {
    let clock = Arc::new(SystemClock::not_before(Timestamp::EPOCH));
    let location = StoreLocation::Sqlite(folder.join("sallyport.db"));
    let database = Database::open(&location, clock).await.unwrap();
    let count = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|_| {
            let (database, count) = (database.clone(), Arc::clone(&count));
            tokio::spawn(async move {
                while start.elapsed() < RUN {
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
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let count = u32::try_from(count.load(Ordering::Relaxed)).unwrap();
    f64::from(count) / start.elapsed().as_secs_f64()
}
