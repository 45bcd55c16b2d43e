//! Moves messages between a client and a target that both let each other in: one direction each, in one
//! task.
//!
//! A message is found by its header. Those that carry SQL, or say what a name stands for, are read and
//! decided on; rows and copied data pass as they come. What is forwarded is a run of the very bytes that
//! were read, recorded before, as many messages at once as were read together.
//!
//! INVARIANT: a byte reaches the target only after its message was let through and it was recorded; kinds
//! of message that are not known end the session.
//!
//! Not here: which answer belongs to which message (`pipeline`).

mod down;
mod pipeline;
mod up;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, mpsc},
};

pub(super) use self::pipeline::Unasked;
use self::{down::Down, pipeline::Pipeline, up::Up};
use super::{cancel::Cancellable, codec::CodecError, mask::Catalog};
use crate::{
    session::{ChannelRecord, Session, SessionOver, Words},
    statement::Shapes,
    stream::{READ_BYTES_MIN, fill},
};

/// Lines that wait to be said.
const LINES_MAX: usize = 16;

/// Why moving messages ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum RelayError {
    /// The client said goodbye, or left.
    #[error("go on without the client")]
    ClientLeft,
    /// The target said goodbye, or left.
    #[error("go on without the target")]
    TargetLeft,
    /// The session is over.
    #[error("go on with a session that is over")]
    Over(#[from] SessionOver),
    /// The client's message is none, or has no place here.
    #[error("follow the client")]
    Client(#[source] CodecError),
    /// The client says something that is not known here.
    #[error("follow a client that says `{kind}`")]
    ClientKind {
        /// The kind of its message.
        kind: char,
    },
    /// The target's message is none, or has no place here.
    #[error("follow the target")]
    Target(#[source] CodecError),
    /// The target answers what nobody asked.
    #[error("follow the target")]
    Unasked(#[from] Unasked),
    /// The target lets a session write that only reads.
    #[error("go on with a session that may write")]
    MayWrite,
    /// The target turned to an encoding in which SQL is not what it seems.
    #[error("go on in an encoding in which SQL is not what it seems")]
    Encoding,
}

/// What both directions of one session share.
pub(super) struct Relay {
    session: Arc<Session>,
    record: ChannelRecord,
    /// The one that is used.
    database: String,
    shapes: Shapes,
    pipeline: Mutex<Pipeline>,
    /// The target has answered something.
    answered: Notify,
    /// Something was sent to the target that is limited in time.
    begun: Notify,
    /// Something is to be sent to the target that fails.
    failing: Notify,
    /// How the target is asked to stop what it does.
    stop: Option<Arc<Cancellable>>,
    /// What is masked in its database, as it was when the session began.
    catalog: Option<Arc<Catalog>>,
    /// The client wants what it asked last to stop.
    interrupted: Arc<Notify>,
    /// What is said to the client besides.
    lines: mpsc::Sender<String>,
    lines_said: tokio::sync::Mutex<mpsc::Receiver<String>>,
    /// Everything that was sent to the client ends where a message ends.
    is_between: AtomicBool,
}

impl Relay {
    pub(super) fn new(
        session: Arc<Session>,
        record: ChannelRecord,
        database: String,
        interrupted: Arc<Notify>,
        stop: Option<Arc<Cancellable>>,
        catalog: Option<Catalog>,
    ) -> Self {
        let (lines, lines_said) = mpsc::channel(LINES_MAX);
        Self {
            interrupted,
            lines,
            lines_said: tokio::sync::Mutex::new(lines_said),
            session,
            record,
            database,
            shapes: Shapes::default(),
            pipeline: Mutex::default(),
            answered: Notify::new(),
            begun: Notify::new(),
            failing: Notify::new(),
            stop,
            catalog: catalog.map(Arc::new),
            is_between: AtomicBool::new(true),
        }
    }

    fn pipeline(&self) -> MutexGuard<'_, Pipeline> {
        self.pipeline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is masked now; nothing when that is not known, and then no statement may run.
    fn known_masks(&self) -> Option<&Catalog> {
        let catalog = self.catalog.as_deref()?;
        catalog.is_for(&self.session.masks()).then_some(catalog)
    }

    /// Says something to the client where a message ends. One that does not read hears less.
    fn say(&self, text: String) {
        let _ = self.lines.try_send(text);
    }

    async fn next_line(&self) -> String {
        match self.lines_said.lock().await.recv().await {
            Some(line) => line,
            None => std::future::pending().await,
        }
    }

    /// Whether the client would understand something of ours now.
    pub(super) fn may_say(&self) -> bool {
        self.is_between.load(Ordering::Acquire)
    }

    /// Whether the target is working on something.
    pub(super) fn is_busy(&self) -> bool {
        !self.pipeline().is_idle()
    }

    /// Whether the target itself has said why the connection ends.
    pub(super) fn is_explained(&self) -> bool {
        self.pipeline().is_over
    }

    /// Moves messages from the client to the target until one of them leaves.
    pub(super) async fn up<R, W>(&self, client: R, target: W, rest: BytesMut) -> RelayError
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut up = Up::new(self, client, target, rest);
        match up.run().await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    /// Moves messages from the target to the client until one of them leaves. Says `words` in between.
    pub(super) async fn down<R, W>(
        &self,
        target: R,
        client: W,
        rest: BytesMut,
        words: Words,
    ) -> RelayError
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut down = Down::new(self, client, target, rest, words);
        match down.run().await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }
}

/// Nothing: a direction ends by an error alone.
enum Never {}
