//! File transfers with stock clients: every file is an operation with its direction, size and hash,
//! and policy decides each before it reaches the target.

use std::{fs, path::Path};

use aws_lc_rs::digest::{SHA256, digest};
use sallyport_core::{
    policy::Constraint,
    session::{EndReason, OperationKind, OperationOutcome},
};

use super::world::{PROMPTLY, Recorded, World, output, text, walk, within};
use crate::control::{PATIENCE, PERMIT_ALL};

fn content(size: usize) -> Vec<u8> {
    (0..size).map(|n| (n * 131 % 251) as u8).collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}

fn make(path: &Path, size: usize) -> Vec<u8> {
    let bytes = content(size);
    fs::write(path, &bytes).unwrap();
    bytes
}

/// GW-13, RE-14: sftp (what scp speaks today), legacy scp, both ways.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_goes_up_and_down_and_stands_in_the_evidence_with_its_hash() {
    for legacy in [false, true] {
        let world = World::new().await;
        let bytes = make(&world.path("local"), 1024 * 1024 + 17);
        let far = world.sshd.directory().join("far");
        let remote = world.remote(far.to_str().unwrap());
        let flags: &[&str] = if legacy { &["-O"] } else { &["-s"] };

        let up = output(world.client("scp").args(flags).args(["local", &remote])).await;
        assert!(up.status.success(), "{}", text(&up.stderr));
        assert!(fs::read(&far).unwrap() == bytes);
        let down = output(world.client("scp").args(flags).args([&remote, "back"])).await;
        assert!(down.status.success(), "{}", text(&down.stderr));
        assert!(fs::read(world.path("back")).unwrap() == bytes);

        for kind in [OperationKind::FileUpload, OperationKind::FileDownload] {
            let records = world.operations(kind, 1).await;
            assert_eq!(records.len(), 1);
            let record = &records[0];
            assert_eq!(record.outcome, OperationOutcome::Completed, "{record:?}");
            assert_eq!(record.size_bytes, Some(1024 * 1024 + 17));
            assert_eq!(record.sha256.as_deref(), Some(sha256(&bytes).as_str()));
            assert_eq!(record.operation.detail, far.to_str().unwrap());
        }
    }
}

/// GW-1
#[tokio::test(flavor = "multi_thread")]
async fn a_tree_goes_over_with_both_protocols() {
    for legacy in [false, true] {
        let world = World::new().await;
        fs::create_dir_all(world.path("tree/inner")).unwrap();
        make(&world.path("tree/one"), 5);
        make(&world.path("tree/inner/two"), 0);
        make(&world.path("tree/inner/three"), 70_000);
        let far = world.sshd.directory().join("tree");
        let remote = world.remote(far.to_str().unwrap());
        let flags: &[&str] = if legacy {
            &["-O", "-rp"]
        } else {
            &["-s", "-rp"]
        };
        let up = output(world.client("scp").args(flags).args(["tree", &remote])).await;
        assert!(up.status.success(), "{}", text(&up.stderr));
        assert_eq!(fs::read(far.join("inner/three")).unwrap().len(), 70_000);
        let down = output(world.client("scp").args(flags).args([&remote, "back"])).await;
        assert!(down.status.success(), "{}", text(&down.stderr));
        assert_eq!(
            fs::read(world.path("back/inner/three")).unwrap().len(),
            70_000
        );
        assert_eq!(fs::read(world.path("back/inner/two")).unwrap().len(), 0);
        let uploads = world.operations(OperationKind::FileUpload, 3).await;
        let three = far.join("inner/three");
        assert!(
            uploads
                .iter()
                .any(|record| record.operation.detail == three.to_str().unwrap()),
            "{uploads:?}"
        );
    }
}

/// GW-13: a refused direction never reaches the target, and the person hears why.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_direction_is_refused_for_each_file_and_the_other_goes_on() {
    for legacy in [false, true] {
        let world = World::with(|rules| {
            rules.constraints = vec![Constraint::FileTransfer {
                up: false,
                down: true,
            }];
        })
        .await;
        make(&world.path("local"), 100);
        let far = world.sshd.directory().join("far");
        let kept = world.sshd.directory().join("kept");
        make(&kept, 100);
        let flags: &[&str] = if legacy { &["-O"] } else { &["-s"] };

        let remote = world.remote(far.to_str().unwrap());
        let up = output(world.client("scp").args(flags).args(["local", &remote])).await;
        assert!(!up.status.success());
        assert!(text(&up.stderr).contains("upload-refused"), "{up:?}");
        assert!(!far.exists());
        let records = world.operations(OperationKind::FileUpload, 1).await;
        assert_eq!(records[0].outcome, OperationOutcome::Refused);
        assert_eq!(records[0].reason.as_deref(), Some("upload-refused"));

        let remote = world.remote(kept.to_str().unwrap());
        let down = output(world.client("scp").args(flags).args([&remote, "back"])).await;
        assert!(down.status.success(), "{}", text(&down.stderr));
    }
}

