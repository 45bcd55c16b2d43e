//! One channel of a session's recording.
//!
//! INVARIANT: bytes that `input`, `output` and `error_output` returned `Ok` for are in the recording,
//! in full or counted and hashed; others must not be forwarded. What is only counted and hashed is so in
//! the recording at least once a second while it passes: a recorder that fails is noticed then, and what a
//! crash leaves says how much had passed.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::digest::{Context, SHA256};
use sallyport_core::time::Timestamp;
use sallyport_evidence::recording::{Direction, FrameKind, Pty};
use tokio::sync::mpsc;

use super::{Session, SessionOver, Typed};

/// Bytes are recorded in pieces of this size, below a frame's limit.
const PIECE_BYTES: usize = 256 * 1024;

/// What passes without being kept is in the recording, as a note of its size and hash so far, this often.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// How much of a channel's bytes the recording keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Everything: terminals.
    Full,
    /// Up to the permit's content limit in each direction, the rest by size and hash: commands
    /// without a terminal, forwarded bytes.
    Limited,
    /// By size and hash only: file transfers, whose files are operations of their own.
    Digest,
}

/// What a channel is, as the recording's first frame of it says.
#[derive(Clone, Copy, Debug)]
pub struct ChannelOpening<'a> {
    /// The protocol's own word, such as `shell`, `exec`, `sftp`; at most 128 bytes.
    pub kind: &'a str,
    /// The terminal, if there is one. Commands typed there become operations by themselves.
    pub pty: Option<Pty<'a>>,
    /// The command of a channel without a prompt; at most 64 KiB.
    pub command: Option<&'a str>,
    /// How much is kept.
    pub content: Content,
}

/// One channel of a session's recording. Record first, forward after `Ok`. Dropping it closes the
/// channel in the recording.
#[derive(Debug)]
pub struct ChannelRecord {
    session: Arc<Session>,
    number: u32,
    content: Content,
    input: Mutex<Flow>,
    output: Mutex<Flow>,
    error_output: Mutex<Flow>,
    /// What joined people type; only where there is a terminal.
    typed: Option<tokio::sync::Mutex<mpsc::Receiver<Typed>>>,
}

/// One direction of a channel.
#[derive(Default)]
struct Flow {
    kept: u64,
    omitted: u64,
    /// Over what was omitted; absent while nothing was.
    digest: Option<Context>,
    /// When that was noted last, or began.
    noted_at: Option<Timestamp>,
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flow")
            .field("kept", &self.kept)
            .field("omitted", &self.omitted)
            .finish()
    }
}

impl Flow {
    /// Splits `bytes` into what is kept, up to `limit` in all, and what is only counted and hashed.
    fn take<'a>(&mut self, bytes: &'a [u8], limit: u64) -> &'a [u8] {
        let room = usize::try_from(limit.saturating_sub(self.kept)).unwrap_or(usize::MAX);
        let (kept, omitted) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
        self.kept = self.kept.saturating_add(kept.len() as u64);
        if !omitted.is_empty() {
            self.omitted = self.omitted.saturating_add(omitted.len() as u64);
            self.digest
                .get_or_insert_with(|| Context::new(&SHA256))
                .update(omitted);
        }
        kept
    }

    /// What there is to note about what was omitted so far, when it is time to.
    fn progress(&mut self, direction: Direction, now: Timestamp) -> Option<String> {
        let digest = self.digest.as_ref()?;
        let noted_at = *self.noted_at.get_or_insert(now);
        if now < noted_at.plus(PROGRESS_EVERY) {
            return None;
        }
        self.noted_at = Some(now);
        Some(format!(
            "{} bytes of {} so far not kept, sha256 {}",
            self.omitted,
            name(direction),
            hex::encode(digest.clone().finish())
        ))
    }

    fn omission(&mut self, direction: Direction) -> Option<FrameKind<'static>> {
        let digest = self.digest.take()?.finish();
        let mut sha256 = [0; 32];
        for (slot, byte) in sha256.iter_mut().zip(digest.as_ref()) {
            *slot = *byte;
        }
        Some(FrameKind::Omitted {
            direction,
            bytes: self.omitted,
            sha256,
        })
    }
}

/// As notes spell a direction.
const fn name(direction: Direction) -> &'static str {
    match direction {
        Direction::Input => "input",
        Direction::Output => "output",
        Direction::ErrorOutput => "error output",
    }
}

const fn content(direction: Direction, bytes: &[u8]) -> FrameKind<'_> {
    match direction {
        Direction::Input => FrameKind::Input(bytes),
        Direction::Output => FrameKind::Output(bytes),
        Direction::ErrorOutput => FrameKind::ErrorOutput(bytes),
    }
}

impl ChannelRecord {
    pub(super) fn new(
        session: Arc<Session>,
        number: u32,
        content: Content,
        has_terminal: bool,
    ) -> Self {
        let typed = has_terminal.then(|| session.state.add_terminal(number));
        Self {
            typed: typed.map(tokio::sync::Mutex::new),
            session,
            number,
            content,
            input: Mutex::default(),
            output: Mutex::default(),
            error_output: Mutex::default(),
        }
    }

