//! Verifying evidence without a server: an export of the log, and a recording against it.
//!
//! Called by `audit verify` and `recording verify --file`. Trust comes from the log's public key and
//! from nothing in the export.
//!
//! INVARIANT: what is not as it was signed is exit code 5 with its place, and never passes as anything
//! else; what cannot be read is no verdict.
//!
//! Not here: the checks themselves (`sallyport-evidence`).

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader},
    path::Path,
};

use sallyport_evidence::{
    log::{
        checkpoint::{Checkpoint, VerifierKey},
        entry::EntryHeader,
        export::ENTRIES_NAME,
        verify::{Fault, Verified, verify},
    },
    recording::{
        Anchor, ChainValue, ContainerReader,
        verify::{Report, VerifyError, chain as verify_chain},
    },
};
use serde::Deserialize;

use crate::{
    context::Context,
    export::ExportedFolder,
    failure::{Exit, Failure, chain},
    files::{self, Readers},
};

/// Name of the profile's copy of the log's public key.
const KEY_FILE: &str = "log.vkey";
/// Events that anchor a recording in the log.
const ANCHORING: [&str; 3] = [
    "recording.anchored",
    "recording.completed",
    "recording.cut_off",
];

/// The log's public key: as given, from the file that is named, or as the profile keeps it.
pub fn log_key(context: &Context, given: Option<&str>) -> Result<VerifierKey, Failure> {
    let text = match given {
        // No file is called like a key, which has two `+` in it.
        Some(key) if key.contains('+') => key.to_owned(),
        Some(path) => files::read_text(Path::new(path))?,
        None => files::read_text_if_any(&context.profile.file(KEY_FILE))?.ok_or_else(|| {
            Failure::usage(
                "this profile keeps no key of the log",
                "pass `--key KEY`, as `sallyport audit key` prints it",
            )
        })?,
    };
    parse_key(&text)
}

/// Reads a key.
pub fn parse_key(text: &str) -> Result<VerifierKey, Failure> {
    VerifierKey::parse(text.trim()).map_err(|error| {
        Failure::failed(
            chain(&error),
            "give the key as `sallyport audit key` prints it",
        )
    })
}

/// Keeps the log's key the first time it is seen; a change afterwards is an alarm.
pub fn keep_key(context: &Context, verifier_key: &str) -> Result<(), Failure> {
    let path = context.profile.file(KEY_FILE);
    match files::read_text_if_any(&path)? {
        None => files::write(&path, verifier_key.as_bytes(), Readers::Everybody),
        Some(kept) if kept.trim() == verifier_key => Ok(()),
        Some(_) => Err(Failure::new(
            Exit::Unverified,
            format!(
                "the server's log has another key than the one kept in `{}`",
                path.display()
            ),
            "tell your security team; if the log was begun anew on purpose, remove that file",
        )),
    }
}

/// A checkpoint that was kept from an earlier day.
pub fn saved_checkpoint(path: &Path, key: &VerifierKey) -> Result<Checkpoint, Failure> {
    let text = files::read_text(path)?;
    let opened = Checkpoint::open(text.as_bytes(), key).map_err(|error| {
        Failure::failed(
            format!(
                "read the saved checkpoint `{}`: {}",
                path.display(),
                chain(&error)
            ),
            "pass one that `sallyport audit checkpoint` wrote for this log",
        )
    })?;
    Ok(opened.checkpoint)
}

/// Verifies an export of the log.
pub fn verify_log(
    dir: &Path,
    key: &VerifierKey,
    saved: Option<&Checkpoint>,
) -> Result<Verified, Failure> {
    if !dir.is_dir() {
        return Err(Failure::failed(
            format!("`{}` is no folder", dir.display()),
            "name the folder that `sallyport audit export` wrote",
        ));
    }
    verify(&ExportedFolder::new(dir), key, saved).map_err(|fault| {
        let (place, words) = (fault.place(), chain(&fault));
        let what = if words.contains(&place) {
            format!("{words} ({})", fault.code())
        } else {
            format!("{place}: {words} ({})", fault.code())
        };
        match fault {
            Fault::Unreadable { .. } => Failure::failed(what, "check the folder's permissions"),
            _ => unverified(what),
        }
    })
}

/// Verifies a recording's file against what a verified export of the log anchors.
pub fn verify_recording(file: &Path, dir: &Path) -> Result<Report, Failure> {
    let open = || {
        File::open(file).map(BufReader::new).map_err(|error| {
            Failure::failed(
                format!("read `{}`: {error}", file.display()),
                "name the file that `recording export --format container` wrote",
            )
        })
    };
    let not_sound =
        |error: VerifyError| unverified(format!("{}: {}", file.display(), chain(&error)));
    let header = ContainerReader::open(open()?)
        .map_err(|error| not_sound(VerifyError::Damaged(error)))?
        .header()
        .clone();
    let anchors = anchors(dir, &header.recording_id).map_err(|error| {
        Failure::failed(
            format!("read `{}`: {error}", dir.join(ENTRIES_NAME).display()),
            "check the folder's permissions",
        )
    })?;
    if anchors.is_empty() {
        return Err(unverified(format!(
            "the log in `{}` anchors nothing of {}",
            dir.display(),
            header.recording_id
        )));
    }
    verify_chain(open()?, &anchors).map_err(not_sound)
}

fn unverified(what: String) -> Failure {
    Failure::new(
        Exit::Unverified,
        what,
        "keep it as it is, and the store too, and tell your security team",
    )
}

/// The part of an anchoring entry that says what is anchored.
#[derive(Deserialize)]
struct Anchoring {
    data: AnchoringFields,
}

#[derive(Deserialize)]
struct AnchoringFields {
    chunks: u64,
    chain: String,
}

/// What the entries of an export anchor of one recording.
fn anchors(dir: &Path, recording_id: &str) -> io::Result<Vec<Anchor>> {
    let malformed = |line: &str| io::Error::other(format!("it holds no anchor: {line}"));
    let mut anchors = Vec::new();
    for line in BufReader::new(File::open(dir.join(ENTRIES_NAME))?).lines() {
        let line = line?;
        let header = EntryHeader::parse(line.as_bytes()).map_err(io::Error::other)?;
        if header.subject != recording_id || !ANCHORING.contains(&header.event.as_str()) {
            continue;
        }
        let fields = serde_json::from_str::<Anchoring>(&line)
            .map_err(|_| malformed(&line))?
            .data;
        // A recording that was cut off before its first chunk has nothing to anchor.
        if let Some(index) = fields.chunks.checked_sub(1) {
            let mut value = [0_u8; 32];
            hex::decode_to_slice(&fields.chain, &mut value).map_err(|_| malformed(&line))?;
            anchors.push(Anchor {
                index,
                chain: ChainValue(value),
            });
        }
    }
    Ok(anchors)
}
