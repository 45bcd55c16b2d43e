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
mod client;
mod connect;
mod cores;
mod echo;
mod figures;
mod options;
mod path;
mod world;

use std::path::PathBuf;

use anyhow::{Context as _, bail};

use crate::{Command, process};

use figures::Figures;
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
}

const MEASURES: &[Measure] = &[
    Measure {
        name: "bulk",
        about: "bytes down and up: rate, CPU of each party, stalls",
        take: Take::OnEachCores(bulk::take),
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
    let mut figures = Figures::default();
    for cores in options.cores() {
        let wanted: Vec<&Measure> = MEASURES
            .iter()
            .filter(|measure| options.wants(measure.name))
            .collect();
        if wanted.is_empty() {
            continue;
        }
        let _held = cores.hold()?;
        println!("\n{cores}");
        let world = World::make(&binary, &options)?;
        for measure in wanted {
            println!("  {}", measure.name);
            let Take::OnEachCores(take) = measure.take;
            figures.begin(measure.name, Some(cores));
            if let Err(error) = take(&world, &options, &mut figures) {
                figures.broke(&error);
            }
        }
    }
    println!("\n{}", figures.to_text());
    figures.write(&options.output)?;
    if figures.any_failed() {
        bail!("some samples failed; they stand above with their reasons");
    }
    Ok(())
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
