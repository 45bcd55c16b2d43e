//! What an SFTP conversation must and must not let through, told with made-up packets.

use proptest::prelude::*;

use super::*;
use crate::protocols::ssh::codec::{Framer, tests::packet};

const INIT: &[u8] = &[0, 0, 0, 5, 1, 0, 0, 0, 3];
const VERSION_3: &[u8] = &[0, 0, 0, 5, 2, 0, 0, 0, 3];

fn cut(bytes: &[u8]) -> Packet {
    let mut framer = Framer::default();
    framer.push(bytes);
    framer.next_packet().unwrap().unwrap()
}

fn begun() -> Conversation<&'static str> {
    let mut conversation = Conversation::default();
    assert!(matches!(
        conversation.inspect(&cut(INIT)),
        Ok(Demand::Forward)
    ));
    assert_eq!(conversation.observe(&cut(VERSION_3)), Ok(vec![]));
    conversation
}

fn open(id: u32, path: &str, flags: u32) -> Packet {
    let mut tail = flags.to_be_bytes().to_vec();
    tail.extend(0_u32.to_be_bytes());
    cut(&packet(3, id, &[path.as_bytes()], &tail))
}

fn write(id: u32, handle: &str, offset: u64, content: &[u8]) -> Packet {
    let mut tail = offset.to_be_bytes().to_vec();
    tail.extend(u32::try_from(content.len()).unwrap().to_be_bytes());
    tail.extend(content);
    cut(&packet(6, id, &[handle.as_bytes()], &tail))
}

fn read(id: u32, handle: &str, offset: u64) -> Packet {
    let mut tail = offset.to_be_bytes().to_vec();
    tail.extend(32_768_u32.to_be_bytes());
    cut(&packet(5, id, &[handle.as_bytes()], &tail))
}

fn close(id: u32, handle: &str) -> Packet {
    cut(&packet(4, id, &[handle.as_bytes()], &[]))
}

fn handle_given(id: u32, handle: &str) -> Packet {
    cut(&packet(102, id, &[handle.as_bytes()], &[]))
}

fn content(id: u32, content: &[u8]) -> Packet {
    cut(&packet(103, id, &[content], &[]))
}

fn status_of(id: u32, code: u32) -> Packet {
    cut(&encode_status(id, code, ""))
}

fn sha256(content: &[u8]) -> [u8; 32] {
    let mut digest = Context::new(&SHA256);
    digest.update(content);
    *digest.finish().as_ref().first_chunk().unwrap()
}

fn decided(
    conversation: &mut Conversation<&'static str>,
    packet: &Packet,
    tickets: Vec<&'static str>,
) -> Vec<Operation> {
    match conversation.inspect(packet).unwrap() {
        Demand::Decide(question) => {
            let operations = question.operations.clone();
            conversation.admit(question, tickets);
            operations
        }
        other => panic!("expected a question, got {other:?}"),
    }
}

fn opened(
    conversation: &mut Conversation<&'static str>,
    path: &str,
    flags: u32,
    tickets: Vec<&'static str>,
) -> Vec<Operation> {
    let operations = decided(conversation, &open(1, path, flags), tickets);
    assert_eq!(conversation.observe(&handle_given(1, "h")), Ok(vec![]));
    operations
}

/// GW-13
#[test]
fn an_upload_is_one_operation_with_the_hash_of_what_moved() {
    let mut conversation = begun();
    let operations = opened(&mut conversation, "/srv/a", 0x1a, vec!["up"]);
    assert_eq!(
        operations,
        vec![Operation {
            kind: OperationKind::FileUpload,
            detail: "/srv/a".to_owned(),
            facts: None
        }]
    );
    for (id, offset, part) in [(2, 0, &b"hello "[..]), (3, 6, b"world")] {
        assert!(matches!(
            conversation.inspect(&write(id, "h", offset, part)),
            Ok(Demand::Forward)
        ));
    }
    // The client may close before its writes are answered.
    assert!(matches!(
        conversation.inspect(&close(4, "h")),
        Ok(Demand::Forward)
    ));
    assert_eq!(conversation.observe(&status_of(2, 0)), Ok(vec![]));
    assert_eq!(conversation.observe(&status_of(3, 0)), Ok(vec![]));
    assert_eq!(
        conversation.observe(&status_of(4, 0)),
        Ok(vec![Finished {
            ticket: "up",
            outcome: OperationOutcome::Completed,
            result: OperationResult {
                exit_status: None,
                size_bytes: Some(11),
                sha256: Some(sha256(b"hello world")),
                statement: None,
                reason: None,
            },
        }])
    );
}

