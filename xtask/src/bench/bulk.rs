//! `bulk`: bytes down and up, as fast as they go.
//!
//! The clock runs from the first byte that arrives (down) or from the target's being ready to read
//! (up) until the target's side has said how much it was; CPU is that of the whole connection.
//!
//! INVARIANT: a transfer counts only if every byte arrived.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};

use super::{
    client::{Watchdog, finish, ssh},
    figures::{Figures, Row},
    options::Options,
    path::{Cipher, Path, Route, in_turn},
    world::{Spent, World},
};

/// Slower than this is a stall.
const SLOWEST_MIB_PER_S: u64 = 4;
/// The target reads and writes this much at once, so that it costs little itself; a part of a MiB.
const BLOCK: u64 = 256 * 1024;
/// Besides, for connecting.
const CONNECT_MAX: Duration = Duration::from_secs(20);

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Down,
    Up,
}

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub direction: Direction,
    /// Name of a file of the world: `text` or `random`.
    pub content: &'static str,
    pub has_pty: bool,
    /// No more than the file has.
    pub mib: u64,
}

/// What it took.
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    pub took: Duration,
    pub spent: Spent,
}

/// Takes the samples.
pub fn take(world: &World, options: &Options, figures: &mut Figures) -> anyhow::Result<()> {
    let whole = options.size_mib;
    // A terminal moves a few kilobytes at a time, whatever the path.
    let part = (whole / 4).max(1);
    for (cipher, content, has_pty, mib) in [
        (Cipher::Aes256Gcm, "text", false, whole),
        (Cipher::Aes256Gcm, "random", false, whole),
        (Cipher::ChaCha20, "random", false, whole),
        (Cipher::Aes256Gcm, "text", true, part),
    ] {
        let route = world.route(cipher)?;
        for (_, path) in in_turn(options.rounds) {
            for direction in [Direction::Down, Direction::Up] {
                let load = Load {
                    direction,
                    content,
                    has_pty,
                    mib,
                };
                note(world, path, route, load, figures);
            }
        }
    }
    Ok(())
}

/// Takes one sample and keeps it, or why there is none.
fn note(world: &World, path: Path, route: &Route, load: Load, figures: &mut Figures) {
    let row = |what: &str, label: &str, unit| {
        let way = match load.direction {
            Direction::Down => "down",
            Direction::Up => "up",
        };
        let pty = if load.has_pty { ".pty" } else { "" };
        let cipher = route.cipher.word();
        Row::new(
            format!("{way}.{cipher}.{}{pty}.{what}", load.content),
            format!(
                "{way}, {cipher}, {}{}: {label}",
                load.content,
                if load.has_pty { ", terminal" } else { "" }
            ),
            unit,
        )
    };
    let rate = row("rate", "rate", "MiB/s");
    let transfer = match transfer(world, path, route, load) {
        Ok(transfer) => transfer,
        Err(error) => return figures.fail(&rate, Some(path), &error),
    };
    let mut add = |row: Row, sample| figures.add(&row, Some(path), sample);
    let gib = load.mib as f64 / 1024.0;
    let took_s = transfer.took.as_secs_f64();
    let per_gib = |spent: Duration| spent.as_secs_f64() / gib;
    let spent = transfer.spent;
    add(rate, load.mib as f64 / took_s);
    if let Some(middle) = spent.in_the_middle(path) {
        add(
            row("middle-cpu", "CPU of relay or gateway", "s/GiB"),
            per_gib(middle),
        );
    }
    if path == Path::Sallyport {
        add(
            row("control-cpu", "CPU of control", "s/GiB"),
            per_gib(spent.control),
        );
    }
    let whole = spent.gateway + spent.control + spent.relay + spent.target + spent.clients;
    add(
        row("whole-cpu", "CPU of all parties", "s/GiB"),
        per_gib(whole),
    );
    // Near 1 the client is what limits the rate, and the path could do more.
    add(
        row("client-busy", "client's CPU by time taken", "of a core"),
        spent.clients.as_secs_f64() / took_s,
    );
}

