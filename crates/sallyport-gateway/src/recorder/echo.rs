//! Keeps keys that were typed and not shown out of a recording: passwords at a prompt, above all.
//!
//! Whether a terminal echoes is known at the target alone. What can be seen from here is whether a key
//! came back: text that was typed waits until output shows it, until the line it belongs to was answered
//! without showing it, or half a second. What was not shown by then is masked. Keys that are no text
//! (Enter, arrows, control characters) are never masked.
//!
//! It errs towards masking: keys that command a full-screen program are not shown either, and a target
//! that echoes later than half a second is taken for one that does not. What such keys did is in the
//! output. It cannot know better when something else prints the same letters meanwhile.
//!
//! INVARIANT: frames come out once and in order; of typed text, only what was shown. What waits is
//! bounded by [`WAITING_BYTES_MAX`], [`WAITING_FRAMES_MAX`] and [`WAIT_US`].
//!
//! Not here: patterns (`patterns`); which commands were typed, which is read off the screen.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use sallyport_evidence::recording::{Direction, Frame, FrameKind, NOT_ECHOED};
use sallyport_policy::Place;

use super::{
    RecorderError,
    redactor::{Digests, Store, decode_one, encode},
};

/// With more waiting, nothing more is waited for.
const WAITING_BYTES_MAX: usize = 1024 * 1024;
/// The same, in frames: small ones cost more than their bytes.
const WAITING_FRAMES_MAX: usize = 16 * 1024;
/// Typed text waits this long to be shown, in microseconds.
const WAIT_US: u64 = 500_000;

/// Keeps keys that were not shown out of a recording.
pub(super) struct EchoMask {
    digests: Arc<Digests>,
    terminals: HashMap<u32, Terminal>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// Number of the first frame that waits.
    first: u64,
}

enum Waiting {
    Typed {
        at_us: u64,
        channel: u32,
        bytes: Vec<u8>,
        marks: Vec<Mark>,
    },
    Other(Vec<u8>),
}

/// What becomes of one typed byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Kept,
    Open,
    Masked,
}

struct Terminal {
    keyboard: Place,
    screen: Place,
    typed: VecDeque<Typed>,
    /// Where in it the first Enter is. It is asked for with every byte shown.
    first_enter: Option<usize>,
    /// How much of the first line entered was shown in one piece so far.
    shown: usize,
    /// When lines were entered that were shown and not answered yet.
    unanswered: VecDeque<u64>,
    /// What is in [`Terminal::typed`] was typed before an earlier line was answered, so line feeds are
    /// that one's answer and say nothing.
    is_ahead: bool,
}

#[derive(Clone, Copy)]
struct Typed {
    at_us: u64,
    /// The frame, and the byte in it.
    place: (u64, usize),
    /// Absent for Enter.
    byte: Option<u8>,
}

impl EchoMask {
    pub(super) fn new(digests: Arc<Digests>) -> Self {
        Self {
            digests,
            terminals: HashMap::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            first: 0,
        }
    }

