//! A control plane in a temporary directory, reached as people and gateways reach it: through its routes
//! and its socket.

pub mod chance;
pub mod gateway;
pub mod home;
pub mod node;
