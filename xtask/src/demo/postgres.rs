//! A PostgreSQL server as a target, with one database and clients of its superuser.
//!
//! Not here: its process ([`super::target_program`]).

use std::{path::Path, process::Command};

use super::target_program::TargetProgram;
use crate::process;

/// A running server with one database.
#[derive(Debug)]
pub struct Postgres {
    /// Its process, and where it is.
    pub program: TargetProgram,
    database: &'static str,
}

impl Postgres {
    /// Starts one for so many connections, with an empty database of this name; `binary` is `sallyport`.
    pub fn start(
        binary: &Path,
        connections_max: u16,
        database: &'static str,
    ) -> anyhow::Result<Self> {
        let postgres = Self {
            program: TargetProgram::start(binary, "postgres-target", connections_max)?,
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
            .env("PGHOST", &self.program.socket)
            .env("PGPORT", self.program.port.to_string())
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