    /// The channel's number in the recording: the `channel` of its operations.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// Records bytes from the client. Waits while the recorder is behind.
    ///
    /// # Errors
    /// [`SessionOver`]; the bytes must not be forwarded.
    pub async fn input(&self, bytes: &[u8]) -> Result<(), SessionOver> {
        self.pass(Direction::Input, bytes).await?;
        self.session.state.count_up(bytes.len());
        Ok(())
    }

    /// Records bytes from the target. Waits while the recorder is behind.
    ///
    /// # Errors
    /// [`SessionOver`]; the bytes must not be forwarded.
    pub async fn output(&self, bytes: &[u8]) -> Result<(), SessionOver> {
        self.pass(Direction::Output, bytes).await?;
        self.session.state.count_down(bytes.len());
        Ok(())
    }

    /// Records bytes from the target's standard error. Waits while the recorder is behind.
    ///
    /// # Errors
    /// [`SessionOver`]; the bytes must not be forwarded.
    pub async fn error_output(&self, bytes: &[u8]) -> Result<(), SessionOver> {
        self.pass(Direction::ErrorOutput, bytes).await?;
        self.session.state.count_down(bytes.len());
        Ok(())
    }

    /// The next thing that somebody who joined typed here. Waits for ever where there is no terminal.
    pub async fn typed(&self) -> Typed {
        let typed = match &self.typed {
            Some(typed) => typed.lock().await.recv().await,
            None => None,
        };
        match typed {
            Some(typed) => typed,
            None => std::future::pending().await,
        }
    }

    /// Records what somebody who joined typed, as theirs; says whether they still may type. Hold back
    /// other input meanwhile: the note that says whose it is stands before it.
    ///
    /// # Errors
    /// [`SessionOver`]; the bytes must not be forwarded.
    pub async fn typed_input(&self, typed: &Typed) -> Result<bool, SessionOver> {
        let state = &self.session.state;
        state.pass().await?;
        if !state.may_type(typed) {
            return Ok(false);
        }
        let bytes = typed.bytes();
        let note = format!("typed by {}: {} bytes", typed.person, bytes.len());
        state.record(self.number, FrameKind::Note(&note)).await?;
        self.keep(Direction::Input, bytes).await?;
        state.count_up(bytes.len());
        Ok(true)
    }

    /// Records anything else that happens on the channel: a new size, a signal, an exit status.
    ///
    /// # Errors
    /// [`SessionOver`].
    pub async fn event(&self, kind: FrameKind<'_>) -> Result<(), SessionOver> {
        // What the gateway says itself is no byte of either side.
        if !matches!(kind, FrameKind::Note(_)) {
            self.session.state.pass().await?;
        }
        self.session.state.record(self.number, kind).await
    }

    async fn pass(&self, direction: Direction, bytes: &[u8]) -> Result<(), SessionOver> {
        self.session.state.pass().await?;
        self.keep(direction, bytes).await
    }

    async fn keep(&self, direction: Direction, bytes: &[u8]) -> Result<(), SessionOver> {
        let state = &self.session.state;
        let limit = match self.content {
            Content::Full => u64::MAX,
            Content::Limited => state.content_limit_bytes(),
            Content::Digest => 0,
        };
        let (kept, progress) = {
            let flow = self.flow(direction);
            let mut flow = flow.lock().unwrap_or_else(PoisonError::into_inner);
            let kept = flow.take(bytes, limit);
            let has_omitted = flow.digest.is_some();
            let note = || flow.progress(direction, state.now());
            (kept, has_omitted.then(note).flatten())
        };
        for piece in kept.chunks(PIECE_BYTES) {
            state.record(self.number, content(direction, piece)).await?;
        }
        match progress {
            Some(note) => state.record(self.number, FrameKind::Note(&note)).await,
            None => Ok(()),
        }
    }

    const fn flow(&self, direction: Direction) -> &Mutex<Flow> {
        match direction {
            Direction::Input => &self.input,
            Direction::Output => &self.output,
            Direction::ErrorOutput => &self.error_output,
        }
    }
}

impl Drop for ChannelRecord {
    fn drop(&mut self) {
        let directions = [Direction::Input, Direction::Output, Direction::ErrorOutput];
        for direction in directions {
            let omission = self
                .flow(direction)
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .omission(direction);
            if let Some(omission) = omission {
                self.session.state.record_last(self.number, omission);
            }
        }
        self.session.state.remove_terminal(self.number);
        self.session
            .state
            .record_last(self.number, FrameKind::ChannelClosed);
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::digest;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// RE-14
        #[test]
        fn what_is_kept_and_what_is_hashed_together_are_exactly_what_passed(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..12),
            limit in 0_u64..200,
        ) {
            let all: Vec<u8> = pieces.concat();
            let mut flow = Flow::default();
            let kept: Vec<u8> =
                pieces.iter().flat_map(|piece| flow.take(piece, limit).to_vec()).collect();
            let omitted = &all[kept.len()..];
            prop_assert_eq!(&kept[..], &all[..kept.len()]);
            prop_assert_eq!(kept.len() as u64, limit.min(all.len() as u64));
            match flow.omission(Direction::Output) {
                None => prop_assert!(omitted.is_empty()),
                Some(FrameKind::Omitted { bytes, sha256, .. }) => {
                    prop_assert_eq!(bytes, omitted.len() as u64);
                    let expected = digest(&SHA256, omitted);
                    prop_assert_eq!(&sha256[..], expected.as_ref());
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
