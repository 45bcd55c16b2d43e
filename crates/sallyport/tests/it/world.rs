//! A node with people and a target: Olga owns it, Bob approves, Alice may ask, Carol sees the evidence.

use std::{fs, path::PathBuf, time::Duration};

use sallyport_testkit::targets::sshd::{Sshd, SshdSetup};
use serde_json::Value;

use crate::{
    node::{Node, Setup, files_under, folder_named},
    person::Person,
    ssh::Ssh,
    waiting::{eventually, within},
};

/// The account of most stories.
pub const ROOT: &str = "root@web-1";

/// A node with people and a target. Fields are dropped in order: the target's connections end before
/// the node does.
#[derive(Debug)]
pub struct World {
    pub sshd: Sshd,
    pub node: Node,
    pub olga: Person,
    pub bob: Person,
    pub alice: Person,
    pub carol: Person,
    /// Alice's only key.
    pub key: PathBuf,
}

impl World {
    /// Everything with its defaults; `web-1` is of medium sensitivity.
    pub fn new() -> Self {
        Self::with(Setup::default())
    }

    /// On a node that is made otherwise.
    pub fn with(setup: Setup) -> Self {
        let settings = setup.target.clone();
        let node = Node::with(setup);
        Self::on(node, settings)
    }

    fn on(node: Node, settings: Vec<String>) -> Self {
        let code = node.first_owner_code();
        let olga = Person::enrol(&node, "olga", &code);
        let person = |name: &str, words: &[&str]| {
            let made = olga.json(&[&["person", "create", name], words].concat());
            Person::enrol(&node, name, made["code"].as_str().unwrap())
        };
        let bob = person("bob", &["--role", "approver"]);
        let alice = person("alice", &["--group", "operators"]);
        let carol = person("carol", &["--role", "security", "--role", "auditor"]);
        let key = alice.make_key("laptop");
        alice.register(&key);

        let authority = olga.say(&["ssh-authority"]);
        let sshd = Sshd::start(&SshdSetup {
            user_authority: Some(authority),
            settings,
            ..SshdSetup::default()
        })
        .unwrap();
        let world = Self {
            sshd,
            node,
            olga,
            bob,
            alice,
            carol,
            key,
        };
        world.add_target("web-1", "medium");
        world
            .olga
            .say(&["account", "create", ROOT, "--engine", "ssh_ca"]);
        world
    }

    /// Another name and rank for the same server.
    pub fn add_target(&self, name: &str, sensitivity: &str) {
        self.olga.say(&[
            "target",
            "create",
            name,
            "--address",
            &self.sshd.address().to_string(),
            "--sensitivity",
            sensitivity,
            "--host-key",
            self.sshd.host_key(),
        ]);
    }

    /// Adds policies to the bundle in force, as a file of this name in its authorise set.
    pub fn add_policies(&self, name: &str, policies: &str) {
        let bundle = self.carol.folder.join("bundle");
        let path = bundle.display().to_string();
        if !bundle.exists() {
            self.carol.say(&["policy", "init", &path]);
        }
        let file = bundle.join(format!("authorise/{name}.cedar"));
        fs::write(file, policies).unwrap();
        self.carol.say(&["policy", "apply", &path]);
    }

    /// Lets everybody forward connections: of this kind, to what is like this.
    pub fn permit_forwarding(&self, kind: &str, like: &str) {
        let policy = format!(
            "@id(\"{kind}\")\npermit (principal, action == Action::\"feature.use\", resource)\nwhen {{ \
             context.operation.kind == OperationKind::\"{kind}\" && context.operation.detail like \"{like}\" }};\n"
        );
        self.add_policies(kind, &policy);
    }

    /// The file that a session is recorded in.
    pub fn recording_file(&self, session_id: &str) -> PathBuf {
        let recording = self.carol.json(&["recording", "show", session_id]);
        let name = format!("{}.spr", recording["id"].as_str().unwrap());
        let files = files_under(&folder_named(&self.node.data(), "recordings"));
        let is_it = |path: &PathBuf| path.file_name().is_some_and(|found| found == name.as_str());
        files.into_iter().find(is_it).unwrap()
    }

