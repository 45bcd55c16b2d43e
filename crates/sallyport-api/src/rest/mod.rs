//! Shapes of the REST API under `/v1`, one file per noun. Errors are problem documents (RFC 9457);
//! lists are pages behind an opaque cursor; times are RFC 3339 in UTC; ids carry their prefix.

pub mod access;
pub mod apply;
pub mod audit;
pub mod directory;
pub mod inventory;
pub mod lock;
pub mod operation;
pub mod page;
pub mod policy;
pub mod problem;
pub mod recording;
pub mod session;
pub mod sign_in;
pub mod vault;
