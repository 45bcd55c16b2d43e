//! Real servers, one file per kind.

mod account;
pub mod mariadb;
pub mod postgres;
pub mod sshd;
