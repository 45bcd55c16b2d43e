//! A gateway, its control plane, a target, and clients of one person.

use std::{
    borrow::Cow,
    collections::HashMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    panic,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use russh::{
    Channel, Preferred,
    client::{self, AuthResult},
    kex,
    keys::{Algorithm, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate, key::safe_rng},
};
use sallyport_core::session::{OperationKind, OperationRecord};
use sallyport_evidence::recording::{ContainerReader, FrameKind, Opener, RecordingKey};
use sallyport_gateway::{Gateway, config::GatewayConfig};
use sallyport_testkit::targets::sshd::{SshKeyPair, Sshd, SshdSetup, make_key_pair};
use tempfile::TempDir;
use tokio::{
    process::Command,
    sync::{mpsc, oneshot},
};

use crate::control::{Control, PATIENCE, PERMIT_ALL, Rules, SystemClock, SystemEntropy, spawn};

pub(crate) struct World {
    pub(crate) control: Arc<Control>,
    pub(crate) sshd: Sshd,
    pub(crate) directory: TempDir,
    pub(crate) gateway: SocketAddr,
    pub(crate) person: SshKeyPair,
    /// The key that only the gateway gets to see.
    pub(crate) credential: SshKeyPair,
    _stop: oneshot::Sender<()>,
}

impl World {
    /// Alice's key opens sessions as root on a fresh sshd.
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Rules)) -> Self {
        Self::with_target(Vec::new(), change).await
    }

    /// A target with more lines of `sshd_config`.
    pub(crate) async fn with_target(
        settings: Vec<String>,
        change: impl FnOnce(&mut Rules),
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key =
            |name: &str| make_key_pair(&directory.path().join(name), "ed25519", None).unwrap();
        let (person, credential) = (key("person"), key("credential"));
        let sshd = Sshd::start(&SshdSetup {
            authorized_keys: vec![credential.public_key.clone()],
            settings,
            ..SshdSetup::default()
        })
        .unwrap();
        let mut rules = Rules {
            keys: HashMap::from([(person.public_key.clone(), "alice".parse().unwrap())]),
            secrets: HashMap::new(),
            unmet: Vec::new(),
            refuses: None,
            authorities: Vec::new(),
            address: sshd.address().to_string(),
            host_keys: vec![sshd.host_key().to_owned()],
            pins_first_host_key: false,
            credential: serde_json::json!({
                "kind": "private_key",
                "private_key": credential.private_key,
                "certificate": null,
            })
            .to_string(),
            notice: String::new(),
            constraints: Vec::new(),
            bundle: PERMIT_ALL.to_owned(),
            require: String::new(),
        };
        change(&mut rules);
        let control = Control::start(directory.path(), rules);
        let mut config = GatewayConfig::new(
            directory.path().join("gateway"),
            control.socket().to_owned(),
        );
        config.ssh_listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let gateway = Gateway::bind(config, Arc::new(SystemClock), Arc::new(SystemEntropy))
            .await
            .unwrap();
        let address = gateway.addresses()[0].1;
        let (stop, stopped) = oneshot::channel();
        spawn(gateway.run(async {
            let _ = stopped.await;
        }));
        reach_control(&control, address).await;
        Self {
            control,
            sshd,
            directory,
            gateway: address,
            person,
            credential,
            _stop: stop,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Options of every stock client: only Alice's key, nothing of this machine's settings.
    pub(crate) fn options(&self) -> Vec<String> {
        let known_hosts = self.path("known_hosts");
        let options = [
            "IdentitiesOnly=yes".to_owned(),
            "StrictHostKeyChecking=accept-new".to_owned(),
            format!("UserKnownHostsFile={}", known_hosts.display()),
            format!("IdentityFile={}", self.person.private_path.display()),
            format!("Port={}", self.gateway.port()),
        ];
        let mut arguments = vec!["-F".to_owned(), "none".to_owned()];
        for option in options {
            arguments.extend(["-o".to_owned(), option]);
        }
        arguments
    }

    /// A client program, ready for its own arguments.
    pub(crate) fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .args(self.options())
            .args(["-o", "BatchMode=yes", "-o", "LogLevel=ERROR"])
            .env_remove("SSH_AUTH_SOCK")
            .env_remove("DISPLAY")
            .env("LC_ALL", "C")
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// `ssh`, with `arguments` after the options and before the destination.
    pub(crate) fn ssh(&self, arguments: &[&str], command: &[&str]) -> Command {
        self.ssh_as("root@web-1", arguments, command)
    }

    pub(crate) fn ssh_as(&self, user: &str, arguments: &[&str], command: &[&str]) -> Command {
        let mut ssh = self.client("ssh");
        ssh.args(arguments)
            .args(["-l", user, "127.0.0.1"])
            .args(command);
        ssh
    }

    /// `ssh` for a person who reads and answers.
    pub(crate) fn ssh_at_keyboard(
        &self,
        user: &str,
        command: &[&str],
        answers: &[(&str, &str)],
    ) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.args(self.options())
            .args(["-l", user, "127.0.0.1"])
            .args(command)
            .env_remove("SSH_AUTH_SOCK")
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        at_keyboard(self, &mut ssh, answers);
        ssh
    }

    /// Runs one command through the gateway.
    pub(crate) async fn run(&self, command: &[&str]) -> Output {
        output(&mut self.ssh(&[], command)).await
    }

    /// An address of the gateway for scp and sftp, with a path.
    pub(crate) fn remote(&self, path: &str) -> String {
        format!("root@web-1@127.0.0.1:{path}")
    }

    /// Waits until operations of `kind` are on record, `count` of them.
    pub(crate) async fn operations(
        &self,
        kind: OperationKind,
        count: usize,
    ) -> Vec<OperationRecord> {
        self.control
            .until(|told| {
                let of_kind: Vec<_> = told
                    .operations
                    .iter()
                    .filter(|record| record.operation.kind == kind)
                    .cloned()
                    .collect();
                (of_kind.len() >= count).then_some(of_kind)
            })
            .await
    }

    /// Waits for the session's end, then opens its recording.
    pub(crate) async fn recorded(&self) -> Recorded {
        let closed = self
            .control
            .until(|told| told.closed.first().cloned())
            .await;
        assert!(closed.is_recording_complete, "{closed:?}");
        let folder = self.path("gateway").join("recordings");
        let files: Vec<_> = walk(&folder);
        assert_eq!(files.len(), 1, "{files:?}");
        Recorded::read(&fs::read(&files[0]).unwrap())
    }
}

