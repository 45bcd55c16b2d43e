//! What every slice stands on: the store, transactions that carry their record, the clock, ids, tasks.
//!
//! Not here: anything that knows what a request or a session is.

pub mod caller;
pub mod changes;
pub mod clock;
pub mod control;
pub mod database;
pub mod extract;
pub mod health;
pub mod http;
pub mod ids;
pub mod listener;
pub mod migration;
pub mod node_directory;
pub mod page;
pub mod problem;
pub mod rows;
pub mod statement;
pub mod task;
pub mod tls;
pub mod transaction;
mod writer;
