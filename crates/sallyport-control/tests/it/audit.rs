//! The running log: checkpoints follow, exports and proofs verify, a store that was changed does not
//! start.

use std::{fs, sync::Arc, time::Duration};

use sallyport_control::{
    audit::{self, IntegrateError},
    kernel::{clock::SystemClock, control::Control},
};
use sallyport_core::event::{Actor, Event, EventName, Events};
use sallyport_evidence::log::{
    checkpoint::{Checkpoint, VerifierKey},
    export::{ExportWriter, MemoryExport},
    proof::{ConsistencyProof, InclusionProof},
    tree::TreeHash,
    verify::verify,
};
use serde_json::Value;

use crate::support::{
    home::Home,
    node::{Node, Person},
};

async fn open(home: &Home) -> Control {
    Control::open(home.config(), Arc::new(SystemClock::default()))
        .await
        .unwrap()
}

async fn record(control: &Control, count: usize) {
    for number in 0..count {
        let tx = control.db().begin(Actor::System).await.unwrap();
        let event = Event::new(EventName::ControlStarted, format!("n-{number}"));
        tx.commit(Events::one(event)).await.unwrap();
    }
}

/// Records in one transaction, for many.
async fn record_at_once(control: &Control, count: usize) {
    let tx = control.db().begin(Actor::System).await.unwrap();
    let event = |number: usize| Event::new(EventName::ControlStarted, format!("n-{number}"));
    tx.commit(Events::one(event(0)).and_all((1..count).map(event)))
        .await
        .unwrap();
}

/// Records until the log has `size` entries.
async fn fill(control: &Control, size: u64) {
    let missing = size - *control.db().log_size().borrow();
    record_at_once(control, usize::try_from(missing).unwrap()).await;
}

async fn caught_up(control: &Control) {
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    while control.log().size() < *control.db().log_size().borrow() {
        tick.tick().await;
    }
}

/// AU-1: entries are covered by a signed checkpoint within a second.
#[tokio::test]
async fn given_new_entries_then_a_checkpoint_covers_them_within_a_second() {
    for home in Home::both() {
        let control = open(&home).await;
        let following = audit::start(&control).await.unwrap();
        let before = control.log().size();
        for _ in 0..3 {
            record(&control, 5).await;
            tokio::time::timeout(Duration::from_secs(1), caught_up(&control))
                .await
                .unwrap_or_else(|_| panic!("{}", home.kind()));
            assert_eq!(audit::lag(&control).await.unwrap(), Duration::ZERO);
        }
        record(&control, 1).await;
        following.finish().await;
        assert_eq!(
            control.log().size(),
            before + 16,
            "{}: the end covers everything",
            home.kind()
        );
        let signed = Checkpoint::open(
            control.log().checkpoint().as_bytes(),
            control.log().verifier_key(),
        )
        .unwrap();
        assert_eq!(signed.checkpoint.size, before + 16);
        let published = fs::read_to_string(home.data().join("audit/log.vkey")).unwrap();
        assert_eq!(published.trim(), control.log().verifier_key().to_string());
    }
}

/// AU-1: a restart goes on with the same tree, across the edges of tiles.
#[tokio::test]
async fn given_restarts_around_tile_edges_then_the_log_is_one_log() {
    for home in Home::both() {
        let mut states: Vec<(u64, TreeHash)> = Vec::new();
        for size in [2_u64, 255, 256, 257, 512, 812] {
            let control = open(&home).await;
            let following = audit::start(&control).await.unwrap();
            fill(&control, size).await;
            following.finish().await;
            let note = control.log().checkpoint();
            let signed = Checkpoint::open(note.as_bytes(), control.log().verifier_key())
                .unwrap()
                .checkpoint;
            assert_eq!(signed.size, size, "{}", home.kind());
            for (size, root) in &states {
                let proof = audit::consistency(&control, *size, signed.size)
                    .await
                    .unwrap();
                proof.verify(root, &signed.root).unwrap();
            }
            for index in [0, signed.size / 2, signed.size - 1] {
                let leaf = stored_leaf(&control, index).await;
                let proof = audit::inclusion(&control, index, signed.size)
                    .await
                    .unwrap();
                proof.verify(&leaf, &signed.root).unwrap();
            }
            states.push((signed.size, signed.root));
        }
    }
}

