//! Every feature of SSH that reaches a target, with stock clients: once where policy permits it, once where
//! it does not, once where nothing can be recorded.
//!
//! The rows are in [`ROWS`]. Each brings its feature into use the way a person would; the far end of a
//! forwarded connection is [`FarEnd`], which takes [`SAID`] and answers [`ANSWERED`]. What then holds is
//! the same for every row and stands in the three tests at the end.

use std::{
    net::TcpListener as StdTcpListener,
    path::PathBuf,
    process::{Output, Stdio},
};

use sallyport_core::session::{EndReason, OperationKind, OperationOutcome};
use sallyport_testkit::port;
use tempfile::TempDir;
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
        BufReader,
    },
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    process::{Child, Command},
    sync::watch,
};

use super::world::{World, output, text, within};
use crate::control::{PATIENCE, PERMIT_ALL, spawn};

/// What one side of a forwarded connection says, and what the other answers. More than one packet.
const SAID: &[u8] = &[b's'; 70_001];
const ANSWERED: &[u8] = &[b'a'; 90_001];

/// One feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    /// `ssh -W`: what ProxyJump and `nc` mode use.
    Stdio,
    /// `ssh -N -L`.
    Local,
    /// `ssh -N -D`, as a browser uses it.
    Dynamic,
    /// `ssh -N -L` to a Unix socket of the target.
    LocalSocket,
    /// `ssh -N -R`.
    Remote,
    /// `ssh -N -R` from a Unix socket of the target.
    RemoteSocket,
    /// `ssh -A`.
    Agent,
    /// `ssh -s`.
    Subsystem,
    /// `ssh -o SetEnv`.
    Environment,
    /// A command.
    Exec,
    /// A shell on a terminal.
    Shell,
    /// `sftp put`.
    Upload,
    /// `sftp get`.
    Download,
}

const ROWS: [Row; 13] = [
    Row::Stdio,
    Row::Local,
    Row::Dynamic,
    Row::LocalSocket,
    Row::Remote,
    Row::RemoteSocket,
    Row::Agent,
    Row::Subsystem,
    Row::Environment,
    Row::Exec,
    Row::Shell,
    Row::Upload,
    Row::Download,
];

/// Which way [`SAID`] goes, for rows that forward a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The client's side says it, the target's answers.
    In,
    /// The target's side says it, the client's answers.
    Out,
}

impl Row {
    fn kind(self) -> OperationKind {
        match self {
            Self::Stdio | Self::Local | Self::Dynamic => OperationKind::ForwardLocal,
            Self::LocalSocket => OperationKind::ForwardLocalSocket,
            Self::Remote => OperationKind::ForwardRemote,
            Self::RemoteSocket => OperationKind::ForwardRemoteSocket,
            Self::Agent => OperationKind::ForwardAgent,
            Self::Subsystem => OperationKind::Subsystem,
            Self::Environment => OperationKind::Environment,
            Self::Exec => OperationKind::Exec,
            Self::Shell => OperationKind::Shell,
            Self::Upload => OperationKind::FileUpload,
            Self::Download => OperationKind::FileDownload,
        }
    }

    /// What policies and evidence call it.
    fn detail(self, far: &FarEnd) -> String {
        match self {
            Self::Stdio | Self::Local | Self::Dynamic => format!("127.0.0.1:{}", far.port),
            Self::LocalSocket => far.path("far").display().to_string(),
            Self::Remote => "localhost:0".to_owned(),
            Self::RemoteSocket => far.path("listening").display().to_string(),
            Self::Agent => "auth-agent-req".to_owned(),
            Self::Subsystem => "reverse".to_owned(),
            Self::Environment => "EDITOR=vi".to_owned(),
            Self::Exec => "echo ran".to_owned(),
            Self::Shell => String::new(),
            Self::Upload => far.path("there").display().to_string(),
            Self::Download => far.path("here").display().to_string(),
        }
    }

    /// Whether it is off until a policy names it.
    fn is_feature(self) -> bool {
        !matches!(
            self,
            Self::Exec | Self::Shell | Self::Upload | Self::Download
        )
    }

    fn way(self) -> Option<Way> {
        match self {
            Self::Stdio | Self::Local | Self::Dynamic | Self::LocalSocket => Some(Way::In),
            Self::Remote | Self::RemoteSocket => Some(Way::Out),
            _ => None,
        }
    }

