//! Where in its stream a text stands: after which byte, and within which sequence of a terminal.
//!
//! Programs put escape sequences between the letters of a word to colour or to move it. A text of a
//! terminal is matched as if they were not there.
//!
//! INVARIANT: the place after a text does not depend on the pieces in which it was passed.

/// Longer control sequences are no longer taken for one.
const SEQUENCE_BYTES_MAX: u8 = 64;
const ESCAPE: u8 = 0x1b;

/// How far into an escape sequence of ECMA-48. What an operating system command or another string holds
/// counts as text: it is stored like any other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sequence {
    #[default]
    None,
    /// After ESC.
    Escape,
    /// After ESC and intermediate bytes.
    Intermediate,
    /// After `ESC [` and so many bytes.
    Control(u8),
}

impl Sequence {
    /// Takes in a byte; whether it is text.
    pub(super) fn pass(&mut self, byte: u8) -> bool {
        let (next, is_text) = match (*self, byte) {
            (_, ESCAPE) => (Self::Escape, false),
            (Self::None, _) => (Self::None, true),
            (Self::Escape, b'[') => (Self::Control(0), false),
            // Single shifts too: `ESC O` and a letter is an arrow or a function key.
            (Self::Escape, b'O') | (Self::Escape | Self::Intermediate, 0x20..=0x2f) => {
                (Self::Intermediate, false)
            }
            (Self::Escape | Self::Intermediate, 0x30..=0x7e) => (Self::None, false),
            (Self::Control(bytes), 0x20..=0x3f) if bytes < SEQUENCE_BYTES_MAX => {
                (Self::Control(bytes.saturating_add(1)), false)
            }
            (Self::Control(_), 0x40..=0x7e) => (Self::None, false),
            // No sequence after all.
            (Self::Escape | Self::Intermediate | Self::Control(_), _) => (Self::None, true),
        };
        *self = next;
        is_text
    }
}

/// Where in its stream a text stands.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The last byte of text before.
    pub(super) before: Option<u8>,
    /// Absent in a stream without a terminal.
    pub(super) sequence: Option<Sequence>,
}

impl Place {
    /// The beginning of a stream in which every byte is text.
    #[must_use]
    pub const fn of_bytes() -> Self {
        Self {
            before: None,
            sequence: None,
        }
    }

    /// The beginning of a terminal's stream.
    #[must_use]
    pub const fn of_terminal() -> Self {
        Self {
            before: None,
            sequence: Some(Sequence::None),
        }
    }

    /// Moves behind one byte; whether it is text.
    pub fn pass_byte(&mut self, byte: u8) -> bool {
        let is_text = self
            .sequence
            .as_mut()
            .is_none_or(|sequence| sequence.pass(byte));
        if is_text {
            self.before = Some(byte);
        }
        is_text
    }

    /// Moves behind `passed`.
    pub fn pass(&mut self, passed: &[u8]) {
        match &mut self.sequence {
            Some(sequence) if *sequence != Sequence::None || passed.contains(&ESCAPE) => {
                for byte in passed {
                    if sequence.pass(*byte) {
                        self.before = Some(*byte);
                    }
                }
            }
            Some(_) | None => self.before = passed.last().copied().or(self.before),
        }
    }

    /// Whether the next byte is text, unless it begins a sequence.
    pub(super) fn is_text(self) -> bool {
        matches!(self.sequence, None | Some(Sequence::None))
    }

    /// Whether matches in `text` may leave bytes out: sequences, or the break that a line editor draws
    /// at the right edge.
    pub(super) fn may_skip(self, text: &[u8]) -> bool {
        self.sequence.is_some()
            && (!self.is_text()
                || text.contains(&ESCAPE)
                || text.windows(2).any(|pair| pair == b" \r"))
    }
}
