//! `sallyport db …`: databases through the gateway with the clients people have.

use std::{os::unix::process::CommandExt as _, path::PathBuf, process::Command};

use clap::Subcommand;
use sallyport_api::rest::sign_in::{CreatePass, CreatedPass};
use sallyport_core::inventory::Selector;

use crate::{
    context::Context,
    failure::Failure,
    files::{self, Readers},
    output::minute,
};

use super::{account_on_target, seconds};

/// Databases: a pass for any client, or a client with everything filled in
#[derive(Debug, clap::Args)]
pub struct Db {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a pass: what a database client sends as its password, for minutes, for one account
    Token {
        /// Account on a target, such as app@orders
        #[arg(value_name = "ACCOUNT@TARGET", value_parser = account_on_target)]
        on: Selector,
        /// How long it lives, 30s to 1h; 10m when left out, and never longer than your sign-in
        #[arg(long = "for", value_parser = seconds, value_name = "TIME")]
        ttl_s: Option<u64>,
        /// Write it to this file, for its owner only, instead of printing it
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Run a stock client with server, authority, names and a pass filled in
    Connect {
        /// Account on a target, such as app@orders
        #[arg(value_name = "ACCOUNT@TARGET", value_parser = account_on_target)]
        on: Selector,
        /// Database; the account's name when left out
        #[arg(long, value_name = "NAME")]
        database: Option<String>,
        /// Client to run: psql, pg_dump, or any other that reads the environment as libpq does
        #[arg(long, value_name = "PROGRAM", default_value = "psql")]
        program: PathBuf,
        /// Port of the gateway; asked for when left out
        #[arg(long, value_name = "PORT")]
        port: Option<u16>,
        /// Words for the client, after `--`
        #[arg(last = true, value_name = "WORD")]
        words: Vec<String>,
    },
}

impl Db {
    /// Makes a pass, and prints it or runs a client with it.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        match self.verb {
            Verb::Token { on, ttl_s, file } => {
                let body = CreatePass {
                    on: on.to_string(),
                    ttl_s,
                };
                let created: CreatedPass = client.post(&["self", "passes"], &body).await?;
                let Some(path) = file else {
                    return context.output.done(&created, created.pass.expose());
                };
                files::write(&path, created.pass.expose().as_bytes(), Readers::Owner)?;
                let until = minute(created.expires_at);
                let line = format!(
                    "wrote a pass for {on}, good until {until}, to `{}`",
                    path.display()
                );
                let written = serde_json::json!({ "on": on.to_string(), "file": path, "expires_at": created.expires_at });
                context.output.done(&written, &line)
            }
            Verb::Connect {
                on,
                database,
                program,
                port,
                words,
            } => {
                let body = CreatePass {
                    on: on.to_string(),
                    ttl_s: None,
                };
                let created: CreatedPass = client.post(&["self", "passes"], &body).await?;
                let port = port.or_else(|| created.ports.first().copied()).ok_or_else(|| {
                    Failure::failed(
                        "no gateway takes database clients",
                        "an operator sets `gateway.postgres_listen`; `--port` names a port that is not known here",
                    )
                })?;
                let (ca, _) = context.profile.ca()?;
                // The pass goes by the environment, which only this user's processes can read; a command
                // line everybody could.
                let error = Command::new(&program)
                    .args(words)
                    .env("PGHOST", client.host())
                    .env("PGPORT", port.to_string())
                    .env("PGUSER", on.to_string())
                    .env(
                        "PGDATABASE",
                        database.unwrap_or_else(|| on.account.to_string()),
                    )
                    .env("PGPASSWORD", created.pass.expose())
                    .env("PGSSLMODE", "verify-full")
                    .env("PGSSLROOTCERT", ca)
                    .exec();
                Err(Failure::failed(
                    format!("run `{}`: {error}", program.display()),
                    "install it, or name another with `--program`",
                ))
            }
        }
    }
}
