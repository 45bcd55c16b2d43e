//! Frames: the smallest things a recording holds, and their binary form.
//!
//! The gateway makes a [`Frame`] of everything that passes; the sealer encodes it, every reader
//! decodes it. Bytes are borrowed on both sides: encoding copies them once, into the chunk being
//! filled, and decoding not at all.
//!
//! INVARIANT: decoding accepts exactly what encoding produces. Numbers are in their shortest form,
//! lengths fit the frame, nothing is left over, so two different byte strings never mean the same.
//!
//! Not here: order and time across frames (`chunk`, `container`), meaning of an operation's JSON.

mod parts;

use self::parts::{Parts, put_text, put_varint};

/// Largest encoded frame, its length prefix left out. A longer transfer is several frames.
pub const MAX_FRAME_BYTES: usize = 1024 * 1024;

/// The channel of frames that belong to the session as a whole, such as notes before the first
/// channel is opened.
pub const SESSION_CHANNEL: u32 = u32::MAX;

const MAX_NAME_BYTES: usize = 128;
const MAX_TEXT_BYTES: usize = 64 * 1024;

/// The rule of bytes that a terminal's user typed and the terminal did not show.
pub const NOT_ECHOED: &str = "not-echoed";

/// What stands in a text for `bytes` bytes that `rule` kept out of the recording.
#[must_use]
pub fn redaction_mark(rule: &str, bytes: u64) -> String {
    format!("[redacted {rule}: {bytes} bytes]")
}

/// One thing that happened in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Microseconds since the session started. Never decreases within a recording.
    pub at_us: u64,
    /// The channel it happened on, numbered by the gateway from 0 and never reused in a session.
    pub channel: u32,
    /// What happened.
    pub kind: FrameKind<'a>,
}

