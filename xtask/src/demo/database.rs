//! The story's second half: a database, with a stock psql.

use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
};

use anyhow::{Context as _, ensure};

use super::{
    actor::{Actor, text},
    postgres::Postgres,
    stage::{Stage, until},
    story::{Cast, shown, step},
};

const ACCOUNT: &str = "app@orders";
/// What the server knows the account by. Only the vault does otherwise.
const PASSWORD: &str = "known-to-the-vault-alone";
/// What changes tables waits for somebody else.
const POLICY: &str = r#"@id("changes-of-tables-wait")
@command_approval("1: *")
permit (principal, action == Action::"operation.run", resource)
when { context.operation.verb == Verb::"ddl" };
"#;

/// Tells it; returns the server, as long as it is to run.
pub fn tell(stage: &Stage, cast: &Cast<'_>) -> anyhow::Result<Postgres> {
    let server = set_up(stage, cast)?;
    let mut psql = ask(stage, cast)?;
    query(&mut psql)?;
    change_a_table(cast, &server, psql)?;
    look_back(cast)?;
    Ok(server)
}

fn set_up(stage: &Stage, cast: &Cast<'_>) -> anyhow::Result<Postgres> {
    step(
        "Olga adds a database: a real PostgreSQL server on this machine",
        "The account's password goes into the vault. Carol's policy: whatever changes tables waits for somebody else.",
    );
    let server = Postgres::start(&stage.binary, 60, "shop")?;
    let role = format!("CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'");
    server.execute(&[
        &role,
        "CREATE TABLE item (id int PRIMARY KEY, name text)",
        "INSERT INTO item VALUES (1, 'lamp'), (2, 'chair'), (3, 'desk')",
        "ALTER TABLE item OWNER TO app",
    ])?;
    let olga = Actor::known(stage, "olga");
    let address = format!("127.0.0.1:{}", server.program.port);
    olga.say(&[
        "target",
        "create",
        "orders",
        "--protocol",
        "postgres",
        "--address",
        &address,
        "--sensitivity",
        "high",
        "--host-key",
        &server.program.authority,
    ])?;
    olga.say(&["account", "create", ACCOUNT, "--engine", "static"])?;
    let words = ["account", "set-secret", ACCOUNT, "--kind", "password"];
    let (is_done, _, complaint) = olga.attempt(&words, &format!("{PASSWORD}\n"))?;
    ensure!(is_done, "the vault did not take the password: {complaint}");

    let folder = cast.carol.file("policies");
    let path = folder.display().to_string();
    cast.carol.say(&["policy", "init", &path])?;
    fs::write(folder.join("require/tables.cedar"), POLICY).context("write a policy")?;
    shown(&cast.carol.say(&["policy", "apply", &path])?);
    Ok(server)
}

/// A stock psql of Alice's, and what it has printed.
struct Psql {
    client: Child,
    keyboard: ChildStdin,
    screen: PathBuf,
}

impl Drop for Psql {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

impl Psql {
    fn start(stage: &Stage, alice: &Actor<'_>) -> anyhow::Result<Self> {
        let screen = alice.file("psql.out");
        let output = fs::File::create(&screen).context("make psql's screen")?;
        let mut client = Command::new(&stage.binary)
            .args(["db", "connect", ACCOUNT, "--database", "shop"])
            .args(["--", "-X", "-P", "pager=off"])
            .envs(alice.profile())
            .stdin(Stdio::piped())
            .stdout(output.try_clone().context("share psql's screen")?)
            .stderr(output)
            .spawn()
            .context("start psql")?;
        let keyboard = client.stdin.take().context("reach psql")?;
        Ok(Self {
            client,
            keyboard,
            screen,
        })
    }

    fn type_line(&mut self, line: &str) -> anyhow::Result<()> {
        writeln!(self.keyboard, "{line}").context("type into psql")
    }

    /// Waits until it has printed this; returns all it has printed.
    fn until(&self, words: &str) -> anyhow::Result<String> {
        until(&format!("psql prints `{words}`"), || {
            let screen = fs::read_to_string(&self.screen).context("read psql's screen")?;
            Ok(screen.contains(words).then_some(screen))
        })
    }
}

fn ask(stage: &Stage, cast: &Cast<'_>) -> anyhow::Result<Psql> {
    step(
        "Alice runs a stock psql, without a grant",
        &format!("$ sallyport db connect {ACCOUNT} --database shop"),
    );
    let psql = Psql::start(stage, &cast.alice)?;
    shown(&psql.until("sallyport request create")?);
    step(
        "She asks with a reason; Bob approves; her psql goes on",
        "It had waited on the same connection, and nothing had reached the database.",
    );
    let made = cast.alice.json(&[
        "request",
        "create",
        ACCOUNT,
        "--for",
        "1h",
        "--reason",
        "count the items, the report is wrong",
    ])?;
    let id = text(&made, "id")?;
    shown(
        &cast
            .bob
            .say(&["request", "approve", id, "--yes", "--comment", "go ahead"])?,
    );
    Ok(psql)
}

fn query(psql: &mut Psql) -> anyhow::Result<()> {
    psql.type_line("SELECT id, name FROM item ORDER BY id;")?;
    shown(&psql.until("(3 rows)")?);
    Ok(())
}

fn change_a_table(cast: &Cast<'_>, server: &Postgres, mut psql: Psql) -> anyhow::Result<()> {
    step(
        "She drops the table; that waits for Bob, on the same connection",
        "He sees the statement, and his vote is bound to exactly that.",
    );
    psql.type_line("DROP TABLE item;")?;
    psql.until("waits for 1 approval")?;
    let there = "SELECT count(*) FROM pg_tables WHERE tablename = 'item'";
    ensure!(
        server.execute(&[there])?.trim() == "1",
        "it did not wait: the table is gone"
    );
    let waiting = cast
        .bob
        .json(&["operation", "list", "--state", "waiting"])?;
    let held = waiting
        .as_array()
        .and_then(|list| list.first())
        .context("find what waits")?;
    shown(&cast.bob.say(&["operation", "show", text(held, "id")?])?);
    cast.bob.say(&[
        "operation",
        "approve",
        text(held, "id")?,
        "--content-hash",
        text(held, "content_hash")?,
        "--comment",
        "it moved to another schema",
    ])?;
    psql.until("DROP TABLE")?;
    ensure!(
        server.execute(&[there])?.trim() == "0",
        "the table is still there"
    );
    psql.type_line("\\q")?;
    let ended = psql.client.wait().context("wait for psql")?;
    ensure!(ended.success(), "psql ended with {ended}");
    Ok(())
}

fn look_back(cast: &Cast<'_>) -> anyhow::Result<()> {
    step(
        "Carol reads the statements",
        "Each with its rows and its end; what was bound to it, too.",
    );
    let statements = until("the statements are on record", || {
        let sessions = cast.carol.json(&["session", "list"])?;
        let session = sessions
            .as_array()
            .and_then(|list| list.first())
            .context("find her session")?;
        let words = ["session", "operations", text(session, "id")?];
        let said = cast.carol.say(&words)?;
        Ok((said.contains("SELECT id, name") && said.contains("DROP TABLE item")).then_some(said))
    })?;
    shown(&statements);
    Ok(())
}
