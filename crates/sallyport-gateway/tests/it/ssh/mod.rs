//! The SSH gateway between stock OpenSSH clients and a real sshd.

mod denial;
mod end;
mod feature;
mod login;
mod odd_target;
mod shell;
mod target;
mod transfer;
mod world;
