//! A MariaDB server of our own as a target of sessions: fresh, reached on this machine over TLS by accounts
//! with passwords, and writing down every statement.
//!
//! INVARIANT: the server is reached from this machine alone, and dies with the process that started it.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use super::{
    TargetSettings,
    account::run,
    database::{Kind, Running, ensure_installed},
};
use crate::port;

const SERVER: &str = "/usr/sbin/mariadbd";
const KIND: Kind = Kind {
    name: "mariadb",
    package: "mariadb-server",
    account: "mysql",
    ready: "ready for connections",
    start_max: Duration::from_secs(90),
};

/// A running server.
#[derive(Debug)]
pub struct Mariadb {
    running: Running,
    port: u16,
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
        ensure_installed(Path::new(SERVER), KIND.package)?;
        let port = port::reserve()?;
        let home = KIND.home(make_files)?;
        KIND.make_identity(&home)?;

        let mut command = KIND.program(Path::new(SERVER));
        let file =
            |option: &str, name: &str| format!("--{option}={}", home.path().join(name).display());
        command
            .arg("--no-defaults")
            .arg(file("datadir", "data"))
            .arg(file("socket", "socket"))
            .arg(file("pid-file", "pid"))
            // A server that starts removes the temporary tables of others from a directory they share.
            .arg(file("tmpdir", "data"))
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
            .args(watching(settings));
        let running = KIND.start(command, home)?;
        Ok(Self { running, port })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Where its superuser connects.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.running.home().join("socket")
    }

    /// The certificate that vouches for it.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.running.authority()
    }

    /// What it has written about itself.
    #[must_use]
    pub fn log(&self) -> String {
        self.running.log()
    }

    /// Every command that it got: its general log.
    #[must_use]
    pub fn statements(&self) -> String {
        let bytes = fs::read(self.running.home().join("statements.log")).unwrap_or_default();
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
        self.running.kill();
    }
}

fn make_files(at: &Path) -> anyhow::Result<()> {
    let install = Path::new("/usr/bin/mariadb-install-db");
    run(KIND
        .program(install)
        .arg("--no-defaults")
        .arg(format!("--datadir={}", at.display()))
        .args([
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--innodb-log-file-size=16M",
        ]))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_server_when_dropped_then_it_is_gone_with_its_files() {
        let mariadb = Mariadb::start().unwrap();
        let home = mariadb.running.home().to_owned();
        assert_eq!(mariadb.execute("SELECT 40 + 2").unwrap(), "42");
        assert!(mariadb.statements().contains("SELECT 40 + 2"));
        drop(mariadb);
        assert!(!home.exists());
    }
}
