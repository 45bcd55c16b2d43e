//! Keeps control and gateway running as child processes.
//!
//! A child that dies is started again, with a growing pause; the other goes on meanwhile, so restarting
//! control ends no session. A child that cannot start even once ends the node, because what is wrong
//! will not mend itself. Children learn that they are to stop from the end of their standard input:
//! closed on purpose, or by the kernel when this process dies, so no child outlives it.
//!
//! INVARIANT: the gateway stops before control does, so that the ends of its sessions are recorded.
//!
//! Not here: signals (`stop`), what the roles do.

use std::{
    cell::Cell,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::watch,
    time::{sleep, timeout},
};

use crate::{failure::Failure, logging::LogFlags};

/// First pause before a child is started again; doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// Longest pause: a node whose disk is mended works again within ten seconds.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A child that lived this long had a good start: the next pause is the first again.
const GOOD_LIFE: Duration = Duration::from_secs(60);
/// Time for a child to stop in order before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(30);
/// Longest line that a child announces.
const LINE_BYTES_MAX: u64 = 4_096;

/// What a child announces on its standard output.
#[derive(Clone, PartialEq, Eq)]
pub enum Notice {
    /// It is up.
    Ready,
    /// There is nobody yet: this code makes the first owner.
    FirstOwnerCode(String),
}

impl Notice {
    /// The line between processes.
    pub fn to_line(&self) -> String {
        match self {
            Self::Ready => "ready\n".to_owned(),
            Self::FirstOwnerCode(code) => format!("first-owner-code {code}\n"),
        }
    }

    /// The words for people.
    pub fn to_text(&self) -> String {
        match self {
            Self::Ready => "ready\n".to_owned(),
            Self::FirstOwnerCode(code) => format!(
                "Nobody is enrolled yet. This code makes the first owner, once:\n\n    {code}\n\n  \
                 sallyport enrol --name NAME --server https://HOST:7443 --ca DATA/ca.pem\n"
            ),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        match line.trim_end().split_once(' ') {
            Some(("first-owner-code", code)) => Some(Self::FirstOwnerCode(code.to_owned())),
            None if line.trim_end() == "ready" => Some(Self::Ready),
            _ => None,
        }
    }
}

/// Which child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Decides, holds secrets and state.
    Control,
    /// Faces clients and targets.
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

/// Starts children and keeps them running.
#[derive(Debug)]
pub struct Supervisor {
    program: PathBuf,
    config: PathBuf,
    log: LogFlags,
    is_trying_out: bool,
}

impl Supervisor {
    /// A supervisor of children of this same binary.
    pub fn new(config: &Path, log: LogFlags) -> Result<Self, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::of(&error, "start `sallyport` by its path"))?;
        Ok(Self {
            program,
            config: config.to_owned(),
            log,
            is_trying_out: false,
        })
    }

    /// Its children accept what is for trying out only.
    pub fn for_trying_out(mut self) -> Self {
        self.is_trying_out = true;
        self
    }

    /// Runs both roles until `stop` resolves; `tell` hears what they announce.
    pub async fn run(
        &self,
        stop: impl Future<Output = ()>,
        tell: impl Fn(Role, Notice),
    ) -> Result<(), Failure> {
        let (stop_gateway, gateway_stops) = watch::channel(false);
        let (stop_control, control_stops) = watch::channel(false);
        let gateway = async {
            let outcome = self.keep(Role::Gateway, gateway_stops, &tell).await;
            stop_control.send_replace(true);
            outcome
        };
        let control = async {
            let outcome = self.keep(Role::Control, control_stops, &tell).await;
            stop_gateway.send_replace(true);
            outcome
        };
        let both = async {
            let (control, gateway) = tokio::join!(control, gateway);
            control.and(gateway)
        };
        tokio::pin!(both);
        tokio::select! {
            outcome = &mut both => return outcome,
            () = stop => {}
        }
        stop_gateway.send_replace(true);
        both.await
    }

    /// Keeps one child running until it is told to stop.
    async fn keep(
        &self,
        role: Role,
        mut stops: watch::Receiver<bool>,
        tell: &impl Fn(Role, Notice),
    ) -> Result<(), Failure> {
        let was_ready = Cell::new(false);
        let mut pause = PAUSE_MIN;
        loop {
            let mut child = self.start(role)?;
            // Held here: `Child::wait` closes what is left in the child, and the child takes the end of
            // its standard input for the end of its supervisor.
            let lifeline = child.stdin.take();
            tracing::info!(role = role.as_str(), pid = child.id(), "started");
            let listening = listen(child.stdout.take(), |notice| {
                was_ready.set(was_ready.get() || notice == Notice::Ready);
                tell(role, notice);
            });
            let mut has_lived = false;
            let ended = {
                let living = async {
                    // Both: the last words of a child are heard before its end is believed.
                    let (status, ()) = tokio::join!(child.wait(), listening);
                    status
                };
                let good_life = sleep(GOOD_LIFE);
                tokio::pin!(living, good_life);
                loop {
                    tokio::select! {
                        status = &mut living => break Some(status),
                        () = told(&mut stops) => break None,
                        () = &mut good_life, if !has_lived => has_lived = true,
                    }
                }
            };
            let Some(status) = ended else {
                return stop_child(role, child, lifeline).await;
            };
            if has_lived {
                pause = PAUSE_MIN;
            }
            let status = status.map_err(|error| Failure::of(&error, "start the node again"))?;
            if !was_ready.get() {
                return Err(not_started(role, status));
            }
            tracing::error!(
                role = role.as_str(),
                %status,
                pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
                "ended by itself; it is started again"
            );
            tokio::select! {
                () = sleep(pause) => {}
                () = told(&mut stops) => return Ok(()),
            }
            pause = pause.saturating_mul(2).min(PAUSE_MAX);
        }
    }

    fn start(&self, role: Role) -> Result<Child, Failure> {
        Command::new(&self.program)
            .arg(role.as_str())
            .arg("--config")
            .arg(&self.config)
            .args(self.log.arguments())
            .arg("--supervised")
            .args(self.is_trying_out.then_some("--trying-out"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Signals of a terminal reach this process only, which stops the children in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                Failure::failed(
                    format!(
                        "start `{} {}`: {error}",
                        self.program.display(),
                        role.as_str()
                    ),
                    "check the limits of this process",
                )
            })
    }
}