/// Moves the bytes once.
pub fn transfer(world: &World, path: Path, route: &Route, load: Load) -> anyhow::Result<Transfer> {
    let before = world.spent()?;
    let bytes = load.mib << 20;
    let blocks = bytes / BLOCK;
    let file = world.file(load.content);
    let raw = if load.has_pty { "stty raw -echo; " } else { "" };
    let line = match load.direction {
        Direction::Down => format!(
            "{raw}echo go; exec dd bs={BLOCK} count={blocks} status=none if={}",
            file.display()
        ),
        Direction::Up => format!(
            "{raw}echo go; exec dd bs={BLOCK} count={blocks} iflag=fullblock of=/dev/null 2>&1"
        ),
    };
    let mut command = ssh(world, path, route, load.has_pty, &line);
    if load.direction == Direction::Up {
        // A terminal must be raw before the first byte; otherwise the client reads the file itself.
        command.stdin(if load.has_pty {
            Stdio::piped()
        } else {
            Stdio::from(File::open(&file).context("open what is sent")?)
        });
    }
    let mut child = command.spawn().context("start ssh")?;
    let limit = CONNECT_MAX + Duration::from_secs(load.mib / SLOWEST_MIB_PER_S);
    let watchdog = Watchdog::watch(&child, limit);
    let moved = match load.direction {
        Direction::Down => receive(&mut child),
        Direction::Up => send(&mut child, &file, load.has_pty.then_some(bytes)),
    };
    // Why the client ended says more than that the bytes did not arrive.
    finish(&mut child, watchdog)?;
    let (took, arrived) = moved?;
    ensure!(arrived == bytes, "{arrived} of {bytes} bytes arrived");
    let spent = world.spent()?.since(before);
    if path == Path::Sallyport {
        world.forget_recordings()?;
    }
    Ok(Transfer { took, spent })
}

/// Reads everything; returns how long that took, and how much it was.
fn receive(child: &mut Child) -> anyhow::Result<(Duration, u64)> {
    let mut stdout = BufReader::new(child.stdout.take().context("hear ssh")?);
    let start = ready(&mut stdout)?;
    let mut arrived = u64::try_from(stdout.buffer().len()).context("count bytes")?;
    let mut stdout = stdout.into_inner();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = stdout.read(&mut buffer).context("hear ssh")?;
        if count == 0 {
            return Ok((start.elapsed(), arrived));
        }
        arrived += u64::try_from(count).context("count bytes")?;
    }
}

/// Sends the file, unless the client reads it itself; returns how long that took, and how much the
/// target says it was.
fn send(
    child: &mut Child,
    file: &std::path::Path,
    typed: Option<u64>,
) -> anyhow::Result<(Duration, u64)> {
    let mut stdout = BufReader::new(child.stdout.take().context("hear ssh")?);
    let start = ready(&mut stdout)?;
    let stdin = child.stdin.take();
    if let (Some(mut stdin), Some(bytes)) = (stdin, typed) {
        let mut content = File::open(file).context("open what is sent")?.take(bytes);
        std::io::copy(&mut content, &mut stdin).context("send")?;
    }
    // `dd` says how many blocks it took before it says how many bytes.
    let mut line = String::new();
    while !line.contains(" bytes") {
        line.clear();
        let count = stdout.read_line(&mut line).context("hear ssh")?;
        ensure!(count > 0, "the target did not say how much arrived");
    }
    let arrived = line
        .split(' ')
        .next()
        .and_then(|word| word.parse().ok())
        .with_context(|| format!("read what the target says: `{}`", line.trim()))?;
    Ok((start.elapsed(), arrived))
}

/// Waits until the target says that it begins; a gateway's notices may come before.
fn ready(stdout: &mut impl std::io::BufRead) -> anyhow::Result<Instant> {
    let mut line = String::new();
    loop {
        line.clear();
        let count = stdout.read_line(&mut line).context("hear ssh")?;
        ensure!(count > 0, "the target never began");
        if line.trim_end() == "go" {
            return Ok(Instant::now());
        }
    }
}
