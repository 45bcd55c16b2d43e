//! What every slice stands on: the store, transactions that carry their record, the clock, ids, tasks.
//!
//! Not here: anything that knows what a request or a session is.

pub mod clock;
pub mod database;
pub mod ids;
pub mod migration;
pub mod statement;
pub mod task;
pub mod transaction;
mod writer;