/// Returns once a proof goes through the gateway to control: it is connected.
async fn reach_control(control: &Control, gateway: SocketAddr) {
    let proven = control.until(|told| (!told.proofs.is_empty()).then_some(()));
    let asking = async {
        loop {
            let mut client = RawClient::connect(gateway).await;
            client.offer_new_key("root@web-1").await;
        }
    };
    tokio::select! {
        () = proven => {}
        () = asking => {}
    }
    control.forget_proofs();
}

/// A client that does what stock ones do not.
pub(crate) struct RawClient {
    pub(crate) handle: client::Handle<AnyHost>,
}

/// Takes any host key: who the gateway is is not the question of a test that uses this. Hands on the
/// channels that the gateway opens.
#[derive(Default)]
pub(crate) struct AnyHost {
    pub(crate) forwarded: Option<mpsc::Sender<Channel<client::Msg>>>,
}

impl AnyHost {
    async fn hand_on(&self, channel: Channel<client::Msg>, reply: client::ChannelOpenHandle) {
        if let Some(forwarded) = &self.forwarded {
            reply.accept().await;
            forwarded.send(channel).await.unwrap();
        }
    }
}

impl client::Handler for AnyHost {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        _shown: &PublicKeyOrCertificate,
    ) -> Result<bool, russh::Error> {
        Ok(true)
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<client::Msg>,
        _connected_address: &str,
        _connected_port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: client::ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), russh::Error> {
        self.hand_on(channel, reply).await;
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        channel: Channel<client::Msg>,
        _socket_path: &str,
        reply: client::ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), russh::Error> {
        self.hand_on(channel, reply).await;
        Ok(())
    }
}

impl RawClient {
    pub(crate) async fn connect(gateway: SocketAddr) -> Self {
        Self::connect_as(gateway, AnyHost::default()).await
    }

    async fn connect_as(gateway: SocketAddr, host: AnyHost) -> Self {
        // One exchange of keys by elliptic curves costs an unoptimised build a tenth of a hybrid one.
        let preferred = Preferred {
            kex: Cow::Borrowed(&[kex::CURVE25519]),
            ..Preferred::default()
        };
        let config = client::Config {
            preferred,
            ..client::Config::default()
        };
        let handle = client::connect(Arc::new(config), gateway, host)
            .await
            .unwrap();
        Self { handle }
    }

    /// Alice, on a session.
    pub(crate) async fn signed_in(world: &World) -> Self {
        Self::signed_in_as(world, AnyHost::default()).await
    }

