//! What every protocol promises, asked of each in the same words: nothing reaches a target without a permit,
//! what it got is what is on record, one client that stalls stops nobody, a lock ends everything soon, no
//! session outlives its recorder, a target that is none harms nobody else, and what policies demand is enforced or
//! there is no session.
//!
//! A new protocol says how it is spoken ([`Spoken`]) and adds one line to [`protocols`].
//!
//! Not here: a panic in one session. Nothing in the product makes one happen; `session/tests.rs` of the gateway
//! holds what follows from it, for all protocols.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    net::TcpListener,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use crate::{
    mysql::database as mysql,
    node::{Role, finished},
    postgres::database::{self as postgres, Live},
    waiting::within,
    world::{ROOT, World},
};

/// How soon nothing of a session may be left (R5: at most, with a loaded machine).
const SOON: Duration = Duration::from_secs(5);
/// How soon a session ends whose recording cannot be written (R6).
const RECORDER_SOON: Duration = Duration::from_secs(10);

/// A protocol, as its stock client speaks it.
trait Spoken {
    /// A world with a target, and no grant for it.
    fn begin() -> Self;
    fn world(&self) -> &World;
    /// The account that Alice asks for.
    fn on(&self) -> &'static str;
    /// A client for this account, that ends by itself or reads its input to the end.
    fn client(&self, on: &str, what: What<'_>) -> Command;
    /// What a person types to have the target print this.
    fn line(&self, marker: &str) -> String;
    /// Everything that the target itself says it has got.
    fn heard(&self) -> String;
    /// Adds a target at which something else answers.
    fn add_target_at(&self, name: &str, address: &str);
    /// Which of [`DEMANDS`] it enforces, by the code that says that it does not.
    fn enforces(&self) -> &'static [&'static str];
}

/// What a client is to do.
#[derive(Clone, Copy)]
enum What<'a> {
    /// Have the target do something that leaves this behind where it can be found.
    Mark(&'a str),
    /// Do what is typed.
    Typed,
    /// Send more than anybody reads.
    Flood,
}

struct Ssh(World);

impl Spoken for Ssh {
    fn begin() -> Self {
        Self(World::new())
    }

    fn world(&self) -> &World {
        &self.0
    }

    fn on(&self) -> &'static str {
        ROOT
    }

    fn client(&self, on: &str, what: What<'_>) -> Command {
        let heard = self.0.sshd.directory().join("heard");
        let command = match what {
            What::Mark(marker) => format!("echo {marker} >> {}; echo {marker}", heard.display()),
            What::Typed => "sh".to_owned(),
            What::Flood => "yes".to_owned(),
        };
        let mut client = self.0.ssh().client("ssh");
        client.args(["-o", "BatchMode=yes", "-l", on, "127.0.0.1", &command]);
        client
    }

    fn line(&self, marker: &str) -> String {
        format!("echo {marker}")
    }

    fn heard(&self) -> String {
        let heard = self.0.sshd.directory().join("heard");
        std::fs::read_to_string(heard).unwrap_or_default()
    }

    fn enforces(&self) -> &'static [&'static str] {
        &[]
    }

    fn add_target_at(&self, name: &str, address: &str) {
        let (olga, on) = (&self.0.olga, format!("root@{name}"));
        let words = [
            "target",
            "create",
            name,
            "--address",
            address,
            "--sensitivity",
            "medium",
            "--host-key",
            self.0.sshd.host_key(),
        ];
        olga.say(&words);
        olga.say(&["account", "create", &on, "--engine", "ssh_ca"]);
    }
}

struct Postgres(postgres::Shop, String);

impl Spoken for Postgres {
    fn begin() -> Self {
        let shop = postgres::Shop::new();
        let pass = shop.pass(postgres::APP);
        Self(shop, pass)
    }

    fn world(&self) -> &World {
        &self.0.world
    }

