//! Recordings: what passed in a session, in a container that shows any later change.
//!
//! The gateway seals [`Frame`]s into chunks while the session runs and anchors each chunk's chain
//! value in the audit log; control, the command line and auditors open, verify and export them.
//! The format is `docs/formats/recording.md`.
//!
//! INVARIANT: a frame is handed out only after the chunk that holds it was authenticated, in
//! order, under the header it was sealed with.
//!
//! Not here: files, object storage and clocks (the callers own them), the wrapping of a
//! recording's key (the vault), what must be recorded (policy).

mod cast;
mod chunk;
mod command;
mod container;
mod emulator;
mod escape;
mod frame;
mod header;
mod keystroke;
mod shell;
mod transcript;
mod utf8;
pub mod verify;

pub use cast::{CastError, CastInput, CastVersion, CastWriter};
pub use chunk::{
    Anchor, ChainValue, MAX_CHUNK_FRAMES_BYTES, RecordingKey, SealError, SealedChunk, Sealer,
};
pub use command::{CommandTracker, Confidence, TypedCommand};
pub use container::{Completeness, ContainerReader, OpenError, OpenedChunk, Opener, RawChunk};
pub use escape::escape_controls;
pub use frame::{
    Direction, Frame, FrameError, FrameKind, Frames, MAX_FRAME_BYTES, NOT_ECHOED, Pty,
    SESSION_CHANNEL, decode_frames, redaction_mark,
};
pub use header::{Header, HeaderError};
pub use shell::{Press, ShellLine, ShellScreen};
pub use transcript::{TranscriptError, TranscriptWriter};

#[cfg(test)]
mod tests;
