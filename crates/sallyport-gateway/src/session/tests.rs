//! What a session lets pass, records and ends for; each test with a node of its own.

use std::{
    fs::File,
    io,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use sallyport_api::gateway::Push;
use sallyport_core::{
    id::RecordingId,
    session::{OperationKind, OperationOutcome},
};
use sallyport_evidence::recording::{
    Completeness, ContainerReader, Opener, Pty, RecordingKey, SESSION_CHANNEL,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::{
    config::Limits,
    door::OpenOutcome,
    recorder::{RecorderError, RecordingDirectory, RecordingFile, RecordingStore},
    testing::{Harness, PATIENCE, RECORDING_KEY, ended, recording_id, session_id},
};

const EXEC: ChannelOpening<'static> = ChannelOpening {
    kind: "exec",
    pty: None,
    command: Some("id"),
    content: Content::Limited,
};

fn operation(kind: OperationKind, detail: &str) -> Operation {
    Operation {
        kind,
        detail: detail.to_owned(),
        facts: None,
    }
}

/// Everything in the recording of session 1 as text, one frame a line, and how it ends.
fn recorded(harness: &Harness) -> (Vec<String>, Option<Completeness>) {
    let path = harness
        .directory
        .path()
        .join(format!("recordings/{}.spr", recording_id(1)));
    let container = ContainerReader::open(File::open(path).unwrap()).unwrap();
    let mut opener = Opener::new(container, RecordingKey::new(RECORDING_KEY)).unwrap();
    let mut frames = Vec::new();
    while let Some(chunk) = opener.next_chunk().unwrap() {
        frames.extend(chunk.frames().map(|frame| match frame.kind {
            FrameKind::Input(bytes) => format!("< {}", String::from_utf8_lossy(bytes)),
            FrameKind::Output(bytes) => format!("> {}", String::from_utf8_lossy(bytes)),
            FrameKind::ErrorOutput(bytes) => format!("! {}", String::from_utf8_lossy(bytes)),
            FrameKind::ChannelOpened { kind, .. } => format!("open {kind}"),
            FrameKind::ChannelClosed => "close".to_owned(),
            FrameKind::Note(text) => format!("note {text}"),
            FrameKind::Operation(_) => "operation".to_owned(),
            FrameKind::Omitted { bytes, .. } => format!("omitted {bytes}"),
            other => format!("{other:?}"),
        }));
    }
    (frames, opener.completeness())
}

/// RE-12, RE-14
#[tokio::test]
async fn what_passes_is_counted_and_recorded_in_its_order_and_the_recording_is_complete() {
    let harness = Harness::start();
    let session = harness.open(1).await;
    let channel = session.open_channel(EXEC).await.unwrap();
    channel.input(b"stdin").await.unwrap();
    channel.output(b"out").await.unwrap();
    channel.error_output(b"err").await.unwrap();
    channel.event(FrameKind::ExitStatus(3)).await.unwrap();
    drop(channel);
    session.note("bye").await.unwrap();
    session.end(EndReason::TargetClosed);
    drop(session);

    let closed = harness.closed(1).await;
    assert_eq!(closed.reason, EndReason::TargetClosed);
    assert_eq!((closed.bytes_up, closed.bytes_down), (5, 6));
    assert!(closed.is_recording_complete);
    let (frames, completeness) = recorded(&harness);
    assert_eq!(
        frames,
        [
            "open exec",
            "< stdin",
            "> out",
            "! err",
            "ExitStatus(3)",
            "close",
            "note bye",
            "note the target closed the connection"
        ]
    );
    assert_eq!(completeness, Some(Completeness::Complete));
}

/// RE-11
#[tokio::test]
async fn control_is_told_the_chain_of_the_recording_as_it_stands_on_disk() {
    let harness = Harness::start();
    let session = harness.open(1).await;
    let channel = session.open_channel(EXEC).await.unwrap();
    channel.output(b"first").await.unwrap();
    // The anchor of the header, and that of a chunk, come while the session lives.
    harness.control.until(|told| told.anchors.len() >= 2).await;
    drop((channel, session));
    let anchor = harness.closed(1).await.recording.unwrap();
    let path = harness
        .directory
        .path()
        .join(format!("recordings/{}.spr", recording_id(1)));
    assert_eq!(anchor.size_bytes, path.metadata().unwrap().len());
    let mut container = ContainerReader::open(File::open(path).unwrap()).unwrap();
    let mut anchors = Vec::new();
    while let Some(chunk) = container.next_chunk().unwrap() {
        anchors.push(chunk.anchor());
    }
    assert_eq!(anchor.chunks, u64::try_from(anchors.len()).unwrap());
    assert_eq!(anchor.chain, anchors.last().unwrap().chain.to_string());
    let early = harness.control.told.lock().unwrap().anchors[1].clone();
    let index = usize::try_from(early.chunks - 1).unwrap();
    assert_eq!(early.chain, anchors[index].chain.to_string());
}

/// RE-14
#[tokio::test]
async fn the_bytes_of_a_transfer_are_in_the_recording_by_size_and_hash_only() {
    let harness = Harness::start();
    let session = harness.open(1).await;
    let opening = ChannelOpening {
        kind: "sftp",
        content: Content::Digest,
        ..EXEC
    };
    let channel = session.open_channel(opening).await.unwrap();
    channel.input(&[1; 1_000]).await.unwrap();
    channel.input(&[2; 234]).await.unwrap();
    drop((channel, session));
    assert_eq!(harness.closed(1).await.bytes_up, 1_234);
    assert_eq!(recorded(&harness).0[1], "omitted 1234");
}

/// RE-14, RE-12: of what is not kept, size and hash so far are in the recording every second.
#[tokio::test]
async fn a_transfer_that_goes_on_is_noted_every_second() {
    let harness = Harness::start();
    let session = harness.open(1).await;
    let opening = ChannelOpening {
        kind: "sftp",
        content: Content::Digest,
        ..EXEC
    };
    let channel = session.open_channel(opening).await.unwrap();
    for byte in 1..=3 {
        channel.input(&[byte; 100]).await.unwrap();
        harness.clock.advance(Duration::from_millis(600));
    }
    drop((channel, session));
    harness.closed(1).await;
    let hash = digest(&SHA256, &[[1; 100], [2; 100], [3; 100]].concat());
    let hash = hex::encode(hash);
    let (frames, _) = recorded(&harness);
    assert_eq!(
        frames[1..3],
        [
            format!("note 300 bytes of input so far not kept, sha256 {hash}"),
            "omitted 300".to_owned()
        ]
    );
}

/// AC-5
#[tokio::test]
async fn a_session_ends_with_its_grant_and_nothing_passes_even_before_the_sweep() {
    let harness = Harness::start();
    let session = harness.open(1).await;
    let channel = session.open_channel(EXEC).await.unwrap();
    harness
        .clock
        .advance(Duration::from_secs(3_600) - Duration::from_millis(1));
    harness.node.directives.sweep(harness.clock.now());
    channel.output(b"last").await.unwrap();

    harness.clock.advance(Duration::from_millis(1));
    assert!(channel.output(b"too late").await.is_err());
    assert_eq!(ended(&session).await.reason, EndReason::GrantExpired);
    drop((channel, session));
    assert_eq!(harness.closed(1).await.bytes_down, 4);
}

/// AC-5
#[tokio::test]
async fn the_sweep_ends_a_silent_session_with_its_grant() {
    let harness = Harness::start();
    let session = harness.open(1).await;
    harness.clock.advance(Duration::from_secs(3_600));
    harness.node.directives.sweep(harness.clock.now());
    assert_eq!(ended(&session).await.reason, EndReason::GrantExpired);
}

/// PO-2
#[tokio::test]
async fn a_session_in_which_nothing_passes_for_the_idle_limit_ends_and_traffic_starts_it_anew() {
    let harness = Harness::start();
    let permit = harness.signer.permit(
        1,
        &harness.node.gateway_id,
        "permit idle:60",
        &crate::testing::question(),
    );
    let OpenOutcome::Opened(session) = harness.try_open(harness.opened_with(permit)).await else {
        panic!("the session must open");
    };
    let channel = session.open_channel(EXEC).await.unwrap();
    harness.clock.advance(Duration::from_secs(59));
    channel.input(b"x").await.unwrap();
    harness.clock.advance(Duration::from_secs(59));
    harness.node.directives.sweep(harness.clock.now());
    assert_eq!(session.end_if_over(), None);
    harness.clock.advance(Duration::from_secs(1));
    harness.node.directives.sweep(harness.clock.now());
    assert_eq!(ended(&session).await.reason, EndReason::IdleTimeout);
}

/// GW-12, AC-6
#[tokio::test]
async fn an_end_from_control_cuts_the_target_at_once_whatever_the_protocol_does() {
    let harness = Harness::start();
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut opened = harness.opened(1);
    opened.address = target.local_addr().unwrap().to_string();
    let OpenOutcome::Opened(session) = harness.try_open(opened).await else {
        panic!("the session must open");
    };
    let (dialled, accepted) = tokio::join!(session.dial(), target.accept());
    let (mut stream, mut accepted) = (dialled.unwrap(), accepted.unwrap().0);
    accepted.write_all(b"before").await.unwrap();
    let mut buffer = [0; 6];
    stream.read_exact(&mut buffer).await.unwrap();

    // A protocol that waits for the target and listens to nothing else.
    let reading = tokio::time::timeout(PATIENCE, stream.read(&mut buffer));
    let (read, ()) = tokio::join!(reading, async {
        let push = Push::EndSession {
            session_id: session_id(1),
            reason: EndReason::EndedByOperator,
            comment: "enough".to_owned(),
        };
        harness.node.directives.pushed(push, harness.clock.now());
    });
    assert_eq!(
        read.unwrap().unwrap_err().kind(),
        io::ErrorKind::ConnectionAborted
    );
    assert!(stream.write_all(b"after").await.is_err());
    let end = ended(&session).await;
    assert_eq!(
        (end.reason, end.comment.as_str()),
        (EndReason::EndedByOperator, "enough")
    );
    assert!(matches!(
        session.dial().await,
        Err(DialError::SessionOver(_))
    ));
}

/// GW-12
#[tokio::test]
async fn the_first_end_stands_and_control_hears_of_it_once() {
    let harness = Harness::start();
    let session = harness.open(1).await;
    session.end(EndReason::HostKeyChanged);
    session.end(EndReason::ClientClosed);
    drop(session);
    assert_eq!(harness.closed(1).await.reason, EndReason::HostKeyChanged);
    harness.stop_evidence.cancel();
    harness.node.tasks.wait().await;
    assert_eq!(harness.closed(1).await.reason, EndReason::HostKeyChanged);
    assert!(harness.node.live.is_empty());
}

/// RE-12, R20
#[tokio::test]
async fn a_panic_in_a_protocol_closes_its_session_and_says_so() {
    let harness = Harness::start();
    let session = harness.open(1).await;
    let other = harness.open(2).await;
    let serving = harness.node.tasks.spawn("protocol", async move {
        let _session = session;
        tokio::task::yield_now().await;
        panic!("as the test wants");
    });
    assert_eq!(serving.await.unwrap(), None::<()>);
    assert_eq!(harness.closed(1).await.reason, EndReason::Panicked);
    assert_eq!(other.end_if_over(), None);
}

/// GW-11
#[tokio::test]
async fn the_credential_is_handed_out_once() {
    let harness = Harness::start();
    let session = harness.open(1).await;
    assert!(session.take_credential().is_some());
    assert!(session.take_credential().is_none());
}

/// PO-3, AU-6
#[tokio::test]
async fn a_refused_operation_is_on_record_as_refused_and_never_as_run() {
    let harness = Harness::start();
    harness.welcome("permit forbid:exec", Duration::from_secs(60));
    let session = harness.open(1).await;
    let exec = operation(OperationKind::Exec, "rm -rf /");
    let OperationStart::Refused(reason) = session.begin_operation(0, exec.clone()).await else {
        panic!("the operation must be refused");
    };
    drop(session);
    harness.closed(1).await;
    let told = harness.control.told.lock().unwrap();
    let records: Vec<_> = told
        .operations
        .iter()
        .flat_map(|batch| &batch.records)
        .collect();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].operation, exec);
    assert_eq!(records[0].outcome, OperationOutcome::Refused);
    assert_eq!(records[0].reason.as_deref(), Some(reason.code()));
}

