//! A MariaDB server of our own as a target of sessions: fresh, reached on this machine over TLS by accounts
//! with passwords, and writing down every statement.
//!
//! Making its files takes seconds, so they are made once per machine and copied for each server.
//!
//! INVARIANT: the server is reached from this machine alone, and dies with the process that started it.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use super::{
    TargetSettings,
    account::{Log, as_account, give_to_account, make_identity, run, spawn_for_process},
};
use crate::port;

const SERVER: &str = "/usr/sbin/mariadbd";
const PACKAGE: &str = "mariadb-server";
/// The server refuses to run as root; Debian's package brings this account.
const ACCOUNT: &str = "mysql";
const START_MAX: Duration = Duration::from_secs(90);

/// A running server.
#[derive(Debug)]
pub struct Mariadb {
    server: Child,
    home: TempDir,
    port: u16,
    log: Log,
}

impl Mariadb {
    /// Starts a server without databases.
    ///
    /// # Errors
    ///
    /// When MariaDB or OpenSSL is not installed, or the server does not start.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(TargetSettings::default())
    }

    /// As [`Mariadb::start`], made otherwise. One that does not write statements down is one to be measured, and
    /// does not watch itself either.
    ///
    /// # Errors
    ///
    /// As [`Mariadb::start`].
    pub fn start_with(settings: TargetSettings) -> anyhow::Result<Self> {
        ensure!(
            Path::new(SERVER).exists(),
            "`{SERVER}` is missing: apt-get install {PACKAGE}"
        );
        let port = port::reserve()?;
        let template = template()?;
        let home = TempDir::with_prefix("sallyport-my-").context("make a directory")?;
        give_to_account(ACCOUNT, PACKAGE, home.path())?;
        run(Command::new("cp")
            .arg("-a")
            .arg(&template)
            .arg(home.path().join("data")))?;
        make_identity(ACCOUNT, PACKAGE, home.path())?;

        let mut command = as_account(ACCOUNT, Path::new(SERVER));
        let file =
            |option: &str, name: &str| format!("--{option}={}", home.path().join(name).display());
        command
            .arg("--no-defaults")
            .arg(file("datadir", "data"))
            .arg(file("socket", "socket"))
            .arg(file("pid-file", "pid"))
            .arg(file("ssl-cert", "server.crt"))
            .arg(file("ssl-key", "server.key"))
            // A client that shows a certificate, as sysbench has to, may show this one.
            .arg(file("ssl-ca", "server.crt"))
            .arg(file("general-log-file", "statements.log"))
            .arg(format!("--port={port}"))
            .args([
                "--bind-address=127.0.0.1",
                "--local-infile=ON",
                "--character-set-server=utf8mb4",
                // Nothing here outlives the machine, so nothing waits for its disk.
                "--innodb-flush-log-at-trx-commit=0",
                "--innodb-buffer-pool-size=16M",
                "--innodb-log-file-size=16M",
            ])
            .arg(format!("--max-connections={}", settings.connections_max))
            .args(watching(settings))
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let log = Log::default();
        let ready = "ready for connections";
        let (server, is_ready) = spawn_for_process(command, ready, Arc::clone(&log))?;
        let started = Self {
            server,
            home,
            port,
            log,
        };
        ensure!(
            is_ready.recv_timeout(START_MAX).unwrap_or(false),
            "MariaDB did not start: {}",
            started.log()
        );
        Ok(started)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Where its superuser connects.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.home.path().join("socket")
    }

    /// The certificate that vouches for it.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.home.path().join("server.crt")
    }

    /// What it has written about itself.
    #[must_use]
    pub fn log(&self) -> String {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Every command that it got: its general log.
    #[must_use]
    pub fn statements(&self) -> String {
        let bytes = fs::read(self.home.path().join("statements.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Runs SQL as the superuser; returns its rows, columns separated by tabs.
    ///
    /// # Errors
    ///
    /// When the server refuses it.
    pub fn execute(&self, sql: &str) -> anyhow::Result<String> {
        run(Command::new("mariadb")
            .arg("--no-defaults")
            .arg(format!("--socket={}", self.socket().display()))
            .args(["--user=root", "--batch", "--skip-column-names"])
            .arg(format!("--execute={sql}")))
    }
}

/// What it notes of those who use it.
const fn watching(settings: TargetSettings) -> &'static [&'static str] {
    match settings.logs_statements {
        true => &[
            "--general-log=ON",
            // Attributes of connections are shown by it alone.
            "--performance-schema=ON",
            "--performance-schema-digests-size=100",
            "--performance-schema-max-table-instances=200",
        ],
        false => &[],
    }
}

impl Drop for Mariadb {
    fn drop(&mut self) {
        // Nothing of it is kept.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The files that servers begin with, made once per machine.
fn template() -> anyhow::Result<PathBuf> {
    let shelf = std::env::temp_dir().join("sallyport-testkit");
    fs::create_dir_all(&shelf).context("make the shelf of templates")?;
    let lock = File::create(shelf.join("mariadb.lock")).context("open the template's lock")?;
    lock.lock().context("wait for the template")?;
    let template = shelf.join("mariadb");
    if template.exists() {
        return Ok(template);
    }
    let making = TempDir::with_prefix_in("making-", &shelf).context("make a directory")?;
    give_to_account(ACCOUNT, PACKAGE, making.path())?;
    let files = making.path().join("files");
    run(
        as_account(ACCOUNT, Path::new("/usr/bin/mariadb-install-db"))
            .arg("--no-defaults")
            .arg(format!("--datadir={}", files.display()))
            .args([
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--innodb-log-file-size=16M",
            ]),
    )?;
    fs::rename(&files, &template).context("put the template on its shelf")?;
    Ok(template)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_server_when_dropped_then_it_is_gone_with_its_files() {
        let mariadb = Mariadb::start().unwrap();
        let home = mariadb.home.path().to_owned();
        assert_eq!(mariadb.execute("SELECT 40 + 2").unwrap(), "42");
        assert!(mariadb.statements().contains("SELECT 40 + 2"));
        drop(mariadb);
        assert!(!home.exists());
    }
}
