//! `database`: a PostgreSQL client's statements, connections and copies; directly, through pgbouncer (in the place
//! of the relay: session mode, a password and TLS on both legs) and through a node with every statement on record.
//!
//! Not here: what it is measured on ([`world`]), many connections at once ([`crowd`]), users made for each
//! session ([`fresh`]).

mod crowd;
mod fresh;
pub mod world;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use super::{
    client::{Watchdog, finish},
    figures::{Figures, Row, percentile},
    options::Options,
    path::{Path, in_turn},
};
use world::World;

const LIMIT: Duration = Duration::from_secs(180);
const CLIENTS: &str = "8";

/// Takes the samples.
pub fn take(world: &World, options: &Options, figures: &mut Figures) -> anyhow::Result<()> {
    let copy_bytes = prepare_copy(world)?;
    for _ in 0..options.rounds {
        for mode in ["simple", "prepared"] {
            one_client(world, mode, options, figures);
        }
    }
    for (_, path) in in_turn(options.rounds) {
        for mode in ["simple", "prepared"] {
            eight_clients(world, path, mode, options, figures);
        }
        connects(world, path, options, figures);
        copies(world, path, copy_bytes, figures);
        cancel(world, path, figures);
    }
    for _ in 0..options.rounds {
        fresh::take(world, options, figures);
    }
    crowd::take(world, options, figures)
}

/// Runs pgbench on `path`; returns what it printed.
fn pgbench(world: &World, path: Path, words: &[&str]) -> anyhow::Result<String> {
    hear_pgbench(world.client(path, "pgbench")?, words)
}

/// The same with a client that knows where to go.
fn hear_pgbench(mut pgbench: Command, words: &[&str]) -> anyhow::Result<String> {
    let mut child = pgbench
        .args(["-S", "-n"])
        .args(words)
        .spawn()
        .context("start pgbench")?;
    let watchdog = Watchdog::watch(&child, LIMIT);
    let stdout = child.stdout.take().context("hear pgbench")?;
    let printed: Vec<String> = BufReader::new(stdout)
        .lines()
        .collect::<Result<_, _>>()
        .context("hear pgbench")?;
    finish(&mut child, watchdog)?;
    Ok(printed.join("\n"))
}

/// The number after `name = ` in what pgbench printed.
fn printed_number(printed: &str, name: &str) -> anyhow::Result<f64> {
    let line = printed
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .with_context(|| format!("find `{name}` in `{printed}`"))?;
    let word = line.trim_start_matches([' ', '=', ':']).split(' ').next();
    word.unwrap_or_default()
        .parse()
        .with_context(|| format!("read `{line}`"))
}

fn seconds(options: &Options) -> String {
    options.count(5, 1).to_string()
}

/// One client, one statement after another: what a path adds to each, against `direct` in the same round.
fn one_client(world: &World, mode: &str, options: &Options, figures: &mut Figures) {
    let mut direct = None;
    for path in Path::ALL {
        let p50 = Row::new(
            format!("one.{mode}.p50"),
            format!("one client, {mode}, p50"),
            "µs",
        );
        let taken = latencies(
            world,
            path,
            &["-M", mode, "-c", "1", "-T", &seconds(options)],
        );
        let (half, most) = match taken {
            Ok(taken) => taken,
            Err(error) => {
                figures.fail(&p50, Some(path), &error);
                continue;
            }
        };
        let p99 = Row::new(
            format!("one.{mode}.p99"),
            format!("one client, {mode}, p99"),
            "µs",
        );
        figures.add(&p50, Some(path), half);
        figures.add(&p99, Some(path), most);
        if path == Path::Direct {
            direct = Some((half, most));
        } else if let Some((base_half, base_most)) = direct {
            for (place, added) in [("p50", half - base_half), ("p99", most - base_most)] {
                let row = Row::new(
                    format!("one.{mode}.added-{place}"),
                    format!("one client, {mode}, added at {place}"),
                    "µs",
                );
                figures.add(&row, Some(path), added);
            }
        }
    }
}

