//! `sallyport db …`: databases through the gateway with the clients people have.

mod listen;

use std::{
    net::{Ipv4Addr, SocketAddr},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use clap::Subcommand;
use sallyport_api::{
    rest::sign_in::{CreatePass, CreatedPass},
    sensitive::Sensitive,
};
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
        /// Client to run; psql or mariadb (mysql where that is missing) by the target's protocol when left
        /// out. For PostgreSQL any that reads the environment as libpq does, such as pg_dump; for MySQL any
        /// that takes the options of mysql, such as mysqldump
        #[arg(long, value_name = "PROGRAM")]
        program: Option<PathBuf>,
        /// What the target speaks, postgres or mysql; asked for when left out
        #[arg(long, value_name = "PROTOCOL", value_parser = ["postgres", "mysql"])]
        protocol: Option<String>,
        /// Port of the gateway; asked for when left out
        #[arg(long, value_name = "PORT")]
        port: Option<u16>,
        /// Words for the client, after `--`
        #[arg(last = true, value_name = "WORD")]
        words: Vec<String>,
    },
    /// Take PostgreSQL clients on this machine until Ctrl-C: GUI tools and others that cannot be given a
    /// pass of minutes or an authority. Each connection gets a pass of its own
    Listen {
        /// Account on a target, such as app@orders
        #[arg(value_name = "ACCOUNT@TARGET", value_parser = account_on_target)]
        on: Selector,
        /// Address of this machine's loopback; any free port when left out
        #[arg(long, value_name = "ADDRESS:PORT", default_value_t = ANY_PORT)]
        listen: SocketAddr,
        /// Database, whatever clients name; theirs when left out, or the account's name
        #[arg(long, value_name = "NAME")]
        database: Option<String>,
    },
}

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

impl Db {
    /// Makes a pass, and prints it or runs a client with it; or takes clients that need none.
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
                protocol,
                port,
                words,
            } => {
                let body = CreatePass {
                    on: on.to_string(),
                    ttl_s: None,
                };
                let created: CreatedPass = client.post(&["self", "passes"], &body).await?;
                // Whoever may not know the target is told so by the gateway, in any protocol.
                let protocol = protocol.as_ref().or(created.protocol.as_ref());
                let protocol = protocol.map_or("postgres", String::as_str);
                let entrance = created.entrances.iter().find(|e| e.protocol == protocol);
                let port = port.or(entrance.map(|entrance| entrance.port)).ok_or_else(|| {
                    Failure::failed(
                        format!("no gateway takes {protocol} clients"),
                        format!("an operator sets `gateway.{protocol}_listen`; `--port` names a port that is not known here"),
                    )
                })?;
                let (ca, _) = context.profile.ca()?;
                let launch = Launch {
                    host: client.host().to_owned(),
                    port,
                    on,
                    database,
                    pass: &created.pass,
                    ca: ca.to_path_buf(),
                };
                let (program, mut command) = match protocol {
                    "mysql" => launch.mysql(program)?,
                    _ => launch.postgres(program),
                };
                let error = command.args(words).exec();
                Err(cannot_run(&program, &error))
            }
            Verb::Listen {
                on,
                listen,
                database,
            } => listen::run(context, on, listen, database).await,
        }
    }
}

fn cannot_run(program: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(
        format!("run `{}`: {error}", program.display()),
        "install it, or name another with `--program`",
    )
}

/// What a client is started with. The pass goes by the environment, which only this user's processes can
/// read; a command line everybody could.
struct Launch<'a> {
    host: String,
    port: u16,
    on: Selector,
    database: Option<String>,
    pass: &'a Sensitive,
    ca: PathBuf,
}

impl Launch<'_> {
    fn postgres(self, program: Option<PathBuf>) -> (PathBuf, Command) {
        let program = program.unwrap_or_else(|| PathBuf::from("psql"));
        let mut command = Command::new(&program);
        let database = self.database.unwrap_or_else(|| self.on.account.to_string());
        command
            .env("PGHOST", self.host)
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", self.on.to_string())
            .env("PGDATABASE", database)
            .env("PGPASSWORD", self.pass.expose())
            .env("PGSSLMODE", "verify-full")
            .env("PGSSLROOTCERT", self.ca);
        (program, command)
    }

    fn mysql(self, program: Option<PathBuf>) -> Result<(PathBuf, Command), Failure> {
        let (program, is_mariadb) = match program {
            Some(program) => {
                let is_mariadb =
                    is_mariadb(&program).map_err(|error| cannot_run(&program, &error))?;
                (program, is_mariadb)
            }
            None => {
                let known = ["mariadb", "mysql"].map(PathBuf::from);
                let found = known.into_iter().find_map(|program| {
                    let is_mariadb = is_mariadb(&program).ok()?;
                    Some((program, is_mariadb))
                });
                found.ok_or_else(|| {
                    Failure::failed(
                        "find a client: neither `mariadb` nor `mysql` is here",
                        "install one, or name another with `--program`",
                    )
                })?
            }
        };
        let mut command = Command::new(&program);
        command
            .env("MYSQL_PWD", self.pass.expose())
            .arg("--protocol=TCP")
            .arg(format!("--host={}", self.host))
            .arg(format!("--port={}", self.port))
            .arg(format!("--user={}", self.on))
            .arg(format!("--ssl-ca={}", self.ca.display()));
        // Both verify the gateway's name; neither knows the other's word for it.
        command.arg(match is_mariadb {
            true => "--ssl-verify-server-cert",
            false => "--ssl-mode=VERIFY_IDENTITY",
        });
        if let Some(database) = self.database {
            command.arg(format!("--database={database}"));
        }
        Ok((program, command))
    }
}

/// Whether a client is MariaDB's, whose options differ.
fn is_mariadb(program: &Path) -> std::io::Result<bool> {
    let output = Command::new(program).arg("--version").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).contains("MariaDB"))
}
