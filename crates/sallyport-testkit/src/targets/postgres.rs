//! A PostgreSQL server of our own: fresh, on a Unix socket, gone with the test. As a target of sessions it
//! listens on this machine as well, by TLS alone, asks for passwords, and writes down every statement.
//!
//! INVARIANT: the server is reached from this machine alone, and dies with the process that started it.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, ensure};

use super::{
    TargetSettings,
    account::run,
    database::{Kind, Running, ensure_installed},
};
use crate::port;

const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
const KIND: Kind = Kind {
    name: "postgres-15",
    package: "postgresql-15",
    account: "postgres",
    ready: "ready to accept connections",
    start_max: Duration::from_secs(60),
};

/// A running server.
#[derive(Debug)]
pub struct Postgres {
    running: Running,
    port: Option<u16>,
}

impl Postgres {
    /// Starts a server with an empty cluster.
    ///
    /// # Errors
    ///
    /// When PostgreSQL is not installed, or does not start.
    pub fn start() -> anyhow::Result<Self> {
        // Nothing here outlives the machine, so nothing waits for its disk.
        Self::start_with("off", None)
    }

    /// As [`Postgres::start`], to be reached over TLS on this machine by accounts with passwords.
    ///
    /// # Errors
    ///
    /// When PostgreSQL or OpenSSL is not installed, or the server does not start.
    pub fn start_as_target() -> anyhow::Result<Self> {
        Self::start_as_target_with(TargetSettings::default())
    }

    /// As [`Postgres::start_as_target`], made otherwise.
    ///
    /// # Errors
    ///
    /// As [`Postgres::start_as_target`].
    pub fn start_as_target_with(settings: TargetSettings) -> anyhow::Result<Self> {
        let port = port::reserve()?;
        Self::start_with("off", Some((port, settings)))
    }

    /// As [`Postgres::start`], but a commit is on the disk when it returns, as in production.
    ///
    /// # Errors
    ///
    /// When PostgreSQL is not installed, or does not start.
    pub fn start_durable() -> anyhow::Result<Self> {
        Self::start_with("on", None)
    }

    fn start_with(fsync: &str, target: Option<(u16, TargetSettings)>) -> anyhow::Result<Self> {
        let postgres = Path::new(PROGRAMS).join("postgres");
        ensure_installed(&postgres, KIND.package)?;
        let home = KIND.home(make_cluster)?;
        let data = home.path().join("data");

        let mut command = KIND.program(&postgres);
        command
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(home.path())
            .args(["-c", &format!("fsync={fsync}")]);
        match target {
            None => {
                command.args(["-h", "", "-c", "max_connections=60"]);
            }
            Some((port, settings)) => {
                KIND.make_identity(&home)?;
                let setting =
                    |name: &str, file: &str| format!("{name}={}", home.path().join(file).display());
                fs::write(home.path().join("hba"), HBA).context("write who may connect")?;
                command.args(["-h", "127.0.0.1", "-p", &port.to_string()]);
                for setting in [
                    setting("hba_file", "hba"),
                    setting("ssl_cert_file", "server.crt"),
                    setting("ssl_key_file", "server.key"),
                    "ssl=on".to_owned(),
                    format!(
                        "log_statement={}",
                        if settings.logs_statements {
                            "all"
                        } else {
                            "none"
                        }
                    ),
                    format!("max_connections={}", settings.connections_max),
                    "log_line_prefix=[%p] %a|%u|%d: ".to_owned(),
                ] {
                    command.args(["-c", &setting]);
                }
            }
        }
        Ok(Self {
            running: KIND.start(command, home)?,
            port: target.map(|(port, _)| port),
        })
    }

    /// Makes a database and returns its URL.
    ///
    /// # Errors
    ///
    /// When there is one of this name.
    pub fn create_database(&self, name: &str) -> anyhow::Result<String> {
        ensure!(
            name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
            "`{name}` needs no quoting"
        );
        self.execute("postgres", &format!("CREATE DATABASE {name}"))?;
        Ok(self.url(name))
    }

    /// Where it listens as a target; nothing sensible otherwise.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port.unwrap_or_default()))
    }

    /// The folder of its Unix socket, where everybody is trusted.
    #[must_use]
    pub fn socket(&self) -> &Path {
        self.running.home()
    }

    /// The certificate that vouches for it as a target.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.running.authority()
    }

    /// What it has written to its log: every statement, when it is a target.
    #[must_use]
    pub fn log(&self) -> String {
        self.running.log()
    }

    /// URL of a database.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let (account, socket) = (KIND.account, self.running.home().display());
        format!("postgres://{account}@localhost/{database}?host={socket}&sslmode=disable")
    }

    /// Runs SQL as the superuser; returns its rows, columns separated by `|`.
    ///
    /// # Errors
    ///
    /// When the server refuses it.
    pub fn execute(&self, database: &str, sql: &str) -> anyhow::Result<String> {
        run(Command::new(Path::new(PROGRAMS).join("psql"))
            .arg("-h")
            .arg(self.running.home())
            .args(["-p", &self.port.unwrap_or(5432).to_string()])
            .args(["-U", KIND.account, "-d", database, "-v", "ON_ERROR_STOP=1"])
            .args(["-X", "-q", "-t", "-A", "-c", sql]))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let data = self.running.home().join("data");
        let stopped = run(KIND
            .program(&Path::new(PROGRAMS).join("pg_ctl"))
            .args(["stop", "-m", "immediate", "-D"])
            .arg(data));
        match stopped {
            Ok(_) => self.running.wait(),
            Err(_) => self.running.kill(),
        }
    }
}

/// Who may connect to a target: anybody on this machine by the socket, accounts with passwords over TLS.
const HBA: &str = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n\
                   hostssl replication all 127.0.0.1/32 scram-sha-256\n";

fn make_cluster(at: &Path) -> anyhow::Result<()> {
    run(KIND
        .program(&Path::new(PROGRAMS).join("initdb"))
        .arg("-D")
        .arg(at)
        .args(["-U", KIND.account, "--auth=trust", "--no-sync"])
        .args(["--wal-segsize=1", "--locale=C", "-E", "UTF8"]))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_server_when_dropped_then_it_is_gone_with_its_files() {
        let postgres = Postgres::start().unwrap();
        let home = postgres.running.home().to_owned();
        postgres.create_database("orders").unwrap();
        assert_eq!(postgres.execute("orders", "SELECT 40 + 2").unwrap(), "42");
        drop(postgres);
        assert!(!home.exists());
    }
}