/// AU-6
#[tokio::test]
async fn every_operation_is_on_record_once_also_one_that_was_cut_off() {
    let harness = Harness::start();
    let session = harness.open(1).await;
    let begin = async |detail: &str| match session
        .begin_operation(0, operation(OperationKind::Exec, detail))
        .await
    {
        OperationStart::Begun(running) => running,
        other => panic!("must begin: {other:?}"),
    };
    let (done, cut_off) = (begin("done").await, begin("cut off").await);
    done.finish(
        OperationOutcome::Completed,
        OperationResult {
            exit_status: Some(0),
            ..OperationResult::default()
        },
    );
    drop(cut_off);
    drop(session);
    harness.closed(1).await;
    let told = harness.control.told.lock().unwrap();
    let records: Vec<_> = told
        .operations
        .iter()
        .flat_map(|batch| &batch.records)
        .map(|record| {
            (
                record.operation.detail.as_str(),
                record.outcome,
                record.exit_status,
            )
        })
        .collect();
    assert_eq!(
        records,
        [
            ("done", OperationOutcome::Completed, Some(0)),
            ("cut off", OperationOutcome::Interrupted, None)
        ]
    );
}

/// GW-12
#[tokio::test]
async fn no_operation_begins_in_a_session_that_is_over() {
    let harness = Harness::start();
    let session = harness.open(1).await;
    session.end(EndReason::Locked);
    let start = session
        .begin_operation(0, operation(OperationKind::Exec, "id"))
        .await;
    assert!(matches!(start, OperationStart::Over(_)), "{start:?}");
    let channel = session.open_channel(EXEC).await;
    assert!(channel.is_err());
}

