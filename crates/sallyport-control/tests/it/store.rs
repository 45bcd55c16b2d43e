//! The store under load, interruption, failure and restart. Everything holds on SQLite and PostgreSQL.

use std::{fs, sync::Arc, time::Duration};

use sallyport_control::{
    kernel::{
        clock::{RatchetClock as _, SystemClock},
        control::{Control, OpenError},
        database::{Database, StoreError},
        statement::{Sql as _, Value},
        transaction::Committed,
    },
    params,
};
use sallyport_core::{
    event::{Actor, Event, EventName, Events},
    time::{Clock as _, Timestamp},
};
use sallyport_evidence::log::{entry::EntryHeader, tree::TreeHash};
use tokio::{sync::Barrier, task::JoinSet};

use crate::support::{
    home::{Home, text},
    node::ManualClock,
};

async fn open(home: &Home) -> Database {
    Database::open(&home.location(), Arc::new(SystemClock::default()))
        .await
        .unwrap()
}

/// A change with its record: a group of this name.
async fn make_group(db: &Database, name: &str) -> Result<Committed, StoreError> {
    let mut tx = db.begin(Actor::System).await?;
    tx.run(
        "INSERT INTO person_group (id, name) VALUES ($1, $2)",
        params![text(name), text(name)],
    )
    .await?;
    tx.commit(Events::one(Event::new(EventName::PersonChanged, name)))
        .await
}

/// Every entry, with what the log promises about each.
async fn entries(db: &Database) -> Vec<EntryHeader> {
    let mut reader = db.read().await.unwrap();
    let sql = "SELECT seq, entry, leaf FROM audit_entry ORDER BY seq";
    let rows = reader.all(sql, vec![]).await.unwrap();
    let mut headers: Vec<EntryHeader> = Vec::new();
    for (expected, row) in (0..).zip(&rows) {
        let entry = row.text("entry").unwrap();
        let header = EntryHeader::parse(entry.as_bytes()).unwrap();
        assert_eq!(row.count("seq").unwrap(), expected);
        assert_eq!(header.seq, expected);
        assert_eq!(
            row.bytes("leaf").unwrap(),
            TreeHash::of_leaf(entry.as_bytes()).as_bytes()
        );
        assert!(headers.last().is_none_or(|before| before.at <= header.at));
        headers.push(header);
    }
    headers
}

async fn group_names(db: &Database) -> Vec<String> {
    let mut reader = db.read().await.unwrap();
    let rows = reader
        .all("SELECT name FROM person_group ORDER BY name", vec![])
        .await
        .unwrap();
    rows.iter().map(|row| row.text("name").unwrap()).collect()
}

/// AU-1, AU-6, OP-1: entries are numbered without gaps and share commits, however many write.
#[tokio::test(flavor = "multi_thread")]
async fn given_64_writers_at_once_then_numbers_are_dense_and_commits_are_shared() {
    const WRITERS: u64 = 64;
    const CHANGES: u64 = 5;
    for home in Home::both() {
        let db = open(&home).await;
        let start = Arc::new(Barrier::new(usize::try_from(WRITERS).unwrap()));
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let (db, start) = (db.clone(), Arc::clone(&start));
            writers.spawn(async move {
                start.wait().await;
                let mut places = Vec::new();
                for change in 0..CHANGES {
                    let committed = make_group(&db, &format!("g-{writer}-{change}"))
                        .await
                        .unwrap();
                    places.push(committed.first_seq);
                }
                places
            });
        }
        let mut places: Vec<u64> = writers.join_all().await.concat();

        places.sort_unstable();
        assert_eq!(
            places,
            (0..WRITERS * CHANGES).collect::<Vec<_>>(),
            "{}",
            home.kind()
        );
        let entries = entries(&db).await;
        let mut subjects: Vec<String> = entries.into_iter().map(|entry| entry.subject).collect();
        subjects.sort();
        assert_eq!(subjects, group_names(&db).await, "{}", home.kind());
        assert_eq!(*db.log_size().borrow(), WRITERS * CHANGES);
        let groups = u64::try_from(home.groups().await).unwrap();
        assert!(
            groups < WRITERS * CHANGES / 4,
            "{}: {groups} commits for {} changes",
            home.kind(),
            WRITERS * CHANGES
        );
    }
}

/// AU-6
#[tokio::test]
async fn given_a_transaction_that_is_dropped_then_neither_change_nor_record_is_left() {
    for home in Home::both() {
        let db = open(&home).await;
        let mut given_up = db.begin(Actor::System).await.unwrap();
        given_up
            .run(
                "INSERT INTO person_group (id, name) VALUES ('a', 'a')",
                vec![],
            )
            .await
            .unwrap();
        drop(given_up);
        make_group(&db, "b").await.unwrap();

        assert_eq!(group_names(&db).await, ["b"], "{}", home.kind());
        assert_eq!(entries(&db).await.len(), 1);
    }
}

