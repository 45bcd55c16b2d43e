//! What is measured on: a node, OpenSSH servers as targets, OpenSSH servers as relays, and a person
//! whose grant was given by policy, so that nobody is asked while the clock runs.
//!
//! Cipher and key exchange are set on every leg: by the client on the first, and by the target's
//! `sshd_config` on the last, so that whoever dials it (relay, gateway) has no other choice.
//!
//! INVARIANT: dropping it stops every process it started and removes what they wrote.
//!
//! Not here: clients ([`super::client`]), paths and ports ([`super::path`]).

use std::{
    fs,
    net::{Ipv4Addr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path as FilePath, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};

use super::{
    accounting::{self, Cpu},
    options::Options,
    path::{Cipher, KEX, Path, Route},
};
use crate::{
    demo::{
        actor::{Actor, text},
        stage::{Running, Stage, free_ports, until},
    },
    process,
};

const OWNER: &str = "olga";
const PERSON: &str = "alice";
const SECURITY: &str = "carol";
const REASON: &str = "measure what this path costs";
/// A spent CPU second may be accounted for a moment after a client has ended.
const SETTLE_MAX: Duration = Duration::from_secs(3);
const SETTLE_STEP: Duration = Duration::from_millis(60);

/// See the module.
#[derive(Debug)]
pub struct World {
    // Dropped in this order: what is reached before who reaches it, the folder last.
    servers: Vec<(Server, Running)>,
    routes: Vec<Route>,
    gateway_pid: u32,
    control_pid: u32,
    files: PathBuf,
    stage: Stage,
}

/// An OpenSSH server of ours.
#[derive(Clone, Copy, Debug)]
struct Server {
    pid: u32,
    is_relay: bool,
}

/// What each party has spent since it started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    pub gateway: Duration,
    pub control: Duration,
    pub relay: Duration,
    pub target: Duration,
    pub clients: Duration,
}

impl Spent {
    /// What was spent since `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            gateway: self.gateway.saturating_sub(before.gateway),
            control: self.control.saturating_sub(before.control),
            relay: self.relay.saturating_sub(before.relay),
            target: self.target.saturating_sub(before.target),
            clients: self.clients.saturating_sub(before.clients),
        }
    }

    /// What the party in the middle of `path` spent: the gateway without control, or the relay.
    pub fn in_the_middle(self, path: Path) -> Option<Duration> {
        match path {
            Path::Direct => None,
            Path::Relay => Some(self.relay),
            Path::Sallyport => Some(self.gateway),
        }
    }
}

impl World {
    /// Starts everything, and connects once on every path so that nothing is measured the first time.
    pub fn make(binary: &FilePath, options: &Options) -> anyhow::Result<Self> {
        let stage = Stage::set(binary, "bench")?;
        let node = stage.node_pid();
        let files = shared_memory(&stage.folder)?;
        let mut world = Self {
            servers: Vec::new(),
            routes: Vec::new(),
            gateway_pid: accounting::child_called(node, "gateway")?,
            control_pid: accounting::child_called(node, "control")?,
            files,
            stage,
        };
        world.furnish(options)?;
        Ok(world)
    }

    fn furnish(&mut self, options: &Options) -> anyhow::Result<()> {
        let size = options.size_mib << 20;
        make_random(&self.file("random"), size)?;
        make_text(&self.file("text"), size)?;
        self.make_people()?;
        for cipher in [Cipher::Aes256Gcm, Cipher::ChaCha20] {
            let direct_port = self.start_target(cipher)?;
            let relay_port = self.start_relay(cipher, cipher.word(), direct_port)?;
            let route = Route {
                cipher,
                direct_port,
                relay_port,
                gateway_port: self.stage.ssh_port,
                target: cipher.word().to_owned(),
            };
            self.add_target(&route.target, cipher, direct_port)?;
            self.routes.push(route);
        }
        Ok(())
    }

    /// The paths to the target that speaks this cipher only.
    pub fn route(&self, cipher: Cipher) -> anyhow::Result<&Route> {
        self.routes
            .iter()
            .find(|route| route.cipher == cipher)
            .context("find the route")
    }

    /// The gateway's process.
    pub const fn gateway_pid(&self) -> u32 {
        self.gateway_pid
    }

    /// A program that was built with the node.
    pub fn beside_binary(&self, name: &str) -> PathBuf {
        self.stage.binary.with_file_name(name)
    }

    /// The private key of every client.
    pub fn key(&self) -> PathBuf {
        self.stage.folder.join(PERSON).join("key")
    }

    /// Where clients keep host keys.
    pub fn known_hosts(&self) -> PathBuf {
        self.stage.folder.join("known_hosts")
    }

    /// A file that costs no disk: targets and clients read and write there.
    pub fn file(&self, name: &str) -> PathBuf {
        self.files.join(name)
    }

