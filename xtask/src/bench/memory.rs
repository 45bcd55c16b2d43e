//! `memory`: what open terminals cost a gateway, idle and after they have closed; and what a target
//! costs that does not read.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::{
    accounting::Memory,
    client::{Watchdog, ssh},
    crowd::Crowd,
    figures::{Figures, Row},
    options::Options,
    path::{Cipher, Path, Route},
    world::World,
};

/// After sessions opened or closed, until what is temporary is gone.
const SETTLE: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(10);
/// How long a client pushes against a target that does not read.
const PUSH: Duration = Duration::from_secs(15);

/// Takes the samples, once: what is measured is how much is held, not how fast.
pub fn take(world: &mut World, options: &Options, figures: &mut Figures) -> anyhow::Result<()> {
    let route = world.route(Cipher::Aes256Gcm)?.clone();
    // First, while the gateway is small: what a crowd leaves behind is given back meanwhile.
    stuck(world, &route, options, figures)?;
    idle(world, &route, options.count(200, 20), figures)
}

fn idle(world: &World, route: &Route, count: usize, figures: &mut Figures) -> anyhow::Result<()> {
    // What the first sessions leave behind is the gateway's, not theirs.
    drop(Crowd::gather(world, Path::Sallyport, route, count / 10)?);
    std::thread::sleep(SETTLE);
    let fresh = Memory::of(world.gateway_pid())?;
    let crowd = Crowd::gather(world, Path::Sallyport, route, count)?;
    std::thread::sleep(SETTLE);
    let open = Memory::of(world.gateway_pid())?;

    let before = world.spent_now()?;
    std::thread::sleep(IDLE);
    let spent = world.spent_now()?.since(before);
    drop(crowd);
    std::thread::sleep(SETTLE * 2);
    let closed = Memory::of(world.gateway_pid())?;

    let each = |later: u64, earlier: u64| (later as f64 - earlier as f64) / count as f64;
    let share = |spent: Duration| spent.as_secs_f64() / IDLE.as_secs_f64() * 100.0;
    let with = format!("{count} idle sessions");
    for (key, label, unit, sample) in [
        (
            "idle.pss",
            format!("{with}: shared and private, each"),
            "KiB",
            each(open.pss_kib, fresh.pss_kib),
        ),
        (
            "idle.private",
            format!("{with}: private, each"),
            "KiB",
            each(open.private_kib, fresh.private_kib),
        ),
        (
            "idle.gateway-busy",
            format!("{with}: CPU of the gateway"),
            "% of a core",
            share(spent.gateway),
        ),
        (
            "idle.control-busy",
            format!("{with}: CPU of control"),
            "% of a core",
            share(spent.control),
        ),
        (
            "closed.kept",
            "after they closed: kept of what they took".to_owned(),
            "%",
            each(closed.pss_kib, fresh.pss_kib) / each(open.pss_kib, fresh.pss_kib) * 100.0,
        ),
        (
            "gateway.rss",
            "gateway before them, resident".to_owned(),
            "MiB",
            fresh.rss_kib as f64 / 1024.0,
        ),
    ] {
        figures.add(&Row::new(key, label, unit), Some(Path::Sallyport), sample);
    }
    Ok(())
}

/// A client pushes zeros without end at a target whose program sleeps.
fn stuck(
    world: &World,
    route: &Route,
    options: &Options,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let push = if options.is_quick { PUSH / 5 } else { PUSH };
    let line = format!("sleep {}", push.as_secs() * 3);
    // What the first session leaves behind is the gateway's.
    drop(Crowd::gather(world, Path::Sallyport, route, 1)?);
    std::thread::sleep(SETTLE);
    let before = Memory::of(world.gateway_pid())?;
    let mut child = ssh(world, Path::Sallyport, route, false, &line)
        .stdin(Stdio::from(
            std::fs::File::open("/dev/zero").context("open what is pushed")?,
        ))
        .spawn()
        .context("start ssh")?;
    let _watchdog = Watchdog::watch(&child, push * 2);
    let deadline = Instant::now() + push;
    let settled = Instant::now() + SETTLE;
    let (mut peak, mut held) = (0, 0);
    while Instant::now() < deadline {
        let now = Memory::of(world.gateway_pid())?.rss_kib;
        peak = now.max(peak);
        if Instant::now() > settled {
            held = now.max(held);
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    // It is still pushing.
    child.kill().context("end ssh")?;
    let _ = child.wait();
    // What moving the first megabytes left behind is given back within seconds; what stays is held.
    for (key, what, most) in [
        ("stuck-target.peak", "at most", peak),
        ("stuck-target.growth", "at most once it stood still", held),
    ] {
        let label = format!(
            "{} s against a target that does not read: {what}",
            push.as_secs()
        );
        let growth = most.saturating_sub(before.rss_kib) as f64 / 1024.0;
        figures.add(&Row::new(key, label, "MiB"), Some(Path::Sallyport), growth);
    }
    Ok(())
}
