//! A node: `sallyport server` in a folder of its own, on ports of its own.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{Receiver, sync_channel},
    thread::JoinHandle,
    time::Duration,
};

use sallyport_testkit::port;
use tempfile::TempDir;

use crate::waiting::{PATIENCE, eventually, try_within, within};

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_sallyport");

/// Which process of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Control,
    Gateway,
}

impl Role {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Gateway => "gateway",
        }
    }
}

/// What a node is made of.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// The vault waits for shares instead of opening itself.
    pub is_sealed: bool,
    /// More lines under `[control.store]`.
    pub store: String,
    /// More lines under `[control.sign_in]`.
    pub sign_in: String,
    /// How far its clock is behind, as `libfaketime` spells it: `-10m`.
    pub clock_behind: Option<String>,
    /// More lines under `[gateway]`.
    pub gateway: String,
    /// Its clock is set while it runs, by [`Node::set_clock`].
    pub has_own_clock: bool,
    /// Its data lies on a disk of its own of so many mebibytes. Needs the right to mount.
    pub disk_mib: Option<u32>,
    /// More lines of the target's `sshd_config`, before all others.
    pub target: Vec<String>,
}

/// A node that runs until it is dropped.
#[derive(Debug)]
pub struct Node {
    pub folder: TempDir,
    pub ssh_port: u16,
    pub postgres_port: u16,
    pub mysql_port: u16,
    api_port: u16,
    health_port: u16,
    gateway_health_port: u16,
    setup: Setup,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    server: Child,
    announced: Receiver<String>,
}

impl Node {
    /// A node whose vault opens itself, ready for its first owner.
    pub fn start() -> Self {
        Self::with(Setup::default())
    }

    /// A node that is made otherwise; ready unless its vault is sealed.
    pub fn with(setup: Setup) -> Self {
        let mut node = Self::prepare(setup);
        node.run();
        node
    }

    /// A node that does not run yet.
    pub fn prepare(setup: Setup) -> Self {
        let [
            api_port,
            ssh_port,
            postgres_port,
            mysql_port,
            health_port,
            gateway_health_port,
        ] = port::reserve_many().unwrap();
        let node = Self {
            folder: TempDir::with_prefix("sallyport-it-").unwrap(),
            ssh_port,
            postgres_port,
            mysql_port,
            api_port,
            health_port,
            gateway_health_port,
            setup,
            running: None,
        };
        fs::write(node.config(), node.configuration()).unwrap();
        if let Some(mib) = node.setup.disk_mib {
            node.mount(mib);
        }
        if node.setup.has_own_clock {
            node.set_clock("+0");
        }
        node
    }

