//! Keeps what rules match out of a recording: content by content stream, across frames, in order.
//!
//! Most content holds no match and passes through without being copied. From the first byte that may
//! belong to one, content waits until its stream says what it is; everything recorded after it waits
//! too, so the order of frames stays.
//!
//! INVARIANT: bytes come out once, in order, unchanged or as part of a redaction; a match comes out as a
//! redaction in the place of its first byte. What waits is bounded by [`WAITING_BYTES_MAX`],
//! [`WAITING_FRAMES_MAX`] and [`WAIT_US`]: beyond any, a match whose beginning is certain is redacted as it arrives, and what is
//! not certain passes.
//!
//! Not here: what matches (`sallyport-policy`), keys that were not shown (`echo`).

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use sallyport_evidence::recording::{Direction, Frame, FrameKind, Pty, redaction_mark};
use sallyport_policy::{Begun, Found, Place, RuleSet, TextEnd};

use super::{
    RecorderError,
    redactor::{Digests, Store, decode_one, encode},
};

/// More than this waits for nobody.
const WAITING_BYTES_MAX: usize = 1024 * 1024;
/// The same, in frames: small ones cost more than their bytes.
const WAITING_FRAMES_MAX: usize = 16 * 1024;
/// Content waits this long for its end, in microseconds.
const WAIT_US: u64 = 500_000;
/// Longest text of a frame.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// Keeps what rules match out of a recording.
pub(super) struct Patterns {
    rules: Arc<RuleSet>,
    digests: Arc<Digests>,
    streams: HashMap<(u32, u8), Stream>,
    terminals: HashSet<u32>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
}

/// One direction of one channel.
struct Stream {
    /// Content that has not come out, and until the end of a round what has.
    window: Vec<u8>,
    /// Offset in the stream of the window's first byte.
    base: u64,
    /// Up to here content has come out.
    out: u64,
    /// Up to here it is settled what becomes of content.
    settled: u64,
    /// Where [`Stream::settled`] stands.
    place: Place,
    /// A match that is redacted as it arrives.
    begun: Option<Begun>,
    redactions: VecDeque<Redaction>,
    /// The offset that waits, and since when.
    waits: Option<(u64, u64)>,
    has_ended: bool,
}

struct Redaction {
    start: u64,
    end: u64,
    rule: Arc<str>,
    digest: [u8; 32],
}

/// What comes out later.
enum Waiting {
    /// Bytes of a stream's window.
    Content {
        at_us: u64,
        channel: u32,
        direction: Direction,
        start: u64,
        end: u64,
    },
    /// Any other frame, encoded.
    Other(Vec<u8>),
}

