//! How an editor works remotely (VS Code Remote and its like), with a stock `ssh`: a script over the input of
//! a command starts a server on the target and says its port; the editor then opens connections to it through
//! the same `ssh`, several at once, as long as the command runs.
//!
//! The three tests are the columns of the matrix in `clients`: policy permits, refuses, nothing can be
//! recorded.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    path::PathBuf,
    time::Duration,
};

use sallyport_testkit::port;

use crate::{
    clients::venv,
    forwarding::through_socks,
    node::Role,
    ssh::Live,
    waiting::eventually,
    world::{ROOT, World},
};

/// Connections at one time. VS Code has a handful.
const CONNECTIONS: usize = 6;

/// The server: says its port, then answers every connection with what it gets, and keeps a copy.
const SERVER: &str = r#"
import socket, sys, threading
folder = sys.argv[1]
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
def serve(connection, number):
    with open(f"{folder}/got-{number}", "wb") as kept:
        while part := connection.recv(65536):
            kept.write(part)
            connection.sendall(part)
    connection.close()
number = 0
while True:
    connection, _ = listener.accept()
    threading.Thread(target=serve, args=(connection, number), daemon=True).start()
    number += 1
"#;

/// An editor that has its server.
struct Editor {
    ssh: Live,
    /// Where `ssh` takes connections.
    socks: u16,
    /// The server's port at the target.
    port: u16,
    /// The server's folder at the target.
    there: PathBuf,
    /// What `ssh` itself logged.
    log: PathBuf,
}