    pub(crate) async fn signed_in_as(world: &World, host: AnyHost) -> Self {
        let mut client = Self::connect_as(world.gateway, host).await;
        let key = PrivateKey::from_openssh(&world.person.private_key).unwrap();
        let result = client.offer("root@web-1", key).await;
        assert!(result.success(), "{result:?}");
        client
    }

    /// Proves possession of a key that nobody knows.
    pub(crate) async fn offer_new_key(&mut self, user: &str) -> AuthResult {
        let key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
        self.offer(user, key).await
    }

    pub(crate) async fn offer(&mut self, user: &str, key: PrivateKey) -> AuthResult {
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
        self.handle.authenticate_publickey(user, key).await.unwrap()
    }
}

/// Notices every panic of the process, also those that are contained. For tests that run alone in
/// theirs, as `cargo nextest` runs all.
pub(crate) struct PanicWatch(Arc<AtomicUsize>);

impl PanicWatch {
    pub(crate) fn start() -> Self {
        let count = Arc::new(AtomicUsize::new(0));
        let (counted, before) = (Arc::clone(&count), panic::take_hook());
        panic::set_hook(Box::new(move |found| {
            counted.fetch_add(1, Ordering::SeqCst);
            before(found);
        }));
        Self(count)
    }

    pub(crate) fn assert_none(&self) {
        assert_eq!(self.0.load(Ordering::SeqCst), 0, "something panicked");
    }
}

/// Every file below a folder.
pub(crate) fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(walk(&path));
        } else {
            files.push(path);
        }
    }
    files
}

/// How long the end of a session may take on a busy machine; one second is what is promised.
pub(crate) const PROMPTLY: Duration = Duration::from_millis(1_500);

/// What `future` gives, if it does so in time.
pub(crate) async fn within<T>(time: Duration, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(time, future).await {
        Ok(value) => value,
        Err(_) => panic!("it took longer than {time:?}"),
    }
}

/// Runs a client to its end.
pub(crate) async fn output(command: &mut Command) -> Output {
    within(PATIENCE, command.output()).await.unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a recording holds, by stream, over all channels.
#[derive(Debug, Default)]
pub(crate) struct Recorded {
    pub(crate) input: Vec<u8>,
    pub(crate) output: Vec<u8>,
    pub(crate) error_output: Vec<u8>,
    /// Other frames, as their names and values.
    pub(crate) events: Vec<String>,
}

impl Recorded {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let container = ContainerReader::open(bytes).unwrap();
        let key = RecordingKey::new(crate::control::RECORDING_KEY);
        let mut opener = Opener::new(container, key).unwrap();
        let mut recorded = Self::default();
        while let Some(chunk) = opener.next_chunk().unwrap() {
            for frame in chunk.frames() {
                recorded.take(frame.kind);
            }
        }
        recorded
    }

    fn take(&mut self, kind: FrameKind<'_>) {
        match kind {
            FrameKind::Input(bytes) => self.input.extend(bytes),
            FrameKind::Output(bytes) => self.output.extend(bytes),
            FrameKind::ErrorOutput(bytes) => self.error_output.extend(bytes),
            other => self.events.push(format!("{other:?}")),
        }
    }

    pub(crate) fn has_event(&self, part: &str) -> bool {
        self.events.iter().any(|event| event.contains(part))
    }
}

/// A person at a keyboard: a client that may ask, and a program that answers by a word in the prompt.
/// What was asked is in [`prompts`].
fn at_keyboard(world: &World, command: &mut Command, answers: &[(&str, &str)]) {
    let answerer = answerer(world.directory.path(), answers);
    command
        .env("SSH_ASKPASS", answerer)
        .env("SSH_ASKPASS_REQUIRE", "force");
}

/// What a person was asked, a line each.
pub(crate) fn prompts(world: &World) -> Vec<String> {
    fs::read_to_string(world.path("prompts.log"))
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect()
}

/// A program that answers prompts, for `SSH_ASKPASS`: `answers` by a word in the prompt. It writes
/// every prompt to `prompts.log`.
fn answerer(folder: &Path, answers: &[(&str, &str)]) -> PathBuf {
    let path = folder.join("answerer");
    let mut script = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$1\" >> {}/prompts.log\ncase \"$1\" in\n",
        folder.display()
    );
    for (word, answer) in answers {
        script.push_str(&format!("*{word}*) echo '{answer}';;\n"));
    }
    script.push_str("esac\n");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    path
}