    /// Policies that permit it, and of the other features none.
    fn permitted(self, far: &FarEnd) -> String {
        if !self.is_feature() {
            return PERMIT_ALL.to_owned();
        }
        let condition = match self {
            // Each connection to the agent is an operation as well, and is called otherwise.
            Self::Agent => String::new(),
            _ => format!("&& context.operation.detail == \"{}\"", self.detail(far)),
        };
        format!(
            "{PERMIT_ALL} @id(\"it\") permit (principal, action == Action::\"feature.use\", resource)
               when {{ context.operation.kind == OperationKind::\"{}\" {condition} }};",
            self.kind().as_str(),
        )
    }

    /// Policies that do not, and the reason that is on record then.
    fn refused(self) -> (String, &'static str) {
        if self.is_feature() {
            return (PERMIT_ALL.to_owned(), "not-permitted");
        }
        let policies = format!(
            "{PERMIT_ALL} @id(\"no\") forbid (principal, action == Action::\"operation.run\", resource)
               when {{ context.operation.kind == OperationKind::\"{}\" }};",
            self.kind().as_str(),
        );
        (policies, "forbidden")
    }

    /// Uses the feature. Whether it worked.
    async fn attempt(self, scene: &Scene) -> bool {
        let port = scene.far.port;
        let far = format!("127.0.0.1:{port}");
        let near = scene.far.path("near").display().to_string();
        match self {
            Self::Stdio => {
                let mut ssh = scene.world.client("ssh");
                ssh.args(["-W", &far, "-l", "root@web-1", "127.0.0.1"]);
                let mut ssh = ssh.stdin(Stdio::piped()).spawn().unwrap();
                let (stdin, stdout) = (ssh.stdin.take().unwrap(), ssh.stdout.take().unwrap());
                converse(stdin, stdout).await
            }
            Self::Local | Self::LocalSocket => {
                let to = match self {
                    Self::Local => far,
                    _ => scene.far.path("far").display().to_string(),
                };
                let Some(ssh) = scene.forwarding(&["-L", &format!("{near}:{to}")]).await else {
                    return false;
                };
                let stream = UnixStream::connect(&near).await.unwrap();
                let (stdout, stdin) = stream.into_split();
                let worked = converse(stdin, stdout).await;
                drop(ssh);
                worked
            }
            Self::Dynamic => {
                let local = port::reserve().unwrap();
                let Some(ssh) = scene
                    .forwarding(&["-D", &format!("127.0.0.1:{local}")])
                    .await
                else {
                    return false;
                };
                let worked = converse_through_socks(local, port).await;
                drop(ssh);
                worked
            }
            Self::Remote => {
                let Some(mut ssh) = scene.forwarding(&["-R", &format!("0:{far}")]).await else {
                    return false;
                };
                let Some(line) = ssh.says(&["Allocated port", "failed for listen"]).await else {
                    return false;
                };
                let Some(port) = line.strip_prefix("Allocated port ") else {
                    return false;
                };
                let port: u16 = port.split(' ').next().unwrap().parse().unwrap();
                let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let (stdout, stdin) = stream.into_split();
                converse(stdin, stdout).await
            }
            Self::RemoteSocket => {
                let listening = scene.far.path("listening");
                let spec = format!("{}:{far}", listening.display());
                let Some(mut ssh) = scene.forwarding(&["-R", &spec]).await else {
                    return false;
                };
                let answer = ssh
                    .says(&["remote forward success", "remote forward failure"])
                    .await;
                if !answer.is_some_and(|line| line.contains("success")) {
                    return false;
                }
                let stream = UnixStream::connect(&listening).await.unwrap();
                let (stdout, stdin) = stream.into_split();
                converse(stdin, stdout).await
            }
            Self::Agent => {
                let agent = Agent::start(scene).await;
                let mut ssh = scene.world.ssh(&["-A"], &["ssh-add -L"]);
                let ran = output(ssh.env("SSH_AUTH_SOCK", &agent.socket)).await;
                text(&ran.stdout).contains(&agent.public_key)
            }
            Self::Subsystem => {
                let mut ssh = scene.world.ssh(&["-s"], &["reverse"]);
                let mut ssh = ssh.stdin(Stdio::piped()).spawn().unwrap();
                let mut stdin = ssh.stdin.take().unwrap();
                // Refused, nobody takes it.
                let _ = stdin.write_all(b"abc\n").await;
                drop(stdin);
                let ran = within(PATIENCE, ssh.wait_with_output()).await.unwrap();
                text(&ran.stdout) == "cba\n"
            }
            Self::Environment => {
                let ran = scene
                    .run(&["-o", "SetEnv=EDITOR=vi"], "echo \"editor: $EDITOR\"")
                    .await;
                text(&ran.stdout) == "editor: vi\n"
            }
            Self::Exec => text(&scene.run(&[], "echo ran").await.stdout) == "ran\n",
            Self::Shell => {
                let mut ssh = scene.world.ssh(&["-tt"], &[]);
                let mut ssh = ssh.stdin(Stdio::piped()).spawn().unwrap();
                let mut stdin = ssh.stdin.take().unwrap();
                let _ = stdin.write_all(b"echo $((6 * 7))ran; exit\n").await;
                let ran = within(PATIENCE, ssh.wait_with_output()).await.unwrap();
                text(&ran.stdout).contains("42ran")
            }
            Self::Upload | Self::Download => {
                let (here, there) = (scene.far.path("here"), scene.far.path("there"));
                std::fs::write(&here, SAID).unwrap();
                let back = scene.far.path("back");
                let command = match self {
                    Self::Upload => format!("put {} {}", here.display(), there.display()),
                    _ => format!("get {} {}", here.display(), back.display()),
                };
                std::fs::write(scene.far.path("batch"), command).unwrap();
                let mut sftp = scene.world.client("sftp");
                sftp.arg("-b").arg(scene.far.path("batch"));
                output(sftp.arg("root@web-1@127.0.0.1")).await;
                let moved = if self == Self::Upload { there } else { back };
                std::fs::read(moved).is_ok_and(|bytes| bytes == SAID)
            }
        }
    }
}

/// A gateway, a target that allows everything, and what is at the far end of connections.
struct Scene {
    world: World,
    far: FarEnd,
}

impl Scene {
    async fn start(policies: impl FnOnce(&FarEnd) -> String) -> Self {
        let far = FarEnd::start();
        let settings = [
            "AcceptEnv *",
            "StreamLocalBindUnlink yes",
            "Subsystem reverse /usr/bin/rev",
        ];
        let settings = settings.map(str::to_owned).to_vec();
        let world = World::with_target(settings, |rules| rules.bundle = policies(&far)).await;
        Self { world, far }
    }

    async fn run(&self, arguments: &[&str], command: &str) -> Output {
        output(&mut self.world.ssh(arguments, &[command])).await
    }

    /// `ssh -N` that has set up its forwards; nothing when it was not let in.
    async fn forwarding(&self, arguments: &[&str]) -> Option<Forwarding> {
        let mut ssh = Command::new("ssh");
        ssh.args(self.world.options())
            .args(["-o", "BatchMode=yes", "-o", "LogLevel=DEBUG1", "-N"])
            // Run once the client is let in and its forwards are set up.
            .args([
                "-o",
                "PermitLocalCommand=yes",
                "-o",
                "LocalCommand=echo ready",
            ])
            .args(arguments)
            .args(["-l", "root@web-1", "127.0.0.1"])
            .env_remove("SSH_AUTH_SOCK")
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut ssh = ssh.spawn().unwrap();
        let mut ready = [0; 6];
        let mut stdout = ssh.stdout.take().unwrap();
        let stderr = BufReader::new(ssh.stderr.take().unwrap());
        within(PATIENCE, stdout.read_exact(&mut ready)).await.ok()?;
        Some(Forwarding { ssh, stderr })
    }
}

/// A client without a channel of its own.
struct Forwarding {
    ssh: Child,
    stderr: BufReader<tokio::process::ChildStderr>,
}

impl Forwarding {
    /// The first line with one of these words in it; nothing when the client leaves without.
    async fn says(&mut self, words: &[&str]) -> Option<String> {
        within(PATIENCE, async {
            let mut line = String::new();
            while self.stderr.read_line(&mut line).await.unwrap() > 0 {
                if words.iter().any(|word| line.contains(word)) {
                    return Some(line);
                }
                line.clear();
            }
            None
        })
        .await
    }

    /// How the client leaves.
    async fn left(mut self) -> String {
        let mut words = String::new();
        within(PATIENCE, self.stderr.read_to_string(&mut words))
            .await
            .unwrap();
        within(PATIENCE, self.ssh.wait()).await.unwrap();
        words
    }
}

/// What a forwarded connection ends at: a port and a socket that take [`SAID`] and answer [`ANSWERED`].
struct FarEnd {
    port: u16,
    /// Its own files, and those of the clients.
    directory: TempDir,
    arrived: watch::Sender<Vec<u8>>,
}

impl FarEnd {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tcp = StdTcpListener::bind("127.0.0.1:0").unwrap();
        tcp.set_nonblocking(true).unwrap();
        let tcp = TcpListener::from_std(tcp).unwrap();
        let unix = UnixListener::bind(directory.path().join("far")).unwrap();
        let arrived = watch::Sender::new(Vec::new());
        let far = Self {
            port: tcp.local_addr().unwrap().port(),
            directory,
            arrived: arrived.clone(),
        };
        let of_tcp = arrived.clone();
        spawn(async move {
            while let Ok((stream, _)) = tcp.accept().await {
                take(stream, &of_tcp).await;
            }
        });
        spawn(async move {
            while let Ok((stream, _)) = unix.accept().await {
                take(stream, &arrived).await;
            }
        });
        far
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Waits until so many bytes have arrived.
    async fn has_taken(&self, bytes: usize) {
        let mut arrived = self.arrived.subscribe();
        let enough = arrived.wait_for(|arrived| arrived.len() >= bytes);
        within(PATIENCE, enough).await.unwrap();
    }

    fn arrived(&self) -> Vec<u8> {
        self.arrived.borrow().clone()
    }
}

async fn take(mut stream: impl AsyncRead + AsyncWrite + Unpin, arrived: &watch::Sender<Vec<u8>>) {
    let mut said = vec![0; 16 * 1024];
    let mut taken = 0;
    while taken < SAID.len() {
        match stream.read(&mut said).await {
            Ok(0) | Err(_) => return,
            Ok(read) => {
                taken += read;
                arrived.send_modify(|arrived| arrived.extend_from_slice(&said[..read]));
            }
        }
    }
    let _ = stream.write_all(ANSWERED).await;
    let _ = stream.shutdown().await;
}

/// Says [`SAID`]. Whether [`ANSWERED`] came back and nothing else, to the end.
async fn converse(mut to: impl AsyncWrite + Unpin, mut from: impl AsyncRead + Unpin) -> bool {
    within(PATIENCE, async {
        // Refused, the near end is closed under it.
        let _ = to.write_all(SAID).await;
        let mut answer = Vec::new();
        let _ = from.read_to_end(&mut answer).await;
        answer == ANSWERED
    })
    .await
}

async fn converse_through_socks(local: u16, port: u16) -> bool {
    let mut stream = TcpStream::connect(("127.0.0.1", local)).await.unwrap();
    let [high, low] = port.to_be_bytes();
    // RFC 1928: no authentication; connect to an IPv4 address, in an old spelling of it.
    stream.write_all(&[5, 1, 0]).await.unwrap();
    stream.read_exact(&mut [0; 2]).await.unwrap();
    let host = b"127.1";
    let mut request = vec![5, 1, 0, 3, 5];
    request.extend_from_slice(host);
    request.extend([high, low]);
    stream.write_all(&request).await.unwrap();
    if within(PATIENCE, stream.read_exact(&mut [0; 10]))
        .await
        .is_err()
    {
        return false;
    }
    let (from, to) = stream.into_split();
    converse(to, from).await
}

/// A stock agent that holds one key.
struct Agent {
    socket: PathBuf,
    public_key: String,
    _child: Child,
}

impl Agent {
    async fn start(scene: &Scene) -> Self {
        let socket = scene.far.path("agent");
        let mut child = Command::new("ssh-agent")
            .args(["-D", "-a"])
            .arg(&socket)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        // It says where it listens once it does.
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        within(PATIENCE, stdout.read_line(&mut line)).await.unwrap();
        let mut add = Command::new("ssh-add");
        add.arg("-q")
            .arg(&scene.world.person.private_path)
            .env("SSH_AUTH_SOCK", &socket);
        assert!(output(&mut add).await.status.success());
        Self {
            socket,
            public_key: scene.world.person.public_key.clone(),
            _child: child,
        }
    }
}

/// GW-1, PO-3, R23: what policy permits works, is on record under its name, and the recording holds what
/// passed, byte for byte in both directions.
#[tokio::test(flavor = "multi_thread")]
async fn given_policy_permits_then_it_works_and_every_byte_is_recorded() {
    for row in ROWS {
        let scene = Scene::start(|far| row.permitted(far)).await;
        assert!(row.attempt(&scene).await, "{row:?} does not work");

        let recorded = scene.world.recorded().await;
        // Asking for the agent and using it are two operations, and either may end first.
        let count = if matches!(row, Row::Agent) { 2 } else { 1 };
        let records = scene.world.operations(row.kind(), count).await;
        let detail = row.detail(&scene.far);
        let is_on_record = records.iter().any(|one| one.operation.detail == detail);
        assert!(is_on_record, "{row:?}: {records:?}");
        for record in &records {
            assert_ne!(
                record.outcome,
                OperationOutcome::Refused,
                "{row:?}: {record:?}"
            );
        }
        match row.way() {
            Some(Way::In) => {
                assert_eq!(scene.far.arrived(), SAID, "{row:?}");
                assert!(recorded.input == SAID, "{row:?}: {}", recorded.input.len());
                assert!(
                    recorded.output == ANSWERED,
                    "{row:?}: {}",
                    recorded.output.len()
                );
            }
            Some(Way::Out) => {
                assert_eq!(scene.far.arrived(), SAID, "{row:?}");
                assert!(
                    recorded.output == SAID,
                    "{row:?}: {}",
                    recorded.output.len()
                );
                assert!(
                    recorded.input == ANSWERED,
                    "{row:?}: {}",
                    recorded.input.len()
                );
            }
            None => {}
        }
    }
}

/// GW-1, F4: what policy does not permit does not work, nothing of it reaches the target, and that it was
/// tried is on record with why not.
#[tokio::test(flavor = "multi_thread")]
async fn given_policy_refuses_then_nothing_passes_and_the_attempt_is_on_record() {
    for row in ROWS {
        let (policies, reason) = row.refused();
        let scene = Scene::start(|_| policies).await;
        assert!(!row.attempt(&scene).await, "{row:?} works");

        let records = scene.world.operations(row.kind(), 1).await;
        let refused = &records[0];
        assert_eq!(refused.outcome, OperationOutcome::Refused, "{row:?}");
        assert_eq!(refused.operation.detail, row.detail(&scene.far), "{row:?}");
        assert_eq!(refused.reason.as_deref(), Some(reason), "{row:?}");
        assert_eq!(scene.far.arrived(), b"", "{row:?}");
    }
}

/// RE-12: where nothing can be recorded, nothing takes place.
#[tokio::test(flavor = "multi_thread")]
async fn given_nothing_can_be_recorded_then_nothing_takes_place() {
    for row in ROWS {
        let scene = Scene::start(|far| row.permitted(far)).await;
        std::fs::remove_dir_all(scene.world.path("gateway").join("recordings")).unwrap();
        assert!(!row.attempt(&scene).await, "{row:?} works");

        let closed = scene
            .world
            .control
            .until(|told| told.closed.first().cloned())
            .await;
        assert_eq!(closed.reason, EndReason::RecorderFailed, "{row:?}");
        assert_eq!(scene.far.arrived(), b"", "{row:?}");
        assert_eq!(scene.world.sshd.connections(), 0, "{row:?}");
    }
}

/// GW-1, F4: no policy can permit X11.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_policy_that_names_every_feature_then_x11_is_refused_all_the_same() {
    let everything = "@id(\"all\") permit (principal, action, resource);
         @id(\"features\") permit (principal, action == Action::\"feature.use\", resource);";
    let scene = Scene::start(|_| everything.to_owned()).await;
    let mut ssh = scene.world.ssh(&["-X"], &["echo \"display: $DISPLAY\""]);
    let ran = output(ssh.env("DISPLAY", "127.0.0.1:0")).await;
    assert_eq!(text(&ran.stdout), "display: \n", "{ran:?}");
    let records = scene.world.operations(OperationKind::Unsupported, 1).await;
    assert_eq!(records[0].operation.detail, "x11-req");
    assert_eq!(records[0].reason.as_deref(), Some("feature-refused"));
}

/// GW-12, K1, N1: a client that has nothing but forwarded connections has a session like any other: ended,
/// it is cut in the middle of a connection, in either direction, and told why.
#[tokio::test(flavor = "multi_thread")]
async fn given_only_forwarded_connections_then_the_end_of_the_session_cuts_them() {
    for row in [Row::Local, Row::Remote] {
        let scene = Scene::start(|far| row.permitted(far)).await;
        let far = format!("127.0.0.1:{}", scene.far.port);
        let near = scene.far.path("near");
        let (ssh, mut stream): (_, Box<dyn Duplex>) = match row {
            Row::Local => {
                let spec = format!("{}:{far}", near.display());
                let ssh = scene.forwarding(&["-L", &spec]).await.unwrap();
                (ssh, Box::new(UnixStream::connect(&near).await.unwrap()))
            }
            _ => {
                let mut ssh = scene
                    .forwarding(&["-R", &format!("0:{far}")])
                    .await
                    .unwrap();
                let line = ssh.says(&["Allocated port"]).await.unwrap();
                let port = line.strip_prefix("Allocated port ").unwrap();
                let port: u16 = port.split(' ').next().unwrap().parse().unwrap();
                let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                (ssh, Box::new(stream))
            }
        };
        // Less than the far end waits for: the connection stays open.
        stream.write_all(&SAID[..1_000]).await.unwrap();
        scene.far.has_taken(1_000).await;
        scene.world.control.end_session(EndReason::Locked, "").await;
        let mut rest = Vec::new();
        // Cut: closed or reset.
        let _ = within(PATIENCE, stream.read_to_end(&mut rest)).await;
        assert_eq!(rest, b"");
        let words = ssh.left().await;
        assert!(words.contains("(locked)"), "{row:?}: {words}");
        let closed = scene
            .world
            .control
            .until(|told| told.closed.first().cloned())
            .await;
        assert_eq!(closed.reason, EndReason::Locked);
        assert!(closed.is_recording_complete);
    }
}

/// GW-1: through a shared connection a place to listen is added and taken away again: what comes in between
/// is carried, what comes afterwards finds nobody.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_shared_connection_then_listening_begins_and_ends_on_request() {
    let row = Row::RemoteSocket;
    let scene = Scene::start(|far| row.permitted(far)).await;
    let control_path = format!("ControlPath={}", scene.far.path("master").display());
    let master = scene
        .forwarding(&["-M", "-o", &control_path])
        .await
        .unwrap();
    let listening = scene.far.path("listening");
    let spec = format!("{}:127.0.0.1:{}", listening.display(), scene.far.port);
    let ask = async |what: &str| {
        let asking = ["-O", what, "-R", &spec, "-o", &control_path];
        output(&mut scene.world.ssh(&asking, &[])).await
    };
    let begun = ask("forward").await;
    assert!(begun.status.success(), "{begun:?}");
    let stream = UnixStream::connect(&listening).await.unwrap();
    let (from, to) = stream.into_split();
    assert!(converse(to, from).await);
    let ended = ask("cancel").await;
    assert!(ended.status.success(), "{ended:?}");

    let records = scene.world.operations(row.kind(), 2).await;
    for record in &records {
        assert_eq!(record.outcome, OperationOutcome::Completed, "{record:?}");
    }
    assert!(UnixStream::connect(&listening).await.is_err());
    drop(master);
}

/// GW-15: the target's own logs can name session and grant; a client cannot name others.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_target_that_takes_variables_then_it_learns_the_session_and_the_grant() {
    let everything = "@id(\"all\") permit (principal, action, resource);
         @id(\"features\") permit (principal, action == Action::\"feature.use\", resource);";
    let scene = Scene::start(|_| everything.to_owned()).await;
    let forged = ["-o", "SetEnv=SALLYPORT_SESSION_ID=forged"];
    let ran = scene
        .run(&forged, "echo $SALLYPORT_SESSION_ID $SALLYPORT_GRANT_ID")
        .await;
    let closed = scene
        .world
        .control
        .until(|told| told.closed.first().cloned())
        .await;
    let shown = text(&ran.stdout);
    let (session_id, grant_id) = shown.trim().split_once(' ').unwrap();
    assert_eq!(session_id, closed.session_id.to_string());
    assert!(grant_id.starts_with("grt_"), "{grant_id}");
    let records = scene.world.operations(OperationKind::Unsupported, 1).await;
    assert_eq!(records[0].operation.detail, "env SALLYPORT_SESSION_ID");
}

/// GW-1: a client that asks for signs of life gets them, and stays.
#[tokio::test(flavor = "multi_thread")]
async fn given_keep_alives_then_a_quiet_client_stays() {
    let scene = Scene::start(|_| PERMIT_ALL.to_owned()).await;
    let asking = ["-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=1"];
    let ran = scene.run(&asking, "sleep 3; echo still here").await;
    assert_eq!(text(&ran.stdout), "still here\n", "{ran:?}");
}

/// Either kind of stream.
trait Duplex: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}
