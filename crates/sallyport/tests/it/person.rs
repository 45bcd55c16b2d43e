//! A person: a profile of their own, the command line, one-time codes that are never used twice.

use std::{
    cell::Cell,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Value;
use totp_rs::Totp;

use crate::{
    node::{BINARY, Node, files_under, finished},
    waiting::eventually,
};

/// Everybody's password.
pub const PASSWORD: &str = "correct horse battery staple";

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Somebody with a profile.
#[derive(Debug)]
pub struct Person {
    pub name: String,
    pub folder: PathBuf,
    api: String,
    ca: PathBuf,
    totp: Option<Totp>,
    last_step: Cell<u64>,
}

impl Person {
    /// Somebody who has done nothing yet.
    pub fn stranger(node: &Node, name: &str) -> Self {
        let folder = node.folder.path().join(format!("home-{name}"));
        fs::create_dir_all(&folder).unwrap();
        Self {
            name: name.to_owned(),
            folder,
            api: node.api(),
            ca: node.ca(),
            totp: None,
            last_step: Cell::new(0),
        }
    }

    /// Enrols with a code and signs in.
    pub fn enrol(node: &Node, name: &str, code: &str) -> Self {
        let mut person = Self::stranger(node, name);
        let enrolled = person.json_with(
            &["enrol", "--name", name, "--stdin"],
            &format!("{code}\n{PASSWORD}\n"),
        );
        person.totp = Some(Totp::from_url(enrolled["totp_uri"].as_str().unwrap()).unwrap());
        person.sign_in(&["--no-ssh"]);
        person
    }

    /// Signs in; `words` are more of `login`'s.
    pub fn sign_in(&self, words: &[&str]) -> Value {
        let words = [&["login", "--name", &self.name, "--stdin"], words].concat();
        self.json_with(&words, &format!("{PASSWORD}\n{}\n", self.code()))
    }

    /// The bearer token of the sign-in.
    pub fn token(&self) -> String {
        let profile = self.folder.join("profiles");
        let file = files_under(&profile)
            .into_iter()
            .find(|path| path.ends_with("token"))
            .unwrap();
        fs::read_to_string(file).unwrap().trim().to_owned()
    }

    /// A one-time code that was not used before. Codes are good for their half minute and the ones
    /// beside it, so the third within one half minute has to wait.
    pub fn code(&self) -> String {
        let step = eventually("the next one-time code", || {
            let now = now_s() / 30;
            let next = (self.last_step.get() + 1).max(now);
            (next <= now + 1).then_some(next)
        });
        self.last_step.set(step);
        self.totp.as_ref().unwrap().generate(step * 30).to_string()
    }

    /// A command of ours, ready to be started.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command
            .args(words)
            .env("SALLYPORT_SERVER", &self.api)
            .env("SALLYPORT_CA", &self.ca)
            .env("SALLYPORT_CONFIG_DIRECTORY", self.folder.join("profiles"))
            .env("HOME", &self.folder)
            .current_dir(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command of ours, however it ends.
    pub fn try_with(&self, words: &[&str], stdin: &str) -> Ended {
        let mut child = self.command(words).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        // A command that asks nothing may be gone before it is told.
        let _ = input.write_all(stdin.as_bytes());
        drop(input);
        let output = finished(child);
        Ended {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a command of ours, however it ends.
    pub fn attempt(&self, words: &[&str]) -> Ended {
        self.try_with(words, "")
    }

    /// Runs a command of ours that must succeed; returns what it printed for people.
    pub fn say(&self, words: &[&str]) -> String {
        let ended = self.attempt(words);
        assert_eq!(ended.code, 0, "{}: {words:?}: {ended:?}", self.name);
        ended.stdout
    }

    /// Runs a command of ours that must succeed; returns what it printed for programs.
    pub fn json(&self, words: &[&str]) -> Value {
        self.json_with(words, "")
    }

    /// As [`Person::json`], with answers to its prompts.
    pub fn json_with(&self, words: &[&str], stdin: &str) -> Value {
        let words = [words, &["--output", "json"]].concat();
        let ended = self.try_with(&words, stdin);
        assert_eq!(ended.code, 0, "{}: {words:?}: {ended:?}", self.name);
        serde_json::from_str(&ended.stdout).unwrap()
    }

    /// A list, as a command prints it for programs.
    pub fn list(&self, words: &[&str]) -> Vec<Value> {
        self.json(words).as_array().unwrap().clone()
    }

    /// Makes an SSH key.
    pub fn make_key(&self, name: &str) -> PathBuf {
        let key = self.folder.join(name);
        sallyport_testkit::targets::sshd::make_key_pair(&key, "ed25519", None).unwrap();
        key
    }

    /// Registers the public half of a key.
    pub fn register(&self, key: &Path) {
        let public = key.with_extension("pub").display().to_string();
        self.say(&["key", "add", &public, "--label", "laptop"]);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "one-time codes are of the real time"
)]
fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}