/// RE-2
#[tokio::test]
async fn a_command_typed_at_a_prompt_is_on_record_as_an_operation() {
    let harness = Harness::start();
    let session = harness.open(1).await;
    let pty = Pty {
        term: "xterm",
        columns: 80,
        rows: 24,
    };
    let shell = ChannelOpening {
        kind: "shell",
        pty: Some(pty),
        command: None,
        content: Content::Full,
    };
    let channel = session.open_channel(shell).await.unwrap();
    channel.output(b"$ ").await.unwrap();
    for key in b"uptime" {
        channel.input(&[*key]).await.unwrap();
        channel.output(&[*key]).await.unwrap();
    }
    channel.input(b"\r").await.unwrap();
    channel.output(b"\r\n up 3 days\r\n$ ").await.unwrap();
    drop((channel, session));
    harness.closed(1).await;
    let told = harness.control.told.lock().unwrap();
    let records: Vec<_> = told
        .operations
        .iter()
        .flat_map(|batch| &batch.records)
        .collect();
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(
        records[0].operation,
        operation(OperationKind::TypedCommand, "uptime")
    );
}

/// A disk on which a test decides each step.
struct SteppedDisk {
    inner: RecordingDirectory,
    steps: std::sync::Mutex<Option<Receiver<io::Result<()>>>>,
}