impl Editor {
    fn start(world: &World, more: &[&str]) -> Self {
        let there = world.sshd.directory().join("editor");
        fs::create_dir_all(&there).unwrap();
        let socks = port::reserve().unwrap();
        let log = world.alice.folder.join("ssh.log");
        let mut ssh = world.ssh().client("ssh");
        ssh.args(["-T", "-D", &socks.to_string()])
            .args(more)
            .arg("-E")
            .arg(&log)
            .args(["-l", ROOT, "127.0.0.1", "bash -s"]);
        let mut ssh = Live::start(ssh);
        let folder = there.display();
        ssh.type_line(&format!(
            "cat > {folder}/server.py <<'END'\n{SERVER}\nEND\n\
             {} {folder}/server.py {folder} > {folder}/port < /dev/null &\n\
             trap \"kill $!\" EXIT\n\
             until [ -s {folder}/port ]; do sleep 0.05; done\n\
             echo \"listeningOn==$(cat {folder}/port)==\"",
            venv("python3")
        ));
        let line = ssh.until_line("listeningOn==");
        let port = line.split("==").nth(1).unwrap().parse().unwrap();
        Self {
            ssh,
            socks,
            port,
            there,
            log,
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = through_socks(self.socks, self.port).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        stream
    }

    /// The command that the server hangs on still answers.
    fn still_runs(&mut self) {
        self.ssh.type_line("echo still-$((40 + 2))");
        self.ssh.until_line("still-42");
    }

    fn logged(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// What connection `number` says.
fn said(number: usize) -> Vec<u8> {
    let size = 70_001 * (number + 1);
    (0..size)
        .map(|at| u8::try_from((at * (number + 3) + at / 251) % 256).unwrap())
        .collect()
}

/// GW-1, PO-3, R23: column one. Connections are carried at once beside the command that they depend on, each
/// an operation of its own, all of it one session; while all is quiet, keep-alives are answered.
#[test]
fn given_policy_permits_forwarding_when_an_editor_works_remotely_then_all_of_it_is_one_recorded_session()
 {
    let world = World::new();
    world.grant(ROOT, "1h");
    world.permit_forwarding("forward_local", "127.0.0.1:*");
    let alive = [
        "-vvv",
        "-o",
        "ServerAliveInterval=1",
        "-o",
        "ServerAliveCountMax=20",
    ];
    let mut editor = Editor::start(&world, &alive);

    // All of them are open before the first says much.
    let mut streams: Vec<TcpStream> = (0..CONNECTIONS).map(|_| editor.connect()).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        stream.write_all(&said(number)[..1]).unwrap();
        stream.read_exact(&mut [0; 1]).unwrap();
    }
    let talking: Vec<_> = streams
        .into_iter()
        .enumerate()
        .map(|(number, mut stream)| {
            std::thread::spawn(move || {
                let rest = said(number).split_off(1);
                let mut sending = stream.try_clone().unwrap();
                let sent = rest.clone();
                let sender = std::thread::spawn(move || {
                    sending.write_all(&sent).unwrap();
                    sending.shutdown(Shutdown::Write).unwrap();
                });
                let mut echo = Vec::new();
                stream.read_to_end(&mut echo).unwrap();
                sender.join().unwrap();
                assert!(echo == rest, "connection {number} got something else back");
            })
        })
        .collect();
    editor.still_runs();
    for talk in talking {
        talk.join().unwrap();
    }
    // A refusal is the sign of life (RFC 4254 section 4; OpenSSH's PROTOCOL).
    let asked = editor.logged().matches("send packet: type 80").count();
    eventually("signs of life are asked for and given", || {
        let log = editor.logged();
        let answered = log.matches("receive packet: type 82").count()
            + log.matches("receive packet: type 81").count();
        (answered >= asked + 2).then_some(())
    });
    editor.still_runs();
    let (port, there) = (editor.port, editor.there.clone());
    let (status, complaint) = editor.ssh.end();
    assert!(status.success(), "{complaint}");

    let mut got: Vec<Vec<u8>> = (0..CONNECTIONS)
        .map(|number| fs::read(there.join(format!("got-{number}"))).unwrap())
        .collect();
    got.sort_by_key(Vec::len);
    let bytes: usize = got.iter().map(Vec::len).sum();
    let sent: Vec<Vec<u8>> = (0..CONNECTIONS).map(said).collect();
    assert!(got == sent, "the target got something else");
    let sessions = world.carol.list(&["session", "list", "--all"]);
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    let id = sessions[0]["id"].as_str().unwrap();
    let ended = world.ended_session(id);
    let carried = u64::try_from(bytes).unwrap();
    assert!(ended["bytes_up"].as_u64().unwrap() > carried, "{ended}");
    assert!(ended["bytes_down"].as_u64().unwrap() > carried, "{ended}");
    eventually("every connection is on record", || {
        let operations = world.carol.list(&["session", "operations", id]);
        let of_kind = |kind: &str| {
            let is_done =
                |one: &&serde_json::Value| one["kind"] == kind && one["outcome"] == "completed";
            operations.iter().filter(is_done).count()
        };
        let destination = format!("127.0.0.1:{port}");
        let goes_there = |one: &serde_json::Value| {
            one["kind"] != "forward_local" || one["detail"] == destination.as_str()
        };
        assert!(operations.iter().all(goes_there), "{operations:?}");
        (of_kind("forward_local") == CONNECTIONS && of_kind("exec") == 1).then_some(())
    });
    let verified = world.carol.json(&["recording", "verify", id]);
    assert_eq!(verified["is_verified"], true, "{verified}");
}

/// GW-1, F4, PO-9: column two. The server starts, a connection to it is refused with the reason, nothing of
/// it reaches the server, and the command goes on.
#[test]
fn given_policy_permits_no_forwarding_when_an_editor_works_remotely_then_the_connection_is_refused_and_the_command_goes_on()
 {
    let world = World::new();
    world.grant(ROOT, "1h");
    let mut editor = Editor::start(&world, &[]);
    let is_answered = through_socks(editor.socks, editor.port).is_ok_and(|mut stream| {
        let _ = stream.write_all(b"hello");
        stream.read(&mut [0; 1]).is_ok_and(|count| count > 0)
    });
    assert!(!is_answered);
    eventually("the person reads why", || {
        editor.logged().contains("(not-permitted)").then_some(())
    });
    editor.still_runs();
    assert!(
        !editor.there.join("got-0").exists(),
        "the server was reached"
    );
    let (status, complaint) = editor.ssh.end();
    assert!(status.success(), "{complaint}");

    let id = world.newest_session()["id"].as_str().unwrap().to_owned();
    let refused = world.operation(&id, "forward_local");
    assert_eq!(refused["outcome"], "refused", "{refused}");
    assert_eq!(refused["reason"], "not-permitted", "{refused}");
    world.ended_session(&id);
    assert_eq!(world.operation(&id, "exec")["outcome"], "completed");
}

/// RE-12, R6: column three. The recorder fails while connections are open: all of them and the command end,
/// with a reason, and the evidence says so.
#[test]
fn given_the_recorder_fails_when_an_editor_works_remotely_then_everything_ends() {
    let world = World::new();
    world.grant(ROOT, "1h");
    world.permit_forwarding("forward_local", "127.0.0.1:*");
    let mut editor = Editor::start(&world, &[]);
    let mut streams: Vec<TcpStream> = (0..3).map(|_| editor.connect()).collect();
    for stream in &mut streams {
        stream.write_all(b"open").unwrap();
        stream.read_exact(&mut [0; 4]).unwrap();
    }
    let id = world.live_session()["id"].as_str().unwrap().to_owned();
    let recording = world.recording_file(&id);
    let broken = world.node.break_file(Role::Gateway, &recording);
    // Something to record.
    editor.ssh.type_line("echo unrecorded");
    for mut stream in streams {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert_eq!(rest, b"");
    }
    let log = editor.log.clone();
    let (status, complaint) = editor.ssh.ended_within(Duration::from_secs(10));
    drop(broken);
    assert!(!status.success());
    let words = complaint + &fs::read_to_string(log).unwrap_or_default();
    assert!(words.contains("(recorder-failed)"), "{words}");
    let ended = world.ended_session(&id);
    assert_eq!(ended["end_reason"], "recorder-failed", "{ended}");
    for kind in ["forward_local", "exec"] {
        let operation = world.operation(&id, kind);
        assert_eq!(operation["outcome"], "interrupted", "{operation}");
    }
}
