//! What an scp conversation must and must not let through.

use aws_lc_rs::digest::{SHA256, digest};
use proptest::prelude::*;

use super::*;

fn conversation(way: Way, path: &str) -> Conversation<&'static str> {
    let mut conversation = Conversation::new(ScpCommand {
        way,
        is_directory: false,
        path: path.to_owned(),
    });
    assert_eq!(
        conversation.sink(Bytes::from_static(&[0])).unwrap(),
        [0][..]
    );
    conversation
}

fn announce(conversation: &mut Conversation<&'static str>, line: &'static str) -> Operation {
    match conversation.source(&mut Bytes::from_static(line.as_bytes())) {
        Ok(Step::Decide(operation)) => operation,
        other => panic!("expected a question, got {other:?}"),
    }
}

fn yes(conversation: &mut Conversation<&'static str>) {
    assert_eq!(
        conversation.sink(Bytes::from_static(&[0])).unwrap(),
        [0][..]
    );
}

/// GW-13
#[test]
fn an_upload_is_one_operation_with_the_hash_of_what_moved() {
    let mut conversation = conversation(Way::Upload, "/srv/drop/");
    let operation = announce(&mut conversation, "C0644 11 a.txt\n");
    assert_eq!(operation.kind, OperationKind::FileUpload);
    assert_eq!(operation.detail, "/srv/drop/a.txt");
    assert_eq!(conversation.admit("up"), "C0644 11 a.txt\n");
    yes(&mut conversation);

    let mut bytes = Bytes::from_static(b"hello world\0");
    assert_eq!(
        conversation.source(&mut bytes),
        Ok(Step::Forward(Bytes::from_static(b"hello world")))
    );
    assert_eq!(
        conversation.source(&mut bytes),
        Ok(Step::Forward(Bytes::from_static(&[0])))
    );
    yes(&mut conversation);

    let finished = conversation.take_finished();
    assert_eq!(finished[0].outcome, OperationOutcome::Completed);
    assert_eq!(finished[0].result.size_bytes, Some(11));
    assert_eq!(
        finished[0].result.sha256.unwrap()[..],
        *digest(&SHA256, b"hello world").as_ref()
    );
}

/// GW-13
#[test]
fn a_refused_upload_never_reaches_the_target_and_the_next_file_may_come() {
    let mut conversation = conversation(Way::Upload, "/srv/a");
    announce(&mut conversation, "C0644 5 a\n");
    let refusal = conversation.refuse("uploads are refused");
    assert_eq!(refusal.to_source, "\u{1}scp: uploads are refused\n");
    assert_eq!(refusal.to_sink, None);
    announce(&mut conversation, "C0644 5 b\n");
}

/// GW-13
#[test]
fn a_refused_download_is_told_to_both_sides() {
    let mut conversation = conversation(Way::Download, "/etc/shadow");
    let operation = announce(&mut conversation, "C0644 5 shadow\n");
    assert_eq!(operation.kind, OperationKind::FileDownload);
    assert_eq!(operation.detail, "/etc/shadow");
    let refusal = conversation.refuse("downloads are refused");
    assert_eq!(refusal.to_sink, Some(refusal.to_source.clone()));
    announce(&mut conversation, "C0644 5 passwd\n");
}

#[test]
fn directories_nest_and_their_files_have_whole_paths() {
    let mut conversation = conversation(Way::Upload, "/srv/site");
    let made = announce(&mut conversation, "D0755 0 site\n");
    assert_eq!(made.kind, OperationKind::FileChange);
    assert_eq!(made.detail, "mkdir /srv/site");
    conversation.admit("dir");
    yes(&mut conversation);
    let file = announce(&mut conversation, "C0644 0 index.html\n");
    assert_eq!(file.detail, "/srv/site/index.html");
    conversation.admit("file");
    yes(&mut conversation);
    let mut verdict = Bytes::from_static(&[0]);
    assert!(conversation.source(&mut verdict).is_ok());
    yes(&mut conversation);
    let mut end = Bytes::from_static(b"E\n");
    assert!(matches!(
        conversation.source(&mut end),
        Ok(Step::Forward(_))
    ));
    yes(&mut conversation);
    let outcomes: Vec<_> = conversation
        .take_finished()
        .into_iter()
        .map(|finished| (finished.ticket, finished.outcome))
        .collect();
    assert_eq!(
        outcomes,
        [
            ("dir", OperationOutcome::Completed),
            ("file", OperationOutcome::Completed)
        ]
    );
}