/// What a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind<'a> {
    /// A channel was opened and allowed.
    ChannelOpened {
        /// The protocol's own word, such as `session` or `direct-tcpip`; at most 128 bytes.
        kind: &'a str,
        /// The terminal, if the client asked for one.
        pty: Option<Pty<'a>>,
        /// The command of a non-interactive channel; at most 64 KiB.
        command: Option<&'a str>,
    },
    /// Bytes from the client to the target.
    Input(&'a [u8]),
    /// Bytes from the target to the client.
    Output(&'a [u8]),
    /// Bytes from the target to the client's standard error.
    ErrorOutput(&'a [u8]),
    /// The client's terminal changed its size.
    Resized {
        /// Width in characters.
        columns: u32,
        /// Height in characters.
        rows: u32,
    },
    /// The client sent a signal, named as in RFC 4254 section 6.10 (`INT`, `TERM`); at most 128 bytes.
    Signal(&'a str),
    /// The target's process ended with this status.
    ExitStatus(u32),
    /// The target's process was ended by a signal (RFC 4254 section 6.10).
    ExitSignal {
        /// The signal, without `SIG`; at most 128 bytes.
        name: &'a str,
        /// Whether the target says it dumped core.
        core_dumped: bool,
        /// The target's own explanation, possibly empty; at most 64 KiB.
        message: &'a str,
    },
    /// The channel is closed; nothing follows on it.
    ChannelClosed,
    /// An operation as canonical JSON, as it stands in the audit log.
    Operation(&'a [u8]),
    /// Something the gateway told the person, or why it ended the session; at most 64 KiB.
    Note(&'a str),
    /// Content that passed but is not kept, because policy's limit was reached.
    Omitted {
        /// Which way it went.
        direction: Direction,
        /// How many bytes were left out.
        bytes: u64,
        /// SHA-256 of exactly those bytes.
        sha256: [u8; 32],
    },
    /// Content that passed here and was kept out of the recording because a rule matched it.
    Redacted {
        /// Which way it went.
        direction: Direction,
        /// The rule that matched; at most 128 bytes.
        rule: &'a str,
        /// How many bytes stood here.
        bytes: u64,
        /// HMAC-SHA256 of the rule, a zero byte and those bytes, under a key of this recording that
        /// was never stored: equal content shows as equal, and no guess can be tried.
        digest: [u8; 32],
    },
}

/// A client's terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pty<'a> {
    /// Value of `TERM`; at most 128 bytes.
    pub term: &'a str,
    /// Width in characters.
    pub columns: u32,
    /// Height in characters.
    pub rows: u32,
}

/// Which stream bytes belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Client to target.
    Input,
    /// Target to client.
    Output,
    /// Target to the client's standard error.
    ErrorOutput,
}

/// Why bytes are not a frame, or a frame cannot become bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The frame ends before what it announces.
    #[error("frame ends early")]
    Truncated,
    /// A number is not in its shortest form or exceeds its range.
    #[error("number in frame is out of range or not in shortest form")]
    Number,
    /// The frame or one of its parts is longer than allowed.
    #[error("{part} of frame is {length} bytes, above its limit")]
    TooLong {
        /// The part, such as `command`.
        part: &'static str,
        /// Its length in bytes.
        length: u64,
    },
    /// Text is not UTF-8.
    #[error("{part} of frame is not text")]
    NotText {
        /// The part, such as `command`.
        part: &'static str,
    },
    /// The kind is none that this version knows.
    #[error("frame kind {kind} is unknown")]
    UnknownKind {
        /// The kind's number.
        kind: u8,
    },
    /// A flag or enumeration byte has no meaning.
    #[error("{part} of frame has meaningless value {value}")]
    Meaningless {
        /// The part, such as `direction`.
        part: &'static str,
        /// The byte found.
        value: u8,
    },
    /// Bytes are left after the last part.
    #[error("frame has {bytes} bytes too many")]
    Trailing {
        /// How many.
        bytes: usize,
    },
}

impl Direction {
    fn code(self) -> u8 {
        match self {
            Self::Input => 0,
            Self::Output => 1,
            Self::ErrorOutput => 2,
        }
    }
}

const HAS_PTY: u8 = 1;
const HAS_COMMAND: u8 = 2;

impl Frame<'_> {
    /// Appends the frame's binary form to `out`.
    ///
    /// # Errors
    ///
    /// [`FrameError::TooLong`] when a part or the whole exceeds its limit; `out` is then unchanged.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        self.check_lengths()?;
        let start = out.len();
        out.push(self.kind.code());
        put_varint(out, u64::from(self.channel));
        put_varint(out, self.at_us);
        let bulk = self.kind.encode_head(out);

        let length = (out.len() - start).saturating_add(bulk.len());
        if length > MAX_FRAME_BYTES {
            out.truncate(start);
            return Err(FrameError::TooLong {
                part: "whole",
                length: length as u64,
            });
        }
        // The length is known only now; moving the small head aside costs less than a second
        // buffer per frame.
        let head_end = out.len();
        put_varint(out, length as u64);
        let length_bytes = out.len() - head_end;
        if let Some(frame) = out.get_mut(start..) {
            frame.rotate_right(length_bytes);
        }
        out.extend_from_slice(bulk);
        Ok(())
    }

    fn check_lengths(&self) -> Result<(), FrameError> {
        let limit = |part, length: usize, limit| {
            if length > limit {
                Err(FrameError::TooLong {
                    part,
                    length: length as u64,
                })
            } else {
                Ok(())
            }
        };
        match self.kind {
            FrameKind::ChannelOpened { kind, pty, command } => {
                limit("channel kind", kind.len(), MAX_NAME_BYTES)?;
                limit(
                    "terminal name",
                    pty.map_or(0, |pty| pty.term.len()),
                    MAX_NAME_BYTES,
                )?;
                limit("command", command.map_or(0, str::len), MAX_TEXT_BYTES)
            }
            FrameKind::Signal(name) => limit("signal", name.len(), MAX_NAME_BYTES),
            FrameKind::ExitSignal { name, message, .. } => {
                limit("signal", name.len(), MAX_NAME_BYTES)?;
                limit("message", message.len(), MAX_TEXT_BYTES)
            }
            FrameKind::Note(text) => limit("note", text.len(), MAX_TEXT_BYTES),
            FrameKind::Redacted { rule, .. } => limit("rule", rule.len(), MAX_NAME_BYTES),
            FrameKind::Input(_)
            | FrameKind::Output(_)
            | FrameKind::ErrorOutput(_)
            | FrameKind::Resized { .. }
            | FrameKind::ExitStatus(_)
            | FrameKind::ChannelClosed
            | FrameKind::Operation(_)
            | FrameKind::Omitted { .. } => Ok(()),
        }
    }
}

impl<'a> FrameKind<'a> {
    fn code(&self) -> u8 {
        match self {
            Self::ChannelOpened { .. } => 1,
            Self::Input(_) => 2,
            Self::Output(_) => 3,
            Self::ErrorOutput(_) => 4,
            Self::Resized { .. } => 5,
            Self::Signal(_) => 6,
            Self::ExitStatus(_) => 7,
            Self::ExitSignal { .. } => 8,
            Self::ChannelClosed => 9,
            Self::Operation(_) => 10,
            Self::Note(_) => 11,
            Self::Omitted { .. } => 12,
            Self::Redacted { .. } => 13,
        }
    }

