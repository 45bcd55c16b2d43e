//! Every parser of bytes that a peer controls, as a function of bytes.
//!
//! Two callers: the fuzzer beside this file, and `crates/sallyport/tests/it/parsers.rs`, which runs every
//! body over the kept corpus (`fuzz/corpus`) and over random changes of it on each change of the code.
//!
//! INVARIANT: a body panics only for a defect: of the parser, or of a promise that is checked here.
//!
//! Not here: parsers of files that only the operator writes, the node's configuration among them.

use std::sync::OnceLock;

use bytes::BytesMut;
use sallyport_api::{
    gateway::{CredentialContent, FromControl, FromGateway, decode_frame},
    rest,
};
use sallyport_core::{
    id::{GrantId, PersonId, SessionId},
    inventory::Selector,
    principal::PersonName,
    time::Timestamp,
};
use sallyport_evidence::{
    log::{
        checkpoint::{Checkpoint, VerifierKey},
        entry::EntryHeader,
    },
    recording::{
        CommandTracker, ContainerReader, Frame, FrameKind, Opener, Pty, RecordingKey,
        TranscriptWriter, decode_frames, escape_controls, verify,
    },
};
use sallyport_gateway::{
    protocols::{mysql::fuzz as mysql, postgres::fuzz as postgres, ssh::fuzz as ssh},
    spool, statement,
};
use sallyport_policy::Bundle;
use sallyport_vault::{Share, authority::verify_user_certificate};
use serde::de::DeserializeOwned;

/// One parser, or a conversation of them.
pub type Body = fn(&[u8]);

/// All of them, by name, in alphabetical order.
pub const ALL: &[(&str, Body)] = &[
    ("api_bodies", api_bodies),
    ("applied_files", applied_files),
    ("certificate", certificate),
    ("checkpoint", checkpoint),
    ("control_frames", control_frames),
    ("credential", credential),
    ("log_entry", log_entry),
    ("mysql_answer", mysql::fuzz_answer),
    ("mysql_statement", mysql::fuzz_statement),
    ("mysql_target", mysql::fuzz_target),
    ("names", names),
    ("policy_bundle", policy_bundle),
    ("postgres_login", postgres::fuzz_login),
    ("postgres_messages", postgres::fuzz_messages),
    ("postgres_startup", postgres::fuzz_startup),
    ("recording", recording),
    ("recording_frames", recording_frames),
    ("scp", ssh::fuzz_scp),
    ("selector", selector),
    ("sftp", ssh::fuzz_sftp),
    ("spool", spool::read_anything),
    ("ssh_keys", ssh::fuzz_keys),
    ("ssh_requests", ssh::fuzz_requests),
    ("statement", statement::fuzz),
    ("terminal", terminal),
    ("unseal_share", unseal_share),
];

/// `ssh-keygen -t ed25519`, the public half.
const AUTHORITY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDgwiGX0tew48dol0GH+gdg2s1OFJF4caG03p/4ukdxd";

/// The key of the golden recording (`docs/formats/recording.md`).
const GOLDEN_KEY: [u8; 32] = [
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25,
    26, 27, 28, 29, 30, 31,
];

fn with_text(bytes: &[u8], body: impl FnOnce(&str)) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        body(text);
    }
}

/// What the API is sent, as each of the bodies that it takes.
fn api_bodies(bytes: &[u8]) {
    fn read<T: DeserializeOwned>(bytes: &[u8]) {
        let _ = serde_json::from_slice::<T>(bytes);
    }
    read::<rest::access::CastVote>(bytes);
    read::<rest::access::CloseReview>(bytes);
    read::<rest::access::CreateRequest>(bytes);
    read::<rest::access::End>(bytes);
    read::<rest::directory::EditPerson>(bytes);
    read::<rest::lock::AddLock>(bytes);
    read::<rest::policy::Explain>(bytes);
    read::<rest::policy::Rollback>(bytes);
    read::<rest::session::Join>(bytes);
    read::<rest::session::Message>(bytes);
    read::<rest::session::Typing>(bytes);
    read::<rest::sign_in::AddKey>(bytes);
    read::<rest::sign_in::CreateApiToken>(bytes);
    read::<rest::sign_in::CreatePass>(bytes);
    read::<rest::sign_in::Enrol>(bytes);
    read::<rest::sign_in::SignIn>(bytes);
    read::<rest::vault::InitialiseVault>(bytes);
    read::<rest::vault::Unseal>(bytes);
    read::<rest::vault::WriteSecret>(bytes);
    if let Ok(wanted) = serde_json::from_slice::<rest::apply::Wanted>(bytes) {
        let _ = sallyport_control::apply::read_anything(&wanted);
    }
}

/// Files of a folder that is applied, and what the node makes of them.
fn applied_files(bytes: &[u8]) {
    with_text(bytes, |text| {
        let mut wanted = rest::apply::Wanted::default();
        wanted.targets.extend(toml::from_str(text).ok());
        wanted.accounts.extend(toml::from_str(text).ok());
        wanted.people.extend(toml::from_str(text).ok());
        let _ = sallyport_control::apply::read_anything(&wanted);
    });
}