/// Runs pgbench with a log of its transactions; returns p50 and p99 of their latencies, µs.
fn latencies(world: &World, path: Path, words: &[&str]) -> anyhow::Result<(f64, f64)> {
    let prefix = world.file("latency").display().to_string();
    pgbench(
        world,
        path,
        &[words, &["-l", "--log-prefix", &prefix]].concat(),
    )?;
    let mut taken = Vec::new();
    for entry in fs::read_dir(world.file("")).context("list pgbench's logs")? {
        let file = entry.context("list pgbench's logs")?.path();
        if !file.display().to_string().starts_with(&prefix) {
            continue;
        }
        let log = fs::read_to_string(&file).context("read pgbench's log")?;
        for line in log.lines() {
            let latency_us = line.split(' ').nth(2).and_then(|word| word.parse().ok());
            taken.push(latency_us.with_context(|| format!("read `{line}`"))?);
        }
        fs::remove_file(&file).context("remove pgbench's log")?;
    }
    let places = (percentile(&taken, 0.5), percentile(&taken, 0.99));
    let (Some(half), Some(most)) = places else {
        bail!("pgbench logged no transaction");
    };
    Ok((half, most))
}

fn eight_clients(world: &World, path: Path, mode: &str, options: &Options, figures: &mut Figures) {
    let rate = Row::new(
        format!("{mode}.rate"),
        format!("8 clients, {mode}"),
        "per s",
    );
    let words = [
        "-M",
        mode,
        "-c",
        CLIENTS,
        "-j",
        "2",
        "-T",
        &seconds(options),
    ];
    let name = "number of transactions actually processed";
    let each = (
        format!("{mode}.middle-cpu"),
        format!("8 clients, {mode}: CPU in the middle, each"),
    );
    let taken = rated(world, path, &words, name, &rate, figures);
    if let Err(error) = taken.and_then(|taken| taken.add_cpu(each, "µs", 1e6, path, figures)) {
        figures.fail(&rate, Some(path), &error);
    }
}

fn connects(world: &World, path: Path, options: &Options, figures: &mut Figures) {
    let rate = Row::new(
        "connect.rate",
        "8 clients, a connection for each statement",
        "per s",
    );
    let words = ["-C", "-c", CLIENTS, "-j", "2", "-T", &seconds(options)];
    let name = "number of transactions actually processed";
    let each = (
        "connect.middle-cpu".to_owned(),
        "a connection: CPU in the middle".to_owned(),
    );
    let taken = rated(world, path, &words, name, &rate, figures);
    if let Err(error) = taken.and_then(|taken| taken.add_cpu(each, "ms", 1e3, path, figures)) {
        figures.fail(&rate, Some(path), &error);
    }
}

/// So many of something, and what they cost in the middle.
struct Taken {
    count: f64,
    spent: world::Spent,
}

impl Taken {
    fn add_cpu(
        self,
        (key, label): (String, String),
        unit: &str,
        per_second: f64,
        path: Path,
        figures: &mut Figures,
    ) -> anyhow::Result<()> {
        if let Some(middle) = self.spent.in_the_middle(path) {
            let row = Row::new(key, label, unit);
            let each = middle.as_secs_f64() * per_second / self.count;
            figures.add(&row, Some(path), each);
        }
        Ok(())
    }
}

fn rated(
    world: &World,
    path: Path,
    words: &[&str],
    counted: &str,
    rate: &Row,
    figures: &mut Figures,
) -> anyhow::Result<Taken> {
    let before = world.spent()?;
    let printed = pgbench(world, path, words)?;
    let spent = world.spent()?.since(before);
    figures.add(rate, Some(path), printed_number(&printed, "tps")?);
    Ok(Taken {
        count: printed_number(&printed, counted)?,
        spent,
    })
}

