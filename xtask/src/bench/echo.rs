//! `echo`: a key typed at a terminal until it is seen, one after the other.
//!
//! The target's terminal is raw and `dd` answers, so one byte goes through every leg and back.

use std::{
    io::{Read as _, Write as _},
    process::{ChildStdin, ChildStdout, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};

use super::{
    client::{Watchdog, finish, ssh},
    figures::{Figures, Row, percentile},
    options::Options,
    path::{Cipher, Path, Route, in_turn},
    world::{Spent, World},
};

const LIMIT: Duration = Duration::from_secs(60);
/// Typed before the clock runs.
const WARM_UP: usize = 50;

/// Takes the samples.
pub fn take(world: &World, options: &Options, figures: &mut Figures) -> anyhow::Result<()> {
    let half = Row::new("p50", "p50", "µs");
    let most = Row::new("p99", "p99", "µs");
    let route = world.route(Cipher::Aes256Gcm)?;
    let keys = options.count(3_000, 200);
    for (_, path) in in_turn(options.rounds) {
        match typed(world, path, route, keys) {
            Ok((taken, spent)) => {
                for (row, place) in [(&half, 0.5), (&most, 0.99)] {
                    if let Some(sample) = percentile(&taken, place) {
                        figures.add(row, Some(path), sample);
                    }
                }
                if path == Path::Sallyport {
                    let each = |spent: Duration| spent.as_secs_f64() * 1e6 / keys as f64;
                    let gateway = Row::new("gateway-cpu", "CPU of the gateway, each key", "µs");
                    let control = Row::new("control-cpu", "CPU of control, each key", "µs");
                    figures.add(&gateway, Some(path), each(spent.gateway));
                    figures.add(&control, Some(path), each(spent.control));
                }
            }
            Err(error) => figures.fail(&half, Some(path), &error),
        }
    }
    Ok(())
}

/// Types; returns how long each key took, µs, and what was spent meanwhile.
fn typed(
    world: &World,
    path: Path,
    route: &Route,
    keys: usize,
) -> anyhow::Result<(Vec<f64>, Spent)> {
    // After the last key `dd` ends: a raw terminal has no end of file to type.
    let line = format!(
        "stty raw -echo; printf '\\001'; exec dd bs=1 count={} status=none",
        WARM_UP + keys
    );
    let mut child = ssh(world, path, route, true, &line)
        .stdin(Stdio::piped())
        .spawn()
        .context("start ssh")?;
    let watchdog = Watchdog::watch(&child, LIMIT);
    let mut keyboard = Keyboard {
        stdin: child.stdin.take().context("reach ssh")?,
        stdout: child.stdout.take().context("hear ssh")?,
    };
    let taken = keyboard.type_all(world, keys);
    // Why the client ended says more than that no answer came.
    finish(&mut child, watchdog)?;
    taken
}

struct Keyboard {
    stdin: ChildStdin,
    stdout: ChildStdout,
}

impl Keyboard {
    fn type_all(&mut self, world: &World, keys: usize) -> anyhow::Result<(Vec<f64>, Spent)> {
        // A gateway's notices may come before.
        while self.see()? != 1 {}
        for _ in 0..WARM_UP {
            self.press()?;
        }
        let before = world.spent_now()?;
        let taken = (0..keys)
            .map(|_| self.press().map(|took| took.as_secs_f64() * 1e6))
            .collect::<anyhow::Result<_>>()?;
        Ok((taken, world.spent_now()?.since(before)))
    }

    fn press(&mut self) -> anyhow::Result<Duration> {
        let start = Instant::now();
        self.stdin.write_all(b"x").context("type")?;
        let seen = self.see()?;
        ensure!(seen == b'x', "byte {seen} came back");
        Ok(start.elapsed())
    }

    fn see(&mut self) -> anyhow::Result<u8> {
        let mut byte = [0];
        self.stdout.read_exact(&mut byte).context("hear ssh")?;
        let [byte] = byte;
        Ok(byte)
    }
}
