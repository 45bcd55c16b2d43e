//! Random lives of requests, grants, sessions and leases, with clock jumps, crashes and everything
//! racing; after every step the promises of the product are checked by counting, not by asking the
//! code under test.
//!
//! Each run comes from a seed, which is printed; a failing one is run again alone with
//! `SALLYPORT_SIM_SEED=<seed>`, and `SALLYPORT_SIM_RUNS=<n>` runs more of them for a night.
//! `world.rs` is the shell that is simulated, `promises.rs` what must hold.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a simulation stops at the first surprise and says which seed it was"
)]

mod policies;
mod promises;
mod world;

use std::collections::BTreeMap;

use world::World;

const RUNS: u64 = 100;
const STEPS: usize = 150;

#[expect(
    clippy::disallowed_methods,
    reason = "a simulation is run again, or for longer, by whoever saw it fail"
)]
fn number_from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a whole number"))
}

fn run(seed: u64) -> BTreeMap<&'static str, u64> {
    println!("seed {seed}");
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        let before = world.clone_of_what_is_kept();
        world.step();
        world.check(&before);
    }
    world.counts
}

/// AC-3, AC-5, AC-6, AC-7, PO-2, VA-3: whatever happens in whatever order, there is no live grant
/// without a quorum of distinct people other than the requester for exactly what is asked; what ended
/// stays ended; nothing is permitted without a live grant; locks win; no credential outlives its grant.
#[test]
fn no_order_of_events_breaks_a_promise() {
    if let Some(seed) = number_from_environment("SALLYPORT_SIM_SEED") {
        run(seed);
        return;
    }
    let runs = number_from_environment("SALLYPORT_SIM_RUNS").unwrap_or(RUNS);
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..runs {
        for (what, count) in run(seed) {
            *counts.entry(what).or_default() += count;
        }
    }
    println!("{counts:?}");
    // A simulation in which hardly anything happens proves nothing.
    for what in [
        "asked",
        "voted",
        "edited",
        "granted",
        "broke the glass",
        "reviewed",
        "opened",
        "ran an operation",
        "locked",
        "crashed",
    ] {
        let count = counts.get(what).copied().unwrap_or(0);
        assert!(count >= runs / 4, "{what}: {count} times in {runs} runs");
    }
}