/// AU-6: a statement that fails undoes its own transaction only, also where the database gives up on the
/// whole of it.
#[tokio::test]
async fn given_a_conflict_then_the_writer_is_told_and_others_go_on() {
    for home in Home::both() {
        let db = open(&home).await;
        make_group(&db, "taken").await.unwrap();
        let conflict = make_group(&db, "taken").await.unwrap_err();
        assert!(
            conflict.is_unique_violation(),
            "{}: {conflict:?}",
            home.kind()
        );
        make_group(&db, "free").await.unwrap();
        assert_eq!(group_names(&db).await, ["free", "taken"], "{}", home.kind());
        assert_eq!(entries(&db).await.len(), 2);
    }
}

/// AU-6: a change without an event is refused at commit, whatever it is dressed up as.
#[tokio::test]
async fn given_a_change_without_an_event_then_it_does_not_happen() {
    for home in Home::both() {
        let db = open(&home).await;
        let mut tx = db.begin(Actor::System).await.unwrap();
        tx.run(
            "INSERT INTO person_group (id, name) VALUES ('a', 'a')",
            vec![],
        )
        .await
        .unwrap();
        tx.commit_operational().await.unwrap_err();
        assert_eq!(group_names(&db).await.len(), 0, "{}", home.kind());
    }
}

/// AU-6: a client may hang up between any two steps of a change. Whatever step that is, the change is
/// there with its record or not at all, and the store goes on.
#[tokio::test]
async fn given_writers_abandoned_at_every_step_then_changes_and_records_agree() {
    for home in Home::both() {
        let db = open(&home).await;
        for steps in 0..120 {
            let name = format!("g-{steps}");
            let change = make_group(&db, &name);
            let mut change = std::pin::pin!(change);
            let mut polls = 0;
            // Polled this many times, then dropped.
            let abandoned = std::future::poll_fn(|context| {
                polls += 1;
                if polls > steps % 12 {
                    return std::task::Poll::Ready(None);
                }
                change.as_mut().poll(context).map(Some)
            })
            .await;
            if let Some(finished) = abandoned {
                finished.unwrap();
            }
        }
        make_group(&db, "last").await.unwrap();

        assert!(db.is_writable(), "{}", home.kind());
        let mut recorded: Vec<String> = entries(&db)
            .await
            .into_iter()
            .map(|entry| entry.subject)
            .collect();
        recorded.sort();
        assert_eq!(recorded, group_names(&db).await, "{}", home.kind());
        assert!(recorded.contains(&"last".to_owned()));
    }
}

/// AU-6: when a group cannot be made durable, everybody in it is told, nothing of it is left, and the
/// store takes no more: what is on the disk is not known any more.
#[tokio::test(flavor = "multi_thread")]
async fn given_entries_that_cannot_be_written_then_every_writer_of_the_group_is_told() {
    for home in Home::both() {
        let db = open(&home).await;
        make_group(&db, "before").await.unwrap();
        home.tamper("INSERT INTO audit_entry (seq, entry, leaf) VALUES (10, '{}', '00')")
            .await;
        let mut writers = JoinSet::new();
        for writer in 0..40 {
            let db = db.clone();
            writers.spawn(async move {
                let name = format!("g-{writer}");
                (name.clone(), make_group(&db, &name).await)
            });
        }
        let mut durable = vec!["before".to_owned()];
        let mut told = 0;
        for (name, outcome) in writers.join_all().await {
            match outcome {
                Ok(_) => durable.push(name),
                Err(StoreError::NotDurable { .. } | StoreError::Stopped) => told += 1,
                Err(other) => panic!("{}: {other:?}", home.kind()),
            }
        }
        durable.sort();
        assert!(told > 0, "{}", home.kind());
        assert!(!db.is_writable(), "{}", home.kind());
        assert!(matches!(
            make_group(&db, "after").await,
            Err(StoreError::Stopped)
        ));
        assert_eq!(
            group_names(&db).await,
            durable,
            "{}: exactly what was acknowledged",
            home.kind()
        );
    }
}

