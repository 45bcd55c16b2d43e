//! The control plane through its routes and sockets, on a real store.
#![allow(
    clippy::disallowed_methods,
    reason = "tests spawn what they serve and stop with it"
)]

mod apply;
mod main_job;
mod notify;
mod recording;
mod support;
