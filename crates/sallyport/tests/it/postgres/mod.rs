//! Databases: stock `psql` and its kin through the gateway to a real PostgreSQL.

pub mod database;

mod drivers;
mod engine;
mod held;
mod hostile;
mod later;
mod listen;
mod masked;
mod refusal;
mod spent;
mod statement;
mod story;
