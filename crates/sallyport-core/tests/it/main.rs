//! Whole lives of requests, grants, sessions and leases, driven through the crate's public face only.

mod sim;
