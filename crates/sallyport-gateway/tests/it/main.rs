//! The gateway as its neighbours meet it: a whole gateway, a control plane that speaks the real RPC,
//! stock clients and real servers.

mod control;
mod ssh;