/// GW-13
#[test]
fn a_download_is_hashed_from_the_answers_and_ends_at_close() {
    let mut conversation = begun();
    let operations = opened(&mut conversation, "/srv/a", 1, vec!["down"]);
    assert_eq!(operations.len(), 1);
    assert!(conversation.inspect(&read(2, "h", 0)).is_ok());
    assert!(conversation.inspect(&read(3, "h", 3)).is_ok());
    assert_eq!(conversation.observe(&content(2, b"abc")), Ok(vec![]));
    assert_eq!(conversation.observe(&status_of(3, status::EOF)), Ok(vec![]));
    assert!(conversation.inspect(&close(4, "h")).is_ok());
    let finished = conversation.observe(&status_of(4, 0)).unwrap();
    assert_eq!(finished[0].result.sha256, Some(sha256(b"abc")));
    assert_eq!(finished[0].result.size_bytes, Some(3));
}

/// GW-13
#[test]
fn given_content_out_of_order_then_its_size_is_known_and_no_hash_is_claimed() {
    let mut conversation = begun();
    opened(&mut conversation, "/srv/a", 0x1a, vec!["up"]);
    assert!(conversation.inspect(&write(2, "h", 3, b"def")).is_ok());
    assert!(conversation.inspect(&write(3, "h", 0, b"abc")).is_ok());
    assert!(conversation.inspect(&close(4, "h")).is_ok());
    for id in [2, 3] {
        assert_eq!(conversation.observe(&status_of(id, 0)), Ok(vec![]));
    }
    let finished = conversation.observe(&status_of(4, 0)).unwrap();
    assert_eq!(finished[0].result.size_bytes, Some(6));
    assert_eq!(finished[0].result.sha256, None);
}

#[test]
fn given_a_write_the_target_refused_then_the_upload_failed_and_has_no_hash() {
    let mut conversation = begun();
    opened(&mut conversation, "/srv/a", 0x1a, vec!["up"]);
    assert!(conversation.inspect(&write(2, "h", 0, b"abc")).is_ok());
    assert_eq!(
        conversation.observe(&status_of(2, status::FAILURE)),
        Ok(vec![])
    );
    assert!(conversation.inspect(&close(4, "h")).is_ok());
    let finished = conversation.observe(&status_of(4, 0)).unwrap();
    assert_eq!(finished[0].outcome, OperationOutcome::FailedAtTarget);
    assert_eq!(finished[0].result.sha256, None);
}

/// GW-13: the flags decide, not what the client says it wants to do.
#[test]
fn flags_that_can_write_are_an_upload_and_flags_that_can_read_a_download() {
    let kinds = |flags| {
        let mut conversation = begun();
        match conversation.inspect(&open(1, "/srv/a", flags)).unwrap() {
            Demand::Decide(question) => question
                .operations
                .iter()
                .map(|operation| operation.kind)
                .collect::<Vec<_>>(),
            other => panic!("expected a question, got {other:?}"),
        }
    };
    use OperationKind::{FileDownload, FileUpload};
    assert_eq!(kinds(0), [FileDownload]);
    assert_eq!(kinds(1), [FileDownload]);
    assert_eq!(kinds(2), [FileUpload]);
    assert_eq!(kinds(3), [FileDownload, FileUpload]);
    // TRUNC without WRITE: readable, and it empties the file.
    assert_eq!(kinds(0x10), [FileDownload, FileUpload]);
}

/// GW-13: a file opened for one direction does not move the other way.
#[test]
fn given_a_file_opened_for_writing_when_it_is_read_then_the_target_is_not_asked() {
    let mut conversation = begun();
    opened(&mut conversation, "/srv/a", 2, vec!["up"]);
    assert!(matches!(
        conversation.inspect(&read(2, "h", 0)),
        Ok(Demand::Answer(_))
    ));
    assert!(matches!(
        conversation.inspect(&write(3, "other", 0, b"x")),
        Ok(Demand::Answer(_))
    ));
}

#[test]
fn given_a_refused_open_then_the_client_hears_permission_denied_and_may_go_on() {
    let mut conversation = begun();
    let Ok(Demand::Decide(question)) = conversation.inspect(&open(5, "/etc/shadow", 1)) else {
        panic!("expected a question");
    };
    let answer = Conversation::<&str>::refuse(&question, Reason::DownloadRefused);
    assert_eq!(
        cut(&answer).response(),
        Ok(Response::Status {
            id: 5,
            code: status::PERMISSION_DENIED
        })
    );
    assert!(conversation.inspect(&open(5, "/etc/motd", 1)).is_ok());
}

