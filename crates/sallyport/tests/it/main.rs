//! Stories of the whole product: the real binary, stock `ssh`, `scp` and `sftp`, a real `sshd`.
//!
//! One file a theme. A [`node::Node`] is a node of its own in a folder of its own on free ports; a
//! [`world::World`] is a node with people and a target.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise"
)]

mod forwarding;
mod ledger;
mod node;
mod person;
mod ssh;
mod waiting;
mod world;

mod bad_input;
mod break_glass;
mod clients;
mod command_line;
mod conformance;
mod crash;
mod credential;
mod editor;
mod ending;
mod evidence;
mod fault_clock;
mod fault_disk;
mod fault_kill;
mod fault_power_loss;
mod fault_recorder;
mod held;
mod hostile_load;
mod interop;
mod jump;
mod listing;
mod long_transfer;
mod main_job;
mod mysql;
mod oversight;
mod parsers;
mod postgres;
mod refusal;
mod restore;
mod revocation;
mod second_hop;
mod secrets_stay_inside;
mod signal;