    fn mount(&self, mib: u32) {
        fs::create_dir(self.data()).unwrap();
        let status = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={mib}m,mode=700"),
                "tmpfs",
            ])
            .arg(self.data())
            .status()
            .unwrap();
        assert!(
            status.success(),
            "a disk of its own needs the right to mount one"
        );
    }

    /// Sets its clock, as `libfaketime` spells it: `+1h` is an hour ahead of ours.
    pub fn set_clock(&self, offset: &str) {
        let (file, beside) = (self.clock_file(), self.folder.path().join("clock.new"));
        fs::write(&beside, offset).unwrap();
        fs::rename(beside, file).unwrap();
    }

    fn clock_file(&self) -> PathBuf {
        self.folder.path().join("clock")
    }

    fn configuration(&self) -> String {
        let data = self.data();
        let key_file = if self.setup.is_sealed {
            String::new()
        } else {
            format!(
                "key_file = \"{}\"\n",
                self.folder.path().join("vault.key").display()
            )
        };
        format!(
            "gateway_health = \"127.0.0.1:{}\"\n[control.listen]\napi = \"127.0.0.1:{}\"\nhealth = \
             \"127.0.0.1:{}\"\n[control.store]\ndata_directory = \"{}\"\n{}\n[control.sign_in]\n{}\n\
             [control.vault]\n{key_file}[gateway]\nssh_listen = \"127.0.0.1:{}\"\n\
             postgres_listen = \"127.0.0.1:{}\"\nmysql_listen = \"127.0.0.1:{}\"\n{}\n",
            self.gateway_health_port,
            self.api_port,
            self.health_port,
            data.display(),
            self.setup.store,
            self.setup.sign_in,
            self.ssh_port,
            self.postgres_port,
            self.mysql_port,
            self.setup.gateway,
        )
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("sallyport.toml")
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Changes how it is made, from the next start on.
    pub fn change(&mut self, change: impl FnOnce(&mut Setup)) {
        change(&mut self.setup);
        fs::write(self.config(), self.configuration()).unwrap();
    }

    /// URL of the API.
    pub fn api(&self) -> String {
        format!("https://127.0.0.1:{}", self.api_port)
    }

    /// The certificate that vouches for the API.
    pub fn ca(&self) -> PathBuf {
        self.data().join("ca.pem")
    }

    /// Starts it and waits until it is up.
    pub fn run(&mut self) {
        let mut server = self
            .command("server")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(self.append_log())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(server.stdout.take().unwrap());
        let (sender, announced) = sync_channel(1_000);
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // The test may not listen any more; the pipe is drained all the same.
                let _ = sender.try_send(line);
            }
        });
        self.running = Some(Running { server, announced });
        if self.setup.clock_behind.is_some() {
            // A clock that is behind keeps a node from being ready, and that is all it may be.
            self.until_health_says(&self.health(), "behind the last recorded time", true);
        } else if self.setup.is_sealed {
            self.until_health_says(&self.health(), "gateway", false);
        } else {
            self.until_health_says(&self.health(), "ready", true);
        }
    }

    /// Runs a role that is expected to refuse to start; returns what it said.
    pub fn refuse_to_start(&self, role: &str) -> Output {
        let child = self
            .command(role)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        finished(child)
    }

    fn command(&self, role: &str) -> Command {
        let mut command = Command::new(BINARY);
        command
            .arg(role)
            .arg("--config")
            .arg(self.config())
            .args(["--log-format", "json"]);
        if let Some(behind) = &self.setup.clock_behind {
            command
                .env("LD_PRELOAD", fake_time_library())
                .env("FAKETIME", behind)
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        if self.setup.has_own_clock {
            command
                .env("LD_PRELOAD", fake_time_library())
                .env("FAKETIME_TIMESTAMP_FILE", self.clock_file())
                .env("FAKETIME_NO_CACHE", "1")
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        command
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("node.log")
    }

    fn append_log(&self) -> File {
        File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .unwrap()
    }

    /// What the node logged, of all starts.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// Waits for the code of the first owner.
    pub fn first_owner_code(&self) -> String {
        let announced = &self.running.as_ref().unwrap().announced;
        loop {
            let line = announced
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("no code was printed: {}", self.log()));
            // A code stands alone on its line: groups of letters and digits.
            let word = line.trim();
            if word.contains('-') && !word.contains([' ', '/']) {
                return word.to_owned();
            }
        }
    }

    /// The process of a role, as the supervisor last started it.
    pub fn pid(&self, role: Role) -> u32 {
        let server = self.running.as_ref().unwrap().server.id();
        eventually("the role runs", || {
            children_of(server).into_iter().find(|pid| {
                command_line(*pid)
                    .get(1)
                    .is_some_and(|word| word == role.as_str())
            })
        })
    }

    /// Ends a role as a crash would; returns once another process has taken its place and is up.
    pub fn crash(&self, role: Role) {
        self.replace(role, "-KILL");
    }

    /// Ends a role in order; returns once another process has taken its place and is up.
    pub fn restart(&self, role: Role) {
        self.replace(role, "-TERM");
    }

    /// Ends roles as a crash would, both at the same moment if both are named; waits for nothing.
    pub fn kill(&self, roles: &[Role]) {
        let pids: Vec<u32> = roles.iter().map(|role| self.pid(*role)).collect();
        for pid in pids {
            send("-KILL", pid);
        }
    }

    /// Makes system calls of a role fail or wait, as `strace --inject` spells it, until the result is
    /// dropped.
    pub fn disturb(&self, role: Role, inject: &str) -> Disturbed {
        let out = Path::new("/dev/null");
        Disturbed(self.strace(role, &["-e", &format!("inject={inject}")], out))
    }

    /// Makes every write and sync of one file by a role fail, until the result is dropped.
    pub fn break_file(&self, role: Role, file: &Path) -> Disturbed {
        let fails = "inject=write,writev,pwrite64,fsync,fdatasync:error=EIO";
        let options = ["-P", &file.display().to_string(), "-e", fails];
        Disturbed(self.strace(role, &options, Path::new("/dev/null")))
    }

    /// Writes down these system calls of a role, whole, until told to stop.
    pub fn trace(&self, role: Role, calls: &str) -> Traced {
        let out = self.folder.path().join("trace");
        let which = format!("trace={calls}");
        let options = ["-ttt", "-y", "-xx", "-s", "1000000", "-e", &which];
        let strace = self.strace(role, &options, &out);
        Traced(Disturbed(strace), out)
    }

    fn strace(&self, role: Role, options: &[&str], out: &Path) -> Child {
        let attach = |pid: u32| {
            Command::new("strace")
                .args(["-f", "-qq", "-o"])
                .arg(out)
                .args(options)
                .args(["-p", &pid.to_string()])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("strace is missing: apt-get install strace")
        };
        let mut pid = self.pid(role);
        let mut strace = attach(pid);
        eventually("it is being traced", || {
            if strace.try_wait().unwrap().is_some() {
                // A thread that ends while strace looks for threads makes it give up.
                pid = self.pid(role);
                strace = attach(pid);
            }
            is_traced(pid).then_some(())
        });
        strace
    }

    fn replace(&self, role: Role, signal: &str) {
        let before = self.pid(role);
        send(signal, before);
        eventually("another process takes its place", || {
            (!is_running(before) && self.pid(role) != before).then_some(())
        });
        self.until_health_says(&self.health(), "ready", true);
    }

    /// Stops everything in order.
    pub fn stop(&mut self) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        send("-TERM", running.server.id());
        let status = within(Duration::from_secs(45), "the node stops", || {
            running.server.try_wait().unwrap()
        });
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// Kills the supervisor; its children have nobody left.
    pub fn kill_supervisor(&mut self) -> [u32; 2] {
        let children = [self.pid(Role::Control), self.pid(Role::Gateway)];
        let mut running = self.running.take().unwrap();
        running.server.kill().unwrap();
        running.server.wait().unwrap();
        children
    }

    /// Control's metrics and health.
    pub fn health(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.health_port))
    }

    /// The gateway's metrics and health.
    pub fn gateway_health(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.gateway_health_port))
    }

    /// Waits until `/readyz` says a word, or no longer says it.
    pub fn until_health_says(&self, address: &SocketAddr, word: &str, is_said: bool) {
        let mut last = String::new();
        within(PATIENCE, "the node is as it should be", || {
            let server = self.running.as_ref().map(|running| running.server.id());
            assert!(server.is_some_and(is_running), "{}", self.log());
            last = get(address, "/readyz")?;
            let body = last.split("\r\n\r\n").nth(1)?;
            (body.contains(word) == is_said).then_some(())
        });
    }
}