/// GW-13, PO-3: policy sees the path of every file and every change.
#[tokio::test(flavor = "multi_thread")]
async fn policy_decides_by_path_and_the_rest_of_the_conversation_goes_on() {
    let policy = format!(
        r#"{PERMIT_ALL}
        @id("no-secrets") forbid (principal, action == Action::"operation.run", resource)
        when {{ context.operation.detail like "*secret*" }};"#
    );
    let world = World::with(move |rules| rules.bundle = policy).await;
    let folder = world.sshd.directory().to_owned();
    make(&folder.join("secret"), 10);
    make(&folder.join("open"), 10);
    make(&world.path("new"), 10);
    let batch = format!(
        "cd {}\n-get secret\nget open\n-rm secret\nput new\nrename new newer\n-rename newer secret2\nmkdir made\nrmdir made\n",
        folder.display()
    );
    fs::write(world.path("batch"), batch).unwrap();
    let ran = output(
        world
            .client("sftp")
            .args(["-b", "batch", "root@web-1@127.0.0.1"]),
    )
    .await;
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    assert!(!world.path("secret").exists());
    assert!(world.path("open").exists());
    assert!(folder.join("secret").exists());
    assert!(folder.join("newer").exists());
    let changes = world.operations(OperationKind::FileChange, 5).await;
    let mut outcomes: Vec<_> = changes
        .iter()
        .map(|record| {
            let verb = record.operation.detail.split(' ').next().unwrap();
            (verb.to_owned(), record.outcome)
        })
        .filter(|(verb, _)| verb != "setstat")
        .collect();
    outcomes.sort_by(|a, b| a.0.cmp(&b.0));
    use OperationOutcome::{Completed, Refused};
    let completed = outcomes.iter().filter(|one| one.1 == Completed).count();
    let refused = outcomes.iter().filter(|one| one.1 == Refused).count();
    assert_eq!((completed, refused), (3, 2), "{outcomes:?}");
}

/// AC-6, GW-12: a transfer is cut like everything else, and what had moved is on record.
#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_in_flight_is_cut_and_on_record_as_interrupted() {
    let world = World::new().await;
    let far = world.sshd.directory().join("huge");
    // Sparse, and far more than moves before it is cut.
    fs::File::create(&far).unwrap().set_len(1 << 40).unwrap();
    let mut sftp = world
        .client("sftp")
        .args([world.remote(far.to_str().unwrap()).as_str(), "part"])
        .spawn()
        .unwrap();
    until_larger(&world.path("part"), 1024 * 1024).await;
    let ended = within(PROMPTLY, async {
        world
            .control
            .end_session(EndReason::EndedByOperator, "enough")
            .await;
        sftp.wait().await.unwrap()
    });
    assert!(!ended.await.success());
    let records = world.operations(OperationKind::FileDownload, 1).await;
    assert_eq!(records[0].outcome, OperationOutcome::Interrupted);
    assert!(records[0].size_bytes.unwrap() > 1024 * 1024);
    assert_eq!(records[0].sha256, None);
}

/// Waits until a file that somebody writes has more than `size_bytes`.
async fn until_larger(path: &Path, size_bytes: u64) {
    within(PATIENCE, async {
        while fs::metadata(path).map_or(0, |metadata| metadata.len()) <= size_bytes {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// GW-13: where policy says so, what moved is in the recording itself, and nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn given_policy_wants_content_then_the_recording_holds_it() {
    for constraints in [vec![Constraint::RecordingFileContent], Vec::new()] {
        let is_wanted = !constraints.is_empty();
        let world = World::with(|rules| rules.constraints = constraints).await;
        let (here, there) = (world.path("here"), world.path("there"));
        fs::write(&here, b"what moved and nothing else").unwrap();
        for protocol in [&[][..], &["-O"]] {
            let mut scp = world.client("scp");
            scp.args(protocol).arg(&here);
            let ran = output(scp.arg(world.remote(&there.display().to_string()))).await;
            assert!(ran.status.success(), "{ran:?}");
        }
        world.operations(OperationKind::FileUpload, 2).await;
        world
            .control
            .until(|told| (told.closed.len() == 2).then_some(()))
            .await;
        for recorded in walk(&world.path("gateway").join("recordings")) {
            let recorded = Recorded::read(&fs::read(recorded).unwrap());
            let is_kept = text(&recorded.input).contains("what moved and nothing else");
            assert_eq!(is_kept, is_wanted);
        }
    }
}
