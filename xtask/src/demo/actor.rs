//! A person of the story: a profile of their own, the command line, and stock SSH clients.

use std::{
    ffi::OsString,
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::stage::Stage;

/// Good enough for an hour on loopback.
const PASSWORD: &str = "only for this demonstration";
/// What is typed when the gateway asks for a reason.
pub const REASON: &str = "restart the web server, it answers 502";

/// Somebody who signs in.
#[derive(Debug)]
pub struct Actor<'a> {
    pub name: &'static str,
    stage: &'a Stage,
    folder: PathBuf,
}

impl<'a> Actor<'a> {
    /// Turns an enrolment code into an account, and signs in.
    pub fn enrol(stage: &'a Stage, name: &'static str, code: &str) -> anyhow::Result<Self> {
        let actor = Self::known(stage, name);
        fs::create_dir_all(&actor.folder).with_context(|| format!("make the folder of {name}"))?;
        let enrolled = actor.json_with(
            &["enrol", "--name", name, "--stdin"],
            &format!("{code}\n{PASSWORD}\n"),
        )?;
        let uri = text(&enrolled, "totp_uri")?;
        let totp = totp_rs::Totp::from_url(uri).context("read the one-time-code address")?;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .context("read the clock")?
            .as_secs();
        let answers = format!("{PASSWORD}\n{}\n", totp.generate(now));
        actor.json_with(&["login", "--name", name, "--no-ssh", "--stdin"], &answers)?;
        Ok(actor)
    }

    /// Somebody who signed in before.
    pub fn known(stage: &'a Stage, name: &'static str) -> Self {
        Self {
            name,
            stage,
            folder: stage.folder.join(name),
        }
    }

    /// Runs a command of ours; returns what it printed for people.
    pub fn say(&self, words: &[&str]) -> anyhow::Result<String> {
        self.run(words, "")
    }

    /// Runs a command of ours; returns what it printed for programs.
    pub fn json(&self, words: &[&str]) -> anyhow::Result<Value> {
        self.json_with(words, "")
    }

    fn json_with(&self, words: &[&str], stdin: &str) -> anyhow::Result<Value> {
        let words = [words, &["--output", "json"]].concat();
        let printed = self.run(&words, stdin)?;
        serde_json::from_str(&printed).with_context(|| format!("read `{printed}`"))
    }

    fn run(&self, words: &[&str], stdin: &str) -> anyhow::Result<String> {
        let (is_done, stdout, stderr) = self.attempt(words, stdin)?;
        if !is_done {
            bail!(
                "{}: `sallyport {}` failed: {stderr}",
                self.name,
                words.join(" ")
            );
        }
        Ok(stdout)
    }

    /// What a command of ours finds the node and this person's sign-in by.
    pub fn profile(&self) -> [(&'static str, OsString); 3] {
        [
            ("SALLYPORT_SERVER", self.stage.api.clone().into()),
            ("SALLYPORT_CA", self.stage.ca().into()),
            (
                "SALLYPORT_CONFIG_DIRECTORY",
                self.folder.join("profile").into(),
            ),
        ]
    }

    /// Runs a command of ours that may fail; returns whether it did not, and what it printed.
    pub fn attempt(&self, words: &[&str], stdin: &str) -> anyhow::Result<(bool, String, String)> {
        let mut child = Command::new(&self.stage.binary)
            .args(words)
            .envs(self.profile())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start sallyport")?;
        let mut input = child.stdin.take().context("reach its standard input")?;
        // A command that needs no answers may end before it reads them.
        let _ = input.write_all(stdin.as_bytes());
        drop(input);
        let output = child.wait_with_output().context("wait for sallyport")?;
        Ok((
            output.status.success(),
            String::from_utf8(output.stdout).context("read its output")?,
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ))
    }

    /// Makes an SSH key and registers it.
    pub fn make_key(&self) -> anyhow::Result<()> {
        crate::process::output(
            Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
                .arg(self.file("key")),
        )?;
        let public = self.file("key.pub");
        self.say(&[
            "key",
            "add",
            &public.display().to_string(),
            "--label",
            "laptop",
        ])?;
        Ok(())
    }

    /// A file of this person.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A stock client (`ssh`, `scp`, `sftp`) with nothing but the key. Questions of the gateway are
    /// answered by a helper program, as a person would at the keyboard.
    pub fn client(&self, program: &str) -> anyhow::Result<Command> {
        let answer = self.file("answer");
        let script = format!(
            "#!/bin/sh\necho \"$1\" >> '{}'\ncase \"$1\" in *eason*) echo '{REASON}';; *) echo;; esac\n",
            self.file("asked").display()
        );
        fs::write(&answer, script).context("write the answering program")?;
        fs::set_permissions(&answer, fs::Permissions::from_mode(0o700)).context("make it run")?;
        let port_flag = if program == "ssh" { "-p" } else { "-P" };
        let mut command = Command::new(program);
        command
            .args([
                port_flag,
                &self.stage.ssh_port.to_string(),
                "-F",
                "none",
                "-i",
            ])
            .arg(self.file("key"))
            .args([
                "-o",
                "IdentitiesOnly=yes",
                "-o",
                "StrictHostKeyChecking=accept-new",
            ])
            .arg("-o")
            .arg(format!(
                "UserKnownHostsFile={}",
                self.file("known_hosts").display()
            ))
            .env("SSH_ASKPASS", &answer)
            .env("SSH_ASKPASS_REQUIRE", "force")
            .env_remove("SSH_AUTH_SOCK");
        Ok(command)
    }
}

/// A text field of what a command printed.
pub fn text<'v>(value: &'v Value, field: &str) -> anyhow::Result<&'v str> {
    value
        .get(field)
        .and_then(Value::as_str)
        .with_context(|| format!("find `{field}` in {value}"))
}
