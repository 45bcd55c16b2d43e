//! `sallyport audit …`: reading the log, and carrying it away to verify it without us.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Subcommand;
use sallyport_api::rest::audit::{CheckpointView, Entries, EntriesQuery};
use sallyport_evidence::log::{checkpoint::Checkpoint, export::ExportWriter};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    client::{Client, NOTHING},
    context::Context,
    export::ExportFolder,
    failure::{Exit, Failure, chain},
    files::{self, Readers},
    offline::{keep_key, log_key, parse_key, saved_checkpoint, verify_log},
    output::{Format, json_text},
};

/// Entries in one answer.
const PAGE_ENTRIES: u32 = 1_000;
/// Between two looks for new entries.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The audit log: read it, export it, verify an export offline
#[derive(Debug, clap::Args)]
pub struct Audit {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print the newest entries
    Tail {
        /// How many
        #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        lines: u32,
        /// Go on printing as entries are made
        #[arg(long, short = 'f')]
        follow: bool,
    },
    /// Print entries of one event, or about one person or thing
    Search {
        /// Event, such as session.opened
        #[arg(long)]
        event: Option<String>,
        /// Id that acted or was acted on
        #[arg(long, value_name = "ID")]
        about: Option<String>,
        /// First entry to look at
        #[arg(long, default_value_t = 0, value_name = "NUMBER")]
        from: u64,
        /// Print at most this many
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000), value_name = "N")]
        limit: u32,
    },
    /// Write the whole log into a new folder that anyone can verify
    Export {
        /// Folder to make
        dir: PathBuf,
    },
    /// Verify an export, offline; exit code 5, and the place, when a byte of it is not as signed
    Verify {
        /// Folder that `audit export` wrote
        dir: PathBuf,
        /// The log's public key, or the file that holds it; the one this profile keeps when left out
        #[arg(long, value_name = "KEY|FILE")]
        key: Option<String>,
        /// A checkpoint kept from an earlier day: finds what was taken away or rewritten since
        #[arg(long, value_name = "FILE")]
        checkpoint: Option<PathBuf>,
    },
    /// Print the newest signed checkpoint; keep it elsewhere, to verify against later
    Checkpoint {
        /// Write it to this file
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Print the log's public key; keep it where nobody who keeps the log can change it
    Key,
}

impl Audit {
    /// Calls `/v1/audit`, or works on a folder.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        match self.verb {
            Verb::Tail { lines, follow } => tail(context, lines, follow).await,
            Verb::Search {
                event,
                about,
                from,
                limit,
            } => {
                let query = EntriesQuery {
                    from: Some(from),
                    limit: None,
                    event,
                    about,
                };
                search(context, query, limit).await
            }
            Verb::Export { dir } => export(context, &dir).await,
            Verb::Verify {
                dir,
                key,
                checkpoint,
            } => verify_export(context, &dir, key, checkpoint.as_deref()),
            Verb::Checkpoint { file } => {
                let view = newest_checkpoint(&context.client()?).await?;
                let Some(path) = file else {
                    return match context.output.format() {
                        Format::Json => context.output.done(&view, ""),
                        Format::Table => context.output.text(&view.checkpoint),
                    };
                };
                files::write(&path, view.checkpoint.as_bytes(), Readers::Everybody)?;
                let line = format!("wrote `{}`", path.display());
                context.output.done(&view, &line)
            }
            Verb::Key => {
                let view = newest_checkpoint(&context.client()?).await?;
                keep_key(context, &view.verifier_key)?;
                context.output.done(&view, &view.verifier_key)
            }
        }
    }
}

async fn newest_checkpoint(client: &Client) -> Result<CheckpointView, Failure> {
    client.get(&["audit", "checkpoint"], &NOTHING).await
}

async fn read(client: &Client, query: &EntriesQuery) -> Result<Entries, Failure> {
    client.get(&["audit", "entries"], query).await
}