#[test]
fn every_change_of_the_file_system_is_an_operation() {
    let two = packet(18, 1, &[b"/a", b"/b"], &[]);
    let hardlink = packet(200, 1, &[b"hardlink@openssh.com", b"/a", b"/b"], &[]);
    let posix_rename = packet(200, 1, &[b"posix-rename@openssh.com", b"/a", b"/b"], &[]);
    for (bytes, detail) in [
        (packet(13, 1, &[b"/a"], &[]), "remove /a"),
        (packet(14, 1, &[b"/a"], &[0, 0, 0, 0]), "mkdir /a"),
        (packet(15, 1, &[b"/a"], &[]), "rmdir /a"),
        (packet(9, 1, &[b"/a"], &[0, 0, 0, 0]), "setstat /a"),
        (packet(20, 1, &[b"/a", b"/b"], &[]), "symlink /a -> /b"),
        (two, "rename /a -> /b"),
        (hardlink, "hardlink /a -> /b"),
        (posix_rename, "rename /a -> /b"),
    ] {
        let mut conversation = begun();
        let operations = decided(&mut conversation, &cut(&bytes), vec!["change"]);
        assert_eq!(operations[0].kind, OperationKind::FileChange);
        assert_eq!(operations[0].detail, detail);
        let finished = conversation.observe(&status_of(1, 0)).unwrap();
        assert_eq!(finished[0].outcome, OperationOutcome::Completed);
    }
}

#[test]
fn given_a_client_of_a_later_version_then_version_3_is_what_the_target_hears() {
    let mut conversation = Conversation::<&str>::default();
    match conversation.inspect(&cut(&[0, 0, 0, 5, 1, 0, 0, 0, 6])) {
        Ok(Demand::ForwardInstead(bytes)) => assert_eq!(&bytes[..], INIT),
        other => panic!("expected another INIT, got {other:?}"),
    }
    assert_eq!(
        conversation.observe(&cut(&[0, 0, 0, 5, 2, 0, 0, 0, 4])),
        Err(SftpError::Version { version: 4 })
    );
}

#[test]
fn given_a_request_number_still_unanswered_then_the_channel_ends() {
    let mut conversation = begun();
    let stat = cut(&packet(17, 1, &[b"/a"], &[]));
    assert!(conversation.inspect(&stat).is_ok());
    assert!(conversation.inspect(&stat).is_err());
}

#[test]
fn given_an_answer_to_nothing_then_the_channel_ends() {
    let mut conversation = begun();
    assert!(conversation.observe(&status_of(77, 0)).is_err());
    assert!(conversation.observe(&cut(VERSION_3)).is_err());
}

#[test]
fn given_a_cut_conversation_then_every_open_transfer_is_interrupted_with_what_moved() {
    let mut conversation = begun();
    opened(&mut conversation, "/srv/a", 0x1a, vec!["up"]);
    assert!(conversation.inspect(&write(2, "h", 0, b"abc")).is_ok());
    let finished = conversation.interrupt();
    assert_eq!(finished.len(), 1);
    assert_eq!(finished[0].outcome, OperationOutcome::Interrupted);
    assert_eq!(finished[0].result.size_bytes, Some(3));
    assert_eq!(finished[0].result.sha256, None);
    assert!(conversation.interrupt().is_empty());
}

proptest! {
    #[test]
    fn no_bytes_of_either_side_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        crate::protocols::ssh::fuzz::fuzz_sftp(&bytes);
    }

    /// The one thing that matters: whatever the client sends, what goes on to the target was either
    /// admitted or cannot open, move or change anything.
    #[test]
    fn nothing_refused_ever_leads_to_content_moving(
        steps in prop::collection::vec((0_u8..12, 0_u32..6, 0_u8..3), 0..60),
    ) {
        let mut conversation = begun();
        for (step, id, name) in steps {
            let handle = format!("h{name}");
            let bytes = match step {
                0..=2 => open(id, &handle, u32::from(step) + 1),
                3..=5 => write(id, &handle, 0, b"x"),
                6..=8 => read(id, &handle, 0),
                9 => handle_given(id, &handle),
                10 => status_of(id, 0),
                _ => close(id, &handle),
            };
            if step == 9 || step == 10 {
                if conversation.observe(&bytes).is_err() { break; }
                continue;
            }
            match conversation.inspect(&bytes) {
                Err(_) => break,
                // Everything is refused, so no file ever opens.
                Ok(Demand::Decide(question)) => {
                    let _ = Conversation::<&str>::refuse(&question, Reason::UploadRefused);
                }
                Ok(Demand::Forward | Demand::ForwardInstead(_)) => prop_assert!(false, "forwarded"),
                Ok(Demand::Answer(_)) => {}
            }
        }
    }
}
