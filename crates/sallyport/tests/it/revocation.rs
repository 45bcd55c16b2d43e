//! How fast access ends once it was taken away: from the API's answer to the last byte at the target.
//!
//! Every session writes into a file of its own at the target, without pause. The kernel notes when a file
//! was last written: that is the last byte the target accepted, whatever the clients believe.

use std::{
    fs,
    io::{self, Write as _},
    net::TcpListener,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use sallyport_testkit::{effort::rounds, port};

use crate::{
    forwarding::through_socks,
    waiting::{eventually, within},
    world::World,
};

/// What carries a session's bytes.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Exec,
    ExecOnTerminal,
    Shell,
    Sftp,
    /// `ssh -L`
    Local,
    /// `ssh -D`
    Dynamic,
    /// `ssh -L` to a Unix socket of the target.
    LocalSocket,
    /// `ssh -R` from a Unix socket of the target.
    RemoteSocket,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Exec,
        Self::ExecOnTerminal,
        Self::Shell,
        Self::Sftp,
        Self::Local,
        Self::Dynamic,
        Self::LocalSocket,
        Self::RemoteSocket,
    ];
}

/// What somebody types into: a program's input, or a connection that it forwards.
type Typed = Box<dyn io::Write + Send>;
type Keyboard = Arc<Mutex<Option<Typed>>>;

/// A session that writes.
struct Writing {
    kind: Kind,
    client: Child,
    keyboard: Keyboard,
    file: PathBuf,
}

impl Writing {
    fn start(world: &World, on: &str, kind: Kind, number: usize) -> Self {
        match kind {
            Kind::Local | Kind::Dynamic | Kind::LocalSocket | Kind::RemoteSocket => {
                Self::forward(world, on, kind, number)
            }
            _ => Self::run(world, on, kind, number),
        }
    }

    /// A client that has nothing but a forwarded connection, which ends in a file at the target.
    fn forward(world: &World, on: &str, kind: Kind, number: usize) -> Self {
        let file = world.sshd.directory().join(format!("forwarded-{number}"));
        let there = world.sshd.directory().join(format!("{number}.sock"));
        let near = world.alice.folder.join(format!("{number}.sock"));
        let (there_at, near_at) = (there.display(), near.display());
        let keyboard = Keyboard::default();
        let port = port::reserve().unwrap();
        let mut far_port = 0;
        let words = match kind {
            Kind::Local | Kind::Dynamic => {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                far_port = listener.local_addr().unwrap().port();
                let file = file.clone();
                std::thread::spawn(move || write_down(listener.accept().unwrap().0, &file));
                match kind {
                    Kind::Local => ["-L".to_owned(), format!("{near_at}:127.0.0.1:{far_port}")],
                    _ => ["-D".to_owned(), port.to_string()],
                }
            }
            Kind::LocalSocket => {
                let listener = UnixListener::bind(&there).unwrap();
                let file = file.clone();
                std::thread::spawn(move || write_down(listener.accept().unwrap().0, &file));
                ["-L".to_owned(), format!("{near_at}:{there_at}")]
            }
            _ => {
                let listener = UnixListener::bind(&near).unwrap();
                let typed = Arc::clone(&keyboard);
                std::thread::spawn(move || {
                    let stream = listener.accept().unwrap().0;
                    *typed.lock().unwrap() = Some(Box::new(stream));
                });
                ["-R".to_owned(), format!("{there_at}:{near_at}")]
            }
        };
        let mut ssh = world.ssh().client("ssh");
        ssh.arg("-N").args(words).args(["-l", on, "127.0.0.1"]);
        let client = ssh.stderr(Stdio::null()).spawn().unwrap();
        if let Kind::RemoteSocket = kind {
            let stream = eventually("the target listens", || UnixStream::connect(&there).ok());
            let file = file.clone();
            std::thread::spawn(move || write_down(stream, &file));
        } else {
            let stream = eventually("ssh takes connections", || -> Option<Typed> {
                Some(match kind {
                    Kind::Dynamic => Box::new(through_socks(port, far_port).ok()?),
                    _ => Box::new(UnixStream::connect(&near).ok()?),
                })
            });
            *keyboard.lock().unwrap() = Some(stream);
        }
        Self {
            kind,
            client,
            keyboard,
            file,
        }
    }