#[test]
fn nothing_follows_a_line_before_the_sink_has_answered_it() {
    let mut conversation = conversation(Way::Upload, "/srv/a");
    announce(&mut conversation, "C0644 5 a\n");
    conversation.admit("up");
    let mut early = Bytes::from_static(b"hello\0");
    assert_eq!(conversation.source(&mut early), Ok(Step::AwaitAnswer));
    assert_eq!(early.len(), 6);
}

#[test]
fn a_name_that_leaves_its_directory_ends_the_channel() {
    for line in ["C0644 5 ..\n", "C0644 5 a/b\n", "D0755 0 .\n", "C0644 5 \n"] {
        let mut conversation = conversation(Way::Download, "x");
        assert_eq!(
            conversation.source(&mut Bytes::from_static(line.as_bytes())),
            Err(ScpError::Name),
            "{line:?}"
        );
    }
}

#[test]
fn a_line_without_end_is_not_kept() {
    let mut conversation = conversation(Way::Upload, "x");
    let mut bytes = Bytes::from(vec![b'C'; LINE_BYTES_MAX + 1]);
    assert_eq!(conversation.source(&mut bytes), Err(ScpError::LineTooLong));
}

#[test]
fn given_a_cut_upload_then_it_is_interrupted_with_what_moved() {
    let mut conversation = conversation(Way::Upload, "/srv/a");
    announce(&mut conversation, "C0644 5 a\n");
    conversation.admit("up");
    yes(&mut conversation);
    assert!(conversation.source(&mut Bytes::from_static(b"he")).is_ok());
    let finished = conversation.interrupt();
    assert_eq!(finished[0].outcome, OperationOutcome::Interrupted);
    assert_eq!(finished[0].result.size_bytes, Some(2));
    assert_eq!(finished[0].result.sha256, None);
}

#[test]
fn given_a_file_the_target_refuses_then_the_operation_failed_there() {
    let mut conversation = conversation(Way::Upload, "/srv/a");
    announce(&mut conversation, "C0644 5 a\n");
    conversation.admit("up");
    let answer = Bytes::from_static(b"\x01scp: /srv/a: Permission denied\n");
    // In pieces: an answer is forwarded whole.
    assert_eq!(conversation.sink(answer.slice(..5)).unwrap(), Bytes::new());
    assert_eq!(conversation.sink(answer.slice(5..)).unwrap(), answer);
    let finished = conversation.take_finished();
    assert_eq!(finished[0].outcome, OperationOutcome::FailedAtTarget);
}

proptest! {
    #[test]
    fn no_bytes_of_either_side_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        crate::protocols::ssh::fuzz::fuzz_scp(&bytes);
    }

    /// Content never exceeds what was announced, however the stream is cut.
    #[test]
    fn content_is_what_was_announced(size in 0_usize..300, cut in 1_usize..50) {
        let mut conversation = conversation(Way::Upload, "/srv/a");
        let line = format!("C0644 {size} a\n");
        let step = conversation.source(&mut Bytes::from(line.into_bytes()));
        prop_assert!(matches!(step, Ok(Step::Decide(_))));
        conversation.admit("up");
        yes(&mut conversation);
        let mut stream = vec![7_u8; size];
        stream.push(0);
        let mut forwarded = 0;
        for piece in stream.chunks(cut) {
            let mut piece = Bytes::copy_from_slice(piece);
            loop {
                match conversation.source(&mut piece).unwrap() {
                    Step::Forward(bytes) => forwarded += bytes.len(),
                    Step::Done | Step::AwaitAnswer => break,
                    Step::Decide(_) => prop_assert!(false, "content taken for a line"),
                }
            }
        }
        prop_assert_eq!(forwarded, size + 1);
        yes(&mut conversation);
        let finished = conversation.take_finished();
        prop_assert_eq!(finished[0].result.size_bytes, Some(size as u64));
    }
}
