//! A recording that can no longer be written, in the middle of what stock clients do: the session ends at
//! once, the client fails with the reason, and the evidence says so.
//!
//! Only the recording's own file is broken (`strace` makes its writes and syncs fail), so that nothing else
//! can be what ends the session.
//!
//! Not here: recordings that cannot begin (`clients`), disks that are full or hang (`fault_disk`).

use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use crate::{
    clients::venv,
    node::{Role, finished, finished_within},
    ssh::said,
    waiting::eventually,
    world::{ROOT, World},
};

/// How long a session may outlive its recording (R6).
const SOON: Duration = Duration::from_secs(10);

/// What every transfer moves: more than any of them can in the time of a test. It takes no space.
const ENDLESS_BYTES: u64 = 8 << 30;

/// A client in the middle of something.
struct Row {
    name: &'static str,
    /// Starts it; returns it and a file that has bytes once it is in the middle.
    start: fn(&Stage) -> (Child, PathBuf),
    /// The operation that does not complete.
    kind: &'static str,
}

const ROWS: &[Row] = &[
    Row {
        name: "sftp put",
        start: sftp_put,
        kind: "file_upload",
    },
    Row {
        name: "scp get",
        start: scp_get,
        kind: "file_download",
    },
    Row {
        name: "rsync",
        start: rsync,
        kind: "exec",
    },
    Row {
        name: "forward",
        start: forward,
        kind: "forward_local",
    },
    Row {
        name: "git clone",
        start: git_clone,
        kind: "exec",
    },
];

struct Stage<'w> {
    world: &'w World,
    local: PathBuf,
    there: PathBuf,
    config: PathBuf,
}

impl<'w> Stage<'w> {
    fn set(world: &'w World, name: &str) -> Self {
        let folder = name.replace(' ', "-");
        let stage = Self {
            world,
            local: world.alice.folder.join(&folder),
            there: world.sshd.directory().join(&folder),
            config: world.ssh().config(&[ROOT]),
        };
        for folder in [&stage.local, &stage.there] {
            fs::create_dir(folder).unwrap();
            let endless = fs::File::create(folder.join("endless.bin")).unwrap();
            endless.set_len(ENDLESS_BYTES).unwrap();
        }
        stage
    }

    fn tool(&self, program: &str) -> Command {
        let mut command = self.world.ssh().tool(program);
        command.current_dir(&self.local);
        command
    }

    fn ssh(&self) -> String {
        format!("ssh -F {}", self.config.display())
    }

    fn remote(&self, name: &str) -> String {
        format!("web-1:{}", self.there.join(name).display())
    }
}

/// Ten megabytes a second: enough to record, and not enough to fill a disk while the machine is busy.
const KILOBITS: &str = "80000";

fn sftp_put(stage: &Stage) -> (Child, PathBuf) {
    let there = stage.there.join("put.bin");
    let line = format!("put endless.bin {}\n", there.display());
    fs::write(stage.local.join("batch"), line).unwrap();
    let mut sftp = stage.tool("sftp");
    sftp.arg("-F").arg(&stage.config);
    sftp.args(["-q", "-l", KILOBITS, "-b", "batch", "web-1"]);
    (sftp.spawn().unwrap(), there)
}

fn scp_get(stage: &Stage) -> (Child, PathBuf) {
    let mut scp = stage.tool("scp");
    scp.arg("-F").arg(&stage.config);
    scp.args(["-q", "-l", KILOBITS]);
    scp.args([&stage.remote("endless.bin"), "got.bin"]);
    (scp.spawn().unwrap(), stage.local.join("got.bin"))
}

fn rsync(stage: &Stage) -> (Child, PathBuf) {
    let mut rsync = stage.tool("rsync");
    rsync.args(["--inplace", "--whole-file", "--bwlimit=10m", "-e"]);
    rsync.args([&stage.ssh(), "endless.bin", &stage.remote("put.bin")]);
    (rsync.spawn().unwrap(), stage.there.join("put.bin"))
}

fn forward(stage: &Stage) -> (Child, PathBuf) {
    let (near, there) = (stage.local.join("near"), stage.there.join("got.bin"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let far = listener.local_addr().unwrap();
    let kept = there.clone();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut file = fs::File::create(kept).unwrap();
        // Cut: closed or reset.
        let _ = std::io::copy(&mut stream, &mut file);
    });
    let mut ssh = stage.tool("ssh");
    ssh.arg("-F").arg(&stage.config);
    ssh.args(["-N", "-L", &format!("{}:{far}", near.display()), "web-1"]);
    let ssh = ssh.spawn().unwrap();
    let mut stream = eventually("ssh takes connections", || UnixStream::connect(&near).ok());
    std::thread::spawn(move || {
        // A thousand lines and more a second, until nobody takes them.
        while stream.write_all(&[b'x'; 1_000]).is_ok() {
            pause();
        }
    });
    (ssh, there)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the rhythm of somebody who sends, not a wait for anything"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(1));
}

