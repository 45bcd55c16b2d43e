//! A MariaDB server as a target, and Alice's stock clients.

use std::{
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use sallyport_testkit::targets::mariadb::Mariadb;

use crate::{
    node::{Setup, finished},
    postgres::database::Live,
    world::World,
};

/// The account of most stories.
pub const APP: &str = "app@shop";
/// What the server knows the account by. Nobody but the vault does otherwise.
pub const SECRET: &str = "canary-of-the-database-5p1n";

/// A world with a database in it. Fields are dropped in order.
#[derive(Debug)]
pub struct Shop {
    pub world: World,
    pub server: Mariadb,
}

impl Shop {
    /// A database `shop` with a table `item` of three rows, for the account `app`.
    pub fn new() -> Self {
        Self::with(Setup::default())
    }

    /// The same on a node that is made otherwise.
    pub fn with(setup: Setup) -> Self {
        let server = Mariadb::start().unwrap();
        let world = World::with(setup);
        let shop = Self { world, server };
        shop.execute(&format!(
            "CREATE DATABASE shop; CREATE USER app@'%' IDENTIFIED BY '{SECRET}' REQUIRE SSL; \
             GRANT ALL ON shop.* TO app@'%'; GRANT SELECT ON performance_schema.* TO app@'%'; \
             CREATE TABLE shop.item (id int PRIMARY KEY, name varchar(40)); \
             INSERT INTO shop.item VALUES (1, 'lamp'), (2, 'chair'), (3, 'desk')"
        ));
        shop.add_target("shop", &shop.server.authority().display().to_string());
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
            "mysql",
            "--address",
            address,
            "--sensitivity",
            "medium",
            "--host-key",
            identity,
        ]);
        self.add_account(&format!("app@{name}"), SECRET);
    }

    /// An account with this password in the vault.
    pub fn add_account(&self, on: &str, password: &str) {
        let olga = &self.world.olga;
        olga.say(&["account", "create", on, "--engine", "static"]);
        let stored = olga.try_with(
            &["account", "set-secret", on, "--kind", "password"],
            &format!("{password}\n"),
        );
        assert_eq!(stored.code, 0, "{stored:?}");
    }

    /// What the superuser sees, past the gateway.
    pub fn execute(&self, sql: &str) -> String {
        self.server.execute(sql).unwrap()
    }

    /// A pass of Alice's.
    pub fn pass(&self, on: &str) -> String {
        self.world.alice.say(&["db", "token", on]).trim().to_owned()
    }

    /// A stock client of Alice's, as a script of hers would set it up. No flag makes it send what it would
    /// not send otherwise.
    pub fn command(&self, program: &str, on: &str, pass: &str) -> Command {
        let mut command = Command::new(program);
        command
            .args(["--no-defaults", "--protocol=TCP", "--host=127.0.0.1"])
            .arg(format!("--port={}", self.world.node.mysql_port))
            .arg(format!("--user={on}"))
            .arg(format!("--ssl-ca={}", self.world.node.ca().display()))
            .arg("--ssl-verify-server-cert")
            .env("MYSQL_PWD", pass)
            .env("HOME", &self.world.alice.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// `mariadb` with these words, run to its end.
    pub fn mariadb(&self, pass: &str, words: &[&str]) -> Output {
        let mut command = self.command("mariadb", APP, pass);
        command
            .args(["--batch", "--skip-column-names", "--database=shop"])
            .args(words);
        finished(command.spawn().unwrap())
    }

    /// `mariadb` that reads this from its input to the end, past errors.
    pub fn script(&self, pass: &str, words: &[&str], sql: &str) -> Output {
        let file = self.file("script.sql");
        std::fs::write(&file, sql).unwrap();
        let mut command = self.command("mariadb", APP, pass);
        command
            .args(["--batch", "--skip-column-names", "--force"])
            .arg("--database=shop")
            .args(words)
            .stdin(std::fs::File::open(file).unwrap());
        finished(command.spawn().unwrap())
    }

    /// What a query gives that must succeed.
    pub fn query(&self, pass: &str, sql: &str) -> String {
        let output = self.mariadb(pass, &["-e", sql]);
        assert!(
            output.status.success(),
            "{sql}: {output:?} {}",
            self.world.node.log()
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// `mariadb` that is typed at.
    pub fn start(&self, pass: &str) -> Live {
        let mut command = self.command("mariadb", APP, pass);
        command
            .args(["--batch", "--unbuffered", "--force", "--skip-column-names"])
            .arg("--database=shop")
            .stdin(Stdio::piped());
        Live::of(command)
    }

    /// Where a file of Alice's is.
    pub fn file(&self, name: &str) -> PathBuf {
        self.world.alice.folder.join(name)
    }

    /// The evidence of the operations of a session, in order, once it has ended.
    pub fn operations(&self, session_id: &str) -> Vec<serde_json::Value> {
        self.world.ended_session(session_id);
        self.world
            .carol
            .list(&["session", "operations", session_id, "--limit", "1000"])
    }

    /// The evidence of its statements.
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

    /// How many connections of the account the server has.
    pub fn connections(&self) -> String {
        self.execute("SELECT count(*) FROM information_schema.processlist WHERE user = 'app'")
    }
}
