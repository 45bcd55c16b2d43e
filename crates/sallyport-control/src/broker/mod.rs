//! The policy administrator: opens, watches and ends sessions through the gateways.
//!
//! `rpc` speaks with gateways, `open` decides and issues, `close` ends, `evidence` keeps what gateways report of
//! operations, `lease` sees credentials to their end, `join` and `pause` are for others at a live session. Callers:
//! gateways (over the RPC), `access` and `lock` (to end what they stopped).
//!
//! INVARIANT: a gateway gets a permit only after the session, its lease intent and their record are
//! durable; whatever ends access ends the sessions under it in the same call.

pub mod api;
pub mod close;
mod evidence;
mod held;
mod host_key;
mod in_band;
mod join;
pub mod lease;
pub mod live;
pub mod open;
pub mod orphan;
pub mod oversee;
mod pause;
mod revoking;
pub mod rpc;
mod seal;
mod store;
mod watchers;

pub use close::{end_for_grant, end_for_lock, end_for_person, end_session};
pub use lease::revoke_leases_of_grant;
pub use live::Live;
pub use revoking::Revoking;
pub use store::{SessionRow, operations_of, recording_by_id, session_by_id};
