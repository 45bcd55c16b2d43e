//! What the story needs around it: a folder, a node, and a real OpenSSH server as the target.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use crate::process;

/// How long a process may take to be ready.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder of its own, and what runs in it. Dropping it stops everything and removes the folder.
#[derive(Debug)]
pub struct Stage {
    pub folder: PathBuf,
    pub binary: PathBuf,
    pub api: String,
    pub ssh_port: u16,
    pub postgres_port: u16,
    pub mysql_port: u16,
    pub first_owner_code: String,
    node: Running,
}

/// A process that is ended when it goes out of scope.
#[derive(Debug)]
pub struct Running(pub Child);

impl Running {
    /// Asks it to stop and waits. The node stops its children when asked to; killing it outright would
    /// leave them.
    fn stop(&mut self) {
        if matches!(self.0.try_wait(), Ok(Some(_))) {
            return;
        }
        let _ = Command::new("kill")
            .args(["-TERM", &self.0.id().to_string()])
            .status();
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            if matches!(self.0.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Stage {
    /// Makes a folder, named after what it is for, and starts a node in it.
    pub fn set(binary: &Path, purpose: &str) -> anyhow::Result<Self> {
        let folder =
            std::env::temp_dir().join(format!("sallyport-{purpose}-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("make `{}`", folder.display()))?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))
            .context("close the folder")?;
        let [api, ssh, postgres, mysql, health, gateway_health] = free_ports()?;
        let log = fs::File::create(folder.join("node.log")).context("make the node's log")?;
        let mut child = Command::new(binary)
            .arg("dev")
            .arg("--data")
            .arg(folder.join("node"))
            .args(["--api", &address(api), "--ssh", &address(ssh)])
            .args([
                "--postgres",
                &address(postgres),
                "--mysql",
                &address(mysql),
                "--health",
                &address(health),
                "--gateway-health",
                &address(gateway_health),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("start the node")?;
        let welcome = child.stdout.take().context("hear the node")?;
        let node = Running(child);
        let first_owner_code = first_owner_code(BufReader::new(welcome))
            .with_context(|| format!("see `{}`", folder.join("node.log").display()))?;
        Ok(Self {
            folder,
            binary: binary.to_owned(),
            api: format!("https://{}", address(api)),
            ssh_port: ssh,
            postgres_port: postgres,
            mysql_port: mysql,
            first_owner_code,
            node,
        })
    }

    /// The process that keeps control and gateway running.
    pub fn node_pid(&self) -> u32 {
        self.node.0.id()
    }

    /// The certificate that vouches for the node's API.
    pub fn ca(&self) -> PathBuf {
        self.folder.join("node/ca.pem")
    }

    /// Starts an OpenSSH server that trusts `authority` for `root` and nothing else.
    pub fn target(&self, authority: &str) -> anyhow::Result<Target> {
        let folder = self.folder.join("web-1");
        fs::create_dir_all(&folder).context("make the target's folder")?;
        // Where sshd confines its unprivileged half; Debian makes it when the service starts.
        fs::create_dir_all("/run/sshd").context("make `/run/sshd`; the demo runs as root")?;
        process::output(
            Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(folder.join("host_key")),
        )?;
        fs::write(folder.join("authority.pub"), authority).context("write the authority")?;
        let [port] = free_ports()?;
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nPidFile {folder}/pid\n\
             TrustedUserCAKeys {folder}/authority.pub\nAuthorizedKeysFile none\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\n\
             PermitRootLogin prohibit-password\nStrictModes no\nSubsystem sftp internal-sftp\n",
            folder = folder.display(),
        );
        fs::write(folder.join("sshd_config"), config).context("write sshd_config")?;
        let log = fs::File::create(folder.join("sshd.log")).context("make sshd's log")?;
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(folder.join("sshd_config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("start sshd")?;
        let sshd = Running(child);
        until("sshd listens", || {
            Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok())
        })?;
        let host_key =
            fs::read_to_string(folder.join("host_key.pub")).context("read the host key")?;
        Ok(Target {
            port,
            host_key: host_key.trim().to_owned(),
            _sshd: sshd,
        })
    }

    /// Waits until the node ends, as by Ctrl-C.
    pub fn wait(mut self) -> anyhow::Result<()> {
        let _ = self.node.0.wait().context("wait for the node")?;
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.node.stop();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The target of the story.
#[derive(Debug)]
pub struct Target {
    pub port: u16,
    pub host_key: String,
    _sshd: Running,
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// Ports of the loopback interface that nobody listens on now.
pub fn free_ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    let mut listeners = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
        *port = listener.local_addr().context("find a free port")?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

/// Reads the node's welcome until it is complete; it holds the code of the first owner.
fn first_owner_code(welcome: BufReader<std::process::ChildStdout>) -> anyhow::Result<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in welcome.lines().map_while(Result::ok) {
            // Nobody listens any more once the welcome is read; the pipe is drained all the same.
            let _ = sender.send(line);
        }
    });
    let mut code = None;
    let deadline = Instant::now() + PATIENCE;
    while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        if let Some((_, after)) = line.split_once("once: ") {
            code = Some(after.trim().to_owned());
        }
        if line.contains("Ctrl-C stops it") {
            return code.context("find the first owner's code in the node's welcome");
        }
    }
    bail!("the node did not say that it is up within a minute")
}

/// Looks until something is there.
pub fn until<T>(what: &str, look: impl Fn() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(found) = look()? {
            return Ok(found);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("waited a minute, and still not: {what}")
}
