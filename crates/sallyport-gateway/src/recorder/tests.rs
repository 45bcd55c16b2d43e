//! What is in a recording after an end, a failure and a kill.

use std::{
    collections::BTreeSet,
    io::Cursor,
    sync::{
        atomic::AtomicUsize,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use sallyport_evidence::recording::{Completeness, ContainerReader, Direction, FrameKind, Opener};
use tokio::{task::JoinHandle, time::timeout};

use super::*;
use crate::{
    tasks::Tasks,
    testing::{RECORDING_KEY, recording_id, session_id},
};

const STALL: Duration = Duration::from_secs(10);

/// A recording in memory.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl RecordingFile for Memory {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl RecordingStore for Memory {
    fn create(&self, _recording_id: &RecordingId) -> Result<Box<dyn RecordingFile>, RecorderError> {
        Ok(Box::new(self.clone()))
    }
}

fn recording_start() -> RecordingStart {
    RecordingStart {
        recording_id: recording_id(1),
        session_id: session_id(1),
        started_at_ms: 0,
        key: RecordingKey::new(RECORDING_KEY),
        wrapped_key: "wrapped".to_owned(),
        rules: Arc::new(RuleSet::compile(&BTreeSet::new()).unwrap()),
    }
}

fn start(memory: &Memory) -> (Recorder, Writer) {
    begin(memory, recording_start(), STALL).unwrap()
}

fn run(
    writer: Writer,
) -> (
    JoinHandle<Option<RecordingEnd>>,
    tokio::sync::mpsc::Receiver<u64>,
) {
    let (durable, chunks) = tokio::sync::mpsc::channel(1_000);
    let running = Tasks::default().spawn("writer", async move {
        writer
            .run(|done| durable.try_send(done.anchor.chunks).unwrap())
            .await
    });
    (running, chunks)
}

fn output(bytes: &[u8]) -> Frame<'_> {
    Frame {
        at_us: 1,
        channel: 0,
        kind: FrameKind::Output(bytes),
    }
}

/// All recorded output of what is in memory, and how the recording ends.
fn read(memory: &Memory) -> (Vec<u8>, Option<Completeness>) {
    let bytes = memory.0.lock().unwrap().clone();
    let container = ContainerReader::open(Cursor::new(bytes)).unwrap();
    let mut opener = Opener::new(container, RecordingKey::new(RECORDING_KEY)).unwrap();
    let mut recorded = Vec::new();
    while let Some(chunk) = opener.next_chunk().unwrap() {
        for frame in chunk.frames() {
            if let FrameKind::Output(bytes) = frame.kind {
                recorded.extend_from_slice(bytes);
            }
        }
    }
    (recorded, opener.completeness())
}

/// RE-11
#[tokio::test]
async fn a_recorder_that_is_killed_leaves_everything_up_to_its_last_chunk() {
    let memory = Memory::default();
    let (recorder, writer) = start(&memory);
    let (running, mut chunks) = run(writer);
    recorder.record(&output(b"durable")).unwrap();
    assert_eq!(chunks.recv().await, Some(1));
    recorder.record(&output(b"lost")).unwrap();
    running.abort();
    let _ = running.await;
    assert_eq!(
        read(&memory),
        (
            b"durable".to_vec(),
            Some(Completeness::CutAfter { chunks: 1 })
        )
    );
}

/// RE-11
#[tokio::test]
async fn closing_writes_what_waits_as_the_last_chunk_and_takes_nothing_more() {
    let memory = Memory::default();
    let (recorder, writer) = start(&memory);
    let (running, _chunks) = run(writer);
    recorder.record(&output(b"all")).unwrap();
    recorder.close();
    assert_eq!(recorder.record(&output(b"late")), Err(RecordingClosed));
    let end = running.await.unwrap().unwrap();
    assert!(end.failure.is_none());
    assert_eq!(end.anchor.unwrap().chunks, 1);
    assert_eq!(
        read(&memory),
        (b"all".to_vec(), Some(Completeness::Complete))
    );
}

#[tokio::test]
async fn a_session_in_which_nothing_passed_has_a_complete_recording_of_nothing() {
    let memory = Memory::default();
    let (recorder, writer) = start(&memory);
    let (running, _chunks) = run(writer);
    recorder.close();
    assert!(running.await.unwrap().unwrap().failure.is_none());
    assert_eq!(read(&memory), (Vec::new(), Some(Completeness::Complete)));
}

