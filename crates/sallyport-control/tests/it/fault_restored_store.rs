//! A store that was lost, or put back to an older state, beside a node that goes on: it is noticed, said
//! what to do, and accepted only by word of an operator.

use std::{fs, sync::Arc};

use sallyport_control::{
    audit::{self, AcceptError, IntegrateError},
    authn,
    kernel::{
        clock::SystemClock,
        control::{Control, OpenError},
    },
    lock,
};
use sallyport_core::event::{Actor, Event, EventName, Events};

use crate::support::home::Home;

async fn open(home: &Home) -> Control {
    Control::open(home.config(), Arc::new(SystemClock::default()))
        .await
        .unwrap()
}

/// Connections to SQLite close in threads that nobody waits for, and the last one removes its log by name:
/// that of a store which has taken the old one's place meanwhile, too.
async fn until_closed(home: &Home) {
    let data = fs::canonicalize(home.data()).unwrap();
    let is_open = || {
        let files = fs::read_dir("/proc/self/fd").unwrap().flatten();
        files
            .filter_map(|file| fs::read_link(file.path()).ok())
            .any(|file| file.starts_with(&data))
    };
    while is_open() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// Lives for a while: `entries` more entries, all of them signed.
async fn live(home: &Home, entries: usize) -> u64 {
    let control = open(home).await;
    let following = audit::start(&control).await.unwrap();
    for number in 0..entries {
        let event = Event::new(EventName::ControlStarted, format!("n-{number}"));
        let tx = control.db().begin(Actor::System).await.unwrap();
        tx.commit(Events::one(event)).await.unwrap();
    }
    following.finish().await;
    control.log().size()
}

async fn refusal(home: &Home) -> String {
    let control = open(home).await;
    match audit::start(&control).await {
        Err(IntegrateError::Log(fault)) => fault.to_string(),
        other => panic!("{}: {other:?}", home.kind()),
    }
}

const TABLES: [&str; 4] = [
    "audit_entry",
    "audit_head",
    "audit_tile",
    "audit_checkpoint",
];

/// Keeps the log as it is now within the store.
async fn save(home: &Home) {
    for table in TABLES {
        let sql = format!("CREATE TABLE saved_{table} AS SELECT * FROM {table}");
        home.tamper(sql.leak()).await;
    }
}

/// Puts the log back to what was saved: to the last byte a state that the store once had.
async fn put_back(home: &Home) {
    for table in TABLES {
        home.tamper(format!("DELETE FROM {table}").leak()).await;
        home.tamper(format!("INSERT INTO {table} SELECT * FROM saved_{table}").leak())
            .await;
    }
}

/// R1, L4, AU-1: an empty store where a log was written before is a lost store, not a new node: nobody
/// becomes its first owner.
#[tokio::test]
async fn given_an_empty_store_beside_the_key_of_a_log_then_it_is_refused_as_lost() {
    for home in Home::both() {
        live(&home, 3).await;
        home.empty().await;
        match Control::open(home.config(), Arc::new(SystemClock::default())).await {
            Err(OpenError::Log(IntegrateError::Log(fault))) => {
                let text = fault.to_string();
                for part in ["lost", "restore a backup", "an empty data directory"] {
                    assert!(text.contains(part), "{}: {text}", home.kind());
                }
            }
            other => panic!("{}: {other:?}", home.kind()),
        }

        // Without the old data directory it is a new node, on purpose.
        until_closed(&home).await;
        fs::remove_dir_all(home.data()).unwrap();
        let control = open(&home).await;
        assert!(authn::first_owner_code(&control).await.unwrap().is_some());
    }
}

/// R1: the key comes after the first entry, so a first start that was cut off is not taken for a loss.
#[tokio::test]
async fn given_a_first_start_that_was_cut_off_then_the_next_one_goes_on() {
    for home in Home::both() {
        let control = open(&home).await;
        drop(control);
        fs::remove_file(home.data().join("audit/log.key")).unwrap();
        let before_the_key = open(&home).await;
        drop(before_the_key);
        let before_the_first_checkpoint = open(&home).await;
        audit::start(&before_the_first_checkpoint)
            .await
            .unwrap()
            .finish()
            .await;
    }
}

/// R2, L4, AU-1: a store put back to an older state agrees with itself; the checkpoint kept beside the key
/// tells, and an operator who means it says so, on record, with everything locked.
#[tokio::test]
async fn given_a_store_put_back_then_it_is_refused_until_an_operator_accepts_it_on_record() {
    for home in Home::both() {
        let older = live(&home, 5).await;
        save(&home).await;
        let newer = live(&home, 300).await;
        put_back(&home).await;

        let text = refusal(&home).await;
        for part in [
            format!("{older} entries"),
            format!("{newer} were"),
            "sallyport operator accept-restore".to_owned(),
        ] {
            assert!(text.contains(&part), "{}: {text}", home.kind());
        }

        let control = open(&home).await;
        let accepted = audit::accept_restore(&control, "the disk died")
            .await
            .unwrap();
        assert_eq!(accepted.entries, older, "{}", home.kind());
        drop(control);

        let control = open(&home).await;
        audit::start(&control).await.unwrap().finish().await;
        let sql = "SELECT count(*) FROM audit_entry WHERE entry LIKE '%the disk died%audit.restore_accepted%'";
        assert_eq!(home.count(sql).await, 1, "{}", home.kind());
        let mut reader = control.db().read().await.unwrap();
        let locks = lock::in_force(&mut reader, control.now()).await.unwrap();
        assert_eq!(locks.len(), 1, "{}: everything is locked", home.kind());
        drop(reader);
        match audit::accept_restore(&control, "again").await {
            Err(AcceptError::NotOlder) => {}
            other => panic!("{}: {other:?}", home.kind()),
        }
    }
}

/// R2, L4: a store that went on from an older state is as long as the node remembers, and still another.
#[tokio::test]
async fn given_a_store_of_another_history_then_it_is_refused() {
    let home = Home::sqlite();
    live(&home, 5).await;
    save(&home).await;
    let kept = home.data().join("audit/log.checkpoint");
    let older = fs::read(&kept).unwrap();
    live(&home, 20).await;
    let newer = fs::read(&kept).unwrap();
    put_back(&home).await;
    fs::write(&kept, older).unwrap();
    live(&home, 40).await;
    fs::write(&kept, newer).unwrap();

    assert!(refusal(&home).await.contains("another history"));
}

/// R2: without the kept checkpoint nothing says that a store is the newest, so it is not taken for it.
#[tokio::test]
async fn given_no_kept_checkpoint_or_one_of_another_key_then_the_store_is_refused() {
    let home = Home::sqlite();
    live(&home, 5).await;
    let kept = home.data().join("audit/log.checkpoint");
    let good = fs::read_to_string(&kept).unwrap();

    fs::remove_file(&kept).unwrap();
    assert!(refusal(&home).await.contains("is missing"));
    for (from, to) in [("\n\n", "\n"), ("audit", "other")] {
        fs::write(&kept, good.replacen(from, to, 1)).unwrap();
        assert!(refusal(&home).await.contains("was not signed"), "{from:?}");
    }
    fs::write(&kept, good).unwrap();
    live(&home, 1).await;
}

/// R1: after an orderly stop the database file is the whole store, so that a copy of it is a copy.
#[tokio::test]
async fn given_an_orderly_stop_then_nothing_is_left_beside_the_database_file() {
    let home = Home::sqlite();
    let control = open(&home).await;
    let reader = control.db().read().await.unwrap();
    drop(reader);
    let entries = *control.db().log_size().borrow();
    control.db().close().await.unwrap();
    assert!(!control.db().is_writable());
    assert!(control.db().begin(Actor::System).await.is_err());

    let wal = home.database_file().with_extension("db-wal");
    assert_eq!(fs::metadata(&wal).map_or(0, |found| found.len()), 0);
    let copy = Home::sqlite();
    fs::create_dir_all(copy.data()).unwrap();
    fs::copy(home.database_file(), copy.database_file()).unwrap();
    let found = copy.count("SELECT count(*) FROM audit_entry").await;
    assert_eq!(u64::try_from(found).unwrap(), entries);
}
