//! Sessions each with a user of its own, made and unmade at the target: how many a second, what each costs, and
//! how long users are still there after the last session.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::{World, hear_pgbench, printed_number, seconds};
use crate::{
    bench::{
        figures::{Figures, Row},
        options::Options,
        path::Path,
    },
    demo::stage::until,
};

const USERS: &str = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'sp\\_%'";

/// Takes the samples of one round.
pub fn take(world: &World, options: &Options, figures: &mut Figures) {
    let rate = Row::new(
        "fresh.rate",
        "8 clients, a connection with a user of its own for each statement",
        "per s",
    );
    match sessions(world, options) {
        Ok(taken) => {
            let path = Some(Path::Sallyport);
            figures.add(&rate, path, taken.rate);
            let each = Row::new(
                "fresh.cpu",
                "such a connection: CPU of gateway and control",
                "ms",
            );
            figures.add(&each, path, taken.cpu_each.as_secs_f64() * 1e3);
            let gone = Row::new("fresh.gone", "users are gone after the last one's end", "s");
            figures.add(&gone, path, taken.gone_after.as_secs_f64());
        }
        Err(error) => figures.fail(&rate, Some(Path::Sallyport), &error),
    }
}

struct Taken {
    rate: f64,
    cpu_each: Duration,
    gone_after: Duration,
}

fn sessions(world: &World, options: &Options) -> anyhow::Result<Taken> {
    let words = [
        "-C",
        "-c",
        super::CLIENTS,
        "-j",
        "2",
        "-T",
        &seconds(options),
    ];
    let pgbench = world.fresh_client("pgbench")?;
    let before = world.spent()?;
    let printed = hear_pgbench(pgbench, &words)?;
    let ended = Instant::now();
    until("the users are gone", || {
        Ok((world.execute(USERS)?.trim() == "0").then_some(()))
    })
    .context("wait for the end of users")?;
    let gone_after = ended.elapsed();
    // With what ending them costs.
    let spent = world.spent()?.since(before);
    let count = printed_number(&printed, "number of transactions actually processed")?;
    Ok(Taken {
        rate: printed_number(&printed, "tps")?,
        cpu_each: spent.total().div_f64(count.max(1.0)),
        gone_after,
    })
}