    /// Writes the small parts to `head` and returns the bytes that end the frame.
    fn encode_head(&self, head: &mut Vec<u8>) -> &'a [u8] {
        match *self {
            Self::ChannelOpened { kind, pty, command } => {
                put_text(head, kind);
                let pty_flag = if pty.is_some() { HAS_PTY } else { 0 };
                let command_flag = if command.is_some() { HAS_COMMAND } else { 0 };
                head.push(pty_flag | command_flag);
                if let Some(pty) = pty {
                    put_text(head, pty.term);
                    put_varint(head, u64::from(pty.columns));
                    put_varint(head, u64::from(pty.rows));
                }
                command.map_or(&[], str::as_bytes)
            }
            Self::Input(bytes)
            | Self::Output(bytes)
            | Self::ErrorOutput(bytes)
            | Self::Operation(bytes) => bytes,
            Self::Resized { columns, rows } => {
                put_varint(head, u64::from(columns));
                put_varint(head, u64::from(rows));
                &[]
            }
            Self::Signal(text) | Self::Note(text) => text.as_bytes(),
            Self::ExitStatus(status) => {
                put_varint(head, u64::from(status));
                &[]
            }
            Self::ExitSignal {
                name,
                core_dumped,
                message,
            } => {
                put_text(head, name);
                head.push(u8::from(core_dumped));
                message.as_bytes()
            }
            Self::ChannelClosed => &[],
            Self::Omitted {
                direction,
                bytes,
                sha256,
            } => {
                head.push(direction.code());
                put_varint(head, bytes);
                head.extend_from_slice(&sha256);
                &[]
            }
            Self::Redacted {
                direction,
                rule,
                bytes,
                digest,
            } => {
                head.push(direction.code());
                put_text(head, rule);
                put_varint(head, bytes);
                head.extend_from_slice(&digest);
                &[]
            }
        }
    }

    fn decode(code: u8, part: &mut Parts<'a>) -> Result<Self, FrameError> {
        Ok(match code {
            1 => Self::decode_opened(part)?,
            2 => Self::Input(part.rest()),
            3 => Self::Output(part.rest()),
            4 => Self::ErrorOutput(part.rest()),
            5 => Self::Resized {
                columns: part.number()?,
                rows: part.number()?,
            },
            6 => Self::Signal(part.rest_text("signal", MAX_NAME_BYTES)?),
            7 => Self::ExitStatus(part.number()?),
            8 => Self::ExitSignal {
                name: part.text("signal")?,
                core_dumped: part.flag("core dump")?,
                message: part.rest_text("message", MAX_TEXT_BYTES)?,
            },
            9 => Self::ChannelClosed,
            10 => Self::Operation(part.rest()),
            11 => Self::Note(part.rest_text("note", MAX_TEXT_BYTES)?),
            12 => Self::Omitted {
                direction: part.direction()?,
                bytes: part.varint()?,
                sha256: part.digest()?,
            },
            13 => Self::Redacted {
                direction: part.direction()?,
                rule: part.text("rule")?,
                bytes: part.varint()?,
                digest: part.digest()?,
            },
            kind => return Err(FrameError::UnknownKind { kind }),
        })
    }

    fn decode_opened(part: &mut Parts<'a>) -> Result<Self, FrameError> {
        let kind = part.text("channel kind")?;
        let flags = part.byte()?;
        if flags & !(HAS_PTY | HAS_COMMAND) != 0 {
            return Err(FrameError::Meaningless {
                part: "channel flags",
                value: flags,
            });
        }
        let pty = if flags & HAS_PTY == 0 {
            None
        } else {
            Some(Pty {
                term: part.text("terminal name")?,
                columns: part.number()?,
                rows: part.number()?,
            })
        };
        let command = if flags & HAS_COMMAND == 0 {
            None
        } else {
            Some(part.rest_text("command", MAX_TEXT_BYTES)?)
        };
        Ok(Self::ChannelOpened { kind, pty, command })
    }
}

/// Returns the frames that `bytes` holds, one after another.
#[must_use]
pub fn decode_frames(bytes: &[u8]) -> Frames<'_> {
    Frames {
        parts: Parts { bytes },
    }
}

/// Frames of one chunk, decoded as they are asked for. Ends after the first error.
#[derive(Debug, Clone)]
pub struct Frames<'a> {
    parts: Parts<'a>,
}

impl<'a> Frames<'a> {
    fn decode_next(&mut self) -> Result<Frame<'a>, FrameError> {
        let length = self.parts.varint()?;
        if length > MAX_FRAME_BYTES as u64 {
            return Err(FrameError::TooLong {
                part: "whole",
                length,
            });
        }
        let length = usize::try_from(length).map_err(|_| FrameError::Number)?;
        let mut part = Parts {
            bytes: self.parts.take(length)?,
        };
        let code = part.byte()?;
        let channel = part.number()?;
        let at_us = part.varint()?;
        let kind = FrameKind::decode(code, &mut part)?;
        if !part.bytes.is_empty() {
            return Err(FrameError::Trailing {
                bytes: part.bytes.len(),
            });
        }
        Ok(Frame {
            at_us,
            channel,
            kind,
        })
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.parts.bytes.is_empty() {
            return None;
        }
        let frame = self.decode_next();
        if frame.is_err() {
            self.parts.bytes = &[];
        }
        Some(frame)
    }
}

#[cfg(test)]
pub(super) mod tests;