#[tokio::test]
async fn a_chunk_is_sealed_when_it_is_large_and_the_rest_soon_after() {
    let memory = Memory::default();
    let (recorder, writer) = start(&memory);
    let (running, mut chunks) = run(writer);
    let piece = vec![7; CHUNK_BYTES];
    recorder.record(&output(&piece)).unwrap();
    assert_eq!(chunks.recv().await, Some(1));
    recorder.record(&output(b"tail")).unwrap();
    assert_eq!(chunks.recv().await, Some(2));
    recorder.close();
    assert_eq!(running.await.unwrap().unwrap().anchor.unwrap().chunks, 3);
    assert_eq!(read(&memory).0.len(), CHUNK_BYTES + 4);
}

/// RE-14
#[tokio::test]
async fn what_is_said_past_the_bound_goes_into_as_many_chunks_as_it_takes() {
    let memory = Memory::default();
    let (recorder, writer) = start(&memory);
    let piece = vec![7; 900 * 1024];
    for _ in 0..20 {
        recorder.record(&output(&piece)).unwrap();
    }
    recorder.close();
    let (running, _chunks) = run(writer);
    let end = running.await.unwrap().unwrap();
    assert!(end.failure.is_none(), "{:?}", end.failure);
    assert_eq!(end.anchor.unwrap().chunks, 3);
    let (recorded, completeness) = read(&memory);
    assert_eq!(recorded.len(), 20 * piece.len());
    assert_eq!(completeness, Some(Completeness::Complete));
}

/// RE-12
#[test]
fn a_frame_that_breaks_its_limits_is_not_taken() {
    let memory = Memory::default();
    let (recorder, _writer) = start(&memory);
    let long = "x".repeat(70 * 1024);
    let note = Frame {
        at_us: 0,
        channel: 0,
        kind: FrameKind::Note(&long),
    };
    assert_eq!(recorder.record(&note), Err(RecordingClosed));
    let omitted = FrameKind::Omitted {
        direction: Direction::Input,
        bytes: 1,
        sha256: [0; 32],
    };
    let fits = Frame {
        at_us: 0,
        channel: 0,
        kind: omitted,
    };
    assert_eq!(recorder.record(&fits), Ok(()));
}

/// A disk that is full after the header.
struct FullAfterHeader(AtomicBool);

