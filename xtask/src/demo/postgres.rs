//! A PostgreSQL server as a target: the testkit's program, which was built beside `sallyport`.
//!
//! INVARIANT: the server ends with its owner, because it reads its standard input.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::Context as _;
use serde_json::Value;

use super::actor::text;
use crate::process;

/// A running server with one database.
#[derive(Debug)]
pub struct Postgres {
    server: Child,
    /// Where it listens, on the loopback interface.
    pub port: u16,
    /// The file with the certificate that vouches for it.
    pub authority: String,
    socket: String,
    database: &'static str,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.server.stdin.take());
        let _ = self.server.wait();
    }
}

impl Postgres {
    /// Starts one for so many connections, with an empty database of this name; `binary` is `sallyport`.
    pub fn start(
        binary: &Path,
        connections_max: u16,
        database: &'static str,
    ) -> anyhow::Result<Self> {
        let program = binary.with_file_name("postgres-target");
        let mut server = Command::new(&program)
            .arg(connections_max.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start `{}`", program.display()))?;
        let mut line = String::new();
        BufReader::new(server.stdout.take().context("hear the server")?)
            .read_line(&mut line)
            .context("hear where the server is")?;
        let place: Value = serde_json::from_str(&line)
            .with_context(|| format!("read where the server is: `{line}`"))?;
        let port = place.get("port").and_then(Value::as_u64);
        let postgres = Self {
            server,
            port: port
                .and_then(|port| u16::try_from(port).ok())
                .context("read the server's port")?,
            authority: text(&place, "authority")?.to_owned(),
            socket: text(&place, "socket")?.to_owned(),
            database,
        };
        let mut psql = postgres.client("psql");
        psql.args(["-d", "postgres", "-c"])
            .arg(format!("CREATE DATABASE {database}"));
        process::output(&mut psql)?;
        Ok(postgres)
    }

    /// A client of its superuser.
    pub fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("PGHOST", &self.socket)
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", "postgres")
            .env("PGDATABASE", self.database);
        command
    }

    /// Runs statements as its superuser, each by itself; returns their rows.
    pub fn execute(&self, statements: &[&str]) -> anyhow::Result<String> {
        let mut psql = self.client("psql");
        psql.args(["-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1"]);
        for statement in statements {
            psql.args(["-c", statement]);
        }
        process::output(&mut psql)
    }
}