    /// Whether something waits to come out.
    pub(super) fn holds(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes a frame in. It comes out now or when it is settled.
    pub(super) fn push(
        &mut self,
        frame: &Frame<'_>,
        store: &mut Store<'_>,
    ) -> Result<(), RecorderError> {
        let mut settled = Vec::new();
        match (frame.kind, self.terminals.get_mut(&frame.channel)) {
            (FrameKind::ChannelOpened { pty: Some(_), .. }, None) => {
                self.terminals.insert(frame.channel, Terminal::new());
            }
            (FrameKind::Input(bytes), Some(terminal)) => {
                let number = self.first.saturating_add(self.waiting.len() as u64);
                let marks = terminal.type_keys(frame.at_us, number, bytes);
                if marks.contains(&Mark::Open) {
                    self.waiting_bytes = self.waiting_bytes.saturating_add(bytes.len());
                    self.waiting.push_back(Waiting::Typed {
                        at_us: frame.at_us,
                        channel: frame.channel,
                        bytes: bytes.to_vec(),
                        marks,
                    });
                    return Ok(());
                }
            }
            (FrameKind::Output(bytes) | FrameKind::ErrorOutput(bytes), Some(terminal)) => {
                terminal.show(bytes, &mut settled);
            }
            (FrameKind::ChannelClosed, Some(terminal)) => {
                terminal.give_up(|_| true, &mut settled);
                self.terminals.remove(&frame.channel);
            }
            _ => {}
        }
        if self.waiting.is_empty() {
            return store(frame);
        }
        let bytes = encode(frame)?;
        self.waiting_bytes = self.waiting_bytes.saturating_add(bytes.len());
        self.waiting.push_back(Waiting::Other(bytes));
        self.mark(&settled);
        self.release(store)
    }

    /// Masks what has waited long enough, or everything that waits, and lets out what is settled.
    pub(super) fn settle(
        &mut self,
        now_us: u64,
        is_last: bool,
        store: &mut Store<'_>,
    ) -> Result<(), RecorderError> {
        let is_crowded =
            self.waiting_bytes > WAITING_BYTES_MAX || self.waiting.len() > WAITING_FRAMES_MAX;
        let has_waited = |at_us: u64| now_us.saturating_sub(at_us) >= WAIT_US;
        let mut settled = Vec::new();
        for terminal in self.terminals.values_mut() {
            terminal.give_up(
                |at_us| is_last || is_crowded || has_waited(at_us),
                &mut settled,
            );
            terminal.unanswered.retain(|at_us| !has_waited(*at_us));
        }
        self.mark(&settled);
        self.release(store)
    }

    fn mark(&mut self, settled: &[((u64, usize), Mark)]) {
        for ((number, index), mark) in settled {
            let place = usize::try_from(number.saturating_sub(self.first)).unwrap_or(usize::MAX);
            if let Some(Waiting::Typed { marks, .. }) = self.waiting.get_mut(place)
                && let Some(slot) = marks.get_mut(*index)
            {
                *slot = *mark;
            }
        }
    }

    fn release(&mut self, store: &mut Store<'_>) -> Result<(), RecorderError> {
        loop {
            let is_open = |waiting: &Waiting| match waiting {
                Waiting::Typed { marks, .. } => marks.contains(&Mark::Open),
                Waiting::Other(_) => false,
            };
            if self.waiting.front().is_none_or(is_open) {
                return Ok(());
            }
            let Some(waiting) = self.waiting.pop_front() else {
                return Ok(());
            };
            self.first = self.first.saturating_add(1);
            let bytes = match &waiting {
                Waiting::Typed { bytes, .. } | Waiting::Other(bytes) => bytes.len(),
            };
            self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes);
            match waiting {
                Waiting::Other(bytes) => store(&decode_one(&bytes)?)?,
                Waiting::Typed {
                    at_us,
                    channel,
                    bytes,
                    marks,
                } => {
                    for (run, is_masked) in runs(&bytes, &marks) {
                        let kind = if is_masked {
                            FrameKind::Redacted {
                                direction: Direction::Input,
                                rule: NOT_ECHOED,
                                bytes: run.len() as u64,
                                digest: self.digests.of(NOT_ECHOED, run),
                            }
                        } else {
                            FrameKind::Input(run)
                        };
                        store(&Frame {
                            at_us,
                            channel,
                            kind,
                        })?;
                    }
                }
            }
        }
    }
}

/// Runs of bytes that are masked, or are not.
fn runs<'a>(bytes: &'a [u8], marks: &[Mark]) -> Vec<(&'a [u8], bool)> {
    let mut from = 0;
    marks
        .chunk_by(|a, b| (*a == Mark::Masked) == (*b == Mark::Masked))
        .map(|run| {
            let until = from + run.len();
            let found = bytes.get(from..until).unwrap_or_default();
            from = until;
            (found, run.first() == Some(&Mark::Masked))
        })
        .collect()
}