    fn on(&self) -> &'static str {
        postgres::APP
    }

    fn client(&self, on: &str, what: What<'_>) -> Command {
        let other = (on != self.on()).then(|| self.0.pass(on));
        let pass = other.as_ref().unwrap_or(&self.1);
        let mut client = self.0.command("psql", on, pass);
        client.args(["-X", "-q", "-A", "-t"]);
        match what {
            What::Mark(marker) => client.args(["-c", &self.line(marker)]),
            What::Typed => &mut client,
            What::Flood => client.args([
                "-c",
                "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 10000000)) TO STDOUT",
            ]),
        };
        client
    }

    fn line(&self, marker: &str) -> String {
        format!("SELECT '{marker}';")
    }

    fn heard(&self) -> String {
        self.0.server.log()
    }

    fn enforces(&self) -> &'static [&'static str] {
        &[
            "read-only-not-enforced",
            "budgets-not-enforced",
            "masks-not-enforced",
        ]
    }

    fn add_target_at(&self, name: &str, address: &str) {
        self.0.add_target_at(name, "plaintext", address);
    }
}

struct Mysql(mysql::Shop, String);

impl Spoken for Mysql {
    fn begin() -> Self {
        let shop = mysql::Shop::new();
        let pass = shop.pass(mysql::APP);
        Self(shop, pass)
    }

    fn world(&self) -> &World {
        &self.0.world
    }

    fn on(&self) -> &'static str {
        mysql::APP
    }

    fn client(&self, on: &str, what: What<'_>) -> Command {
        let other = (on != self.on()).then(|| self.0.pass(on));
        let pass = other.as_ref().unwrap_or(&self.1);
        let mut client = self.0.command("mariadb", on, pass);
        client.args([
            "--database=shop",
            "--batch",
            "--unbuffered",
            "--skip-column-names",
        ]);
        match what {
            What::Mark(marker) => client.args(["-e", &self.line(marker)]),
            What::Typed => &mut client,
            What::Flood => client.args([
                "--quick",
                "-e",
                "SELECT REPEAT('x', 1000) FROM seq_1_to_10000000",
            ]),
        };
        client
    }

    fn line(&self, marker: &str) -> String {
        format!("SELECT '{marker}';")
    }

    fn heard(&self) -> String {
        self.0.server.statements()
    }

    fn enforces(&self) -> &'static [&'static str] {
        &[
            "read-only-not-enforced",
            "budgets-not-enforced",
            "masks-not-enforced",
        ]
    }

    fn add_target_at(&self, name: &str, address: &str) {
        self.0.add_target_at(name, "plaintext", address);
    }
}

/// One line for each protocol.
macro_rules! protocols {
    ($($test:ident: $spoken:ty;)*) => {
        $(
            /// R5, R6, R23, K2
            #[test]
            fn $test() {
                conforms(&<$spoken>::begin());
            }
        )*
    };
}

protocols! {
    given_mysql_then_it_keeps_what_every_protocol_promises: Mysql;
    given_postgres_then_it_keeps_what_every_protocol_promises: Postgres;
    given_ssh_then_it_keeps_what_every_protocol_promises: Ssh;
}

fn conforms(spoken: &impl Spoken) {
    nothing_without_a_permit(spoken);
    spoken.world().grant(spoken.on(), "1h");
    what_the_target_got_is_on_record(spoken);
    one_that_stalls_stops_nobody_and_a_lock_ends_all(spoken);
    no_session_outlives_its_recorder(spoken);
    a_target_that_is_none_harms_nobody(spoken);
    what_cannot_be_enforced_refuses_the_session(spoken);
}

fn run(spoken: &impl Spoken, on: &str, marker: &str) -> Output {
    let mut client = spoken.client(on, What::Mark(marker));
    client
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    finished(client.spawn().unwrap())
}

fn works(spoken: &impl Spoken, marker: &str) {
    let output = run(spoken, spoken.on(), marker);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains(marker), "{output:?}");
}

fn nothing_without_a_permit(spoken: &impl Spoken) {
    let olga = &spoken.world().olga;
    let (_, target) = spoken.on().split_once('@').unwrap();
    olga.say(&["target", "edit", target, "--sensitivity", "high"]);
    let mut client = spoken.client(spoken.on(), What::Mark("before-any-grant"));
    client
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // PostgreSQL's client would wait for a grant that does not come; nobody else does.
    client.env("PGCONNECT_TIMEOUT", "3");
    let output = finished(client.spawn().unwrap());
    assert!(!output.status.success(), "{output:?}");
    assert!(!spoken.heard().contains("before-any-grant"));
    let sessions = spoken.world().carol.list(&["session", "list"]);
    assert!(sessions.is_empty(), "{sessions:#?}");
    olga.say(&["target", "edit", target, "--sensitivity", "medium"]);
}