/// Resolves when the child is to stop.
async fn told(stops: &mut watch::Receiver<bool>) {
    if stops.wait_for(|stop| *stop).await.is_err() {
        // The sender lives as long as the supervisor; without it there is nothing to stop for.
        std::future::pending::<()>().await;
    }
}

async fn listen(stdout: Option<ChildStdout>, mut tell: impl FnMut(Notice)) {
    let Some(stdout) = stdout else { return };
    let mut reader = BufReader::new(stdout);
    loop {
        let mut line = String::new();
        match (&mut reader)
            .take(LINE_BYTES_MAX)
            .read_line(&mut line)
            .await
        {
            Ok(read) if read > 0 => {
                if let Some(notice) = Notice::parse(&line) {
                    tell(notice);
                }
            }
            _ => return,
        }
    }
}

async fn stop_child(
    role: Role,
    mut child: Child,
    lifeline: Option<ChildStdin>,
) -> Result<(), Failure> {
    drop(lifeline);
    match timeout(STOP_GRACE, child.wait()).await {
        Ok(Ok(status)) if status.success() => {
            tracing::info!(role = role.as_str(), "stopped");
            Ok(())
        }
        Ok(Ok(status)) => Err(Failure::failed(
            format!(
                "`sallyport {}` did not stop in order: {status}",
                role.as_str()
            ),
            "see its message above",
        )),
        Ok(Err(error)) => Err(Failure::of(&error, "check what is left: `ps`")),
        Err(_) => {
            // Dropping it would do the same; said, so that nobody wonders.
            tracing::error!(role = role.as_str(), "did not stop in time; killed");
            child
                .kill()
                .await
                .map_err(|error| Failure::of(&error, "check what is left: `ps`"))
        }
    }
}

fn not_started(role: Role, status: ExitStatus) -> Failure {
    Failure::failed(
        format!("`sallyport {}` did not start: {status}", role.as_str()),
        "see its message above",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_child_announces_is_read_back() {
        for notice in [
            Notice::Ready,
            Notice::FirstOwnerCode("ABCD-EFGH".to_owned()),
        ] {
            assert!(Notice::parse(&notice.to_line()) == Some(notice));
        }
        assert!(Notice::parse("something else\n").is_none());
    }
}