    /// What every party has spent, once that has stopped changing: ends of sessions and children
    /// that are yet to be waited for belong to what came before.
    pub fn spent(&self) -> anyhow::Result<Spent> {
        let deadline = Instant::now() + SETTLE_MAX;
        let mut before = self.spent_now()?;
        loop {
            std::thread::sleep(SETTLE_STEP);
            let now = self.spent_now()?;
            let is_still = now.gateway == before.gateway && self.no_connections()?;
            if is_still || Instant::now() > deadline {
                return Ok(now);
            }
            before = now;
        }
    }

    /// What every party has spent by now; what live connections of OpenSSH's servers spend is not yet
    /// in it.
    pub fn spent_now(&self) -> anyhow::Result<Spent> {
        let mut spent = Spent {
            gateway: Cpu::of(self.gateway_pid)?.total(),
            control: Cpu::of(self.control_pid)?.total(),
            clients: Cpu::of(std::process::id())?.ended_children,
            ..Spent::default()
        };
        for (server, _) in &self.servers {
            let cpu = Cpu::of(server.pid)?.total();
            if server.is_relay {
                spent.relay += cpu;
            } else {
                spent.target += cpu;
            }
        }
        Ok(spent)
    }

    fn no_connections(&self) -> anyhow::Result<bool> {
        for (server, _) in &self.servers {
            if !accounting::children(server.pid)?.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes recordings of sessions that are over: a run of all measures would fill a small disk.
    pub fn forget_recordings(&self) -> anyhow::Result<()> {
        let folder = self.stage.folder.join("node/gateway/recordings");
        for entry in fs::read_dir(&folder).context("list recordings")? {
            let path = entry.context("list recordings")?.path();
            if path.is_dir() {
                fs::remove_dir_all(&path).context("remove a recording")?;
            } else {
                fs::remove_file(&path).context("remove a recording")?;
            }
        }
        Ok(())
    }

    fn make_people(&self) -> anyhow::Result<()> {
        let owner = Actor::enrol(&self.stage, OWNER, &self.stage.first_owner_code)?;
        let made = owner.json(&["person", "create", PERSON, "--group", "operators"])?;
        let person = Actor::enrol(&self.stage, PERSON, text(&made, "code")?)?;
        person.make_key()?;
        let made = owner.json(&["person", "create", SECURITY, "--role", "security"])?;
        Actor::enrol(&self.stage, SECURITY, text(&made, "code")?).map(drop)
    }

    /// Stops the person whose key every client has.
    pub fn lock_person(&self) -> anyhow::Result<()> {
        let words = ["lock", "add", "--person", PERSON, "--reason", REASON];
        Actor::known(&self.stage, SECURITY).say(&words).map(drop)
    }

    /// Takes that back.
    pub fn unlock_person(&self) -> anyhow::Result<()> {
        let security = Actor::known(&self.stage, SECURITY);
        let locks = security.json(&["lock", "list"])?;
        for lock in locks.as_array().into_iter().flatten() {
            security.say(&["lock", "remove", text(lock, "id")?])?;
        }
        Ok(())
    }

    /// The paths to the same target where it is reached at `port`, a proxy's: by the relay, by the
    /// gateway, and directly.
    pub fn add_far_route(&mut self, here: &Route, name: &str, port: u16) -> anyhow::Result<Route> {
        let relay_port = self.start_relay(here.cipher, name, port)?;
        self.add_target(name, here.cipher, port)?;
        Ok(Route {
            cipher: here.cipher,
            direct_port: port,
            relay_port,
            gateway_port: here.gateway_port,
            target: name.to_owned(),
        })
    }

    /// A target at the node whose sessions need a reason and nobody's approval, and a grant for it.
    fn add_target(&self, name: &str, cipher: Cipher, port: u16) -> anyhow::Result<()> {
        let owner = Actor::known(&self.stage, OWNER);
        let host_key = fs::read_to_string(self.server_file(cipher.word(), "host_key.pub"))
            .context("read the target's host key")?;
        let account = format!("root@{name}");
        owner.say(&[
            "target",
            "create",
            name,
            "--address",
            &format!("127.0.0.1:{port}"),
            "--sensitivity",
            "low",
            "--host-key",
            host_key.trim(),
        ])?;
        owner.say(&["account", "create", &account, "--engine", "ssh_ca"])?;
        let granted = Actor::known(&self.stage, PERSON).json(&[
            "request", "create", &account, "--for", "8h", "--reason", REASON,
        ])?;
        text(&granted, "grant_id").context("get a grant without asking anybody")?;
        Ok(())
    }

    fn server_file(&self, server: &str, name: &str) -> PathBuf {
        self.stage.folder.join(format!("sshd-{server}")).join(name)
    }

    /// An OpenSSH server that speaks one cipher and lets in the person's key (for `direct` and relays)
    /// and certificates of the node's authority (for the gateway).
    fn start_target(&mut self, cipher: Cipher) -> anyhow::Result<u16> {
        let authority = Actor::known(&self.stage, OWNER).say(&["ssh-authority"])?;
        let name = cipher.word();
        fs::create_dir_all(self.server_file(name, "")).context("make a server's folder")?;
        let authority_file = self.server_file(name, "authority.pub");
        fs::write(&authority_file, authority).context("write the authority")?;
        let settings = format!(
            "TrustedUserCAKeys {}\nCiphers {}\n",
            authority_file.display(),
            cipher.openssh()
        );
        self.start_server(name, &settings, false)
    }

    /// An OpenSSH server whose sessions are `ssh` to the target at `port`.
    fn start_relay(&mut self, cipher: Cipher, to: &str, port: u16) -> anyhow::Result<u16> {
        let name = format!("relay-{to}");
        fs::create_dir_all(self.server_file(&name, "")).context("make a server's folder")?;
        let script = self.server_file(&name, "session");
        let ssh = format!(
            "ssh -F none -p {port} -l root -i '{}' -o IdentitiesOnly=yes -o BatchMode=yes -o \
             UserKnownHostsFile='{}' -o GlobalKnownHostsFile=/dev/null -o \
             StrictHostKeyChecking=accept-new -o UpdateHostKeys=no -o LogLevel=ERROR -o Ciphers={} -o \
             KexAlgorithms={KEX}",
            self.key().display(),
            self.server_file(&name, "known_hosts").display(),
            cipher.openssh(),
        );
        let session = format!(
            "#!/bin/sh\nif [ \"$SSH_ORIGINAL_COMMAND\" = internal-sftp ]; then exec {ssh} -s 127.0.0.1 \
             sftp; fi\nif [ -n \"$SSH_TTY\" ]; then exec {ssh} -tt 127.0.0.1 \"$SSH_ORIGINAL_COMMAND\"; \
             fi\nexec {ssh} -T 127.0.0.1 \"$SSH_ORIGINAL_COMMAND\"\n"
        );
        fs::write(&script, session).context("write the relay's session")?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).context("make it run")?;
        let settings = format!("ForceCommand {}\n", script.display());
        self.start_server(&name, &settings, true)
    }

    fn start_server(&mut self, name: &str, settings: &str, is_relay: bool) -> anyhow::Result<u16> {
        // Where sshd confines its unprivileged half; Debian makes it when the service starts.
        fs::create_dir_all("/run/sshd").context("make `/run/sshd`; this needs root")?;
        process::output(
            Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(self.server_file(name, "host_key")),
        )?;
        let [port] = free_ports()?;
        // SHLVL: a bash that finds itself outermost under sshd reads `~/.bashrc`, and whatever this
        // machine's does would be measured with every session.
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nPidFile none\n\
             AuthorizedKeysFile {}.pub\nKexAlgorithms {KEX}\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nUsePAM no\nPermitRootLogin yes\nStrictModes no\n\
             PrintMotd no\nPrintLastLog no\nMaxStartups 1000\nMaxSessions 1000\n\
             Subsystem sftp internal-sftp\nUseDNS no\nSetEnv SHLVL=1\n{settings}",
            self.server_file(name, "host_key").display(),
            self.key().display(),
        );
        let config_file = self.server_file(name, "sshd_config");
        fs::write(&config_file, config).context("write sshd_config")?;
        let log = fs::File::create(self.server_file(name, "log")).context("make sshd's log")?;
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(&config_file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("start sshd")?;
        let server = Server {
            pid: child.id(),
            is_relay,
        };
        self.servers.push((server, Running(child)));
        until("sshd listens", || {
            Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok())
        })?;
        Ok(port)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.files);
    }
}

