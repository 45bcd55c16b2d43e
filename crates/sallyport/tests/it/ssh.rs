//! Stock SSH clients of a person who has a key and a keyboard.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio},
    sync::mpsc::{Receiver, sync_channel},
    thread::JoinHandle,
    time::Duration,
};

use crate::{
    node::{Node, finished},
    person::Person,
    waiting::{PATIENCE, within},
};

/// What is typed when a reason is asked for.
pub const REASON: &str = "rotate the logs of the web server";

/// A stock client's settings.
#[derive(Debug)]
pub struct Ssh<'p> {
    person: &'p Person,
    port: u16,
    key: Option<PathBuf>,
    code: Option<String>,
}

impl<'p> Ssh<'p> {
    /// A person with this key and nothing else.
    pub fn new(node: &Node, person: &'p Person, key: &Path) -> Self {
        Self {
            person,
            port: node.ssh_port,
            key: Some(key.to_owned()),
            code: None,
        }
    }

    /// With a one-time code to type.
    pub fn with_code(mut self, code: String) -> Self {
        self.code = Some(code);
        self
    }

    /// What the client asked its person, so far.
    pub fn asked(&self) -> String {
        fs::read_to_string(self.file("asked")).unwrap_or_default()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.person.folder.join(name)
    }

    /// `ssh`, `scp` or `sftp`, ready for its own arguments. Questions are answered by a program, as a
    /// person would at the keyboard.
    pub fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(["-F", "none"]);
        for option in self.options() {
            command.args(["-o", &option]);
        }
        self.seat(&mut command);
        command
    }

    /// A client that starts `ssh` itself, or reads its settings: they are in the file of
    /// [`Ssh::config`].
    pub fn tool(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        self.seat(&mut command);
        command
    }

    /// Writes the settings as an `ssh_config` with a host for every selector, named as its target, as
    /// the documentation tells people to; returns the file.
    pub fn config(&self, selectors: &[&str]) -> PathBuf {
        let mut hosts = String::new();
        for selector in selectors {
            let target = selector.rsplit('@').next().unwrap();
            writeln!(
                hosts,
                "Host {target}\n  HostName 127.0.0.1\n  User {selector}"
            )
            .unwrap();
        }
        self.config_with(&hosts)
    }

    /// As [`Ssh::config`], with these hosts; what they set comes before the person's own settings.
    pub fn config_with(&self, hosts: &str) -> PathBuf {
        let mut text = format!("{hosts}Host *\n");
        for option in self.options() {
            writeln!(text, "  {}", option.replacen('=', " ", 1)).unwrap();
        }
        let path = self.file("ssh_config");
        fs::write(&path, text).unwrap();
        path
    }

    fn options(&self) -> Vec<String> {
        let mut options = vec![
            format!("Port={}", self.port),
            "IdentitiesOnly=yes".to_owned(),
            "StrictHostKeyChecking=accept-new".to_owned(),
            format!("UserKnownHostsFile={}", self.file("known_hosts").display()),
            "NumberOfPasswordPrompts=1".to_owned(),
        ];
        match &self.key {
            Some(key) => options.push(format!("IdentityFile={}", key.display())),
            None => options.push("PubkeyAuthentication=no".to_owned()),
        }
        options
    }

    /// Where a client runs, and who answers its questions.
    fn seat(&self, command: &mut Command) {
        let answer = self.file("answer");
        let script = format!(
            "#!/bin/sh\nprintf '%s\\n' \"$1\" >> '{}'\ncase \"$1\" in\n*Reason:*) echo '{REASON}';;\n\
             *code:*) echo '{}';;\n*Password:*) echo '{}';;\n*) echo;;\nesac\n",
            self.file("asked").display(),
            self.code.as_deref().unwrap_or(""),
            crate::person::PASSWORD,
        );
        fs::write(&answer, script).unwrap();
        fs::set_permissions(&answer, fs::Permissions::from_mode(0o700)).unwrap();
        command
            .env("SSH_ASKPASS", &answer)
            .env("SSH_ASKPASS_REQUIRE", "force")
            .env("LC_ALL", "C.UTF-8")
            .env("HOME", &self.person.folder)
            .env_remove("SSH_AUTH_SOCK")
            .current_dir(&self.person.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
    }

    /// Starts `ssh` with a command, or a shell when it is empty.
    pub fn start(&self, on: &str, command: &str) -> Live {
        self.start_with(&[], on, command)
    }

    /// As [`Ssh::start`], with more options.
    pub fn start_with(&self, options: &[&str], on: &str, command: &str) -> Live {
        let mut ssh = self.client("ssh");
        ssh.args(options).args(["-l", on, "127.0.0.1"]);
        if !command.is_empty() {
            ssh.arg(command);
        }
        Live::start(ssh)
    }

    /// Runs a command to its end.
    pub fn run(&self, on: &str, command: &str) -> Output {
        let mut ssh = self.client("ssh");
        ssh.args(["-l", on, "127.0.0.1", command]);
        finished(ssh.spawn().unwrap())
    }

    /// Runs a client with these arguments and input to its end.
    pub fn run_program(&self, program: &str, arguments: &[&str], input: &str) -> Output {
        let mut child = self
            .client(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        finished(child)
    }
}

/// A client that runs.
#[derive(Debug)]
pub struct Live {
    child: Child,
    keyboard: Option<ChildStdin>,
    lines: Receiver<String>,
    complaint: Option<JoinHandle<String>>,
}

impl Live {
    /// Starts a client that is ready to be.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = sync_channel(100_000);
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // Nobody may listen any more.
                let _ = sender.try_send(line);
            }
        });
        let mut stderr = child.stderr.take().unwrap();
        let complaint = std::thread::spawn(move || {
            let mut said = Vec::new();
            let _ = stderr.read_to_end(&mut said);
            String::from_utf8_lossy(&said).into_owned()
        });
        Self {
            keyboard: child.stdin.take(),
            child,
            lines,
            complaint: Some(complaint),
        }
    }

    /// Types a line.
    pub fn type_line(&mut self, line: &str) {
        let keyboard = self.keyboard.as_mut().unwrap();
        keyboard.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Waits for a line of output that holds this; returns it.
    pub fn until_line(&self, part: &str) -> String {
        loop {
            let line = self
                .lines
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("no line with `{part}` came"));
            if line.contains(part) {
                return line;
            }
        }
    }

    /// Closes the keyboard and waits for the end; returns how it ended and what it complained.
    pub fn end(mut self) -> (ExitStatus, String) {
        drop(self.keyboard.take());
        self.ended_within(PATIENCE)
    }

    /// Waits for an end that comes from elsewhere.
    pub fn ended_within(mut self, patience: Duration) -> (ExitStatus, String) {
        let status = within(patience, "the client ends", || {
            self.child.try_wait().unwrap()
        });
        (status, self.complaint.take().unwrap().join().unwrap())
    }

    /// Whether it still runs.
    pub fn is_live(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking()
            && let Some(complaint) = self.complaint.take()
        {
            #[expect(clippy::print_stderr, reason = "whoever reads the failure needs it")]
            {
                eprintln!(
                    "-- the client said\n{}",
                    complaint.join().unwrap_or_default()
                );
            }
        }
    }
}

/// What a program printed.
pub fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