/// User certificates, as people show them. Nothing made without the authority's key is valid.
fn certificate(bytes: &[u8]) {
    with_text(bytes, |text| {
        let now = Timestamp::from_unix_ms(1_795_000_000_000);
        assert!(verify_user_certificate(text, AUTHORITY, now).is_err());
    });
}

/// Checkpoints and the keys they are checked with.
fn checkpoint(bytes: &[u8]) {
    static KEY: OnceLock<Option<VerifierKey>> = OnceLock::new();
    let key = KEY.get_or_init(|| {
        // The example of the format's description; nobody has its private half.
        VerifierKey::parse("sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8")
            .ok()
    });
    if let Some(key) = key {
        assert!(Checkpoint::open(bytes, key).is_err(), "forged");
    }
    with_text(bytes, |text| {
        if let Ok(key) = VerifierKey::parse(text) {
            assert_eq!(key.to_string(), text);
        }
    });
}

/// What gateway and control say to each other.
fn control_frames(bytes: &[u8]) {
    let mut buffer = BytesMut::from(bytes);
    while let Ok(Some(_)) = decode_frame::<FromControl>(&mut buffer) {}
    let mut buffer = BytesMut::from(bytes);
    while let Ok(Some(_)) = decode_frame::<FromGateway>(&mut buffer) {}
}

/// A target's credential, once unsealed.
fn credential(bytes: &[u8]) {
    let _ = serde_json::from_slice::<CredentialContent>(bytes);
}

/// Entries of an exported log.
fn log_entry(bytes: &[u8]) {
    let _ = EntryHeader::parse(bytes);
}

/// Names, ids and times, as they come in paths and queries: what is read is written the same.
fn names(bytes: &[u8]) {
    with_text(bytes, |text| {
        if let Ok(name) = text.parse::<PersonName>() {
            assert_eq!(name.as_str().parse::<PersonName>().ok(), Some(name));
        }
        let _ = text.parse::<Timestamp>();
        let _ = text.parse::<PersonId>();
        let _ = text.parse::<GrantId>();
        if let Ok(id) = text.parse::<SessionId>() {
            assert_eq!(id.as_str(), text);
        }
        assert!(!escape_controls(text).contains('\u{1b}'));
    });
}

/// A bundle of policies, as control sends it to gateways.
fn policy_bundle(bytes: &[u8]) {
    with_text(bytes, |text| {
        let _ = Bundle::from_text(text);
    });
}

/// A recording: its structure, its chain, its frames.
fn recording(bytes: &[u8]) {
    let _ = verify::chain(bytes, &[]);
    let Ok(container) = ContainerReader::open(bytes) else {
        return;
    };
    let Ok(mut opener) = Opener::new(container, RecordingKey::new(GOLDEN_KEY)) else {
        return;
    };
    while let Ok(Some(_)) = opener.next_chunk() {}
}

/// The frames of one chunk, as players read them.
fn recording_frames(bytes: &[u8]) {
    let mut tracker = CommandTracker::new();
    let mut transcript = TranscriptWriter::new(Vec::new());
    for frame in decode_frames(bytes).map_while(Result::ok) {
        // A player's screen is as large as a recording says, within bounds of its own.
        let _ = tracker.frame(&frame);
        if transcript.frame(&frame).is_err() {
            return;
        }
    }
    let _ = transcript.finish();
}

/// A person and a program at a terminal, as the gateway follows them for typed commands.
fn terminal(bytes: &[u8]) {
    let mut tracker = CommandTracker::new();
    let opened = FrameKind::ChannelOpened {
        kind: "shell",
        pty: Some(Pty {
            term: "xterm",
            columns: 80,
            rows: 24,
        }),
        command: None,
    };
    let mut at_us = 0_u64;
    let mut say = |kind| {
        at_us = at_us.saturating_add(1_000);
        tracker.frame(&Frame {
            at_us,
            channel: 0,
            kind,
        });
    };
    say(opened);
    let mut rest = bytes;
    while let Some((head, after)) = rest.split_first() {
        let count = usize::from(head >> 2).min(after.len());
        let (piece, after) = after.split_at(count);
        rest = after;
        match head & 3 {
            0 => say(FrameKind::Input(piece)),
            3 => say(FrameKind::Resized {
                columns: u32::from(*head),
                rows: u32::try_from(count).unwrap_or(1),
            }),
            _ => say(FrameKind::Output(piece)),
        }
    }
    say(FrameKind::ChannelClosed);
}

/// What stands before `@` in an SSH command. One that is read means what it shows.
fn selector(bytes: &[u8]) {
    with_text(bytes, |text| {
        if let Ok(selector) = text.parse::<Selector>() {
            let shown = selector.to_string();
            assert_eq!(shown.parse::<Selector>().ok(), Some(selector), "{shown}");
            assert!(!shown.chars().any(char::is_control));
        }
    });
}

/// A share of the unseal key, as somebody types it.
fn unseal_share(bytes: &[u8]) {
    with_text(bytes, |text| {
        let _ = Share::from_text(text);
    });
}
