//! Many terminal sessions at once, each a stock client of its own, typing or idle.
//!
//! A client's process costs far more than what this program does for it (a thread that waits for its
//! bytes), and both are reported by who measures with it, so that a load that is limited by its own
//! making is seen.
//!
//! INVARIANT: dropping it ends every client.

use std::{
    collections::VecDeque,
    io::{Read as _, Write as _},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail};

use super::{
    accounting::Cpu,
    client::ssh,
    path::{Path, Route},
    world::World,
};

/// Clients that connect at the same time while a crowd gathers.
const AT_ONCE: usize = 8;
/// A thread that only waits for bytes needs little.
const STACK_BYTES: usize = 64 * 1024;

/// See the module.
#[derive(Debug)]
pub struct Crowd {
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    child: Child,
    stdin: Mutex<ChildStdin>,
    seen: Arc<Seen>,
    reading: Option<JoinHandle<()>>,
}

/// What came back to one client.
#[derive(Debug, Default)]
struct Seen {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the keys that are not back yet were typed.
    waiting: VecDeque<Instant>,
    /// How long the others took.
    taken: Vec<Duration>,
    last_byte: Option<Instant>,
    end: Option<Instant>,
}

/// When a client saw the last of its session.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    pub last_byte: Instant,
    pub end: Instant,
}

impl Crowd {
    /// Opens sessions at terminals that answer each key with itself, and waits until all are open.
    pub fn gather(world: &World, path: Path, route: &Route, count: usize) -> anyhow::Result<Self> {
        let members = std::thread::scope(|scope| -> anyhow::Result<Vec<Member>> {
            let threads: Vec<_> = (0..AT_ONCE)
                .map(|first| {
                    scope.spawn(move || {
                        (first..count)
                            .step_by(AT_ONCE)
                            .map(|_| Member::join(world, path, route))
                            .collect::<anyhow::Result<Vec<Member>>>()
                    })
                })
                .collect();
            let mut members = Vec::with_capacity(count);
            for thread in threads {
                let joined = thread.join().map_err(|_| anyhow!("a thread panicked"))?;
                members.extend(joined?);
            }
            Ok(members)
        })?;
        Ok(Self { members })
    }

    /// Types a key in each session `per_s` times a second for so long, each session at its own moment;
    /// returns how long each took until it was seen, µs.
    pub fn type_for(&self, per_s: u32, time: Duration) -> anyhow::Result<Vec<f64>> {
        let stop = AtomicBool::new(false);
        let deadline = Instant::now() + time;
        self.keep_typing(per_s, &stop, || {
            std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
        })?;
        // What is still under way belongs to the count.
        std::thread::sleep(Duration::from_millis(500));
        let mut taken = Vec::new();
        for member in &self.members {
            let state = member.seen.lock();
            if state.end.is_some() {
                bail!("a session ended while it was typed in");
            }
            taken.extend(state.taken.iter().map(|took| took.as_secs_f64() * 1e6));
            let now = Instant::now();
            // A key that never came back took at least until now.
            taken.extend(
                state
                    .waiting
                    .iter()
                    .map(|typed| now.saturating_duration_since(*typed).as_secs_f64() * 1e6),
            );
        }
        Ok(taken)
    }

    /// Types while `meanwhile` runs.
    pub fn keep_typing<T>(
        &self,
        per_s: u32,
        stop: &AtomicBool,
        meanwhile: impl FnOnce() -> T,
    ) -> anyhow::Result<T> {
        std::thread::scope(|scope| {
            let typing = scope.spawn(|| self.type_until(per_s, stop));
            let result = meanwhile();
            stop.store(true, Ordering::SeqCst);
            typing.join().map_err(|_| anyhow!("a thread panicked"))?;
            Ok(result)
        })
    }

    fn type_until(&self, per_s: u32, stop: &AtomicBool) {
        let count = u32::try_from(self.members.len()).unwrap_or(u32::MAX).max(1);
        let step = Duration::from_secs(1) / per_s.max(1) / count;
        let mut due = Instant::now();
        for member in self.members.iter().cycle() {
            if stop.load(Ordering::SeqCst) {
                return;
            }
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            member.press(due);
            due += step;
        }
    }

    /// Waits until every session has ended; returns when.
    pub fn ends(&self, patience: Duration) -> anyhow::Result<Vec<Ended>> {
        let deadline = Instant::now() + patience;
        loop {
            let ended: Vec<Ended> = self
                .members
                .iter()
                .filter_map(|member| {
                    let state = member.seen.lock();
                    let end = state.end?;
                    Some(Ended {
                        last_byte: state.last_byte.unwrap_or(end),
                        end,
                    })
                })
                .collect();
            if ended.len() == self.members.len() {
                return Ok(ended);
            }
            if Instant::now() > deadline {
                bail!(
                    "{} of {} sessions had not ended after {} s",
                    self.members.len() - ended.len(),
                    self.members.len(),
                    patience.as_secs()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// CPU that the clients' processes have spent.
    pub fn clients_cpu(&self) -> anyhow::Result<Duration> {
        let mut sum = Duration::ZERO;
        for member in &self.members {
            sum += Cpu::of(member.child.id())?.total();
        }
        Ok(sum)
    }
}

impl Member {
    fn join(world: &World, path: Path, route: &Route) -> anyhow::Result<Self> {
        let line = "stty raw -echo; printf '\\001'; exec cat";
        let mut child = ssh(world, path, route, true, line)
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("start ssh")?;
        let stdin = child.stdin.take().context("reach ssh")?;
        let mut stdout = child.stdout.take().context("hear ssh")?;
        let mut byte = [0];
        while byte != [1] {
            stdout
                .read_exact(&mut byte)
                .context("a session did not open")?;
        }
        let seen = Arc::new(Seen::default());
        let reading = {
            let seen = Arc::clone(&seen);
            std::thread::Builder::new()
                .stack_size(STACK_BYTES)
                .spawn(move || seen.read(stdout))
                .context("start a thread")?
        };
        Ok(Self {
            child,
            stdin: Mutex::new(stdin),
            seen,
            reading: Some(reading),
        })
    }

    /// Types a key that was due at `due`: if this program is late, that counts too.
    fn press(&self, due: Instant) {
        let mut state = self.seen.lock();
        if state.end.is_some() {
            return;
        }
        state.waiting.push_back(due);
        drop(state);
        let mut stdin = self.stdin.lock().unwrap_or_else(PoisonError::into_inner);
        // A client that is gone is seen as the end of its output.
        let _ = stdin.write_all(b"x");
    }
}

impl Seen {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, mut stdout: ChildStdout) {
        let mut buffer = [0; 256];
        loop {
            let count = stdout.read(&mut buffer).unwrap_or(0);
            let now = Instant::now();
            let mut state = self.lock();
            if count == 0 {
                state.end = Some(now);
                return;
            }
            state.last_byte = Some(now);
            for _ in 0..count {
                if let Some(typed) = state.waiting.pop_front() {
                    state.taken.push(now.saturating_duration_since(typed));
                }
            }
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for member in &mut self.members {
            let _ = member.child.kill();
        }
        for member in &mut self.members {
            let _ = member.child.wait();
            if let Some(reading) = member.reading.take() {
                let _ = reading.join();
            }
        }
    }
}
