//! The audit log of the running node.
