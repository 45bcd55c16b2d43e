//! Many connections at once: what each holds while it is idle, and what statements take beside the others.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};

use super::{World, latencies};
use crate::bench::{
    accounting::Memory,
    figures::{Figures, Row},
    options::Options,
    path::Path,
};

/// After connections opened, until what is temporary is gone.
const SETTLE: Duration = Duration::from_secs(5);
const RATE: &str = "2000";

/// Takes the samples.
pub fn take(world: &World, options: &Options, figures: &mut Figures) -> anyhow::Result<()> {
    for path in [Path::Relay, Path::Sallyport] {
        let row = Row::new(
            "idle.pss",
            "idle connections: shared and private, each",
            "KiB",
        );
        match idle(world, path, options.count(100, 10)) {
            Ok(each) => figures.add(&row, Some(path), each),
            Err(error) => figures.fail(&row, Some(path), &error),
        }
    }
    for _ in 0..options.rounds {
        busy(world, options, figures);
    }
    Ok(())
}

/// `psql` that has connected and waits.
struct Idle {
    psql: Child,
    _input: ChildStdin,
}

impl Drop for Idle {
    fn drop(&mut self) {
        let _ = self.psql.kill();
        let _ = self.psql.wait();
    }
}

fn connect(world: &World, path: Path) -> anyhow::Result<Idle> {
    let mut psql = world
        .client(path, "psql")?
        .args(["-X", "-q", "-t", "-A"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("start psql")?;
    let mut input = psql.stdin.take().context("reach psql")?;
    let output = psql.stdout.take().context("hear psql")?;
    let idle = Idle {
        psql,
        _input: {
            input.write_all(b"SELECT 42;\n").context("ask psql")?;
            input
        },
    };
    let mut line = String::new();
    BufReader::new(output)
        .read_line(&mut line)
        .context("hear psql")?;
    ensure!(line.trim() == "42", "psql said `{line}`");
    Ok(idle)
}

/// What each of `count` idle connections holds in the middle, KiB.
fn idle(world: &World, path: Path, count: usize) -> anyhow::Result<f64> {
    let middle = match path {
        Path::Sallyport => world.gateway_pid(),
        _ => world.pooler_pid(),
    };
    let gather = |count: usize| -> anyhow::Result<Vec<Idle>> {
        (0..count).map(|_| connect(world, path)).collect()
    };
    // What the first ones leave behind is not theirs.
    drop(gather(count / 10)?);
    std::thread::sleep(SETTLE);
    let fresh = Memory::of(middle)?.pss_kib;
    let crowd = gather(count)?;
    std::thread::sleep(SETTLE);
    let open = Memory::of(middle)?.pss_kib;
    drop(crowd);
    Ok((open as f64 - fresh as f64) / count as f64)
}

/// 200 connections that together make 2,000 statements a second: what a path adds.
fn busy(world: &World, options: &Options, figures: &mut Figures) {
    let connections = options.count(200, 20).to_string();
    let time = options.count(10, 2).to_string();
    let words = ["-c", &connections, "-j", "2", "-T", &time, "-R", RATE];
    let mut direct = None;
    for path in Path::ALL {
        let p99 = Row::new(
            "crowd.p99",
            format!("{connections} connections, 2,000 per s: p99"),
            "µs",
        );
        match latencies(world, path, &words) {
            Ok((_, most)) => {
                figures.add(&p99, Some(path), most);
                if path == Path::Direct {
                    direct = Some(most);
                } else if let Some(base) = direct {
                    let row = Row::new(
                        "crowd.added-p99",
                        format!("{connections} connections, 2,000 per s: added at p99"),
                        "µs",
                    );
                    figures.add(&row, Some(path), most - base);
                }
            }
            Err(error) => figures.fail(&p99, Some(path), &error),
        }
    }
}