fn what_the_target_got_is_on_record(spoken: &impl Spoken) {
    let world = spoken.world();
    let markers: Vec<String> = (0..sallyport_testkit::effort::rounds(4))
        .map(|n| format!("marker-{n}-of-many"))
        .collect();
    for marker in &markers {
        works(spoken, marker);
    }
    let newest = world.newest_session();
    world.ended_session(newest["id"].as_str().unwrap());
    let mut recorded: BTreeMap<&str, usize> = BTreeMap::new();
    for session in world
        .carol
        .list(&["session", "list", "--all", "--limit", "500"])
    {
        let id = session["id"].as_str().unwrap();
        world.ended_session(id);
        for operation in world.carol.list(&["session", "operations", id]) {
            let detail = operation["detail"].as_str().unwrap();
            for marker in &markers {
                if detail.contains(marker.as_str()) {
                    assert_eq!(operation["outcome"], "completed", "{operation}");
                    *recorded.entry(marker).or_default() += 1;
                }
            }
        }
        let verified = world.carol.json(&["recording", "verify", id]);
        assert_eq!(verified["is_verified"], true, "{verified}");
    }
    let heard = spoken.heard();
    for marker in &markers {
        assert!(heard.contains(marker.as_str()), "{marker}: {heard}");
        assert_eq!(recorded.get(marker.as_str()), Some(&1), "{marker}");
    }
}

/// A client whose person reads nothing.
fn stall(spoken: &impl Spoken) -> Child {
    spoken
        .client(spoken.on(), What::Flood)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn typed(spoken: &impl Spoken) -> Live {
    let mut client = spoken.client(spoken.on(), What::Typed);
    client
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Live::of(client)
}

fn live(spoken: &impl Spoken) -> usize {
    let carol = &spoken.world().carol;
    carol.list(&["session", "list", "--live"]).len()
}

fn one_that_stalls_stops_nobody_and_a_lock_ends_all(spoken: &impl Spoken) {
    let world = spoken.world();
    let mut stalled = stall(spoken);
    crate::waiting::eventually("it is live", || (live(spoken) == 1).then_some(()));
    works(spoken, "beside-one-that-stalls");
    let mut client = typed(spoken);
    client.type_line(&spoken.line("typed-and-live"));
    client.until("typed-and-live");

    let (_, target) = spoken.on().split_once('@').unwrap();
    world
        .carol
        .say(&["lock", "add", "--target", target, "--reason", "incident"]);
    within(SOON, "nothing is live", || {
        (live(spoken) == 0).then_some(())
    });
    let output = run(spoken, spoken.on(), "behind-a-lock");
    assert!(!output.status.success(), "{output:?}");
    assert!(!spoken.heard().contains("behind-a-lock"));
    client.end();
    let _ = stalled.kill();
    stalled.wait().unwrap();
    let locks = world.carol.list(&["lock", "list"]);
    let lock = locks[0]["id"].as_str().unwrap();
    world.carol.say(&["lock", "remove", lock]);
    works(spoken, "after-the-lock");
}

fn no_session_outlives_its_recorder(spoken: &impl Spoken) {
    let world = spoken.world();
    let mut client = typed(spoken);
    client.type_line(&spoken.line("with-a-recorder"));
    client.until("with-a-recorder");
    let id = world.live_session()["id"].as_str().unwrap().to_owned();
    let recording = world.recording_file(&id);
    let broken = world.node.break_file(Role::Gateway, &recording);
    client.type_line(&spoken.line("with-a-broken-one"));
    let ended = within(RECORDER_SOON, "the session has ended", || {
        Some(world.carol.json(&["session", "show", &id])).filter(|one| one["state"] == "ended")
    });
    drop(broken);
    assert_eq!(ended["end_reason"], "recorder-failed", "{ended}");
    client.end();
    works(spoken, "with-the-next-recorder");
}

fn a_target_that_is_none_harms_nobody(spoken: &impl Spoken) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut stream = stream;
            // Longer than anything that a protocol may say first, and no protocol's words.
            let _ = stream.write_all(&[0xff; 300_000]);
        }
    });
    spoken.add_target_at("odd", &address);
    let (account, _) = spoken.on().split_once('@').unwrap();
    let on = format!("{account}@odd");
    spoken.world().grant(&on, "1h");
    let output = run(spoken, &on, "to-nobody");
    assert!(!output.status.success(), "{output:?}");
    let newest = spoken.world().newest_session();
    let ended = spoken.world().ended_session(newest["id"].as_str().unwrap());
    let reason = ended["end_reason"].as_str().unwrap();
    assert!(reason.starts_with("target-"), "{ended}");
    works(spoken, "after-one-that-is-none");
}

