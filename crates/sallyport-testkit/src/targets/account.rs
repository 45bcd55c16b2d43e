//! Servers that run under an account of their own, as their packages have it, and end with the process that
//! started them.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::chown,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use anyhow::{Context as _, bail};

/// What a server wrote to its log.
pub(super) type Log = Arc<Mutex<String>>;

/// Makes the key and certificate of a target, which vouches for itself.
pub(super) fn make_identity(account: &str, package: &str, home: &Path) -> anyhow::Result<()> {
    let (key, certificate) = (home.join("server.key"), home.join("server.crt"));
    run(Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ])
        .args(["-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate))?;
    give_to_account(account, package, &key)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&key, mode).context("keep a key from others")
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| {
        use std::os::unix::fs::MetadataExt as _;
        metadata.uid() == 0
    })
}

/// A program run as a server's account, ending when the thread that starts it does.
pub(super) fn as_account(account: &str, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "INT"]);
    if is_root() {
        command.args(["--reuid", account, "--regid", account, "--clear-groups"]);
    }
    command.arg(program).current_dir("/");
    command
}

/// Gives a path to a server's account, which comes with `package`.
pub(super) fn give_to_account(account: &str, package: &str, path: &Path) -> anyhow::Result<()> {
    if !is_root() {
        return Ok(());
    }
    let accounts = fs::read_to_string("/etc/passwd").context("read the accounts")?;
    let mut fields = accounts
        .lines()
        .find(|line| line.split(':').next() == Some(account))
        .with_context(|| format!("no account `{account}`: apt-get install {package}"))?
        .split(':')
        .skip(2);
    let mut id = || -> anyhow::Result<u32> {
        let field = fields.next().context("an account has ids")?;
        Ok(field.parse()?)
    };
    chown(path, Some(id()?), Some(id()?)).context("give a directory to the account")
}

/// Starts the server from a thread that lives as long as the process: the signal for the end comes when
/// the starting thread ends, and test threads end early. Says once whether the server is
/// ready, which it says by `ready_words`.
pub(super) fn spawn_for_process(
    mut command: Command,
    ready_words: &'static str,
    written: Log,
) -> anyhow::Result<(Child, mpsc::Receiver<bool>)> {
    let (child_sender, child) = mpsc::sync_channel(1);
    let (ready_sender, ready) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let mut spawned = command.spawn();
        let log = spawned.as_mut().ok().and_then(|child| child.stderr.take());
        if child_sender.send(spawned).is_err() {
            return;
        }
        for line in log
            .into_iter()
            .flat_map(|log| BufReader::new(log).lines())
            .map_while(Result::ok)
        {
            {
                let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
                written.push_str(&line);
                written.push('\n');
            }
            if line.contains(ready_words) {
                let _ = ready_sender.try_send(true);
            }
        }
        let _ = ready_sender.try_send(false);
    });
    let child = child.recv().context("start a thread")?;
    Ok((child.context("start the server")?, ready))
}

/// Runs a program to its end; returns what it printed.
pub(super) fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