async fn tail(context: &Context, lines: u32, follow: bool) -> Result<(), Failure> {
    let client = context.client()?;
    let newest = EntriesQuery {
        limit: Some(lines),
        ..EntriesQuery::default()
    };
    let mut entries = read(&client, &newest).await?;
    loop {
        for entry in &entries.entries {
            print_entry(context, entry)?;
        }
        if !follow {
            return Ok(());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        let query = EntriesQuery {
            from: Some(entries.next),
            limit: Some(PAGE_ENTRIES),
            ..EntriesQuery::default()
        };
        entries = read(&client, &query).await?;
    }
}

async fn search(context: &Context, mut query: EntriesQuery, limit: u32) -> Result<(), Failure> {
    let client = context.client()?;
    let mut missing = limit;
    loop {
        query.limit = Some(missing.min(PAGE_ENTRIES));
        let found = read(&client, &query).await?;
        for entry in &found.entries {
            print_entry(context, entry)?;
        }
        let count = u32::try_from(found.entries.len()).unwrap_or(u32::MAX);
        missing = missing.saturating_sub(count);
        if missing == 0 || count == 0 {
            return Ok(());
        }
        query.from = Some(found.next);
    }
}

/// The members of an entry that are printed.
#[derive(Deserialize)]
struct Printed {
    seq: u64,
    at: String,
    event: String,
    actor: String,
    subject: String,
    data: Map<String, Value>,
}

/// For people the header and one line for each field; for programs the entry's own line.
fn print_entry(context: &Context, entry: &str) -> Result<(), Failure> {
    let parsed = match context.output.format() {
        Format::Json => None,
        Format::Table => serde_json::from_str::<Printed>(entry).ok(),
    };
    let Some(printed) = parsed else {
        return crate::output::write_out(&format!("{}\n", json_text(entry)));
    };
    let mut text = format!("{} {} {}\n", printed.seq, printed.at, printed.event);
    text.push_str(&format!(
        "    on {} by {}\n",
        printed.subject, printed.actor
    ));
    for (name, value) in &printed.data {
        let value = match value {
            Value::String(text) => text.replace('\n', "\\n"),
            other => other.to_string(),
        };
        text.push_str(&format!("    {name}: {value}\n"));
    }
    context.output.text(&text)
}

async fn export(context: &Context, dir: &Path) -> Result<(), Failure> {
    let client = context.client()?;
    let view = newest_checkpoint(&client).await?;
    let key = parse_key(&view.verifier_key)?;
    keep_key(context, &view.verifier_key)?;
    let signed = Checkpoint::open(view.checkpoint.as_bytes(), &key)
        .map_err(|error| unverified(&format!("the server's checkpoint: {}", chain(&error))))?
        .checkpoint;

    let unwritable = |error: std::io::Error| {
        Failure::failed(
            format!("write `{}`: {error}", dir.display()),
            "name a new folder with room for the log; what is there is no valid export",
        )
    };
    let mut folder = ExportFolder::create(dir).map_err(unwritable)?;
    let mut writer = ExportWriter::new(&mut folder).map_err(|error| unverified(&chain(&error)))?;
    let mut next = 0_u64;
    while next < signed.size {
        let missing = u32::try_from(signed.size.saturating_sub(next)).unwrap_or(PAGE_ENTRIES);
        let query = EntriesQuery {
            from: Some(next),
            limit: Some(missing.min(PAGE_ENTRIES)),
            ..EntriesQuery::default()
        };
        let page = read(&client, &query).await?;
        for entry in &page.entries {
            writer
                .append(entry.as_bytes())
                .map_err(|error| unverified(&chain(&error)))?;
        }
        if page.entries.is_empty() || page.next <= next {
            return Err(unverified(&format!(
                "the server has no entry {next}, but signed {}",
                signed.size
            )));
        }
        next = page.next;
    }
    writer
        .finish(&view.checkpoint, &key)
        .map_err(|error| unverified(&chain(&error)))?;
    folder.finish().map_err(unwritable)?;
    context.output.record(
        &json!({ "directory": dir, "entries": signed.size, "verifier_key": view.verifier_key }),
        &[
            (
                "exported",
                format!("{} entries to {}", signed.size, dir.display()),
            ),
            ("key", view.verifier_key.clone()),
            (
                "next",
                format!(
                    "`sallyport audit verify {}`, here or anywhere",
                    dir.display()
                ),
            ),
        ],
    )
}

/// What the server handed out is not a log that its own key signed.
fn unverified(what: &str) -> Failure {
    Failure::new(
        Exit::Unverified,
        format!("export the log: {what}"),
        "keep the store as it is and tell your security team",
    )
}

fn verify_export(
    context: &Context,
    dir: &Path,
    key: Option<String>,
    saved: Option<&Path>,
) -> Result<(), Failure> {
    let key = log_key(context, key.as_deref())?;
    let saved = match saved {
        Some(path) => Some(saved_checkpoint(path, &key)?),
        None => None,
    };
    let verified = verify_log(dir, &key, saved.as_ref())?;
    for name in &verified.uncovered {
        context.output.note(&format!(
            "`{name}` is no part of the export; nothing vouches for it"
        ))?;
    }
    if saved.is_none() {
        context.output.note(
            "without `--checkpoint`, an older but genuine export in its place goes unnoticed",
        )?;
    }
    let checkpoint = &verified.checkpoint;
    context.output.done(
        &json!({
            "verified": true,
            "log": checkpoint.origin,
            "entries": checkpoint.size,
            "root": checkpoint.root.to_string(),
            "uncovered": verified.uncovered,
        }),
        &format!(
            "verified: {} entries of {}, root {}",
            checkpoint.size, checkpoint.origin, checkpoint.root
        ),
    )
}