impl RecordingFile for FullAfterHeader {
    fn append(&self, _bytes: &[u8]) -> io::Result<()> {
        if self.0.swap(true, Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl RecordingStore for FullAfterHeader {
    fn create(&self, _recording_id: &RecordingId) -> Result<Box<dyn RecordingFile>, RecorderError> {
        Ok(Box::new(Self(AtomicBool::new(false))))
    }
}

/// RE-12
#[tokio::test]
async fn after_a_failure_nothing_is_taken_and_the_end_says_what_failed() {
    let (recorder, writer) = begin(
        &FullAfterHeader(AtomicBool::new(false)),
        recording_start(),
        STALL,
    )
    .unwrap();
    let (running, _chunks) = run(writer);
    recorder.record(&output(b"lost")).unwrap();
    let end = running.await.unwrap().unwrap();
    assert!(
        matches!(end.failure, Some(RecorderError::Io { .. })),
        "{:?}",
        end.failure
    );
    assert!(end.anchor.is_none());
    assert_eq!(recorder.record(&output(b"late")), Err(RecordingClosed));
    recorder.room().await;
}

/// RE-11
#[test]
fn a_recordings_file_is_made_once_and_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;

    let directory = tempfile::tempdir().unwrap();
    let store = RecordingDirectory::open(directory.path().join("recordings")).unwrap();
    store.create(&recording_id(1)).unwrap();
    assert!(matches!(
        store.create(&recording_id(1)),
        Err(RecorderError::Io { .. })
    ));
    let path = directory
        .path()
        .join(format!("recordings/{}.spr", recording_id(1)));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

/// RE-12: the last of it becomes durable without anything further passing.
#[tokio::test]
async fn given_much_passes_at_once_then_all_of_it_becomes_durable_though_chunks_share_syncs() {
    let memory = Memory::default();
    let (recorder, writer) = start(&memory);
    let (running, mut chunks) = run(writer);
    let piece = vec![7_u8; CHUNK_BYTES];
    for _ in 0..8 {
        recorder.room().await;
        recorder.record(&output(&piece)).unwrap();
        // The writer takes each as a chunk of its own.
        while !recorder.shared.buffer().bytes.is_empty() {
            tokio::task::yield_now().await;
        }
    }
    while chunks.recv().await != Some(8) {}
    assert_eq!(read(&memory).0.len(), 8 * CHUNK_BYTES);
    recorder.close();
    let end = running.await.unwrap().unwrap();
    assert_eq!(end.anchor.unwrap().chunks, 9);
}

/// A disk whose syncs, after the header's, each wait for a test's word.
#[derive(Clone)]
struct SlowDisk {
    memory: Memory,
    appends: Arc<AtomicUsize>,
    is_header_synced: Arc<AtomicBool>,
    word: Arc<Mutex<Receiver<io::Result<()>>>>,
}

impl SlowDisk {
    fn new() -> (Self, SyncSender<io::Result<()>>) {
        let (say, word) = sync_channel(10);
        let disk = Self {
            memory: Memory::default(),
            appends: Arc::default(),
            is_header_synced: Arc::default(),
            word: Arc::new(Mutex::new(word)),
        };
        (disk, say)
    }
}

impl RecordingFile for SlowDisk {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.appends.fetch_add(1, Ordering::SeqCst);
        self.memory.append(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        if !self.is_header_synced.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        // A test that has gone lets everything pass.
        self.word.lock().unwrap().recv().unwrap_or(Ok(()))
    }
}

impl RecordingStore for SlowDisk {
    fn create(&self, _recording_id: &RecordingId) -> Result<Box<dyn RecordingFile>, RecorderError> {
        Ok(Box::new(self.clone()))
    }
}

/// Records chunks until the recorder has no room and the writer takes none; returns how many.
async fn record_until_held_back(recorder: &Recorder) -> usize {
    let piece = vec![7_u8; CHUNK_BYTES];
    let mut recorded = 0;
    while timeout(Duration::from_secs(2), recorder.room())
        .await
        .is_ok()
    {
        recorder.record(&output(&piece)).unwrap();
        recorded += 1;
        tokio::task::yield_now().await;
    }
    recorded
}

/// RE-12, R6: a slow disk does not stop what passes at once, and holds it back in the end.
#[tokio::test]
async fn given_a_sync_under_way_then_a_bounded_amount_is_appended_meanwhile_and_none_counts_as_durable()
 {
    let (disk, say) = SlowDisk::new();
    let (recorder, writer) = begin(&disk, recording_start(), Duration::from_secs(60)).unwrap();
    let (running, mut durable) = run(writer);
    let recorded = record_until_held_back(&recorder).await * CHUNK_BYTES;
    assert!(durable.try_recv().is_err(), "durable before a sync ended");
    assert!(recorded > writer::SYNC_BYTES * 2, "{recorded}");
    let bound = writer::UNSYNCED_BYTES_MAX + 2 * BUFFER_BYTES_MAX;
    assert!(recorded <= bound, "{recorded}");

    // The first sync covers what was appended before it began, not all.
    let appended = disk.appends.load(Ordering::SeqCst) as u64 - 1;
    say.send(Ok(())).unwrap();
    let first = durable.recv().await.unwrap();
    assert!(first < appended, "{first} of {appended}");
    drop(say);
    recorder.close();
    let end = running.await.unwrap().unwrap();
    assert!(end.failure.is_none(), "{:?}", end.failure);
    assert_eq!(
        read(&disk.memory).0.len(),
        recorded,
        "something that passed is missing"
    );
}

/// RE-12, R6
#[tokio::test]
async fn given_a_sync_that_fails_while_more_is_appended_then_the_recording_ends() {
    let (disk, say) = SlowDisk::new();
    let (recorder, writer) = begin(&disk, recording_start(), Duration::from_secs(60)).unwrap();
    let (running, _durable) = run(writer);
    record_until_held_back(&recorder).await;
    say.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
    let end = running.await.unwrap().unwrap();
    assert!(
        matches!(end.failure, Some(RecorderError::Io { .. })),
        "{:?}",
        end.failure
    );
    assert!(end.anchor.is_none());
    assert_eq!(recorder.record(&output(b"late")), Err(RecordingClosed));
}

/// RE-12, R6
#[tokio::test]
async fn given_a_sync_that_never_ends_then_the_recording_ends_in_its_time() {
    let (disk, _say) = SlowDisk::new();
    let (recorder, writer) = begin(&disk, recording_start(), Duration::from_secs(1)).unwrap();
    let (running, _durable) = run(writer);
    recorder.record(&output(b"kept waiting")).unwrap();
    let end = running.await.unwrap().unwrap();
    assert!(
        matches!(end.failure, Some(RecorderError::Stalled { timeout_s: 1 })),
        "{:?}",
        end.failure
    );
}
