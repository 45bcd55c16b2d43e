//! A real OpenSSH server for tests: own port, own host key, own settings, started for each connection
//! in inetd mode, so that no port is guessed and nothing is left running.
//!
//! INVARIANT: dropping it ends every connection it serves.
//!
//! Not here: clients; what a test expects of the server.

use std::{
    fs,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::fs::PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::port;

/// A key pair as files of OpenSSH's.
#[derive(Clone, Debug)]
pub struct SshKeyPair {
    /// The private key's file, readable by its owner only.
    pub private_path: PathBuf,
    /// The private key, PEM.
    pub private_key: String,
    /// The public key, one line without a comment.
    pub public_key: String,
}

/// Makes a key pair with `ssh-keygen`: `kind` as its `-t`, `bits` for kinds that have a choice.
///
/// # Errors
/// When `ssh-keygen` is missing or refuses.
pub fn make_key_pair(path: &Path, kind: &str, bits: Option<u32>) -> Result<SshKeyPair> {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-N", "", "-C", "", "-t", kind]);
    if let Some(bits) = bits {
        command.args(["-b", &bits.to_string()]);
    }
    let status = command
        .arg("-f")
        .arg(path)
        .status()
        .context("run ssh-keygen")?;
    ensure!(status.success(), "ssh-keygen: {status}");
    let public_path = path.with_extension("pub");
    Ok(SshKeyPair {
        private_path: path.to_owned(),
        private_key: fs::read_to_string(path).context("read private key")?,
        public_key: fs::read_to_string(public_path)
            .context("read public key")?
            .trim()
            .to_owned(),
    })
}

/// How the server is set up.
#[derive(Clone, Debug, Default)]
pub struct SshdSetup {
    /// Public keys that may log in, as any account.
    pub authorized_keys: Vec<String>,
    /// An authority whose user certificates may log in.
    pub user_authority: Option<String>,
    /// More lines of `sshd_config`.
    pub settings: Vec<String>,
}

/// A running server.
#[derive(Debug)]
pub struct Sshd {
    directory: TempDir,
    address: SocketAddr,
    host_key: String,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    is_stopping: AtomicBool,
    connections: AtomicUsize,
    children: Mutex<Vec<Child>>,
}

impl Sshd {
    /// Starts a server on a port of the loopback interface that nobody else gets, also when it has
    /// stopped.
    ///
    /// # Errors
    /// When a tool is missing, or a file or socket cannot be made.
    pub fn start(setup: &SshdSetup) -> Result<Self> {
        let directory = tempfile::tempdir().context("make directory")?;
        // Where sshd confines its unprivileged half; Debian makes it when the service starts.
        fs::create_dir_all("/run/sshd").context("make /run/sshd")?;
        let key = make_key_pair(&directory.path().join("host_key"), "ed25519", None)?;
        write_settings(directory.path(), setup)?;
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, port::reserve()?)).context("bind")?;
        let address = listener.local_addr().context("read address")?;
        let shared = Arc::new(Shared::default());
        let accepting = {
            let (shared, directory) = (Arc::clone(&shared), directory.path().to_owned());
            std::thread::spawn(move || accept(&listener, &directory, &shared))
        };
        Ok(Self {
            directory,
            address,
            host_key: key.public_key,
            shared,
            accepting: Some(accepting),
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its host key, one line without a comment.
    #[must_use]
    pub fn host_key(&self) -> &str {
        &self.host_key
    }

    /// A folder that goes with the server.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// How many connections were made to it.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Gives it another host key, as somebody between gateway and target would have.
    ///
    /// # Errors
    /// When the key cannot be made.
    pub fn change_host_key(&mut self) -> Result<()> {
        let path = self.directory.path().join("host_key");
        fs::remove_file(&path).context("remove host key")?;
        fs::remove_file(path.with_extension("pub")).context("remove host key")?;
        self.host_key = make_key_pair(&path, "ed25519", None)?.public_key;
        Ok(())
    }

    /// What it logged so far.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        let bytes = fs::read(self.directory.path().join("log")).context("read log")?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn write_settings(directory: &Path, setup: &SshdSetup) -> Result<()> {
    let path = |name: &str| directory.join(name);
    write_private(&path("authorized_keys"), &setup.authorized_keys.join("\n"))?;
    let authority = match &setup.user_authority {
        Some(authority) => {
            write_private(&path("authority.pub"), authority)?;
            format!("TrustedUserCAKeys {}\n", path("authority.pub").display())
        }
        None => String::new(),
    };
    let settings = format!(
        "{}\nHostKey {}\nAuthorizedKeysFile {}\n{authority}PasswordAuthentication no\n\
         KbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\nPidFile none\n\
         PermitRootLogin yes\nLogLevel VERBOSE\nAcceptEnv LANG LC_*\nPrintMotd no\n\
         PrintLastLog no\nSubsystem sftp internal-sftp\n",
        // First, because the first line of a setting counts.
        setup.settings.join("\n"),
        path("host_key").display(),
        path("authorized_keys").display(),
    );
    write_private(&path("sshd_config"), &settings)?;
    write_private(&path("log"), "")
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).context("set permissions")
}

fn accept(listener: &TcpListener, directory: &Path, shared: &Shared) {
    for stream in listener.incoming() {
        if shared.is_stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { return };
        shared.connections.fetch_add(1, Ordering::SeqCst);
        match serve(stream, directory) {
            Ok(child) => {
                let mut children = shared
                    .children
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
                children.push(child);
            }
            Err(error) => {
                let path = directory.join("log");
                if let Ok(mut log) = fs::OpenOptions::new().append(true).open(path) {
                    // Only a test that fails reads it.
                    let _ = writeln!(log, "sshd was not started: {error:#}");
                }
            }
        }
    }
}

fn serve(stream: TcpStream, directory: &Path) -> Result<Child> {
    let log = fs::OpenOptions::new()
        .append(true)
        .open(directory.join("log"))
        .context("open log")?;
    let output: OwnedFd = stream.try_clone().context("share socket")?.into();
    let input: OwnedFd = stream.into();
    Command::new("/usr/sbin/sshd")
        .args(["-i", "-e", "-f"])
        .arg(directory.join("sshd_config"))
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(output))
        .stderr(Stdio::from(log))
        .spawn()
        .context("start sshd")
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::SeqCst);
        // Wakes the accepting thread; whether it still listens does not matter.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        let mut children = self
            .shared
            .children
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for child in children.iter_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