/// A role some of whose system calls do not do what they should.
#[derive(Debug)]
pub struct Disturbed(Child);

/// A role whose system calls are written down.
#[derive(Debug)]
pub struct Traced(Disturbed, PathBuf);

impl Traced {
    /// Stops; returns what was written.
    pub fn finish(self) -> String {
        let Self(strace, out) = self;
        drop(strace);
        fs::read_to_string(out).unwrap()
    }
}

impl Drop for Disturbed {
    fn drop(&mut self) {
        // It lets go of the process and ends; both may have ended already.
        let _ = Command::new("kill")
            .args(["-INT", &self.0.id().to_string()])
            .stderr(Stdio::null())
            .status();
        let _ = self.0.wait();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(running) = &mut self.running {
            // In order, so that nothing writes into a folder that is being removed.
            send("-TERM", running.server.id());
            let ended = try_within(Duration::from_secs(20), || {
                running.server.try_wait().ok()?
            });
            if ended.is_none() {
                let _ = running.server.kill();
                let _ = running.server.wait();
            }
        }
        if self.setup.disk_mib.is_some() {
            let _ = Command::new("umount").arg("-l").arg(self.data()).status();
        }
        if std::thread::panicking() {
            #[expect(clippy::print_stderr, reason = "whoever reads the failure needs it")]
            {
                eprintln!("-- the node's log\n{}", self.log());
            }
        }
    }
}