impl Terminal {
    const fn new() -> Self {
        Self {
            keyboard: Place::of_terminal(),
            screen: Place::of_terminal(),
            typed: VecDeque::new(),
            first_enter: None,
            shown: 0,
            unanswered: VecDeque::new(),
            is_ahead: false,
        }
    }

    fn type_keys(&mut self, at_us: u64, number: u64, bytes: &[u8]) -> Vec<Mark> {
        let mut marks = Vec::with_capacity(bytes.len());
        for (index, byte) in bytes.iter().enumerate() {
            let is_text = self.keyboard.pass_byte(*byte) && *byte >= b' ' && *byte != 0x7f;
            let is_enter = matches!(byte, b'\r' | b'\n') && !self.typed.is_empty();
            if is_enter {
                self.first_enter.get_or_insert(self.typed.len());
            }
            if is_text || is_enter {
                self.typed.push_back(Typed {
                    at_us,
                    place: (number, index),
                    byte: is_text.then_some(*byte),
                });
            }
            marks.push(if is_text { Mark::Open } else { Mark::Kept });
        }
        marks
    }

    fn show(&mut self, bytes: &[u8], settled: &mut Vec<((u64, usize), Mark)>) {
        for byte in bytes {
            if !self.screen.pass_byte(*byte) {
                continue;
            }
            match byte {
                b'\n' => self.end_line(settled),
                byte if *byte >= b' ' => self.show_text(*byte, settled),
                _ => {}
            }
        }
    }

    fn show_text(&mut self, byte: u8, settled: &mut Vec<((u64, usize), Mark)>) {
        let Some(entered) = self.first_enter else {
            // Still being typed: each key comes back by itself.
            if self
                .typed
                .front()
                .is_some_and(|typed| typed.byte == Some(byte))
            {
                self.settle_first(1, Mark::Kept, settled);
            }
            return;
        };
        // Entered already: letters of the answer are no echo, so the line counts whole or not at all.
        let is_next = |place: usize| {
            self.typed
                .get(place)
                .is_some_and(|typed| typed.byte == Some(byte))
        };
        self.shown = if is_next(self.shown) {
            self.shown.saturating_add(1)
        } else {
            usize::from(is_next(0))
        };
        if self.shown == entered {
            self.settle_first(entered, Mark::Kept, settled);
        }
    }

    /// A line feed: the first line entered is answered.
    fn end_line(&mut self, settled: &mut Vec<((u64, usize), Mark)>) {
        self.shown = 0;
        if self.unanswered.pop_front().is_some() || self.is_ahead {
            return;
        }
        if let Some(entered) = self.first_enter {
            self.settle_first(entered, Mark::Masked, settled);
            self.unanswered.pop_front();
        }
    }

    /// Gives up waiting for what was typed at a time that `is_over`.
    fn give_up(&mut self, is_over: impl Fn(u64) -> bool, settled: &mut Vec<((u64, usize), Mark)>) {
        let over = self
            .typed
            .iter()
            .take_while(|typed| is_over(typed.at_us))
            .count();
        self.settle_first(over, Mark::Masked, settled);
    }

    fn settle_first(&mut self, count: usize, mark: Mark, settled: &mut Vec<((u64, usize), Mark)>) {
        if count > 0 {
            self.shown = 0;
        }
        settled.extend(
            self.typed
                .drain(..count)
                .filter(|typed| typed.byte.is_some())
                .map(|typed| (typed.place, mark)),
        );
        // An Enter with nothing before it only waits for its line feed.
        while let Some(enter) = self.typed.pop_front_if(|typed| typed.byte.is_none()) {
            self.unanswered.push_back(enter.at_us);
            self.is_ahead = true;
        }
        if self.first_enter.is_some() {
            self.first_enter = self.typed.iter().position(|typed| typed.byte.is_none());
        }
        self.is_ahead &= !self.typed.is_empty();
    }
}
