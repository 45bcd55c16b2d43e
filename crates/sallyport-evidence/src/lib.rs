//! Bytes whose integrity a stranger can check: the audit log and session recordings.
//!
//! An auditor can build this crate and nothing else of Sallyport. Both formats are written down in
//! `docs/formats/` well enough for a second implementation, and the tests hold one against ours.
//!
//! INVARIANT: no function here reads a clock, a file, the network or randomness; bytes come in by
//! argument, [`std::io::Read`] or a small trait, and every length an author of those bytes controls
//! is bounded before memory is taken for it.
//!
//! Not here: what an audit event means (`sallyport-core`), where entries and recordings are stored
//! (`sallyport-control`, `sallyport-gateway`), reading export directories (`sallyport`).
#![warn(missing_docs)]

pub mod log;
pub mod recording;
