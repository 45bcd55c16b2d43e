//! `cargo xtask bench`: what Sallyport costs, beside OpenSSH alone, in one interleaved run.
//!
//! Three ways lead to the same OpenSSH target: `direct` (a client talks to it), `relay` (an OpenSSH
//! server whose sessions are `ssh` to it, so it decrypts and encrypts again) and `sallyport` (a node
//! that decides, records and audits). Every round takes one sample of each, in turn, with the same
//! cipher and key exchange on every leg; so what the machine does meanwhile falls on all of them.
//!
//! INVARIANT: nothing is left out. A sample that fails is kept with its reason, printed and written
//! down; no figure stands in this program.
//!
//! Not here: the measures (a file each), what they are measured on ([`world`]), how figures are kept
//! and shown ([`figures`]).

mod accounting;
mod bulk;
mod chart;
mod client;
mod connect;
mod cores;
mod crates;
mod crowd;
mod database;
mod distance;
mod echo;
mod figures;
mod goals;
mod machine;
mod memory;
mod mysql;
mod options;
mod page;
mod path;
mod revocation;
mod sftp;
mod stalls;
mod startup;
mod typing;
mod world;

use std::path::{Path as FilePath, PathBuf};

use anyhow::{Context as _, bail};

use crate::{Command, process};

use cores::Cores;
use figures::{Figures, Results};
use options::Options;
use world::World;

/// See the module.
pub const COMMAND: Command = Command {
    name: "bench",
    about: "what it costs, beside OpenSSH alone: `bench help` lists measures and options",
    run,
};

/// Something that is measured.
struct Measure {
    /// What it is called by, and what its keys begin with.
    name: &'static str,
    /// One line for the list.
    about: &'static str,
    /// Takes the samples.
    take: Take,
}

/// What a measure needs.
#[derive(Clone, Copy)]
enum Take {
    /// The three paths, with all parties on one core and once more on all.
    OnEachCores(fn(&World, &Options, &mut Figures) -> anyhow::Result<()>),
    /// The paths, once: what it measures does not depend on how many cores there are.
    Once(fn(&mut World, &Options, &mut Figures) -> anyhow::Result<()>),
    /// The paths to a database, with all parties on one core and once more on all.
    Database(fn(&database::world::World, &Options, &mut Figures) -> anyhow::Result<()>),
    /// Nothing but the binary, with all parties on one core and once more on all.
    Own(fn(&FilePath, &Options, &mut Figures) -> anyhow::Result<()>),
    /// Nothing but the binary.
    Alone(fn(&FilePath, &Options, &mut Figures) -> anyhow::Result<()>),
}

/// In the order they are taken. Memory comes before what makes a gateway large; revocation is last,
/// because it locks the person out.
const MEASURES: &[Measure] = &[
    Measure {
        name: "decide",
        about: "one decision with 10, 100 and 2,000 policies",
        take: Take::Alone(|_, _, figures| crates::take("decide", figures)),
    },
    Measure {
        name: "audit",
        about: "durable entries a second on both stores, and a burst",
        take: Take::Alone(|_, _, figures| crates::take("audit_append", figures)),
    },
    Measure {
        name: "verify",
        about: "entries of an exported log verified a second",
        take: Take::Alone(|_, _, figures| crates::take("log", figures)),
    },
    Measure {
        name: "startup",
        about: "start of a node until it is ready, and until it greets SSH clients",
        take: Take::Alone(startup::take),
    },
    Measure {
        name: "memory",
        about: "idle terminals: memory each, CPU; a target that does not read",
        take: Take::Once(memory::take),
    },
    Measure {
        name: "connect",
        about: "connect and run `true`: latency one by one, rate at 16 at once, CPU each",
        take: Take::OnEachCores(connect::take),
    },
    Measure {
        name: "echo",
        about: "a key typed at a terminal until it is seen: latency, gateway CPU each",
        take: Take::OnEachCores(echo::take),
    },
    Measure {
        name: "bulk",
        about: "bytes down and up: rate, CPU of each party",
        take: Take::OnEachCores(bulk::take),
    },
    Measure {
        name: "sftp",
        about: "a file fetched and put with `sftp`, connecting included",
        take: Take::OnEachCores(sftp::take),
    },
    Measure {
        name: "distance",
        about: "bulk over 50 and 150 ms of added round trip, before and behind the first hop",
        take: Take::Once(distance::take),
    },
    Measure {
        name: "typing",
        about: "500 terminals with five keys a second each: a key until it is seen",
        take: Take::Once(typing::take),
    },
    Measure {
        name: "stalls",
        about: "many bulk transfers: how many never end",
        take: Take::OnEachCores(stalls::take),
    },
    Measure {
        name: "database",
        about: "PostgreSQL beside pgbouncer: statements, connections, copies, cancels, memory",
        take: Take::Database(database::take),
    },
    Measure {
        name: "mysql",
        about: "MariaDB: statements of sysbench, and what each costs the gateway",
        take: Take::Own(mysql::take),
    },
    Measure {
        name: "revocation",
        about: "200 live terminals of a person who is locked: until the last byte",
        take: Take::Once(revocation::take),
    },
];

