//! The audit log: entries, the tree over them, signed checkpoints, proofs, exports, verification.
//!
//! `sallyport-control` writes with [`entry`], [`tree`], [`tile`] and [`checkpoint`]; everyone else
//! reads with [`proof`] and [`verify`]. The format is `docs/formats/audit-log.md`.
//!
//! INVARIANT: whatever [`verify::verify`] accepts is, byte for byte, what the holder of the log key
//! signed; it relies on nothing but that public key and SHA-256.
//!
//! Not here: assigning sequence numbers, durability and the once-a-second signing, which are
//! `sallyport-control`'s; what an event means, which is `sallyport-core`'s.

pub mod canonical;
pub mod checkpoint;
pub mod entry;
pub mod export;
mod locate;
pub mod proof;
pub mod tile;
pub mod tree;
pub mod verify;