struct SteppedFile {
    inner: Box<dyn RecordingFile>,
    steps: std::sync::Mutex<Receiver<io::Result<()>>>,
}

impl RecordingStore for SteppedDisk {
    fn create(&self, recording_id: &RecordingId) -> Result<Box<dyn RecordingFile>, RecorderError> {
        let inner = self.inner.create(recording_id)?;
        let steps = self.steps.lock().unwrap().take().unwrap();
        Ok(Box::new(SteppedFile {
            inner,
            steps: std::sync::Mutex::new(steps),
        }))
    }
}

impl RecordingFile for SteppedFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.inner.append(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        // A test that has gone lets everything pass.
        self.steps.lock().unwrap().recv().unwrap_or(Ok(()))?;
        self.inner.sync()
    }
}

fn stepped(limits: Limits) -> (Harness, SyncSender<io::Result<()>>) {
    let directory = tempfile::tempdir().unwrap();
    let inner = RecordingDirectory::open(directory.path().join("recordings")).unwrap();
    let (steps, receiver) = sync_channel(1_000);
    // The header.
    steps.send(Ok(())).unwrap();
    let disk = SteppedDisk {
        inner,
        steps: std::sync::Mutex::new(Some(receiver)),
    };
    (
        Harness::with(directory, std::sync::Arc::new(disk), limits),
        steps,
    )
}

/// RE-12
#[tokio::test]
async fn a_recording_that_cannot_be_written_on_ends_the_session_and_nothing_more_passes() {
    let (harness, steps) = stepped(Limits::default());
    let session = harness.open(1).await;
    let channel = session.open_channel(EXEC).await.unwrap();
    channel.output(b"recorded").await.unwrap();
    steps.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
    let end = ended(&session).await;
    assert_eq!(end.reason, EndReason::RecorderFailed);
    assert!(channel.output(b"not recorded").await.is_err());
    drop((channel, session));
    let closed = harness.closed(1).await;
    assert_eq!(closed.reason, EndReason::RecorderFailed);
    assert_eq!(
        (closed.bytes_down, closed.is_recording_complete),
        (8, false)
    );
}