    fn run(world: &World, on: &str, kind: Kind, number: usize) -> Self {
        let name = format!("{}-{number}", on.replace('@', "-at-"));
        let file = world.sshd.directory().join(&name);
        let path = file.display();
        let mut first_line = String::new();
        let mut command = match kind {
            Kind::Sftp => {
                let mut sftp = world.ssh().client("sftp");
                sftp.args(["-q", "-B", "1024", "-l", "200", "-b", "-"]);
                sftp.arg(format!("{on}@127.0.0.1"));
                let source = world.alice.folder.join("endless.bin");
                if !source.exists() {
                    let content = fs::File::create(&source).unwrap();
                    content.set_len(1 << 30).unwrap();
                }
                first_line = format!("put endless.bin {path}\n");
                sftp
            }
            _ => {
                let mut ssh = world.ssh().client("ssh");
                ssh.args(["-l", on, "127.0.0.1"]);
                match kind {
                    Kind::Exec => ssh.arg(format!("cat > {path}")),
                    Kind::ExecOnTerminal => ssh.args(["-tt", &format!("cat > {path}")]),
                    _ => {
                        first_line = format!("exec cat > {path}\n");
                        ssh.arg("-tt")
                    }
                };
                ssh
            }
        };
        let mut client = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut keyboard = client.stdin.take().unwrap();
        keyboard.write_all(first_line.as_bytes()).unwrap();
        Self {
            kind,
            client,
            keyboard: Arc::new(Mutex::new(Some(Box::new(keyboard)))),
            file,
        }
    }

    fn is_writing(&self) -> bool {
        fs::metadata(&self.file).is_ok_and(|file| file.len() > 0)
    }

    fn last_written(&self) -> SystemTime {
        fs::metadata(&self.file).unwrap().modified().unwrap()
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

/// What a program at the target does with what it gets, at once.
fn write_down(mut from: impl io::Read, file: &Path) {
    let mut file = fs::File::create(file).unwrap();
    let mut bytes = [0; 4_096];
    // Cut: closed or reset.
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        file.write_all(&bytes[..count]).unwrap();
    }
}

/// Many sessions, and somebody who types into all of them all the time.
struct Crowd {
    sessions: Vec<Writing>,
    is_over: Arc<AtomicBool>,
}

impl Crowd {
    /// `count` sessions of every kind, all of which have reached the target.
    fn start(world: &World, on: &str, count: usize) -> Self {
        let mut sessions = Vec::new();
        for turn in 0..count {
            for (place, kind) in Kind::ALL.into_iter().enumerate() {
                let number = sessions_so_far() + turn * Kind::ALL.len() + place;
                sessions.push(Writing::start(world, on, kind, number));
            }
        }
        let keyboards: Vec<_> = sessions
            .iter()
            .filter(|one| !matches!(one.kind, Kind::Sftp))
            .map(|one| Arc::clone(&one.keyboard))
            .collect();
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                for keyboard in &keyboards {
                    if let Some(keyboard) = keyboard.lock().unwrap().as_mut() {
                        // Once it is cut off nobody takes it.
                        let _ = keyboard.write_all(b"a line of a person who types fast\n");
                    }
                }
                pause();
            }
        });
        for session in &sessions {
            eventually(
                &format!("a {:?} writes at the target", session.kind),
                || session.is_writing().then_some(()),
            );
        }
        Self { sessions, is_over }
    }

    /// Waits until every client has ended; how long after `answered` each target got its last byte.
    fn cut(mut self, answered: SystemTime) -> Vec<Duration> {
        // What ends by time ends when that has come, however fast everything before it went.
        let still = answered.duration_since(now()).unwrap_or_default();
        let patience = still.saturating_add(Duration::from_secs(20));
        for session in &mut self.sessions {
            within(patience, "the client is cut off", || {
                session.client.try_wait().unwrap()
            });
        }
        // The target's own programs have read what was on its way.
        pause();
        self.is_over.store(true, Ordering::Relaxed);
        self.sessions
            .iter()
            .map(|one| {
                let last = one.last_written();
                last.duration_since(answered).unwrap_or_default()
            })
            .collect()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// Files at the target are never used twice.
fn sessions_so_far() -> usize {
    use std::sync::atomic::AtomicUsize;

    static COUNT: AtomicUsize = AtomicUsize::new(0);
    COUNT.fetch_add(1_000, Ordering::Relaxed)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the rhythm of somebody who types, not a wait for anything"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

#[expect(
    clippy::disallowed_methods,
    reason = "compared with the times that the kernel notes"
)]
fn now() -> SystemTime {
    SystemTime::now()
}

