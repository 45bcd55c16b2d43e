//! The fuzzer: libFuzzer around one body of [`bodies`], chosen by `SALLYPORT_FUZZ_BODY`.
//!
//! Run by `cargo xtask fuzz`, which also says how it is built.

#![no_main]

use std::sync::OnceLock;

mod bodies;

fn chosen() -> bodies::Body {
    static CHOSEN: OnceLock<bodies::Body> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("SALLYPORT_FUZZ_BODY").unwrap_or_default();
        let found = bodies::ALL.iter().find(|(known, _)| *known == name);
        found.unwrap_or_else(|| panic!("no body `{name}`")).1
    })
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| chosen()(bytes));
