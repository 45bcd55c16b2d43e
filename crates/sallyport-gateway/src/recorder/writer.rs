//! When a recording's chunks are appended and synced.
//!
//! A writer, part of its session's task, takes the buffer at 256 KiB or half a second after its first
//! frame and has it appended. A chunk that waited is synced at once; while much passes, several share a
//! sync, and the next are appended while it is under way, up to a bound.
//!
//! INVARIANT: after the first failure nothing more is appended and [`Writer::run`] returns. At most one
//! sync is under way, and what one covers was appended before it began. What is appended and not
//! durable is bounded, and one that takes too long is a failure.
//!
//! Not here: the file and its bytes (`sink`).

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sallyport_api::gateway as api;
use tokio::{
    task::JoinHandle,
    time::{Sleep, sleep, timeout},
};

use super::{
    RecorderError, Shared,
    sink::{Durable, Sink, Step},
};

/// A chunk is sealed this long after its first frame.
const CHUNK_AGE: Duration = Duration::from_millis(500);
/// The same while somebody is joined to the session, who sees it through its recording.
const HURRIED_CHUNK_AGE: Duration = Duration::from_millis(50);
/// Appended chunks are synced after this many bytes,
pub(super) const SYNC_BYTES: usize = 4 * 1024 * 1024;
/// or this long after the first of them was appended. With [`CHUNK_AGE`] a frame is on its way to the
/// disk within a second.
const SYNC_AGE: Duration = Duration::from_millis(400);
/// The session waits while this many bytes are appended and not durable: a power cut takes no more
/// than these, and the megabyte that waits to be sealed, from the evidence of what passed.
pub(super) const UNSYNCED_BYTES_MAX: usize = 4 * SYNC_BYTES;

/// How a recording ended.
#[derive(Debug)]
pub struct RecordingEnd {
    /// How far it is durable; nothing when not even one chunk is.
    pub anchor: Option<api::Anchor>,
    /// Why it ended early; nothing when it has its last chunk.
    pub failure: Option<RecorderError>,
}

/// The far end of a recording: seals and writes. Run it as part of the session's task.
pub struct Writer {
    shared: Arc<Shared>,
    /// Absent while a chunk is being written.
    sink: Option<Sink>,
    stall: Duration,
    anchor: Option<api::Anchor>,
    appended: Appended,
    syncing: Option<Syncing>,
    /// Something waits in the sink to be settled, in another round.
    holds: bool,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("anchor", &self.anchor)
            .finish_non_exhaustive()
    }
}

/// A sync under way, and no longer than it may take.
struct Syncing {
    running: Pin<Box<dyn Future<Output = Result<Durable, RecorderError>> + Send>>,
    bytes: usize,
}

/// What was appended since the last sync began.
#[derive(Default)]
struct Appended {
    bytes: usize,
    /// When it must be synced at the latest.
    due: Option<Pin<Box<Sleep>>>,
    /// It waited before it was appended, so it does not wait for others.
    is_late: bool,
}

impl Appended {
    fn add(&mut self, bytes: usize, is_late: bool) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.is_late |= is_late;
        self.due.get_or_insert_with(|| Box::pin(sleep(SYNC_AGE)));
    }

    fn is_due(&self) -> bool {
        let is_old = self.due.as_ref().is_some_and(|due| due.is_elapsed());
        is_old || self.is_late || self.bytes >= SYNC_BYTES
    }

    /// Resolves when a sync is due by its age; never while nothing was appended.
    async fn due(&mut self) {
        match &mut self.due {
            Some(due) => due.await,
            None => std::future::pending().await,
        }
    }
}

