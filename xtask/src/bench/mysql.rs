//! `mysql`: what a MySQL client's statements cost, directly and through a node with every statement on record;
//! TLS and a password on every leg. The server is MariaDB, the client sysbench with prepared statements.
//!
//! Not here: PostgreSQL ([`super::database`]), which has all the other figures of databases.

use std::{fs, path::Path as FilePath, process::Command, time::Duration};

use anyhow::{Context as _, bail};

use super::{
    accounting::{self, Cpu},
    figures::{Figures, Row},
    options::Options,
    path::{Path, in_turn},
};
use crate::{
    demo::{
        actor::{Actor, text},
        stage::Stage,
        target_program::TargetProgram,
    },
    process,
};

const CONNECTIONS_MAX: u16 = 60;
const ACCOUNT: &str = "app";
const PASSWORD: &str = "only-for-this-measurement";
const PERSON: &str = "alice";
const ROWS: &str = "--table-size=100000";
const CLIENTS: &str = "8";
const SETTLE: Duration = Duration::from_millis(600);

/// Takes the samples.
pub fn take(binary: &FilePath, options: &Options, figures: &mut Figures) -> anyhow::Result<()> {
    let world = World::make(binary)?;
    let rate = Row::new(
        "point-select.rate",
        "8 clients, sysbench oltp_point_select",
        "per s",
    );
    let each = Row::new(
        "point-select.middle-cpu",
        "8 clients, sysbench oltp_point_select: CPU in the middle, each",
        "µs",
    );
    let ours = |(_, path): &(usize, Path)| *path != Path::Relay;
    for (_, path) in in_turn(options.rounds).filter(ours) {
        match world.point_select(path, options.count(5, 1)) {
            Ok(taken) => {
                figures.add(&rate, Some(path), taken.rate);
                if path == Path::Sallyport {
                    let spent = taken.gateway.as_secs_f64() * 1e6;
                    figures.add(&each, Some(path), spent / taken.count);
                }
            }
            Err(error) => figures.fail(&rate, Some(path), &error),
        }
    }
    Ok(())
}

/// A server, a node, and a person who needs nobody's word.
struct World {
    server: TargetProgram,
    gateway_pid: u32,
    stage: Stage,
}

/// Some seconds of statements.
struct Taken {
    rate: f64,
    count: f64,
    gateway: Duration,
}

impl World {
    fn make(binary: &FilePath) -> anyhow::Result<Self> {
        let stage = Stage::set(binary, "bench-mysql")?;
        let server = TargetProgram::start(binary, "mariadb-target", CONNECTIONS_MAX)?;
        let world = Self {
            server,
            gateway_pid: accounting::child_called(stage.node_pid(), "gateway")?,
            stage,
        };
        world.furnish()?;
        Ok(world)
    }

    /// Rows, an account, and a grant for it.
    fn furnish(&self) -> anyhow::Result<()> {
        self.execute("CREATE DATABASE bench")?;
        self.execute(&format!(
            "CREATE USER {ACCOUNT}@'%' IDENTIFIED BY '{PASSWORD}' REQUIRE SSL; GRANT ALL ON bench.* TO {ACCOUNT}@'%'"
        ))?;
        self.make_identity()?;
        process::output(self.sysbench(Path::Direct)?.args([ROWS, "prepare"]))?;
        let owner = Actor::enrol(&self.stage, "olga", &self.stage.first_owner_code)?;
        let made = owner.json(&["person", "create", PERSON, "--group", "operators"])?;
        let person = Actor::enrol(&self.stage, PERSON, text(&made, "code")?)?;
        let address = format!("127.0.0.1:{}", self.server.port);
        let create = ["target", "create", "orders", "--protocol", "mysql"];
        let place = ["--address", &address, "--sensitivity", "low"];
        owner.say(&[&create[..], &place, &["--host-key", &self.server.authority]].concat())?;
        owner.say(&["account", "create", &on(), "--engine", "static"])?;
        let words = ["account", "set-secret", &on(), "--kind", "password"];
        let (is_done, _, complaint) = owner.attempt(&words, &format!("{PASSWORD}\n"))?;
        if !is_done {
            bail!("give the node the account's password: {complaint}");
        }
        let request = ["request", "create", &on(), "--for", "8h"];
        let words = [&request[..], &["--reason", "measure what this path costs"]].concat();
        text(&person.json(&words)?, "grant_id")
            .map(drop)
            .context("get a grant without asking anybody")
    }

