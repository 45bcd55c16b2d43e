//! `typing`: many live terminals, five keys a second each; how long a key takes until it is seen.

use std::time::Duration;

use super::{
    crowd::Crowd,
    figures::{Figures, Row, percentile},
    options::Options,
    path::{Cipher, Path, Route},
    world::World,
};

const KEYS_PER_S: u32 = 5;

/// Takes the samples: once on each path but the relay, where it takes four processes a session more
/// and says nothing about us.
pub fn take(world: &mut World, options: &Options, figures: &mut Figures) -> anyhow::Result<()> {
    let sessions = options.count(500, 20);
    let time = Duration::from_secs(if options.is_quick { 3 } else { 20 });
    let route = world.route(Cipher::Aes256Gcm)?.clone();
    for path in [Path::Direct, Path::Sallyport] {
        if let Err(error) = typed(world, path, &route, sessions, time, figures) {
            let row = Row::new("p99", format!("{sessions} sessions, p99"), "ms");
            figures.fail(&row, Some(path), &error);
        }
    }
    Ok(())
}

fn typed(
    world: &World,
    path: Path,
    route: &Route,
    sessions: usize,
    time: Duration,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let crowd = Crowd::gather(world, path, route, sessions)?;
    let (before, clients_before) = (world.spent_now()?, crowd.clients_cpu()?);
    let taken = crowd.type_for(KEYS_PER_S, time)?;
    let spent = world.spent_now()?.since(before);
    let clients = crowd.clients_cpu()?.saturating_sub(clients_before);
    for (key, place) in [("p50", 0.5), ("p99", 0.99)] {
        if let Some(sample) = percentile(&taken, place) {
            let row = Row::new(key, format!("{sessions} sessions, {key}"), "ms");
            figures.add(&row, Some(path), sample / 1e3);
        }
    }
    let mut busy = |key: &str, label: &str, spent: Duration| {
        let row = Row::new(key, label, "% of a core");
        let share = spent.as_secs_f64() / time.as_secs_f64();
        figures.add(&row, Some(path), share * 100.0);
    };
    busy("clients-busy", "CPU of all clients", clients);
    if path == Path::Sallyport {
        busy("gateway-busy", "CPU of the gateway", spent.gateway);
    }
    Ok(())
}