/// The result of the sync under way; never while there is none.
async fn synced(syncing: &mut Option<Syncing>) -> Result<Durable, RecorderError> {
    let Some(Syncing { running, .. }) = syncing else {
        return std::future::pending().await;
    };
    let result = running.await;
    *syncing = None;
    result
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, sink: Sink, stall: Duration) -> Self {
        Self {
            shared,
            sink: Some(sink),
            stall,
            anchor: None,
            appended: Appended::default(),
            syncing: None,
            holds: false,
        }
    }

    /// How far the recording is durable: its header, before [`Writer::run`].
    #[must_use]
    pub fn anchor(&self) -> Option<api::Anchor> {
        self.sink.as_ref().map(Sink::anchor)
    }

    /// Seals and writes until the recorder is closed or something fails. `on_durable` hears of every
    /// sync.
    pub async fn run(mut self, mut on_durable: impl FnMut(Durable)) -> RecordingEnd {
        let failure = self.write_all(&mut on_durable).await.err();
        if failure.is_some() {
            self.shared.close();
        }
        RecordingEnd {
            anchor: self.anchor.take(),
            failure,
        }
    }

    async fn write_all(
        &mut self,
        on_durable: &mut impl FnMut(Durable),
    ) -> Result<(), RecorderError> {
        loop {
            let step = self.gather(on_durable).await?;
            let is_last = step.is_last;
            self.append(step).await?;
            if is_last {
                self.settle(on_durable).await?;
                self.appended.is_late = true;
                self.sync_if_due()?;
                return self.settle(on_durable).await;
            }
            self.sync_if_due()?;
            while self.unsynced_bytes() >= UNSYNCED_BYTES_MAX {
                self.settle(on_durable).await?;
                self.sync_if_due()?;
            }
        }
    }

    fn unsynced_bytes(&self) -> usize {
        let syncing = self.syncing.as_ref().map_or(0, |syncing| syncing.bytes);
        self.appended.bytes.saturating_add(syncing)
    }

    /// Waits for the next thing to append. Syncs that end meanwhile are told of.
    async fn gather(
        &mut self,
        on_durable: &mut impl FnMut(Durable),
    ) -> Result<Step, RecorderError> {
        while !self.holds {
            let is_syncing = self.syncing.is_some();
            tokio::select! {
                () = self.shared.work.notified() => break,
                () = self.appended.due(), if !is_syncing => self.sync_if_due()?,
                result = synced(&mut self.syncing) => self.heard(result, on_durable)?,
            }
        }
        // Until there is a chunk's worth, the recorder is closed, or time is up.
        let age = match self.shared.is_hurried.load(Ordering::Relaxed) {
            true => HURRIED_CHUNK_AGE,
            false => CHUNK_AGE,
        };
        let mut up = std::pin::pin!(sleep(age));
        let waited = loop {
            tokio::select! {
                // No time need have passed for a full chunk.
                () = self.shared.chunk.notified() => break Duration::ZERO,
                () = &mut up => break age,
                result = synced(&mut self.syncing) => self.heard(result, on_durable)?,
            }
        };
        let (bytes, is_last) = {
            let mut buffer = self.shared.buffer();
            (std::mem::take(&mut buffer.bytes), buffer.is_closed)
        };
        self.shared.room.notify_waiters();
        Ok(Step {
            bytes,
            waited,
            is_last,
        })
    }

    async fn append(&mut self, step: Step) -> Result<(), RecorderError> {
        if step.bytes.is_empty() && !step.is_last && !self.holds {
            return Ok(());
        }
        let mut sink = self.sink.take().ok_or(RecorderError::Panicked)?;
        let bytes = step.bytes.len();
        // A chunk that is not full waited, and so did what had to be settled first.
        let is_late = !step.waited.is_zero() || step.bytes.is_empty();
        let write = tokio::task::spawn_blocking(move || {
            let result = sink.write(&step);
            (sink, result)
        });
        let (sink, result) = within(self.stall, write).await?;
        self.holds = sink.holds();
        self.sink = Some(sink);
        if result? {
            self.appended.add(bytes, is_late);
        }
        Ok(())
    }

    /// Begins a sync of what was appended, if it is due and none is under way.
    fn sync_if_due(&mut self) -> Result<(), RecorderError> {
        if self.syncing.is_some() || !self.appended.is_due() {
            return Ok(());
        }
        let unsynced = self.sink.as_mut().ok_or(RecorderError::Panicked)?;
        let unsynced = unsynced.unsynced();
        let stall = self.stall;
        let running = tokio::task::spawn_blocking(move || unsynced.sync());
        self.syncing = Some(Syncing {
            running: Box::pin(async move { within(stall, running).await? }),
            bytes: std::mem::take(&mut self.appended).bytes,
        });
        Ok(())
    }

    /// Waits for the sync under way, if there is one.
    async fn settle(&mut self, on_durable: &mut impl FnMut(Durable)) -> Result<(), RecorderError> {
        if self.syncing.is_none() {
            return Ok(());
        }
        let result = synced(&mut self.syncing).await;
        self.heard(result, on_durable)
    }

    fn heard(
        &mut self,
        result: Result<Durable, RecorderError>,
        on_durable: &mut impl FnMut(Durable),
    ) -> Result<(), RecorderError> {
        let durable = result?;
        self.anchor = Some(durable.anchor.clone());
        on_durable(durable);
        self.sync_if_due()
    }
}

/// What blocking work returns, unless the disk takes longer than `stall` over it.
async fn within<T>(stall: Duration, work: JoinHandle<T>) -> Result<T, RecorderError> {
    match timeout(stall, work).await {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(_)) => Err(RecorderError::Panicked),
        Err(_) => Err(RecorderError::Stalled {
            timeout_s: stall.as_secs(),
        }),
    }
}