/// A folder in memory where there is one, so that no disk is measured by accident.
fn shared_memory(folder: &FilePath) -> anyhow::Result<PathBuf> {
    let memory = FilePath::new("/dev/shm");
    let files = if memory.is_dir() {
        memory.join(format!("sallyport-bench-{}", std::process::id()))
    } else {
        folder.join("files")
    };
    fs::create_dir_all(&files).with_context(|| format!("make `{}`", files.display()))?;
    Ok(files)
}

/// Bytes that nothing compresses.
fn make_random(path: &FilePath, size: u64) -> anyhow::Result<()> {
    let made = Command::new("head")
        .args(["-c", &size.to_string(), "/dev/urandom"])
        .stdout(fs::File::create(path).context("make a file of random bytes")?)
        .status()
        .context("run head")?;
    ensure!(made.success(), "head ended with {made}");
    Ok(())
}

/// Lines as a log has them: they compress well.
fn make_text(path: &FilePath, size: u64) -> anyhow::Result<()> {
    let size = usize::try_from(size).context("read the size")?;
    let mut block = String::new();
    let mut number = 0_u32;
    while block.len() < size.min(1 << 20) {
        block.push_str(&format!(
            "2026-01-02T03:{:02}:{:02} web-1 nginx[{}]: 192.0.2.{} GET /orders/{} 200 {}\n",
            number / 60 % 60,
            number % 60,
            number % 977,
            number % 251,
            number.wrapping_mul(2_654_435_761) % 100_000,
            number.wrapping_mul(40_503) % 65_536,
        ));
        number += 1;
    }
    let mut content = Vec::with_capacity(size + block.len());
    while content.len() < size {
        content.extend_from_slice(block.as_bytes());
    }
    content.truncate(size);
    fs::write(path, content).context("make a file of text")
}
