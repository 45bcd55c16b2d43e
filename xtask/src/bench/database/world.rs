//! What database figures are measured on: PostgreSQL as the target, pgbouncer in front of it in session mode,
//! and a node; TLS and a password on every leg of every path.
//!
//! INVARIANT: dropping it stops every process it started and removes what they wrote.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path as FilePath, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use crate::{
    bench::{
        accounting::{self, Cpu},
        path::Path,
    },
    demo::{
        actor::{Actor, text},
        postgres::Postgres,
        stage::{Running, Stage, free_ports, until},
    },
    process,
};

/// The database, as the server and everybody calls it.
const DATABASE: &str = "bench";
/// The account at the target, and its password, which the node's clients do not have.
const ACCOUNT: &str = "app";
const PASSWORD: &str = "only-for-this-measurement";
/// The account whose users are made for each session, and the one that makes them.
const FRESH: &str = "reader";
const MAKER: &str = "maker";
const OWNER: &str = "olga";
const PERSON: &str = "alice";
const REASON: &str = "measure what this path costs";
/// Enough for a crowd on each path at once: pgbouncer keeps connections that nobody uses.
const CONNECTIONS_MAX: u16 = 700;
/// Of those, what pgbouncer may have.
const POOL_MAX: u16 = 250;
/// pgbench makes 100,000 rows of each.
const SCALE: &str = "10";
const SETTLE: Duration = Duration::from_millis(300);
const SETTLE_MAX: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub struct World {
    pooler: Running,
    pooler_port: u16,
    pooler_folder: PathBuf,
    target: Postgres,
    gateway_pid: u32,
    control_pid: u32,
    stage: Stage,
}

/// What the parties in the middle have spent since they started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    pub gateway: Duration,
    pub control: Duration,
    pub pooler: Duration,
}

impl Spent {
    /// What all of them spent.
    pub const fn total(self) -> Duration {
        self.gateway
            .saturating_add(self.control)
            .saturating_add(self.pooler)
    }

    /// What was spent since `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            gateway: self.gateway.saturating_sub(before.gateway),
            control: self.control.saturating_sub(before.control),
            pooler: self.pooler.saturating_sub(before.pooler),
        }
    }

    /// What the party in the middle of `path` spent.
    pub const fn in_the_middle(self, path: Path) -> Option<Duration> {
        match path {
            Path::Direct => None,
            Path::Relay => Some(self.pooler),
            Path::Sallyport => Some(self.gateway),
        }
    }
}

impl World {
    /// Starts everything, with a million rows.
    pub fn make(binary: &FilePath) -> anyhow::Result<Self> {
        let stage = Stage::set(binary, "bench-database")?;
        let target = Postgres::start(binary, CONNECTIONS_MAX, DATABASE)?;
        process::output(target.client("pgbench").args(["-i", "-q", "-s", SCALE]))?;
        target.execute(&[
            &format!("CREATE ROLE {ACCOUNT} LOGIN PASSWORD '{PASSWORD}'"),
            &format!("CREATE ROLE {MAKER} LOGIN CREATEROLE PASSWORD '{PASSWORD}'"),
            "CREATE ROLE readers",
            "CREATE UNLOGGED TABLE sink (LIKE pgbench_accounts)",
            "GRANT SELECT ON ALL TABLES IN SCHEMA public TO readers",
            &format!("GRANT ALL ON ALL TABLES IN SCHEMA public TO {ACCOUNT}"),
            "VACUUM ANALYZE",
        ])?;
        let (pooler, pooler_port, pooler_folder) = start_pooler(&target)?;
        let node = stage.node_pid();
        let world = Self {
            pooler,
            pooler_port,
            pooler_folder,
            target,
            gateway_pid: accounting::child_called(node, "gateway")?,
            control_pid: accounting::child_called(node, "control")?,
            stage,
        };
        world.make_grant()?;
        Ok(world)
    }

    /// A person who may use the account without asking anybody, and the account.
    fn make_grant(&self) -> anyhow::Result<()> {
        let owner = Actor::enrol(&self.stage, OWNER, &self.stage.first_owner_code)?;
        let made = owner.json(&["person", "create", PERSON, "--group", "operators"])?;
        let person = Actor::enrol(&self.stage, PERSON, text(&made, "code")?)?;
        let address = format!("127.0.0.1:{}", self.target.program.port);
        owner.say(&[
            "target",
            "create",
            "orders",
            "--protocol",
            "postgres",
            "--address",
            &address,
            "--sensitivity",
            "low",
            "--host-key",
            &self.target.program.authority,
        ])?;
        for name in [ACCOUNT, MAKER] {
            let account = on(name);
            owner.say(&["account", "create", &account, "--engine", "static"])?;
            let words = ["account", "set-secret", &account, "--kind", "password"];
            let (is_done, _, complaint) = owner.attempt(&words, &format!("{PASSWORD}\n"))?;
            if !is_done {
                bail!("give the node the account's password: {complaint}");
            }
        }
        let root = format!("root={MAKER}");
        let settings = ["--setting", &root, "--setting", "roles=readers"];
        let create = ["account", "create", &on(FRESH), "--engine", "postgres"];
        owner.say(&[&create[..], &settings].concat())?;
        for name in [ACCOUNT, FRESH] {
            let request = ["request", "create", &on(name), "--for", "8h"];
            let words = [&request[..], &["--reason", REASON]].concat();
            text(&person.json(&words)?, "grant_id")
                .map(drop)
                .context("get a grant without asking anybody")?;
        }
        Ok(())
    }

