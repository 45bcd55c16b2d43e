//! Databases: stock `mariadb` and its kin through the gateway to a real MariaDB.

pub mod database;

mod drivers;
mod engine;
mod held;
mod hostile;
mod limits;
mod many;
mod masked;
mod refusal;
mod story;
