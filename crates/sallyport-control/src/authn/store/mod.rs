//! Tables of proofs, one file per kind of proof. Secrets stand in them hashed or sealed.

pub(super) mod code;
pub(super) mod factor;
pub(super) mod key;
pub(super) mod token;