    /// Alice's stock client.
    pub fn ssh(&self) -> Ssh<'_> {
        Ssh::new(&self.node, &self.alice, &self.key)
    }

    /// Waits for a request and approves it, as Bob does from the command line.
    pub fn approve_next(&self) -> Value {
        let request = self.pending();
        let id = request["id"].as_str().unwrap();
        let hash = request["content_hash"].as_str().unwrap();
        self.bob
            .json(&["request", "approve", id, "--content-hash", hash])
    }

    /// Waits for a request that waits.
    pub fn pending(&self) -> Value {
        eventually("a request waits for approval", || {
            self.bob
                .list(&["request", "list", "--state", "pending"])
                .into_iter()
                .next()
        })
    }

    /// A grant for Alice, asked for and approved; returns its id.
    pub fn grant(&self, on: &str, duration: &str) -> String {
        let asked = self.alice.json(&[
            "request",
            "create",
            on,
            "--for",
            duration,
            "--reason",
            "asked for before connecting",
        ]);
        if let Some(grant) = asked["grant_id"].as_str() {
            return grant.to_owned();
        }
        let granted = self.approve_next();
        granted["grant_id"].as_str().unwrap().to_owned()
    }

    /// The one live session.
    pub fn live_session(&self) -> Value {
        eventually("a session is live", || {
            self.carol
                .list(&["session", "list", "--live"])
                .into_iter()
                .next()
        })
    }

    /// Waits until a session has ended; returns it.
    pub fn ended_session(&self, id: &str) -> Value {
        eventually("the session has ended", || {
            Some(self.carol.json(&["session", "show", id]))
                .filter(|session| session["state"] == "ended")
        })
    }

    /// The newest session.
    pub fn newest_session(&self) -> Value {
        self.carol.list(&["session", "list", "--limit", "1"])[0].clone()
    }

    /// Waits for an operation of this kind in the session.
    pub fn operation(&self, session_id: &str, kind: &str) -> Value {
        eventually("the operation is on record", || {
            self.carol
                .list(&["session", "operations", session_id])
                .into_iter()
                .find(|operation| operation["kind"] == kind)
        })
    }

    /// Waits until something runs in the session.
    pub fn until_begun(&self, session_id: &str) {
        eventually("the recording has its first frames", || {
            let transcript = ["recording", "export", session_id, "--format", "transcript"];
            let ended = self.carol.attempt(&transcript);
            (ended.code == 0 && ended.stdout.contains("exec")).then_some(())
        });
    }

    /// Waits until no credential is left of any session; it must not take long.
    pub fn until_no_lease(&self) {
        within(
            Duration::from_secs(5),
            "every credential is revoked",
            || {
                let leases = self.carol.list(&["lease", "list"]);
                assert!(!leases.is_empty(), "no credential was ever made");
                leases
                    .iter()
                    .all(|lease| lease["state"] == "revoked")
                    .then_some(())
            },
        );
    }

    /// Entries of one event, newest last.
    pub fn events(&self, event: &str) -> Vec<Value> {
        let found = self
            .carol
            .say(&["audit", "search", "--event", event, "--output", "json"]);
        found
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Exports the log with everything that is in it now, and verifies it; returns where it is.
    pub fn verified_export(&self) -> PathBuf {
        let newest = self
            .carol
            .say(&["audit", "tail", "-n", "1", "--output", "json"]);
        let newest: Value = serde_json::from_str(&newest).unwrap();
        eventually("the signed checkpoint covers it", || {
            let checkpoint = self.carol.say(&["audit", "checkpoint"]);
            let size: u64 = checkpoint.lines().nth(1)?.parse().ok()?;
            (size > newest["seq"].as_u64()?).then_some(())
        });
        let folder = eventually("a free name", || {
            (0..100)
                .map(|number| self.carol.folder.join(format!("log-{number}")))
                .find(|folder| !folder.exists())
        });
        let path = folder.display().to_string();
        self.carol.say(&["audit", "export", &path]);
        let verdict = self.carol.say(&["audit", "verify", &path]);
        assert!(verdict.starts_with("verified: "), "{verdict}");
        folder
    }
}