impl Patterns {
    pub(super) fn new(rules: Arc<RuleSet>, digests: Arc<Digests>) -> Self {
        Self {
            rules,
            digests,
            streams: HashMap::new(),
            terminals: HashSet::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
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
        if self.rules.is_empty() {
            return store(frame);
        }
        if let Some((direction, bytes)) = content(frame.kind) {
            return self.push_content(frame, direction, bytes, store);
        }
        match frame.kind {
            FrameKind::ChannelOpened { pty: Some(_), .. } => {
                self.terminals.insert(frame.channel);
            }
            FrameKind::ChannelClosed => self.end(frame.channel, |_| true),
            FrameKind::Omitted { direction, .. } => {
                self.end(frame.channel, |code| code == code_of(direction));
            }
            _ => {}
        }
        let texts = Texts::of(&self.rules, frame.kind);
        let frame = Frame {
            kind: texts.kind(frame.kind),
            ..*frame
        };
        if self.waiting.is_empty() {
            self.forget_closed(&frame);
            return store(&frame);
        }
        let bytes = encode(&frame)?;
        self.waiting_bytes = self.waiting_bytes.saturating_add(bytes.len());
        self.waiting.push_back(Waiting::Other(bytes));
        Ok(())
    }

    fn push_content(
        &mut self,
        frame: &Frame<'_>,
        direction: Direction,
        bytes: &[u8],
        store: &mut Store<'_>,
    ) -> Result<(), RecorderError> {
        let is_terminal = self.terminals.contains(&frame.channel);
        let stream = self
            .streams
            .entry((frame.channel, code_of(direction)))
            .or_insert_with(|| Stream::new(is_terminal));
        if self.waiting.is_empty()
            && stream.begun.is_none()
            && matches!(
                self.rules.scan(bytes, stream.place, TextEnd::Open),
                Found::Nothing
            )
        {
            stream.place.pass(bytes);
            stream.base = stream.base.saturating_add(bytes.len() as u64);
            stream.settled = stream.base;
            return store(frame);
        }
        let start = stream.base.saturating_add(stream.window.len() as u64);
        stream.window.extend_from_slice(bytes);
        self.waiting_bytes = self.waiting_bytes.saturating_add(bytes.len());
        self.waiting.push_back(Waiting::Content {
            at_us: frame.at_us,
            channel: frame.channel,
            direction,
            start,
            end: start.saturating_add(bytes.len() as u64),
        });
        Ok(())
    }

    /// Settles what can be, or everything, and lets it out. Called once for many frames, so that what
    /// waits is looked at once and not with every byte that joins it.
    pub(super) fn settle(
        &mut self,
        now_us: u64,
        is_last: bool,
        store: &mut Store<'_>,
    ) -> Result<(), RecorderError> {
        let is_crowded =
            self.waiting_bytes > WAITING_BYTES_MAX || self.waiting.len() > WAITING_FRAMES_MAX;
        for stream in self.streams.values_mut() {
            if !stream.window.is_empty() {
                let is_cut = is_last || is_crowded || stream.has_ended;
                stream.settle(&self.rules, &self.digests, now_us, is_cut);
            }
        }
        self.release(store)
    }

    fn release(&mut self, store: &mut Store<'_>) -> Result<(), RecorderError> {
        while let Some(waiting) = self.waiting.front_mut() {
            match waiting {
                Waiting::Other(bytes) => {
                    let bytes = std::mem::take(bytes);
                    self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes.len());
                    self.waiting.pop_front();
                    let frame = decode_one(&bytes)?;
                    self.forget_closed(&frame);
                    store(&frame)?;
                }
                Waiting::Content {
                    at_us,
                    channel,
                    direction,
                    start,
                    end,
                } => {
                    let Some(stream) = self.streams.get_mut(&(*channel, code_of(*direction)))
                    else {
                        self.waiting.pop_front();
                        continue;
                    };
                    let until = stream.settled.min(*end);
                    let (at_us, channel, direction) = (*at_us, *channel, *direction);
                    let mut emit = |kind: FrameKind<'_>| {
                        store(&Frame {
                            at_us,
                            channel,
                            kind,
                        })
                    };
                    stream.emit(*start, until, direction, &mut emit)?;
                    let passed = until.saturating_sub(*start);
                    self.waiting_bytes = self
                        .waiting_bytes
                        .saturating_sub(usize::try_from(passed).unwrap_or(usize::MAX));
                    if until < *end {
                        *start = until;
                        break;
                    }
                    self.waiting.pop_front();
                }
            }
        }
        self.streams.values_mut().for_each(Stream::shrink);
        Ok(())
    }

    fn end(&mut self, channel: u32, is_meant: impl Fn(u8) -> bool) {
        for ((of, direction), stream) in &mut self.streams {
            stream.has_ended |= *of == channel && is_meant(*direction);
        }
    }

    fn forget_closed(&mut self, frame: &Frame<'_>) {
        if matches!(frame.kind, FrameKind::ChannelClosed) {
            self.terminals.remove(&frame.channel);
            self.streams
                .retain(|(channel, _), _| *channel != frame.channel);
        }
    }
}