/// The target's half of `git clone`, slow once the content has begun.
const SLOW_PACK: &str = r#"
import os, subprocess, sys, time
pack = subprocess.Popen(["git", "upload-pack", *sys.argv[2:]], stdout=subprocess.PIPE)
sent = 0
while part := os.read(pack.stdout.fileno(), 8192):
    while part:
        count = os.write(1, part)
        part, sent = part[count:], sent + count
    if sent > 200_000:
        with open(sys.argv[1], "w") as begun:
            begun.write("begun")
        time.sleep(0.05)
"#;

fn git_clone(stage: &Stage) -> (Child, PathBuf) {
    let bare = stage.there.join("repository.git");
    let git = |words: &[&str]| {
        let mut git = stage.tool("git");
        git.env("GIT_SSH_COMMAND", stage.ssh())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .args(["-c", "user.name=Alice", "-c", "user.email=alice@localhost"])
            .args(words);
        git
    };
    let content: Vec<u8> = (0..2_000_000_u32)
        .flat_map(|n| {
            n.wrapping_mul(2_654_435_761)
                .rotate_left(n % 31)
                .to_le_bytes()
        })
        .collect();
    fs::create_dir(stage.local.join("work")).unwrap();
    fs::write(stage.local.join("work/content.bin"), content).unwrap();
    let path = bare.display().to_string();
    for words in [
        &["init", "-q", "-b", "main", "work"][..],
        &["-C", "work", "add", "content.bin"],
        &["-C", "work", "commit", "-q", "-m", "content"],
        &["clone", "-q", "--bare", "work", &path],
    ] {
        let made = finished(git(words).spawn().unwrap());
        assert!(made.status.success(), "{words:?}: {}", said(&made.stderr));
    }
    let (program, begun) = (stage.there.join("slow-pack"), stage.there.join("begun"));
    let python = venv("python3");
    fs::write(stage.there.join("slow.py"), SLOW_PACK).unwrap();
    let line = format!(
        "#!/bin/sh\nexec {python} {0}/slow.py {0}/begun \"$@\"\n",
        stage.there.display()
    );
    fs::write(&program, line).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let program = program.display().to_string();
    let from = stage.remote("repository.git");
    let clone = git(&["clone", "-q", "-u", &program, &from, "clone"]).spawn();
    (clone.unwrap(), begun)
}

fn has_bytes(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.len() > 0)
}

/// RE-12, R6, AU-6
#[test]
fn given_a_client_in_the_middle_of_something_when_the_recorder_fails_then_it_ends_with_the_reason()
{
    let world = World::new();
    world.grant(ROOT, "1h");
    world.permit_forwarding("forward_local", "127.0.0.1:*");
    for row in ROWS {
        let stage = Stage::set(&world, row.name);
        let (client, progress) = (row.start)(&stage);
        eventually(&format!("{} is under way", row.name), || {
            has_bytes(&progress).then_some(())
        });
        let id = world.live_session()["id"].as_str().unwrap().to_owned();
        let recording = world.recording_file(&id);
        let broken = world.node.break_file(Role::Gateway, &recording);
        let output = finished_within(SOON, client);
        drop(broken);
        assert!(!output.status.success(), "{} went on", row.name);
        let words = format!("{}{}", said(&output.stdout), said(&output.stderr));
        assert!(words.contains("(recorder-failed)"), "{}: {words}", row.name);

        let ended = world.ended_session(&id);
        assert_eq!(
            ended["end_reason"], "recorder-failed",
            "{}: {ended}",
            row.name
        );
        let cut = world.operation(&id, row.kind);
        assert_eq!(cut["outcome"], "interrupted", "{}: {cut}", row.name);
        assert_eq!(
            cut["sha256"],
            serde_json::Value::Null,
            "{}: {cut}",
            row.name
        );
        fs::remove_dir_all(&stage.there).unwrap();
        fs::remove_dir_all(&stage.local).unwrap();
    }
    // And with a recorder that works, so does the node.
    assert!(world.ssh().run(ROOT, "true").status.success());
}
