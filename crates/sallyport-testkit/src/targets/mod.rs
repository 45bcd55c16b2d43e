//! Real servers, one file per kind.

mod account;
mod database;
pub mod mariadb;
pub mod postgres;
pub mod program;
pub mod sshd;

/// What a database server that is a target of sessions is made of.
#[derive(Clone, Copy, Debug)]
pub struct TargetSettings {
    /// It writes down every statement.
    pub logs_statements: bool,
    /// Connections at once.
    pub connections_max: u16,
}

impl Default for TargetSettings {
    fn default() -> Self {
        Self {
            logs_statements: true,
            connections_max: 60,
        }
    }
}