/// What policies may demand of what passes, and the code of a protocol that cannot enforce it. Whoever enforces
/// it lets a short statement pass all the same.
const DEMANDS: [(&str, &str); 3] = [
    ("@read_only(\"enforced\")", "read-only-not-enforced"),
    ("@statement_bytes(\"1KiB\")", "budgets-not-enforced"),
    ("@mask(\"*.*.nobody.knows = null\")", "masks-not-enforced"),
];

/// PO-2: no demand is left out: not where a session begins, and not while it lives.
fn what_cannot_be_enforced_refuses_the_session(spoken: &impl Spoken) {
    let world = spoken.world();
    let folder = world.carol.folder.join("demands");
    let path = folder.display().to_string();
    world.carol.say(&["policy", "init", &path]);
    // They expect nothing to demand more.
    fs::remove_dir_all(folder.join("tests")).unwrap();
    let file = folder.join("require/demands.cedar");
    let demand = |what: &str| {
        let text = format!("@id(\"demands\")\n{what}\npermit (principal, action, resource);\n");
        fs::write(&file, text).unwrap();
        world.carol.say(&["policy", "apply", &path]);
    };
    let nothing = "@idle_timeout(\"1h\")";
    for (what, code) in DEMANDS {
        let is_enforced = spoken.enforces().contains(&code);
        demand(nothing);
        let mut client = begun(spoken, &format!("before-{code}"));
        let id = world.live_session()["id"].as_str().unwrap().to_owned();
        demand(what);
        match (is_enforced, code) {
            // It holds from now on.
            (true, "budgets-not-enforced") => {
                let mut rounds = 0_u32..;
                crate::waiting::eventually("the budget holds", || {
                    let round = format!("round-{}-", rounds.next()?);
                    client.type_line(&spoken.line(&format!("{round}{}", "x".repeat(2_000))));
                    let said = client.until_one_of(&[round.as_str(), "(byte-budget)"]);
                    said.contains("(byte-budget)").then_some(())
                });
                client.end();
            }
            // The target has to be told, when the next session begins.
            (true, _) => {
                let ended = world.ended_session(&id);
                assert_eq!(ended["end_reason"], "policy-changed", "{code}: {ended}");
                client.end();
            }
            (false, _) => {
                let ended = world.ended_session(&id);
                assert_eq!(ended["end_reason"], code, "{ended}");
                client.end();
            }
        }

        let marker = format!("under-{code}");
        if is_enforced {
            works(spoken, &marker);
            continue;
        }
        let output = run(spoken, spoken.on(), &marker);
        assert!(!output.status.success(), "{code}: {output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let demanded = what.split(['(', '_']).next().unwrap();
        for part in [code, demanded, "security team"] {
            assert!(said.contains(part), "{code}: no `{part}` in {said}");
        }
        assert!(!spoken.heard().contains(&marker), "{code}");
        let newest = world.newest_session();
        let id = newest["id"].as_str().unwrap();
        let ended = world.ended_session(id);
        assert_eq!(ended["end_reason"], code, "{ended}");
        let verified = world.carol.json(&["recording", "verify", id]);
        assert_eq!(verified["is_verified"], true, "{verified}");
    }
    demand(nothing);
    begun(spoken, "with-demands-that-are-met").end();
}

/// A client that was let in and got an answer. A bundle takes a moment to reach the gateway, which refuses by the
/// one before until then.
fn begun(spoken: &impl Spoken, marker: &str) -> Live {
    crate::waiting::eventually("somebody is let in", || {
        let mut client = typed(spoken);
        client.type_line(&spoken.line(marker));
        let said = client.until_one_of(&[marker, "-not-enforced)"]);
        if said.contains(marker) {
            return Some(client);
        }
        client.end();
        None
    })
}
