//! What tests are made of: real targets and stores, started on this machine and gone when the test is,
//! bad networks between them, and how hard tests try.
//!
//! A missing program is an error with what to install, never a skipped test.
//!
//! INVARIANT: what is started here ends with the test process, however that ends.
//!
//! Not here: anything the product needs when it runs.

#![warn(missing_docs)]

pub mod effort;
pub mod port;
pub mod proxy;
pub mod targets;
