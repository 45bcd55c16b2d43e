//! `connect`: a connection that runs `true` and ends, one by one and 16 at once.
//!
//! The time is from the client's start to its end, so it holds the key exchange, the proof, at a node
//! the decision with its durable record and the credential, and the same again towards the target.

use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};

use super::{
    client::{Watchdog, finish, ssh},
    figures::{Figures, Row, percentile},
    options::Options,
    path::{Cipher, Path, Route, in_turn},
    world::World,
};

const AT_ONCE: usize = 16;
const LIMIT: Duration = Duration::from_secs(60);

/// Takes the samples.
pub fn take(world: &World, options: &Options, figures: &mut Figures) -> anyhow::Result<()> {
    let route = world.route(Cipher::Aes256Gcm)?;
    for (_, path) in in_turn(options.rounds) {
        one_by_one(world, path, route, options.count(30, 5), figures);
        at_once(world, path, route, options.count(6, 2), figures);
    }
    Ok(())
}

fn one_by_one(world: &World, path: Path, route: &Route, count: usize, figures: &mut Figures) {
    let half = Row::new("sequential.p50", "one by one, p50", "ms");
    let most = Row::new("sequential.p95", "one by one, p95", "ms");
    let taken: anyhow::Result<Vec<f64>> = (0..count)
        .map(|_| connect(world, path, route).map(|took| took.as_secs_f64() * 1e3))
        .collect();
    match taken {
        Ok(taken) => {
            for (row, place) in [(half, 0.5), (most, 0.95)] {
                if let Some(sample) = percentile(&taken, place) {
                    figures.add(&row, Some(path), sample);
                }
            }
        }
        Err(error) => figures.fail(&half, Some(path), &error),
    }
}

fn at_once(world: &World, path: Path, route: &Route, each: usize, figures: &mut Figures) {
    let rate = Row::new("at-16.rate", "16 at once", "per s");
    if let Err(error) = try_at_once(world, path, route, each, &rate, figures) {
        figures.fail(&rate, Some(path), &error);
    }
}

fn try_at_once(
    world: &World,
    path: Path,
    route: &Route,
    each: usize,
    rate: &Row,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let before = world.spent()?;
    let start = Instant::now();
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let clients: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                scope.spawn(move || {
                    (0..each).try_for_each(|_| connect(world, path, route).map(drop))
                })
            })
            .collect();
        clients.into_iter().try_for_each(|client| {
            client
                .join()
                .map_err(|_| anyhow!("a client's thread panicked"))?
        })
    })?;
    let took = start.elapsed();
    let spent = world.spent()?.since(before);

    let count = (AT_ONCE * each) as f64;
    figures.add(rate, Some(path), count / took.as_secs_f64());
    let mut cpu = |key: &str, label: &str, spent: Duration| {
        let row = Row::new(key, label, "ms");
        figures.add(&row, Some(path), spent.as_secs_f64() * 1e3 / count);
    };
    if let Some(middle) = spent.in_the_middle(path) {
        cpu("at-16.middle-cpu", "CPU of relay or gateway, each", middle);
    }
    if path == Path::Sallyport {
        cpu("at-16.control-cpu", "CPU of control, each", spent.control);
    }
    cpu("at-16.target-cpu", "CPU of the target, each", spent.target);
    cpu("at-16.client-cpu", "CPU of the client, each", spent.clients);
    Ok(())
}

fn connect(world: &World, path: Path, route: &Route) -> anyhow::Result<Duration> {
    let start = Instant::now();
    let mut child = ssh(world, path, route, false, "true")
        .spawn()
        .context("start ssh")?;
    let watchdog = Watchdog::watch(&child, LIMIT);
    finish(&mut child, watchdog)?;
    Ok(start.elapsed())
}
