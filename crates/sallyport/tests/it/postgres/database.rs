//! A PostgreSQL server as a target, and Alice's stock clients.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _, pipe},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Output, Stdio},
    sync::mpsc::{Receiver, sync_channel},
};

use sallyport_testkit::targets::postgres::Postgres;

use crate::{
    node::{Setup, finished, finished_within},
    waiting::PATIENCE,
    world::World,
};

/// The account of most stories.
pub const APP: &str = "app@orders";
/// What the server knows the account by. Nobody but the vault does otherwise.
pub const SECRET: &str = "canary-of-the-database-5p1n";

/// A world with a database in it. Fields are dropped in order.
#[derive(Debug)]
pub struct Shop {
    pub world: World,
    pub server: Postgres,
}

impl Shop {
    /// A database `shop` with a table `item` of three rows, owned by the account `app`.
    pub fn new() -> Self {
        Self::with(Setup::default())
    }

    /// The same on a node that is made otherwise.
    pub fn with(setup: Setup) -> Self {
        let server = Postgres::start_as_target().unwrap();
        let world = World::with(setup);
        let shop = Self { world, server };
        shop.execute(
            "postgres",
            &format!("CREATE ROLE app LOGIN PASSWORD '{SECRET}'"),
        );
        shop.execute("postgres", "CREATE DATABASE shop OWNER app");
        shop.execute(
            "shop",
            "SET ROLE app; CREATE TABLE item (id int PRIMARY KEY, name text); \
             INSERT INTO item VALUES (1, 'lamp'), (2, 'chair'), (3, 'desk')",
        );
        shop.add_target("orders", &shop.server.authority().display().to_string());
        shop
    }

    /// A name for the server, recognised by this.
    pub fn add_target(&self, name: &str, identity: &str) {
        self.add_target_at(name, identity, &self.server.address().to_string());
    }

    /// A name for whatever listens there.
    pub fn add_target_at(&self, name: &str, identity: &str, address: &str) {
        let olga = &self.world.olga;
        olga.say(&[
            "target",
            "create",
            name,
            "--protocol",
            "postgres",
            "--address",
            address,
            "--sensitivity",
            "medium",
            "--host-key",
            identity,
        ]);
        let on = format!("app@{name}");
        olga.say(&["account", "create", &on, "--engine", "static"]);
        let stored = olga.try_with(
            &["account", "set-secret", &on, "--kind", "password"],
            &format!("{SECRET}\n"),
        );
        assert_eq!(stored.code, 0, "{stored:?}");
    }

    /// What the superuser sees, past the gateway.
    pub fn execute(&self, database: &str, sql: &str) -> String {
        self.server.execute(database, sql).unwrap()
    }

    /// A pass of Alice's.
    pub fn pass(&self, on: &str) -> String {
        self.world.alice.say(&["db", "token", on]).trim().to_owned()
    }

    /// A stock client of Alice's, as a script of hers would set it up.
    pub fn command(&self, program: &str, on: &str, pass: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.world.node.postgres_port.to_string())
            .env("PGUSER", on)
            .env("PGDATABASE", "shop")
            .env("PGPASSWORD", pass)
            .env("PGSSLMODE", "verify-full")
            .env("PGSSLROOTCERT", self.world.node.ca())
            .env("PGCONNECT_TIMEOUT", "60")
            .env("HOME", &self.world.alice.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// `psql` with these words, run to its end.
    pub fn psql(&self, pass: &str, words: &[&str]) -> Output {
        let mut command = self.command("psql", APP, pass);
        command.args(["-X", "-q", "-A", "-t"]).args(words);
        finished(command.spawn().unwrap())
    }

    /// What a query gives that must succeed.
    pub fn query(&self, pass: &str, sql: &str) -> String {
        let output = self.psql(pass, &["-c", sql]);
        assert!(output.status.success(), "{sql}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// `psql` that is typed at.
    pub fn start(&self, pass: &str, words: &[&str]) -> Live {
        let mut command = self.command("psql", APP, pass);
        command
            .args(["-X", "-q", "-A", "-t"])
            .args(words)
            .stdin(Stdio::piped());
        Live::of(command)
    }

    /// Where a file of Alice's is.
    pub fn file(&self, name: &str) -> PathBuf {
        self.world.alice.folder.join(name)
    }

    /// The evidence of a session, in order, once it has ended.
    pub fn operations(&self, session_id: &str) -> Vec<serde_json::Value> {
        self.world.ended_session(session_id);
        self.world
            .carol
            .list(&["session", "operations", session_id, "--limit", "1000"])
    }

    /// The evidence of the statements of a session, in order, once it has ended.
    pub fn statements(&self, session_id: &str) -> Vec<serde_json::Value> {
        let mut operations = self.operations(session_id);
        operations.retain(|operation| operation["kind"] == "statement");
        operations
    }

    /// The newest session, by id.
    pub fn newest(&self) -> String {
        self.world.newest_session()["id"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

/// A client that is typed at.
#[derive(Debug)]
pub struct Live {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    pub seen: Vec<String>,
}

impl Live {
    /// Starts a client; its input is a pipe already. What it says on either stream comes in the order in which
    /// it said it, through one pipe, as a terminal would show it.
    pub fn of(mut command: Command) -> Self {
        let (stream, stdout) = pipe().unwrap();
        let stderr = stdout.try_clone().unwrap();
        let mut child = command.stdout(stdout).stderr(stderr).spawn().unwrap();
        // It keeps the other end of the pipe open.
        drop(command);
        let stdin = child.stdin.take();
        let (said, lines) = sync_channel(10_000);
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let _ = said.send(line);
            }
        });
        Live {
            child,
            stdin,
            lines,
            seen: Vec::new(),
        }
    }

    /// Types a line.
    pub fn type_line(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").unwrap();
    }

    /// Waits until a line says this, on either stream; returns it.
    pub fn until(&mut self, what: &str) -> String {
        self.until_one_of(&[what])
    }

    /// Waits until a line says one of these, on either stream; returns it.
    pub fn until_one_of(&mut self, what: &[&str]) -> String {
        loop {
            let line = self
                .lines
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("never said any of {what:?}: {:#?}", self.seen));
            self.seen.push(line.clone());
            if what.iter().any(|what| line.contains(what)) {
                return line;
            }
        }
    }

    /// Closes its input and waits for its end; returns its exit code.
    pub fn end(mut self) -> i32 {
        drop(self.stdin.take());
        let status = finished_within(PATIENCE, self.child).status;
        status.code().unwrap_or(-1)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

/// What a client said on its standard error.
pub fn complaint(output: &Output) -> String {
    let mut text = String::new();
    let _ = output.stderr.as_slice().read_to_string(&mut text);
    text
}