impl Stream {
    fn new(is_terminal: bool) -> Self {
        Self {
            window: Vec::new(),
            base: 0,
            out: 0,
            settled: 0,
            place: if is_terminal {
                Place::of_terminal()
            } else {
                Place::of_bytes()
            },
            begun: None,
            redactions: VecDeque::new(),
            waits: None,
            has_ended: false,
        }
    }

    fn index(&self, offset: u64) -> usize {
        usize::try_from(offset.saturating_sub(self.base)).unwrap_or(usize::MAX)
    }

    fn settle(&mut self, rules: &RuleSet, digests: &Digests, now_us: u64, is_cut: bool) {
        let has_waited = self.waits.is_some_and(|(offset, since_us)| {
            offset == self.settled && now_us.saturating_sub(since_us) >= WAIT_US
        });
        let end = if is_cut || has_waited {
            TextEnd::Cut
        } else {
            TextEnd::Open
        };
        loop {
            let window = std::mem::take(&mut self.window);
            let text = window.get(self.index(self.settled)..).unwrap_or_default();
            let goes_on = !text.is_empty() && self.step(rules, digests, text, end);
            self.window = window;
            if !goes_on {
                break;
            }
        }
        let is_all = self.index(self.settled) >= self.window.len();
        self.waits = match self.waits {
            _ if is_all => None,
            Some((offset, since_us)) if offset == self.settled => Some((offset, since_us)),
            Some(_) | None => Some((self.settled, now_us)),
        };
    }

    /// Settles one piece more; whether there may be another.
    fn step(&mut self, rules: &RuleSet, digests: &Digests, text: &[u8], end: TextEnd) -> bool {
        if let Some(begun) = &mut self.begun {
            let rule = Arc::clone(begun.rule());
            let (bytes, is_over) = rules.resume(begun, text);
            if is_over {
                self.begun = None;
            }
            self.redact(digests, text, bytes, rule);
            return is_over;
        }
        match rules.scan(text, self.place, end) {
            Found::Nothing => {
                self.pass(text, text.len());
                false
            }
            Found::Match { start, end, rule } => {
                self.pass(text, start);
                let text = text.get(start..).unwrap_or_default();
                self.redact(digests, text, end.saturating_sub(start), rule);
                true
            }
            Found::Open { start, begun } => {
                self.pass(text, start);
                if end == TextEnd::Cut {
                    let text = text.get(start..).unwrap_or_default();
                    self.redact(digests, text, text.len(), Arc::clone(begun.rule()));
                    self.begun = Some(begun);
                }
                false
            }
        }
    }

    fn pass(&mut self, text: &[u8], bytes: usize) {
        self.place.pass(text.get(..bytes).unwrap_or_default());
        self.settled = self.settled.saturating_add(bytes as u64);
    }

    fn redact(&mut self, digests: &Digests, text: &[u8], bytes: usize, rule: Arc<str>) {
        if bytes == 0 {
            return;
        }
        let start = self.settled;
        self.pass(text, bytes);
        self.redactions.push_back(Redaction {
            start,
            end: self.settled,
            digest: digests.of(&rule, text.get(..bytes).unwrap_or_default()),
            rule,
        });
    }