/// R5, N1, AC-6: ended by hand, by a lock, with its grant, with its person, and by time: whatever a
/// session was doing, its target gets nothing more. Eight sessions for each cause at effort 1, 200 at
/// effort 25. Median and maximum hold always, the 99th percentile once there are a hundred samples.
#[test]
fn given_live_sessions_of_every_kind_when_access_ends_then_targets_get_nothing_more() {
    let world = World::new();
    let count = rounds(1);
    world.permit_forwarding("forward_local", "127.0.0.1:*");
    for kind in ["forward_local_socket", "forward_remote_socket"] {
        world.permit_forwarding(kind, "/tmp/*");
    }
    let mut figures: Vec<(&str, Vec<Duration>)> = Vec::new();

    // By time, while the others are tried: a grant that is just long enough to begin under.
    world.add_target("web-2", "medium");
    let words = ["account", "create", "root@web-2", "--engine", "ssh_ca"];
    world.olga.say(&words);
    let grant = world.grant("root@web-2", "45s");
    let shown = world.carol.json(&["grant", "show", &grant]);
    let until = shown["until"].as_str().unwrap().to_owned();
    let expiring = Crowd::start(&world, "root@web-2", 1);

    world.grant("root@web-1", "1h");
    let crowd = Crowd::start(&world, "root@web-1", count);
    let live = world
        .carol
        .list(&["session", "list", "--live", "--limit", "500"]);
    let mut answered = now();
    for session in live.iter().filter(|one| one["target"] == "web-1") {
        let id = session["id"].as_str().unwrap();
        world
            .bob
            .say(&["session", "end", id, "--reason", "that is enough"]);
        answered = now();
    }
    figures.push(("ended by hand", crowd.cut(answered)));

    let crowd = Crowd::start(&world, "root@web-1", count);
    world.carol.say(&[
        "lock",
        "add",
        "--target",
        "web-1",
        "--reason",
        "incident 12",
    ]);
    figures.push(("lock", crowd.cut(now())));
    let locks = world.carol.list(&["lock", "list"]);
    let id = locks[0]["id"].as_str().unwrap();
    world.carol.say(&["lock", "remove", id]);

    let ended = world.grant("root@web-1", "1h");
    let crowd = Crowd::start(&world, "root@web-1", count);
    for grant in world.bob.list(&["grant", "list", "--live"]) {
        let id = grant["id"].as_str().unwrap();
        if grant["target"] == "web-1" || id == ended {
            world.bob.say(&["grant", "end", id, "--reason", "done"]);
        }
    }
    figures.push(("grant ended", crowd.cut(now())));

    // Control's clock and the target's are those of this machine.
    let until: jiff::Timestamp = until.parse().unwrap();
    figures.push(("grant expired", expiring.cut(until.into())));

    world.grant("root@web-1", "1h");
    let crowd = Crowd::start(&world, "root@web-1", count);
    world
        .olga
        .say(&["person", "disable", "alice", "--reason", "left the company"]);
    figures.push(("person disabled", crowd.cut(now())));

    let mut all: Vec<Duration> = figures.iter().flat_map(|(_, took)| took.clone()).collect();
    all.sort();
    let rank = |of: &[Duration], part: usize| of[(of.len() * part).div_ceil(100).max(1) - 1];
    let mut shown = String::new();
    for (cause, took) in &mut figures {
        took.sort();
        let (median, most) = (rank(took, 50), rank(took, 100));
        shown += &format!(
            "{cause}: {} sessions, p50 {median:?}, max {most:?}\n",
            took.len()
        );
    }
    let (median, late, most) = (rank(&all, 50), rank(&all, 99), rank(&all, 100));
    shown += &format!(
        "all: {} sessions, p50 {median:?}, p99 {late:?}, max {most:?}",
        all.len()
    );
    // Figures are what this is for.
    eprintln!("{shown}");
    assert!(median <= Duration::from_secs(1), "{shown}");
    assert!(most <= Duration::from_secs(5), "{shown}");
    if all.len() >= 100 {
        assert!(late <= Duration::from_secs(1), "{shown}");
    }
}