/// One GET over plain HTTP; `None` while nobody answers.
pub fn get(address: &SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Whether every thread of a process is being traced.
fn is_traced(pid: u32) -> bool {
    let Ok(mut threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    threads.all(|thread| {
        let status = thread.and_then(|thread| fs::read_to_string(thread.path().join("status")));
        // A thread that has ended meanwhile does nothing any more.
        status.map_or(true, |status| !status.contains("TracerPid:\t0\n"))
    })
}

/// Sends a signal.
pub fn send(signal: &str, pid: u32) {
    let status = Command::new("kill")
        .args([signal, &pid.to_string()])
        .status()
        .unwrap();
    assert!(status.success(), "kill {signal} {pid}");
}

/// Whether a process is there and not only waiting to be buried.
pub fn is_running(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or("")
            .trim_start()
            .starts_with('Z')
    })
}

/// Waits for a program that must end by itself; one that does not is ended, and fails the test.
pub fn finished(child: Child) -> Output {
    finished_within(PATIENCE, child)
}

/// As [`finished`], for programs that take their time.
pub fn finished_within(patience: Duration, mut child: Child) -> Output {
    // Read while it runs, or it would stop at a full pipe.
    let stdout = child.stdout.take().map(read_to_end);
    let stderr = child.stderr.take().map(read_to_end);
    let ended = try_within(patience, || child.try_wait().unwrap());
    if ended.is_none() {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let read = |reading: Option<JoinHandle<Vec<u8>>>| {
        reading
            .map(|reading| reading.join().unwrap())
            .unwrap_or_default()
    };
    let (stdout, stderr) = (read(stdout), read(stderr));
    Output {
        status: ended.unwrap_or_else(|| {
            panic!("it did not end: {}", String::from_utf8_lossy(&stderr));
        }),
        stdout,
        stderr,
    }
}

fn read_to_end(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut said = Vec::new();
        pipe.read_to_end(&mut said).unwrap();
        said
    })
}

fn children_of(parent: u32) -> Vec<u32> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|item| item.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
                let after_name = stat.rsplit(')').next().unwrap_or("");
                after_name.split_ascii_whitespace().nth(1) == Some(parent.to_string().as_str())
            })
        })
        .collect()
}

fn command_line(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes)
        .split('\0')
        .map(str::to_owned)
        .collect()
}

/// The library that gives a process another clock.
fn fake_time_library() -> PathBuf {
    let triplets = fs::read_dir("/usr/lib").unwrap();
    triplets
        .map(|item| item.unwrap().path().join("faketime/libfaketime.so.1"))
        .find(|path| path.exists())
        .expect("libfaketime is missing: apt-get install libfaketime")
}

/// Every file under a folder.
pub fn files_under(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for item in fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            found.extend(files_under(&path));
        } else if path.is_file() {
            found.push(path);
        }
    }
    found
}

/// The folder of this name under a folder.
pub fn folder_named(folder: &Path, name: &str) -> PathBuf {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(&folder).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                if path.file_name().is_some_and(|found| found == name) {
                    return path;
                }
                folders.push(path);
            }
        }
    }
    panic!("no folder `{name}` under `{}`", folder.display());
}