    /// A stock client of `path`, with what it needs in its environment.
    pub fn client(&self, path: Path, program: &str) -> anyhow::Result<Command> {
        match path {
            Path::Direct => Ok(stock(program, self.target.program.port, ACCOUNT, PASSWORD)),
            Path::Relay => Ok(stock(program, self.pooler_port, ACCOUNT, PASSWORD)),
            Path::Sallyport => self.client_of(ACCOUNT, program),
        }
    }

    /// A stock client whose every session has a user of its own at the target.
    pub fn fresh_client(&self, program: &str) -> anyhow::Result<Command> {
        self.client_of(FRESH, program)
    }

    fn client_of(&self, account: &str, program: &str) -> anyhow::Result<Command> {
        let person = Actor::known(&self.stage, PERSON);
        let pass = person.say(&["db", "token", &on(account)])?;
        let port = self.stage.postgres_port;
        Ok(stock(program, port, &on(account), pass.trim()))
    }

    /// Runs SQL as the target's superuser, beside every path.
    pub fn execute(&self, sql: &str) -> anyhow::Result<String> {
        self.target.execute(&[sql])
    }

    /// A file that costs no disk.
    pub fn file(&self, name: &str) -> PathBuf {
        self.pooler_folder.join(name)
    }

    /// The gateway's process.
    pub const fn gateway_pid(&self) -> u32 {
        self.gateway_pid
    }

    /// pgbouncer's process.
    pub fn pooler_pid(&self) -> u32 {
        self.pooler.0.id()
    }

    /// What the middle has spent, once that has stopped changing.
    pub fn spent(&self) -> anyhow::Result<Spent> {
        let deadline = Instant::now() + SETTLE_MAX;
        let mut before = self.spent_now()?;
        loop {
            std::thread::sleep(SETTLE);
            let now = self.spent_now()?;
            if now.gateway == before.gateway || Instant::now() > deadline {
                return Ok(now);
            }
            before = now;
        }
    }

    fn spent_now(&self) -> anyhow::Result<Spent> {
        Ok(Spent {
            gateway: Cpu::of(self.gateway_pid)?.total(),
            control: Cpu::of(self.control_pid)?.total(),
            pooler: Cpu::of(self.pooler.0.id())?.total(),
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.pooler_folder);
    }
}

/// An account as people at the node call it.
fn on(account: &str) -> String {
    format!("{account}@orders")
}

fn stock(program: &str, port: u16, user: &str, password: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", port.to_string())
        .env("PGUSER", user)
        .env("PGPASSWORD", password)
        .env("PGDATABASE", DATABASE)
        .env("PGSSLMODE", "require")
        .env("PGGSSENCMODE", "disable")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Starts pgbouncer as Debian's account `postgres`, because it refuses to be root.
fn start_pooler(target: &Postgres) -> anyhow::Result<(Running, u16, PathBuf)> {
    let memory = FilePath::new("/dev/shm");
    let folder = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    }
    .join(format!("sallyport-bench-database-{}", std::process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("make `{}`", folder.display()))?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).context("open the folder")?;
    let file = |name: &str| folder.join(name).display().to_string();
    process::output(Command::new("openssl").args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=127.0.0.1",
        "-keyout",
        &file("key"),
        "-out",
        &file("crt"),
    ]))?;
    fs::copy(&target.program.authority, folder.join("ca"))
        .context("copy the target's certificate")?;
    fs::write(
        folder.join("users"),
        format!("\"{ACCOUNT}\" \"{PASSWORD}\"\n"),
    )
    .context("write pgbouncer's users")?;
    let [port] = free_ports()?;
    let settings = format!(
        "[databases]\n{DATABASE} = host=127.0.0.1 port={} dbname={DATABASE}\n[pgbouncer]\n\
         listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\npool_mode = session\n\
         auth_type = scram-sha-256\nauth_file = {}\nmax_client_conn = 1000\ndefault_pool_size = {POOL_MAX}\n\
         client_tls_sslmode = require\nclient_tls_key_file = {}\nclient_tls_cert_file = {}\n\
         server_tls_sslmode = verify-ca\nserver_tls_ca_file = {}\nlog_connections = 0\nlog_disconnections = 0\n",
        target.program.port,
        file("users"),
        file("key"),
        file("crt"),
        file("ca"),
    );
    fs::write(folder.join("ini"), settings).context("write pgbouncer's settings")?;
    process::output(Command::new("chown").args(["-R", "postgres"]).arg(&folder))?;
    let log = fs::File::create(folder.join("log")).context("make pgbouncer's log")?;
    let child = Command::new("setpriv")
        .args([
            "--reuid",
            "postgres",
            "--regid",
            "postgres",
            "--clear-groups",
        ])
        .arg("pgbouncer")
        .arg(folder.join("ini"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .context("start pgbouncer: apt-get install pgbouncer")?;
    let pooler = Running(child);
    until("pgbouncer listens", || {
        Ok(std::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, port)).ok())
    })?;
    Ok((pooler, port, folder))
}
