//! Annotations about a session while it lasts: idling, files, its recording, and who watches.
//!
//! Called by the registry. INVARIANT: no wait that is over before a person could act.
//!
//! Not here: what a redaction rule finds (`redaction`), enforcing any of it (`sallyport-gateway`).

use std::collections::BTreeSet;

use sallyport_core::policy::{Constraint, RedactionRule};

use super::{
    Parsed,
    measure::{duration_s, size},
};

/// How long a session that must be watched goes without a watcher when its policy does not say.
const WATCHER_WAIT_S: u64 = 60;

pub(super) fn idle_timeout(argument: &str) -> Option<Parsed> {
    // Shorter than ten seconds, nobody could type.
    let seconds = duration_s(argument).filter(|seconds| *seconds >= 10)?;
    Some(Parsed::Constraint(Constraint::IdleTimeout { seconds }))
}

pub(super) fn file_transfer(argument: &str) -> Option<Parsed> {
    let (up, down) = match argument {
        "none" => (false, false),
        "up" => (true, false),
        "down" => (false, true),
        "both" => (true, true),
        _ => return None,
    };
    Some(Parsed::Constraint(Constraint::FileTransfer { up, down }))
}

pub(super) fn recording_content_limit(argument: &str) -> Option<Parsed> {
    let bytes = size(argument)?;
    Some(Parsed::Constraint(Constraint::RecordingContentLimit {
        bytes,
    }))
}

pub(super) fn recording_files(argument: &str) -> Option<Parsed> {
    (argument == "content").then_some(Parsed::Constraint(Constraint::RecordingFileContent))
}

pub(super) fn watcher(argument: &str) -> Option<Parsed> {
    let wait_s = match argument.strip_prefix("required")? {
        "" => WATCHER_WAIT_S,
        // Shorter, and nobody could take over from somebody else; longer, and an open session waits for
        // nobody.
        rest => duration_s(rest.strip_prefix(", wait=")?)
            .filter(|wait_s| (5..=3_600).contains(wait_s))?,
    };
    Some(Parsed::Constraint(Constraint::Watcher { wait_s }))
}

pub(super) fn keyboard(argument: &str) -> Option<Parsed> {
    let shared = match argument {
        "own" => false,
        "shared" => true,
        _ => return None,
    };
    Some(Parsed::Constraint(Constraint::Keyboard { shared }))
}

pub(super) fn redact(argument: &str) -> Option<Parsed> {
    let mut rules = BTreeSet::new();
    for name in argument.split(", ") {
        let is_name = (1..=64).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b));
        let rule = RedactionRule {
            name: name.to_owned(),
            pattern: None,
        };
        if !is_name || !rules.insert(rule) {
            return None;
        }
    }
    Some(Parsed::Constraint(Constraint::Redact { rules }))
}
