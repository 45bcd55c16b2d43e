//! One connection to control: frames in both directions, and the calls that wait for an answer on it.
//!
//! INVARIANT: a call waits on the connection it was sent on; when that breaks, it fails.

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::BytesMut;
use sallyport_api::gateway::{self as api, FromControl, FromGateway, Reply};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::unix::{OwnedReadHalf, OwnedWriteHalf},
    sync::{mpsc, oneshot},
    time::timeout,
};
use zeroize::Zeroize as _;

/// Frames are written together up to this size.
const WRITE_BYTES: usize = 256 * 1024;

/// Why a connection to control ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("connect to control at `{path}`")]
    Connect { path: PathBuf, source: io::Error },
    #[error("{attempt} control")]
    Io {
        attempt: &'static str,
        source: io::Error,
    },
    #[error("{attempt} control")]
    Frame {
        attempt: &'static str,
        source: api::FrameError,
    },
    #[error("control closed the connection")]
    Closed,
    #[error("wait for a sign of life of control within {silence_s} s")]
    Silent { silence_s: u64 },
    #[error("control refuses this gateway: {message}")]
    Refused { message: String },
}

type Pending = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Reply>>>>>;

/// A connection that works.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) outgoing: mpsc::Sender<FromGateway>,
    /// Calls that wait for their answer; nothing once the connection broke.
    pending: Pending,
}

impl Link {
    /// A link, and the frames to write for it.
    pub(super) fn new(in_flight_max: usize) -> (Self, mpsc::Receiver<FromGateway>) {
        let (outgoing, frames) = mpsc::channel(in_flight_max);
        let pending = Arc::new(Mutex::new(Some(HashMap::new())));
        (Self { outgoing, pending }, frames)
    }

    /// Lets every waiting call fail, and every new one.
    pub(super) fn hang_up(&self) {
        self.pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    /// Hands an answer to its call. Nobody waits for the answer to a call that timed out.
    pub(super) fn answer(&self, id: u64, reply: Reply) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = pending.as_mut().and_then(|calls| calls.remove(&id)) {
            let _ = waiting.send(reply);
        }
    }

    /// Announces call `id`; nothing when the connection has broken.
    pub(super) fn expect_answer(&self, id: u64) -> Option<Answer> {
        let (sender, receiver) = oneshot::channel();
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.as_mut()?.insert(id, sender);
        Some(Answer {
            id,
            receiver,
            pending: Arc::clone(&self.pending),
        })
    }
}

/// An answer that is waited for; forgotten when the caller gives up.
pub(super) struct Answer {
    id: u64,
    receiver: oneshot::Receiver<Reply>,
    pending: Pending,
}

impl Answer {
    /// The answer; nothing when the connection broke first.
    pub(super) async fn wait(mut self) -> Option<Reply> {
        (&mut self.receiver).await.ok()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(calls) = pending.as_mut() {
            calls.remove(&self.id);
        }
    }
}

/// Frames from control.
pub(super) struct FrameReader {
    stream: OwnedReadHalf,
    buffer: BytesMut,
}

impl FrameReader {
    pub(super) fn new(stream: OwnedReadHalf) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
        }
    }

    /// The next frame, if nothing less than `silence` passes without a byte. The buffer never grows past one frame's limit, because a longer one is
    /// refused by its length.
    pub(super) async fn next(&mut self, silence: Duration) -> Result<FromControl, LinkError> {
        loop {
            let frame = api::decode_frame(&mut self.buffer).map_err(|source| LinkError::Frame {
                attempt: "understand",
                source,
            })?;
            if let Some(frame) = frame {
                return Ok(frame);
            }
            let read = timeout(silence, self.stream.read_buf(&mut self.buffer)).await;
            match read {
                Ok(Ok(0)) => return Err(LinkError::Closed),
                Ok(Ok(_)) => {}
                Ok(Err(source)) => {
                    return Err(LinkError::Io {
                        attempt: "read from",
                        source,
                    });
                }
                Err(_) => {
                    return Err(LinkError::Silent {
                        silence_s: silence.as_secs(),
                    });
                }
            }
        }
    }
}

/// Writes one frame and nothing else, within `patience`.
pub(super) async fn write_one(
    stream: &mut OwnedWriteHalf,
    frame: &FromGateway,
    patience: Duration,
) -> Result<(), LinkError> {
    let mut bytes = BytesMut::new();
    encode(frame, &mut bytes)?;
    write_all(stream, &mut bytes, patience).await
}

/// Writes frames, those that wait together, until the connection breaks.
pub(super) async fn write(
    mut stream: OwnedWriteHalf,
    mut outgoing: mpsc::Receiver<FromGateway>,
    patience: Duration,
) -> LinkError {
    let mut bytes = BytesMut::new();
    while let Some(frame) = outgoing.recv().await {
        let mut next = Some(frame);
        while let Some(frame) = next.take() {
            if let Err(error) = encode(&frame, &mut bytes) {
                return error;
            }
            if bytes.len() < WRITE_BYTES {
                next = outgoing.try_recv().ok();
            }
        }
        if let Err(error) = write_all(&mut stream, &mut bytes, patience).await {
            return error;
        }
    }
    LinkError::Closed
}

fn encode(frame: &FromGateway, bytes: &mut BytesMut) -> Result<(), LinkError> {
    api::encode_frame(frame, bytes).map_err(|source| LinkError::Frame {
        attempt: "write to",
        source,
    })
}

async fn write_all(
    stream: &mut OwnedWriteHalf,
    bytes: &mut BytesMut,
    patience: Duration,
) -> Result<(), LinkError> {
    let written = timeout(patience, stream.write_all(bytes))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    // A password may have been in it.
    bytes.as_mut().zeroize();
    bytes.clear();
    written.map_err(|source| LinkError::Io {
        attempt: "write to",
        source,
    })
}