    /// Lets content out, from `start` to `until`.
    fn emit(
        &mut self,
        mut start: u64,
        until: u64,
        direction: Direction,
        emit: &mut dyn FnMut(FrameKind<'_>) -> Result<(), RecorderError>,
    ) -> Result<(), RecorderError> {
        while start < until {
            let next = self.redactions.front();
            let clear = next.map_or(until, |next| next.start.clamp(start, until));
            if clear > start {
                let range = self.index(start)..self.index(clear);
                let bytes = self.window.get(range).unwrap_or_default();
                emit(kind_of(direction, bytes))?;
            }
            start = clear;
            let Some(next) = next.filter(|next| next.start <= start && start < until) else {
                continue;
            };
            // One frame says it all, where the match began; what was in frames after it is gone.
            if next.start == start {
                emit(FrameKind::Redacted {
                    direction,
                    rule: &next.rule,
                    bytes: next.end.saturating_sub(next.start),
                    digest: next.digest,
                })?;
            }
            start = next.end.min(until);
            if next.end <= until {
                self.redactions.pop_front();
            }
        }
        self.out = self.out.max(until);
        Ok(())
    }

    /// Drops what has come out, once for many frames, and gives memory back: most streams hold nothing
    /// most of the time.
    fn shrink(&mut self) {
        let out = self.index(self.out).min(self.window.len());
        self.window.drain(..out);
        self.base = self.base.max(self.out);
        if self.window.is_empty() {
            self.window = Vec::new();
        }
    }
}

const fn code_of(direction: Direction) -> u8 {
    match direction {
        Direction::Input => 0,
        Direction::Output => 1,
        Direction::ErrorOutput => 2,
    }
}

fn content(kind: FrameKind<'_>) -> Option<(Direction, &[u8])> {
    match kind {
        FrameKind::Input(bytes) => Some((Direction::Input, bytes)),
        FrameKind::Output(bytes) => Some((Direction::Output, bytes)),
        FrameKind::ErrorOutput(bytes) => Some((Direction::ErrorOutput, bytes)),
        _ => None,
    }
}

fn kind_of(direction: Direction, bytes: &[u8]) -> FrameKind<'_> {
    match direction {
        Direction::Input => FrameKind::Input(bytes),
        Direction::Output => FrameKind::Output(bytes),
        Direction::ErrorOutput => FrameKind::ErrorOutput(bytes),
    }
}

/// The texts of a frame that is no content, redacted.
struct Texts<'a>([Option<Cow<'a, str>>; 2]);

impl<'a> Texts<'a> {
    fn of(rules: &RuleSet, kind: FrameKind<'a>) -> Self {
        let clean = |text| Some(redact_text(rules, text, TEXT_BYTES_MAX));
        Self(match kind {
            FrameKind::ChannelOpened { command, .. } => [command.and_then(clean), None],
            FrameKind::Note(text) => [clean(text), None],
            FrameKind::ExitSignal { message, .. } => [None, clean(message)],
            _ => [None, None],
        })
    }

    fn kind<'b>(&'b self, kind: FrameKind<'b>) -> FrameKind<'b> {
        match (kind, &self.0) {
            (FrameKind::ChannelOpened { kind, pty, .. }, [command, _]) => {
                let pty: Option<Pty<'_>> = pty;
                FrameKind::ChannelOpened {
                    kind,
                    pty,
                    command: command.as_deref(),
                }
            }
            (FrameKind::Note(_), [Some(text), _]) => FrameKind::Note(text),
            (
                FrameKind::ExitSignal {
                    name, core_dumped, ..
                },
                [_, Some(message)],
            ) => FrameKind::ExitSignal {
                name,
                core_dumped,
                message,
            },
            (kind, _) => kind,
        }
    }
}

/// `text` with marks in the place of what `rules` match, at most `bytes_max` long.
pub(crate) fn redact_text<'a>(rules: &RuleSet, text: &'a str, bytes_max: usize) -> Cow<'a, str> {
    let found = rules.find_all(text.as_bytes());
    if found.is_empty() {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut redacted = Vec::with_capacity(bytes.len());
    let mut from = 0;
    for (range, rule) in found {
        redacted.extend_from_slice(bytes.get(from..range.start).unwrap_or_default());
        redacted.extend_from_slice(redaction_mark(&rule, range.len() as u64).as_bytes());
        from = range.end;
    }
    redacted.extend_from_slice(bytes.get(from..).unwrap_or_default());
    // A match may begin or end in the middle of a character.
    let mut redacted = String::from_utf8_lossy(&redacted).into_owned();
    redacted.truncate(redacted.floor_char_boundary(bytes_max));
    Cow::Owned(redacted)
}