/// OP-1: a restart goes on with the next number, and with no earlier time than was recorded.
#[tokio::test]
async fn given_a_restart_with_the_clock_set_back_then_numbers_and_time_go_on() {
    for home in Home::both() {
        let noon = Timestamp::from_unix_ms(1_795_348_800_000);
        let clock = Arc::new(ManualClock::at(noon));
        let control = Control::open(home.config(), clock).await.unwrap();
        let before = make_group(control.db(), "before").await.unwrap();
        drop(control);

        let set_back = Arc::new(ManualClock::at(noon.minus(Duration::from_secs(3_600))));
        let control = Control::open(home.config(), set_back).await.unwrap();
        assert_eq!(control.now(), before.at, "{}", home.kind());
        let after = make_group(control.db(), "after").await.unwrap();
        assert_eq!(after.first_seq, before.first_seq + 1, "{}", home.kind());
        assert!(after.at >= before.at);
    }
}

/// OP-1
#[test]
fn given_a_system_clock_behind_what_was_recorded_then_time_stands_still_and_says_so() {
    let clock = SystemClock::default();
    assert_eq!(clock.behind(), Duration::ZERO);
    let recorded = clock.now().plus(Duration::from_secs(3_600));
    clock.raise(recorded);
    assert_eq!(clock.now(), recorded);
    assert!(clock.behind() > Duration::from_secs(3_500));
}

/// OP-1: two control processes on one data directory would each hand out the same numbers.
#[tokio::test]
async fn given_a_data_directory_in_use_then_a_second_control_plane_is_refused() {
    let home = Home::sqlite();
    let clock = || Arc::new(SystemClock::default());
    let first = Control::open(home.config(), clock()).await.unwrap();
    match Control::open(home.config(), clock()).await {
        Err(OpenError::NodeDirectory(refused)) => {
            let refused = refused.to_string();
            assert!(
                refused.contains(&home.data().display().to_string()),
                "{refused}"
            );
            assert!(refused.contains("another control process"), "{refused}");
        }
        other => panic!("{other:?}"),
    }
    drop(first);
    Control::open(home.config(), clock()).await.unwrap();
}

/// OP-1
#[tokio::test]
async fn given_a_database_file_that_is_none_then_the_message_names_it_and_what_to_do() {
    let home = Home::sqlite();
    fs::create_dir_all(home.data()).unwrap();
    fs::write(
        home.database_file(),
        b"this was never a database, and is longer than its header".repeat(99),
    )
    .unwrap();
    let error = Database::open(&home.location(), Arc::new(SystemClock::default()))
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    assert!(
        text.contains("sallyport.db") && text.contains("restore a backup"),
        "{text}"
    );
}

/// OP-1
#[tokio::test]
async fn given_a_store_of_a_newer_version_then_it_is_left_alone() {
    for home in Home::both() {
        drop(open(&home).await);
        home.tamper("INSERT INTO schema_migration (version, name) VALUES (9999, 'later')")
            .await;
        let error = Database::open(&home.location(), Arc::new(SystemClock::default()))
            .await
            .unwrap_err();
        assert!(
            matches!(error, StoreError::TooNew { found: 9_999, .. }),
            "{}: {error:?}",
            home.kind()
        );
    }
}

/// OP-1: values come back as they went in, absent ones too, on both databases.
#[tokio::test]
async fn given_values_of_every_type_then_they_are_read_as_written() {
    for home in Home::both() {
        let db = open(&home).await;
        let mut tx = db.begin(Actor::System).await.unwrap();
        tx.run(
            "INSERT INTO person (id, name, display_name, admin_roles, is_enabled, password_hash,
                 totp_secret, totp_last_step, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            vec![
                text("per_1"),
                text("zoë \u{1f511} '; DROP TABLE person; --"),
                text(""),
                text("[]"),
                Value::from(true),
                Value::Text(None),
                Value::Bytes(Some(vec![0, 0xff, 0x27])),
                Value::from(u64::MAX),
                Value::from(Timestamp::EPOCH),
            ],
        )
        .await
        .unwrap();
        tx.commit(Events::one(Event::new(EventName::PersonCreated, "per_1")))
            .await
            .unwrap();

        let mut reader = db.read().await.unwrap();
        let row = reader
            .optional("SELECT * FROM person", vec![])
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            row.text("name").unwrap(),
            "zoë \u{1f511} '; DROP TABLE person; --"
        );
        assert_eq!(row.text("display_name").unwrap(), "");
        assert!(row.flag("is_enabled").unwrap());
        assert_eq!(row.text_or_null("password_hash").unwrap(), None);
        assert_eq!(
            row.bytes_or_null("totp_secret").unwrap(),
            Some(vec![0, 0xff, 0x27])
        );
        assert_eq!(row.int("totp_last_step").unwrap(), i64::MAX);
        assert!(row.text("no_such_column").is_err());
        assert!(row.int("name").is_err(), "{}", home.kind());
    }
}
