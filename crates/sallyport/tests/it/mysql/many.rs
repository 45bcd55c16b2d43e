//! That no statement is missing in the evidence, whatever form it came in: the server's own log has the last word.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    time::Duration,
};

use super::{
    database::{APP, Shop},
    drivers::program,
};
use crate::node::finished_within;

/// Whose connection at the server, and what it executed there: a mark where the client could choose one, else the
/// text.
type Executed = (String, String);

/// RE-3, G4: statements in every form of the protocol, each with a mark of its own: on each connection, what the
/// server says it executed is what the evidence of its session has, no more and no less, and it is Alice's.
#[test]
fn given_many_statements_in_every_form_then_the_evidence_is_what_the_server_says_it_executed() {
    let shop = Shop::new();
    shop.execute("CREATE PROCEDURE shop.both_of(n int) SELECT name FROM shop.item WHERE id >= n");
    shop.world.permit_forwarding("local_file", "*/rows.tsv");
    shop.world.grant(APP, "1h");
    let pass = shop.pass(APP);
    let connections = sallyport_testkit::effort::rounds(3);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/mysql/many.py");
    let mut program = program(&shop, &crate::clients::venv("python"), &script, &pass);
    program.arg(connections.to_string());
    let patience = Duration::from_secs(120).saturating_mul(u32::try_from(connections).unwrap());
    let output = finished_within(patience, program.spawn().unwrap());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said.ends_with("done\n"),
        "{said} {} {}",
        String::from_utf8_lossy(&output.stderr),
        shop.world.node.log()
    );

    // One connection of each driver's, each time; the client says which session is which of the server's.
    let sessions: HashMap<&str, &str> = said
        .lines()
        .filter_map(|line| line.strip_prefix("connection ")?.split_once(' '))
        .map(|(connection, session)| (session, connection))
        .collect();
    assert_eq!(sessions.len(), 2 * connections);
    let listed = shop
        .world
        .carol
        .list(&["session", "list", "--limit", "1000"]);
    assert_eq!(listed.len(), sessions.len(), "{listed:#?}");
    let mut evidence = BTreeMap::<Executed, usize>::new();
    for (session, connection) in sessions {
        let shown = shop.world.ended_session(session);
        assert_eq!(shown["person"], "alice", "{shown}");
        for operation in shop.operations(session) {
            for what in recorded(&operation) {
                *evidence.entry((connection.to_owned(), what)).or_default() += 1;
            }
        }
    }
    let mut executed = BTreeMap::<Executed, usize>::new();
    for entry in executed_for("app", &shop.server.statements()) {
        for what in entry.whats() {
            let key = (entry.connection.clone(), what);
            *executed.entry(key).or_default() += 1;
        }
    }
    let differing: Vec<_> = executed
        .keys()
        .chain(evidence.keys())
        .filter(|what| executed.get(*what) != evidence.get(*what))
        .map(|what| (what, executed.get(what), evidence.get(what)))
        .collect();
    assert!(differing.is_empty(), "{differing:#?}");
    let statements: usize = executed.values().sum();
    assert!(statements >= connections * 150, "{statements}");
    println!("{statements} statements executed, each in the evidence as often, none missing");
}

/// What the server must have executed for this operation of the evidence.
fn recorded(operation: &serde_json::Value) -> Vec<String> {
    let word = |field: &str| operation[field].as_str().unwrap();
    match (word("kind"), word("outcome")) {
        (_, "refused") => Vec::new(),
        ("statement", _) => whats(word("detail")),
        ("database", "completed") => vec![used(word("detail"))],
        // The statement that loads it stands for it.
        ("local_file", "completed") => Vec::new(),
        _ => panic!("{operation}"),
    }
}

/// The marks in a text, or its first line where it has none.
fn whats(text: &str) -> Vec<String> {
    let is_mark = |piece: &&str| {
        piece.strip_prefix('m').is_some_and(|digits| {
            !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    let marks: Vec<String> = text.split('~').filter(is_mark).map(str::to_owned).collect();
    match marks.is_empty() {
        true => vec![first_line(text)],
        false => marks,
    }
}

/// What stands for use of a database, asked for by a command or at login.
fn used(database: &str) -> String {
    format!("the database {database}")
}

/// A text as both logs can show it in one line.
pub fn first_line(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    first.trim_end().to_owned()
}

/// One command in a server's general log.
#[derive(Debug)]
pub struct Logged {
    /// The server's number of the connection that it came on.
    pub connection: String,
    /// What it was, in the server's words, such as `Init DB`.
    pub command: String,
    /// Its text, with values in the place of parameters.
    pub argument: String,
}

impl Logged {
    /// What was executed by it.
    fn whats(&self) -> Vec<String> {
        let argument = &self.argument;
        match self.command.as_str() {
            // The gateway logs in with the database that its client named.
            "Connect" => {
                let (_, on) = argument.split_once(" on ").unwrap();
                let (database, _) = on.split_once(" using").unwrap();
                vec![used(database)]
            }
            "Query" | "Execute" => whats(argument),
            "Init DB" => vec![used(argument)],
            "Field List" => {
                let (table, pattern) = argument.split_once(' ').unwrap();
                whats(&format!("SHOW FIELDS FROM `{table}` LIKE '{pattern}'"))
            }
            // Whatever else it may be is not in the evidence.
            other => vec![format!("{other} {argument}")],
        }
    }
}

/// What a server executed for an account, by its general log. What SQL's own `EXECUTE` runs stands in it twice, as
/// it was sent and as it runs, and counts once; commands that execute nothing are left out.
pub fn executed_for(account: &str, log: &str) -> Vec<Logged> {
    const IDLE: &[&str] = &[
        "Quit",
        "Prepare",
        "Close stmt",
        "Reset stmt",
        "Long Data",
        "Ping",
        "Statistics",
    ];
    let from = format!("{account}@");
    let mut ours = std::collections::HashSet::new();
    let mut sent_by_sql = None;
    let mut found = Vec::new();
    for entry in entries(log) {
        if entry.command == "Connect" && entry.argument.starts_with(&from) {
            ours.insert(entry.connection.clone());
        }
        if !ours.contains(&entry.connection) || IDLE.contains(&entry.command.as_str()) {
            continue;
        }
        let by_sql = sent_by_sql.take();
        if entry.command == "Execute" && by_sql.as_ref() == Some(&entry.connection) {
            continue;
        }
        if entry.command == "Query" && entry.argument.starts_with("EXECUTE") {
            sent_by_sql = Some(entry.connection.clone());
        }
        found.push(entry);
    }
    found
}

/// The entries of a general log: a line begins one if the time or nothing, a connection and a command stand at its
/// front; others go on with the text before.
fn entries(log: &str) -> Vec<Logged> {
    let mut found: Vec<Logged> = Vec::new();
    for line in log.lines() {
        match entry(line) {
            Some(entry) => found.push(entry),
            None => {
                if let Some(last) = found.last_mut() {
                    last.argument.push('\n');
                    last.argument.push_str(line);
                }
            }
        }
    }
    found
}

fn entry(line: &str) -> Option<Logged> {
    let rest = match line.strip_prefix("\t\t") {
        Some(rest) => rest,
        None => {
            let (time, rest) = line.split_once('\t')?;
            time.starts_with(|first: char| first.is_ascii_digit())
                .then_some(rest)?
        }
    };
    let (head, argument) = rest.split_once('\t')?;
    let (connection, command) = head.trim_start().split_once(' ')?;
    connection
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| Logged {
            connection: connection.to_owned(),
            command: command.to_owned(),
            argument: argument.to_owned(),
        })
}
