//! Stock OpenSSH clients of the three paths, and a watchdog for when one hangs.

use std::{
    io::Read as _,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, bail};

use super::{
    path::{KEX, Path, Route},
    world::World,
};

/// `ssh` or `sftp` as far as the first hop; the caller adds `127.0.0.1` and the rest. Same cipher, key
/// exchange and key on every path; nothing of the machine's own settings.
pub fn client(world: &World, program: &str, path: Path, route: &Route) -> Command {
    let (port, user) = route.first_hop(path);
    let mut command = Command::new(program);
    command.args(["-F", "none"]);
    for option in [
        format!("Port={port}"),
        format!("User={user}"),
        format!("IdentityFile={}", world.key().display()),
        format!("UserKnownHostsFile={}", world.known_hosts().display()),
        format!("Ciphers={}", route.cipher.openssh()),
        format!("KexAlgorithms={KEX}"),
        "GlobalKnownHostsFile=/dev/null".to_owned(),
        "StrictHostKeyChecking=accept-new".to_owned(),
        "UpdateHostKeys=no".to_owned(),
        "IdentitiesOnly=yes".to_owned(),
        "PreferredAuthentications=publickey".to_owned(),
        "BatchMode=yes".to_owned(),
        "LogLevel=ERROR".to_owned(),
    ] {
        command.args(["-o", &option]);
    }
    command
        .env_remove("SSH_AUTH_SOCK")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// `ssh` that runs `line` at the target, with a terminal if `has_pty`.
pub fn ssh(world: &World, path: Path, route: &Route, has_pty: bool, line: &str) -> Command {
    let mut command = client(world, "ssh", path, route);
    command.args([if has_pty { "-tt" } else { "-T" }, "127.0.0.1", line]);
    command
}

/// Waits for a client's end, which must be a success; its complaint is in the error.
pub fn finish(child: &mut Child, watchdog: Watchdog) -> anyhow::Result<()> {
    let mut complaint = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        // What cannot be read is only missing in a message.
        let _ = stderr.read_to_string(&mut complaint);
    }
    let status = child.wait().context("wait for the client")?;
    watchdog.check()?;
    if !status.success() {
        bail!("the client ended with {status}: {}", complaint.trim());
    }
    Ok(())
}

/// Kills a process that has not ended in time.
#[derive(Debug)]
pub struct Watchdog {
    limit: Duration,
    has_bitten: Arc<AtomicBool>,
    release: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Watches until it is dropped.
    pub fn watch(child: &Child, limit: Duration) -> Self {
        let (release, released) = sync_channel::<()>(0);
        let has_bitten = Arc::new(AtomicBool::new(false));
        let pid = child.id().to_string();
        let thread = {
            let has_bitten = Arc::clone(&has_bitten);
            std::thread::spawn(move || {
                if released.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                    has_bitten.store(true, Ordering::SeqCst);
                    // It may have ended just now.
                    let _ = Command::new("kill").args(["-KILL", &pid]).status();
                }
            })
        };
        Self {
            limit,
            has_bitten,
            release: Some(release),
            thread: Some(thread),
        }
    }

    /// An error if the process was killed.
    pub fn check(&self) -> anyhow::Result<()> {
        if self.has_bitten.load(Ordering::SeqCst) {
            bail!("stalled: not done after {} s", self.limit.as_secs());
        }
        Ok(())
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.release.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_hangs_is_killed_and_reported_as_stalled() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let watchdog = Watchdog::watch(&child, Duration::from_millis(50));
        let error = finish(&mut child, watchdog).unwrap_err().to_string();
        assert!(error.contains("stalled"), "{error}");
    }

    #[test]
    fn a_process_that_fails_is_an_error_with_its_complaint() {
        let mut child = Command::new("sh")
            .args(["-c", "echo no entry >&2; exit 255"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let watchdog = Watchdog::watch(&child, Duration::from_secs(600));
        let error = finish(&mut child, watchdog).unwrap_err().to_string();
        assert!(error.contains("no entry"), "{error}");
    }
}