fn run(words: &[String]) -> anyhow::Result<()> {
    if words
        .iter()
        .any(|word| matches!(word.as_str(), "help" | "--help" | "-h"))
    {
        print!("{}", help());
        return Ok(());
    }
    let names: Vec<&str> = MEASURES.iter().map(|measure| measure.name).collect();
    let options = Options::parse(words, &names)?;
    let binary = match &options.binary {
        Some(binary) => binary.clone(),
        None => built()?,
    };
    let run = machine::describe(options.binary.is_some())?;
    println!("{run}");
    let mut figures = Figures::new(run);
    alone(&binary, &options, &mut figures);
    let all = options.cores();
    for cores in &all {
        let is_last = all.last() == Some(cores);
        on(*cores, is_last, &binary, &options, &mut figures)?;
    }
    println!("\n{}", Results::of(&figures).to_text());
    let has_failed = figures.any_failed();
    let results = figures.write(&options.output)?;
    println!("written: {}", options.output.join(figures::FILE).display());
    page::draw(&options.output, &names, &results)?;
    let docs = process::root().join("docs");
    if is_same(&options.output, &docs.join("performance")) {
        let page = docs.join("performance.md");
        page::write(&page, &names, &results)?;
        println!("written: {}", page.display());
    }
    println!("\n{}", goals::measured(&results));
    if has_failed {
        bail!("some samples failed; they stand above with their reasons");
    }
    Ok(())
}

/// Takes what needs no world.
fn alone(binary: &FilePath, options: &Options, figures: &mut Figures) {
    for measure in MEASURES {
        if let Take::Alone(take) = measure.take
            && options.wants(measure.name)
        {
            println!("{}", measure.name);
            figures.begin(measure.name, None);
            if let Err(error) = take(binary, options, figures) {
                figures.broke(&error);
            }
        }
    }
}

/// Makes a world on these cores and takes what belongs there.
fn on(
    cores: Cores,
    is_last: bool,
    binary: &FilePath,
    options: &Options,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let wanted: Vec<&Measure> = MEASURES
        .iter()
        .filter(|measure| options.wants(measure.name))
        .filter(|measure| match measure.take {
            Take::OnEachCores(_) | Take::Database(_) | Take::Own(_) => true,
            Take::Once(_) => is_last,
            Take::Alone(_) => false,
        })
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let _held = cores.hold()?;
    println!("{cores}");
    let of = |is_wanted: fn(Take) -> bool| -> Vec<&Measure> {
        let all = wanted.iter().copied();
        all.filter(|measure| is_wanted(measure.take)).collect()
    };
    let databases = of(|take| matches!(take, Take::Database(_)));
    let own = of(|take| matches!(take, Take::Own(_)));
    let others = of(|take| matches!(take, Take::OnEachCores(_) | Take::Once(_)));
    if !others.is_empty() {
        let mut world = World::make(binary, options)?;
        take_all(&others, cores, figures, |take, figures| match take {
            Take::OnEachCores(take) => take(&world, options, figures),
            Take::Once(take) => take(&mut world, options, figures),
            Take::Database(_) | Take::Own(_) | Take::Alone(_) => Ok(()),
        });
    }
    take_all(&own, cores, figures, |take, figures| match take {
        Take::Own(take) => take(binary, options, figures),
        _ => Ok(()),
    });
    if !databases.is_empty() {
        let world = database::world::World::make(binary)?;
        take_all(&databases, cores, figures, |take, figures| match take {
            Take::Database(take) => take(&world, options, figures),
            _ => Ok(()),
        });
    }
    Ok(())
}

fn take_all(
    measures: &[&Measure],
    cores: Cores,
    figures: &mut Figures,
    mut take: impl FnMut(Take, &mut Figures) -> anyhow::Result<()>,
) {
    for measure in measures {
        println!("  {}", measure.name);
        figures.begin(measure.name, Some(cores));
        if let Err(error) = take(measure.take, figures) {
            figures.broke(&error);
        }
    }
}

fn is_same(one: &FilePath, other: &FilePath) -> bool {
    matches!(
        (one.canonicalize(), other.canonicalize()),
        (Ok(one), Ok(other)) if one == other
    )
}

fn help() -> String {
    let measures: String = MEASURES
        .iter()
        .map(|measure| format!("  {:10}  {}\n", measure.name, measure.about))
        .collect();
    format!("{}\nMeasures:\n{measures}", options::HELP)
}

/// Builds the release binary; returns where it is.
fn built() -> anyhow::Result<PathBuf> {
    process::run(&mut process::cargo([
        "build",
        "--release",
        "--workspace",
        "--locked",
    ]))?;
    Ok(target_folder()?.join("release/sallyport"))
}

/// Where cargo builds.
fn target_folder() -> anyhow::Result<PathBuf> {
    let metadata = process::output(&mut process::cargo([
        "metadata",
        "--format-version=1",
        "--no-deps",
    ]))?;
    let metadata: serde_json::Value =
        serde_json::from_str(&metadata).context("read the metadata")?;
    metadata
        .get("target_directory")
        .and_then(serde_json::Value::as_str)
        .map(PathBuf::from)
        .context("find the target folder in the metadata")
}