    /// sysbench looks for its authorities in its folder, and speaks TLS only with a certificate of its own. Of
    /// those, the server takes the one that it knows.
    fn make_identity(&self) -> anyhow::Result<()> {
        let (folder, authority) = (&self.stage.folder, &self.server.authority);
        let of_server = fs::read(authority).context("read the server's certificate")?;
        let mut authorities = fs::read(self.stage.ca()).context("read the node's authority")?;
        authorities.extend(&of_server);
        let key = FilePath::new(authority).with_extension("key");
        let key = fs::read(key).context("read the server's key")?;
        let files = [
            ("cacert.pem", authorities),
            ("client-cert.pem", of_server),
            ("client-key.pem", key),
        ];
        for (name, content) in files {
            fs::write(folder.join(name), content).with_context(|| format!("write `{name}`"))?;
        }
        Ok(())
    }

    fn execute(&self, sql: &str) -> anyhow::Result<()> {
        let mut client = Command::new("mariadb");
        client
            .arg("--no-defaults")
            .arg(format!("--socket={}", self.server.socket))
            .args(["--user=root", "--execute", sql]);
        process::output(&mut client).map(drop)
    }

    fn sysbench(&self, path: Path) -> anyhow::Result<Command> {
        let (port, user, password) = match path {
            Path::Direct | Path::Relay => {
                (self.server.port, ACCOUNT.to_owned(), PASSWORD.to_owned())
            }
            Path::Sallyport => {
                let person = Actor::known(&self.stage, PERSON);
                let pass = person.say(&["db", "token", &on()])?;
                (self.stage.mysql_port, on(), pass.trim().to_owned())
            }
        };
        let mut command = Command::new("sysbench");
        command
            .current_dir(&self.stage.folder)
            .args([
                "oltp_point_select",
                "--db-driver=mysql",
                "--mysql-host=127.0.0.1",
            ])
            .args(["--mysql-db=bench", "--mysql-ssl=on", "--tables=1"])
            .arg(format!("--mysql-port={port}"))
            .arg(format!("--mysql-user={user}"))
            .arg(format!("--mysql-password={password}"));
        Ok(command)
    }

    fn point_select(&self, path: Path, seconds: usize) -> anyhow::Result<Taken> {
        let before = Cpu::of(self.gateway_pid)?.total();
        let printed = process::output(
            self.sysbench(path)?
                .args([ROWS, &format!("--threads={CLIENTS}")])
                .args([&format!("--time={seconds}"), "run"]),
        )?;
        // Evidence goes on its way a moment after the last statement.
        std::thread::sleep(SETTLE);
        let spent = Cpu::of(self.gateway_pid)?.total().saturating_sub(before);
        let (count, rate) = transactions(&printed)?;
        Ok(Taken {
            rate,
            count,
            gateway: spent,
        })
    }
}

fn on() -> String {
    format!("{ACCOUNT}@orders")
}

/// How many there were, and how many a second: `    transactions:       12345  (2468.10 per sec.)`.
fn transactions(printed: &str) -> anyhow::Result<(f64, f64)> {
    let line = printed
        .lines()
        .find_map(|line| line.trim().strip_prefix("transactions:"))
        .with_context(|| format!("find the transactions in `{printed}`"))?;
    let mut words = line.split([' ', '(']).filter(|word| !word.is_empty());
    let mut number = || words.next()?.parse::<f64>().ok();
    let (count, rate) = (number(), number());
    count
        .zip(rate)
        .with_context(|| format!("read the transactions in `{line}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_what_sysbench_prints_then_its_transactions_are_read() {
        let printed =
            "SQL statistics:\n    transactions:                        12345  (2468.10 per sec.)\n";
        assert_eq!(transactions(printed).unwrap(), (12345.0, 2468.1));
        assert!(transactions("nothing").is_err());
    }
}