/// AU-6, RE-12
#[tokio::test]
async fn an_operation_that_ran_when_the_recording_failed_is_on_record_as_interrupted() {
    let (harness, steps) = stepped(Limits::default());
    let session = harness.open(1).await;
    let running = match session
        .begin_operation(0, operation(OperationKind::FileUpload, "/srv/file"))
        .await
    {
        OperationStart::Begun(running) => running,
        other => panic!("must begin: {other:?}"),
    };
    let channel = session.open_channel(EXEC).await.unwrap();
    channel.input(b"recorded").await.unwrap();
    steps.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
    ended(&session).await;
    // The protocol notices a while after the writer is gone.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    drop((running, channel, session));
    harness.closed(1).await;
    let told = harness.control.told.lock().unwrap();
    let records: Vec<_> = told
        .operations
        .iter()
        .flat_map(|batch| &batch.records)
        .map(|record| (record.operation.kind, record.outcome))
        .collect();
    let expected = (OperationKind::FileUpload, OperationOutcome::Interrupted);
    assert_eq!(records, [expected]);
}

/// RE-12
#[tokio::test]
async fn a_disk_that_does_not_answer_ends_the_session() {
    let limits = Limits {
        recorder_stall_s: 1,
        ..Limits::default()
    };
    let (harness, steps) = stepped(limits);
    let session = harness.open(1).await;
    let channel = session.open_channel(EXEC).await.unwrap();
    channel.output(b"waits").await.unwrap();
    let end = ended(&session).await;
    assert_eq!(end.reason, EndReason::RecorderFailed);
    drop(steps);
}

/// RE-12
#[tokio::test]
async fn a_slow_disk_slows_the_session_and_drops_nothing() {
    const PIECE: usize = 64 * 1024;
    // More than may be appended and not durable, and the buffer, take together.
    const PIECES: usize = 512;
    let limits = Limits {
        recorder_stall_s: 20,
        ..Limits::default()
    };
    let (harness, steps) = stepped(limits);
    let session = harness.open(1).await;
    let channel = session.open_channel(EXEC).await.unwrap();
    let piece = vec![b'x'; PIECE];
    let mut accepted = 0;
    let sending = async {
        for _ in 0..PIECES {
            channel.output(&piece).await.unwrap();
            accepted += 1;
        }
    };
    let mut sending = Box::pin(sending);
    // With the disk still, the buffer takes a bounded part and then the session waits.
    let waits = tokio::time::timeout(Duration::from_millis(1_500), &mut sending).await;
    assert!(
        waits.is_err(),
        "everything was accepted by a disk that stands still"
    );
    for _ in 0..900 {
        steps.send(Ok(())).unwrap();
    }
    tokio::time::timeout(PATIENCE, sending).await.unwrap();
    assert_eq!(accepted, PIECES);
    drop((channel, session));
    let closed = harness.closed(1).await;
    assert_eq!(closed.bytes_down, u64::try_from(PIECES * PIECE).unwrap());
    let bytes: usize = recorded(&harness)
        .0
        .iter()
        .filter_map(|frame| frame.strip_prefix("> "))
        .map(str::len)
        .sum();
    assert_eq!(bytes, PIECES * PIECE);
}

/// RE-12, AU-6
#[tokio::test]
async fn a_session_whose_evidence_cannot_be_kept_ends() {
    let directory = tempfile::tempdir().unwrap();
    let recordings = RecordingDirectory::open(directory.path().join("recordings")).unwrap();
    let limits = Limits {
        spool_bytes_max: 1_000,
        ..Limits::default()
    };
    let harness = Harness::with(directory, std::sync::Arc::new(recordings), limits);
    let session = harness.open(1).await;
    harness.control.set_reachable(false);
    for _ in 0..20 {
        let exec = operation(OperationKind::Exec, &"x".repeat(200));
        if let OperationStart::Over(_) = session.begin_operation(0, exec).await {
            break;
        }
    }
    let end = ended(&session).await;
    assert_eq!(end.reason, EndReason::RecorderFailed);
}

#[tokio::test]
async fn a_note_is_on_the_session_and_cut_to_its_limit() {
    let harness = Harness::start();
    let session = harness.open(1).await;
    session.note(&"é".repeat(NOTE_BYTES_MAX)).await.unwrap();
    drop(session);
    harness.closed(1).await;
    assert_eq!(
        recorded(&harness).0[0].len(),
        "note ".len() + NOTE_BYTES_MAX
    );
    assert_eq!(SESSION_CHANNEL, u32::MAX);
}
