//! `sallyport recording …`.

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
};

use clap::{Subcommand, ValueEnum};
use sallyport_api::rest::{
    recording::{ContentQuery, RecordingGroupView, RecordingView, VerificationView},
    session::SessionView,
};
use sallyport_evidence::recording::Completeness;
use serde_json::json;

use crate::{
    cast::LineSplitter,
    client::{Client, NOTHING},
    context::Context,
    failure::{Exit, Failure},
    files::{Draft, Readers},
    offline::{log_key, verify_log, verify_recording},
    output::{Column, Format, json_text, minute, size, write_bytes, write_out},
    player::{self, Pace},
};

use super::{Limit, print_listed};

/// Recordings: what passed in sessions
#[derive(Debug, clap::Args)]
pub struct Recording {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List recordings, newest first. Those of one grant's sessions are one line; `--output json` has each
    List {
        /// Each on a line of its own
        #[arg(long)]
        all: bool,
        /// Only those of sessions under this grant, each on a line of its own
        #[arg(long, value_name = "GRANT")]
        grant: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Show a recording
    Show {
        /// Recording or session, as lists print them
        #[arg(value_name = "RECORDING")]
        id: String,
    },
    /// Play a recording in this terminal as it was seen then
    Play {
        /// Recording or session, as lists print them
        #[arg(value_name = "RECORDING")]
        id: String,
        /// Channel to play; the first with a terminal when left out
        #[arg(long)]
        channel: Option<u32>,
        /// How many times as fast
        #[arg(long, default_value_t = 1.0, value_parser = speed)]
        speed: f64,
        /// Longest pause that is kept, in seconds
        #[arg(long, value_name = "SECONDS")]
        idle_limit: Option<u32>,
    },
    /// Write a recording in another form, to standard output or a file
    Export {
        /// Recording or session, as lists print them
        #[arg(value_name = "RECORDING")]
        id: String,
        /// Form
        #[arg(long, value_enum)]
        format: Form,
        /// Channel to export, for asciicast; the first with a terminal when left out
        #[arg(long)]
        channel: Option<u32>,
        /// Write to this file
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Check a recording against what the audit log anchors; exit code 5 when it does not hold
    Verify(Verify),
}

#[derive(Debug, clap::Args)]
struct Verify {
    /// Recording or session, as lists print them; the server checks
    #[arg(value_name = "RECORDING", required_unless_present = "file")]
    id: Option<String>,
    /// Check this file here, offline: `recording export --format container` wrote it
    #[arg(long, value_name = "FILE", conflicts_with = "id", requires = "log")]
    file: Option<PathBuf>,
    /// Folder with the log that anchors it, as `audit export` wrote it
    #[arg(long, value_name = "DIR", requires = "file")]
    log: Option<PathBuf>,
    /// The log's public key, or the file that holds it; the one this profile keeps when left out
    #[arg(long, value_name = "KEY|FILE", requires = "file")]
    key: Option<String>,
}

/// What a recording can be written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For asciinema 3 and its player
    AsciicastV3,
    /// For asciinema 2
    AsciicastV2,
    /// Text: everything in order
    Transcript,
    /// JSON lines: commands, and files with direction, size and SHA-256
    Commands,
    /// The sealed file itself, to be verified elsewhere
    Container,
}

impl Form {
    const fn as_str(self) -> &'static str {
        match self {
            Self::AsciicastV3 => "asciicast-v3",
            Self::AsciicastV2 => "asciicast-v2",
            Self::Transcript => "transcript",
            Self::Commands => "commands",
            Self::Container => "container",
        }
    }
}

fn speed(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|speed: &f64| (0.01..=1_000.0).contains(speed))
        .ok_or_else(|| "it must be between 0.01 and 1000".to_owned())
}

impl Recording {
    /// Calls `/v1/recordings`.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        if let Verb::Verify(Verify {
            file: Some(file),
            log: Some(log),
            key,
            ..
        }) = &self.verb
        {
            return verify_offline(context, file, log, key.as_deref());
        }
        let client = context.client()?;
        match self.verb {
            Verb::List { all, grant, limit } => {
                if !all && grant.is_none() && context.output.format() == Format::Table {
                    let groups = client.list(&["recording-groups"], &[], limit.limit).await?;
                    return print_listed(context.output, &groups, &GROUP_COLUMNS);
                }
                let query: Vec<_> = grant
                    .iter()
                    .map(|grant| ("grant", grant.as_str()))
                    .collect();
                let recordings = client.list(&["recordings"], &query, limit.limit).await?;
                print_listed(context.output, &recordings, &COLUMNS)
            }
            Verb::Show { id } => {
                let id = recording_id(&client, id).await?;
                let recording: RecordingView = client.get(&["recordings", &id], &NOTHING).await?;
                context.output.record(&recording, &fields(&recording))
            }
            Verb::Play {
                id,
                channel,
                speed,
                idle_limit,
            } => {
                let id = recording_id(&client, id).await?;
                let pace = Pace::new(speed, idle_limit);
                player::play(context, &client, &id, channel, pace).await
            }
            Verb::Export {
                id,
                format,
                channel,
                file,
            } => {
                let id = recording_id(&client, id).await?;
                export(context, &client, &id, format, channel, file).await
            }
            Verb::Verify(Verify { id, .. }) => {
                let id = recording_id(&client, id.unwrap_or_default()).await?;
                verify(context, &client, &id).await
            }
        }
    }
}