/// Writes the million rows to a file, for copies in; returns its bytes.
fn prepare_copy(world: &World) -> anyhow::Result<f64> {
    let file = world.file("rows");
    let mut psql = psql(world, Path::Direct, "COPY pgbench_accounts TO STDOUT")?;
    psql.stdout(fs::File::create(&file).context("make a file of rows")?);
    run(&mut psql)?;
    Ok(fs::metadata(&file).context("look at the rows")?.len() as f64)
}

fn psql(world: &World, path: Path, sql: &str) -> anyhow::Result<Command> {
    let mut psql = world.client(path, "psql")?;
    psql.args(["-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-c", sql]);
    Ok(psql)
}

fn run(client: &mut Command) -> anyhow::Result<()> {
    let mut child: Child = client.spawn().context("start the client")?;
    let watchdog = Watchdog::watch(&child, LIMIT);
    finish(&mut child, watchdog)
}

fn copies(world: &World, path: Path, bytes: f64, figures: &mut Figures) {
    for (way, sql) in [
        ("out", "COPY pgbench_accounts TO STDOUT"),
        ("in", "COPY sink FROM STDIN"),
    ] {
        let rate = Row::new(
            format!("copy-{way}.rate"),
            format!("a million rows {way}"),
            "MB/s",
        );
        if let Err(error) = copy(world, path, way, sql, bytes, &rate, figures) {
            figures.fail(&rate, Some(path), &error);
        }
    }
}

fn copy(
    world: &World,
    path: Path,
    way: &str,
    sql: &str,
    bytes: f64,
    rate: &Row,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    world.execute("TRUNCATE sink")?;
    let mut client = psql(world, path, sql)?;
    let received = world.file("received");
    if way == "out" {
        client.stdout(fs::File::create(&received).context("make a file of rows")?);
    } else {
        client.stdin(fs::File::open(world.file("rows")).context("open the rows")?);
    }
    let before = world.spent()?;
    let start = Instant::now();
    run(&mut client)?;
    let took = start.elapsed();
    let spent = world.spent()?.since(before);
    let arrived = if way == "out" {
        fs::metadata(&received)
            .context("look at what arrived")?
            .len() as f64
    } else {
        let rows: f64 = world
            .execute("SELECT count(*) FROM sink")?
            .trim()
            .parse()
            .context("read how many rows arrived")?;
        bytes * rows / 1e6
    };
    if (arrived - bytes).abs() > 0.5 {
        bail!("{arrived} of {bytes} bytes arrived");
    }
    figures.add(rate, Some(path), bytes / 1e6 / took.as_secs_f64());
    let each = (
        format!("copy-{way}.middle-cpu"),
        format!("a million rows {way}: CPU in the middle"),
    );
    let taken = Taken {
        count: bytes / 1e9,
        spent,
    };
    taken.add_cpu(each, "s/GB", 1.0, path, figures)
}

/// Ctrl-C in psql while a statement runs, until psql has ended.
fn cancel(world: &World, path: Path, figures: &mut Figures) {
    let row = Row::new("cancel", "Ctrl-C until psql has ended", "ms");
    match try_cancel(world, path) {
        Ok(took) => figures.add(&row, Some(path), took.as_secs_f64() * 1e3),
        Err(error) => figures.fail(&row, Some(path), &error),
    }
}

fn try_cancel(world: &World, path: Path) -> anyhow::Result<Duration> {
    let mut child = psql(world, path, "SELECT pg_sleep(60)")?
        .stdin(Stdio::null())
        .spawn()
        .context("start psql")?;
    let _watchdog = Watchdog::watch(&child, LIMIT);
    crate::demo::stage::until("the statement runs", || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'";
        Ok((world.execute(sql)?.trim() == "1").then_some(()))
    })?;
    let start = Instant::now();
    let interrupted = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .context("interrupt psql")?;
    let ended = child.wait().context("wait for psql")?;
    let took = start.elapsed();
    if !interrupted.success() || ended.success() {
        bail!("psql was not cancelled: {ended}");
    }
    Ok(took)
}
