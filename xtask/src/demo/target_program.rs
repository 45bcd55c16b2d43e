//! A database server as a target: a program of the testkit, which was built beside `sallyport`.
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

/// A running server.
#[derive(Debug)]
pub struct TargetProgram {
    server: Child,
    /// Where it listens, on the loopback interface.
    pub port: u16,
    /// The file with the certificate that vouches for it.
    pub authority: String,
    /// Where its superuser connects.
    pub socket: String,
}

impl Drop for TargetProgram {
    fn drop(&mut self) {
        drop(self.server.stdin.take());
        let _ = self.server.wait();
    }
}

impl TargetProgram {
    /// Starts the program of this name for so many connections; `binary` is `sallyport`.
    pub fn start(binary: &Path, name: &str, connections_max: u16) -> anyhow::Result<Self> {
        let program = binary.with_file_name(name);
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
        Ok(Self {
            server,
            port: port
                .and_then(|port| u16::try_from(port).ok())
                .context("read the server's port")?,
            authority: text(&place, "authority")?.to_owned(),
            socket: text(&place, "socket")?.to_owned(),
        })
    }
}