/// The recording that is meant: named itself, or by its session.
async fn recording_id(client: &Client, id: String) -> Result<String, Failure> {
    if !id.starts_with("ses_") {
        return Ok(id);
    }
    let session: SessionView = client.get(&["sessions", &id], &NOTHING).await?;
    Ok(session.recording_id)
}

async fn export(
    context: &Context,
    client: &Client,
    id: &str,
    form: Form,
    channel: Option<u32>,
    file: Option<PathBuf>,
) -> Result<(), Failure> {
    let is_to_terminal = file.is_none() && std::io::stdout().is_terminal();
    if is_to_terminal && form == Form::Container {
        return Err(Failure::usage(
            "a container is no text",
            "name a file to write it to: `--file FILE`",
        ));
    }
    let query = ContentQuery {
        format: Some(form.as_str().to_owned()),
        channel,
        follow: false,
    };
    let path = ["recordings", id, "content"];
    let mut content = client.stream(&path, &query).await?;
    if let Some(path) = file {
        let mut draft = Draft::begin(&path, Readers::Owner)?;
        while let Some(piece) = content.next().await? {
            draft.append(&piece)?;
        }
        let size_bytes = draft.finish()?;
        let line = format!("wrote {} to `{}`", size(size_bytes), path.display());
        return context
            .output
            .done(&json!({ "file": path, "size_bytes": size_bytes }), &line);
    }
    let mut lines = LineSplitter::default();
    while let Some(piece) = content.next().await? {
        if !is_to_terminal {
            write_bytes(&piece)?;
            continue;
        }
        // JSON may hold control characters as they are, and a person is looking.
        for line in lines.push(&piece)? {
            write_out(&format!("{}\n", json_text(&line)))?;
        }
    }
    Ok(())
}

async fn verify(context: &Context, client: &Client, id: &str) -> Result<(), Failure> {
    let view: VerificationView = client
        .get(&["recordings", id, "verification"], &NOTHING)
        .await?;
    context.output.record(
        &view,
        &[
            (
                "recording",
                if view.is_verified {
                    "verified".to_owned()
                } else {
                    "NOT what the audit log anchors".to_owned()
                },
            ),
            ("chunks", view.chunks.to_string()),
            (
                "end",
                if view.is_complete {
                    "complete".to_owned()
                } else {
                    "cut off: live, or ended by a crash".to_owned()
                },
            ),
            ("chain", view.chain.clone()),
        ],
    )?;
    if view.is_verified {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Unverified,
        view.fault
            .unwrap_or_else(|| "the recording does not hold".to_owned()),
        "keep the file as it is and tell your security team",
    ))
}

/// Verifies the log first, then the file against what it anchors.
fn verify_offline(
    context: &Context,
    file: &Path,
    log: &Path,
    key: Option<&str>,
) -> Result<(), Failure> {
    let key = log_key(context, key)?;
    let verified = verify_log(log, &key, None)?;
    let report = verify_recording(file, log)?;
    let is_complete = report.completeness == Completeness::Complete;
    context.output.done(
        &json!({
            "is_verified": true,
            "recording": report.header.recording_id,
            "session": report.header.session_id,
            "chunks": report.chunks,
            "anchored_chunks": report.anchored_chunks,
            "is_complete": is_complete,
            "chain": report.chain.to_string(),
            "log_entries": verified.checkpoint.size,
        }),
        &format!(
            "verified: {} of {}, {} chunks, {} of them anchored, {}",
            report.header.recording_id,
            report.header.session_id,
            report.chunks,
            report.anchored_chunks,
            if is_complete { "complete" } else { "cut off" }
        ),
    )
}

const COLUMNS: [Column<RecordingView>; 5] = [
    Column::whole("ID", |recording: &RecordingView| recording.id.clone()),
    Column::new("PERSON", |recording| recording.person.clone()),
    Column::new("ACCOUNT", |recording| {
        format!("{}@{}", recording.account, recording.target)
    }),
    Column::new("STATE", |recording| recording.state.clone()),
    Column::new("STARTED", |recording| minute(recording.started_at)),
];

/// The recordings of a grant's sessions; of one alone, the recording.
const GROUP_COLUMNS: [Column<RecordingGroupView>; 5] = [
    Column::whole("ID", |group: &RecordingGroupView| match group.recordings {
        1 => group.last_recording_id.clone(),
        _ => group.grant_id.clone(),
    }),
    Column::new("PERSON", |group| group.person.clone()),
    Column::new("ACCOUNT", |group| {
        format!("{}@{}", group.account, group.target)
    }),
    Column::new("COUNT", |group| {
        let mut text = group.recordings.to_string();
        for (count, what) in [(group.live, "live"), (group.cut_off, "cut off")] {
            if count > 0 {
                text = format!("{text}, {count} {what}");
            }
        }
        text
    }),
    Column::new("LAST", |group| minute(group.last_started_at)),
];

fn fields(recording: &RecordingView) -> [(&'static str, String); 8] {
    [
        ("recording", recording.id.clone()),
        ("session", recording.session_id.clone()),
        ("person", recording.person.clone()),
        (
            "account",
            format!("{}@{}", recording.account, recording.target),
        ),
        ("started", recording.started_at.to_string()),
        ("state", recording.state.clone()),
        (
            "size",
            format!(
                "{} in {} chunks",
                size(recording.size_bytes),
                recording.chunks
            ),
        ),
        ("chain", recording.chain.clone()),
    ]
}
