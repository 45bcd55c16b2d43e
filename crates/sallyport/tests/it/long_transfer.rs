//! Long transfers during which keys change again and again, on the client's connection and on the target's:
//! what was sent, what arrived and what was recorded have one hash.
//!
//! Nothing that is long is ever on a disk: a sparse file is sent, and a pipe takes what arrives. Only the old
//! protocol of `scp` writes into a pipe; `sftp` moves less, through files.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use sallyport_testkit::effort::rounds;

use crate::{
    clients::sha256,
    node::{Setup, finished, finished_within},
    ssh::said,
    waiting::{eventually, timed},
    world::{ROOT, World},
};

/// How much is moved each way at effort 1; 10 GiB at effort 320.
const MIB: usize = 32;
/// Keys change so many times at least, each way and on each connection.
const REKEYS: usize = 20;
/// They change after so many KiB at the latest.
const LIMIT_KIB_MAX: usize = 64 * 1_024;
/// Pieces of the content that are random; what is between them is a hole.
const PIECES: usize = 64;

/// What a client and an `sshd` log at every change of keys.
const CHANGED: &str = "SSH2_MSG_NEWKEYS received";

/// Makes a file of which little takes space, and no two pieces are alike.
fn sparse(path: &Path, mib: usize) {
    let file = File::create(path).unwrap();
    let mut random = File::open("/dev/urandom").unwrap();
    let bytes = u64::try_from(mib).unwrap() << 20;
    file.set_len(bytes).unwrap();
    for piece in 0..PIECES {
        let mut content = [0; 64 * 1024];
        random.read_exact(&mut content).unwrap();
        let at = bytes / u64::try_from(PIECES).unwrap() * u64::try_from(piece).unwrap();
        file.write_all_at(&content, at).unwrap();
    }
}

/// A pipe with a name, and a program that hashes what comes out of it.
fn hashing(pipe: &Path) -> Child {
    let made = Command::new("mkfifo").arg(pipe).status().unwrap();
    assert!(made.success());
    Command::new("sha256sum")
        .arg(pipe)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// GW-1, RE-14: 32 MiB each way at effort 1, 10 GiB at effort 320, with 20 changes of keys and more each
/// way on both connections.
#[test]
fn given_keys_that_change_all_the_time_when_much_is_moved_then_every_hash_is_the_same() {
    let mib = rounds(MIB);
    let limit_kib = LIMIT_KIB_MAX.min(mib * 1_024 / (REKEYS + 10));
    let limit = format!("{limit_kib}K");
    let world = World::with(Setup {
        target: vec!["LogLevel DEBUG1".to_owned(), format!("RekeyLimit {limit}")],
        ..Setup::default()
    });
    world.grant(ROOT, "4h");
    let there = world.sshd.directory().to_owned();
    let (source, sink) = (there.join("content.bin"), there.join("sink"));
    sparse(&source, mib);
    let (sent, hashed) = timed(|| sha256(&source));
    let near = world.alice.folder.join("near");
    let patience = Duration::from_secs(60 + u64::try_from(mib).unwrap());
    let mut figures = format!("{mib} MiB each way; hashing it alone takes {hashed:?}\n");
    for (kind, pipe) in [("file_upload", &sink), ("file_download", &near)] {
        let hash = hashing(pipe);
        let logged = world.sshd.log().unwrap().matches(CHANGED).count();
        let mut scp = world.ssh().tool("scp");
        scp.arg("-F").arg(world.ssh().config(&[ROOT]));
        scp.args(["-O", "-v", "-o", &format!("RekeyLimit={limit}")]);
        scp.args(["-o", "Ciphers=aes256-gcm@openssh.com"]);
        let far = |path: &Path| format!("web-1:{}", path.display());
        match kind {
            "file_upload" => scp.arg(&source).arg(far(pipe)),
            _ => scp.arg(far(&source)).arg(pipe),
        };
        let (output, took) = timed(|| finished_within(patience, scp.spawn().unwrap()));
        let complaint = said(&output.stderr);
        assert!(output.status.success(), "{complaint}");
        let arrived = said(&finished(hash).stdout);
        assert!(arrived.starts_with(&sent), "{kind}: {arrived}");

        let session = world.newest_session();
        let id = session["id"].as_str().unwrap();
        world.ended_session(id);
        let moved = world.operation(id, kind);
        assert_eq!(moved["sha256"], sent.as_str(), "{moved}");
        assert_eq!(moved["size_bytes"], mib << 20, "{moved}");
        let words = ["recording", "export", id, "--format", "commands"];
        let recorded = world.carol.say(&words);
        assert!(recorded.contains(&sent), "{recorded}");
        eventually("the recording is verified", || {
            let verified = world.carol.attempt(&["recording", "verify", id]);
            (verified.code == 0).then_some(())
        });
        let by_client = complaint.matches(CHANGED).count();
        let by_target = world.sshd.log().unwrap().matches(CHANGED).count() - logged;
        assert!(by_client >= REKEYS, "client: {by_client} changes of keys");
        assert!(by_target >= REKEYS, "target: {by_target} changes of keys");
        let rate = f64::from(u32::try_from(mib).unwrap()) / took.as_secs_f64();
        figures += &format!(
            "{kind}: {took:?}, {rate:.0} MiB/s, keys changed {by_client} times at the client and {by_target} \
             times at the target\n"
        );
    }
    // Figures are what this is for.
    eprintln!("{figures}sha256 at client, target and in the recording: {sent}");
}

/// GW-1, RE-14: the same over `sftp`, through files and on one connection.
#[test]
fn given_keys_that_change_all_the_time_when_sftp_moves_files_then_every_hash_is_the_same() {
    let world = World::new();
    world.grant(ROOT, "1h");
    let (up, back) = ("content.bin", "back.bin");
    sparse(&world.alice.folder.join(up), MIB / 2);
    let there = world.sshd.directory().join("there.bin");
    let batch = world.alice.folder.join("batch");
    let mut file = File::create(batch).unwrap();
    write!(file, "put {up} {0}\nget {0} {back}\n", there.display()).unwrap();
    let mut sftp = world.ssh().client("sftp");
    sftp.args(["-v", "-o", "RekeyLimit=512K", "-b", "batch"]);
    sftp.arg(format!("{ROOT}@127.0.0.1"));
    let output = finished(sftp.spawn().unwrap());
    let complaint = said(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    let changes = complaint.matches(CHANGED).count();
    assert!(changes >= REKEYS, "keys changed {changes} times only");

    let sent = sha256(&world.alice.folder.join(up));
    assert_eq!(sha256(&there), sent);
    assert_eq!(sha256(&world.alice.folder.join(back)), sent);
    fs::remove_file(there).unwrap();
    let session = world.newest_session();
    let id = session["id"].as_str().unwrap();
    world.ended_session(id);
    for kind in ["file_upload", "file_download"] {
        let moved = world.operation(id, kind);
        assert_eq!(moved["sha256"], sent.as_str(), "{moved}");
        assert_eq!(moved["size_bytes"], (MIB / 2) << 20, "{moved}");
    }
}
