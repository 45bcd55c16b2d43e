//! Real servers, one file per kind.

pub mod postgres;
pub mod sshd;