async fn stored_leaf(control: &Control, index: u64) -> TreeHash {
    use sallyport_control::kernel::statement::{Sql as _, Value};
    let mut reader = control.db().read().await.unwrap();
    let sql = "SELECT entry FROM audit_entry WHERE seq = $1";
    let row = reader
        .optional(sql, vec![Value::from(index)])
        .await
        .unwrap()
        .unwrap();
    TreeHash::of_leaf(row.text("entry").unwrap().as_bytes())
}

async fn auditor() -> (Node, Person) {
    let node = Node::start().await;
    let owner = node.owner().await;
    let audrey = node.person(&owner, "audrey", &[], &["auditor"]).await;
    (node, audrey)
}

/// AU-1: what an auditor reads over the API verifies offline with nothing but the public key.
#[tokio::test]
async fn given_an_export_over_the_api_then_it_verifies_offline() {
    let (node, audrey) = auditor().await;
    record_at_once(&node.control, 1_500).await;
    let following = audit::start(&node.control).await.unwrap();
    let pinned = node.ok(&audrey, "GET", "/v1/audit/checkpoint", None).await;
    following.finish().await;
    let key = VerifierKey::parse(pinned["verifier_key"].as_str().unwrap()).unwrap();
    let checkpoint = pinned["checkpoint"].as_str().unwrap();
    let size = Checkpoint::open(checkpoint.as_bytes(), &key)
        .unwrap()
        .checkpoint
        .size;

    let mut export = MemoryExport::default();
    let mut writer = ExportWriter::new(&mut export).unwrap();
    let mut next = 0;
    while next < size {
        let limit = (size - next).min(1_000);
        let path = format!("/v1/audit/entries?from={next}&limit={limit}");
        let page = node.ok(&audrey, "GET", &path, None).await;
        for entry in page["entries"].as_array().unwrap() {
            writer.append(entry.as_str().unwrap().as_bytes()).unwrap();
        }
        next = page["next"].as_u64().unwrap();
    }
    writer.finish(checkpoint, &key).unwrap();
    assert_eq!(verify(&export, &key, None).unwrap().checkpoint.size, size);
}

/// AU-1: proofs over the API verify against the signed root.
#[tokio::test]
async fn given_proofs_over_the_api_then_they_verify_and_what_is_not_signed_has_none() {
    let (node, audrey) = auditor().await;
    let following = audit::start(&node.control).await.unwrap();
    following.finish().await;
    let note = node.control.log().checkpoint();
    let signed = Checkpoint::open(note.as_bytes(), node.control.log().verifier_key())
        .unwrap()
        .checkpoint;

    let path = "/v1/audit/proofs/inclusion?index=3";
    let proof = node.ok(&audrey, "GET", path, None).await;
    let proof = InclusionProof {
        index: proof["index"].as_u64().unwrap(),
        size: proof["size"].as_u64().unwrap(),
        path: hashes(&proof["path"]),
    };
    proof
        .verify(&stored_leaf(&node.control, 3).await, &signed.root)
        .unwrap();
    let path = format!("/v1/audit/proofs/consistency?from=2&size={}", signed.size);
    let proof = node.ok(&audrey, "GET", &path, None).await;
    let proof = ConsistencyProof {
        from: proof["from"].as_u64().unwrap(),
        to: proof["size"].as_u64().unwrap(),
        path: hashes(&proof["path"]),
    };
    let two = audit::inclusion(&node.control, 0, 2).await.unwrap();
    let older = TreeHash::of_children(&stored_leaf(&node.control, 0).await, &two.path[0]);
    proof.verify(&older, &signed.root).unwrap();

    record_at_once(&node.control, 5).await;
    let beyond = signed.size;
    for path in [
        format!("/v1/audit/proofs/inclusion?index={beyond}"),
        format!("/v1/audit/proofs/inclusion?index=0&size={}", beyond + 1),
        format!("/v1/audit/proofs/consistency?from={}", beyond + 1),
        "/v1/audit/proofs/inclusion?index=-1".to_owned(),
        "/v1/audit/proofs/consistency?from=18446744073709551615".to_owned(),
    ] {
        let (status, answer) = node.call(&audrey.token, "GET", &path, None).await;
        assert_eq!(
            (status, answer["code"].as_str()),
            (400, Some("bad-field")),
            "{path}: {answer}"
        );
    }
}

fn hashes(path: &Value) -> Vec<TreeHash> {
    let hash =
        |text: &Value| TreeHash::from_slice(&hex::decode(text.as_str().unwrap()).unwrap()).unwrap();
    path.as_array().unwrap().iter().map(hash).collect()
}

