//! Stock clients against policy: what each does where policy permits it, refuses it, or nothing can be
//! recorded.
//!
//! [`CLIENTS`] is the matrix: a row a client, a test a column. Every client is the program people have,
//! with the `ssh_config` that `docs/plugins/protocol/ssh.md` gives them, against a real `sshd`.
//!
//! Not here: forwarded connections; programs that judge what ours speaks (`interop`).

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use serde_json::Value;

use crate::{
    node::{finished, finished_within, folder_named},
    ssh::said,
    waiting::eventually,
    world::{ROOT, World},
};

/// A row: one client, doing a whole job.
struct Client {
    name: &'static str,
    /// Does the job, up and down where it moves anything.
    run: fn(&Stage) -> Output,
    /// What must be true after a job that succeeded.
    done: fn(&Stage, &Output),
    /// Kinds of operations that the job leaves on record, each completed.
    leaves: &'static [&'static str],
    /// Whether everything the job does passes over one session.
    is_one_session: bool,
    /// What policy refuses, in Cedar, and the kind of the operation that is then refused.
    refusal: (&'static str, &'static str),
}

const CLIENTS: &[Client] = &[
    Client {
        name: "ssh",
        run: ssh,
        done: |_, output| assert_eq!(said(&output.stdout), "ssh-42\n"),
        leaves: &["exec"],
        is_one_session: true,
        refusal: (r#"context.operation.detail like "echo ssh-*""#, "exec"),
    },
    Client {
        name: "scp",
        run: scp,
        done: moved_up_and_down,
        leaves: &["file_upload", "file_download"],
        is_one_session: false,
        refusal: (r#"context.operation.detail like "*/scp-*""#, "file_upload"),
    },
    Client {
        name: "sftp",
        run: sftp,
        done: moved_up_and_down,
        leaves: &["file_upload", "file_download"],
        is_one_session: true,
        refusal: (
            r#"context.operation.detail like "*/sftp-*""#,
            "file_download",
        ),
    },
    Client {
        name: "rsync",
        run: rsync,
        done: moved_up_and_down,
        leaves: &["exec"],
        is_one_session: false,
        refusal: (r#"context.operation.detail like "rsync --server*""#, "exec"),
    },
    Client {
        name: "git",
        run: git,
        done: pushed,
        leaves: &["exec"],
        is_one_session: false,
        // Reading goes on; writing is what is refused.
        refusal: (
            r#"context.operation.detail like "git-receive-pack *""#,
            "exec",
        ),
    },
    Client {
        name: "ansible",
        run: ansible,
        done: |stage, output| {
            assert!(said(&output.stdout).contains("changed=1"), "{output:?}");
            assert!(said(&output.stdout).contains("ok=2"), "{output:?}");
            same(&stage.local.join("up.bin"), &stage.there.join("up.bin"));
        },
        leaves: &["exec", "file_upload"],
        // Multiplexing works: a play is one connection, one decision, one recording.
        is_one_session: true,
        refusal: (r#"context.operation.detail like "*python3*""#, "exec"),
    },
    Client {
        name: "paramiko",
        run: |stage| python(stage, include_str!("clients/paramiko_client.py")),
        done: |stage, output| {
            assert_eq!(said(&output.stdout), "paramiko-42\n");
            moved_up_and_down(stage, output);
        },
        leaves: &["exec", "file_upload", "file_download"],
        is_one_session: true,
        refusal: (r#"context.operation.detail like "echo paramiko-*""#, "exec"),
    },
    Client {
        name: "asyncssh",
        run: |stage| python(stage, include_str!("clients/asyncssh_client.py")),
        done: |stage, output| {
            assert_eq!(
                said(&output.stdout),
                "asyncssh-41\nasyncssh-42\nasyncssh-43\n"
            );
            moved_up_and_down(stage, output);
        },
        leaves: &["exec", "file_upload", "file_download"],
        is_one_session: true,
        refusal: (r#"context.operation.detail like "echo asyncssh-*""#, "exec"),
    },
];

/// One cell of the matrix: a client in folders of its own.
struct Stage<'w> {
    world: &'w World,
    /// At the client.
    local: PathBuf,
    /// At the target.
    there: PathBuf,
    /// The client's `ssh_config`.
    config: PathBuf,
    /// Sessions that were there before.
    before: BTreeSet<String>,
}

impl<'w> Stage<'w> {
    fn set(world: &'w World, client: &Client) -> Self {
        let name = format!("{}-stage", client.name);
        let (local, there) = (
            world.alice.folder.join(&name),
            world.sshd.directory().join(&name),
        );
        fs::create_dir_all(&local).unwrap();
        fs::create_dir_all(&there).unwrap();
        let content: Vec<u8> = (0..300_007_u32)
            .flat_map(|n| n.wrapping_mul(n).rotate_left(7).to_le_bytes())
            .collect();
        fs::write(local.join("up.bin"), content).unwrap();
        Self {
            world,
            local,
            there,
            config: world.ssh().config(&[ROOT]),
            before: sessions(world),
        }
    }

    /// A tool that reads or is given the `ssh_config`.
    fn tool(&self, program: &str) -> Command {
        let mut command = self.world.ssh().tool(program);
        command.current_dir(&self.local);
        command
    }

    fn ssh(&self) -> String {
        format!("ssh -F {}", self.config.display())
    }

    fn sessions(&self) -> BTreeSet<String> {
        &sessions(self.world) - &self.before
    }

    /// Operations of the sessions that this cell made.
    fn operations(&self) -> Vec<Value> {
        self.sessions()
            .iter()
            .flat_map(|id| self.world.carol.list(&["session", "operations", id]))
            .collect()
    }
}

fn sessions(world: &World) -> BTreeSet<String> {
    world
        .carol
        .list(&["session", "list", "--limit", "500"])
        .iter()
        .map(|session| session["id"].as_str().unwrap().to_owned())
        .collect()
}

/// How long one client may take. Ansible starts a Python a dozen times, and test machines are busy.
const TOOL_PATIENCE: Duration = Duration::from_secs(240);

/// Runs commands one after the other until one fails; returns what all of them said.
fn in_turn(commands: impl IntoIterator<Item = Command>) -> Output {
    let mut whole: Option<Output> = None;
    for mut command in commands {
        let output = finished_within(TOOL_PATIENCE, command.spawn().unwrap());
        let so_far = match whole.take() {
            None => output,
            Some(before) => Output {
                status: output.status,
                stdout: [before.stdout, output.stdout].concat(),
                stderr: [before.stderr, output.stderr].concat(),
            },
        };
        if !so_far.status.success() {
            return so_far;
        }
        whole = Some(so_far);
    }
    whole.unwrap()
}

fn ssh(stage: &Stage) -> Output {
    let mut ssh = stage.tool("ssh");
    ssh.arg("-F").arg(&stage.config);
    ssh.args(["web-1", "echo ssh-$((40 + 2))"]);
    in_turn([ssh])
}

fn scp(stage: &Stage) -> Output {
    let there = format!("web-1:{}", stage.there.join("scp-there.bin").display());
    let copy = |from: &str, to: &str| {
        let mut scp = stage.tool("scp");
        scp.arg("-F").arg(&stage.config).args(["-q", from, to]);
        scp
    };
    in_turn([copy("up.bin", &there), copy(&there, "back.bin")])
}

fn sftp(stage: &Stage) -> Output {
    let there = stage.there.join("sftp-there.bin");
    let batch = stage.local.join("batch");
    // Policy refuses the way back alone, by its name.
    let text = format!("put up.bin {0}\nget {0} back.bin\n", there.display());
    fs::write(&batch, text).unwrap();
    let mut sftp = stage.tool("sftp");
    sftp.arg("-F").arg(&stage.config);
    sftp.args(["-q", "-b", "batch", "web-1"]);
    in_turn([sftp])
}

fn rsync(stage: &Stage) -> Output {
    let sync = |from: &str, to: &str| {
        let mut rsync = stage.tool("rsync");
        rsync.args(["-a", "-e", &stage.ssh(), from, to]);
        rsync
    };
    let there = format!("web-1:{}/", stage.there.display());
    in_turn([
        sync("up.bin", &there),
        sync(&format!("{there}up.bin"), "back.bin"),
    ])
}

fn git(stage: &Stage) -> Output {
    let bare = stage.there.join("repository.git").display().to_string();
    let git = |words: &[&str]| {
        let mut git = stage.tool("git");
        git.env("GIT_SSH_COMMAND", stage.ssh())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .args(["-c", "init.defaultBranch=main"])
            .args(["-c", "user.name=Alice", "-c", "user.email=alice@localhost"])
            .args(words);
        git
    };
    in_turn([
        git(&["init", "-q", "--bare", &bare]),
        git(&["clone", "-q", &format!("web-1:{bare}"), "clone"]),
        git(&["-C", "clone", "checkout", "-q", "-b", "main"]),
        git(&["--git-dir=clone/.git", "--work-tree=.", "add", "up.bin"]),
        git(&["-C", "clone", "commit", "-q", "-m", "content"]),
        git(&["-C", "clone", "push", "-q", "origin", "main"]),
        git(&["clone", "-q", &format!("web-1:{bare}"), "again"]),
    ])
}

fn pushed(stage: &Stage, _: &Output) {
    same(
        &stage.local.join("up.bin"),
        &stage.local.join("again/up.bin"),
    );
}

fn ansible(stage: &Stage) -> Output {
    let play = format!(
        "- hosts: all\n  gather_facts: false\n  tasks:\n    - ansible.builtin.ping:\n    - ansible.builtin.copy:\n        \
         src: {}\n        dest: {}/\n",
        stage.local.join("up.bin").display(),
        stage.there.display(),
    );
    fs::write(stage.local.join("play.yml"), play).unwrap();
    let inventory = format!(
        "web-1 ansible_python_interpreter={} ansible_remote_tmp={}\n",
        venv("python3"),
        stage.there.join("tmp").display()
    );
    fs::write(stage.local.join("inventory"), inventory).unwrap();
    let sharing = format!(
        "-F {} -o ControlMaster=auto -o ControlPersist=60s -o ControlPath={}",
        stage.config.display(),
        stage.world.alice.folder.join("cm-%C").display()
    );
    let mut ansible = stage.tool(&venv("ansible-playbook"));
    ansible
        .env("ANSIBLE_PIPELINING", "True")
        .env("ANSIBLE_SSH_ARGS", &sharing)
        .args(["-i", "inventory", "play.yml"]);
    let played = in_turn([ansible]);
    // Ansible leaves its connection open; a person's would close by itself.
    let mut leave = stage.tool("ssh");
    leave.args(sharing.split(' ')).args(["-O", "exit", "web-1"]);
    finished(leave.spawn().unwrap());
    played
}

fn python(stage: &Stage, program: &str) -> Output {
    let mut python = stage.tool(&venv("python"));
    python
        .args(["-W", "error::DeprecationWarning:__main__", "-c", program])
        .args([&stage.world.node.ssh_port.to_string(), ROOT])
        .arg(&stage.world.key)
        .arg("up.bin")
        .arg(stage.there.join("there.bin"))
        .arg("back.bin");
    in_turn([python])
}

/// A program of the prepared Python.
#[expect(
    clippy::disallowed_methods,
    reason = "tests have no configuration but their environment"
)]
pub(crate) fn venv(program: &str) -> String {
    let bin = std::env::var("SALLYPORT_TEST_VENV_BIN")
        .expect("SALLYPORT_TEST_VENV_BIN is set: run the tests with `cargo xtask test`");
    format!("{bin}/{program}")
}

fn moved_up_and_down(stage: &Stage, _: &Output) {
    same(&stage.local.join("up.bin"), &stage.local.join("back.bin"));
}

fn same(one: &Path, other: &Path) {
    let (one, other) = (fs::read(one).unwrap(), fs::read(other).unwrap());
    assert!(
        one == other,
        "{} and {} bytes differ",
        one.len(),
        other.len()
    );
}

/// Every file and folder under `folder`, with sizes: what a target has.
fn listing(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found: Vec<_> = crate::node::files_under(folder)
        .into_iter()
        .map(|path| (path.clone(), fs::metadata(&path).unwrap().len()))
        .collect();
    found.sort();
    found
}

/// GW-1, GW-13, RE-2: column one. The job is done, its content is equal on both sides, and every kind of
/// operation is on record as completed.
#[test]
fn given_policy_permits_when_a_stock_client_does_its_job_then_it_is_done_and_on_record() {
    let world = World::new();
    world.grant(ROOT, "1h");
    for client in CLIENTS {
        let stage = Stage::set(&world, client);
        let output = (client.run)(&stage);
        assert!(
            output.status.success(),
            "{}: {}\n{:#?}",
            client.name,
            all(&output),
            stage.operations()
        );
        (client.done)(&stage, &output);
        eventually("what it did is on record", || {
            let operations = stage.operations();
            let has = |kind: &&str| {
                operations
                    .iter()
                    .any(|one| one["kind"] == **kind && one["outcome"] == "completed")
            };
            client.leaves.iter().all(has).then_some(())
        });
        let opened = stage.sessions().len();
        assert_eq!(
            opened == 1,
            client.is_one_session,
            "{}: {opened} sessions",
            client.name
        );
    }
}

/// RE-2, RE-14: the list of what was done in an sftp session has its files, each way.
#[test]
fn given_an_sftp_session_when_its_commands_are_exported_then_its_files_are_listed() {
    let world = World::new();
    world.grant(ROOT, "1h");
    let client = CLIENTS.iter().find(|client| client.name == "sftp").unwrap();
    let stage = Stage::set(&world, client);
    assert!((client.run)(&stage).status.success());
    let id = world.newest_session()["id"].as_str().unwrap().to_owned();
    world.ended_session(&id);
    let export = ["recording", "export", &id, "--format", "commands"];
    let lines = world.carol.say(&export);
    let sha256 = sha256(&stage.local.join("up.bin"));
    let there = stage.there.join("sftp-there.bin").display().to_string();
    let moved: Vec<(Value, bool)> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|mut line| {
            let is_it = line["text"] == there.as_str()
                && line["sha256"] == sha256.as_str()
                && line["size_bytes"] == 300_007 * 4
                && line["outcome"] == "completed";
            (line["kind"].take(), is_it)
        })
        .collect();
    let expected = [("file_upload".into(), true), ("file_download".into(), true)];
    assert_eq!(moved, expected, "{lines}");
}

/// GW-13, PO-3, PO-9: column two. The job fails, its person reads the reason in the client, the refused
/// operation is on record, and the target has nothing of it.
#[test]
fn given_policy_refuses_when_a_stock_client_does_its_job_then_its_person_reads_why() {
    let world = World::new();
    world.grant(ROOT, "1h");
    let refusals: String = CLIENTS
        .iter()
        .map(|client| {
            let (condition, kind) = client.refusal;
            format!(
                "@id(\"refuse-{}\")\nforbid (principal, action == Action::\"operation.run\", resource)\nwhen {{ \
                 context.operation.kind == OperationKind::\"{kind}\" && {condition} }};\n",
                client.name
            )
        })
        .collect();
    world.add_policies("clients", &refusals);
    for client in CLIENTS {
        let stage = Stage::set(&world, client);
        let (_, kind) = client.refusal;
        let output = (client.run)(&stage);
        assert!(!output.status.success(), "{} was not refused", client.name);
        assert!(
            all(&output).contains("(forbidden)"),
            "{}: {}",
            client.name,
            all(&output)
        );
        let refused = eventually("the refusal is on record", || {
            let is_refused = |one: &Value| one["outcome"] == "refused" && one["kind"] == kind;
            stage.operations().into_iter().find(is_refused)
        });
        assert_eq!(refused["reason"], "forbidden", "{}: {refused}", client.name);
        if kind != "file_download" && client.name != "git" {
            assert_eq!(listing(&stage.there), [], "{}", client.name);
        }
        assert!(!stage.local.join("back.bin").exists(), "{}", client.name);
        assert!(!stage.local.join("again").exists(), "{}", client.name);
    }
}

/// RE-12, R6: column three. Nothing can be recorded, so nothing reaches the target; the person reads why
/// in the client, and the session that did not take place ended for that reason.
#[test]
fn given_nothing_can_be_recorded_when_a_stock_client_does_its_job_then_no_byte_reaches_the_target()
{
    let world = World::new();
    world.grant(ROOT, "1h");
    // A folder that is away stands for every reason why a recording cannot begin; being read-only
    // would not stop a test that runs as root.
    let recordings = folder_named(&world.node.data(), "recordings");
    let away = recordings.with_extension("away");
    fs::rename(&recordings, &away).unwrap();
    for client in CLIENTS {
        let stage = Stage::set(&world, client);
        let connections = world.sshd.connections();
        let output = (client.run)(&stage);
        assert!(!output.status.success(), "{} went on", client.name);
        assert!(
            all(&output).contains("(recorder-failed)"),
            "{}: {}",
            client.name,
            all(&output)
        );
        assert_eq!(world.sshd.connections(), connections, "{}", client.name);
        let ended = eventually("the session is closed", || {
            Some(world.newest_session()).filter(|session| session["state"] == "ended")
        });
        assert_eq!(ended["end_reason"], "recorder-failed", "{}", client.name);
        assert_eq!(ended["bytes_up"], 0, "{}", client.name);
    }
    fs::rename(&away, &recordings).unwrap();
    assert!(world.ssh().run(ROOT, "true").status.success());
}

/// GW-1: a process that ends its output before it ends tells its status all the same, to a client that has
/// nothing to send and closes the channel as soon as nothing more comes.
#[test]
fn given_a_command_that_ends_its_output_first_when_it_ends_then_the_client_has_its_status() {
    let world = World::new();
    world.grant(ROOT, "1h");
    let output = world
        .ssh()
        .run(ROOT, "echo said; exec >&- 2>&-; sleep 1; exit 7");
    assert_eq!(output.status.code(), Some(7), "{}", all(&output));
    assert_eq!(said(&output.stdout), "said\n");
}

pub(crate) fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    said(&output.stdout).split(' ').next().unwrap().to_owned()
}

fn all(output: &Output) -> String {
    format!("{}{}", said(&output.stdout), said(&output.stderr))
}
