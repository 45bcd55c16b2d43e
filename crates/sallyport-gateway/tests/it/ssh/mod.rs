//! The SSH gateway between stock OpenSSH clients and a real sshd.

mod denial;
mod end;
mod every_request;
mod feature;
mod held;
mod hostile_target;
mod impersonation;
mod live;
mod login;
mod matrix;
mod messages;
mod odd_target;
mod recorded_bytes;
mod redaction;
mod shell;
mod smuggle;
mod target;
mod transfer;
mod wire;
mod world;