/// AU-1: reading the log is on record; searching finds what is about somebody.
#[tokio::test]
async fn given_searches_then_they_find_by_event_and_by_whom_and_reading_in_order_is_recorded() {
    let (node, audrey) = auditor().await;
    let created = node
        .ok(
            &audrey,
            "GET",
            "/v1/audit/entries?event=person.created",
            None,
        )
        .await;
    let created: Vec<Value> = created["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| serde_json::from_str(entry.as_str().unwrap()).unwrap())
        .collect();
    assert_eq!(created.len(), 2);
    let id = created[1]["subject"].as_str().unwrap();
    let about = node
        .ok(
            &audrey,
            "GET",
            &format!("/v1/audit/entries?about={id}"),
            None,
        )
        .await;
    let about = about["entries"].as_array().unwrap();
    assert!(
        about.len() >= 4,
        "made, enrolled, password, code, signed in: {about:?}"
    );
    assert!(
        about
            .iter()
            .all(|entry| entry.as_str().unwrap().contains(id))
    );

    node.ok(&audrey, "GET", "/v1/audit/entries?from=1&limit=2", None)
        .await;
    let exported = node
        .ok(
            &audrey,
            "GET",
            "/v1/audit/entries?event=audit.exported",
            None,
        )
        .await;
    assert_eq!(exported["entries"].as_array().unwrap().len(), 1);
    for bad in [
        "limit=0",
        "limit=1001",
        "event=%25",
        "about=a%27b",
        "from=-1",
    ] {
        let (status, _) = node
            .call(
                &audrey.token,
                "GET",
                &format!("/v1/audit/entries?{bad}"),
                None,
            )
            .await;
        assert_eq!(status, 400, "{bad}");
    }
}

/// AU-1: whoever changes the store behind our back stops it, and the message names the place.
#[tokio::test]
async fn given_a_store_changed_behind_our_back_then_it_does_not_start_and_the_place_is_named() {
    for make in [Home::sqlite, Home::postgres] {
        for (damage, named) in [
            (
                "UPDATE audit_entry SET entry = replace(entry, 'n-', 'm-') WHERE seq = 7",
                "entry 7 is not",
            ),
            (
                "DELETE FROM audit_entry WHERE seq = 9",
                "entry 9 is missing",
            ),
            (
                "DELETE FROM audit_entry WHERE seq >= 290",
                "entry 290 is missing",
            ),
            (
                "UPDATE audit_entry SET seq = seq + 1000 WHERE seq = 0",
                "entry 0 is missing",
            ),
            (
                "UPDATE audit_tile SET hashes = (SELECT leaf FROM audit_entry WHERE seq = 1) WHERE level = 0",
                "`tile/0/000` is not",
            ),
            (
                "UPDATE audit_checkpoint SET size = 299",
                "299 entries was changed",
            ),
            (
                "UPDATE audit_checkpoint SET note = replace(note, 'audit', 'other')",
                "was not signed",
            ),
        ] {
            let home = make();
            let control = open(&home).await;
            let following = audit::start(&control).await.unwrap();
            fill(&control, 300).await;
            following.finish().await;
            drop(control);
            home.tamper(damage).await;

            let control = open(&home).await;
            match audit::start(&control).await {
                Err(IntegrateError::Log(fault)) => {
                    let text = fault.to_string();
                    assert!(text.contains(named), "{}: {damage}: {text}", home.kind());
                    assert!(text.contains("restore a backup"), "{text}");
                }
                other => panic!("{}: {damage}: {other:?}", home.kind()),
            }
        }
    }
}

/// AU-1: an entry and its leaf changed together agree with each other, not with what was signed.
#[tokio::test]
async fn given_an_entry_and_its_leaf_changed_together_then_the_signed_root_tells() {
    let home = Home::sqlite();
    let control = open(&home).await;
    let following = audit::start(&control).await.unwrap();
    fill(&control, 10).await;
    following.finish().await;
    drop(control);
    let forged = "{\"seq\":4}";
    let leaf = hex::encode(TreeHash::of_leaf(forged.as_bytes()).as_bytes());
    let sql = format!("UPDATE audit_entry SET entry = '{forged}', leaf = x'{leaf}' WHERE seq = 4");
    home.tamper(sql.leak()).await;
    let control = open(&home).await;
    match audit::start(&control).await {
        Err(IntegrateError::Log(fault)) => {
            assert!(fault.to_string().contains("first 10 entries"), "{fault}");
        }
        other => panic!("{other:?}"),
    }
}
